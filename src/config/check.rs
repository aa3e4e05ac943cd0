//! What no single value shows: relations between them, and what they mean.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::mask;
use super::reference::{self, MASK};
use super::{Config, Environment, Origin, Problem, Strictness};
use crate::access::{AuthMethod, AuthMode, Issuer};
use crate::clock::SystemClock;
use crate::domain::kind::Kinds;
use crate::domain::{Owner, Timestamp};
use crate::engine::keys::{PLACEHOLDERS, object_key};
use crate::logging;
use crate::notify::sign::SigningKeys;
use crate::store::StoreKind;
use crate::store::{oss, s3};
use crate::units::format_duration;

/// The shortest lease: it is renewed every third of its life, and a store's
/// answer may take a second.
const LEASE_MIN: Duration = Duration::from_secs(3);

/// What is known beside the values.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// Where each value was written.
    pub(super) origins: &'a BTreeMap<String, Origin>,
    /// What the store falls back to.
    pub(super) environment: &'a Environment,
    pub(super) strictness: Strictness,
}

/// Tells all that is wrong, and what works but is probably not meant.
pub(super) fn check(config: &Config, given: Given<'_>, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
    let Given { origins, environment, strictness } = given;
    let mut checks = Checks { written: serde_json::to_value(config).unwrap_or_default(), origins, problems };
    checks.access(config, strictness);
    checks.addresses(config);
    checks.database(config);
    warnings.extend(checks.store(config, environment, strictness));
    checks.durations(config);
    checks.counts(config);
    checks.key_template(&config.upload.key_template);
    if let Err(refusal) = kinds(&config.upload.allowed_types) {
        checks.wrong("upload.allowed_types", refusal);
    }
    checks.webhook(config);
    checks.cors(config);
    if let Err(advice) = logging::targets(&config.log.level) {
        checks.wrong("log.level", advice);
    }
    if strictness.insecure_no_auth && config.auth.mode == AuthMode::None && !config.listen.ip().is_loopback() {
        warnings.push(format!("anybody who reaches {} can upload, read and delete files", config.listen));
    }
}

struct Checks<'a> {
    /// The configuration as it would be written, with secrets masked.
    written: Json,
    origins: &'a BTreeMap<String, Origin>,
    problems: &'a mut Vec<Problem>,
}

impl Checks<'_> {
    fn wrong(&mut self, key: &str, advice: impl Into<String>) {
        let pointer = format!("/{}", key.replace('.', "/"));
        let value = self.written.pointer(&pointer).unwrap_or(&Json::Null);
        let subject = match (reference::find(key), value) {
            (_, Json::Null) => key.to_owned(),
            (Some(known), _) if known.secret => format!("{key} = {MASK}"),
            (_, value) => format!("{key} = {}", mask::shown(key, value)),
        };
        let advice = mask::advised(key, value, &advice.into());
        self.problems.push(Problem { subject, origin: self.origins.get(key).cloned(), advice });
    }

    fn require(&mut self, holds: bool, key: &str, advice: &str) {
        if !holds {
            self.wrong(key, advice);
        }
    }

    fn access(&mut self, config: &Config, strictness: Strictness) {
        if config.auth.mode == AuthMode::None {
            // Where anybody is served, keys are for who administers.
            let needless = !strictness.insecure_no_auth;
            if needless && strictness.bootstrap_key {
                self.wrong("auth.mode", "--bootstrap-key makes a key that nobody would ask for: remove one of the two");
            }
            if needless && !config.auth.api_keys.is_empty() {
                self.wrong(
                    "auth.api_keys",
                    "nobody asks for a key while auth.mode is none: set auth.mode = [\"keys\"]",
                );
            }
            for (key, address) in [("listen", config.listen), ("admin_listen", config.admin_listen)] {
                let exposed = !address.ip().is_loopback() && !strictness.insecure_no_auth;
                self.require(
                    !exposed,
                    key,
                    "without authentication only loopback is served: set auth.mode = [\"keys\"] and auth.api_keys, \
                     or start with --bootstrap-key, or say --insecure-no-auth if anybody may upload",
                );
            }
        }
        let auth = &config.auth;
        if auth.mode.allows(AuthMethod::Jwt) {
            if let Err(wrong) = Issuer::new(&auth.jwt, Arc::new(SystemClock::new())) {
                self.wrong(wrong.key, wrong.advice);
            }
        } else if auth.jwt.is_set() {
            self.wrong("auth.mode", "has no \"jwt\", but auth.jwt is set: add it to the list, or remove auth.jwt");
        }
        // Two keys of one name are one caller's, who goes from one to the other.
        let keys = &config.auth.api_keys;
        let twice = keys.iter().enumerate().find(|(i, key)| keys[..*i].iter().any(|other| other.sha256 == key.sha256));
        if let Some((_, key)) = twice {
            self.wrong("auth.api_keys", format!("the key of {:?} is there twice", key.name));
        }
    }

    fn addresses(&mut self, config: &Config) {
        let clash = |a: SocketAddr, b: SocketAddr| {
            a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified())
        };
        let clashes = clash(config.listen, config.admin_listen) || clash(config.admin_listen, config.listen);
        self.require(!clashes, "admin_listen", "is where `listen` is: give it a port of its own");
        if let Some(Err(advice)) = config.public_url.as_deref().map(web_address) {
            self.wrong("public_url", advice);
        }
        if config.public_url.as_ref().is_some_and(|url| url.contains('?')) {
            self.wrong("public_url", "must end before any `?`: paths are appended to it");
        }
    }

    fn database(&mut self, config: &Config) {
        let url = config.database_url();
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
        self.require(known, "database.url", "must begin with sqlite:// (and a path) or with postgres://");
        let (min, max) = (config.database.min_connections, config.database.max_connections);
        self.require(max > 0, "database.max_connections", "must be at least 1");
        if min > max {
            self.wrong("database.min_connections", format!("must be at most database.max_connections, which is {max}"));
        }
    }

    /// Also what works, but is probably not meant.
    fn store(&mut self, config: &Config, environment: &Environment, strictness: Strictness) -> Option<String> {
        let (store, env) = (&config.store, |name: &str| environment.get(name));
        if strictness.opens_store {
            let mistakes = match store.kind {
                StoreKind::File => None,
                StoreKind::Oss => match oss::setup::Setup::of(&store.oss, &env) {
                    Ok(setup) if oss::endpoint::is_internal(&setup.public) => {
                        let advice = "links and signed parts point at an internal endpoint, which browsers do not \
                                      reach: set store.oss.public_endpoint";
                        return Some(advice.to_owned());
                    }
                    setup => setup.err(),
                },
                StoreKind::S3 => s3::setup::Setup::of(&store.s3, &env).err(),
            };
            for mistake in mistakes.into_iter().flatten() {
                self.wrong(mistake.key, mistake.advice);
            }
        } else if store.kind == StoreKind::Oss {
            self.require(
                store.oss.endpoint.is_some(),
                "store.oss.endpoint",
                "must be set when store.kind is oss, for example to oss-cn-hangzhou.aliyuncs.com",
            );
        }
        let is_told = strictness.opens_store && store.kind == StoreKind::Oss;
        if let Some(Err(advice)) = store.oss.public_endpoint.as_deref().map(endpoint).filter(|_| !is_told) {
            self.wrong("store.oss.public_endpoint", advice);
        }
        None
    }

    fn durations(&mut self, config: &Config) {
        for (key, duration) in [
            ("database.acquire_timeout", config.database.acquire_timeout),
            ("store.connect_timeout", config.store.connect_timeout),
            ("store.first_byte_timeout", config.store.first_byte_timeout),
            ("store.idle_timeout", config.store.idle_timeout),
            ("upload.expires_after", config.upload.expires_after),
            ("sweep.interval", config.sweep.interval),
            ("webhook.retry_initial", config.webhook.retry_initial),
            ("auth.access_ttl", config.auth.access_ttl),
            ("auth.refresh_ttl", config.auth.refresh_ttl),
            ("auth.key_ttl", config.auth.key_ttl),
            ("limits.header_timeout", config.limits.header_timeout),
            ("limits.body_idle_timeout", config.limits.body_idle_timeout),
        ] {
            self.require(!duration.is_zero(), key, "must be longer than nothing");
        }
        if config.upload.lease < LEASE_MIN {
            self.wrong("upload.lease", format!("must be at least {}", format_duration(LEASE_MIN)));
        }
    }

    fn counts(&mut self, config: &Config) {
        let limits = &config.limits;
        self.require(limits.max_open_uploads > 0, "limits.max_open_uploads", "must be at least 1");
        self.require(limits.max_concurrent_chunks > 0, "limits.max_concurrent_chunks", "must be at least 1");
        self.require(limits.max_connections != Some(0), "limits.max_connections", "must be at least 1");
        self.require(limits.max_file_size != Some(0), "limits.max_file_size", "must be at least 1 byte");
    }

    fn key_template(&mut self, template: &str) {
        const KEY: &str = "upload.key_template";
        for name in placeholders(template) {
            if !PLACEHOLDERS.contains(&name) {
                let known = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(" ");
                self.wrong(KEY, format!("there is no {{{name}}}; there are {known}"));
            }
        }
        // Without it two files would meet in one object.
        self.require(template.contains("{random}"), KEY, "must contain {random}, so that no two objects have one key");
        let example = object_key(template, None, &Owner::local(), "a.bin", Timestamp::from_millis(0), 0);
        self.require(
            example.is_some_and(|key| !key.as_str().contains(['{', '}'])),
            KEY,
            "must give keys such as uploads/a/b.bin: no / at either end, no empty, `.` or `..` segment, no stray brace",
        );
    }

    fn webhook(&mut self, config: &Config) {
        let webhook = &config.webhook;
        if let Some(Err(advice)) = webhook.url.as_deref().map(web_address) {
            self.wrong("webhook.url", advice);
        }
        if let Some(Err(advice)) = webhook.secret.as_ref().map(SigningKeys::parse) {
            self.wrong("webhook.secret", advice);
        }
        for (i, endpoint) in webhook.endpoints.iter().enumerate() {
            let in_place = |advice: String| format!("number {} {advice}", i + 1);
            if let Err(advice) = web_address(&endpoint.url) {
                self.wrong("webhook.endpoints", in_place(advice));
            }
            if let Some(Err(advice)) = endpoint.secret.as_ref().map(SigningKeys::parse) {
                self.wrong("webhook.endpoints", in_place(format!("has a secret that {advice}")));
            }
        }
        let urls = webhook.url.iter().chain(webhook.endpoints.iter().map(|endpoint| &endpoint.url));
        if urls.clone().enumerate().any(|(i, url)| urls.clone().skip(i + 1).any(|other| other == url)) {
            self.wrong("webhook.endpoints", "has one URL twice: each receiver gets an event once".to_owned());
        }
        let hooks = [
            ("hooks.before_create.url", &config.hooks.before_create.url),
            ("hooks.completed.url", &config.hooks.completed.url),
        ];
        for (key, url) in hooks {
            if let Some(Err(advice)) = url.as_deref().map(web_address) {
                self.wrong(key, advice);
            }
        }
        let unsigned = webhook.url.is_some()
            || webhook.endpoints.iter().any(|endpoint| endpoint.secret.is_none())
            || hooks.iter().any(|(_, url)| url.is_some());
        if unsigned && webhook.secret.is_none() {
            let advice =
                "is needed, for events and hooks are signed: set it, as from: echo whsec_$(openssl rand -base64 32)";
            self.wrong("webhook.secret", advice.to_owned());
        }
    }

    fn cors(&mut self, config: &Config) {
        for origin in &config.cors.allowed_origins {
            if let Err(advice) = cors_origin(origin) {
                self.wrong("cors.allowed_origins", advice);
            }
        }
        for header in &config.cors.allowed_headers {
            if http::HeaderName::from_bytes(header.as_bytes()).is_err() {
                self.wrong("cors.allowed_headers", format!("{header:?} is not a header's name"));
            }
        }
    }
}

fn kinds(types: &[String]) -> Result<(), String> {
    if types.is_empty() {
        return Ok(());
    }
    Kinds::parse(types).map(drop).map_err(|refusal| refusal.detail().replacen("allowedTypes ", "", 1))
}

/// What stands between braces.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// An `http` or `https` URL that may be logged: credentials belong elsewhere.
fn web_address(text: &str) -> Result<(), String> {
    let wrong = || "must be a URL such as https://app.example.com/hooks".to_owned();
    let url: http::Uri = text.parse().map_err(|_| wrong())?;
    let authority = url.authority().ok_or_else(wrong)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() || text.contains('#') {
        return Err(wrong());
    }
    if authority.as_str().contains('@') {
        return Err("must not contain a user or a password".to_owned());
    }
    Ok(())
}

/// A host, or a URL of nothing but scheme and host.
fn endpoint(text: &str) -> Result<(), String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    web_address(&url)?;
    let bare = url.trim_end_matches('/').matches('/').count() == 2;
    if bare { Ok(()) } else { Err("must be a host, such as oss-cn-hangzhou.aliyuncs.com, without a path".to_owned()) }
}

/// `*`, `https://app.example.com`, `https://*.example.com:8443`. Browsers send
/// no path and no slash at the end, so one that has them would never match.
fn cors_origin(text: &str) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let wrong = || format!("{text:?} is not an origin: write https://app.example.com, https://*.example.com or *");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!("{text:?} has more than an origin: end it after the host and port, without a /"));
    }
    let host = rest.strip_prefix("*.").unwrap_or(rest);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let valid = !scheme.is_empty() && !host.is_empty() && host.bytes().all(plain);
    if valid { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_a_browser_can_send() {
        for good in
            ["*", "https://a.example.com", "https://*.example.com:8443", "http://localhost:5173", "http://[::1]:1"]
        {
            assert_eq!(cors_origin(good), Ok(()), "{good}");
        }
        for bad in ["", "a.example.com", "https://a.example.com/", "https://", "https://a.*.com", "https://*"] {
            assert!(cors_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_addresses_without_credentials() {
        for good in ["http://127.0.0.1:9000/hook", "https://app.example.com", "https://app.example.com/a?b=c"] {
            assert_eq!(web_address(good), Ok(()), "{good}");
        }
        for bad in ["", "app.example.com", "ftp://a/b", "https://u:p@a/b", "https:///b", "https://a/b#c", "/hooks"] {
            assert!(web_address(bad).is_err(), "{bad}");
        }
        assert_eq!(endpoint("oss-cn-hangzhou.aliyuncs.com"), Ok(()));
        assert_eq!(endpoint("http://127.0.0.1:9001/"), Ok(()));
        assert!(endpoint("https://a/b").is_err());
    }
}
