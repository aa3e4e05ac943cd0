use super::*;
use crate::emulator::address::query_pairs;

fn on_object(method: Method, query: &str) -> Result<Operation, OssError> {
    Operation::on_object(&method, &query_pairs(query), &HeaderMap::new())
}

#[test]
fn method_and_query_tell_the_operation() {
    let id = || "U".to_owned();
    let number = PartNumber::new(7).expect("a number");
    for (method, query, expected) in [
        (Method::POST, "uploads", Operation::InitiateMultipartUpload),
        (Method::PUT, "partNumber=7&uploadId=U", Operation::UploadPart { upload_id: id(), number }),
        (Method::POST, "uploadId=U&encoding-type=url", Operation::CompleteMultipartUpload { upload_id: id() }),
        (Method::DELETE, "uploadId=U", Operation::AbortMultipartUpload { upload_id: id() }),
        (Method::GET, "objectMeta", Operation::GetObjectMeta),
        (Method::GET, "acl", Operation::GetObjectAcl),
        (Method::PUT, "tagging", Operation::PutObjectTagging),
        (Method::POST, "append&position=7", Operation::AppendObject { position: 7 }),
        (Method::HEAD, "", Operation::HeadObject),
        (Method::GET, "response-content-type=a&OSSAccessKeyId=a&Expires=1&Signature=b", Operation::GetObject),
        (Method::PUT, "x-oss-date=a&x-oss-signature=b", Operation::PutObject),
        (Method::DELETE, "", Operation::DeleteObject),
    ] {
        assert_eq!(on_object(method.clone(), query), Ok(expected), "{method} {query}");
    }
    for (method, query) in [(Method::GET, "symlink"), (Method::POST, "restore"), (Method::PUT, "versionId=1")] {
        assert_eq!(on_object(method, query).map_err(|e| e.code), Err("NotImplemented"), "{query}");
    }
}

#[test]
fn numbers_out_of_bounds_are_refused() {
    for query in ["uploadId=U", "uploadId=U&partNumber=0", "uploadId=U&partNumber=10001", "uploadId=U&partNumber=x"] {
        assert_eq!(on_object(Method::PUT, query).map_err(|e| e.code), Err("InvalidArgument"), "{query}");
    }
    for query in ["max-parts=0", "max-parts=1001", "part-number-marker=-1", "encoding-type=hex"] {
        let query = format!("uploadId=U&{query}");
        assert_eq!(on_object(Method::GET, &query).map_err(|e| e.code), Err("InvalidArgument"), "{query}");
    }
    let expected = ListParts { upload_id: "U".to_owned(), marker: 3, parts_max: 1, url_encoded: true };
    let query = "uploadId=U&max-parts=1&part-number-marker=3&encoding-type=url";
    assert_eq!(on_object(Method::GET, query), Ok(Operation::ListParts(expected)));
}

#[test]
fn both_lists_know_where_to_go_on() {
    let list = |query: &str| match Operation::on_bucket(&Method::GET, &query_pairs(query)) {
        Ok(Operation::ListObjects(list)) => Ok((list.second_version, list.after, list.keys_max)),
        other => Err(format!("{other:?}")),
    };
    assert_eq!(list("prefix=a&marker=k&max-keys=5"), Ok((false, "k".to_owned(), 5)));
    assert_eq!(list("list-type=2&start-after=k"), Ok((true, "k".to_owned(), 100)));
    let token = continuation_token("k/é");
    assert_eq!(
        list(&format!("list-type=2&start-after=k&continuation-token={token}")),
        Ok((true, "k/é".to_owned(), 100))
    );
    assert!(list("list-type=2&continuation-token=zz").is_err());
    assert!(list("versioning").is_err());
}

#[test]
fn a_source_makes_a_copy() {
    let source = CopySource { bucket: "bkt".to_owned(), key: "a b".to_owned() };
    let number = PartNumber::new(7).expect("a number");
    let headers =
        HeaderMap::from_iter([("x-oss-copy-source".parse().expect("a name"), "/bkt/a%20b".parse().expect("a value"))]);
    let of = |method: &Method, query: &str| Operation::on_object(method, &query_pairs(query), &headers);
    assert_eq!(of(&Method::PUT, ""), Ok(Operation::CopyObject(source.clone())));
    let part = Operation::UploadPartCopy { upload_id: "U".to_owned(), number, source };
    assert_eq!(of(&Method::PUT, "partNumber=7&uploadId=U"), Ok(part));
}

#[test]
fn a_buckets_sub_resources_are_told_apart() {
    let of = |method: Method, query: &str| Operation::on_bucket(&method, &query_pairs(query)).map(|o| o.name());
    for (method, query, expected) in [
        (Method::POST, "delete", Ok("DeleteMultipleObjects")),
        (Method::POST, "delete&encoding-type=url", Ok("DeleteMultipleObjects")),
        (Method::GET, "acl", Ok("GetBucketAcl")),
        (Method::GET, "stat", Ok("GetBucketStat")),
        (Method::PUT, "cors", Ok("PutBucketCors")),
        (Method::DELETE, "lifecycle", Ok("DeleteBucketLifecycle")),
        (Method::PUT, "", Ok("PutBucket")),
    ] {
        assert_eq!(of(method, query).map_err(|e| e.code), expected, "{query}");
    }
    assert_eq!(of(Method::POST, "cors").map_err(|e| e.code), Err("NotImplemented"));
}
