// The page in browsers that keep nothing for it, at a gateway with
// `auth.mode = "keys"`: node blocked.js http://127.0.0.1:8080 ck_…

import { check, randomFile, run } from './browser.js';

/** What a browser does that grants no storage: to look at it throws. */
function denied() {
  for (const name of ['sessionStorage', 'localStorage', 'indexedDB']) {
    const get = () => {
      throw new DOMException(`Failed to read '${name}': access is denied for this document.`, 'SecurityError');
    };
    Object.defineProperty(globalThis, name, { get });
  }
  delete globalThis.BroadcastChannel;
}

/** One that has no room. */
function full() {
  Storage.prototype.setItem = () => {
    throw new DOMException('exceeded the quota', 'QuotaExceededError');
  };
  IDBFactory.prototype.open = () => {
    throw new DOMException('exceeded the quota', 'QuotaExceededError');
  };
}

await run(async ({ context, url, folder }) => {
  const key = process.argv[3];
  for (const trouble of [denied, full]) {
    const tab = await context.newPage();
    const errors = [];
    tab.on('pageerror', (error) => errors.push(String(error)));
    await tab.addInitScript(trouble);
    await tab.goto(url);
    await tab.waitForSelector('#key-form:not([hidden])');
    check(`${trouble.name}: the page is there, and asks for a key`, errors.length === 0, errors);
    await tab.fill('#key', key);
    await tab.click('#key-form button');
    await tab.waitForSelector('#key-form', { state: 'hidden' });
    const file = await randomFile(folder, `${trouble.name}.bin`, 12_000_000);
    await tab.setInputFiles('#files', file.path);
    await tab.waitForSelector('.row[data-state=completed]');
    check('it has the key in memory, and files are sent', errors.length === 0, errors);
    await tab.reload();
    await tab.waitForSelector('#key-form:not([hidden])');
    check('until it is reloaded', errors.length === 0, errors);
    await tab.close();
  }
});
