// The page at a gateway with `auth.mode = "keys"`. The key is the second
// argument: node key.js http://127.0.0.1:8080 ck_…

import { check, randomFile, run, sha256 } from './browser.js';
import { readFile } from 'node:fs/promises';

await run(async ({ page, url, folder }) => {
  const key = process.argv[3];
  const file = await randomFile(folder, 'guarded.bin', 20_000_000);
  await page.goto(url);
  await page.waitForSelector('#key-form:not([hidden])');
  check('where a key is needed, the page asks for one before a file is chosen', await page.isHidden('#key-problem'));
  await page.setInputFiles('#files', file.path);
  await page.waitForSelector('.row[data-state=failed]');
  const shown = await page.textContent('.row .problem');
  check('without one the row says where to put it', shown.includes('A key is needed') && shown.includes('above'), shown);
  check('in words for people', shown.includes('unauthorized') && !shown.includes('Bearer'), shown);

  await page.fill('#key', 'ck_wrong');
  await page.click('#key-form button');
  await page.waitForSelector('#key-problem:not([hidden])');
  check('a wrong one is refused under its field', (await page.textContent('#key-problem')) === 'This is not known here, or no longer.');
  check('and stays in it, and nowhere else', (await page.inputValue('#key')) === 'ck_wrong' && (await page.evaluate(() => sessionStorage.length)) === 0);

  await page.fill('#key', key);
  await page.click('#key-form button');
  await page.waitForSelector('.row[data-state=completed]');
  check('with the right one the upload goes on by itself', await page.isHidden('#key-form'));
  const kept = await page.evaluate(() => [JSON.parse(sessionStorage.getItem('chunkgate.session')).key, localStorage.length, document.cookie]);
  check('the key is kept in this tab and nowhere else', kept[0] === key && kept[1] === 0 && kept[2] === '', kept);

  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-action=download]')]);
  const bytes = await readFile(await download.path());
  check('the download carries the key, and has the bytes', sha256(bytes) === file.sha256);
  check('under its name', download.suggestedFilename() === 'guarded.bin', download.suggestedFilename());

  // A key that was withdrawn while the tab was open.
  await page.evaluate(() => sessionStorage.setItem('chunkgate.session', '{"key":"ck_withdrawn"}'));
  await page.reload();
  await page.waitForSelector('#key-problem:not([hidden])');
  check('one that is no longer known is asked for anew', (await page.evaluate(() => sessionStorage.length)) === 0);
});
