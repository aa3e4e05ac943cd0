//! TLS: whose certificate it is, who vouches for it, how long it lasts.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Place, certificate};
use crate::clock::Clock;
use crate::doctor::report::Verdict;
use crate::domain::Timestamp;

/// A certificate that ends sooner is worth a word: most are renewed before.
const DAYS_LEFT_MIN: i64 = 14;
const DAY_MILLIS: i64 = 86_400_000;

/// As the HTTP client has it: the machine's own roots.
fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

/// A connection with TLS, to the host of this name.
pub(in crate::doctor) async fn connect(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = config().map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Shakes hands with the host at this address.
pub(in crate::doctor) async fn check(
    place: &Place,
    address: Option<IpAddr>,
    patience: Duration,
    clock: &dyn Clock,
) -> Verdict {
    let Some(address) = address else { return Verdict::skipped("no address takes connections") };
    let handshake = async {
        let stream = TcpStream::connect((address, place.port)).await?;
        connect(&place.host, stream).await
    };
    let stream = match timeout(patience, handshake).await {
        Err(_) => return silent(place, patience),
        Ok(Err(error)) => return refused(place, &error),
        Ok(Ok(stream)) => stream,
    };
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let ends = session.peer_certificates().and_then(|chain| certificate::not_after(chain.first()?));
    let what = format!("{} proves itself ({version})", place.host);
    match ends.map(|ends| (ends, (ends.millis() - clock.now().millis()) / DAY_MILLIS)) {
        Some((_, days)) if days < DAYS_LEFT_MIN => Verdict::warning(
            format!("{what}; its certificate ends in {days} days"),
            "from then on nothing connects any more",
            "renew it, and see why it was not renewed by itself",
        ),
        Some((ends, _)) => Verdict::ok(format!("{what}; its certificate ends on {}", day(ends))),
        None => Verdict::ok(what),
    }
}

fn silent(place: &Place, patience: Duration) -> Verdict {
    Verdict::failed(
        format!("port {} takes the connection and never shakes hands (waited {} s)", place.port, patience.as_secs()),
        "what listens there speaks no TLS, or is stuck",
        format!("check that {} names a port for https, and what stands before it", place.setting),
    )
}

fn day(at: Timestamp) -> String {
    at.rfc3339().split('T').next().unwrap_or_default().to_owned()
}

fn refused(place: &Place, error: &io::Error) -> Verdict {
    let host = &place.host;
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(wrong)) => of_certificate(place, wrong),
        // What rustls says of an answer in plain HTTP.
        Some(rustls::Error::InvalidMessage(_)) => Verdict::failed(
            format!("{host}:{} speaks no TLS", place.port),
            "the endpoint is https, and plain http answers there",
            format!("write http:// in {}, or give the server a certificate", place.setting),
        ),
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => Verdict::failed(
            format!("the server knows no {host}"),
            "it has certificates for other names only",
            format!("correct {}, or give the server a certificate for {host}", place.setting),
        ),
        Some(_) | None => Verdict::failed(
            format!("TLS with {host} fails: {error}"),
            "without it nothing is sent",
            "look at what stands in between: a proxy that inspects TLS, or a server that is too old for TLS 1.2",
        ),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls' reasons are many, and open")]
fn of_certificate(place: &Place, wrong: &CertificateError) -> Verdict {
    let (host, setting) = (&place.host, place.setting);
    let at = |time: &rustls::pki_types::UnixTime| {
        day(Timestamp::from_millis(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)))
    };
    match wrong {
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.iter().map(|name| plain_name(name)).collect::<Vec<_>>().join(", ");
            Verdict::failed(
                format!("the certificate is for {names}, not for {host}"),
                "whoever answers there is not proven to be the host: nothing is sent",
                format!(
                    "name one of the certificate's own names in {setting}, or get a certificate that has {host}; for a \
                     domain of your own upload it to the bucket's domain"
                ),
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => Verdict::failed(
            format!("the certificate of {host} ended on {}", at(not_after)),
            "nothing is sent",
            "renew it; or set this machine's clock, if that is wrong",
        ),
        CertificateError::NotValidYetContext { not_before, .. } => Verdict::failed(
            format!("the certificate of {host} begins only on {}", at(not_before)),
            "nothing is sent",
            "set this machine's clock",
        ),
        CertificateError::UnknownIssuer => Verdict::failed(
            format!("nobody whom this machine trusts vouches for the certificate of {host}"),
            "it is self-signed, its server sends no intermediate certificate, a proxy inspects TLS, or this machine has no roots",
            "install ca-certificates; for a private authority set SSL_CERT_FILE to its certificate",
        ),
        other => Verdict::failed(
            format!("the certificate of {host} is not valid: {other}"),
            "nothing is sent",
            "get a certificate for it that is valid",
        ),
    }
}

/// `DnsName("a.example")` is what rustls gives; people read `a.example`.
fn plain_name(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_plainly() {
        assert_eq!(plain_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(plain_name("a.example"), "a.example");
    }

    #[test]
    fn an_expired_certificate_says_when() {
        let place =
            Place { is_https: true, host: "h".to_owned(), port: 443, public_twin: None, setting: "store.oss.endpoint" };
        let time = |seconds| rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: time(1_795_255_740), not_after: time(1_795_165_868) };
        assert!(of_certificate(&place, &expired).what.ends_with("ended on 2026-11-20"));
    }
}
