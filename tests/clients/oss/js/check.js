// Runs ali-oss, the official OSS SDK for JavaScript, unmodified, against a
// server that says it is OSS. One line per operation; the exit code is 1 if
// one of them went wrong. The operations are those of ../check.py.
//
//   node check.js http://localhost:9000 v4
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OSS from 'ali-oss';

const [endpoint, signature] = process.argv.slice(2);
const KIB = 1 << 10;
// All that an encoding can get wrong: blank, plus, tilde, percent, non-ASCII, slashes.
const AWKWARD = 'dir/a+b c~é%2F报告&=?#.bin';
const prefix = `ali-oss-${signature}-${randomBytes(4).toString('hex')}/`;
const key = prefix + AWKWARD;
const folder = mkdtempSync(join(tmpdir(), 'oss-check-'));

function client(options = {}) {
  return new OSS({
    endpoint,
    sldEnable: true,
    secure: false,
    authorizationV4: signature === 'v4',
    region: 'oss-cn-hangzhou',
    bucket: 'bkt',
    accessKeyId: 'ak',
    accessKeySecret: 'sk',
    retryMax: 0,
    ...options,
  });
}

const oss = client();
const sts = client({ accessKeyId: 'STS.valid', accessKeySecret: 'sk2', stsToken: 'token+/2==' });

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.code, code);
    return true;
  });
}

// Without the SDK, as a browser uses a presigned URL.
function fetched(method, target, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const asked = request(target, { method, headers, agent: false }, (answer) => {
      const pieces = [];
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces) }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

async function stats() {
  return JSON.parse((await fetched('GET', `${endpoint}/-/stats`)).body);
}

const read = async (name, options) => (await oss.get(name, options)).content;
const begin = async (name, options) => (await oss.initMultipartUpload(name, options)).uploadId;

async function part(name, id, number, data) {
  const path = join(folder, 'part');
  writeFileSync(path, data);
  return (await oss.uploadPart(name, id, number, path, 0, data.length)).etag;
}

async function uploads() {
  const found = [];
  let next = {};
  do {
    const page = await oss.listUploads({ prefix, 'max-uploads': 1, ...next });
    found.push(...page.uploads.map((upload) => `${upload.name} ${upload.uploadId}`));
    next = page.isTruncated && { 'key-marker': page.nextKeyMarker, 'upload-id-marker': page.nextUploadIdMarker };
  } while (next);
  return found;
}

async function gone(name) {
  await assert.rejects(oss.head(name), (error) => error.status === 404 && error.code === 'NoSuchKey');
}

function presign(method, name, query = {}) {
  if (signature === 'v4') return oss.signatureUrlV4(method, 600, { queries: query }, name);
  return oss.signatureUrl(name, { method, expires: 600, subResource: query });
}

async function withReceiver(run) {
  const bodies = [];
  const server = createServer((asked, answer) => {
    let body = '';
    asked.on('data', (piece) => (body += piece));
    asked.on('end', () => {
      bodies.push(body);
      answer.end(JSON.stringify({ told: bodies.length }));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await run(`http://127.0.0.1:${server.address().port}/told`, bodies);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const operations = {
  async put_get_head_delete() {
    const data = randomBytes(300 * KIB);
    const put = await oss.put(key, data, { mime: 'image/png', meta: { who: 'alice' } });
    assert.equal(put.res.headers.etag, `"${createHash('md5').update(data).digest('hex').toUpperCase()}"`);
    assert.deepEqual(await read(key), data);
    const { meta, res } = await oss.head(key);
    assert.deepEqual([meta, res.headers['content-length'], res.headers['content-type']], [{ who: 'alice' }, String(data.length), 'image/png']);
    await refused('FileAlreadyExists', oss.put(key, Buffer.from('other'), { headers: { 'x-oss-forbid-overwrite': 'true' } }));
    await oss.delete(key);
    await oss.delete(key);
    await gone(key);
    await refused('NoSuchKey', oss.get(key));
  },

  async empty_object() {
    await oss.put(key, Buffer.alloc(0));
    assert.equal((await read(key)).length, 0);
  },

  async range_read() {
    const data = randomBytes(1024);
    await oss.put(key, data);
    for (const [range, expected] of [['10-20', data.subarray(10, 21)], ['1000-', data.subarray(1000)], ['-24', data.subarray(1000)], ['10-5000', data]]) {
      assert.deepEqual(await read(key, { headers: { Range: `bytes=${range}` } }), expected, range);
    }
  },

  async list_objects() {
    const names = ['list/a/1', 'list/a/2 +', 'list/b', 'list/c'];
    for (const name of names) await oss.put(prefix + name, Buffer.from('x'));
    let found = [];
    let token;
    do {
      const page = await oss.listV2({ prefix: `${prefix}list/`, 'max-keys': 2, 'continuation-token': token });
      found.push(...page.objects.map((object) => object.name));
      token = page.nextContinuationToken;
    } while (token);
    assert.deepEqual(found, names.map((name) => prefix + name));
    found = [];
    let marker;
    do {
      const page = await oss.list({ prefix: `${prefix}list/`, delimiter: '/', 'max-keys': 1, ...(marker && { marker }) });
      found.push(...(page.objects ?? []).map((object) => object.name), ...(page.prefixes ?? []));
      marker = page.nextMarker;
    } while (marker);
    assert.deepEqual(found, ['list/a/', 'list/b', 'list/c'].map((name) => prefix + name));
  },

  async multipart_upload() {
    const pieces = [randomBytes(300 * KIB), randomBytes(100 * KIB), randomBytes(7)];
    const id = await begin(key, { mime: 'video/mp4' });
    const etags = {};
    for (const number of [3, 1, 2]) etags[number] = await part(key, id, number, pieces[number - 1]);
    const listed = await oss.listParts(key, id, { 'max-parts': 2 });
    assert.deepEqual(listed.parts.map((p) => [p.PartNumber, p.Size, p.ETag]), [1, 2].map((n) => [String(n), String(pieces[n - 1].length), etags[n]]));
    assert.deepEqual(await uploads(), [`${key} ${id}`]);
    const parts = [1, 2, 3].map((number) => ({ number, etag: etags[number] }));
    const { etag } = await oss.completeMultipartUpload(key, id, parts);
    assert.match(etag, /-3"$/);
    assert.deepEqual(await read(key), Buffer.concat(pieces));
    await refused('NoSuchUpload', oss.completeMultipartUpload(key, id, parts));
  },

  async complete_refused() {
    const id = await begin(key);
    const first = await part(key, id, 1, Buffer.from('small'));
    const last = await part(key, id, 2, Buffer.from('last'));
    const complete = (...etags) => oss.completeMultipartUpload(key, id, etags.map((etag, i) => ({ number: i + 1, etag })));
    await refused('EntityTooSmall', complete(first, last));
    await refused('InvalidPart', complete(last));
    const again = await part(key, id, 1, Buffer.alloc(100 * KIB));
    await complete(again, last);
    assert.equal((await read(key)).length, 100 * KIB + 4);
  },

  async abort() {
    const id = await begin(key);
    await part(key, id, 1, Buffer.from('x'));
    await oss.abortMultipartUpload(key, id);
    await refused('NoSuchUpload', part(key, id, 2, Buffer.from('x')));
    await refused('NoSuchUpload', oss.abortMultipartUpload(key, id));
    assert.deepEqual(await uploads(), []);
  },

  async list_uploads() {
    const begun = [];
    for (const name of 'bbac') begun.push(`${prefix}${name} ${await begin(prefix + name)}`);
    assert.deepEqual(await uploads(), begun.sort());
    for (const upload of begun) await oss.abortMultipartUpload(...upload.split(' '));
  },

  async resumable_upload() {
    const [size, count] = [256 * KIB, 8];
    const data = randomBytes(size * count - 5);
    const path = join(folder, 'file.bin');
    writeFileSync(path, data);
    const before = await stats();
    let checkpoint;
    const breaking = oss.multipartUpload(key, path, {
      partSize: size,
      parallel: 1,
      progress(share, at) {
        checkpoint = at;
        if (share > 0.3) throw new Error('interrupted');
      },
    });
    await assert.rejects(breaking, /interrupted/);
    const middle = await stats();
    assert.equal(middle.openUploads, before.openUploads + 1, 'the first attempt left no upload');
    await oss.multipartUpload(key, path, { checkpoint, parallel: 1 });
    const after = await stats();
    assert.equal(after.initiate, before.initiate + 1, 'began anew instead of resuming');
    assert.ok(after.uploadPart - middle.uploadPart < count, 'all parts were sent again');
    assert.deepEqual(await read(key), data);
  },

  async presigned() {
    const data = randomBytes(1000);
    await oss.put(key, data);
    const got = await fetched('GET', await presign('GET', key));
    assert.deepEqual([got.status, got.body], [200, data]);
    const uploadId = await begin(key);
    const put = await fetched('PUT', await presign('PUT', key, { partNumber: '1', uploadId }), data);
    assert.equal(put.status, 200, put.body.toString());
    await oss.completeMultipartUpload(key, uploadId, [{ number: 1, etag: put.headers.etag }]);
    const wrong = await fetched('GET', (await presign('GET', key)).replace('dir', 'rid'));
    assert.equal(wrong.status, 403);
    assert.match(wrong.body.toString(), /SignatureDoesNotMatch/);
  },

  async wrong_credentials() {
    await refused('SignatureDoesNotMatch', client({ accessKeySecret: 'wrong' }).put(key, randomBytes(3 << 20)));
    await refused('InvalidAccessKeyId', client({ accessKeyId: 'nobody' }).get(key));
    await refused('NoSuchBucket', client({ bucket: 'another-bucket' }).get(key));
    if (signature === 'v4') await refused('InvalidArgument', client({ region: 'oss-cn-beijing' }).get(key));
  },

  async properties() {
    await oss.put(key, Buffer.from('x'), { headers: { 'x-oss-storage-class': 'IA', 'x-oss-tagging': 'a=1' } });
    assert.equal((await oss.head(key)).res.headers['x-oss-storage-class'], 'IA');
    assert.deepEqual((await oss.getObjectTagging(key)).tag, { a: '1' });
  },

  async delete_many() {
    const names = ['a', 'b +&<>', 'c'].map((name) => `${prefix}many/${name}`);
    for (const name of names) await oss.put(name, Buffer.from('x'));
    const { deleted } = await oss.deleteMulti(names);
    assert.deepEqual(deleted.map((object) => object.Key).sort(), names);
    for (const name of names) await gone(name);
  },

  async copy() {
    const data = randomBytes(1000);
    const target = `${prefix}copied é+`;
    await oss.put(key, data);
    await oss.copy(target, key);
    await oss.delete(key);
    assert.deepEqual(await read(target), data);
    await refused('NoSuchKey', oss.copy(target, key));
  },

  async part_copy() {
    const data = randomBytes(300 * KIB);
    const target = `${prefix}assembled`;
    await oss.put(key, data);
    const id = await begin(target);
    const source = { sourceKey: key, sourceBucketName: 'bkt' };
    const parts = [];
    for (const [i, range] of ['0-102399', '204800-307199'].entries()) {
      const { etag } = await oss.uploadPartCopy(target, id, i + 1, range, source);
      parts.push({ number: i + 1, etag });
    }
    await oss.completeMultipartUpload(target, id, parts);
    assert.deepEqual(await read(target), Buffer.concat([data.subarray(0, 102400), data.subarray(204800)]));
  },

  async append() {
    const name = `${prefix}grows`;
    const first = await oss.append(name, Buffer.from('12345'));
    assert.equal(first.nextAppendPosition, '5');
    const second = await oss.append(name, Buffer.from('6789'), { position: first.nextAppendPosition });
    assert.equal(second.res.headers['x-oss-hash-crc64ecma'], String(0x995dc9bbdf1939fan));
    assert.equal((await read(name)).toString(), '123456789');
    await refused('PositionNotEqualToLength', oss.append(name, Buffer.from('x'), { position: 5 }));
  },

  async tagging() {
    await oss.put(key, Buffer.from('x'));
    await oss.putObjectTagging(key, { a: '1', b: 'x y' });
    assert.deepEqual((await oss.getObjectTagging(key)).tag, { a: '1', b: 'x y' });
    await oss.deleteObjectTagging(key);
    assert.deepEqual((await oss.getObjectTagging(key)).tag, {});
  },

  async acl() {
    await oss.put(key, Buffer.from('for all'));
    const target = `${endpoint}/bkt/${encodeURIComponent(key)}`;
    assert.equal((await fetched('GET', target)).status, 403);
    await oss.putACL(key, 'public-read');
    assert.equal((await oss.getACL(key)).acl, 'public-read');
    assert.equal((await fetched('GET', target)).body.toString(), 'for all');
  },

  async callback() {
    await withReceiver(async (url, bodies) => {
      const callback = { url, body: 'key=${object}&size=${size}&who=${x:who}', customValue: { who: 'alice' } };
      const { data } = await oss.put(key, Buffer.from('12345'), { callback });
      assert.deepEqual(data, { told: 1 });
      assert.deepEqual(bodies, [`key=${encodeURIComponent(key)}&size=5&who=alice`]);
    });
  },

  async post_form() {
    const date = new Date();
    const form = new FormData();
    const policy = { expiration: new Date(Date.now() + 60_000).toISOString(), conditions: [{ bucket: 'bkt' }, ['content-length-range', 1, 9]] };
    if (signature === 'v4') {
      const timestamp = date.toISOString().replace(/[-:]|\.\d+/g, '');
      const fields = {
        'x-oss-signature-version': 'OSS4-HMAC-SHA256',
        'x-oss-credential': `ak/${timestamp.slice(0, 8)}/cn-hangzhou/oss/aliyun_v4_request`,
        'x-oss-date': timestamp,
      };
      policy.conditions.push(...Object.entries(fields).map(([name, value]) => ({ [name]: value })));
      Object.entries(fields).forEach(([name, value]) => form.set(name, value));
      form.set('policy', Buffer.from(JSON.stringify(policy)).toString('base64'));
      form.set('x-oss-signature', oss.signPostObjectPolicyV4(policy, date));
    } else {
      Object.entries(oss.calculatePostSignature(policy)).forEach(([name, value]) => form.set(name, value));
    }
    form.set('key', `${prefix}form/\${filename}`);
    form.set('success_action_status', '200');
    form.set('file', new Blob(['a form'], { type: 'text/plain' }), 'é +.txt');
    const send = () => fetch(`${endpoint}/bkt`, { method: 'POST', body: form });
    const posted = await send();
    assert.equal(posted.status, 200, await posted.text());
    assert.equal((await read(`${prefix}form/é +.txt`)).toString(), 'a form');
    form.set('file', new Blob(['too long for it']), 'b');
    const refused = await send();
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /EntityTooLarge/);
  },

  async sts() {
    await sts.put(key, Buffer.from('by sts'));
    const url = signature === 'v4' ? await sts.signatureUrlV4('GET', 600, {}, key) : sts.signatureUrl(key, { expires: 600 });
    assert.equal((await fetched('GET', url)).body.toString(), 'by sts');
    const other = (accessKeyId, accessKeySecret, stsToken) => client({ accessKeyId, accessKeySecret, stsToken }).get(key);
    await refused('SecurityTokenExpired', other('STS.expired', 'sk3', 'token3'));
    await refused('InvalidSecurityToken', other('STS.valid', 'sk2', 'token3'));
    await refused('InvalidAccessKeyId', other('STS.valid', 'sk2'));
  },

  async bucket_cors() {
    await oss.putBucketCORS('bkt', [{ allowedOrigin: '*', allowedMethod: ['PUT', 'GET'], allowedHeader: '*', exposeHeader: ['ETag'] }]);
    const { rules } = await oss.getBucketCORS('bkt');
    assert.deepEqual([rules[0].allowedMethod, rules[0].exposeHeader], [['PUT', 'GET'], 'ETag']);
  },

  async bucket_info() {
    assert.equal((await oss.getBucketInfo('bkt')).bucket.Location, 'oss-cn-hangzhou');
  },
};

let failed = 0;
for (const [name, run] of Object.entries(operations)) {
  try {
    await run();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}
rmSync(folder, { recursive: true });
process.exit(failed ? 1 : 0);
