// When to try again, and how long to wait first.

import { Refused, Unreachable } from './gateway.js';

/** How often one request is sent before we give up: about a quarter of an hour. */
export const ATTEMPTS_MAX = 30;
const DELAY_MS = 500;
const DELAY_MS_MAX = 30_000;

/** Statuses that say "later", whoever on the way said them. */
const LATER = new Set([408, 425, 429, 500, 502, 503, 504]);
/** Refusals of this one request, not of the upload: the same chunk sent again is right. */
const AGAIN = new Set(['body_too_short', 'chunk_superseded', 'checksum_mismatch']);

/** Whether the same request may succeed later. */
export function isRetryable(error) {
  if (error instanceof Unreachable) return true;
  return error instanceof Refused && (LATER.has(error.status) || AGAIN.has(error.code));
}

/** Milliseconds to wait: doubling, and no less than the server asks for, with jitter either way. */
export function delayMs(error, attempt, random = Math.random) {
  const doubling = Math.min(DELAY_MS * 2 ** attempt, DELAY_MS_MAX) * (0.5 + random() / 2);
  const asked = error instanceof Refused ? error.retryAfterMs : null;
  return asked === null ? doubling : Math.max(doubling, asked + random() * 250);
}

/** Sleeps; comes back early when the browser goes online, and throws when aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const done = (how, value) => {
      clearTimeout(timer);
      removeEventListener('online', online);
      signal.removeEventListener('abort', aborted);
      how(value);
    };
    const online = () => done(resolve);
    const aborted = () => done(reject, signal.reason);
    const timer = setTimeout(() => done(resolve), ms);
    addEventListener('online', online);
    if (signal.aborted) aborted();
    else signal.addEventListener('abort', aborted);
  });
}

/** Waits until the browser thinks it has a network; at once when it has. */
export async function online(signal) {
  while (!navigator.onLine) await sleep(DELAY_MS_MAX, signal);
}

/** So many at a time, first come first served. */
export class Lanes {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  /** Runs `work` when there is room; gives up waiting when aborted. */
  async run(work, signal) {
    await this.#take(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  #take(signal) {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const aborted = () => {
        this.#waiting = this.#waiting.filter((waiter) => waiter !== turn);
        reject(signal.reason);
      };
      const turn = () => {
        signal.removeEventListener('abort', aborted);
        resolve();
      };
      this.#waiting.push(turn);
      signal.addEventListener('abort', aborted, { once: true });
    });
  }
}
