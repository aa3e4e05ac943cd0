// What a page may ask by: an API key, or tokens that a back end handed out.
// Kept in this tab until it is closed, or in memory.

const NAME = 'chunkgate.session';
/** A token is renewed when it has this share of its life left. */
const EARLY = 0.1;

export class Session {
  #held = null;
  #storage;

  /** @param {?Storage} storage sessionStorage, to outlast a reload */
  constructor(storage = null) {
    this.#storage = storage;
    try {
      this.#held = JSON.parse(storage?.getItem(NAME) ?? 'null');
    } catch {
      storage.removeItem(NAME);
    }
  }

  /** `{key}`, or `{accessToken, refreshToken, renewAt, expiresAt}`, or null. */
  get held() {
    return this.#held;
  }

  /** What goes into `Authorization: Bearer`, if there is anything. */
  get bearer() {
    return this.#held?.key ?? this.#held?.accessToken ?? null;
  }

  /** An API key: it can act as anybody, and is for whoever runs the gateway. */
  useKey(key) {
    this.#hold({ key });
  }

  /** What `POST /auth/tokens` and `POST /auth/refresh` answer. */
  useTokens({ accessToken, refreshToken = null, expiresIn = 900 }, now = Date.now()) {
    const life = Number(expiresIn) * 1000;
    this.#hold({ accessToken, refreshToken, renewAt: now + life * (1 - EARLY), expiresAt: now + life });
  }

  /** Tokens that came in the address, after `#`, where no server sees them: `accessToken=…&refreshToken=…&expiresIn=…`. */
  useAddress(hash) {
    const given = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, '')));
    if (!given.accessToken) return false;
    this.useTokens(given);
    return true;
  }

  /** What another one holds. */
  adopt(other) {
    this.#hold(other.held);
  }

  forget() {
    this.#held = null;
    this.#storage?.removeItem(NAME);
  }

  #hold(held) {
    this.#held = held;
    this.#storage?.setItem(NAME, JSON.stringify(held));
  }
}
