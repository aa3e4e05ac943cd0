//! Which operation a request is: pure.

use http::{HeaderMap, Method};

use super::address::value;
use super::error::OssError;
use crate::domain::PartNumber;

/// How many entries a list has at most, and unless it says otherwise.
const LIST_MAX: u32 = 1000;
const OBJECTS_DEFAULT: u32 = 100;

/// An operation of OSS, with what the query says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBuckets,
    PutBucket,
    GetBucketInfo,
    GetBucketLocation,
    ListObjects(ListObjects),
    ListMultipartUploads(ListUploads),
    InitiateMultipartUpload,
    UploadPart { upload_id: String, number: PartNumber },
    ListParts(ListParts),
    CompleteMultipartUpload { upload_id: String },
    AbortMultipartUpload { upload_id: String },
    PutObject,
    GetObject,
    HeadObject,
    GetObjectMeta,
    DeleteObject,
}

/// `GET /?list-type=2&…`, and the older `GET /?…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListObjects {
    pub second_version: bool,
    pub prefix: String,
    pub delimiter: String,
    /// Keys after this one: marker, start-after or continuation-token.
    pub after: String,
    pub keys_max: u32,
    pub url_encoded: bool,
}

/// `GET /?uploads&…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListUploads {
    pub prefix: String,
    pub key_marker: String,
    /// Counts only with a key marker.
    pub upload_id_marker: String,
    pub uploads_max: u32,
    pub url_encoded: bool,
}

/// `GET /key?uploadId=…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListParts {
    pub upload_id: String,
    pub marker: u32,
    pub parts_max: u32,
    pub url_encoded: bool,
}

type Query = [(String, String)];

impl Operation {
    /// On the service.
    pub(crate) fn on_service(method: &Method) -> Result<Self, OssError> {
        if method == Method::GET { Ok(Self::ListBuckets) } else { Err(OssError::not_implemented("this operation")) }
    }

    /// On a bucket.
    pub(crate) fn on_bucket(method: &Method, query: &Query) -> Result<Self, OssError> {
        let has = |name| value(query, name).is_some();
        let lists = |name: &str| {
            let list = ["list-type", "prefix", "delimiter", "marker", "start-after", "continuation-token", "max-keys"];
            list.contains(&name) || ["encoding-type", "fetch-owner"].contains(&name) || is_of_signature(name)
        };
        let plain = || query.iter().all(|(name, _)| lists(name));
        match *method {
            Method::GET if has("uploads") => Ok(Self::ListMultipartUploads(ListUploads::parse(query)?)),
            Method::GET if has("bucketInfo") => Ok(Self::GetBucketInfo),
            Method::GET if has("location") => Ok(Self::GetBucketLocation),
            Method::GET if plain() => Ok(Self::ListObjects(ListObjects::parse(query)?)),
            Method::PUT if plain() => Ok(Self::PutBucket),
            _ => Err(not_known(query)),
        }
    }

    /// On an object.
    pub(crate) fn on_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Self, OssError> {
        let upload_id = value(query, "uploadId").map(str::to_owned);
        let has = |name| value(query, name).is_some();
        if headers.contains_key("x-oss-copy-source") {
            return Err(OssError::not_implemented("copies"));
        }
        match (method, upload_id) {
            (&Method::POST, None) if has("uploads") => Ok(Self::InitiateMultipartUpload),
            (&Method::PUT, Some(upload_id)) => Ok(Self::UploadPart { upload_id, number: part_number(query)? }),
            (&Method::GET, Some(upload_id)) => Ok(Self::ListParts(ListParts::parse(upload_id, query)?)),
            (&Method::POST, Some(upload_id)) => Ok(Self::CompleteMultipartUpload { upload_id }),
            (&Method::DELETE, Some(upload_id)) => Ok(Self::AbortMultipartUpload { upload_id }),
            (&Method::GET | &Method::HEAD, None) if has("objectMeta") => Ok(Self::GetObjectMeta),
            (method, None) if query.iter().all(|(name, _)| is_of_object(name)) => match *method {
                Method::GET => Ok(Self::GetObject),
                Method::HEAD => Ok(Self::HeadObject),
                Method::PUT => Ok(Self::PutObject),
                Method::DELETE => Ok(Self::DeleteObject),
                _ => Err(not_known(query)),
            },
            _ => Err(not_known(query)),
        }
    }
}

/// The parameters that carry a signature.
fn is_of_signature(name: &str) -> bool {
    name.starts_with("x-oss-") || ["OSSAccessKeyId", "Expires", "Signature", "security-token"].contains(&name)
}

/// The parameters that leave reading and writing an object what they are.
fn is_of_object(name: &str) -> bool {
    is_of_signature(name) || name.starts_with("response-") || name == "encoding-type"
}

fn not_known(query: &Query) -> OssError {
    let names: Vec<_> = query.iter().map(|(name, _)| name.as_str()).filter(|name| !is_of_signature(name)).collect();
    OssError::not_implemented(&if names.is_empty() { "this method".to_owned() } else { names.join("&") })
}

impl ListObjects {
    fn parse(query: &Query) -> Result<Self, OssError> {
        let second_version = value(query, "list-type") == Some("2");
        let text = |name| value(query, name).unwrap_or_default().to_owned();
        let after = match (second_version, value(query, "continuation-token")) {
            (true, Some(token)) => continuation_key(token)?,
            (true, None) => text("start-after"),
            (false, _) => text("marker"),
        };
        Ok(Self {
            second_version,
            prefix: text("prefix"),
            delimiter: text("delimiter"),
            after,
            keys_max: number(query, "max-keys", 1, OBJECTS_DEFAULT)?,
            url_encoded: url_encoded(query)?,
        })
    }
}

/// A continuation token is the last key in hex: nothing that needs encoding.
pub(crate) fn continuation_token(last_key: &str) -> String {
    hex::encode(last_key)
}

fn continuation_key(token: &str) -> Result<String, OssError> {
    let key = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| OssError::invalid_argument("The continuation token is invalid.", "continuation-token", token))
}

impl ListUploads {
    fn parse(query: &Query) -> Result<Self, OssError> {
        let text = |name| value(query, name).unwrap_or_default().to_owned();
        Ok(Self {
            prefix: text("prefix"),
            key_marker: text("key-marker"),
            upload_id_marker: text("upload-id-marker"),
            uploads_max: number(query, "max-uploads", 1, LIST_MAX)?,
            url_encoded: url_encoded(query)?,
        })
    }
}

impl ListParts {
    fn parse(upload_id: String, query: &Query) -> Result<Self, OssError> {
        Ok(Self {
            upload_id,
            marker: match value(query, "part-number-marker") {
                None | Some("") => 0,
                Some(text) => text.parse().map_err(|_| {
                    OssError::invalid_argument("Argument part-number-marker is invalid.", "part-number-marker", text)
                })?,
            },
            parts_max: number(query, "max-parts", 1, LIST_MAX)?,
            url_encoded: url_encoded(query)?,
        })
    }
}

fn part_number(query: &Query) -> Result<PartNumber, OssError> {
    let text = value(query, "partNumber").unwrap_or_default();
    text.parse().ok().and_then(PartNumber::new).ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive.";
        OssError::invalid_argument(message, "partNumber", text).ec("0017-00000220")
    })
}

fn number(query: &Query, name: &'static str, min: u32, default: u32) -> Result<u32, OssError> {
    let Some(text) = value(query, name).filter(|text| !text.is_empty()) else { return Ok(default) };
    match text.parse() {
        Ok(number) if (min..=LIST_MAX).contains(&number) => Ok(number),
        _ => Err(OssError::invalid_argument(
            format!("Argument {name} must be an integer between {min} and {LIST_MAX}."),
            name,
            text,
        )),
    }
}

fn url_encoded(query: &Query) -> Result<bool, OssError> {
    match value(query, "encoding-type") {
        None | Some("") => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(OssError::invalid_argument("Invalid Encoding Method specified.", "encoding-type", other)),
    }
}

#[cfg(test)]
mod tests {
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
            (Method::HEAD, "", Operation::HeadObject),
            (Method::GET, "response-content-type=a&OSSAccessKeyId=a&Expires=1&Signature=b", Operation::GetObject),
            (Method::PUT, "x-oss-date=a&x-oss-signature=b", Operation::PutObject),
            (Method::DELETE, "", Operation::DeleteObject),
        ] {
            assert_eq!(on_object(method.clone(), query), Ok(expected), "{method} {query}");
        }
        for (method, query) in [(Method::GET, "acl"), (Method::POST, "append&position=0"), (Method::PUT, "tagging")] {
            assert_eq!(on_object(method, query).map_err(|e| e.code), Err("NotImplemented"), "{query}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        for query in ["uploadId=U", "uploadId=U&partNumber=0", "uploadId=U&partNumber=10001", "uploadId=U&partNumber=x"]
        {
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
        assert!(list("acl").is_err());
    }
}
