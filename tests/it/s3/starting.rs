//! A gateway that cannot use its S3 says why before it serves anybody.

use std::path::Path;

use super::servers::{KEY_ID, SECRET, Server};
use crate::bad_config::Start;
use crate::harness::{Gateway, On};

fn with_s3<'a>(folder: &'a Path, endpoint: &str, bucket: &str) -> Start<'a> {
    let start = Start::new(folder, &[]).with("STORE__KIND", "s3").with("STORE__S3__ENDPOINT", endpoint);
    start.with("STORE__S3__BUCKET", bucket)
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = Start::new(folder.path(), &[]).with("STORE__KIND", "s3");
    let told = ["3 things", "store.s3.endpoint: must be set", "s3.eu-central-1.amazonaws.com"];
    none.fails(2, &[&told[..], &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]].concat());
    let keyed = |endpoint, bucket| {
        with_s3(folder.path(), endpoint, bucket).with("AWS_ACCESS_KEY_ID", "ak").with("AWS_SECRET_ACCESS_KEY", "sk")
    };
    keyed("ftp://minio", "bkt").fails(2, &["store.s3.endpoint", "http or https"]);
    keyed("http://ak:hunter2-hunter2@minio", "bkt").fails(2, &["store.s3.endpoint"]);
    keyed("http://127.0.0.1:9", "B!").fails(2, &["store.s3.bucket = \"B!\"", "3 to 63"]);
    keyed("http://127.0.0.1:9", "").fails(2, &["store.s3.bucket: must be set"]);
    keyed("http://127.0.0.1:9", "bkt").with("STORE__S3__PROOF", "crc").fails(2, &["store.s3.proof", "`crc64nvme`"]);
    keyed("http://127.0.0.1:9", "bkt").with("STORE__S3__BUKET", "b").fails(2, &["did you mean", "BUCKET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_named_with_its_remedy() {
    let server = Server::versitygw().await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = |bucket, id: &str, secret: &str| {
        let start = with_s3(folder.path(), &server.endpoint, bucket);
        start.with("AWS_ACCESS_KEY_ID", id).with("AWS_SECRET_ACCESS_KEY", secret)
    };
    let place = format!("bucket bkt at {}", server.endpoint);
    start("bkt", KEY_ID, "hunter2-hunter2")
        .fails(1, &[&place, "SignatureDoesNotMatch", "request id", "store.s3.access_key_secret"]);
    // With a code of versitygw's own.
    start("bkt", "who", SECRET).fails(1, &[&place, "access key ID"]);
    start("other", KEY_ID, SECRET).fails(1, &["bucket other", "NoSuchBucket", "store.s3.bucket"]);
    let elsewhere = start("bkt", KEY_ID, SECRET).with("STORE__S3__REGION", "eu-west-1");
    elsewhere.fails(1, &[&place, "us-east-1", "store.s3.region"]);
    // Somebody answers, but not as S3 does: another gateway's page.
    let other = Gateway::start(On::FileAndSqlite).await;
    let start = with_s3(folder.path(), &other.url(""), "bkt").with("AWS_ACCESS_KEY_ID", "ak");
    start
        .with("AWS_SECRET_ACCESS_KEY", "sk")
        .fails(1, &["Http404", "this does not answer like S3: check store.s3.endpoint"]);
}
