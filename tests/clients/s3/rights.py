"""Makes somebody on an S3 server who may do all that a gateway does but one thing.

rights.py KIND ENDPOINT KEY_ID SECRET ACTION: an access key and its secret are
printed. On versitygw, `KEY_ID` is somebody who is there already.
"""

import json
import sys
import urllib.request

import boto3

BUCKET = "bkt"
OF_OBJECTS = [
    "s3:PutObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
]
OF_BUCKET = ["s3:ListBucketMultipartUploads"]

kind, endpoint, key_id, secret, left_out = sys.argv[1:]


def client(service, key_id, secret):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )


def statements():
    arn = f"arn:aws:s3:::{BUCKET}"
    for actions, resource in [(OF_OBJECTS, f"{arn}/*"), (OF_BUCKET, arn)]:
        allowed = [action for action in actions if action != left_out]
        if allowed:
            yield {"Effect": "Allow", "Action": allowed, "Resource": resource}


if kind == "versitygw":
    root_id, root_secret = "ak", "only-for-tests"
    policy = [{**statement, "Principal": {"AWS": key_id}} for statement in statements()]
    document = json.dumps({"Version": "2012-10-17", "Statement": policy})
    client("s3", root_id, root_secret).put_bucket_policy(Bucket=BUCKET, Policy=document)
else:
    # Whoever asks so often is let do anything; from then on it asks who they are.
    def ask_for_keys_after(requests):
        url = f"{endpoint}/moto-api/reset-auth"
        body, kind = str(requests).encode(), {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, data=body, headers=kind, method="POST")).read()

    ask_for_keys_after(1000)
    iam = client("iam", key_id, secret)
    name = f"without-{left_out.replace(':', '-')}"
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    key_id, secret = made["AccessKeyId"], made["SecretAccessKey"]
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements())})
    iam.put_user_policy(UserName=name, PolicyName="uploads", PolicyDocument=document)
    ask_for_keys_after(0)

print(key_id, secret)
