// The gateway's own page: a file of 120 MB, a reload in the middle, the same
// file chosen again, and only what is missing sent. Screenshots on the way, in
// screenshots/ or in the folder of the second argument.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { check, downloaded, eventually, randomFile, run, throttle } from './browser.js';

const BYTES = 120_000_000;
const CHUNKS = 15; // of 8 MiB
const SLOWLY = 16_000_000;

/** Notes the chunks the page sends, those that are acknowledged, and what it is told is missing. */
function watch(page) {
  const seen = { sent: [], acknowledged: [], missing: null, fileId: null };
  const isChunk = (request) => request.method() === 'PUT' && new URL(request.url()).pathname === '/chunks';
  page.on('request', (request) => {
    if (!isChunk(request)) return;
    seen.sent.push(Number(request.headers()['x-chunk-index']));
    seen.fileId = request.headers()['x-file-id'];
  });
  page.on('response', async (response) => {
    const request = response.request();
    if (isChunk(request) && response.status() === 200) {
      seen.acknowledged.push(Number(request.headers()['x-chunk-index']));
    }
    if (request.method() === 'GET' && new URL(request.url()).pathname === '/chunks') {
      const known = await response.json().catch(() => null);
      if (known?.missing) seen.missing = known.missing;
    }
  });
  return seen;
}

const indexesOf = (ranges) => ranges.flatMap(([a, b]) => Array.from({ length: b - a + 1 }, (_, i) => a + i));
const sorted = (indexes) => [...indexes].sort((a, b) => a - b);
const same = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

/** What IndexedDB holds, read as any script could. */
function stored() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open('chunkgate');
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const transaction = request.result.transaction(['uploads', 'chunks']);
      const uploads = transaction.objectStore('uploads').getAll();
      const chunks = transaction.objectStore('chunks').getAll();
      transaction.oncomplete = () => {
        request.result.close();
        resolve({ uploads: uploads.result, chunks: chunks.result });
      };
    };
  });
}

await run(async ({ page, context, url, folder }) => {
  const shots = process.argv[3] ?? 'screenshots';
  await mkdir(shots, { recursive: true });
  const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
  const file = await randomFile(folder, 'holiday-film.bin', BYTES);
  const other = await randomFile(folder, 'another.bin', 1000);

  await page.goto(url);
  const first = watch(page);
  await throttle(context, page, SLOWLY);
  await page.setInputFiles('#files', file.path);
  await eventually('the first acknowledged chunks', () => first.acknowledged.length >= 2);
  await page.waitForTimeout(300);
  await shot('1-uploading');

  const progress = () => page.$eval('.row progress', (bar) => bar.value);
  const whenAsked = await progress();
  await page.click('[data-action=pause]');
  await page.waitForSelector('.row[data-state=paused]');
  check('pausing gives up nothing that was on its way', (await progress()) >= whenAsked, [whenAsked, await progress()]);
  check('but waits for its acknowledgement', first.sent.length === first.acknowledged.length, first);
  const whenPaused = first.sent.length;
  await page.waitForTimeout(700);
  check('paused, it sends nothing', first.sent.length === whenPaused, first.sent);
  await shot('2-paused');

  const acknowledged = [...first.acknowledged];
  const records = await page.evaluate(stored);
  check('IndexedDB holds the upload', records.uploads.length === 1 && records.uploads[0].fileId === first.fileId, records);
  check(
    'and a record per acknowledged chunk',
    acknowledged.every((i) =>
      records.chunks.some((c) => c.chunkIndex === i && c.status === 'uploaded' && c.fileId === first.fileId && c.offset === i * records.uploads[0].chunkSize && c.size > 0),
    ),
    records.chunks,
  );

  await page.click('[data-action=resume]');
  await page.waitForSelector('.row[data-state=uploading]');
  await page.waitForTimeout(300);
  const before = [...first.acknowledged];
  await page.reload();

  await page.waitForSelector('#unfinished .row[data-state=unfinished]');
  await shot('3-reloaded');
  const second = watch(page);
  await throttle(context, page, 0);
  await page.setInputFiles('#unfinished input[type=file]', other.path);
  check('another file is not taken for it', await page.isVisible('#unfinished .problem'));
  check('and nothing of it is sent', second.sent.length === 0, second.sent);
  await page.setInputFiles('#unfinished input[type=file]', file.path);
  await page.waitForSelector('.row[data-state=completed]', { timeout: 60_000 });
  await shot('4-completed');

  const missing = indexesOf(second.missing);
  console.log(`   acknowledged before the reload ${sorted(before)}; missing after it ${missing}; sent ${sorted(second.sent)}`);
  check('after the reload something was missing, and not all', missing.length > 0 && missing.length < CHUNKS, missing);
  check('nothing acknowledged was missing', before.every((i) => !missing.includes(i)), { before, missing });
  check('exactly what was missing was sent', same(second.sent, missing), second.sent);
  check('under the same fileId', second.fileId === first.fileId, second.fileId);
  check('the file has the bytes that were sent', (await downloaded(url, first.fileId)) === file.sha256);
  const left = await page.evaluate(stored);
  check('IndexedDB forgets what is finished', left.uploads.length === 0 && left.chunks.length === 0, left);

  const link = await page.getAttribute('[data-action=download]', 'href');
  check('the row links to the file', link === `/files/${first.fileId}/content`, link);

  const empty = await randomFile(folder, 'empty.txt', 0);
  await page.setInputFiles('#files', [empty.path, other.path]);
  await eventually('three finished rows', async () => (await page.locator('.row[data-state=completed]').count()) === 3);
  check('an empty and a small file arrive as well', true);

  const sent = second.sent.length;
  await page.setInputFiles('#files', [file.path, empty.path, other.path]);
  await eventually('three finished rows again', async () => (await page.locator('.row[data-state=completed]').count()) === 3);
  await page.waitForTimeout(500);
  check('files that have arrived are not sent again', second.sent.length === sent, second.sent.slice(sent));
  check('and stay one row each', (await page.locator('.row').count()) === 3);

  await page.emulateMedia({ colorScheme: 'dark' });
  await page.waitForTimeout(400); // colours fade
  await shot('5-dark');
  await page.emulateMedia({ colorScheme: 'light' });
});
