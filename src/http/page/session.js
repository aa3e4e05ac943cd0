// What a page may ask by: an API key, or tokens that a back end handed out.
// Kept in this tab until it is closed; where the browser lets a page keep
// nothing, in memory. Tabs that are copies of one another have one login, and
// a refresh token is for one use: who renews it tells the others.

const NAME = 'chunkgate.session';
/** A token is renewed when it has this share of its life left. */
const EARLY = 0.1;
/** How long another tab may take to say that it has renewed the tokens. */
const HEARSAY_MS = 100;
/** Whoever made a token may have put anything into it. */
const NAME_CHARS_MAX = 64;

export class Session {
  #held = null;
  #storage;
  #tabs;

  /**
   * @param {?Storage} storage sessionStorage, to outlast a reload
   * @param {?BroadcastChannel} tabs to the tabs that may be copies of this one
   */
  constructor(storage = null, tabs = null) {
    this.#storage = storage;
    this.#tabs = tabs;
    this.#held = attempt(() => JSON.parse(storage?.getItem(NAME) ?? 'null'));
    tabs?.addEventListener('message', ({ data }) => this.#hear(data));
    // What was copied into this tab may be old already.
    this.#tell({ asks: true });
  }

  /** `{key}`, or `{login, accessToken, refreshToken, renewAt, expiresAt}`, or null. */
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

  /** What `POST /auth/tokens` answers: a login of its own. */
  useTokens(tokens, now = Date.now()) {
    this.#hold(pair(newLogin(), tokens, now));
  }

  /** What `POST /auth/refresh` answers to this refresh token, unless something else is held by now. */
  renew(refreshToken, tokens, now = Date.now()) {
    if (this.#held?.refreshToken !== refreshToken) return;
    this.#hold(pair(this.#held.login, tokens, now));
    this.#tell({ held: this.#held });
  }

  /** Runs `work` while no other tab of this login does, with what they know by then. */
  async alone(work) {
    const { login } = this.#held;
    const asked = async () => {
      if (this.#tabs) {
        this.#tell({ asks: true });
        await new Promise((resolve) => setTimeout(resolve, HEARSAY_MS));
      }
      return work();
    };
    // Only where a page is served securely; else two renewals at once are the gateway's mercy.
    return navigator.locks ? navigator.locks.request(`${NAME}.${login}`, asked) : asked();
  }

  /** What another one holds. */
  adopt(other) {
    this.#hold(other.held);
  }

  forget() {
    this.#held = null;
    attempt(() => this.#storage?.removeItem(NAME));
  }

  #hold(held) {
    this.#held = held;
    // What cannot be written must not be found in its old state either.
    const written = attempt(() => (this.#storage?.setItem(NAME, JSON.stringify(held)), true));
    if (!written) attempt(() => this.#storage?.removeItem(NAME));
  }

  #tell(what) {
    if (this.#held?.login) this.#tabs?.postMessage({ login: this.#held.login, ...what });
  }

  #hear({ login, asks, held }) {
    if (!login || login !== this.#held?.login) return;
    if (asks) this.#tell({ held: this.#held });
    else if (held.expiresAt > this.#held.expiresAt) this.#hold(held);
  }
}

function pair(login, { accessToken, refreshToken = null, expiresIn = 900 }, now) {
  const life = Number(expiresIn) * 1000;
  return { login, accessToken, refreshToken, renewAt: now + life * (1 - EARLY), expiresAt: now + life };
}

/** Names a login among the tabs of this browser. */
function newLogin() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
}

/** Tokens that stand in an address, after `#`, where no server sees them: `accessToken=…&refreshToken=…&expiresIn=…`. */
export function tokensIn(hash) {
  const given = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, '')));
  return given.accessToken ? given : null;
}

/** Whose files what is held opens, as it says itself; null where it does not. */
export function subjectOf({ accessToken } = {}) {
  const claims = attempt(() => {
    const payload = accessToken.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
  });
  return typeof claims?.sub === 'string' && claims.sub ? claims.sub.slice(0, NAME_CHARS_MAX) : null;
}

/** This tab's storage, or null: where a browser keeps nothing, to look at it throws. */
export function tabStorage() {
  return attempt(() => globalThis.sessionStorage);
}

/** A channel to this page's other tabs, or null. */
export function otherTabs() {
  return attempt(() => new BroadcastChannel(NAME));
}

function attempt(work) {
  try {
    return work();
  } catch {
    return null;
  }
}
