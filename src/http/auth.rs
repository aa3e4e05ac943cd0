//! Who is asking. Deny by default: without authentication only this machine's
//! own pages may ask; otherwise only who holds a key.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::Utf8Error;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::{Owner, Refusal};
use crate::http::Api;
use crate::http::config::{ApiKey, CorsConfig};
use crate::http::cors::origin_matches;
use crate::http::problem::Problem;

/// Who may ask.
#[derive(Clone)]
pub enum Access {
    /// Everybody on this machine, as the owner `local`.
    Loopback,
    /// Everybody who can reach us, as the owner `local`: `--insecure-no-auth`.
    Anybody,
    /// Who holds one of these keys.
    Keys(Vec<ApiKey>),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "Loopback",
            Self::Anybody => "Anybody",
            Self::Keys(_) => "Keys",
        })
    }
}

/// Who is asking, and whose uploads are meant.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose uploads a route about one upload means.
    pub owner: Owner,
    /// Whose uploads a list spans; none is everybody's.
    pub listed: Option<Owner>,
}

impl Access {
    /// Who is asking, by the request's head.
    pub fn caller(&self, headers: &HeaderMap, uri: &Uri) -> Result<Caller, Refusal> {
        match self {
            Self::Loopback | Self::Anybody => Ok(Caller { owner: Owner::local(), listed: Some(Owner::local()) }),
            Self::Keys(keys) => {
                let name = key_name(keys, headers)?;
                match owner_parameter(uri)? {
                    Some(owner) => Ok(Caller { owner: owner.clone(), listed: Some(owner) }),
                    None => Ok(Caller { owner: Owner::of_key(name), listed: None }),
                }
            }
        }
    }

    /// Without authentication, a form on any web page could post here and any
    /// name could be made to resolve here (DNS rebinding): both are refused by
    /// what browsers say of where a request comes from and goes to.
    pub fn guard(&self, headers: &HeaderMap, port: u16, cors: &CorsConfig) -> Result<(), Refusal> {
        match self {
            Self::Anybody | Self::Keys(_) => return Ok(()),
            Self::Loopback => {}
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

fn key_name<'a>(keys: &'a [ApiKey], headers: &HeaderMap) -> Result<&'a str, Refusal> {
    let header = headers.get(header::AUTHORIZATION).ok_or(Refusal::Unauthorized { reason: "there is no key" })?;
    let malformed = Refusal::Unauthorized { reason: "the Authorization header is not a bearer key" };
    let header = header.as_bytes();
    let is_bearer = header.len() > 7 && header[..7].eq_ignore_ascii_case(b"bearer ");
    let key = if is_bearer { header[7..].trim_ascii() } else { return Err(malformed) };
    let hash = Sha256::digest(key);
    // All keys are compared, whichever matches: how long it takes tells nothing.
    let mut found = None;
    for known in keys {
        if bool::from(known.sha256.ct_eq(&hash[..])) {
            found = Some(known.name.as_str());
        }
    }
    found.ok_or(Refusal::Unauthorized { reason: "the key is not known" })
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

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        api.access.caller(&parts.headers, &parts.uri).map_err(Problem::from)
    }
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
        let ask = |pairs: &[(&'static str, &str)]| Access::Loopback.guard(&headers(pairs), 8080, &cors).is_ok();
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
    fn keys_name_their_owner() {
        let keys =
            vec![ApiKey::parse("shop:ck_secret").expect("a key"), ApiKey::parse("blog:ck_other").expect("a key")];
        let access = Access::Keys(keys);
        let ask =
            |value: &str, uri: &str| access.caller(&headers(&[("authorization", value)]), &uri.parse().expect("a uri"));
        assert_eq!(ask("Bearer ck_other", "/").map(|c| c.owner.to_string()), Ok("key:blog".to_owned()));
        assert!(ask("bearer ck_secret", "/").is_ok_and(|c| c.listed.is_none()));
        assert_eq!(ask("Bearer ck_secret", "/?a=1&owner=u%2F7").map(|c| c.owner.to_string()), Ok("u/7".to_owned()));
        for wrong in ["Bearer nonsense", "Bearer ", "Basic ck_secret", "ck_secret", ""] {
            assert!(ask(wrong, "/").is_err(), "{wrong}");
        }
        for hidden in ["/?%6fwner=u7", "/?a&own%65r=u7&b=c", "/?b=owner=x&owner=u7"] {
            assert_eq!(ask("Bearer ck_secret", hidden).map(|c| c.owner.to_string()), Ok("u7".to_owned()), "{hidden}");
        }
        for wrong in ["/?owner=", "/?owner", "/?owner=%ff", "/?owner=a&owner=a", "/?owner=a&%6fwner=b"] {
            assert!(ask("Bearer ck_secret", wrong).is_err(), "{wrong}");
        }
    }
}
