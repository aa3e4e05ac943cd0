//! Each thing that a gateway does to its store, tried by itself on a scratch key.

use super::scratch::Scratch;
use crate::doctor::course::Course;
use crate::doctor::report::Verdict;
use crate::domain::{ObjectKey, Part, PartNumber, SessionId};
use crate::store::error::Fault;
use crate::store::{NewPart, Store, StoreError, StoredPart, Target, body_of};

/// What is written.
const CONTENT: &[u8] = b"chunkgate doctor was here, and removes this again\n";

/// A right, as the operator grants it.
#[derive(Clone, Copy, Debug)]
struct Right {
    check: &'static str,
    /// The action in OSS's RAM policies, and in S3's.
    oss: &'static str,
    s3: &'static str,
    /// What cannot be done without.
    why: &'static str,
}

const PUT: Right = Right {
    check: "permission to put",
    oss: "oss:PutObject",
    s3: "s3:PutObject",
    why: "small files (POST /files, empty files) cannot be stored",
};
const GET: Right = Right {
    check: "permission to get",
    oss: "oss:GetObject",
    s3: "s3:GetObject",
    why: "files cannot be downloaded, and after a lost answer nobody can see whether a merge was done",
};
const BEGIN: Right =
    Right { check: "permission to begin", oss: "oss:PutObject", s3: "s3:PutObject", why: "no upload can begin" };
const PUT_PART: Right =
    Right { check: "permission to put part", oss: "oss:PutObject", s3: "s3:PutObject", why: "no chunk can be stored" };
const LIST_PARTS: Right = Right {
    check: "permission to list parts",
    oss: "oss:ListParts",
    s3: "s3:ListMultipartUploadParts",
    why: "a merge compares the store's list with what was acknowledged: without it no upload completes",
};
const COMPLETE: Right =
    Right { check: "permission to complete", oss: "oss:PutObject", s3: "s3:PutObject", why: "no upload completes" };
const ABORT: Right = Right {
    check: "permission to abort",
    oss: "oss:AbortMultipartUpload",
    s3: "s3:AbortMultipartUpload",
    why: "parts of uploads that were given up stay in the bucket and are billed for good",
};
const LIST_UPLOADS: Right = Right {
    check: "permission to list",
    oss: "oss:ListMultipartUploads",
    s3: "s3:ListBucketMultipartUploads",
    why: "the sweeper does not find the uploads that a crash left behind, and /healthz cannot see the store",
};
const DELETE: Right = Right {
    check: "permission to delete",
    oss: "oss:DeleteObject",
    s3: "s3:DeleteObject",
    why: "files cannot be deleted",
};

/// Tries each. What is left is removed by whoever has the scratch.
pub(super) async fn check(course: &mut Course<'_>, scratch: &Scratch) {
    let store = &*scratch.store;
    let (small, joined, dropped) = (scratch.key("put"), scratch.key("multipart"), scratch.key("aborted"));
    let tried = Tried { store, scratch, small: &small, joined: &joined, dropped: &dropped };
    course.learn(PUT.check, &["bucket"], tried.step(PUT, tried.put())).await;
    course.learn(GET.check, &["bucket"], tried.step(GET, tried.get())).await;
    let session = course.learn(BEGIN.check, &["bucket"], tried.step(BEGIN, scratch.begin(&joined, None))).await;
    let part = match &session {
        Some(session) => {
            course.learn(PUT_PART.check, &[BEGIN.check], tried.step(PUT_PART, tried.put_part(session))).await
        }
        None => course.learn(PUT_PART.check, &[BEGIN.check], nothing()).await,
    };
    let target = session.as_ref().map(|session| Target { key: &joined, session });
    match target {
        Some(target) => {
            let listed = async { store.list_parts(target).await.map(drop) };
            course.learn(LIST_PARTS.check, &[BEGIN.check], tried.step(LIST_PARTS, listed)).await;
        }
        None => course.tell(LIST_PARTS.check, &[BEGIN.check], Verdict::skipped("no upload was begun")),
    }
    match (target, part) {
        (Some(target), Some(part)) => {
            let parts = [of_stored(part)];
            let completed = async { store.complete(target, &parts).await.map(drop) };
            course.learn(COMPLETE.check, &[PUT_PART.check], tried.step(COMPLETE, completed)).await;
        }
        _ => course.tell(COMPLETE.check, &[PUT_PART.check], Verdict::skipped("there is no part")),
    }
    course.learn(ABORT.check, &[BEGIN.check], tried.step(ABORT, tried.abort())).await;
    let listed = async { store.list_uploads(scratch.folder()).await.map(drop) };
    course.learn(LIST_UPLOADS.check, &["bucket"], tried.step(LIST_UPLOADS, listed)).await;
    course.learn(DELETE.check, &["bucket"], tried.step(DELETE, tried.delete())).await;
}

async fn nothing<T>() -> (Verdict, Option<T>) {
    (Verdict::skipped("no upload was begun"), None)
}

fn of_stored(part: StoredPart) -> Part {
    Part { number: PartNumber::FIRST, bytes: CONTENT.len() as u64, etag: part.etag, crc64: part.crc64 }
}

struct Tried<'a> {
    store: &'a dyn Store,
    scratch: &'a Scratch,
    small: &'a ObjectKey,
    joined: &'a ObjectKey,
    dropped: &'a ObjectKey,
}

impl Tried<'_> {
    /// One try, and what came of it.
    async fn step<T>(&self, right: Right, tried: impl Future<Output = Result<T, StoreError>>) -> (Verdict, Option<T>) {
        match tried.await {
            Ok(done) => (Verdict::ok("yes"), Some(done)),
            Err(error) => (self.denied(right, &error), None),
        }
    }

    async fn put(&self) -> Result<(), StoreError> {
        self.store.put(self.small, Some("text/plain"), CONTENT.len() as u64, body_of(CONTENT)).await.map(drop)
    }

    async fn put_part(&self, session: &SessionId) -> Result<StoredPart, StoreError> {
        let part = NewPart { number: PartNumber::FIRST, bytes: CONTENT.len() as u64, body: body_of(CONTENT) };
        self.store.put_part(Target { key: self.joined, session }, part).await
    }

    /// Nothing is there where nothing could be put: the right is asked for first.
    async fn get(&self) -> Result<(), StoreError> {
        match self.store.get(self.small, None).await {
            Err(StoreError::NoSuchObject) => Ok(()),
            read => read.map(drop),
        }
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let session = self.scratch.begin(self.dropped, None).await?;
        self.store.abort(Target { key: self.dropped, session: &session }).await
    }

    /// Also of what is not there: the right is asked for first.
    async fn delete(&self) -> Result<(), StoreError> {
        self.store.delete(self.small).await?;
        self.store.delete(self.joined).await
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other errors are told as they are")]
    fn denied(&self, right: Right, error: &StoreError) -> Verdict {
        match error {
            StoreError::Refused(fault) if is_denial(fault) => {
                // What to do is said below, exactly.
                let fault = Fault { remedy: None, ..fault.clone() };
                Verdict::failed(format!("denied ({fault})"), right.why, self.grant(needed(right, fault.operation)))
            }
            StoreError::Full => Verdict::failed("no space is left", right.why, "make space, or take a larger disk"),
            error => Verdict::failed(error.to_string(), right.why, "see what the store says, and try again"),
        }
    }

    /// The statement that grants it.
    fn grant(&self, right: Right) -> String {
        let bucket = self.store.bucket();
        let folder = self.small.as_str().split("chunkgate-doctor/").next().unwrap_or_default();
        let of_bucket = right.check == LIST_UPLOADS.check;
        let path = if of_bucket { bucket.to_owned() } else { format!("{bucket}/{folder}*") };
        let (action, resource) = match self.store.kind() {
            "s3" => (right.s3, format!("arn:aws:s3:::{path}")),
            _ => (right.oss, format!("acs:oss:*:*:{path}")),
        };
        format!("in the key's policy: {{\"Effect\":\"Allow\",\"Action\":[\"{action}\"],\"Resource\":[\"{resource}\"]}}")
    }
}

/// The right that a call needs which was made on the way, else that of the way's end.
fn needed(right: Right, operation: &str) -> Right {
    match operation {
        "AbortMultipartUpload" => ABORT,
        "GetObject" | "HeadObject" => GET,
        "ListParts" => LIST_PARTS,
        _ => right,
    }
}

fn is_denial(fault: &Fault) -> bool {
    fault.status == Some(403) || fault.code == "AccessDenied"
}

/// What could not be removed again.
pub(super) fn left_behind(keys: &[ObjectKey]) -> Verdict {
    let keys = keys.iter().map(ObjectKey::as_str).collect::<Vec<_>>().join(", ");
    Verdict::warning(
        format!("left in the store: {keys}"),
        "the doctor was not allowed to remove what it had put there",
        "remove it by hand",
    )
}
