"""What oss2, the official SDK, finds of an object.

    object.py --endpoint http://127.0.0.1:9000 show KEY     all of it, as JSON
    object.py --endpoint http://127.0.0.1:9000 begun        the keys of uploads that were begun
    object.py --endpoint http://127.0.0.1:9000 put KEY      puts something of its own there
"""

import argparse
import hashlib
import json

import oss2

parser = argparse.ArgumentParser()
parser.add_argument("--endpoint", required=True)
parser.add_argument("what", choices=["show", "begun", "put"])
parser.add_argument("key", nargs="?")
args = parser.parse_args()
bucket = oss2.Bucket(oss2.AuthV4("ak", "sk"), args.endpoint, "bkt", region="cn-hangzhou", connect_timeout=10)

if args.what == "begun":
    print(json.dumps([upload.key for upload in oss2.MultipartUploadIterator(bucket)]))
elif args.what == "put":
    bucket.put_object(args.key, b"theirs")
else:
    head = bucket.head_object(args.key)
    headers = {name.lower(): value for name, value in head.headers.items()}
    listed = next(found for found in oss2.ObjectIteratorV2(bucket, prefix=args.key) if found.key == args.key)
    print(
        json.dumps(
            {
                "headers": headers,
                "listedClass": listed.storage_class,
                "tags": dict(bucket.get_object_tagging(args.key).tag_set.tagging_rule),
                "acl": bucket.get_object_acl(args.key).acl,
                "sha256": hashlib.sha256(bucket.get_object(args.key).read()).hexdigest(),
            }
        )
    )
