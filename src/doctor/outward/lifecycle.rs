//! What the bucket itself does about parts that nobody joins.

use super::scratch::Scratch;
use crate::doctor::report::Verdict;
use crate::store::Abandoned;

/// A rule that is sooner drops uploads that are still going on.
const DAYS_MIN: u32 = 7;

const RULE: &str = "a lifecycle rule of the bucket: prefix as in upload.key_template, delete parts (AbortMultipartUpload; \
                    S3: AbortIncompleteMultipartUpload) 8 days after they were begun; longer than upload.expires_after";

/// Asks for its rules.
pub(super) async fn check(scratch: &Scratch, is_shared: bool) -> Verdict {
    if !is_shared {
        return Verdict::skipped("the folder is this gateway's own: its sweeper is all that it takes");
    }
    match scratch.store.abandoned(&scratch.key("aborted")).await {
        Ok(Abandoned::Swept) => Verdict::ok("nobody else puts anything there"),
        Ok(Abandoned::DroppedAfterDays(days)) if days >= DAYS_MIN => {
            Verdict::ok(format!("the bucket drops parts that nobody joined after {days} days"))
        }
        Ok(Abandoned::DroppedAfterDays(days)) => Verdict::warning(
            format!("the bucket drops parts that nobody joined after {days} days"),
            "an upload that goes on for longer is lost (upload_lost)",
            RULE,
        ),
        Ok(Abandoned::Kept) => Verdict::warning(
            "no lifecycle rule drops parts that nobody joins",
            "the sweeper removes those that its ledger knows; a ledger that is lost leaves them, and they are billed for good",
            RULE,
        ),
        Err(error) => Verdict::skipped(format!("the store does not say ({error})")),
    }
}
