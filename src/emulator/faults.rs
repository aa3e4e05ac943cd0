//! What goes wrong on purpose, for people who test their own uploaders: drawn
//! by lot from a seed, so that a run can be had again.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;

use super::error::OssError;
use crate::units::parse_duration;

/// One `--fault`: what goes wrong, how often, and with which operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: Kind,
    /// Of how many requests, from 0 to 1.
    share: f64,
    /// With each if none is named.
    operation: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The request waits this long before it is looked at.
    Slow(Duration),
    /// It is refused with this status.
    Error(StatusCode),
    /// It is refused as if its key had no right to it.
    Deny,
    /// The connection ends in the middle of the request, which does nothing.
    Reset,
    /// The request does what it should, and the connection ends without an answer.
    LoseAnswer,
    /// One byte on its way in, or else on its way out, is another.
    Corrupt,
}

const KINDS: &str = "slow=200ms, error=503, deny=PutObject, reset, lose-answer or corrupt";

impl FromStr for Fault {
    type Err = String;

    /// `kind`, or `kind=` and in any order, separated by colons: a time, a
    /// status, a share such as 0.2, an operation.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, fields) = text.split_once('=').unwrap_or((text, ""));
        let (mut share, mut operation, mut time, mut status) = (1.0, None, None, None);
        for field in fields.split(':').filter(|field| !field.is_empty()) {
            if let Ok(code) =
                field.parse::<u16>().map(|code| StatusCode::from_u16(code).ok().filter(|s| s.as_u16() >= 400))
            {
                match (code, field) {
                    (Some(code), _) => status = Some(code),
                    (None, "0") => share = 0.0,
                    (None, "1") => share = 1.0,
                    (None, _) => return Err(format!("{field} is no status of an error (400 to 599)")),
                }
            } else if let Ok(number) = field.parse::<f64>() {
                share = Some(number).filter(|share| (0.0..=1.0).contains(share)).ok_or("a share is from 0 to 1")?;
            } else if let Ok(duration) = parse_duration(field) {
                time = Some(duration);
            } else if field.bytes().all(|b| b.is_ascii_alphanumeric()) {
                operation = Some(field.to_owned());
            } else {
                return Err(format!("{field} is no time, status, share (0.2) or operation (UploadPart)"));
            }
        }
        let kind = match (name, time, status) {
            ("slow", Some(time), None) => Kind::Slow(time),
            ("slow", None, _) => return Err("slow needs a time: slow=200ms".to_owned()),
            ("error", None, Some(status)) => Kind::Error(status),
            ("error", _, None) => return Err("error needs a status: error=503:0.2".to_owned()),
            ("deny", None, None) => Kind::Deny,
            ("reset", None, None) => Kind::Reset,
            ("lose-answer", None, None) => Kind::LoseAnswer,
            ("corrupt", None, None) => Kind::Corrupt,
            _ => return Err(format!("it is none of {KINDS}; a time is for slow, a status for error")),
        };
        Ok(Self { kind, share, operation })
    }
}

/// All that may go wrong.
#[derive(Debug)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    seed: u64,
    drawn: AtomicU64,
}

/// What goes wrong with one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub slow: Duration,
    pub refusal: Option<OssError>,
    pub resets: bool,
    pub loses_answer: bool,
    pub corrupts: bool,
}

impl Faults {
    pub(crate) const fn new(faults: Vec<Fault>, seed: u64) -> Self {
        Self { faults, seed, drawn: AtomicU64::new(0) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Draws for a request of this operation.
    pub(crate) fn draw(&self, operation: &str) -> Drawn {
        let mut drawn = Drawn::default();
        let concerned =
            |fault: &&Fault| fault.operation.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(operation));
        for fault in self.faults.iter().filter(concerned) {
            if self.lot() >= fault.share {
                continue;
            }
            match fault.kind {
                Kind::Slow(time) => drawn.slow += time,
                Kind::Error(status) => drawn.refusal = Some(refusal(status)),
                Kind::Deny => {
                    let message = format!("The emulator was told to deny {operation}.");
                    drawn.refusal = Some(OssError::access_denied(message).ec("0003-00000001"));
                }
                Kind::Reset => drawn.resets = true,
                Kind::LoseAnswer => drawn.loses_answer = true,
                Kind::Corrupt => drawn.corrupts = true,
            }
        }
        drawn
    }

    /// From 0 to 1, the next of the seed's numbers (SplitMix64).
    fn lot(&self) -> f64 {
        let nth = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut z = self.seed.wrapping_add(nth.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or_default();
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with --fault-seed {}", self.faults.len(), self.seed)
    }
}

/// An error as OSS has it for such a status.
fn refusal(status: StatusCode) -> OssError {
    let code = match status {
        StatusCode::BAD_REQUEST => "RequestTimeout",
        StatusCode::FORBIDDEN => "AccessDenied",
        StatusCode::NOT_FOUND => "NoSuchKey",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    OssError::new(status, code, "The emulator was told to fail: --fault.")
}

/// An answer that never comes: the connection ends instead of it.
pub(crate) fn no_answer() -> Response {
    let cut = stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    Response::new(Body::from_stream(cut))
}

/// The same bytes, but for one bit of the first that come.
pub(crate) fn corrupted(body: Body) -> Body {
    let mut untouched = true;
    Body::from_stream(body.into_data_stream().map(move |frame| {
        frame.map(|bytes| {
            if bytes.is_empty() || !std::mem::take(&mut untouched) {
                return bytes;
            }
            let mut bytes = bytes.to_vec();
            bytes[0] ^= 1;
            Bytes::from(bytes)
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_fault_is_written_in_one_word() {
        let of =
            |kind, share, operation: Option<&str>| Fault { kind, share, operation: operation.map(ToOwned::to_owned) };
        for (text, expected) in [
            ("slow=200ms", of(Kind::Slow(Duration::from_millis(200)), 1.0, None)),
            ("slow=2s:0.1:UploadPart", of(Kind::Slow(Duration::from_secs(2)), 0.1, Some("UploadPart"))),
            ("error=503:0.2", of(Kind::Error(StatusCode::SERVICE_UNAVAILABLE), 0.2, None)),
            ("error=0.2:503", of(Kind::Error(StatusCode::SERVICE_UNAVAILABLE), 0.2, None)),
            ("deny=AbortMultipartUpload", of(Kind::Deny, 1.0, Some("AbortMultipartUpload"))),
            ("reset=0.05", of(Kind::Reset, 0.05, None)),
            ("reset", of(Kind::Reset, 1.0, None)),
            ("lose-answer=CompleteMultipartUpload:0.5", of(Kind::LoseAnswer, 0.5, Some("CompleteMultipartUpload"))),
            ("corrupt=0", of(Kind::Corrupt, 0.0, None)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in
            ["", "slow", "error", "error=200", "error=0.2", "reset=2.5", "reset=1s", "fly=1", "slow=-1s", "deny=a b"]
        {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_draws_the_same_lots_again() {
        let faults = vec![fault("error=503:0.2:UploadPart"), fault("reset=0.5")];
        let run = |seed| {
            let faults = Faults::new(faults.clone(), seed);
            (0..1000).map(|_| faults.draw("UploadPart")).collect::<Vec<_>>()
        };
        let first = run(7);
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        let refused = first.iter().filter(|drawn| drawn.refusal.is_some()).count();
        assert!((150..250).contains(&refused), "{refused} of 1000 are not a fifth");
        assert_eq!(Faults::new(faults.clone(), 7).draw("PutObject").refusal, None);
    }
}
