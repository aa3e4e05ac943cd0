// One file on its way to the gateway: cut into chunks, a few in flight at a
// time, each repeated until it is acknowledged, resumable after anything.
//
//   const upload = new Upload(file);
//   upload.addEventListener('progress', () => bar.value = upload.sentBytes / file.size);
//   upload.addEventListener('state', () => console.log(upload.state, upload.error));
//   const result = await upload.start();   // the gateway's File; null when paused or failed
//
// After a reload: new Upload(sameFile, { record }), with a record out of
// `new Records().unfinished()` for which `matches(record, sameFile)` holds.

import { Gateway, Refused, Unreachable } from './gateway.js';
import { NoRecords } from './records.js';
import { ATTEMPTS_MAX, Lanes, delayMs, isRetryable, online, sleep } from './retry.js';

/** Chunks in flight, over all files: browsers open six connections to a server of HTTP/1.1. */
const CHUNKS_AT_ONCE = 4;
const sharedLanes = new Lanes(CHUNKS_AT_ONCE);
/** Who pauses wants the link: what is still on its way after this is sent again later. */
const PAUSING_MS_MAX = 10_000;
/** Speed is measured over this long. */
const SPEED_WINDOW_MS = 5000;

/** The file cannot be read: it was changed, moved, or is a folder. */
export class Unreadable extends Error {
  constructor() {
    super('The file cannot be read any more: it was changed or moved.');
    this.name = 'Unreadable';
  }
}

/** Whether this is the file that an unfinished upload was begun with. */
export function matches(record, file) {
  return record.name === file.name && record.size === file.size && record.lastModified === file.lastModified;
}

/** 128 random bits. (`crypto.randomUUID` exists on https and localhost only.) */
function newFileId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/**
 * `state` is one of: idle, starting, uploading, pausing, finishing, completed, paused, failed, cancelled.
 *
 * Events: `state`; `progress`, while bytes move; `chunk` (detail: the
 * acknowledgement); `retry` (detail: {error, delayMs, chunkIndex}).
 */
export class Upload extends EventTarget {
  #gateway;
  #records;
  #lanes;
  #parallel;
  #stop = null; // AbortController of the run under way
  #ease = null; // AbortController of what the run has not begun yet: aborted, nothing new is sent
  #arrivedBytes = 0; // in chunks that were acknowledged
  #flying = new Map(); // chunkIndex → bytes that left the browser
  #samples = []; // [time, sentBytes], for the speed

  /**
   * @param {File} file
   * @param {object} [options]
   * @param {Gateway} [options.gateway]
   * @param {object} [options.records] a Records, to resume after a reload
   * @param {object} [options.record] the record of an unfinished upload of this file
   * @param {Lanes} [options.lanes] who may send when, shared by all uploads of a page
   * @param {number} [options.parallel] chunks of this file in flight
   */
  constructor(
    file,
    { gateway = new Gateway(), records = new NoRecords(), record = null, lanes = sharedLanes, parallel = CHUNKS_AT_ONCE } = {},
  ) {
    super();
    this.#parallel = parallel;
    this.file = file;
    this.#gateway = gateway;
    this.#records = records;
    this.#lanes = lanes;
    this.record = record ?? {
      fileId: newFileId(), // made here, so that a lost answer to the creation does not make two uploads
      name: file.name,
      size: file.size,
      type: file.type,
      lastModified: file.lastModified,
      chunkSize: null,
      totalChunks: null,
      createdAt: Date.now(),
    };
    this.state = 'idle';
    this.error = null; // why it failed
    this.result = null; // the gateway's File, once completed
  }

  get fileId() {
    return this.record.fileId;
  }

  /** Bytes that left the browser, never more than the file has. */
  get sentBytes() {
    let sum = this.#arrivedBytes;
    for (const bytes of this.#flying.values()) sum += bytes;
    return Math.min(sum, this.file.size);
  }

  /** Bytes per second over the last seconds, or null. */
  get speed() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last[0] - first[0] < 500) return null;
    return Math.max(0, ((last[1] - first[1]) * 1000) / (last[0] - first[0]));
  }

  /** Seconds to go at this speed, or null. */
  get secondsLeft() {
    return this.speed ? (this.file.size - this.sentBytes) / this.speed : null;
  }

  /**
   * Begins or goes on. Resolves with the File, or with null when the upload was
   * paused, cancelled or failed (then `error` says why); it does not reject.
   * `restart` gives up what the gateway has under this fileId and begins anew.
   */
  async start({ restart = false } = {}) {
    if (this.#stop || this.state === 'completed' || this.state === 'cancelled') return this.result;
    const [stop, ease] = [new AbortController(), new AbortController()];
    stop.signal.addEventListener('abort', () => ease.abort(stop.signal.reason));
    this.#stop = stop;
    this.#ease = ease;
    this.error = null;
    this.#samples = [];
    try {
      this.#enter('starting');
      this.result = await this.#run(stop.signal, ease.signal, restart);
      this.#arrivedBytes = this.file.size;
      await this.#remember(() => this.#records.forget(this.fileId));
      this.#enter('completed');
    } catch (error) {
      if (stop.signal.aborted) {
        // Whoever stopped it has already said what the state is now.
      } else if (error === ease.signal.reason) {
        this.#interrupt('paused');
      } else {
        this.error = error;
        this.#enter('failed');
      }
    } finally {
      stop.abort(); // the chunks still in flight when one of them failed for good
      if (this.#stop === stop) {
        this.#stop = null;
        this.#flying.clear();
      }
    }
    return this.result;
  }

  /** Sends nothing new, and has paused once the chunks on their way have arrived; `start` goes on from there. */
  pause() {
    const stop = this.#stop;
    if (!stop || this.state === 'finishing' || this.state === 'pausing') return;
    if (this.state !== 'uploading') {
      this.#interrupt('paused');
      return;
    }
    this.#enter('pausing');
    this.#ease.abort(new DOMException('paused', 'AbortError'));
    setTimeout(() => {
      if (this.#stop === stop && this.state === 'pausing') this.#interrupt('paused');
    }, PAUSING_MS_MAX);
  }

  /** Gives the upload up, here and at the gateway. Throws when the gateway cannot be told. */
  async cancel() {
    this.#interrupt('paused');
    try {
      await this.#gateway.abort(this.fileId);
    } catch (error) {
      const unknown = error instanceof Refused && error.status === 404;
      if (!unknown) throw error;
    }
    await this.#remember(() => this.#records.forget(this.fileId));
    this.#enter('cancelled');
  }

  #interrupt(state) {
    const stop = this.#stop;
    this.#stop = null;
    stop?.abort(new DOMException('interrupted', 'AbortError'));
    this.#flying.clear();
    this.#enter(state);
  }

  /** Find out what is missing, send it, finish; round again if the gateway then misses something. */
  async #run(signal, ease, restart) {
    await this.#remember(() => this.#records.saveUpload(this.record));
    let known = await this.#open(signal, restart);
    for (;;) {
      if (known.file) return known.file;
      if (known.status === 'uploading') {
        this.#enter('uploading');
        const file = await this.#send(known.missing, signal, ease);
        if (file) return file;
      }
      this.#enter('finishing');
      const file = await this.#finish(signal);
      if (file) return file;
      known = await this.#ask(signal);
    }
  }

  /** The upload as the gateway knows it, created if it does not. */
  async #open(signal, restart) {
    if (this.record.totalChunks !== null && !restart) {
      const known = await this.#ask(signal);
      if (known.status === 'uploading' || known.status === 'completing' || known.file) return known;
      // none, expired, aborted, failed: the fileId is free, and creation begins anew.
    }
    const created = await this.#patiently(signal, () =>
      this.#gateway.create(
        {
          fileId: this.fileId,
          fileName: this.file.name,
          fileSize: this.file.size,
          contentType: this.file.type || undefined,
          lastModified: this.file.lastModified,
          ...(restart && { restart: true }),
        },
        signal,
      ),
    );
    this.record = { ...this.record, chunkSize: created.chunkSize, totalChunks: created.totalChunks };
    await this.#remember(() => this.#records.saveUpload(this.record));
    return created.file ? created : this.#ask(signal);
  }

  /** What has arrived, by the gateway's word; our own records follow it. */
  async #ask(signal) {
    const known = await this.#patiently(signal, () => this.#gateway.chunks(this.fileId, signal));
    if (known.status === 'uploading' || known.status === 'completing') {
      const { chunkSize, totalChunks } = known;
      this.record = { ...this.record, chunkSize, totalChunks };
      this.#arrivedBytes = known.uploadedBytes;
      await this.#remember(() => this.#records.replaceChunks(this.fileId, known.chunks));
      this.#progressed();
    }
    return known;
  }

  /**
   * Sends the chunks of `missing`, [first, last] ranges. Returns the File if the last one completed it.
   * Eased, it lets those that are on their way arrive, and then throws.
   */
  async #send(missing, signal, ease) {
    const indexes = missing.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
    let file = null;
    const worker = async () => {
      for (let index = indexes.shift(); index !== undefined && !ease.aborted; index = indexes.shift()) {
        const ack = await this.#sendChunk(index, signal, ease);
        file ??= ack.file ?? null;
      }
    };
    const eased = (error) => {
      if (signal.aborted || error !== ease.reason) throw error;
    };
    await Promise.all(Array.from({ length: this.#parallel }, () => worker().catch(eased)));
    if (!file) ease.throwIfAborted();
    return file;
  }

  /** Sends one chunk, again and again until it is acknowledged. Only what is on its way outlasts `ease`. */
  async #sendChunk(chunkIndex, signal, ease) {
    const { chunkSize, totalChunks } = this.record;
    const offset = chunkIndex * chunkSize;
    const end = chunkIndex === totalChunks - 1 ? this.file.size : offset + chunkSize;
    const body = this.file.slice(offset, end); // a view: nothing is read before it is sent

    const send = async () => {
      this.#flying.set(chunkIndex, 0);
      try {
        const progress = (bytes) => {
          if (!this.#flying.has(chunkIndex)) return;
          this.#flying.set(chunkIndex, Math.min(bytes, body.size));
          this.#progressed();
        };
        return await this.#gateway.putChunk(this.fileId, chunkIndex, body, { signal, progress });
      } finally {
        this.#flying.delete(chunkIndex);
      }
    };
    const ack = await this.#patiently(ease, () => this.#lanes.run(send, ease), chunkIndex);
    this.#arrivedBytes += body.size;
    await this.#remember(() =>
      this.#records.saveChunks([{ fileId: this.fileId, chunkIndex, offset, size: body.size, status: 'uploaded' }]),
    );
    this.#progressed();
    this.dispatchEvent(new CustomEvent('chunk', { detail: ack }));
    return ack;
  }

  /** Waits for the merge. Returns null when chunks turned out to be missing. */
  async #finish(signal) {
    for (;;) {
      try {
        const answer = await this.#patiently(signal, () => this.#gateway.complete(this.fileId, signal));
        if (answer.file) return answer.file;
        await sleep(answer.retryAfterMs ?? 1000, signal);
      } catch (error) {
        if (error instanceof Refused && error.code === 'chunks_missing') return null;
        throw error;
      }
    }
  }

  /** Repeats `work` while it fails in a way that may pass. Waiting for a network costs no attempt. */
  async #patiently(signal, work, chunkIndex = null) {
    for (let attempt = 0; ; attempt += 1) {
      await online(signal);
      try {
        return await work();
      } catch (error) {
        signal.throwIfAborted();
        if (!isRetryable(error) || attempt + 1 >= ATTEMPTS_MAX) throw error;
        if (error instanceof Unreachable) await this.#checkReadable();
        const ms = delayMs(error, attempt);
        this.dispatchEvent(new CustomEvent('retry', { detail: { error, delayMs: ms, chunkIndex } }));
        await sleep(ms, signal);
      }
    }
  }

  /** To XMLHttpRequest a file that changed on disk looks like a broken network. */
  async #checkReadable() {
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch {
      throw new Unreadable();
    }
  }

  /** Records help to resume, and never stand in the way: a full or forbidden disk is no reason to stop. */
  async #remember(save) {
    try {
      await save();
    } catch (error) {
      console.warn('chunkgate: this upload cannot be remembered across a reload:', error);
    }
  }

  #enter(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }

  #progressed() {
    const now = performance.now();
    this.#samples.push([now, this.sentBytes]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > SPEED_WINDOW_MS) this.#samples.shift();
    this.dispatchEvent(new Event('progress'));
  }
}
