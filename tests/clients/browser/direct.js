// A gigabyte from the page straight to the store, broken in the middle: with a
// gateway on OSS that lets an application's page in, which is served here. The
// file is made on the fly, so that nobody holds it:
// node direct.js http://127.0.0.1:8080 http://127.0.0.1:3000

import { createServer } from 'node:http';
import { once } from 'node:events';
import { check, run } from './browser.js';

const GIB = 1 << 30;

await run(async ({ page, url }) => {
  const origin = process.argv[3];
  const application = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end('<!doctype html>'));
  await once(application.listen(new URL(origin).port, '127.0.0.1'), 'listening');
  await page.goto(origin);
  const puts = { store: 0, gateway: 0 };
  page.on('response', (response) => {
    if (response.request().method() !== 'PUT' || !response.ok()) return;
    if (response.url().startsWith(url)) puts.gateway += 1;
    else puts.store += 1;
  });
  // Sends what is missing, four parts at a time, and gives up after so many.
  const send = (fileId, bytes, partsMax) =>
    page.evaluate(
      async ({ url, fileId, bytes, partsMax }) => {
        const post = async (path, body) => {
          const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
          const answer = await fetch(url + path, options);
          return { status: answer.status, ...(await answer.json()) };
        };
        const created = await post('/uploads', { fileId, fileName: 'giga.bin', fileSize: bytes, chunkSize: 1 << 24 });
        const known = await (await fetch(`${url}/chunks?fileId=${fileId}`)).json();
        const indexes = known.missing.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
        const { parts } = await post(`/uploads/${fileId}/parts/sign`, { chunkIndexes: indexes });
        // Each chunk is its own byte over and over: whoever has the file can tell what belongs where.
        const chunk = (index) => new Uint8Array(Math.min(created.chunkSize, bytes - index * created.chunkSize)).fill(index);
        const queue = parts.slice(0, partsMax);
        const worker = async () => {
          for (let part = queue.shift(); part; part = queue.shift()) {
            const put = await fetch(part.url, { method: part.method, headers: part.headers, body: chunk(part.chunkIndex) });
            if (!put.ok) throw new Error(`${put.status} ${await put.text()}`);
          }
        };
        await Promise.all(Array.from({ length: 4 }, worker));
        return { missing: indexes.length, total: created.totalChunks, done: await post('/chunks/complete', { fileId }) };
      },
      { url, fileId, bytes, partsMax },
    );
  const first = await send('giga', GIB, 30);
  check('all of it was missing', first.missing === 64 && first.total === 64, first);
  check('what was not sent is said at the end', first.done.code === 'chunks_missing', first.done);
  // A tab that dies with four parts half sent.
  const dying = send('giga', GIB, 8).catch(() => null);
  await new Promise((resolve) => setTimeout(resolve, 150));
  await page.goto('about:blank');
  await dying;
  const whole = puts.store;
  await page.goto(origin);
  // What the store listed a moment ago counts for two seconds.
  await new Promise((resolve) => setTimeout(resolve, 2100));
  const rest = await send('giga', GIB, 64);
  check(`only the rest was sent (${rest.missing} of 64)`, rest.missing < 64 - 30 + 1 && rest.missing >= 64 - 38, rest);
  check('and the file is there', rest.done.status === 200 && rest.done.file.fileSize === GIB, rest.done);
  check('not a byte of it went through the gateway', puts.gateway === 0 && puts.store - whole === rest.missing, puts);
  const answer = await fetch(`${url}/files/giga/content`);
  let [at, wrong] = [0, 0];
  for await (const bytes of answer.body) {
    for (let i = 0; i < bytes.length; i += 4099) wrong += bytes[i] !== ((at + i) >> 24) % 256;
    at += bytes.length;
  }
  check('its bytes are where they belong', at === GIB && wrong === 0, [at, wrong]);
  application.close();
});
