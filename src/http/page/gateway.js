// The gateway's HTTP interface, as a browser sees it: JSON calls, one chunk
// with progress, and refusals as errors. What a session holds goes with each
// request, and a token that ends is renewed, by one request for all.

import { Session } from './session.js';

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
  #renewing = null; // the one request that all wait for whose token has ended

  /**
   * @param {object} [options]
   * @param {string} [options.url] where the gateway is; here by default
   * @param {Session} [options.session] what to ask by
   */
  constructor({ url = '', session = new Session() } = {}) {
    this.url = url.replace(/\/$/, '');
    this.session = session;
  }

  /** Asks for nothing but whether we may ask: throws Refused 401 where a key is needed, or another one. */
  async knock(signal) {
    await this.#json('GET', '/uploads?limit=1', undefined, signal);
  }

  /** Tokens for a user, for who holds a key. Throws Refused 501 where there are none. */
  logIn(key, login, signal) {
    return this.#ask('POST', '/auth/tokens', login, signal, key);
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
    return this.#authorized(async (bearer) => {
      const response = await this.#fetch(this.contentUrl(fileId), { headers: authorization(bearer) });
      if (!response.ok) throw await refusal(response);
      return response.blob();
    });
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
    return this.#authorized((bearer) => this.#put(fileId, chunkIndex, body, { signal, progress, bearer }));
  }

  #put(fileId, chunkIndex, body, { signal, progress, bearer }) {
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
      for (const [name, value] of Object.entries(authorization(bearer))) xhr.setRequestHeader(name, value);
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

  /** Runs `ask` with what we may ask by; where a token has ended after all, once more with the next one. */
  async #authorized(ask) {
    const bearer = await this.#bearer();
    try {
      return await ask(bearer);
    } catch (error) {
      const ended = error instanceof Refused && error.code === 'token_expired';
      if (!ended || !this.session.held?.refreshToken) throw error;
      if (this.session.bearer === bearer) await this.#renew();
      return ask(this.session.bearer);
    }
  }

  /** Renewed a little before its end, while it still counts: if that fails, it is what we have. */
  async #bearer() {
    const { refreshToken, renewAt, expiresAt } = this.session.held ?? {};
    if (refreshToken && Date.now() >= renewAt) {
      await this.#renew().catch((error) => {
        if (Date.now() >= expiresAt || !this.session.held) throw error;
      });
    }
    return this.session.bearer;
  }

  /** One request, however many wait for it: a refresh token is for one use. */
  #renew() {
    const { refreshToken } = this.session.held;
    this.#renewing ??= this.session
      .alone(() => this.#refresh(refreshToken))
      .finally(() => {
        this.#renewing = null;
      });
    return this.#renewing;
  }

  async #refresh(refreshToken) {
    const isHeld = () => this.session.held?.refreshToken === refreshToken;
    // Another tab was first, and said so.
    if (!isHeld()) return;
    try {
      this.session.renew(refreshToken, await this.#ask('POST', '/auth/refresh', { refreshToken }));
    } catch (error) {
      // Its login is over: there is nothing more to be had with it.
      if (error instanceof Refused && error.status === 401 && isHeld()) this.session.forget();
      throw error;
    }
  }

  #json(method, path, body, signal) {
    return this.#authorized((bearer) => this.#ask(method, path, body, signal, bearer));
  }

  async #ask(method, path, body, signal, bearer = null) {
    const headers = authorization(bearer);
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

function authorization(bearer) {
  return bearer ? { Authorization: `Bearer ${bearer}` } : {};
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
