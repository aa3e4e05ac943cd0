// The page: what the user does becomes calls of the uploader, and what the
// uploader says becomes rows.

import { explain } from './explain.js';
import { Gateway, Refused } from './gateway.js';
import { NoRecords, Records } from './records.js';
import { Lanes } from './retry.js';
import { Row } from './row.js';
import { Session, otherTabs, subjectOf, tabStorage, tokensIn } from './session.js';
import { Upload, matches } from './uploader.js';
import { language, translate, words } from './words.js';

/** Whose uploads they are that are made here with a key, where the gateway hands out tokens. */
const SUBJECT = 'page';
/** Files under way at once; the others wait their turn. */
const FILES_AT_ONCE = 2;
/** Refusals after which only beginning anew can help. */
const BEGIN_ANEW = new Set(['upload_conflict', 'chunk_conflict', 'upload_failed', 'upload_lost', 'upload_aborted', 'upload_expired']);

/** States in which an upload needs no file: it has it. */
const UNDER_WAY = new Set(['idle', 'starting', 'uploading', 'pausing', 'finishing']);

const $ = (id) => document.getElementById(id);
const session = new Session(tabStorage(), otherTabs());
const gateway = new Gateway({ session });
const records = Records.areKept() ? new Records() : new NoRecords();
const turns = new Lanes(FILES_AT_ONCE);
const uploads = new Map(); // fileId → {upload, row}: what this page is sending
const unfinished = new Map(); // fileId → {record, row}: what an earlier one began
const waitingForKey = new Set(); // uploads that were refused for want of a key

/** Sends these files; one that this page or an earlier one began goes on where that stopped. */
function take(files) {
  for (const file of files) {
    const listed = [...uploads.values()].find(({ upload }) => upload.state !== 'cancelled' && matches(upload.record, file));
    const earlier = [...unfinished.values()].find(({ record }) => matches(record, file));
    if (listed && UNDER_WAY.has(listed.upload.state)) listed.row.point();
    else if (listed) takeAgain(listed, file);
    else begin(file, earlier?.record);
  }
}

/** Under the same fileId: a file that has arrived is not sent again, as long as the gateway has it. */
function takeAgain({ upload, row }, file) {
  row.element.remove();
  waitingForKey.forEach((waiting) => waiting.upload === upload && waitingForKey.delete(waiting));
  begin(file, upload.record);
}

function begin(file, record = null) {
  const upload = new Upload(file, { gateway, records, record });
  settleUnfinished(upload.fileId);
  const row = new Row({ name: file.name, size: file.size });
  uploads.set(upload.fileId, { upload, row });
  $('uploads').prepend(row.element);
  upload.addEventListener('state', () => show(upload, row));
  upload.addEventListener('progress', () => row.progress(upload));
  upload.addEventListener('retry', ({ detail }) => {
    if (upload.state !== 'pausing') row.retrying(detail.delayMs, explain(detail.error).title);
  });
  tidy();
  run(upload, row);
}

async function run(upload, row, options) {
  const gaveUp = new AbortController();
  row.waiting(() => {
    gaveUp.abort();
    if (upload.state === 'idle') remove(upload, row);
    else cancel(upload, row);
  });
  try {
    await turns.run(() => upload.start(options), gaveUp.signal);
  } catch {
    // Cancelled before its turn came.
  }
}

/** The row says what the upload's state is and offers what can be done in it. */
function show(upload, row) {
  const go = (options) => () => run(upload, row, options);
  const actions = {
    starting: [['pause', () => upload.pause()]],
    uploading: [['pause', () => upload.pause()], ['cancel', () => cancel(upload, row)]],
    pausing: [['cancel', () => cancel(upload, row)]],
    finishing: [],
    paused: [['resume', go()], ['cancel', () => cancel(upload, row)]],
    failed: failedActions(upload, row, go),
    completed: [['download', downloads(upload.fileId, upload.file.name)], ['remove', () => remove(upload, row)]],
    cancelled: [['remove', () => remove(upload, row)]],
  };
  row.state(upload, actions[upload.state] ?? []);
  if (upload.state === 'failed') failed(upload, row);
  if (upload.state === 'completed' || upload.state === 'cancelled') announce(row, words[upload.state]);
}

function failedActions(upload, row, go) {
  const first = BEGIN_ANEW.has(upload.error?.code) ? ['restart', go({ restart: true })] : ['resume', go()];
  return [first, ['cancel', () => cancel(upload, row)]];
}

function failed(upload, row) {
  row.problem(explain(upload.error));
  announce(row, explain(upload.error).title);
  if (wantsKey(upload.error)) {
    waitingForKey.add({ upload, row });
    askForKey();
  }
}

async function cancel(upload, row) {
  try {
    await upload.cancel();
  } catch (error) {
    row.problem(explain(error)); // still paused, so that it can be tried again
  }
}

function remove(upload, row) {
  uploads.delete(upload.fileId);
  row.element.remove();
  if (upload.state !== 'completed' && upload.state !== 'cancelled') records.forget(upload.fileId).catch(console.warn);
  tidy();
}

/** A link, unless a key is needed: a link sends none, so the bytes are fetched. */
function downloads(fileId, name) {
  if (!session.held) return gateway.contentUrl(fileId);
  return async () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await gateway.content(fileId));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
}

/** Lists what an earlier page left, as the gateway now knows it. */
async function listUnfinished() {
  const found = await records.unfinished().catch(() => []);
  for (const record of found) {
    if (uploads.has(record.fileId)) continue;
    const row = new Row(record);
    unfinished.set(record.fileId, { record, row });
    $('unfinished').append(row.element);
    showUnfinished(record, row, record.arrivedBytes);
  }
  tidy();
  await Promise.all(found.map(({ fileId }) => refresh(fileId)));
}

async function refresh(fileId) {
  const known = await gateway.chunks(fileId, AbortSignal.timeout(15_000)).catch((error) => {
    if (wantsKey(error)) askForKey();
    return null; // then our own records have to do
  });
  const here = unfinished.get(fileId);
  if (!known || !here) return;
  const { record, row } = here;
  if (known.status === 'completing') {
    setTimeout(refresh, 2000, fileId);
  }
  if (known.file) {
    await records.forget(fileId).catch(console.warn);
    row.finished([['download', downloads(fileId, record.name)], ['remove', () => settleUnfinished(fileId)]]);
  } else {
    const alive = known.status === 'uploading' || known.status === 'completing';
    showUnfinished(record, row, alive ? known.uploadedBytes : 0);
  }
}

function showUnfinished(record, row, arrivedBytes) {
  const pick = (file) => {
    if (matches(record, file)) begin(file, record);
    else row.problem({ title: words.otherFile, detail: words.otherFileDetail(record.name) });
  };
  const giveUp = async () => {
    try {
      await new Upload({ ...record }, { gateway, records, record }).cancel();
      settleUnfinished(record.fileId);
    } catch (error) {
      row.problem(explain(error));
    }
  };
  row.unfinished(arrivedBytes, pick, [['cancel', giveUp]]);
}

function settleUnfinished(fileId) {
  unfinished.get(fileId)?.row.element.remove();
  unfinished.delete(fileId);
  tidy();
}

function wantsKey(error) {
  return error instanceof Refused && error.status === 401;
}

/** A key that was refused is none: it is not kept. */
function askForKey() {
  if (session.held) sayOfKey(words.keyUnknown);
  session.forget();
  if (!$('key-form').hidden) return;
  $('key-form').hidden = false;
  $('key').focus();
}

function sayOfKey(text) {
  $('key-problem').textContent = text;
  $('key-problem').hidden = text === '';
}

/** Tries the key at once: the form stays until one is accepted. */
async function useKey(event) {
  event.preventDefault();
  const typed = $('key').value.trim();
  try {
    const tried = await tokensFor(typed);
    await new Gateway({ session: tried }).knock(AbortSignal.timeout(15_000));
    session.adopt(tried);
  } catch (error) {
    sayOfKey(wantsKey(error) ? words.keyUnknown : explain(error).title);
    $('key').select();
    return;
  }
  $('key').value = '';
  admitted();
}

/** What waited for a session goes on. */
function admitted() {
  sayOfKey('');
  $('key-form').hidden = true;
  const waiting = [...waitingForKey];
  waitingForKey.clear();
  for (const { upload, row } of waiting) run(upload, row);
  for (const fileId of unfinished.keys()) refresh(fileId);
}

/** A key opens everything: where there are tokens, it is exchanged for one that does not, and not kept. */
async function tokensFor(typed) {
  const tried = new Session();
  tried.useKey(typed); // a token that was typed in goes with requests like a key
  try {
    tried.useTokens(await gateway.logIn(typed, { subject: SUBJECT }, AbortSignal.timeout(15_000)));
  } catch (error) {
    const isNoKey = error instanceof Refused && (error.status === 501 || error.status === 403);
    if (!isNoKey) throw error;
  }
  return tried;
}

/**
 * Whoever sent the user here may have put tokens into the address. They may be
 * anybody's, who would then get the user's files: it is the user who says
 * whether to use them. Out of the address they go in any case.
 */
function takeAddress() {
  const offered = tokensIn(location.hash);
  if (!offered) return knock();
  history.replaceState(null, '', location.pathname + location.search);
  const name = subjectOf(offered) ?? words.somebody;
  const mine = session.held?.key ? words.aKey : subjectOf(session.held ?? {}) ?? words.somebody;
  $('offer-text').textContent = words.offered(name);
  $('offer-instead').textContent = session.held ? words.offeredInstead(mine) : '';
  $('offer').hidden = false;
  $('offer-refuse').focus();
  const answered = (use) => () => {
    $('offer').hidden = true;
    if (use) session.useTokens(offered);
    if (use) admitted();
    knock();
  };
  $('offer-use').onclick = answered(true);
  $('offer-refuse').onclick = answered(false);
}

/** Whether a key is needed is asked before a file is chosen, not after. */
function knock() {
  gateway.knock(AbortSignal.timeout(15_000)).catch((error) => wantsKey(error) && askForKey());
}

/** For those who do not see the bars: what ended, and how. */
function announce(row, text) {
  $('live').textContent = `${row.name}: ${text}`;
}

function tidy() {
  $('uploads-section').hidden = uploads.size === 0;
  $('unfinished-section').hidden = unfinished.size === 0;
}

/** The whole page takes drops: a file let go beside the box would replace the page. */
function takeDrops() {
  const over = (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    $('drop').classList.add('over');
  };
  const leave = () => $('drop').classList.remove('over');
  addEventListener('dragover', over);
  addEventListener('dragenter', over);
  addEventListener('dragleave', (event) => event.relatedTarget ?? leave());
  addEventListener('drop', (event) => {
    event.preventDefault();
    leave();
    take(event.dataTransfer.files);
  });
}

translate(document);
$('files').addEventListener('change', (event) => {
  take([...event.target.files]);
  event.target.value = ''; // so that the same file can be chosen again
});
$('key-form').addEventListener('submit', useKey);
addEventListener('online', () => uploads.forEach(({ row, upload }) => row.progress(upload)));
addEventListener('offline', () => uploads.forEach(({ row, upload }) => row.progress(upload)));
takeDrops();
document.documentElement.dataset.language = language;
addEventListener('hashchange', takeAddress);
takeAddress();
await listUnfinished();
