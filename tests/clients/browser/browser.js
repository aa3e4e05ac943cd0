// What the scripts share: Chromium, a file to upload, and a check that prints.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Opens Chromium, runs `story(page, url)`, closes it, and says by the exit code how that went. */
export async function run(story) {
  const url = process.argv[2]?.replace(/\/$/, '');
  if (!url) {
    console.error('usage: node SCRIPT.js http://127.0.0.1:8080');
    process.exit(2);
  }
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ARGS });
  const folder = await mkdtemp(join(tmpdir(), 'chunkgate-browser-'));
  try {
    const context = await browser.newContext({ acceptDownloads: true, locale: process.env.LOCALE ?? 'en-GB' });
    const page = await context.newPage();
    page.on('pageerror', (error) => {
      console.error(`not ok - the page threw: ${error.stack}`);
      process.exitCode = 1;
    });
    await story({ page, context, url, folder });
  } catch (error) {
    console.error(`not ok - ${error.stack}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    await rm(folder, { recursive: true });
  }
}

export function check(what, condition, seen = '') {
  assert.ok(condition, `${what}${seen === '' ? '' : `; seen: ${JSON.stringify(seen)}`}`);
  console.log(`ok - ${what}`);
}

/** Random bytes in a file: `{path, sha256, bytes}`. */
export async function randomFile(folder, name, bytes) {
  const content = randomBytes(bytes);
  const path = join(folder, name);
  await writeFile(path, content);
  return { path, bytes, sha256: sha256(content) };
}

export function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The digest of a finished file, as the gateway serves it. */
export async function downloaded(url, fileId, query = '', headers = {}) {
  const response = await fetch(`${url}/files/${fileId}/content${query}`, { headers });
  assert.equal(response.status, 200);
  return sha256(Buffer.from(await response.arrayBuffer()));
}

/** Slows what the page sends down to so many bytes per second; 0 is no limit. */
export async function throttle(context, page, bytesPerSecond) {
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.enable');
  await devtools.send('Network.emulateNetworkConditions', {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: bytesPerSecond || -1,
  });
}

/** Polls until `probe` gives something; the last resort of a test that must not hang. */
export async function eventually(what, probe, withinMs = 30_000) {
  const until = performance.now() + withinMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    assert.ok(performance.now() < until, `never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
