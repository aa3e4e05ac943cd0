//! What takes its time: an answer that comes late, and a body that comes slowly.

use std::io;
use std::time::Duration;

use reqwest::Method;
use tokio::time::sleep;

use super::site::Site;
use super::upload;
use super::wire::{Head, Wire};
use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::units::format_duration;

/// Bytes of the body, one by one.
const PIECES: u32 = 30;
const AT_LAST: Duration = Duration::from_secs(30);

/// Tries both at once.
pub(super) async fn check(wire: &Wire<'_>, held: Duration, clock: &dyn Clock) -> Verdict {
    let (late, slow) = tokio::join!(Box::pin(late(wire.site, held, clock)), Box::pin(slow(wire, held, clock)));
    let seconds = format_duration(held);
    match (late, slow) {
        (Err((what, after)), _) => Verdict::failed(
            format!("an answer that takes {seconds} is cut off after {} s: {what}", after.as_secs()),
            "a chunk waits up to limits.queue_wait (20 s) for its turn, and a merge takes up to 10 s to be answered: what \
             was stored looks like a failure",
            "proxy_read_timeout 300s;   in nginx (ALB: its idle time-out; HAProxy: timeout server 300s)",
        ),
        (_, Err((what, after))) => Verdict::failed(
            format!("a body that takes {seconds} is cut off after {} s: {what}", after.as_secs()),
            "whoever uploads over a slow line never gets a chunk through",
            "client_body_timeout 300s; proxy_send_timeout 300s;   in nginx (HAProxy: timeout client 300s); or smaller chunks",
        ),
        (Ok(()), Ok(())) => Verdict::ok(format!("answers and bodies that take {seconds} come through")),
    }
}

/// What came instead, and after how long.
type Cut = (String, Duration);

async fn late(site: &Site, held: Duration, clock: &dyn Clock) -> Result<(), Cut> {
    let began = clock.monotonic();
    let path = format!("/doctor?after={}", held.as_secs());
    let answer = site.ask(site.request(Method::GET, &path)).await;
    let after = clock.monotonic().saturating_sub(began);
    match answer {
        Ok(answer) if answer.json["after"].is_u64() => Ok(()),
        Ok(answer) => Err((format!("status {}", answer.status), after)),
        Err(error) => Err((error, after)),
    }
}

async fn slow(wire: &Wire<'_>, held: Duration, clock: &dyn Clock) -> Result<(), Cut> {
    let file_id = format!("{}-b", wire.site.run);
    match upload::begin(wire.site, &file_id, u64::from(PIECES)).await {
        Ok(answer) if answer.status == 201 => {}
        // A gateway that takes no such file has said so in `upload`.
        Ok(_) | Err(_) => return Ok(()),
    }
    let began = clock.monotonic();
    let sent: io::Result<Option<Head>> = async {
        let mut sent = wire.put(&format!("/chunks/{file_id}/0"), u64::from(PIECES)).await?;
        for _ in 0..PIECES {
            sleep(held / PIECES).await;
            sent.send(&[7]).await?;
        }
        sent.answer(AT_LAST).await
    }
    .await;
    let after = clock.monotonic().saturating_sub(began);
    match sent {
        Ok(Some(head)) if head.status == 200 => Ok(()),
        Ok(Some(head)) => Err((format!("{} answers {}", head.server(), head.status), after)),
        Ok(None) => Err(("no answer comes".to_owned(), after)),
        Err(error) => Err((error.to_string(), after)),
    }
}
