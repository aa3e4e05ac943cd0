//! What OSS says when it refuses: the codes that SDKs know.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use quick_xml::escape::escape;

use super::storage::{Setting, StorageError};

/// The error in base64, where an answer has no body.
const ERR_HEADER: HeaderName = HeaderName::from_static("x-oss-err");
/// Where an object ends that can grow.
pub(crate) const NEXT_APPEND_HEADER: HeaderName = HeaderName::from_static("x-oss-next-append-position");
const EC_HEADER: HeaderName = HeaderName::from_static("x-oss-ec");
/// Where OSS's own number of an error is not known to us.
const EC_UNKNOWN: &str = "0000-00000000";

/// A refusal in OSS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OssError {
    /// HTTP status.
    pub status: StatusCode,
    /// `NoSuchKey`
    pub code: &'static str,
    /// A sentence.
    pub message: Cow<'static, str>,
    /// The number that OSS's support pages are filed under.
    pub ec: &'static str,
    /// Further elements: `<StringToSign>` and the like.
    pub details: Vec<(&'static str, String)>,
    /// Where an object ends that was not appended to.
    pub next_append_position: Option<u64>,
}

impl OssError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), ec: EC_UNKNOWN, details: Vec::new(), next_append_position: None }
    }

    /// With OSS's number.
    pub(crate) const fn ec(mut self, ec: &'static str) -> Self {
        self.ec = ec;
        self
    }

    /// With one more element.
    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    pub(crate) fn invalid_argument(message: impl Into<Cow<'static, str>>, name: &str, value: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    pub(crate) fn access_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    /// Nobody says who asks, and the bucket is private.
    pub(crate) fn anonymous() -> Self {
        Self::access_denied("You have no right to access this object because of bucket acl.").ec("0003-00000001")
    }

    pub(crate) fn callback_failed(why: String) -> Self {
        Self::new(StatusCode::NON_AUTHORITATIVE_INFORMATION, "CallbackFailed", why).ec("0007-00000203")
    }

    pub(crate) fn no_such_setting(setting: Setting, bucket: &str) -> Self {
        let message = format!("The bucket has no {} of its own.", setting.name());
        Self::new(StatusCode::NOT_FOUND, setting.code_of_none(), message).detail("BucketName", bucket)
    }

    pub(crate) fn entity_too_small(bytes: u64, bytes_min: u64) -> Self {
        let message = "Your proposed upload smaller than the minimum allowed size.";
        Self::new(StatusCode::BAD_REQUEST, "EntityTooSmall", message)
            .detail("ProposedSize", bytes.to_string())
            .detail("MinSizeAllowed", bytes_min.to_string())
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        let message = format!("The emulator does not implement {what}.");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    pub(crate) fn invalid_object_name() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidObjectName", "The specified object is not valid.")
            .ec("0016-00000005")
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.")
            .ec("0015-00000101")
            .detail("BucketName", bucket)
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
            .ec("0026-00000001")
            .detail("Key", key)
    }

    pub(crate) fn no_such_upload(upload_id: &str) -> Self {
        let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                       aborted or completed.";
        Self::new(StatusCode::NOT_FOUND, "NoSuchUpload", message).ec("0042-00000104").detail("UploadId", upload_id)
    }

    pub(crate) fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", message)
    }

    pub(crate) fn invalid_digest() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.")
    }

    pub(crate) fn entity_too_large(bytes_max: u64) -> Self {
        let message = "Your proposed upload exceeds the maximum allowed object size.";
        Self::new(StatusCode::BAD_REQUEST, "EntityTooLarge", message).detail("MaxSizeAllowed", bytes_max.to_string())
    }

    pub(crate) fn incomplete_body() -> Self {
        let message = "You did not provide the number of bytes specified by the Content-Length HTTP header.";
        Self::new(StatusCode::BAD_REQUEST, "IncompleteBody", message)
    }

    pub(crate) fn precondition_failed(condition: &str) -> Self {
        let message = "At least one of the pre-conditions you specified did not hold.";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message).detail("Condition", condition)
    }

    pub(crate) fn invalid_range(range: &str, bytes: u64) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range cannot be satisfied.")
            .detail("RangeRequested", range)
            .detail("ActualObjectSize", bytes.to_string())
    }

    /// What the disk said goes to the log; the client learns that it was us.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "emulator: internal error");
        let message = "We encountered an internal error. Please try again.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// What the storage said, of an upload if it was about one.
    pub(crate) fn of_storage(error: &StorageError, upload_id: &str) -> Self {
        match error {
            StorageError::NoSuchUpload => Self::no_such_upload(upload_id),
            StorageError::ObjectExists => {
                let message = "The object you specified already exists and can not be overwritten.";
                Self::new(StatusCode::CONFLICT, "FileAlreadyExists", message)
            }
            StorageError::InvalidPart(number) => {
                let message = "One or more of the specified parts could not be found or the specified entity tag might \
                               not have matched the part's entity tag.";
                Self::new(StatusCode::BAD_REQUEST, "InvalidPart", message)
                    .detail("PartNumber", number.to_string())
                    .detail("UploadId", upload_id)
            }
            StorageError::InvalidPartOrder => {
                let message = "The list of parts was not in ascending order. Parts list must specified in order by \
                               part number.";
                Self::new(StatusCode::BAD_REQUEST, "InvalidPartOrder", message)
                    .ec("0042-00000209")
                    .detail("UploadId", upload_id)
            }
            StorageError::NoParts => Self::malformed_xml(),
            StorageError::PartTooSmall { number, bytes } => {
                Self::entity_too_small(*bytes, 102_400).detail("PartNumber", number.to_string())
            }
            StorageError::NoSuchObject => Self::no_such_key(""),
            StorageError::NotAppendable => {
                Self::new(StatusCode::CONFLICT, "ObjectNotAppendable", "The object is not appendable")
            }
            StorageError::NotAtTheEnd { bytes } => {
                let mut error =
                    Self::new(StatusCode::CONFLICT, "PositionNotEqualToLength", "Position is not equal to file length");
                error.next_append_position = Some(*bytes);
                error
            }
            StorageError::Io(error) => Self::internal(error),
        }
    }

    /// `<Error>…</Error>`
    pub(crate) fn xml(&self, request_id: &str, host: &str) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n");
        let mut element = |name: &str, value: &str| {
            xml.push_str(&format!("  <{name}>{}</{name}>\n", escape(value)));
        };
        element("Code", self.code);
        element("Message", &self.message);
        element("RequestId", request_id);
        element("HostId", host);
        self.details.iter().for_each(|(name, value)| element(name, value));
        element("EC", self.ec);
        xml.push_str("</Error>\n");
        xml
    }

    /// The answer's headers and body. Without a body the error comes in a header.
    pub(crate) fn answer(&self, has_body: bool, request_id: &str, host: &str) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        headers.insert(EC_HEADER, HeaderValue::from_static(self.ec));
        headers.extend(self.next_append_position.map(|position| (NEXT_APPEND_HEADER, HeaderValue::from(position))));
        let xml = self.xml(request_id, host);
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            return (headers, xml);
        }
        if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(xml)) {
            headers.insert(ERR_HEADER, value);
        }
        (headers, String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_xml_and_a_header_where_there_is_no_body() {
        let error = OssError::no_such_key("a<b&c");
        let (headers, xml) = error.answer(true, "REQ", "bkt.localhost");
        assert!(xml.contains("<Code>NoSuchKey</Code>") && xml.contains("<Key>a&lt;b&amp;c</Key>"), "{xml}");
        assert!(xml.contains("<RequestId>REQ</RequestId>") && xml.contains("<HostId>bkt.localhost</HostId>"), "{xml}");
        assert_eq!(headers[EC_HEADER], "0026-00000001");
        let (headers, body) = error.answer(false, "REQ", "bkt.localhost");
        assert_eq!(body, "");
        assert_eq!(STANDARD.decode(&headers[ERR_HEADER]).ok(), Some(xml.into_bytes()));
    }
}
