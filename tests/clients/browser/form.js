// A small file from an application's page straight to the store, by a form that
// the gateway signed. The store tells the gateway, and the page hears what that
// says: node form.js http://127.0.0.1:8080 http://127.0.0.1:3000

import { createServer } from 'node:http';
import { once } from 'node:events';
import { check, run } from './browser.js';

await run(async ({ page, url }) => {
  const origin = process.argv[3];
  const application = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end('<!doctype html>'));
  await once(application.listen(new URL(origin).port, '127.0.0.1'), 'listening');
  await page.goto(origin);
  const throughTheGateway = [];
  page.on('request', (request) => {
    if (request.url().startsWith(url)) throughTheGateway.push(new URL(request.url()).pathname);
  });
  const send = (maxFileSize) =>
    page.evaluate(
      async ({ url, maxFileSize }) => {
        const wanted = { fileName: 'me.png', maxFileSize, contentType: 'image/png', expiresIn: 60 };
        const headers = { 'Content-Type': 'application/json' };
        const signed = await fetch(`${url}/uploads/sign`, { method: 'POST', headers, body: JSON.stringify(wanted) });
        const { method, url: store, fields } = await signed.json();
        const form = new FormData();
        Object.entries(fields).forEach(([name, value]) => form.set(name, value));
        form.set('file', new Blob([new Uint8Array(1000).fill(7)], { type: 'image/png' }), 'me.png');
        const answer = await fetch(store, { method, body: form });
        return { status: answer.status, text: await answer.text() };
      },
      { url, maxFileSize },
    );
  const small = await send(999);
  check('the store refuses what is larger than the form allows', small.status === 400 && small.text.includes('EntityTooLarge'), small);
  const sent = await send(1000);
  const { file } = JSON.parse(sent.text);
  check('the page hears of its file', sent.status === 200 && file.fileSize === 1000 && file.contentType === 'image/png', sent);
  check('only the signing went through the gateway', throughTheGateway.every((path) => path === '/uploads/sign'), throughTheGateway);
  const bytes = new Uint8Array(await (await fetch(`${url}/files/${file.fileId}/content`)).arrayBuffer());
  check('and it is whole', bytes.length === 1000 && bytes.every((byte) => byte === 7), bytes.length);
  console.log(`fileId ${file.fileId}`);
  application.close();
});
