// What to tell people of an error, in their language: {title, detail, code}.

import { Refused, Unreachable } from './gateway.js';
import { Unreadable } from './uploader.js';
import { words } from './words.js';

export function explain(error) {
  if (error instanceof Refused) return refused(error);
  if (error instanceof Unreachable) return { title: words.unreachable, detail: words.unreachableDetail };
  if (error instanceof Unreadable) return { title: words.unreadable, detail: words.unreadableDetail };
  return { title: words.trouble, detail: String(error) };
}

/** Our words for the gateway's code; beside them what it says itself, in English. */
function refused({ status, problem }) {
  const { title, detail, code, requestId } = problem;
  return {
    title: words.codes[code] ?? words.answered(status),
    // Who refuses for want of a key or a token speaks to programmers; here there is a field for it.
    detail: status === 401 ? words.keyNeeded : (detail ?? title ?? ''),
    code: [status, code, requestId].filter(Boolean).join(' · '),
  };
}
