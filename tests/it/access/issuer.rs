//! Tokens of the application's own issuer, good and forged: with real keys.

mod keys;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{KEY, ask};
use crate::harness::{Answer, Gateway, On};
use keys::{Pair, hs256, token_of};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time");
    i64::try_from(since.as_secs()).expect("a time")
}

fn claims() -> Value {
    json!({"sub": "u7", "iss": "https://id.example", "aud": ["other", "uploads"], "exp": now() + 600})
}

/// The claims with these instead.
fn with(more: Value) -> Value {
    let mut claims = claims();
    let all = claims.as_object_mut().expect("an object");
    for (name, value) in more.as_object().expect("an object") {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    claims
}

async fn gateway(settings: &[(&str, &str)]) -> Gateway {
    let all = [("AUTH__MODE", "jwt"), ("AUTH__JWT__ISSUER", "https://id.example"), ("AUTH__JWT__AUDIENCE", "uploads")];
    Gateway::start_with(On::FileAndSqlite, &[&all[..], settings].concat()).await
}

async fn list(gateway: &Gateway, token: &str) -> Answer {
    ask(gateway, token, Method::GET, "/uploads", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_kind_are_taken() {
    for pair in [Pair::rsa(), Pair::ec(), Pair::ed()] {
        let algorithm = format!("{:?}", pair.algorithm);
        let here = gateway(&[("AUTH__JWT__ALGORITHMS", &algorithm), ("AUTH__JWT__PUBLIC_KEY", &pair.public)]).await;
        let token = pair.sign(pair.header(), &claims());
        assert_eq!(list(&here, &token).await.status, 200, "{algorithm}");
        // Its owner is in its claim.
        let created = ask(&here, &token, Method::POST, "/uploads", Some(json!({"fileName": "a", "fileSize": 9}))).await;
        assert_eq!(created.json["owner"], "u7", "{created:?}");
        for others in [Pair::rsa(), Pair::ec(), Pair::ed()] {
            list(&here, &others.sign(others.header(), &claims())).await.is_refused(401, "unauthorized");
        }
    }
    let here = gateway(&[("AUTH__JWT__ALGORITHMS", "HS256"), ("AUTH__JWT__HS256_SECRET", SECRET)]).await;
    let token = hs256(&json!({"alg": "HS256"}), &claims(), SECRET.as_bytes());
    assert_eq!(list(&here, &token).await.status, 200);
    list(&here, &hs256(&json!({"alg": "HS256"}), &claims(), b"guessed")).await.is_refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_says_is_held_against_what_is_expected() {
    let pair = Pair::ed();
    let settings = [
        ("AUTH__JWT__ALGORITHMS", "EdDSA"),
        ("AUTH__JWT__PUBLIC_KEY", pair.public.as_str()),
        ("AUTH__JWT__OWNER_CLAIM", "user"),
    ];
    let here = gateway(&settings).await;
    let asked = async |more: Value| {
        let claims = with(json!({"user": "u7"})).as_object().cloned().into_iter().flatten();
        let more = more.as_object().cloned().into_iter().flatten();
        let mut claims: Map<String, Value> = claims.chain(more).collect();
        claims.retain(|_, value| !value.is_null());
        list(&here, &pair.sign(pair.header(), &Value::Object(claims))).await
    };
    for good in [json!({}), json!({"aud": "uploads"}), json!({"nbf": now() + 20}), json!({"exp": now() as f64 + 0.5})] {
        assert_eq!(asked(good.clone()).await.status, 200, "{good}");
    }
    for (bad, code, said) in [
        (json!({"exp": now() - 31}), "token_expired", "expired"),
        (json!({"exp": null}), "token_malformed", "no exp"),
        (json!({"exp": "tomorrow"}), "token_malformed", "no number"),
        (json!({"exp": true}), "token_malformed", "no number"),
        (json!({"nbf": now() + 60}), "unauthorized", "nbf"),
        (json!({"iss": "https://evil.example"}), "unauthorized", "iss"),
        (json!({"iss": null}), "unauthorized", "iss"),
        (json!({"aud": "other"}), "unauthorized", "aud"),
        (json!({"aud": []}), "unauthorized", "aud"),
        (json!({"aud": null}), "unauthorized", "aud"),
        (json!({"aud": {"uploads": 1}}), "unauthorized", "aud"),
        (json!({"user": null}), "token_malformed", "owner_claim"),
        (json!({"user": 7}), "token_malformed", "owner_claim"),
        (json!({"user": "a\nb"}), "token_malformed", "owner_claim"),
        (json!({"keyPrefix": "../up"}), "token_malformed", "keyPrefix"),
        (json!({"fileId": "a/b"}), "token_malformed", "fileId"),
        (json!({"maxFileSize": "much"}), "token_malformed", "maxFileSize"),
    ] {
        let answer = asked(bad.clone()).await;
        answer.is_refused(401, code);
        assert!(answer.json["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{bad}: {answer:?}");
        assert!(answer.headers["www-authenticate"].to_str().is_ok_and(|value| value.starts_with("Bearer ")));
    }
    // Scopes in the ways that issuers write them, and none that they do not.
    for (scopes, status) in [
        (json!({"scope": "openid files:read"}), 403),
        (json!({"scope": "uploads:write"}), 200),
        (json!({"scp": ["files:read", "uploads:write"]}), 200),
        (json!({"scope": ""}), 403),
        (json!({"scope": "uploads:*"}), 403),
        (json!({"scope": 7}), 403),
    ] {
        assert_eq!(asked(scopes.clone()).await.status.as_u16(), status, "{scopes}");
    }
}

/// A place where nobody must come.
struct Trap {
    url: String,
    visits: Arc<AtomicUsize>,
}

impl Trap {
    async fn set() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, visits) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let counted = visits.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url: format!("http://{address}/keys.json"), visits }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused() {
    let (pair, attacker, trap) = (Pair::rsa(), Pair::rsa(), Trap::set().await);
    let here = gateway(&[("AUTH__JWT__ALGORITHMS", "RS256"), ("AUTH__JWT__PUBLIC_KEY", &pair.public)]).await;
    let good = pair.sign(pair.header(), &claims());
    assert_eq!(list(&here, &good).await.status, 200);
    let parts: Vec<&str> = good.split('.').collect();
    let widened = URL_SAFE_NO_PAD.encode(with(json!({"sub": "admin"})).to_string());
    let signed_by = |pair: &Pair, more: Value| {
        let mut header: Header = serde_json::from_value(more).expect("a header");
        header.alg = pair.algorithm;
        pair.sign(header, &claims())
    };
    let pointing = |name: &str| signed_by(&attacker, json!({"alg": "RS256", "typ": "JWT", name: trap.url}));
    let own_key = signed_by(&attacker, json!({"alg": "RS256", "jwk": attacker.jwk("k")}));
    let mut forged = vec![
        // No signature, whatever the algorithm is called.
        token_of(&json!({"alg": "none"}), &claims(), b""),
        token_of(&json!({"alg": "None"}), &claims(), b""),
        token_of(&json!({"alg": "NONE", "typ": "JWT"}), &claims(), b""),
        token_of(&json!({"alg": ""}), &claims(), b""),
        token_of(&json!({"alg": ["RS256"]}), &claims(), b""),
        token_of(&json!({"typ": "JWT"}), &claims(), b""),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        // The signature of other words, or another's.
        format!("{}.{widened}.{}", parts[0], parts[2]),
        signed_by(&attacker, json!({"alg": "RS256"})),
        // The issuer's public key taken for a secret that both know.
        hs256(&json!({"alg": "HS256"}), &claims(), pair.public.as_bytes()),
        hs256(&json!({"alg": "HS256"}), &claims(), pair.public.trim_end().as_bytes()),
        hs256(&json!({"alg": "RS256"}), &claims(), pair.public.as_bytes()),
        hs256(&json!({"alg": "HS256"}), &claims(), b""),
        // Keys that the token brings along, or says where to get.
        own_key,
        pointing("jku"),
        pointing("x5u"),
        // Keys by a path.
        signed_by(&attacker, json!({"alg": "RS256", "kid": "../../../../dev/null"})),
        signed_by(&attacker, json!({"alg": "RS256", "kid": "' OR '1'='1"})),
        hs256(&json!({"alg": "HS256", "kid": "../../../../dev/null"}), &claims(), b""),
        // An algorithm of the same key that was not configured.
        {
            let mut header = Header::new(Algorithm::RS512);
            header.typ = None;
            jsonwebtoken::encode(&header, &claims(), &pair.key()).expect("signed")
        },
        jsonwebtoken::encode(&Header::new(Algorithm::PS256), &claims(), &pair.key()).expect("signed"),
        // What is no token at all.
        ".".repeat(2),
        "a.b.c".to_owned(),
        format!("{good}."),
        format!("{good}.{good}"),
        "eyJ".repeat(1000),
        URL_SAFE_NO_PAD.encode([0xff; 100]),
    ];
    // One bit in each place of the signature.
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
    forged.extend((0..signature.len()).step_by(17).map(|at| {
        let mut other = signature.clone();
        other[at] ^= 1;
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(other))
    }));
    for token in &forged {
        let answer = list(&here, token).await;
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
        assert!(matches!(answer.code(), "unauthorized" | "token_malformed"), "{token}: {answer:?}");
    }
    assert_eq!(trap.visits.load(Ordering::SeqCst), 0, "a token's own word leads nowhere");
    let log = here.log();
    assert!(!log.contains("panicked") && !log.contains(parts[2]), "{log}");
}

/// Ours and the issuer's beside each other: neither passes for the other.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_both_kinds_are_told_apart() {
    let pair = Pair::ec();
    let settings = [
        ("AUTH__MODE", "tokens,jwt"),
        ("AUTH__API_KEYS", "app:ck_0123456789abcdef"),
        ("AUTH__JWT__ALGORITHMS", "ES256"),
        ("AUTH__JWT__PUBLIC_KEY", pair.public.as_str()),
    ];
    let here = gateway(&settings).await;
    let ours = super::log_in(&here, json!({"subject": "u1"})).await.access;
    let theirs = pair.sign(pair.header(), &claims());
    for token in [ours.as_str(), theirs.as_str(), KEY] {
        assert_eq!(list(&here, token).await.status, 200);
    }
    let kid = jsonwebtoken::decode_header(&ours).expect("a header").kid.expect("a kid");
    // Signed by the issuer, under the name of our key; and the other way round.
    let disguised = pair.sign(Header { kid: Some(kid.clone()), ..pair.header() }, &with(json!({"iss": "chunkgate"})));
    list(&here, &disguised).await.is_refused(401, "unauthorized");
    let guessed = hs256(&json!({"alg": "HS256", "kid": kid}), &with(json!({"iss": "chunkgate"})), b"");
    list(&here, &guessed).await.is_refused(401, "unauthorized");
    // An issuer's token opens no door that is for keys.
    let tokens = ask(&here, &theirs, Method::POST, "/auth/tokens", Some(json!({"subject": "x"}))).await;
    tokens.is_refused(403, "insufficient_scope");
    let elsewhere = ask(&here, &theirs, Method::GET, "/uploads?owner=u1", None).await;
    elsewhere.is_refused(403, "insufficient_scope");
}

/// An issuer that publishes its keys, and can be made to stumble.
#[derive(Clone)]
struct Publisher {
    url: String,
    says: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let publisher = Self { url: format!("http://{address}/jwks"), says: Arc::default(), asked: Arc::default() };
        let answer = async |State(publisher): State<Self>| {
            publisher.asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = publisher.says.lock().expect("a lock").clone();
            (axum::http::StatusCode::from_u16(status).expect("a status"), body)
        };
        let router = Router::new().route("/jwks", axum::routing::get(answer)).with_state(publisher.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        publisher
    }

    fn publishes(&self, keys: &[Value]) {
        *self.says.lock().expect("a lock") = (200, json!({"keys": keys}).to_string());
    }

    fn says(&self, status: u16, body: &str) {
        *self.says.lock().expect("a lock") = (status, body.to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn published_keys_are_cached_and_rotate() {
    let (publisher, old, new) = (Publisher::start().await, Pair::rsa(), Pair::rsa());
    // What is of no use stands beside it: for encryption, of another type, of no type that anybody knows.
    let noise = [
        json!({"kty": "RSA", "use": "enc", "kid": "old", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": "AAAA", "y": "AAAA"}),
    ];
    publisher.publishes(&[&noise[..], &[old.jwk("old")]].concat());
    let here = gateway(&[("AUTH__JWT__ALGORITHMS", "RS256"), ("AUTH__JWT__JWKS_URL", &publisher.url)]).await;
    let signed = |pair: &Pair, kid: Option<&str>| {
        pair.sign(Header { kid: kid.map(ToOwned::to_owned), ..pair.header() }, &claims())
    };
    let asks = (0..20).map(|_| async { list(&here, &signed(&old, Some("old"))).await.status });
    let statuses = futures_util::future::join_all(asks).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(publisher.asked(), 1, "twenty at once are one question");
    // A token that names no key can only mean the one there is.
    assert_eq!(list(&here, &signed(&old, None)).await.status, 200);

    // Rotated: a name that is not known is asked for, but not by every token of a guesser.
    tokio::time::sleep(std::time::Duration::from_millis(5100)).await;
    publisher.publishes(&[old.jwk("old"), new.jwk("new")]);
    assert_eq!(list(&here, &signed(&new, Some("new"))).await.status, 200);
    assert_eq!(list(&here, &signed(&old, Some("old"))).await.status, 200);
    assert_eq!(publisher.asked(), 2);
    for n in 0..20 {
        list(&here, &signed(&old, Some(&format!("guess{n}")))).await.is_refused(401, "unauthorized");
    }
    list(&here, &signed(&new, Some("old"))).await.is_refused(401, "unauthorized");
    list(&here, &signed(&new, None)).await.is_refused(401, "unauthorized");
    assert_eq!(publisher.asked(), 2, "one question in five seconds");
    // While it cannot be asked, those that are known stay.
    publisher.says(500, "");
    tokio::time::sleep(std::time::Duration::from_millis(5100)).await;
    for n in 0..5 {
        // It may be a new one: who comes back is let in then.
        let refused = list(&here, &signed(&old, Some(&format!("other{n}")))).await;
        assert!(refused.is_refused(503, "issuer_unavailable").headers.contains_key("retry-after"));
    }
    assert_eq!(publisher.asked(), 3);
    assert_eq!(list(&here, &signed(&new, Some("new"))).await.status, 200);
    // It can be asked again, and there is none.
    publisher.publishes(&[new.jwk("new")]);
    tokio::time::sleep(std::time::Duration::from_millis(5100)).await;
    list(&here, &signed(&old, Some("other0"))).await.is_refused(401, "unauthorized");
    assert_eq!(publisher.asked(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_answers_nonsense_is_away() {
    let (publisher, pair) = (Publisher::start().await, Pair::rsa());
    for (status, body) in [
        (500, String::new()),
        (302, String::new()),
        (200, "no JSON".to_owned()),
        (200, "{}".to_owned()),
        (200, " ".repeat(2 << 20)),
    ] {
        publisher.says(status, &body);
        let here = gateway(&[("AUTH__JWT__ALGORITHMS", "RS256"), ("AUTH__JWT__JWKS_URL", &publisher.url)]).await;
        let token = pair.sign(Header { kid: Some("k".to_owned()), ..pair.header() }, &claims());
        let refused = list(&here, &token).await;
        refused.is_refused(503, "issuer_unavailable");
        assert!(refused.headers.contains_key("retry-after"));
    }
}

/// Who has no token sends no body either: the answer comes before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_leaves_the_body_unread() {
    let pair = Pair::ed();
    let here = gateway(&[("AUTH__JWT__ALGORITHMS", "EdDSA"), ("AUTH__JWT__PUBLIC_KEY", &pair.public)]).await;
    let late = pair.sign(pair.header(), &with(json!({"exp": now() - 100})));
    for (authorization, code) in [
        (String::new(), "unauthorized"),
        ("Authorization: Bearer nonsense\r\n".to_owned(), "token_malformed"),
        (format!("Authorization: Bearer {late}\r\n"), "token_expired"),
        ("Authorization: Basic dTpw\r\n".to_owned(), "token_malformed"),
    ] {
        for (method, path) in
            [("PUT", "/chunks/a/0"), ("POST", "/chunks"), ("POST", "/files?fileName=a"), ("POST", "/uploads")]
        {
            let mut socket = TcpStream::connect(here.address).await.expect("a connection");
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\
                 {authorization}\r\n",
                here.address
            );
            socket.write_all(head.as_bytes()).await.expect("sent");
            let mut answer = vec![0; 4096];
            let read = socket.read(&mut answer).await.expect("an answer");
            let answer = String::from_utf8_lossy(&answer[..read]);
            assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains(code), "{method} {path}: {answer}");
        }
    }
}
