//! Whether bodies reach the gateway while they are sent, and refusals the
//! client before it has sent all.

use std::time::Duration;

use super::wire::{Head, Wire};
use crate::doctor::report::Verdict;

const BODY: u64 = 1 << 20;
const FIRST_BYTES: usize = 1 << 10;
const LARGE_BODY: usize = 8 << 20;
const PIECE: usize = 64 << 10;
/// A gateway refuses a chunk of no upload by its head, at once.
const AT_ONCE: Duration = Duration::from_secs(3);
const AT_LAST: Duration = Duration::from_secs(20);

/// Sends the head and little more: a gateway that gets it answers; who collects
/// the body first lets nothing be seen until all of it is sent.
pub(super) async fn buffering(wire: &Wire<'_>) -> Verdict {
    let tried = async {
        let mut sent = wire.put(&wire.site.nobodys_chunk(), BODY).await?;
        sent.send(&[0; FIRST_BYTES]).await?;
        if let Some(head) = sent.answer(AT_ONCE).await? {
            return Ok::<_, std::io::Error>((head, false));
        }
        sent.send(&vec![0; BODY as usize - FIRST_BYTES]).await?;
        let head = sent.answer(AT_LAST).await?;
        head.map(|head| (head, true)).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::TimedOut))
    };
    match tried.await {
        Ok((head, _)) if !head.is_the_gateways() => foreign(&head),
        Ok((_, false)) => Verdict::ok("bodies reach the gateway while they are sent"),
        Ok((_, true)) => Verdict::failed(
            "something in between collects each body before the gateway gets any of it",
            "an upload takes twice as long and is lost whole when it breaks off, the proxy's disk fills, its time-outs \
             run, and refusals come only at the end",
            "proxy_request_buffering off; proxy_http_version 1.1;   in nginx (Ingress: \
             nginx.ingress.kubernetes.io/proxy-request-buffering: \"off\"); at the CDN, an upload path that streams",
        ),
        Err(error) => Verdict::failed(
            format!("a chunk gets no answer: {error}"),
            "the browser shows a network error",
            "see the log of what stands in between",
        ),
    }
}

/// Sends on although it is refused, as browsers do.
pub(super) async fn refusals(wire: &Wire<'_>) -> Verdict {
    let tried = async {
        let mut sent = wire.put(&wire.site.nobodys_chunk(), LARGE_BODY as u64).await?;
        for _ in 0..LARGE_BODY / PIECE {
            // A connection that is closed under the body may still bring the answer.
            if sent.send(&[0; PIECE]).await.is_err() {
                break;
            }
        }
        sent.answer(AT_LAST).await?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::TimedOut))
    };
    match tried.await {
        Ok(head) if head.is_the_gateways() => Verdict::ok("a refusal reaches the client that is still sending"),
        Ok(head) => foreign(&head),
        Err(error) => Verdict::failed(
            format!("a refusal in mid-body does not reach the client: {error}"),
            "the connection is closed under the body, and the browser shows a network error without a status: uploaders \
             try again and again what will never be taken",
            "lingering_close on; lingering_time 30s;   in nginx; elsewhere, let refused bodies be read to their end",
        ),
    }
}

fn foreign(head: &Head) -> Verdict {
    Verdict::failed(
        format!("a chunk is answered {} by {}, not by the gateway", head.status, head.server()),
        "uploaders do not understand it",
        "see the log of what stands in between; a web application firewall often refuses PUT and binary bodies",
    )
}
