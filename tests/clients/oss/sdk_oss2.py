"""oss2, the SDK of version 1, behind the few calls that check.py makes."""

import json

import oss2
from oss2.models import PartInfo
from oss2.resumable import ResumableStore


class Sdk:
    Error = oss2.exceptions.OssError

    def __init__(self, endpoint, bucket, region, key_id, secret, signature, token=None):
        auth = {"v1": oss2.Auth, "v4": oss2.AuthV4}[signature](key_id, secret)
        if token:
            auth = oss2.StsAuth(key_id, secret, token, auth_version=signature)
        self.bucket = oss2.Bucket(auth, endpoint, bucket, region=region, connect_timeout=10)

    @staticmethod
    def code(error):
        return error.code

    def put(self, key, data, content_type=None, meta=None, headers=None):
        headers = dict(headers or {})
        headers |= {f"x-oss-meta-{name}": value for name, value in (meta or {}).items()}
        if content_type:
            headers["Content-Type"] = content_type
        result = self.bucket.put_object(key, data, headers=headers)
        return result.etag, result.crc

    def put_new(self, key, data):
        self.bucket.put_object(key, data, headers={"x-oss-forbid-overwrite": "true"})

    def get(self, key, first=None, last=None):
        wanted = None if first is None and last is None else (first, last)
        return self.bucket.get_object(key, byte_range=wanted).read()

    def head(self, key):
        result = self.bucket.head_object(key)
        return {
            "bytes": result.content_length,
            "etag": result.etag,
            "type": result.content_type,
            "crc64": int(result.headers["x-oss-hash-crc64ecma"]),
            "meta": result.headers.get("x-oss-meta-who"),
        }

    def exists(self, key):
        return self.bucket.object_exists(key)

    def delete(self, key):
        self.bucket.delete_object(key)

    def keys(self, prefix, page=2):
        return [o.key for o in oss2.ObjectIteratorV2(self.bucket, prefix=prefix, max_keys=page)]

    def keys_and_folders(self, prefix):
        return [o.key for o in oss2.ObjectIterator(self.bucket, prefix=prefix, delimiter="/", max_keys=1)]

    def initiate(self, key, content_type=None):
        headers = {"Content-Type": content_type} if content_type else None
        return self.bucket.init_multipart_upload(key, headers=headers).upload_id

    def part(self, key, upload_id, number, data):
        result = self.bucket.upload_part(key, upload_id, number, data)
        return result.etag, result.crc

    def part_with_md5(self, key, upload_id, number, data, md5):
        self.bucket.upload_part(key, upload_id, number, data, headers={"Content-MD5": md5})

    def parts(self, key, upload_id, page=2):
        found = oss2.PartIterator(self.bucket, key, upload_id, max_parts=page)
        return [(part.part_number, part.size, part.etag) for part in found]

    def uploads(self, prefix, page=1):
        found = oss2.MultipartUploadIterator(self.bucket, prefix=prefix, max_uploads=page)
        return [(upload.key, upload.upload_id) for upload in found]

    def complete(self, key, upload_id, parts):
        listed = [PartInfo(number, etag) for number, etag in parts]
        result = self.bucket.complete_multipart_upload(key, upload_id, listed)
        return result.etag, result.crc

    def complete_all(self, key, upload_id):
        headers = {"x-oss-complete-all": "yes"}
        return self.bucket.complete_multipart_upload(key, upload_id, None, headers=headers).etag

    def abort(self, key, upload_id):
        self.bucket.abort_multipart_upload(key, upload_id)

    def presigned_get(self, key):
        return self.bucket.sign_url("GET", key, 600, slash_safe=True)

    def presigned_part(self, key, upload_id, number):
        params = {"partNumber": str(number), "uploadId": upload_id}
        return self.bucket.sign_url("PUT", key, 600, params=params, slash_safe=True)

    def resumable(self, key, path, part_bytes, folder, progress):
        result = oss2.resumable_upload(
            self.bucket,
            key,
            path,
            store=ResumableStore(root=folder),
            multipart_threshold=part_bytes,
            part_size=part_bytes,
            num_threads=1,
            progress_callback=progress,
        )
        return result.etag

    def download(self, key, path):
        oss2.resumable_download(self.bucket, key, path, multiget_threshold=1 << 20, part_size=1 << 20)

    def storage_class(self, key):
        return self.bucket.head_object(key).headers["x-oss-storage-class"]

    def delete_many(self, keys):
        return self.bucket.batch_delete_objects(keys).deleted_keys

    def copy(self, source, target):
        self.bucket.copy_object(self.bucket.bucket_name, source, target)

    def part_copy(self, source, first, last, target, upload_id, number):
        return self.bucket.upload_part_copy(
            self.bucket.bucket_name, source, (first, last), target, upload_id, number
        ).etag

    def append(self, key, position, data):
        return self.bucket.append_object(key, position, data).next_position

    def tag(self, key, tags):
        rule = oss2.models.TaggingRule()
        for name, value in tags.items():
            rule.add(name, value)
        self.bucket.put_object_tagging(key, oss2.models.Tagging(rule))

    def tags(self, key):
        return dict(self.bucket.get_object_tagging(key).tag_set.tagging_rule)

    def untag(self, key):
        self.bucket.delete_object_tagging(key)

    def acl(self, key):
        return self.bucket.get_object_acl(key).acl

    def set_acl(self, key, acl):
        self.bucket.put_object_acl(key, acl)

    def put_with_callback(self, key, data, callback, variables):
        headers = {"x-oss-callback": callback, "x-oss-callback-var": variables}
        return json.loads(self.bucket.put_object(key, data, headers=headers).resp.read())

    def set_cors(self, origin, methods, exposed):
        rule = oss2.models.CorsRule(
            allowed_origins=[origin], allowed_methods=methods, allowed_headers=["*"], expose_headers=exposed
        )
        self.bucket.put_bucket_cors(oss2.models.BucketCors([rule]))

    def cors(self):
        rule = self.bucket.get_bucket_cors().rules[0]
        return rule.allowed_origins, rule.allowed_methods, rule.expose_headers

    def bucket_region(self):
        return self.bucket.get_bucket_info().location
