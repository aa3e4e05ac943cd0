//! The errors of OSS that concern uploads, and ours for what has no answer: what
//! each is to the gateway, and what to do about it. One table: what answers are
//! taken for is held to it, and `docs/errors.md` is made of it. Pure.

use crate::store::remote::answer::{SKEWED, UNREADABLE};

/// The code of a key, or of an upload's object, that is there already.
pub const EXISTS: &str = "FileAlreadyExists";

/// The code of an object that is there, of which somebody was told in vain.
pub const CALLBACK_FAILED: &str = "CallbackFailed";

/// What an error is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The multipart upload is gone: whether it has become its object, HEAD decides.
    NoUpload,
    /// There is no such object.
    NoObject,
    /// The parts are not those that were acknowledged: what is missing is asked for again.
    PartsDiffer,
    /// The same call, signed anew, may succeed right away: it is repeated, if it can be.
    Again,
    /// It may succeed later; its client is asked to come again.
    Later,
    /// It will not succeed until somebody changes something.
    Refused,
}

/// One error.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// As OSS writes it, or we do.
    pub code: &'static str,
    /// The status that it comes with; 0 where there is no answer.
    pub status: u16,
    /// What it is to the gateway.
    pub meaning: Meaning,
    /// What has happened.
    pub says: &'static str,
    /// What to do, if anything.
    pub remedy: Option<&'static str>,
}

const fn code(code: &'static str, status: u16, meaning: Meaning, says: &'static str, remedy: &'static str) -> Code {
    let remedy = if remedy.is_empty() { None } else { Some(remedy) };
    Code { code, status, meaning, says, remedy }
}

/// The row of this code.
pub fn find(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.code == name)
}

/// Whether the store does not know who we are, or does not any more.
pub fn is_of_credentials(code: &str) -> bool {
    code.starts_with("InvalidAccessKeyId")
        || matches!(
            code,
            "SecurityTokenExpired" | "InvalidSecurityToken" | "SignatureDoesNotMatch" | "AccessKeyDisabled"
        )
}

/// What to change so that OSS does not refuse so again, where its code tells.
pub fn remedy(name: &str) -> Option<&'static str> {
    const ELSEWHERE: &str = "this does not answer like OSS: check store.oss.endpoint";
    match find(name) {
        Some(code) => code.remedy,
        // Whoever answered gave a status and no code of OSS's.
        None if name.starts_with("Http") => Some(ELSEWHERE),
        None => None,
    }
}

use Meaning::{Again, Later, NoObject, NoUpload, PartsDiffer, Refused};

/// All of them, by status and name.
pub const CODES: &[Code] = &[
    code("ConnectFailed", 0, Again, "no connection", "check that store.oss.endpoint is reached from this machine"),
    code(
        "ConnectTimeout",
        0,
        Again,
        "no connection within store.connect_timeout",
        "check that store.oss.endpoint is reached from this machine: routes, firewalls, security groups",
    ),
    code(
        "ConnectionReset",
        0,
        Again,
        "the connection broke",
        "if it goes on: look for what is in between, such as a NAT gateway that forgets idle connections",
    ),
    code(
        "FirstByteTimeout",
        0,
        Again,
        "no answer within store.first_byte_timeout of the last byte",
        "if it goes on: ask OSS about its latency, or raise store.first_byte_timeout",
    ),
    code(
        "IdleTimeout",
        0,
        Again,
        "the store took no bytes, or sent none, for store.idle_timeout",
        "if it goes on: look at the bandwidth between here and the bucket's region",
    ),
    code(
        "NameNotResolved",
        0,
        Again,
        "the endpoint's name has no address",
        "check store.oss.endpoint and store.oss.bucket for a typing error, and this machine's name servers",
    ),
    code(
        "CredentialsRenewed",
        0,
        Later,
        "the store refused credentials that have been replaced since",
        "rotate so that the old key lives until the new one is in use",
    ),
    code(
        "NoCredentials",
        0,
        Later,
        "there are no credentials, or none any more, and nobody gives out others",
        "look at what its message says of store.oss.credentials",
    ),
    code(
        "CircuitOpen",
        0,
        Later,
        "the store failed store.breaker.failures times in a row, and is left alone for store.breaker.open_for",
        "see the failures before it in the log",
    ),
    code("EarlyAnswer", 0, Later, "success was answered before the body had ended", "check store.oss.endpoint"),
    code(
        UNREADABLE,
        0,
        Later,
        "an answer that is not OSS's",
        "this does not answer like OSS: check store.oss.endpoint",
    ),
    code(
        CALLBACK_FAILED,
        203,
        Later,
        "the object is stored, but the callback was not answered",
        "check that OSS reaches the callback's URL, and that it answers 200 within 5 s",
    ),
    code("BadRequest", 400, Again, "the request did not arrive as it was sent", ""),
    code("EntityTooLarge", 400, Refused, "a part or an object above OSS's limits", "choose a smaller chunkSize"),
    code("EntityTooSmall", 400, PartsDiffer, "a part that is not the last is below 100 KiB", ""),
    code("IncompleteBody", 400, Later, "the body ended before its length", ""),
    code(
        "InvalidArgument",
        400,
        Refused,
        "a value that OSS does not take",
        "check store.oss.region, which the signature names, and store.oss.object",
    ),
    code("InvalidBucketName", 400, Refused, "no bucket has such a name", "check store.oss.bucket"),
    code("InvalidDigest", 400, Later, "the bytes that arrived are not those of Content-MD5", ""),
    code(
        "InvalidEncryptionAlgorithmError",
        400,
        Refused,
        "an encryption that OSS does not know",
        "check store.oss.object.encryption: AES256, KMS or SM4",
    ),
    code("InvalidObjectName", 400, Refused, "a key that OSS does not take", "check upload.key_template"),
    code("InvalidPart", 400, PartsDiffer, "a part is not there, or not the one that was acknowledged", ""),
    code("InvalidPartOrder", 400, PartsDiffer, "the parts do not ascend", ""),
    code("InvalidTag", 400, Refused, "tags that OSS does not take", "check store.oss.object.tagging"),
    code("MalformedXML", 400, Refused, "a list of parts that OSS cannot read", "report it: it is a mistake of ours"),
    code("RequestTimeout", 400, Later, "the body did not come in OSS's time", ""),
    code(
        "AccessDenied",
        403,
        Refused,
        "the key may not do this",
        "check the key's permissions on the bucket, and that store.oss.endpoint is the bucket's own",
    ),
    code("AccessKeyDisabled", 403, Refused, "the access key was disabled", "enable it, or set another"),
    code(
        "InvalidAccessKeyId",
        403,
        Refused,
        "there is no such access key",
        "check store.oss.access_key_id (or OSS_ACCESS_KEY_ID)",
    ),
    code(
        "InvalidObjectState",
        403,
        Refused,
        "the object is archived",
        "restore it; for files that are read, store.oss.object.storage_class is Standard or IA",
    ),
    code(
        "InvalidSecurityToken",
        403,
        Refused,
        "the STS token is not one",
        "access_key_id, access_key_secret and security_token belong together: get new ones",
    ),
    code(
        "KmsServiceNotEnabled",
        403,
        Refused,
        "KMS is not enabled",
        "enable KMS in the account, or set store.oss.object.encryption = \"AES256\"",
    ),
    code(
        SKEWED,
        403,
        Again,
        "the clocks differ by more than 15 minutes; we sign by the store's from now on",
        "set this machine's clock",
    ),
    code(
        "SecondLevelDomainForbidden",
        403,
        Refused,
        "OSS has buckets as subdomains",
        "set store.oss.path_style = false: OSS itself has buckets as subdomains",
    ),
    code(
        "SecurityTokenExpired",
        403,
        Refused,
        "the STS token has expired",
        "let the gateway get new ones: store.oss.credentials (assume_role, ecs_role, oidc_role, file, command)",
    ),
    code("SecurityTokenNotSupported", 403, Refused, "no STS token is taken here", "use an access key of its own"),
    code(
        "SignatureDoesNotMatch",
        403,
        Refused,
        "the secret is not that of the key",
        "check store.oss.access_key_secret (or OSS_ACCESS_KEY_SECRET)",
    ),
    code("UserDisable", 403, Refused, "the account is suspended", "settle its bill with Aliyun"),
    code(
        "NoSuchBucket",
        404,
        Refused,
        "there is no such bucket",
        "check store.oss.bucket, and that store.oss.endpoint is its region's",
    ),
    code("NoSuchKey", 404, NoObject, "there is no such object", ""),
    code(
        "NoSuchUpload",
        404,
        NoUpload,
        "the multipart upload is completed, aborted or never was",
        "if uploads are lost: let no lifecycle rule of the bucket abort parts sooner than upload.expires_after",
    ),
    code("MethodNotAllowed", 405, Refused, "not on this resource", "check store.oss.endpoint"),
    code(EXISTS, 409, Refused, "there is an object of this key already", "see store.oss.object.forbid_overwrite"),
    code(
        "FileImmutable",
        409,
        Refused,
        "a retention policy of the bucket protects the object",
        "give uploads a bucket, or keys, without one",
    ),
    code("ObjectNotAppendable", 409, Refused, "the object is of another kind", "give uploads keys of their own"),
    code(
        "MissingContentLength",
        411,
        Refused,
        "a proxy in between took the length away",
        "let proxies pass Content-Length on",
    ),
    code("PreconditionFailed", 412, Refused, "a condition does not hold", ""),
    code(
        "TooManyRequests",
        429,
        Again,
        "too many requests",
        "ask Aliyun for a higher limit, or spread keys over prefixes",
    ),
    code("InternalError", 500, Again, "a failure of OSS's own", "if it goes on: give its request id to Aliyun"),
    code(
        "DownloadTrafficRateLimitExceeded",
        503,
        Again,
        "the account's bandwidth for downloads is used up",
        "ask Aliyun for more, or put a CDN before downloads",
    ),
    code(
        "QpsLimitExceeded",
        503,
        Again,
        "too many requests per second",
        "put a random prefix first in upload.key_template, choose larger chunks, or ask Aliyun for a higher limit",
    ),
    code("ServiceUnavailable", 503, Again, "OSS is busy or away", ""),
    code(
        "SlowDown",
        503,
        Again,
        "OSS asks for fewer requests",
        "put a random prefix first in upload.key_template, or choose larger chunks",
    ),
    code(
        "UploadTrafficRateLimitExceeded",
        503,
        Again,
        "the account's bandwidth for uploads is used up",
        "ask Aliyun for more, or lower limits.max_concurrent_chunks",
    ),
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::store::StoreError;
    use crate::store::remote::answer::Answer;

    #[test]
    fn a_remedy_names_the_key_to_change() {
        assert!(remedy("SignatureDoesNotMatch").is_some_and(|text| text.contains("store.oss.access_key_secret")));
        assert!(remedy("NoSuchBucket").is_some_and(|text| text.contains("store.oss.bucket")));
        assert!(remedy("Http404").is_some_and(|text| text.contains("store.oss.endpoint")));
        assert_eq!((remedy("ServiceUnavailable"), remedy("Unheard")), (None, None));
    }

    /// The table says what answers are taken for.
    #[test]
    fn answers_are_read_as_the_table_says() {
        for code in CODES.iter().filter(|code| code.status != 0) {
            let body = format!("<Error><Code>{}</Code></Error>", code.code);
            let status = StatusCode::from_u16(code.status).expect("a status");
            let answer = Answer { status, headers: HeaderMap::new(), body: body.into() };
            let failure = answer.failure("Op", &Method::POST);
            let meaning = match (&*failure.error, failure.repeat) {
                (StoreError::NoSuchUpload, _) => Meaning::NoUpload,
                (StoreError::NoSuchObject, _) => Meaning::NoObject,
                (StoreError::PartsDiffer(_), _) => Meaning::PartsDiffer,
                (StoreError::Unavailable(_), true) => Meaning::Again,
                (StoreError::Unavailable(_), false) => Meaning::Later,
                (StoreError::Refused(_), false) => Meaning::Refused,
                (error, _) => panic!("{}: {error}", code.code),
            };
            assert_eq!(meaning, code.meaning, "{}", code.code);
        }
    }

    #[test]
    fn each_code_stands_once_and_what_is_refused_has_a_remedy() {
        let statuses: Vec<u16> = CODES.iter().map(|code| code.status).collect();
        assert!(statuses.is_sorted());
        for (at, code) in CODES.iter().enumerate() {
            assert!(CODES[..at].iter().all(|other| other.code != code.code), "{}", code.code);
            let needs = code.meaning == Refused && code.code != "PreconditionFailed";
            assert!(code.remedy.is_some() || !needs, "{}: what to do?", code.code);
        }
    }
}
