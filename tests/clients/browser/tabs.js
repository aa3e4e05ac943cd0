// A tab and its copy, which has its session: one login, whose tokens are for
// one use each and last four seconds. The back end's key is the second argument:
// node tabs.js http://127.0.0.1:8080 ck_…

import { check, eventually, run } from './browser.js';

await run(async ({ page, context, url }) => {
  const key = process.argv[3];
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
  const login = await fetch(`${url}/auth/tokens`, { method: 'POST', headers, body: JSON.stringify({ subject: 'u7' }) });
  const { accessToken, refreshToken, expiresIn } = await login.json();

  const seen = { refreshes: 0, refusals: [] };
  context.on('request', (request) => {
    if (request.url().endsWith('/auth/refresh')) seen.refreshes += 1;
  });
  context.on('response', async (response) => {
    if (response.status() < 400) return;
    const { code } = await response.json();
    // On a busy machine a token may end on its way: that one is renewed, and the request repeated.
    if (code !== 'token_expired') seen.refusals.push(`${code} ${response.request().method()} ${response.url()}`);
  });
  await page.goto(`${url}/#${new URLSearchParams({ accessToken, refreshToken, expiresIn })}`);
  await page.click('#offer-use');
  const held = (tab) => tab.evaluate(() => JSON.parse(sessionStorage.getItem('chunkgate.session') ?? 'null'));
  await eventually('the tokens are taken', async () => (await held(page))?.refreshToken === refreshToken);

  // As the browser's "Duplicate" does, a window that a page opens begins with a copy of what that has kept.
  const copied = (tab) => Promise.all([context.waitForEvent('page'), tab.evaluate(() => void open(location.href))]);
  const [copy] = await copied(page);
  await copy.waitForSelector('#drop');
  check('the copy has the same session', (await held(copy)).refreshToken === refreshToken);

  /** A small file, chosen in this tab, which has to ask the gateway for it to arrive. */
  const upload = async (tab, name) => {
    await tab.setInputFiles('#files', { name, mimeType: 'text/plain', buffer: Buffer.from(name) });
    await tab.waitForSelector(`.row[data-state=completed]:has-text("${name}")`);
  };
  const began = Date.now();
  let round = 0;
  for (; Date.now() - began < 15_000; round += 1) {
    // Together, and one after the other.
    await Promise.all([upload(page, `a${round}.txt`), upload(copy, `b${round}.txt`)]);
    await upload(copy, `c${round}.txt`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const seconds = (Date.now() - began) / 1000;
  check(`both tabs outlived three tokens (${seconds.toFixed(1)} s, ${round} rounds)`, seconds > 12 && round > 3);
  check('nothing was refused', seen.refusals.length === 0, seen.refusals);
  check('one renewal served both', seen.refreshes >= 2 && seen.refreshes <= seconds / 3 + 1, seen);
  check('both hold what came of it', (await held(page)).refreshToken === (await held(copy)).refreshToken);

  // Closed and opened again, reloaded: whoever is left goes on.
  await page.close();
  const [second] = await copied(copy);
  await second.waitForSelector('#drop');
  await copy.reload();
  await eventually('its token has ended', async () => Date.now() >= (await held(copy)).expiresAt + 200);
  await Promise.all([upload(copy, 'd.txt'), upload(second, 'e.txt')]);
  check('also after a reload, and past the end of a token', seen.refusals.length === 0, seen.refusals);
});
