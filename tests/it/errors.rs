//! `docs/errors.md` is made of the table that answers are read by.

use std::fmt::Write as _;
use std::path::Path;

use chunkgate::store::oss::codes::{CODES, Meaning};

const HEAD: &str = "\
# Errors of the store

Made by `tests/it/errors.rs` of the table in `src/store/oss/codes.rs`, to which the reading of OSS's answers is held; the
test fails when this page differs. Each failure is in the log once, with operation, address, code, OSS's request id
and what to do; clients are told no more than a code of [openapi.yaml](../openapi.yaml). A code without a status is
the gateway's own, for what has no answer. One that is not here counts by its status: 5xx, 408 and 429 as what is
repeated, everything else as what is refused.

What the gateway does:

- **repeats**: up to `store.retries` times, with full jitter, as long as the retry budget lasts (100 in reserve; ten
  calls that succeed earn one). A chunk's body cannot be had again: its client gets `503 store_unavailable` with
  `Retry-After`, and sends it again.
- **later**: `503 store_unavailable` with `Retry-After` at once.
- **refused**: the same for the client; it goes on until somebody changes something. At the start it ends the start.
- **looks**: the object is asked for; it is the upload's, or the upload is lost: `410 upload_lost`.
- **asks again**: those chunks are missing again, and their client sends them.

What it counts, on the admin listener's `/metrics`: `chunkgate_store_attempts_failed_total{operation,why}` (deadlines
among the reasons), `chunkgate_store_retries_total{operation}`, `chunkgate_store_retries_withheld_total{operation}`,
`chunkgate_store_retry_budget`, `chunkgate_store_connect_seconds{outcome}` (connections made; beside the calls, how
well the pool serves), `chunkgate_store_calls_under_way`, `chunkgate_store_seconds{operation,outcome}`,
`chunkgate_store_breaker_open`, `chunkgate_store_credentials_renewed_total`, `chunkgate_store_credentials_failing`.

";

const fn does(meaning: Meaning) -> &'static str {
    match meaning {
        Meaning::NoUpload => "looks",
        Meaning::NoObject => "`404 file_not_found`",
        Meaning::PartsDiffer => "asks again",
        Meaning::Again => "repeats",
        Meaning::Later => "later",
        Meaning::Refused => "refused",
    }
}

#[test]
fn the_page_of_errors_is_the_table_of_errors() {
    let mut page =
        format!("{HEAD}| code | status | what happened | the gateway | what to do |\n|---|---|---|---|---|\n");
    for code in CODES {
        let status = if code.status == 0 { String::new() } else { code.status.to_string() };
        let (says, does, remedy) = (code.says, does(code.meaning), code.remedy.unwrap_or_default());
        writeln!(page, "| `{}` | {status} | {says} | {does} | {remedy} |", code.code).expect("written");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read_to_string(folder.join("docs/errors.md")).unwrap_or_default();
    if kept != page {
        std::fs::write(folder.join("target/errors.md"), &page).expect("written");
        panic!(
            "docs/errors.md is not what the table says; see what changed, and if it is right:\n  cp target/errors.md docs/errors.md\n{page}"
        );
    }
}
