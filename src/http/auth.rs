//! Who is asking, by the head of a request. Without authentication only this
//! machine's own pages may ask.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::Utf8Error;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};

use crate::access::{Access, Caller};
use crate::domain::{FileId, Owner, Refusal, Scope};
use crate::http::Api;
use crate::http::address::ClientAddress;
use crate::http::config::CorsConfig;
use crate::http::cors::origin_matches;
use crate::http::problem::Problem;

/// An act that a route is for.
pub trait Act {
    /// What a token must be handed out for.
    const SCOPE: Scope;
}

/// Uploading, and asking what has arrived.
#[derive(Debug)]
pub enum WriteUploads {}

/// Lists of files, and what is in them.
#[derive(Debug)]
pub enum ReadFiles {}

/// Deleting files.
#[derive(Debug)]
pub enum WriteFiles {}

impl Act for WriteUploads {
    const SCOPE: Scope = Scope::UploadsWrite;
}

impl Act for ReadFiles {
    const SCOPE: Scope = Scope::FilesRead;
}

impl Act for WriteFiles {
    const SCOPE: Scope = Scope::FilesWrite;
}

/// A caller who may do this.
#[derive(Debug)]
pub struct May<A> {
    caller: Caller,
    act: PhantomData<A>,
}

impl<A> May<A> {
    /// Whose upload or file this is for the caller.
    pub fn owner_of(&self, file_id: &FileId) -> &Owner {
        self.caller.grant.owner_of(file_id)
    }
}

impl<A> Deref for May<A> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<A: Act> FromRequestParts<Api> for May<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = caller(parts, api).await?;
        caller.grant.allows(A::SCOPE)?;
        Ok(Self { caller, act: PhantomData })
    }
}

/// A caller who holds a key: the application behind, or its operator.
#[derive(Debug)]
pub struct BackEnd;

impl FromRequestParts<Api> for BackEnd {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(caller(parts, api).await?.needs_key().map(|()| Self)?)
    }
}

/// A caller who may administer: see [`Access::operator`].
#[derive(Debug)]
pub struct Operator;

impl FromRequestParts<Api> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = counted(api.access.operator(authorization(parts)).await, parts, api)?;
        api.rates.of_subject(&caller.grant.owner)?;
        Ok(caller.needs_key().map(|()| Self)?)
    }
}

fn authorization(parts: &Parts) -> Option<&[u8]> {
    parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes)
}

/// Who guesses is told to wait, and no longer whether it was right.
fn counted<T>(proof: Result<T, Refusal>, parts: &Parts, api: &Api) -> Result<T, Refusal> {
    if let Err(refusal) = &proof
        // Nobody has looked at what was shown.
        && *refusal != Refusal::IssuerUnavailable
    {
        api.rates.of_failures(&ClientAddress::of(parts, api.limits.trusted_proxies))?;
    }
    proof
}

async fn caller(parts: &Parts, api: &Api) -> Result<Caller, Refusal> {
    let acts_for = match &*api.access {
        Access::Loopback | Access::Anybody(_) => None,
        Access::Proven(_) => owner_parameter(&parts.uri)?,
    };
    let caller = counted(api.access.caller(authorization(parts), acts_for).await, parts, api)?;
    api.rates.of_subject(&caller.grant.owner)?;
    Ok(caller)
}

/// Without authentication, a form on any web page could post here and any
/// name could be made to resolve here (DNS rebinding): both are refused by
/// what browsers say of where a request comes from and goes to.
pub fn guard(access: &Access, headers: &HeaderMap, port: u16, cors: &CorsConfig) -> Result<(), Refusal> {
    match access {
        Access::Anybody(_) | Access::Proven(_) => return Ok(()),
        Access::Loopback => {}
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    if !is_own(host, port) {
        return Err(Refusal::HostNotAllowed { host: shown(host), port });
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let own = origin.strip_prefix("http://").is_some_and(|host| is_own(host, port));
    let allowed = cors.allowed_origins.iter().any(|pattern| origin_matches(pattern, origin));
    if own || allowed { Ok(()) } else { Err(Refusal::OriginNotAllowed { origin: shown(origin) }) }
}

/// Any loopback name with our port is our own.
fn is_own(host: &str, port: u16) -> bool {
    let (name, given) = match host.rsplit_once(':') {
        Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (name, digits.parse().unwrap_or(0))
        }
        _ => (host, 80u16),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = literal.is_ok_and(|ip| ip.to_canonical().is_loopback());
    given == port && (loopback || name == "localhost" || name.ends_with(".localhost"))
}

fn shown(value: &str) -> String {
    value.chars().take(100).collect()
}

fn owner_parameter(uri: &Uri) -> Result<Option<Owner>, Refusal> {
    let wrong = |reason: &str| Refusal::InvalidParameter { name: "owner", reason: reason.to_owned() };
    // Names are decoded as they are for all other parameters: `%6fwner` is one too.
    let pairs = uri.query().unwrap_or("").split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut owners = pairs.filter(|(name, _)| decoded(name).is_ok_and(|name| name == "owner")).map(|(_, value)| value);
    let Some(value) = owners.next() else { return Ok(None) };
    if owners.next().is_some() {
        return Err(wrong("is given more than once"));
    }
    Owner::parse(&decoded(value).map_err(|_| wrong("is not UTF-8"))?).map(Some)
}

/// What stands in a query (`application/x-www-form-urlencoded`).
fn decoded(text: &str) -> Result<String, Utf8Error> {
    let plus = text.replace('+', " ");
    percent_encoding::percent_decode_str(&plus).decode_utf8().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().expect("a name"), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn any_loopback_name_with_our_port_is_our_own() {
        for own in
            ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "app.localhost:8080", "[::1]:8080", "127.1.2.3:8080"]
        {
            assert!(is_own(own, 8080), "{own}");
        }
        for foreign in [
            "",
            "localhost",
            "localhost:8081",
            "evil.com:8080",
            "127.0.0.1.evil.com:8080",
            "localhost.evil.com:8080",
            "192.168.0.1:8080",
        ] {
            assert!(!is_own(foreign, 8080), "{foreign}");
        }
        assert!(is_own("localhost", 80));
    }

    #[test]
    fn without_authentication_foreign_pages_are_refused() {
        let cors = CorsConfig { allowed_origins: vec!["https://good.com".to_owned()], ..CorsConfig::default() };
        let ask = |pairs: &[(&'static str, &str)]| guard(&Access::Loopback, &headers(pairs), 8080, &cors).is_ok();
        assert!(ask(&[("host", "localhost:8080")]));
        assert!(ask(&[("host", "localhost:8080"), ("origin", "http://127.0.0.1:8080")]));
        assert!(ask(&[("host", "localhost:8080"), ("origin", "https://good.com")]));
        for origin in
            ["null", "https://good.com.evil", "https://evil.com", "http://localhost:3000", "https://localhost:8080"]
        {
            assert!(!ask(&[("host", "localhost:8080"), ("origin", origin)]), "{origin}");
        }
        assert!(!ask(&[("host", "rebound.evil.com:8080")]));
        assert!(!ask(&[]));
    }

    #[test]
    fn a_key_says_for_whom_it_acts() {
        let ask = |uri: &str| owner_parameter(&uri.parse().expect("a uri"));
        assert_eq!(
            ask("/?a=1&owner=u%2F7").map(|owner| owner.map(|owner| owner.to_string())),
            Ok(Some("u/7".to_owned()))
        );
        assert_eq!(ask("/?a=1"), Ok(None));
        for hidden in ["/?%6fwner=u7", "/?a&own%65r=u7&b=c", "/?b=owner=x&owner=u7"] {
            assert_eq!(
                ask(hidden).map(|owner| owner.map(|owner| owner.to_string())),
                Ok(Some("u7".to_owned())),
                "{hidden}"
            );
        }
        for wrong in ["/?owner=", "/?owner", "/?owner=%ff", "/?owner=a&owner=a", "/?owner=a&%6fwner=b"] {
            assert!(ask(wrong).is_err(), "{wrong}");
        }
    }
}
