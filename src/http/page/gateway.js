// The gateway's HTTP interface, as a browser sees it: JSON calls, one chunk
// with progress, and refusals as errors. Nothing here remembers anything.

/** The gateway refused, with a problem document (RFC 9457). */
export class Refused extends Error {
  /** @param {number} status @param {object} problem @param {?number} retryAfterMs */
  constructor(status, problem, retryAfterMs = null) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.name = 'Refused';
    this.status = status;
    this.problem = problem;
    this.code = problem.code ?? null;
    this.retryAfterMs = retryAfterMs;
  }
}

/** No answer came: no network, no server, or a connection that died. */
export class Unreachable extends Error {
  constructor(message = 'The server cannot be reached.') {
    super(message);
    this.name = 'Unreachable';
  }
}

/** A chunk that moves no byte for this long sits on a dead connection. */
const STALL_MS = 30_000;
/** After its last byte the server may queue the chunk, store it, and merge. */
const ANSWER_MS = 90_000;

export class Gateway {
  /**
   * @param {object} [options]
   * @param {string} [options.url] where the gateway is; here by default
   * @param {() => ?string} [options.key] the bearer key, asked before every request
   */
  constructor({ url = '', key = () => null } = {}) {
    this.url = url.replace(/\/$/, '');
    this.key = key;
  }

  /** Asks for nothing but whether we may ask: throws Refused 401 where a key is needed, or another one. */
  async knock(signal) {
    await this.#json('GET', '/uploads?limit=1', undefined, signal);
  }

  /** Creates the upload, or finds the one that this fileId already names. */
  create(upload, signal) {
    return this.#json('POST', '/uploads', upload, signal);
  }

  /** What has arrived and what is missing. */
  chunks(fileId, signal) {
    return this.#json('GET', `/chunks?fileId=${encodeURIComponent(fileId)}`, undefined, signal);
  }

  /** Asks for the merge: `{file}`, or `{status: "completing", retryAfterMs}`. */
  complete(fileId, signal) {
    return this.#json('POST', '/chunks/complete', { fileId }, signal);
  }

  /** Gives the upload up; its parts are removed from the store. */
  abort(fileId, signal) {
    return this.#json('DELETE', `/uploads/${encodeURIComponent(fileId)}`, undefined, signal);
  }

  /** Where a finished file can be read. */
  contentUrl(fileId) {
    return `${this.url}/files/${encodeURIComponent(fileId)}/content`;
  }

  /** A finished file's bytes, for when a key is needed, which a link cannot carry. */
  async content(fileId) {
    const response = await this.#fetch(this.contentUrl(fileId), { headers: this.#headers() });
    if (!response.ok) throw await refusal(response);
    return response.blob();
  }

  /**
   * Sends one chunk. `fetch` tells nothing about how far a body has got, so
   * this is an XMLHttpRequest. One URL for all chunks means that a page of
   * another origin pays for one CORS preflight, not for one per chunk.
   *
   * @param {string} fileId @param {number} chunkIndex @param {Blob} body
   * @param {{signal: AbortSignal, progress: (bytes: number) => void}} options
   * @returns {Promise<object>} the gateway's acknowledgement
   */
  putChunk(fileId, chunkIndex, body, { signal, progress }) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const xhr = new XMLHttpRequest();
      let watchdog;
      const within = (ms) => {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => {
          settle(reject, new Unreachable('The connection stalled.'));
          xhr.abort();
        }, ms);
      };
      const aborted = () => {
        settle(reject, signal.reason);
        xhr.abort();
      };
      const settle = (how, value) => {
        clearTimeout(watchdog);
        signal.removeEventListener('abort', aborted);
        how(value);
      };
      signal.addEventListener('abort', aborted);

      xhr.open('PUT', `${this.url}/chunks`);
      for (const [name, value] of Object.entries(this.#headers())) xhr.setRequestHeader(name, value);
      xhr.setRequestHeader('Content-Type', 'application/octet-stream');
      xhr.setRequestHeader('X-File-Id', fileId);
      xhr.setRequestHeader('X-Chunk-Index', String(chunkIndex));
      xhr.upload.onprogress = (event) => {
        progress(event.loaded);
        within(event.loaded < body.size ? STALL_MS : ANSWER_MS);
      };
      xhr.upload.onload = () => within(ANSWER_MS);
      xhr.onerror = () => settle(reject, new Unreachable());
      xhr.onload = () => {
        const answer = parse(xhr.responseText);
        if (xhr.status >= 200 && xhr.status < 300) return settle(resolve, answer);
        const retryAfterMs = retryAfter(xhr.getResponseHeader('Retry-After'));
        return settle(reject, new Refused(xhr.status, answer, retryAfterMs));
      };
      xhr.send(body);
    });
  }

  #headers() {
    const key = this.key();
    return key ? { Authorization: `Bearer ${key}` } : {};
  }

  async #json(method, path, body, signal) {
    const headers = this.#headers();
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const response = await this.#fetch(this.url + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
    });
    if (!response.ok) throw await refusal(response);
    const answer = parse(await response.text());
    const retryAfterMs = retryAfter(response.headers.get('Retry-After'));
    return retryAfterMs === null ? answer : { ...answer, retryAfterMs };
  }

  async #fetch(url, options) {
    try {
      return await fetch(url, options);
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw new Unreachable(error.message);
    }
  }
}

async function refusal(response) {
  return new Refused(response.status, parse(await response.text()), retryAfter(response.headers.get('Retry-After')));
}

/** What is not JSON came from a proxy on the way: keep its first line. */
function parse(text) {
  try {
    return JSON.parse(text || '{}');
  } catch {
    return { title: text.replace(/<[^>]*>/g, ' ').trim().slice(0, 200) };
  }
}

/** `Retry-After` in milliseconds: it is a number of seconds or a date (RFC 9110 §10.2.3). */
export function retryAfter(value, now = Date.now()) {
  if (!value) return null;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}
