// The page at a gateway with `auth.mode = "tokens"` whose access tokens last
// four seconds. The back end's key is the second argument:
// node tokens.js http://127.0.0.1:8080 ck_…

import { check, downloaded, eventually, randomFile, run, throttle } from './browser.js';

const MIB = 1 << 20;

await run(async ({ page, context, url, folder }) => {
  const key = process.argv[3];
  const logIn = async (subject) => {
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
    const answer = await fetch(`${url}/auth/tokens`, { method: 'POST', headers, body: JSON.stringify({ subject }) });
    return answer.json();
  };
  // What the page asks, and what it is told.
  const seen = { refreshes: 0, together: 0, mostTogether: 0, refusals: [], chunks: 0 };
  const isRefresh = (request) => request.url().endsWith('/auth/refresh');
  page.on('request', (request) => {
    if (!isRefresh(request)) return;
    seen.refreshes += 1;
    seen.together += 1;
    seen.mostTogether = Math.max(seen.mostTogether, seen.together);
  });
  page.on('requestfinished', (request) => isRefresh(request) && (seen.together -= 1));
  page.on('response', async (response) => {
    const isChunk = response.request().method() === 'PUT' && response.url().endsWith('/chunks');
    if (isChunk && response.ok()) seen.chunks += 1;
    if (response.status() >= 400) seen.refusals.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  const held = () => page.evaluate(() => JSON.parse(sessionStorage.getItem('chunkgate.session') ?? 'null'));

  // Handed over in the address, by whoever sent the user here.
  const { accessToken, refreshToken, expiresIn } = await logIn('u7');
  const handedOver = `${url}/#${new URLSearchParams({ accessToken, refreshToken, expiresIn })}`;
  await page.goto(handedOver);
  await page.waitForSelector('#offer:not([hidden])');
  check('tokens in the address are taken out of it', (await page.evaluate(() => location.href)) === `${url}/`);
  check('and shown with whose they are, not used', (await page.textContent('#offer-text')).includes('u7') && (await held()) === null);
  check('there is nothing that they would replace', (await page.textContent('#offer-instead')) === '');
  await page.click('#offer-refuse');
  check('who does not want them does not get them', (await page.isHidden('#offer')) && (await held()) === null);
  await page.waitForSelector('#key-form:not([hidden])');
  check('and is asked for a key instead', true);
  await page.goto('about:blank');
  await page.goto(handedOver);
  await page.click('#offer-use');
  await eventually('the tokens are taken', async () => (await held())?.accessToken === accessToken);
  check('nobody is asked for a key then', await page.isHidden('#key-form'));

  // Somebody else's link, followed in the open page.
  const others = await logIn('mallory');
  await page.evaluate((tokens) => (location.hash = new URLSearchParams(tokens)), others);
  await page.waitForSelector('#offer:not([hidden])');
  const said = [await page.textContent('#offer-text'), await page.textContent('#offer-instead')];
  check('a link that would replace a session says whose, and by whose', said[0].includes('mallory') && said[1].includes('u7'), said);
  check('it, too, is out of the address', (await page.evaluate(() => location.href)) === `${url}/`);
  check('and the session stays', (await held()).accessToken === accessToken);
  await page.click('#offer-refuse');
  check('also when it is refused', (await held()).accessToken === accessToken && (await page.isHidden('#key-form')));
  seen.refusals.length = 0;

  // Five chunks in flight over a slow link, while tokens end again and again.
  await throttle(context, page, 5 * MIB);
  const upload = async (name, bytes, early) =>
    page.evaluate(
      async ({ name, bytes, early }) => {
        const { Gateway } = await import('/page/gateway.js');
        const { Session } = await import('/page/session.js');
        const { Lanes } = await import('/page/retry.js');
        const { Upload } = await import('/page/uploader.js');
        const session = new Session(sessionStorage);
        // Without a look at the clock, the gateway's word is what tells of the end.
        if (!early) session.useTokens({ ...session.held, expiresIn: 1e6 });
        const content = new Uint8Array(bytes);
        for (let at = 0; at < bytes; at += 65536) crypto.getRandomValues(content.subarray(at, at + 65536));
        const retries = [];
        const upload = new Upload(new File([content], name), { gateway: new Gateway({ session }), lanes: new Lanes(5), parallel: 5 });
        upload.addEventListener('retry', ({ detail }) => retries.push(String(detail.error)));
        await upload.start();
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', content));
        const sha256 = Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('');
        return { fileId: upload.fileId, state: upload.state, error: String(upload.error), retries, sha256, chunks: upload.record.totalChunks };
      },
      { name, bytes, early },
    );
  const began = Date.now();
  const first = await upload('first.bin', 80 * MIB, true);
  const seconds = (Date.now() - began) / 1000;
  check('the upload went through', first.state === 'completed', first);
  check(`it took longer than two tokens last (${seconds.toFixed(1)} s)`, seconds > 8, seconds);
  check('no chunk failed, nor was any repeated', first.retries.length === 0 && seen.chunks === first.chunks, [first, seen]);
  check('nothing was refused: tokens are renewed before they end', seen.refusals.length === 0, seen.refusals);
  check('once per token, never two at a time', seen.mostTogether === 1 && seen.refreshes <= seconds / 3 + 1 && seen.refreshes >= 1, seen);

  // The same when a token ends unforeseen: five chunks are told so, and one request renews it for all.
  await eventually('its token has ended', async () => Date.now() >= (await held()).expiresAt + 500);
  Object.assign(seen, { refreshes: 0, mostTogether: 0, refusals: [], chunks: 0 });
  await throttle(context, page, 0);
  const second = await upload('second.bin', 40 * MIB, false);
  check('one that has ended already is renewed', second.state === 'completed' && second.retries.length === 0, second);
  check('by one request', seen.refreshes === 1, seen);
  check('each chunk arrived once', seen.chunks === second.chunks, [seen, second.chunks]);
  const headers = { Authorization: `Bearer ${key}` };
  const digest = await downloaded(`${url}`, `${second.fileId}`, '?owner=u7', headers);
  check('its bytes are the same', digest === second.sha256, [digest, second.sha256]);

  // A login that is over is asked for anew, and a key is exchanged for tokens.
  const revoked = await fetch(`${url}/auth/revoke`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ refreshToken: (await held()).refreshToken }),
  });
  check('the login is ended', revoked.status === 204, revoked.status);
  await page.reload();
  await page.waitForSelector('#key-form:not([hidden])');
  check('what has ended is not kept', (await held()) === null);
  await page.fill('#key', key);
  await page.click('#key-form button');
  await page.waitForSelector('#key-form', { state: 'hidden' });
  const now = await held();
  check('a key is exchanged for tokens, and kept nowhere', now.accessToken && now.refreshToken && !JSON.stringify(now).includes(key), now);
  const file = await randomFile(folder, 'third.bin', 3_000_000);
  await page.setInputFiles('#files', file.path);
  await page.waitForSelector('.row[data-state=completed]');
  check('with which files are sent', (await downloaded(url, await fileId(url, headers), '?owner=page', headers)) === file.sha256);
});

async function fileId(url, headers) {
  const answer = await fetch(`${url}/files?owner=page`, { headers });
  return (await answer.json()).files[0].fileId;
}
