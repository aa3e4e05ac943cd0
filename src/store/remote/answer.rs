//! What a store's answers mean, pure: which error is whose, and which call is
//! worth repeating. The dialects share codes, and no header of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap};
use http::{Method, StatusCode};

use crate::domain::Crc64;
use crate::store::error::Fault;
use crate::store::remote::xml;
use crate::store::{StoreError, StoredObject};

/// OSS's header that carries the CRC-64 of a part or an object.
pub const CRC_HEADER: &str = "x-oss-hash-crc64ecma";
/// The headers that carry the store's id of a request: OSS's and S3's.
const REQUEST_ID_HEADERS: [&str; 2] = ["x-oss-request-id", "x-amz-request-id"];
/// Our code of an answer that no store would give.
pub const UNREADABLE: &str = "UnreadableAnswer";
/// The code of a signature whose date is too far off.
pub const SKEWED: &str = "RequestTimeTooSkewed";

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failure {
    /// What it is to the caller.
    pub error: Box<StoreError>,
    /// Whether the same call, signed anew, may succeed right away.
    pub repeat: bool,
}

impl Failure {
    /// An error, and whether the call is worth repeating.
    pub fn new(error: StoreError, repeat: bool) -> Self {
        Self { error: Box::new(error), repeat }
    }

    /// Whether the store says that it has not even begun: it is too busy, or
    /// the date is too far off.
    pub fn is_undone(&self) -> bool {
        matches!(&*self.error, StoreError::Unavailable(fault)
            if fault.code == SKEWED || matches!(fault.status, Some(429 | 503)))
    }

    /// Whether the answer says that our clock, or the store's, is off.
    pub fn is_skew(&self) -> bool {
        matches!(&*self.error, StoreError::Unavailable(fault) if fault.code == SKEWED)
    }
}

impl Answer {
    /// Nothing but success passes; a 200 with an error in it is none.
    pub fn checked(self, operation: &'static str, method: &Method) -> Result<Self, Failure> {
        if is_success(self.status) && !xml::is_error(&self.text()) {
            return Ok(self);
        }
        Err(self.failure(operation, method))
    }

    /// What this answer is, when it is no success.
    pub fn failure(&self, operation: &'static str, method: &Method) -> Failure {
        let said = said(self);
        let status = self.status.as_u16();
        let code = match said.code {
            // Nobody else answers a HEAD with a bare 404.
            code if code.is_empty() && status == 404 && method == Method::HEAD => "NoSuchKey".to_owned(),
            code if code.is_empty() => format!("Http{status}"),
            code => code,
        };
        let in_header = || REQUEST_ID_HEADERS.into_iter().find_map(|name| self.header(name).map(ToOwned::to_owned));
        let request_id = said.request_id.or_else(in_header);
        let ec = said.ec.or_else(|| self.header("x-oss-ec").map(ToOwned::to_owned));
        let message = match self.header("x-amz-bucket-region") {
            Some(region) if matches!(status, 301 | 307 | 400) => format!("{} the bucket is in {region}", said.message),
            Some(_) | None => said.message,
        };
        let remedy = elsewhere(said.endpoint.as_deref(), ec.as_deref());
        // What OSS's support pages are filed under.
        let message = ec.map_or_else(|| message.clone(), |ec| format!("{message} (EC {ec})")).trim().to_owned();
        let (said_status, request_id) = (Some(status), request_id.map(Into::into));
        let fault = Fault { operation, address: None, code, message, status: said_status, request_id, remedy };
        let repeat = is_repeatable(status, &fault.code);
        let error = match fault.code.as_str() {
            "NoSuchUpload" => StoreError::NoSuchUpload,
            "NoSuchKey" => StoreError::NoSuchObject,
            "EntityTooSmall" | "InvalidPart" | "InvalidPartOrder" => StoreError::PartsDiffer(fault.to_string()),
            // Refused credentials stay refused, whatever the SDKs hope.
            _ if status == 507 || matches!(fault.code.as_str(), "QuotaExceeded" | "NoSpaceLeftOnDevice") => {
                StoreError::Full
            }
            _ if repeat && status != 401 => StoreError::Unavailable(fault),
            // A time-out of the store's own, a failed callback: the world may be well again.
            "RequestTimeout" | "IncompleteBody" | "CallbackFailed" => StoreError::Unavailable(fault),
            // What came was not what was sent, or two came at once.
            "InvalidDigest" | "BadDigest" | "XAmzContentChecksumMismatch" | "OperationAborted" => {
                StoreError::Unavailable(fault)
            }
            _ => StoreError::Refused(fault),
        };
        Failure::new(error, repeat)
    }

    /// The body as text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The ETag without quotes, if the answer has one.
    pub fn etag(&self) -> Option<String> {
        self.header(ETAG.as_str()).map(|etag| xml::unquoted(etag).to_owned()).filter(|etag| !etag.is_empty())
    }

    /// The CRC-64, if the answer has one.
    pub fn crc64(&self) -> Option<Crc64> {
        self.header(CRC_HEADER).and_then(Crc64::parse)
    }
}

/// The statuses of success. A 203 is none: a callback failed.
pub fn is_success(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An object's properties from the headers of HEAD, or of GET with or without
/// a range. None when the size is missing.
pub fn object(headers: &HeaderMap) -> Option<StoredObject> {
    let whole = match header(headers, CONTENT_RANGE.as_str()) {
        Some(range) => range.rsplit_once('/')?.1,
        None => header(headers, CONTENT_LENGTH.as_str())?,
    };
    Some(StoredObject {
        bytes: whole.trim().parse().ok()?,
        etag: xml::unquoted(header(headers, ETAG.as_str()).unwrap_or_default()).to_owned(),
        crc64: header(headers, CRC_HEADER).and_then(Crc64::parse),
        content_type: header(headers, CONTENT_TYPE.as_str()).map(ToOwned::to_owned),
    })
}

/// The error in the body, or in the header that stands for it where an answer
/// has no body (HEAD).
fn said(answer: &Answer) -> xml::ErrorAnswer {
    let in_header = || {
        let encoded = answer.header("x-oss-err")?;
        let text = STANDARD.decode(encoded.trim()).ok()?;
        xml::error(&String::from_utf8_lossy(&text))
    };
    xml::error(&answer.text()).or_else(in_header).unwrap_or_default()
}

/// The bucket is elsewhere: the store says where, or that the signature names
/// another region than its own.
fn elsewhere(endpoint: Option<&str>, ec: Option<&str>) -> Option<Box<str>> {
    const REGION_DIFFERS: &str = "0002-00000226";
    match endpoint.map(str::trim).filter(|host| !host.is_empty()) {
        Some(host) => Some(format!("the bucket is elsewhere: set the store's endpoint to {host:?}").into()),
        None if ec == Some(REGION_DIFFERS) => Some(
            "the signature names another region than the bucket's: check store.oss.region and store.oss.endpoint"
                .into(),
        ),
        None => None,
    }
}

/// As the official SDKs have it. An error within a 200 is one of the store's
/// own: what it would have been had the answer not begun already.
fn is_repeatable(status: u16, code: &str) -> bool {
    let by_code = matches!(
        code,
        SKEWED | "BadRequest" | "InternalError" | "ServiceUnavailable" | "SlowDown" | "QpsLimitExceeded"
    );
    by_code || status >= 500 || matches!(status, 401 | 408 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header's value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn error(code: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId><EC>0042-00000021</EC></Error>")
    }

    fn failed(method: &Method, answer: Answer) -> Failure {
        answer.checked("Op", method).expect_err("a failure")
    }

    #[test]
    fn what_was_not_begun_is_told_from_what_may_have_been_done() {
        let undone = |status, code: &str| failed(&Method::POST, answer(status, &[], &error(code))).is_undone();
        assert!(undone(503, "SlowDown") && undone(429, "TooManyRequests") && undone(403, SKEWED));
        let lost = Failure::new(StoreError::Unavailable(Fault::default()), true);
        assert!(!undone(500, "InternalError") && !undone(200, "InternalError") && !lost.is_undone());
        assert!(!undone(403, "AccessDenied") && !undone(504, "GatewayTimeout"));
    }

    #[test]
    fn errors_are_told_apart_by_what_can_be_done() {
        let kind = |status, code: &str| {
            let failure = failed(&Method::POST, answer(status, &[], &error(code)));
            let kind = match *failure.error {
                StoreError::NoSuchUpload => "no upload",
                StoreError::NoSuchObject => "no object",
                StoreError::PartsDiffer(_) => "parts",
                StoreError::Unavailable(_) => "unavailable",
                StoreError::Refused(_) => "refused",
                StoreError::Full => "full",
                StoreError::Body => "never",
            };
            (kind, failure.repeat)
        };
        assert_eq!(kind(404, "NoSuchUpload"), ("no upload", false));
        assert_eq!(kind(404, "NoSuchKey"), ("no object", false));
        assert_eq!(kind(404, "NoSuchBucket"), ("refused", false));
        assert_eq!(kind(400, "InvalidPart"), ("parts", false));
        assert_eq!(kind(400, "InvalidPartOrder"), ("parts", false));
        assert_eq!(kind(400, "EntityTooSmall"), ("parts", false));
        assert_eq!(kind(400, "InvalidArgument"), ("refused", false));
        assert_eq!(kind(400, "RequestTimeout"), ("unavailable", false));
        assert_eq!(kind(400, "BadRequest"), ("unavailable", true));
        assert_eq!(kind(401, "Whatever"), ("refused", true));
        assert_eq!(kind(403, "AccessDenied"), ("refused", false));
        assert_eq!(kind(403, "RequestTimeTooSkewed"), ("unavailable", true));
        assert_eq!(kind(429, "Throttled"), ("unavailable", true));
        assert_eq!(kind(500, "InternalError"), ("unavailable", true));
        assert_eq!(kind(503, "ServiceUnavailable"), ("unavailable", true));
        assert_eq!(kind(200, "InternalError"), ("unavailable", true));
        assert_eq!(kind(200, "InvalidPart"), ("parts", false));
        assert_eq!(kind(203, "CallbackFailed"), ("unavailable", false));
        assert_eq!(kind(400, "XAmzContentChecksumMismatch"), ("unavailable", false));
        assert_eq!(kind(507, "XMinioStorageFull").0, "full");
        assert_eq!(kind(403, "QuotaExceeded"), ("full", false));
    }

    #[test]
    fn a_fault_says_what_support_asks_for() {
        let failure = failed(&Method::PUT, answer(403, &[], &error("AccessDenied")));
        assert_eq!(
            failure.error.to_string(),
            "the store refused: Op: AccessDenied: m (EC 0042-00000021) (status 403) (request id R)"
        );
        let proxy = failed(&Method::PUT, answer(502, &[("x-oss-request-id", "Q")], "<html>bad gateway</html>"));
        assert_eq!(proxy.error.to_string(), "the store is unavailable: Op: Http502 (status 502) (request id Q)");
        let moved = [("x-amz-bucket-region", "eu-west-1"), ("x-amz-request-id", "S")];
        let moved = failed(&Method::HEAD, answer(301, &moved, ""));
        assert_eq!(
            moved.error.to_string(),
            "the store refused: Op: Http301: the bucket is in eu-west-1 (status 301) (request id S)"
        );
    }

    #[test]
    fn a_bucket_in_another_region_is_named_with_its_endpoint() {
        for status in [301, 307, 403] {
            let xml = "<Error><Code>AccessDenied</Code><Message>The bucket you are attempting to access must be addressed \
                       using the specified endpoint.</Message><Endpoint>oss-cn-shanghai.aliyuncs.com</Endpoint></Error>";
            let told = failed(&Method::GET, answer(status, &[], xml)).error.to_string();
            assert!(told.ends_with("set the store's endpoint to \"oss-cn-shanghai.aliyuncs.com\""), "{told}");
        }
        let region = "<Error><Code>InvalidArgument</Code><EC>0002-00000226</EC></Error>";
        let told = failed(&Method::GET, answer(400, &[], region)).error.to_string();
        assert!(told.contains("store.oss.region"), "{told}");
    }

    #[test]
    fn a_head_carries_its_error_in_a_header() {
        let encoded = STANDARD.encode(error("AccessDenied"));
        let failure = failed(&Method::HEAD, answer(403, &[("x-oss-err", &encoded)], ""));
        assert!(matches!(*failure.error, StoreError::Refused(fault) if fault.code == "AccessDenied"));
        let failure = failed(&Method::HEAD, answer(404, &[], ""));
        assert!(matches!(*failure.error, StoreError::NoSuchObject));
        let encoded = STANDARD.encode(error("NoSuchBucket"));
        let failure = failed(&Method::HEAD, answer(404, &[("x-oss-err", &encoded)], ""));
        assert!(matches!(*failure.error, StoreError::Refused(_)));
    }

    #[test]
    fn an_object_is_read_from_its_headers() {
        let whole = answer(200, &[("content-length", "7"), ("etag", "\"AB\""), (CRC_HEADER, "42")], "");
        let read = object(&whole.headers).expect("an object");
        assert_eq!((read.bytes, read.etag.as_str(), read.crc64), (7, "AB", Some(Crc64(42))));
        let range = answer(206, &[("content-length", "2"), ("content-range", "bytes 1-2/7")], "");
        assert_eq!(object(&range.headers).map(|o| o.bytes), Some(7));
        assert_eq!(object(&HeaderMap::new()), None);
    }
}
