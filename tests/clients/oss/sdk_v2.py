"""alibabacloud-oss-v2 behind the few calls that check.py makes."""

import datetime

import alibabacloud_oss_v2 as oss


class Sdk:
    Error = oss.exceptions.BaseError

    def __init__(self, endpoint, bucket, region, key_id, secret, signature):
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(key_id, secret)
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

    def put(self, key, data, content_type=None, meta=None):
        result = self.client.put_object(
            oss.PutObjectRequest(self.bucket, key, body=data, content_type=content_type, metadata=meta)
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

    def bucket_region(self):
        return self.client.get_bucket_info(oss.GetBucketInfoRequest(self.bucket)).bucket_info.location
