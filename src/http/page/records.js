// What the page remembers across a reload, in IndexedDB: one record per upload
// and one per chunk that arrived. The gateway knows better what has arrived,
// and is always asked; these records say which uploads there are to ask about,
// which file belongs to each, and how far it had got.

const UPLOADS = 'uploads'; // {fileId, name, size, lastModified, type, chunkSize, totalChunks, createdAt}
const CHUNKS = 'chunks'; //   {fileId, chunkIndex, offset, size, status}

export class Records {
  #database = null;

  /** @param {string} [name] one database per gateway, if a page uses several */
  constructor(name = 'chunkgate') {
    this.name = name;
  }

  /** Whether the browser keeps any: where it does not, to look may throw. */
  static areKept() {
    try {
      return Boolean(globalThis.indexedDB);
    } catch {
      return false;
    }
  }

  /** Remembers an upload, or what has become known of it. */
  async saveUpload(record) {
    await this.#within([UPLOADS], 'readwrite', (uploads) => uploads.put(record));
  }

  /** Remembers that these chunks have arrived. */
  async saveChunks(records) {
    if (records.length === 0) return;
    await this.#within([CHUNKS], 'readwrite', (chunks) => records.map((record) => chunks.put(record)));
  }

  /** Replaces what was remembered of an upload's chunks by what the gateway says. */
  async replaceChunks(fileId, records) {
    await this.#within([CHUNKS], 'readwrite', (chunks) => {
      chunks.delete(allOf(fileId));
      records.forEach((record) => chunks.put(record));
    });
  }

  /** Forgets an upload and its chunks. */
  async forget(fileId) {
    await this.#within([UPLOADS, CHUNKS], 'readwrite', (uploads, chunks) => {
      uploads.delete(fileId);
      chunks.delete(allOf(fileId));
    });
  }

  /** The unfinished uploads, newest first, each with `arrivedBytes`. */
  async unfinished() {
    const [uploads, chunks] = await this.#within([UPLOADS, CHUNKS], 'readonly', (u, c) => [u.getAll(), c.getAll()]);
    const arrived = new Map();
    for (const { fileId, size, status } of chunks.result) {
      if (status === 'uploaded') arrived.set(fileId, (arrived.get(fileId) ?? 0) + size);
    }
    return uploads.result
      .map((upload) => ({ ...upload, arrivedBytes: arrived.get(upload.fileId) ?? 0 }))
      .sort((a, b) => b.createdAt - a.createdAt);
  }

  /** Runs `work` in one transaction; resolves with its result once that is committed. */
  async #within(stores, mode, work) {
    this.#database ??= open(this.name);
    const transaction = (await this.#database).transaction(stores, mode);
    const result = work(...stores.map((store) => transaction.objectStore(store)));
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    return result;
  }
}

/** All keys `[fileId, chunkIndex]` of one upload: an array sorts after every number. */
function allOf(fileId) {
  return IDBKeyRange.bound([fileId, 0], [fileId, []]);
}

function open(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(UPLOADS, { keyPath: 'fileId' });
      request.result.createObjectStore(CHUNKS, { keyPath: ['fileId', 'chunkIndex'] });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Remembers nothing: where the browser grants no IndexedDB, uploads still work. */
export class NoRecords {
  async saveUpload() {}
  async saveChunks() {}
  async replaceChunks() {}
  async forget() {}
  async unfinished() {
    return [];
  }
}
