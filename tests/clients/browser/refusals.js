// What a browser sees when the gateway refuses while the body is still on its
// way: a status, and not a "network error" without one.
//
// The gateway has to be a small one, so that it can be overloaded:
// CHUNKGATE_LIMITS__MAX_CONCURRENT_CHUNKS=1 CHUNKGATE_LIMITS__QUEUE_WAIT=1s

import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { check, eventually, run, throttle } from './browser.js';

const MIB = 1 << 20;

/** Runs in the page: sends so many bytes and tells what came of it. */
function send({ method, path, headers, bytes, form }) {
  return new Promise((resolve) => {
    const body = new Blob([new Uint8Array(bytes).fill(7)]);
    const formData = new FormData();
    for (const [name, value] of Object.entries(form ?? {})) formData.append(name, value);
    if (form) formData.append('file', body);
    const xhr = new XMLHttpRequest();
    xhr.open(method, path);
    for (const [name, value] of Object.entries(headers ?? {})) xhr.setRequestHeader(name, value);
    xhr.onload = () =>
      resolve({ status: xhr.status, retryAfter: xhr.getResponseHeader('Retry-After'), problem: JSON.parse(xhr.responseText) });
    xhr.onerror = () => resolve({ status: xhr.status, networkError: true });
    xhr.send(form ? formData : body);
  });
}

async function create(url, upload) {
  const response = await fetch(`${url}/uploads`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(upload),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function chunkHeaders(fileId, index) {
  return { 'X-File-Id': fileId, 'X-Chunk-Index': String(index) };
}

/** A client that sends half of its chunk and then falls silent. */
function halfAChunk(url, fileId, index, bytes) {
  const headers = { ...chunkHeaders(fileId, index), 'Content-Length': bytes };
  const half = request(`${url}/chunks`, { method: 'PUT', headers });
  half.on('error', () => {});
  half.write(Buffer.alloc(bytes / 2));
  return half;
}

await run(async ({ page, context, url }) => {
  const id = (name) => `${name}-${Date.now()}`;
  await page.goto(`${url}/livez`);

  const conflict = id('conflict');
  await create(url, { fileId: conflict, fileName: 'a.bin', fileSize: 64 * MIB, chunkSize: 32 * MIB });
  const form = { fileId: conflict, chunkIndex: 0, totalChunks: 3, fileName: 'a.bin', fileSize: 96 * MIB, chunkSize: 32 * MIB };
  const early = await page.evaluate(send, { method: 'POST', path: '/chunks', bytes: 32 * MIB, form });
  check('a form that contradicts the upload: 409 before its 32 MiB were read', early.status === 409, early);
  check('with the code upload_conflict', early.problem.code === 'upload_conflict', early);

  const chunks = id('chunks');
  await create(url, { fileId: chunks, fileName: 'b.bin', fileSize: 16 * MIB, chunkSize: 8 * MIB });
  const other = await fetch(`${url}/chunks`, { method: 'PUT', headers: chunkHeaders(chunks, 0), body: randomBytes(8 * MIB) });
  check('a chunk is recorded', other.status === 200, other.status);
  const put = (index) => ({ method: 'PUT', path: '/chunks', headers: chunkHeaders(chunks, index), bytes: 8 * MIB });
  const changed = await page.evaluate(send, put(0));
  check('the same chunk with other bytes: 409 chunk_conflict', changed.status === 409 && changed.problem.code === 'chunk_conflict', changed);

  const busy = id('busy');
  await create(url, { fileId: busy, fileName: 'c.bin', fileSize: 16 * MIB, chunkSize: 8 * MIB });
  const slow = halfAChunk(url, busy, 0, 8 * MIB);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const overloaded = await page.evaluate(send, put(1));
  check('no room for a second chunk: 503', overloaded.status === 503, overloaded);
  check('with the code overloaded', overloaded.problem.code === 'overloaded', overloaded);
  check('and a Retry-After', Number(overloaded.retryAfter) > 0, overloaded);
  slow.destroy();

  // The page's own chunk is on its way, slowly, when the same one is sent by someone else.
  await eventually('room again', async () => (await page.evaluate(send, put(1))).status === 200);
  const twice = id('twice');
  await create(url, { fileId: twice, fileName: 'd.bin', fileSize: 16 * MIB, chunkSize: 8 * MIB });
  await throttle(context, page, 1.2 * MIB);
  const first = page.evaluate(send, { method: 'PUT', path: '/chunks', headers: chunkHeaders(twice, 0), bytes: 8 * MIB });
  await new Promise((resolve) => setTimeout(resolve, 500));
  const second = await fetch(`${url}/chunks`, { method: 'PUT', headers: chunkHeaders(twice, 0), body: Buffer.alloc(8 * MIB, 7) });
  check('a newer request for a chunk in flight goes through', second.status === 200, await second.json());
  const superseded = await first;
  check('and the older one sees 409 chunk_superseded in mid-body', superseded.status === 409 && superseded.problem.code === 'chunk_superseded', superseded);
});
