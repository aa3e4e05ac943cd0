// A front end as the tutorials have it: slices of 5 MB, a form per slice with
// the fields in the order file, chunkIndex, totalChunks, fileName, posted to
// /upload-chunk, all started in one loop. Without a fileId the gateway says
// which line is missing; with that line the file arrives.

import { readFile } from 'node:fs/promises';
import { check, downloaded, randomFile, run } from './browser.js';

/** The README's own snippets: the one whose text has this in it, as an expression for the page. */
async function fromReadme(mark, fileId) {
  const readme = await readFile(new URL('../../../README.md', import.meta.url), 'utf8');
  const code = [...readme.matchAll(/```js\n([^]*?)```/g)].map((match) => match[1]).find((text) => text.includes(mark));
  const given = "const file = document.querySelector('#files').files[0];";
  const size = 'const chunkSize = 5 * 1024 * 1024, totalChunks = Math.ceil(file.size / chunkSize);';
  const id = `const fileId = '${fileId}';`;
  return mark === '/upload-chunk'
    ? `(async () => { ${given} ${size} ${code.replace(/const fileId = .*/, id)} })()`
    : `(async () => { ${given} ${id} ${code} })()`;
}

/** Runs in the page. `fileId` null is the snippet as it is found in the wild. */
async function uploadInSlices(fileId) {
  const file = document.querySelector('#files').files[0];
  const chunkSize = 5 * 1024 * 1024;
  const totalChunks = Math.ceil(file.size / chunkSize);
  const requests = [];
  for (let i = 0; i < totalChunks; i++) {
    const formData = new FormData();
    formData.append('file', file.slice(i * chunkSize, (i + 1) * chunkSize));
    formData.append('chunkIndex', i);
    formData.append('totalChunks', totalChunks);
    formData.append('fileName', file.name);
    if (fileId) formData.append('fileId', fileId);
    requests.push(fetch('/upload-chunk', { method: 'POST', body: formData }));
  }
  const answers = await Promise.all(requests);
  return Promise.all(answers.map(async (r) => ({ status: r.status, type: r.headers.get('content-type'), body: await r.json() })));
}

await run(async ({ page, url, folder }) => {
  const file = await randomFile(folder, '报告 2026.bin', 33_000_000);
  await page.goto(`${url}/livez`);
  // Any answer of the gateway's origin will do as the page that this front end stands in.
  await page.evaluate(() => {
    document.body.innerHTML = '<input type="file" id="files">';
  });
  await page.setInputFiles('#files', file.path);

  const refused = await page.evaluate(uploadInSlices, null);
  check('without fileId every slice is refused with 400', refused.every((a) => a.status === 400), refused);
  check('as a problem document', refused.every((a) => a.type === 'application/problem+json'), refused[0]);
  check('with the code file_id_required', refused.every((a) => a.body.code === 'file_id_required'), refused[0]);
  check('that names the line to add', refused[0].body.detail.includes("formData.append('fileId', fileId)"), refused[0]);

  const fileId = `snippet-${Date.now()}`;
  const accepted = await page.evaluate(uploadInSlices, fileId);
  check('with that line every slice is accepted', accepted.every((a) => a.status === 200), accepted.filter((a) => a.status !== 200));
  const last = accepted.find((a) => a.body.complete);
  check('one answer says that the file is complete, and gives it', last?.body.file?.fileSize === file.bytes, last);
  check('its name is the one that was sent', last.body.file.fileName === '报告 2026.bin', last);
  check('and its bytes are the ones that were sent', (await downloaded(url, fileId)) === file.sha256);

  const again = await page.evaluate(uploadInSlices, fileId);
  check('sent once more, every slice is acknowledged as before', again.every((a) => a.status === 200 && a.body.complete), again);

  for (const mark of ['/upload-chunk', "method: 'PUT'"]) {
    const id = `readme-${mark.length}-${Date.now()}`;
    await page.evaluate(await fromReadme(mark, id));
    check(`the README's snippet with ${mark} uploads the file`, (await downloaded(url, id)) === file.sha256);
  }
});
