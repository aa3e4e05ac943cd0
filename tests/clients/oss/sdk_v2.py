"""alibabacloud-oss-v2 behind the few calls that check.py makes."""

import datetime
import json

import alibabacloud_oss_v2 as oss


class Sdk:
    Error = oss.exceptions.BaseError

    def __init__(self, endpoint, bucket, region, key_id, secret, signature, token=None):
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(key_id, secret, token)
        config.region = region
        config.endpoint = endpoint
        config.signature_version = signature
        config.use_path_style = True
        config.retry_max_attempts = 1
        self.client = oss.Client(config)
        self.bucket = bucket

    @staticmethod
    def code(error):
        while error is not None and not isinstance(error, oss.exceptions.ServiceError):
            error = getattr(error, "_error", None) or error.unwrap()
        return error.code

    def put(self, key, data, content_type=None, meta=None, headers=None):
        result = self.client.put_object(
            oss.PutObjectRequest(
                self.bucket, key, body=data, content_type=content_type, metadata=meta, headers=headers or {}
            )
        )
        return result.etag.strip('"'), int(result.hash_crc64)

    def put_new(self, key, data):
        self.client.put_object(oss.PutObjectRequest(self.bucket, key, body=data, forbid_overwrite=True))

    def get(self, key, first=None, last=None):
        wanted = None
        if first is not None or last is not None:
            wanted = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        request = oss.GetObjectRequest(self.bucket, key, range_header=wanted)
        with self.client.get_object(request).body as body:
            return body.read()

    def head(self, key):
        result = self.client.head_object(oss.HeadObjectRequest(self.bucket, key))
        return {
            "bytes": result.content_length,
            "etag": result.etag.strip('"'),
            "type": result.content_type,
            "crc64": int(result.hash_crc64),
            "meta": (result.metadata or {}).get("who"),
        }

    def exists(self, key):
        return self.client.is_object_exist(self.bucket, key)

    def delete(self, key):
        self.client.delete_object(oss.DeleteObjectRequest(self.bucket, key))

    def keys(self, prefix, page=2):
        pages = self.client.list_objects_v2_paginator()
        request = oss.ListObjectsV2Request(self.bucket, prefix=prefix, max_keys=page)
        return [o.key for page in pages.iter_page(request) for o in page.contents or []]

    def keys_and_folders(self, prefix):
        pages = self.client.list_objects_paginator()
        request = oss.ListObjectsRequest(self.bucket, prefix=prefix, delimiter="/", max_keys=1)
        names = []
        for page in pages.iter_page(request):
            names += [o.key for o in page.contents or []] + [p.prefix for p in page.common_prefixes or []]
        return names

    def initiate(self, key, content_type=None):
        request = oss.InitiateMultipartUploadRequest(self.bucket, key, content_type=content_type)
        return self.client.initiate_multipart_upload(request).upload_id

    def part(self, key, upload_id, number, data):
        result = self.client.upload_part(
            oss.UploadPartRequest(self.bucket, key, part_number=number, upload_id=upload_id, body=data)
        )
        return result.etag.strip('"'), int(result.hash_crc64)

    def part_with_md5(self, key, upload_id, number, data, md5):
        self.client.upload_part(
            oss.UploadPartRequest(
                self.bucket, key, part_number=number, upload_id=upload_id, body=data, content_md5=md5
            )
        )

    def parts(self, key, upload_id, page=2):
        pages = self.client.list_parts_paginator()
        request = oss.ListPartsRequest(self.bucket, key, upload_id=upload_id, max_parts=page)
        found = [part for page in pages.iter_page(request) for part in page.parts or []]
        return [(part.part_number, part.size, part.etag.strip('"')) for part in found]

    def uploads(self, prefix, page=1):
        pages = self.client.list_multipart_uploads_paginator()
        request = oss.ListMultipartUploadsRequest(self.bucket, prefix=prefix, max_uploads=page)
        found = [upload for page in pages.iter_page(request) for upload in page.uploads or []]
        return [(upload.key, upload.upload_id) for upload in found]

    def complete(self, key, upload_id, parts):
        listed = [oss.UploadPart(part_number=number, etag=etag) for number, etag in parts]
        result = self.client.complete_multipart_upload(
            oss.CompleteMultipartUploadRequest(
                self.bucket,
                key,
                upload_id=upload_id,
                complete_multipart_upload=oss.CompleteMultipartUpload(parts=listed),
            )
        )
        return result.etag.strip('"'), int(result.hash_crc64)

    def complete_all(self, key, upload_id):
        result = self.client.complete_multipart_upload(
            oss.CompleteMultipartUploadRequest(self.bucket, key, upload_id=upload_id, complete_all="yes")
        )
        return result.etag.strip('"')

    def abort(self, key, upload_id):
        self.client.abort_multipart_upload(oss.AbortMultipartUploadRequest(self.bucket, key, upload_id=upload_id))

    def presigned_get(self, key):
        life = datetime.timedelta(minutes=10)
        return self.client.presign(oss.GetObjectRequest(self.bucket, key), expires=life).url

    def presigned_part(self, key, upload_id, number):
        request = oss.UploadPartRequest(self.bucket, key, part_number=number, upload_id=upload_id)
        return self.client.presign(request, expires=datetime.timedelta(minutes=10)).url

    def resumable(self, key, path, part_bytes, folder, progress):
        def progressed(_, sent, total):
            progress(sent, total)

        uploader = self.client.uploader(
            part_size=part_bytes, parallel_num=1, enable_checkpoint=True, checkpoint_dir=folder
        )
        request = oss.PutObjectRequest(self.bucket, key, progress_fn=progressed)
        return uploader.upload_file(request, path).etag.strip('"')

    def download(self, key, path):
        self.client.downloader(part_size=1 << 20).download_file(oss.GetObjectRequest(self.bucket, key), path)

    def storage_class(self, key):
        return self.client.head_object(oss.HeadObjectRequest(self.bucket, key)).storage_class

    def delete_many(self, keys):
        objects = [oss.DeleteObject(key=key) for key in keys]
        request = oss.DeleteMultipleObjectsRequest(self.bucket, encoding_type="url", objects=objects)
        return [deleted.key for deleted in self.client.delete_multiple_objects(request).deleted_objects]

    def copy(self, source, target):
        self.client.copy_object(
            oss.CopyObjectRequest(self.bucket, target, source_bucket=self.bucket, source_key=source)
        )

    def part_copy(self, source, first, last, target, upload_id, number):
        request = oss.UploadPartCopyRequest(
            self.bucket,
            target,
            part_number=number,
            upload_id=upload_id,
            source_bucket=self.bucket,
            source_key=source,
            source_range=f"bytes={first}-{last}",
        )
        return self.client.upload_part_copy(request).etag.strip('"')

    def append(self, key, position, data):
        request = oss.AppendObjectRequest(self.bucket, key, position=position, body=data)
        return int(self.client.append_object(request).next_position)

    def tag(self, key, tags):
        tags = [oss.Tag(key=name, value=value) for name, value in tags.items()]
        tagging = oss.Tagging(tag_set=oss.TagSet(tags=tags))
        self.client.put_object_tagging(oss.PutObjectTaggingRequest(self.bucket, key, tagging=tagging))

    def tags(self, key):
        result = self.client.get_object_tagging(oss.GetObjectTaggingRequest(self.bucket, key))
        return {tag.key: tag.value for tag in result.tag_set.tags or []}

    def untag(self, key):
        self.client.delete_object_tagging(oss.DeleteObjectTaggingRequest(self.bucket, key))

    def acl(self, key):
        return self.client.get_object_acl(oss.GetObjectAclRequest(self.bucket, key)).acl

    def set_acl(self, key, acl):
        self.client.put_object_acl(oss.PutObjectAclRequest(self.bucket, key, acl=acl))

    def put_with_callback(self, key, data, callback, variables):
        request = oss.PutObjectRequest(
            self.bucket, key, body=data, callback=callback, callback_var=variables
        )
        told = self.client.put_object(request).callback_result
        return json.loads(told) if isinstance(told, (str, bytes)) else told

    def set_cors(self, origin, methods, exposed):
        rule = oss.CORSRule(
            allowed_origins=[origin], allowed_methods=methods, allowed_headers=["*"], expose_headers=exposed
        )
        configuration = oss.CORSConfiguration(cors_rules=[rule])
        self.client.put_bucket_cors(oss.PutBucketCorsRequest(self.bucket, cors_configuration=configuration))

    def cors(self):
        rules = self.client.get_bucket_cors(oss.GetBucketCorsRequest(self.bucket)).cors_configuration.cors_rules
        return rules[0].allowed_origins, rules[0].allowed_methods, rules[0].expose_headers

    def bucket_region(self):
        return self.client.get_bucket_info(oss.GetBucketInfoRequest(self.bucket)).bucket_info.location
