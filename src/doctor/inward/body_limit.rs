//! How large a body may be: asked by heads alone, which whoever limits refuses
//! at once.

use std::time::Duration;

use super::wire::{Head, Wire};
use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::units::format_bytes;

/// The largest that is asked for.
const LARGEST: u64 = 1 << 30;
/// How exactly the limit is found.
const STEP: u64 = 64 << 10;
/// A chunk of the size that gateways choose, as a form.
const CHUNK_BYTES: u64 = (8 << 20) + STEP;
/// The largest small file (`upload.simple_max_bytes`), as a form.
const FILE_BYTES: u64 = (16 << 20) + STEP;
/// Who refuses, does so within this, and the way.
const SILENCE: Duration = Duration::from_millis(600);

/// How a head was taken.
enum Taken {
    Passed,
    Refused(String),
}

/// Asks for the largest, and if it is refused looks for the limit.
pub(super) async fn check(wire: &Wire<'_>, clock: &dyn Clock) -> Verdict {
    let began = clock.monotonic();
    let first = ask(wire, LARGEST, SILENCE * 4).await;
    let way = clock.monotonic().saturating_sub(began).min(SILENCE);
    let Taken::Refused(mut by) = first else {
        return Verdict::ok(format!("bodies of {} pass", format_bytes(LARGEST)));
    };
    // In steps: `passes` does, `refused` does not.
    let (mut passes, mut refused) = (0, LARGEST / STEP);
    while refused - passes > 1 {
        let middle = passes.midpoint(refused);
        match ask(wire, middle * STEP, SILENCE + way).await {
            Taken::Passed => passes = middle,
            Taken::Refused(whom) => (refused, by) = (middle, whom),
        }
    }
    judge(passes * STEP, &by)
}

async fn ask(wire: &Wire<'_>, bytes: u64, patience: Duration) -> Taken {
    let answered = async {
        let mut sent = wire.put(&wire.site.nobodys_chunk(), bytes).await?;
        sent.answer(patience).await
    };
    let of_head = |head: &Head| match head.is_the_gateways() {
        true => Taken::Passed,
        false => Taken::Refused(format!("{} answers {}", head.server(), head.status)),
    };
    match answered.await {
        // Somebody waits for the body.
        Ok(None) => Taken::Passed,
        Ok(Some(head)) => of_head(&head),
        Err(_) => Taken::Refused("the connection is cut".to_owned()),
    }
}

fn judge(passes: u64, by: &str) -> Verdict {
    let what = format!("bodies of more than {} do not pass ({by})", format_bytes(passes));
    let nginx = "client_max_body_size 0;   in nginx (Ingress: nginx.ingress.kubernetes.io/proxy-body-size: \"0\"; CDN: its limit for bodies)";
    if passes < CHUNK_BYTES {
        return Verdict::failed(
            what,
            "a chunk of the size that the gateway chooses (8 MiB) is refused before it gets there; browsers show a \
             network error or 413",
            format!("{nginx}; or send smaller chunks: chunkSize {}", format_bytes(below(passes))),
        );
    }
    if passes < FILE_BYTES {
        let why = "small files in one request (POST /files, up to 16 MiB) are refused before they get there";
        return Verdict::warning(what, why, nginx);
    }
    Verdict::ok(format!("{what}: keep chunkSize below"))
}

/// A chunk that fits with a form around it.
fn below(passes: u64) -> u64 {
    let room = passes.saturating_sub(STEP).max(STEP);
    1 << room.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn the_limit_is_judged_by_what_uploads_need() {
        let small = judge(1 << 20, "nginx answers 413");
        assert!(small.status == Status::Failed && small.what.contains("more than 1MiB"), "{small:?}");
        assert!(small.fix.contains("client_max_body_size 0;") && small.fix.ends_with("chunkSize 512KiB"), "{small:?}");
        assert_eq!(judge(8 << 20, "").status, Status::Failed, "a form is larger than its chunk");
        assert_eq!(judge(10 << 20, "").status, Status::Warning);
        assert_eq!(judge(100 << 20, "").status, Status::Ok);
    }
}
