//! Which operation a request is: pure.

use http::{HeaderMap, Method};

use super::address::{copy_source, value};
use super::error::OssError;
use super::storage::Setting;
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
    GetBucketStat,
    GetBucketAcl,
    GetBucketSetting(Setting),
    PutBucketSetting(Setting),
    DeleteBucketSetting(Setting),
    ListObjects(ListObjects),
    ListMultipartUploads(ListUploads),
    InitiateMultipartUpload,
    UploadPart { upload_id: String, number: PartNumber },
    ListParts(ListParts),
    CompleteMultipartUpload { upload_id: String },
    AbortMultipartUpload { upload_id: String },
    UploadPartCopy { upload_id: String, number: PartNumber, source: CopySource },
    PutObject,
    PostObject,
    AppendObject { position: u64 },
    CopyObject(CopySource),
    GetObject,
    HeadObject,
    GetObjectMeta,
    DeleteObject,
    DeleteMultipleObjects,
    GetObjectAcl,
    PutObjectAcl,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
}

/// `x-oss-copy-source`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopySource {
    pub bucket: String,
    pub key: String,
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
    pub with_owner: bool,
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
        if let Some(setting) = Setting::ALL.into_iter().find(|setting| has(setting.name())) {
            return match *method {
                Method::GET => Ok(Self::GetBucketSetting(setting)),
                Method::PUT => Ok(Self::PutBucketSetting(setting)),
                Method::DELETE => Ok(Self::DeleteBucketSetting(setting)),
                _ => Err(not_known(query)),
            };
        }
        match *method {
            Method::POST if has("delete") => Ok(Self::DeleteMultipleObjects),
            Method::GET if has("acl") => Ok(Self::GetBucketAcl),
            Method::GET if has("stat") => Ok(Self::GetBucketStat),
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
        let source =
            headers.get("x-oss-copy-source").map(|value| CopySource::parse(value.to_str().unwrap_or_default()));
        match (method, upload_id) {
            (&Method::POST, None) if has("uploads") => Ok(Self::InitiateMultipartUpload),
            (&Method::PUT, Some(upload_id)) => {
                let number = part_number(query)?;
                match source {
                    None => Ok(Self::UploadPart { upload_id, number }),
                    Some(source) => Ok(Self::UploadPartCopy { upload_id, number, source: source? }),
                }
            }
            (&Method::GET, Some(upload_id)) => Ok(Self::ListParts(ListParts::parse(upload_id, query)?)),
            (&Method::POST, Some(upload_id)) => Ok(Self::CompleteMultipartUpload { upload_id }),
            (&Method::DELETE, Some(upload_id)) => Ok(Self::AbortMultipartUpload { upload_id }),
            (&Method::POST, None) if has("append") => Ok(Self::AppendObject { position: position(query)? }),
            (&Method::GET, None) if has("acl") => Ok(Self::GetObjectAcl),
            (&Method::PUT, None) if has("acl") => Ok(Self::PutObjectAcl),
            (&Method::GET, None) if has("tagging") => Ok(Self::GetObjectTagging),
            (&Method::PUT, None) if has("tagging") => Ok(Self::PutObjectTagging),
            (&Method::DELETE, None) if has("tagging") => Ok(Self::DeleteObjectTagging),
            (&Method::GET | &Method::HEAD, None) if has("objectMeta") => Ok(Self::GetObjectMeta),
            (method, None) if query.iter().all(|(name, _)| is_of_object(name)) => match *method {
                Method::GET => Ok(Self::GetObject),
                Method::HEAD => Ok(Self::HeadObject),
                Method::PUT => source.map_or(Ok(Self::PutObject), |source| source.map(Self::CopyObject)),
                Method::DELETE => Ok(Self::DeleteObject),
                _ => Err(not_known(query)),
            },
            _ => Err(not_known(query)),
        }
    }
}

impl Operation {
    /// As OSS calls it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::PutBucket => "PutBucket",
            Self::GetBucketInfo => "GetBucketInfo",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::GetBucketStat => "GetBucketStat",
            Self::GetBucketAcl => "GetBucketAcl",
            Self::GetBucketSetting(setting) => setting.operations()[0],
            Self::PutBucketSetting(setting) => setting.operations()[1],
            Self::DeleteBucketSetting(setting) => setting.operations()[2],
            Self::ListObjects(_) => "ListObjects",
            Self::ListMultipartUploads(_) => "ListMultipartUploads",
            Self::InitiateMultipartUpload => "InitiateMultipartUpload",
            Self::UploadPart { .. } => "UploadPart",
            Self::UploadPartCopy { .. } => "UploadPartCopy",
            Self::ListParts(_) => "ListParts",
            Self::CompleteMultipartUpload { .. } => "CompleteMultipartUpload",
            Self::AbortMultipartUpload { .. } => "AbortMultipartUpload",
            Self::PutObject => "PutObject",
            Self::PostObject => "PostObject",
            Self::AppendObject { .. } => "AppendObject",
            Self::CopyObject(_) => "CopyObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::GetObjectMeta => "GetObjectMeta",
            Self::DeleteObject => "DeleteObject",
            Self::DeleteMultipleObjects => "DeleteMultipleObjects",
            Self::GetObjectAcl => "GetObjectAcl",
            Self::PutObjectAcl => "PutObjectAcl",
            Self::GetObjectTagging => "GetObjectTagging",
            Self::PutObjectTagging => "PutObjectTagging",
            Self::DeleteObjectTagging => "DeleteObjectTagging",
        }
    }
}

impl CopySource {
    fn parse(text: &str) -> Result<Self, OssError> {
        copy_source(text).map(|(bucket, key)| Self { bucket, key })
    }
}

fn position(query: &Query) -> Result<u64, OssError> {
    let text = value(query, "position").unwrap_or_default();
    text.parse().map_err(|_| OssError::invalid_argument("Argument position is invalid.", "position", text))
}

/// The parameters that carry a signature, or what it lets the bearer ask for.
fn is_of_signature(name: &str) -> bool {
    let plain = ["OSSAccessKeyId", "Expires", "Signature", "security-token", "callback", "callback-var"];
    name.starts_with("x-oss-") || plain.contains(&name)
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
            with_owner: !second_version || value(query, "fetch-owner") == Some("true"),
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
mod tests;
