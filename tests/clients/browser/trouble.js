// The page when things go wrong: a 503 with Retry-After, no network, a refusal,
// a second thought.

import { check, downloaded, eventually, randomFile, run, throttle } from './browser.js';

const MB = 1_000_000;

function problem(status, code, detail, headers = {}) {
  const body = JSON.stringify({ type: 'about:blank', title: 'A title', status, detail, code, requestId: 'r1' });
  return { status, contentType: 'application/problem+json', headers, body };
}

const state = (name, state) => `.row[data-state=${state}]:has-text("${name}")`;

await run(async ({ page, context, url, folder }) => {
  await page.goto(url);
  let fileId;
  page.on('request', (request) => {
    fileId = request.headers()['x-file-id'] ?? fileId;
  });

  // Busy: the first two chunks are sent away.
  let away = 0;
  const sentAt = new Map();
  await page.route('**/chunks', (route) => {
    const request = route.request();
    if (request.method() !== 'PUT') return route.continue();
    const index = request.headers()['x-chunk-index'];
    sentAt.set(index, [...(sentAt.get(index) ?? []), performance.now()]);
    if (away++ < 2) return route.fulfill(problem(503, 'overloaded', 'Later.', { 'Retry-After': '2' }));
    return route.continue();
  });
  const busy = await randomFile(folder, 'busy.bin', 30 * MB);
  await page.setInputFiles('#files', busy.path);
  await page.waitForSelector('.status:has-text("s: The gateway is busy")');
  check('meanwhile the page says what it waits for', true);
  await page.waitForSelector(state('busy.bin', 'completed'));
  const waits = [...sentAt.values()].filter((times) => times.length > 1).map(([a, b]) => b - a);
  check('two chunks were sent again', waits.length === 2, [...sentAt]);
  check('after the two seconds of Retry-After', waits.every((ms) => ms >= 1950 && ms < 4000), waits);
  check('and the file arrived', (await downloaded(url, fileId)) === busy.sha256);
  await page.unroute('**/chunks');

  // Away for longer: it does not use up its attempts at the pace of a short Retry-After.
  const delays = await page.evaluate(async () => {
    const [{ delayMs }, { Refused }] = [await import('/page/retry.js'), await import('/page/gateway.js')];
    return [0, 1, 4, 20].map((attempt) => delayMs(new Refused(503, {}, 1000), attempt, () => 0));
  });
  check('and waits longer each time, never less than it is asked to', `${delays}` === '1000,1000,4000,15000', delays);

  // No network for a while.
  const far = await randomFile(folder, 'far.bin', 30 * MB);
  await throttle(context, page, 10 * MB);
  await page.setInputFiles('#files', far.path);
  await page.waitForSelector(state('far.bin', 'uploading'));
  await page.waitForTimeout(500);
  await context.setOffline(true);
  await page.waitForSelector(`${state('far.bin', 'uploading')} :text("Offline")`);
  check('offline, the page says so', true);
  await page.waitForTimeout(1500);
  await context.setOffline(false);
  await throttle(context, page, 0);
  await page.waitForSelector(state('far.bin', 'completed'));
  check('and goes on by itself once there is a network', (await downloaded(url, fileId)) === far.sha256);

  // A refusal that no repetition cures.
  await page.route('**/uploads', (route) => route.fulfill(problem(413, 'file_too_large', 'At most 1000 bytes are allowed.')));
  const large = await randomFile(folder, 'large.bin', 2 * MB);
  await page.setInputFiles('#files', large.path);
  await page.waitForSelector(state('large.bin', 'failed'));
  const shown = await page.textContent(`${state('large.bin', 'failed')} .problem`);
  check(
    'a refusal is shown in words, with what the server says and its code',
    ['The file is too large', 'At most 1000 bytes are allowed.', 'file_too_large'].every((text) => shown.includes(text)),
    shown,
  );
  check('and is announced', (await page.textContent('#live')).includes('large.bin'));
  await page.unroute('**/uploads');
  await page.click(`${state('large.bin', 'failed')} [data-action=resume]`);
  await page.waitForSelector(state('large.bin', 'completed'));
  check('resumed when the reason is gone, it arrives', (await downloaded(url, fileId)) === large.sha256);

  // A second thought.
  const regretted = await randomFile(folder, 'regretted.bin', 30 * MB);
  await throttle(context, page, 5 * MB);
  await page.setInputFiles('#files', regretted.path);
  await page.waitForSelector(state('regretted.bin', 'uploading'));
  await page.waitForTimeout(500);
  await page.click(`${state('regretted.bin', 'uploading')} [data-action=cancel]`);
  await page.waitForSelector(state('regretted.bin', 'cancelled'));
  const known = await eventually('the end of it', async () => (await fetch(`${url}/chunks?fileId=${fileId}`)).json());
  check('a cancelled upload is aborted at the gateway', known.status === 'aborted', known);
  await page.reload();
  await page.waitForTimeout(500);
  check('and is not listed as unfinished', (await page.locator('#unfinished .row').count()) === 0);

  // In Chinese.
  const chinese = await context.browser().newContext({ locale: 'zh-CN' });
  const other = await chinese.newPage();
  await other.goto(url);
  await other.route('**/uploads', (route) => route.fulfill(problem(429, 'too_many_uploads', 'English.', { 'Retry-After': '5' })));
  await other.setInputFiles('#files', large.path);
  await other.waitForSelector('.status:has-text("秒后重试：未完成的上传过多")');
  check('why it waits is said in the language of the page', true);
  await other.unroute('**/uploads');
  await other.route('**/uploads', (route) => route.fulfill(problem(507, 'storage_full', 'English.')));
  await other.waitForSelector('.problem strong:has-text("服务器空间不足")');
  check('and so is why it stopped', (await other.textContent('.problem p')) === 'English.');
});
