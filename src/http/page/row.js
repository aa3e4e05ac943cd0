// One file's row. It draws what it is told, and knows nothing of uploading.

import { bytes, duration, percent, words } from './words.js';

const BUSY = new Set(['starting', 'uploading', 'pausing', 'finishing']);

export class Row {
  #bar;
  #status;
  #actions;
  #problem;
  /** Until when the row says why something is repeated, whatever else goes on. */
  #retryUntil = 0;

  constructor({ name, size }) {
    this.name = name;
    this.size = size;
    this.element = document.getElementById('row').content.cloneNode(true).firstElementChild;
    this.#bar = this.element.querySelector('progress');
    this.#status = this.element.querySelector('.status');
    this.#actions = this.element.querySelector('.actions');
    this.#problem = this.element.querySelector('.problem');
    this.element.querySelector('.name').textContent = name;
    this.element.querySelector('.size').textContent = bytes(size);
    this.#bar.setAttribute('aria-label', name);
  }

  /** The upload waits for others to end. */
  waiting(cancel) {
    this.#enter('waiting', words.waiting, [['cancel', cancel]]);
  }

  /** The upload entered a state. */
  state(upload, actions) {
    const text = upload.state === 'paused' ? words.paused(this.#percent(upload.sentBytes)) : words[upload.state];
    this.#enter(upload.state, text ?? '', actions);
    this.#fill(upload.sentBytes);
    this.progress(upload);
  }

  /** Bytes moved, or the network came or went. */
  progress(upload) {
    if (!BUSY.has(upload.state)) return;
    this.#fill(upload.sentBytes);
    if (!navigator.onLine) this.#status.textContent = words.offline;
    else if (upload.state === 'uploading' && performance.now() > this.#retryUntil) this.#status.textContent = this.#pace(upload);
  }

  /** A request failed and will be repeated. */
  retrying(delayMs, reason) {
    this.#retryUntil = performance.now() + delayMs;
    this.#status.textContent = words.retry(Math.ceil(delayMs / 1000), reason);
  }

  /** An upload that an earlier page began: its file has to be chosen again. */
  unfinished(arrivedBytes, pick, actions) {
    this.#enter('unfinished', words.arrived(this.#percent(arrivedBytes)), actions);
    this.#fill(arrivedBytes);
    const label = document.createElement('label');
    label.className = 'pick primary';
    const input = document.createElement('input');
    input.type = 'file';
    input.addEventListener('change', () => input.files[0] && pick(input.files[0]));
    label.append(words.pick, input);
    this.#actions.prepend(label);
  }

  /** An earlier page's upload that meanwhile became a file. */
  finished(actions) {
    this.#enter('completed', words.completed, actions);
    this.#fill(this.size);
  }

  /** What went wrong: our words, and below them what the server itself said. */
  problem({ title, detail = '', code = '' }) {
    this.#problem.hidden = false;
    this.#problem.querySelector('strong').textContent = title;
    this.#problem.querySelector('p').textContent = detail;
    this.#problem.querySelector('code').textContent = code;
  }

  /** Shows where it is, to whoever looks for it. */
  point() {
    this.element.scrollIntoView({ block: 'nearest' });
    this.#actions.querySelector('button, a')?.focus();
  }

  #enter(state, text, actions) {
    const hadFocus = this.#actions.contains(document.activeElement);
    this.element.dataset.state = state;
    this.#status.textContent = text;
    this.#problem.hidden = true;
    this.#actions.replaceChildren(...actions.map(([word, act]) => this.#action(word, act)));
    // The button that was pressed is gone: whoever steers by keyboard stays in this row.
    if (hadFocus) this.#actions.firstElementChild?.focus();
  }

  /** A button, or a link where the action is an address. */
  #action(word, act) {
    const element = document.createElement(typeof act === 'string' ? 'a' : 'button');
    element.dataset.action = word;
    element.textContent = words[word];
    element.setAttribute('aria-label', `${words[word]} ${this.name}`);
    if (typeof act === 'string') {
      element.href = act;
      element.className = 'button';
    } else {
      element.type = 'button';
      element.addEventListener('click', act);
    }
    return element;
  }

  #pace({ sentBytes, speed, secondsLeft }) {
    const parts = [this.#percent(sentBytes)];
    if (speed !== null) parts.push(`${bytes(speed)}/s`);
    if (secondsLeft !== null) parts.push(words.left(duration(secondsLeft)));
    return parts.join(' · ');
  }

  #percent(part) {
    return percent(part, this.size);
  }

  #fill(part) {
    this.#bar.value = this.size === 0 ? 1 : part / this.size;
  }
}
