"""Runs an official OSS SDK, unmodified, against a server that says it is OSS.

    check.py --endpoint http://127.0.0.1:9000 --sdk oss2 --signature v4

One line per operation; the exit code is 1 if one of them went wrong.
"""

import argparse
import base64
import hashlib
import http.client
import http.server
import json
import os
import sys
import tempfile
import threading
import traceback
import urllib.parse

KIB, MIB = 1 << 10, 1 << 20
# All that an encoding can get wrong: blank, plus, tilde, percent, non-ASCII, slashes.
KEY = "dir/a+b c~é%2F报告&=?#.bin"


class Interrupted(Exception):
    """A machine that goes down in the middle of an upload."""


class Unable(Exception):
    """The SDK cannot do this."""


class Check:
    def __init__(self, args):
        self.args = args
        self.module = __import__(f"sdk_{args.sdk}")
        self.sdk = self.client(args.access_key_secret)
        # Its own in each run: what an earlier one left does not disturb it.
        self.prefix = f"{args.sdk}-{args.signature}-{os.urandom(4).hex()}/"
        self.key = self.prefix + KEY
        self.folder = tempfile.mkdtemp(prefix="oss-check-")

    def client(self, secret, key_id=None, region=None, bucket=None, token=None):
        args = self.args
        return self.module.Sdk(
            args.endpoint,
            bucket or args.bucket,
            region or args.region,
            key_id or args.access_key_id,
            secret,
            args.signature,
            token,
        )

    def refused(self, code, call, *rest, sdk=None):
        """The call is refused, with the code that the SDK knows."""
        try:
            call(*rest)
        except self.module.Sdk.Error as error:
            found = self.module.Sdk.code(error)
            assert found == code, f"refused with {found}, not {code}: {error}"
            return
        raise AssertionError(f"not refused with {code}")

    def fetch(self, url, method="GET", data=None):
        """Without the SDK, as a browser uses a presigned URL: no header that nobody signed."""
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc)
        try:
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, target, body=data)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def stats(self):
        return json.loads(self.fetch(f"{self.args.endpoint}/-/stats")[1])

    # The operations, in the order they run.

    def put_get_head_delete(self):
        data = os.urandom(300 * KIB)
        etag, crc64 = self.sdk.put(self.key, data, content_type="image/png", meta={"who": "alice"})
        assert etag == hashlib.md5(data).hexdigest().upper(), etag
        assert self.sdk.get(self.key) == data
        head = self.sdk.head(self.key)
        expected = {"bytes": len(data), "etag": etag, "type": "image/png", "crc64": crc64, "meta": "alice"}
        assert head == expected, head
        self.refused("FileAlreadyExists", self.sdk.put_new, self.key, b"other")
        assert self.sdk.exists(self.key)
        self.sdk.delete(self.key)
        self.sdk.delete(self.key)
        assert not self.sdk.exists(self.key)
        self.refused("NoSuchKey", self.sdk.get, self.key)

    def empty_object(self):
        self.sdk.put(self.key, b"")
        assert self.sdk.get(self.key) == b""
        assert self.sdk.head(self.key)["bytes"] == 0

    def range_read(self):
        data = bytes(range(256)) * 4
        self.sdk.put(self.key, data)
        assert self.sdk.get(self.key, 10, 20) == data[10:21]
        assert self.sdk.get(self.key, 1000, None) == data[1000:]
        assert self.sdk.get(self.key, None, 24) == data[-24:]
        # OSS answers a range outside of the object with all of it.
        assert self.sdk.get(self.key, 10, 5000) == data

    def list_objects(self):
        for name in ["list/a/1", "list/a/2 +", "list/b", "list/c"]:
            self.sdk.put(self.prefix + name, b"x")
        found = self.sdk.keys(self.prefix + "list/")
        assert found == [self.prefix + name for name in ["list/a/1", "list/a/2 +", "list/b", "list/c"]], found
        found = self.sdk.keys_and_folders(self.prefix + "list/")
        assert sorted(found) == [self.prefix + name for name in ["list/a/", "list/b", "list/c"]], found

    def multipart_upload(self):
        pieces = [os.urandom(300 * KIB), os.urandom(100 * KIB), os.urandom(7)]
        upload_id = self.sdk.initiate(self.key, content_type="video/mp4")
        etags = {}
        for number in [3, 1, 2]:
            etags[number], _ = self.sdk.part(self.key, upload_id, number, pieces[number - 1])
        listed = self.sdk.parts(self.key, upload_id)
        assert listed == [(n, len(pieces[n - 1]), etags[n]) for n in [1, 2, 3]], listed
        assert (self.key, upload_id) in self.sdk.uploads(self.prefix)
        etag, crc64 = self.sdk.complete(self.key, upload_id, sorted(etags.items()))
        assert etag.endswith("-3"), etag
        head = self.sdk.head(self.key)
        assert (head["etag"], head["crc64"], head["type"]) == (etag, crc64, "video/mp4"), head
        data = b"".join(pieces)
        assert self.sdk.get(self.key) == data
        at = len(pieces[0]) + len(pieces[1])
        assert self.sdk.get(self.key, at - 5, at + 2) == data[at - 5 : at + 3]
        self.refused("NoSuchUpload", self.sdk.complete, self.key, upload_id, sorted(etags.items()))
        self.refused("NoSuchUpload", self.sdk.parts, self.key, upload_id)

    def complete_refused(self):
        upload_id = self.sdk.initiate(self.key)
        first, _ = self.sdk.part(self.key, upload_id, 1, b"small")
        last, _ = self.sdk.part(self.key, upload_id, 2, b"last")
        self.refused("EntityTooSmall", self.sdk.complete, self.key, upload_id, [(1, first), (2, last)])
        self.refused("InvalidPart", self.sdk.complete, self.key, upload_id, [(1, last)])
        self.refused("InvalidPart", self.sdk.complete, self.key, upload_id, [(3, first)])
        if self.args.sdk == "v2":  # oss2 sorts the list before it sends it
            self.refused("InvalidPartOrder", self.sdk.complete, self.key, upload_id, [(2, last), (1, first)])
        wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        self.refused("InvalidDigest", self.sdk.part_with_md5, self.key, upload_id, 1, b"small", wrong)
        self.sdk.part(self.key, upload_id, 1, b"x" * 100 * KIB)
        self.sdk.complete_all(self.key, upload_id)
        assert self.sdk.get(self.key) == b"x" * 100 * KIB + b"last"

    def abort(self):
        upload_id = self.sdk.initiate(self.key)
        self.sdk.part(self.key, upload_id, 1, b"x" * 1000)
        self.sdk.abort(self.key, upload_id)
        self.refused("NoSuchUpload", self.sdk.part, self.key, upload_id, 2, b"x")
        self.refused("NoSuchUpload", self.sdk.abort, self.key, upload_id)
        self.refused("NoSuchUpload", self.sdk.abort, self.key, "0" * 32)
        assert self.sdk.uploads(self.prefix) == []

    def list_uploads(self):
        begun = sorted((self.prefix + name, self.sdk.initiate(self.prefix + name)) for name in "bbac")
        assert self.sdk.uploads(self.prefix) == begun
        for key, upload_id in begun:
            self.sdk.abort(key, upload_id)

    def resumable_upload(self):
        part, count = 256 * KIB, 8
        path = os.path.join(self.folder, "file.bin")
        data = os.urandom(part * count - 5)
        with open(path, "wb") as file:
            file.write(data)

        def breaks(sent, total):
            if sent and sent > 3 * part:
                raise Interrupted()

        before = self.stats()
        try:
            self.sdk.resumable(self.key, path, part, self.folder, breaks)
        except Exception as error:  # each SDK wraps it in its own way
            assert "Interrupted" in "".join(traceback.format_exception(error)), error
        else:
            raise AssertionError("was not interrupted")
        middle = self.stats()
        assert middle["openUploads"] == before["openUploads"] + 1, "the first attempt left no upload"
        self.sdk.resumable(self.key, path, part, self.folder, lambda sent, total: None)
        after = self.stats()
        assert after["initiate"] == before["initiate"] + 1, "began anew instead of resuming"
        again = after["uploadPart"] - middle["uploadPart"]
        assert again < count, f"{again} parts were sent again"
        assert self.sdk.get(self.key) == data
        back = os.path.join(self.folder, "back.bin")
        self.sdk.download(self.key, back)
        with open(back, "rb") as file:
            assert file.read() == data

    def presigned(self):
        data = os.urandom(1000)
        self.sdk.put(self.key, data)
        assert self.fetch(self.sdk.presigned_get(self.key))[:2] == (200, data)
        upload_id = self.sdk.initiate(self.key)
        url = self.sdk.presigned_part(self.key, upload_id, 1)
        status, answer, headers = self.fetch(url, method="PUT", data=data)
        assert status == 200, answer
        self.sdk.complete(self.key, upload_id, [(1, headers["ETag"].strip('"'))])
        status, answer, _ = self.fetch(self.sdk.presigned_get(self.key).replace("dir", "rid"))
        assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in answer, answer

    def wrong_credentials(self):
        right = self.args.access_key_secret
        self.refused("SignatureDoesNotMatch", self.client("wrong").put, self.key, b"x" * 3 * MIB)
        self.refused("SignatureDoesNotMatch", self.client("wrong").head, self.key)
        self.refused("InvalidAccessKeyId", self.client(right, key_id="nobody").get, self.key)
        self.refused("NoSuchBucket", self.client(right, bucket="another-bucket").get, self.key)
        if self.args.signature == "v4":
            self.refused("InvalidArgument", self.client(right, region="cn-beijing").get, self.key)

    def properties(self):
        self.sdk.put(self.key, b"x", headers={"x-oss-storage-class": "IA", "x-oss-tagging": "a=1"})
        assert self.sdk.storage_class(self.key) == "IA"
        assert self.sdk.tags(self.key) == {"a": "1"}

    def delete_many(self):
        names = [self.prefix + "many/" + name for name in ["a", "b +&<>", "c"]]
        for name in names[:2]:
            self.sdk.put(name, b"x")
        assert sorted(self.sdk.delete_many(names)) == sorted(names)
        assert self.sdk.keys(self.prefix + "many/") == []

    def copy(self):
        data = os.urandom(1000)
        self.sdk.put(self.key, data, content_type="image/png")
        target = self.prefix + "copied é+"
        self.sdk.copy(self.key, target)
        assert self.sdk.get(target) == data
        assert self.sdk.head(target)["type"] == "image/png"
        self.sdk.delete(self.key)
        assert self.sdk.get(target) == data
        self.refused("NoSuchKey", self.sdk.copy, self.key, target)

    def part_copy(self):
        data = os.urandom(300 * KIB)
        self.sdk.put(self.key, data)
        target = self.prefix + "assembled"
        upload_id = self.sdk.initiate(target)
        first = self.sdk.part_copy(self.key, 0, 100 * KIB - 1, target, upload_id, 1)
        last = self.sdk.part_copy(self.key, 200 * KIB, 300 * KIB - 1, target, upload_id, 2)
        self.sdk.complete(target, upload_id, [(1, first), (2, last)])
        assert self.sdk.get(target) == data[: 100 * KIB] + data[200 * KIB :]

    def append(self):
        key = self.prefix + "grows"
        assert self.sdk.append(key, 0, b"12345") == 5
        assert self.sdk.append(key, 5, b"6789") == 9
        assert self.sdk.get(key) == b"123456789"
        assert self.sdk.head(key)["crc64"] == 0x995DC9BBDF1939FA
        self.refused("PositionNotEqualToLength", self.sdk.append, key, 5, b"x")

    def tagging(self):
        self.sdk.put(self.key, b"x")
        self.sdk.tag(self.key, {"a": "1", "b": "x y"})
        assert self.sdk.tags(self.key) == {"a": "1", "b": "x y"}
        self.sdk.untag(self.key)
        assert self.sdk.tags(self.key) == {}

    def acl(self):
        self.sdk.put(self.key, b"for all")
        url = f"{self.args.endpoint}/{self.args.bucket}/{urllib.parse.quote(self.key)}?"
        assert self.fetch(url)[0] == 403
        assert self.sdk.acl(self.key) == "default"
        self.sdk.set_acl(self.key, "public-read")
        assert self.sdk.acl(self.key) == "public-read"
        assert self.fetch(url.rstrip("?"))[:2] == (200, b"for all")

    def callback(self):
        with Receiver() as receiver:
            callback = {"callbackUrl": receiver.url, "callbackBody": "key=${object}&size=${size}&who=${x:who}"}
            told = self.sdk.put_with_callback(self.key, b"12345", encoded(callback), encoded({"x:who": "alice"}))
        expected = f"key={urllib.parse.quote(self.key, safe='')}&size=5&who=alice"
        assert receiver.bodies == [expected], receiver.bodies
        assert told == {"told": 1}, told

    def sts(self):
        sdk = self.client("sk2", key_id="STS.valid", token="token+/2==")
        if (self.args.sdk, self.args.signature) == ("v2", "v1"):
            # 1.4.1 sends the token in a header called security-token, which OSS's documents do not know.
            self.refused("InvalidAccessKeyId", sdk.put, self.key, b"by sts")
            raise Unable()
        sdk.put(self.key, b"by sts")
        assert sdk.get(self.key) == b"by sts"
        assert self.fetch(sdk.presigned_get(self.key))[:2] == (200, b"by sts")
        self.refused("SecurityTokenExpired", self.client("sk3", key_id="STS.expired", token="token3").get, self.key)
        self.refused("InvalidSecurityToken", self.client("sk2", key_id="STS.valid", token="token3").get, self.key)
        self.refused("InvalidAccessKeyId", self.client("sk2", key_id="STS.valid").get, self.key)

    def bucket_cors(self):
        self.sdk.set_cors("https://app.example", ["PUT", "GET"], ["ETag"])
        assert self.sdk.cors() == (["https://app.example"], ["PUT", "GET"], ["ETag"])
        self.sdk.set_cors("*", ["PUT", "GET", "POST"], ["ETag"])

    def bucket_info(self):
        assert self.sdk.bucket_region() == f"oss-{self.args.region}"


def encoded(parameter):
    return base64.b64encode(json.dumps(parameter).encode()).decode()


class Receiver:
    """Whom a callback tells."""

    def __enter__(self):
        receiver = self
        self.bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                answer = json.dumps({"told": len(receiver.bodies)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/told?by=oss"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


OPERATIONS = [
    Check.put_get_head_delete,
    Check.empty_object,
    Check.range_read,
    Check.list_objects,
    Check.multipart_upload,
    Check.complete_refused,
    Check.abort,
    Check.list_uploads,
    Check.resumable_upload,
    Check.presigned,
    Check.wrong_credentials,
    Check.properties,
    Check.delete_many,
    Check.copy,
    Check.part_copy,
    Check.append,
    Check.tagging,
    Check.acl,
    Check.callback,
    Check.sts,
    Check.bucket_cors,
    Check.bucket_info,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--sdk", choices=["oss2", "v2"], required=True)
    parser.add_argument("--signature", choices=["v1", "v4"], required=True)
    parser.add_argument("--bucket", default="bkt")
    parser.add_argument("--region", default="cn-hangzhou")
    parser.add_argument("--access-key-id", default="ak")
    parser.add_argument("--access-key-secret", default="sk")
    check = Check(parser.parse_args())
    failed = 0
    for operation in OPERATIONS:
        try:
            operation(check)
            print(f"ok    {operation.__name__}", flush=True)
        except Unable:
            print(f"none  {operation.__name__}", flush=True)
        except Exception:  # whatever it is, the others run too
            failed += 1
            print(f"FAIL  {operation.__name__}\n{traceback.format_exc()}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
