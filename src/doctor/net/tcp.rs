//! Connections: to each address that the name has.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Place, dns};
use crate::doctor::report::Verdict;
use crate::units::format_duration;

/// Longer than any handshake takes; the configured time-out may be more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a connection was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unmet {
    /// Nobody listens.
    Refused,
    /// Nobody answers.
    Silent,
    /// There is no way there.
    Other(String),
}

/// Connects to each; those that took it.
pub(in crate::doctor) async fn check(
    place: &Place,
    addresses: &[IpAddr],
    connect_timeout: Duration,
) -> (Verdict, Option<Vec<IpAddr>>) {
    let patience = connect_timeout.min(PATIENCE);
    let tried = addresses.iter().map(|address| async move {
        let connected = timeout(patience, TcpStream::connect((*address, place.port))).await;
        (*address, connected.map_or(Err(Unmet::Silent), |connected| connected.map(drop).map_err(refusal)))
    });
    let tried = join_all(tried).await;
    let open: Vec<IpAddr> = tried.iter().filter(|(_, tried)| tried.is_ok()).map(|(address, _)| *address).collect();
    (verdict(place, &tried, patience), Some(open).filter(|open| !open.is_empty()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the operating system's errors are many")]
fn refusal(error: io::Error) -> Unmet {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Unmet::Refused,
        io::ErrorKind::TimedOut => Unmet::Silent,
        _ => Unmet::Other(error.to_string()),
    }
}

fn verdict(place: &Place, tried: &[(IpAddr, Result<(), Unmet>)], patience: Duration) -> Verdict {
    let (port, setting) = (place.port, place.setting);
    let say = |(address, tried): &(IpAddr, Result<(), Unmet>)| match tried {
        Ok(()) => format!("{address}:{port} is open"),
        Err(Unmet::Refused) => format!("{address}:{port} refuses"),
        Err(Unmet::Silent) => format!("{address}:{port} does not answer within {}", format_duration(patience)),
        Err(Unmet::Other(error)) => format!("{address}:{port}: {error}"),
    };
    let what = tried.iter().map(say).collect::<Vec<_>>().join("; ");
    let refused: Vec<_> = tried.iter().filter_map(|(address, tried)| Some((address, tried.as_ref().err()?))).collect();
    if refused.len() < tried.len() {
        // localhost has two addresses, and servers rarely listen on both.
        if refused.iter().all(|(address, _)| address.is_loopback()) {
            return Verdict::ok(what);
        }
        return Verdict::warning(
            what,
            "connections that begin with such an address are late, or fail",
            "open the way to it in the firewall, or remove it from DNS (for IPv6: its AAAA record, or give this machine a route)",
        );
    }
    if let Some(public) = &place.public_twin {
        return dns::of_internal(what, public, setting);
    }
    if refused.iter().any(|(_, error)| **error == Unmet::Refused) {
        let fix = format!("correct the port in {setting}, or start what should listen there");
        return Verdict::failed(what, "the machine is there, and nobody listens on this port", fix);
    }
    Verdict::failed(
        what,
        "packets get lost on the way: a firewall or a security group drops them, or the address is nobody's",
        format!("let this machine out to TCP port {port}, or correct {setting}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn the_ways_not_to_connect_are_told_apart() {
        let place = |public: Option<&str>| Place {
            is_https: true,
            host: "h".to_owned(),
            port: 443,
            public_twin: public.map(ToOwned::to_owned),
            setting: "store.oss.endpoint",
        };
        let address = IpAddr::from([100, 118, 0, 9]);
        let of = |public, tried: &[(IpAddr, Result<(), Unmet>)]| verdict(&place(public), tried, PATIENCE);
        let silent = of(None, &[(address, Err(Unmet::Silent))]);
        assert!(silent.what.contains("does not answer within 5s") && silent.fix.contains("TCP port 443"), "{silent:?}");
        let refused = of(None, &[(address, Err(Unmet::Refused))]);
        assert!(refused.why.contains("nobody listens"), "{refused:?}");
        let internal = of(Some("oss-cn-hangzhou.aliyuncs.com"), &[(address, Err(Unmet::Silent))]);
        assert!(internal.what.contains("internal endpoint"), "{internal:?}");
        let half =
            of(None, &[(address, Ok(())), (IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), Err(Unmet::Silent))]);
        assert_eq!(half.status, Status::Warning);
        let localhost =
            [(IpAddr::from([127, 0, 0, 1]), Ok(())), (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), Err(Unmet::Refused))];
        assert_eq!(of(None, &localhost).status, Status::Ok);
    }
}
