//! Who we are to the store, and one signed question: what its answer says of the
//! credentials and of the bucket.

use std::time::Duration;

use super::identity;
use super::target::Target;
use crate::clock::Clock;
use crate::doctor::course::Course;
use crate::doctor::report::{Status, Verdict};
use crate::store::error::Fault;
use crate::store::{Store, StoreError};

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks it. A folder has no credentials.
pub(super) async fn check(course: &mut Course<'_>, target: Option<&Target>, store: &dyn Store, clock: &dyn Clock) {
    let Some(target) = target else {
        course.check("bucket", &["disk"], async { judge(&ask(store).await, "a folder", store).bucket }).await;
        return;
    };
    let asked = async {
        let identified = match store.identify().await {
            Ok(identified) => identified,
            Err(error) => return (identity::absent(&error), None),
        };
        let who = identity::describe(identified.as_ref(), clock.now());
        let found = judge(&ask(store).await, &who, store);
        let credentials = match (found.credentials.status, identified) {
            (Status::Ok, Some(identified)) => identity::judge(&identified, found.credentials),
            _ => found.credentials,
        };
        (credentials, Some(found.bucket))
    };
    let bucket = course.learn("credentials", &["tcp", "tls"], asked).await;
    let bucket = bucket.unwrap_or_else(|| Verdict::skipped("nothing was asked"));
    let region = if target.region.is_empty() { String::new() } else { format!(", region {}", target.region) };
    let bucket = match bucket.status {
        Status::Ok => Verdict { what: format!("{}{region}", bucket.what), ..bucket },
        Status::Warning | Status::Failed | Status::Skipped => bucket,
    };
    course.tell("bucket", &["credentials", "tcp", "tls"], bucket);
}

async fn ask(store: &dyn Store) -> Result<(), StoreError> {
    let late = || Fault { operation: "Check", code: "Timeout".to_owned(), ..Fault::default() };
    tokio::time::timeout(PATIENCE, store.check()).await.unwrap_or_else(|_| Err(StoreError::Unavailable(late())))
}

/// What one answer says of both.
struct Found {
    credentials: Verdict,
    bucket: Verdict,
}

fn judge(answer: &Result<(), StoreError>, who: &str, store: &dyn Store) -> Found {
    let (bucket, kind) = (store.bucket(), store.kind());
    let accepted = || Verdict::ok(format!("the store knows the key {who}"));
    let there = || Verdict::ok(format!("{bucket} is there"));
    let fault = match answer {
        Ok(()) => return Found { credentials: accepted(), bucket: there() },
        Err(StoreError::Refused(fault) | StoreError::Unavailable(fault)) => fault,
        Err(error) => return Found { credentials: accepted(), bucket: unusable(bucket, &error.to_string()) },
    };
    if let Some(credentials) = of_credentials(fault, who) {
        return Found { credentials: of_kind(credentials, kind), bucket: there() };
    }
    let bucket = match fault.code.as_str() {
        code if is_elsewhere(code, &fault.message) => elsewhere(bucket, fault),
        "NoSuchBucket" | "InvalidBucketName" => Verdict::failed(
            format!("there is no bucket {bucket} ({})", said(fault)),
            "there is nowhere to put an object",
            "correct store.oss.bucket, or store.oss.endpoint if the bucket is in another region, or make the bucket",
        ),
        // Which of the permissions is missing is tried one by one.
        "AccessDenied" => there(),
        code if code.starts_with("Http") || code == "UnreadableAnswer" => Verdict::failed(
            format!("what answers does not answer like a store ({})", said(fault)),
            "a web server, a proxy or a login page stands at this address",
            "correct store.oss.endpoint",
        ),
        _ => unusable(bucket, &fault.to_string()),
    };
    Found { credentials: accepted(), bucket: of_kind(bucket, kind) }
}

/// The settings of each kind are called alike, but for what its own SDKs call otherwise.
fn of_kind(verdict: Verdict, kind: &str) -> Verdict {
    let own = format!("store.{kind}.");
    let mut fix = verdict.fix.replace("store.oss.", &own);
    if kind == "s3" {
        let names = [
            ("OSS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
            ("OSS_ACCESS_KEY_SECRET", "AWS_SECRET_ACCESS_KEY"),
            ("security_token", "session_token"),
            (
                "is cn-hangzhou where the endpoint is oss-cn-hangzhou.aliyuncs.com",
                "is in most endpoints' names, as in \
              s3.eu-central-1.amazonaws.com",
            ),
        ];
        fix = names.into_iter().fold(fix, |fix, (oss, s3)| fix.replace(oss, s3));
    }
    Verdict { fix, ..verdict }
}

fn of_credentials(fault: &Fault, who: &str) -> Option<Verdict> {
    let (what, why, fix) = match fault.code.as_str() {
        // The second is versitygw's.
        "InvalidAccessKeyId" | "XAdminUserNotFound" => (
            "the store does not know this access key",
            "it was deleted or disabled, or is another account's, or a letter is wrong",
            "set store.oss.access_key_id (or OSS_ACCESS_KEY_ID) to a key that the console lists as enabled",
        ),
        "SignatureDoesNotMatch" => (
            "the access key is known, and its secret is another one",
            "every request is refused: the secret is another key's, or was cut or got a blank when it was pasted",
            "set store.oss.access_key_secret (or OSS_ACCESS_KEY_SECRET) to this key's secret; a secret that is lost is \
             replaced by a new key",
        ),
        "SecurityTokenExpired" | "ExpiredToken" => (
            "the temporary credentials (STS) have expired",
            "they last from 15 minutes to 12 hours, and nobody has brought new ones",
            "get new ones: access_key_id, access_key_secret and security_token belong together; or give the gateway a \
             source that renews them",
        ),
        "InvalidSecurityToken" | "InvalidToken" | "SecurityTokenNotSupported" | "InvalidTokenId" => (
            "the security token is not this access key's",
            "an STS token goes with the one key that it was made with",
            "set access_key_id, access_key_secret and security_token from one and the same answer of STS",
        ),
        "RequestTimeTooSkewed" => (
            "the store refuses the signature's time",
            "this machine's clock, or the store's, is more than 15 minutes off",
            "set the clock: timedatectl set-ntp true",
        ),
        _ => return None,
    };
    Some(Verdict::failed(format!("{what}: {who} ({})", said(fault)), why, fix))
}

/// Whether the bucket, or the region that was signed for, is another one.
fn is_elsewhere(code: &str, message: &str) -> bool {
    let moved = matches!(
        code,
        "InvalidArgument"
            | "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "IncorrectEndpoint"
            | "IllegalLocationConstraintException"
    );
    moved || (code == "AccessDenied" && message.contains("addressed using the specified endpoint"))
}

fn elsewhere(bucket: &str, fault: &Fault) -> Verdict {
    Verdict::failed(
        format!("the region is wrong for {bucket} ({})", said(fault)),
        "a signature names the region, and each region's endpoint answers for its own buckets only",
        "set store.oss.region and store.oss.endpoint to those that the console shows on the bucket's page; the region \
         is cn-hangzhou where the endpoint is oss-cn-hangzhou.aliyuncs.com",
    )
}

fn unusable(bucket: &str, why: &str) -> Verdict {
    Verdict::failed(
        format!("{bucket} cannot be used: {why}"),
        "uploads get 503 until it can",
        "see what the store says; its support asks for the request id",
    )
}

/// The store's own words.
fn said(fault: &Fault) -> String {
    let id = fault.request_id.as_deref().map(|id| format!(", request id {id}")).unwrap_or_default();
    match fault.message.as_str() {
        "" => format!("{}{id}", fault.code),
        message => format!("{}: {}{id}", fault.code, message.trim_end_matches('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn of(code: &str, message: &str) -> (Status, Status, String) {
        let fault = Fault { code: code.to_owned(), message: message.to_owned(), ..Fault::default() };
        let found = judge(&Err(StoreError::Refused(fault)), "ak from store.oss.access_key_id", &MemoryStore::new());
        (found.credentials.status, found.bucket.status, format!("{} {}", found.credentials.fix, found.bucket.fix))
    }

    #[test]
    fn refusals_are_laid_at_the_right_door() {
        for (code, fix) in [
            ("InvalidAccessKeyId", "store.oss.access_key_id"),
            ("SignatureDoesNotMatch", "store.oss.access_key_secret"),
            ("SecurityTokenExpired", "security_token"),
            ("ExpiredToken", "security_token"),
            ("RequestTimeTooSkewed", "clock"),
        ] {
            let (credentials, bucket, said) = of(code, "");
            let fix = fix.replace("store.oss.", "store.memory.");
            assert!((credentials, bucket) == (Status::Failed, Status::Ok) && said.contains(&fix), "{code}: {said}");
        }
        let other_endpoint = "The bucket you are attempting to access must be addressed using the specified endpoint.";
        for (code, message, fix) in [
            ("NoSuchBucket", "", "store.oss.bucket"),
            ("InvalidArgument", "Invalid signing region in Authorization header.", "store.oss.region"),
            ("AccessDenied", other_endpoint, "store.oss.region"),
            ("Http404", "", "store.oss.endpoint"),
        ] {
            let (credentials, bucket, said) = of(code, message);
            let fix = fix.replace("store.oss.", "store.memory.");
            assert!((credentials, bucket) == (Status::Ok, Status::Failed) && said.contains(&fix), "{code}: {said}");
        }
        let (credentials, bucket, _) = of("AccessDenied", "no permission");
        assert_eq!((credentials, bucket), (Status::Ok, Status::Ok), "what is denied is tried one by one");
    }
}
