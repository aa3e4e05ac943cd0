//! What no token and no link may be taken for.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, Header, decode_header};
use serde_json::{Map, Value};
use sha2::Sha256;
use uuid::Uuid;

use crate::access::config::JwtAlgorithm;
use crate::access::refresh::RefreshToken;
use crate::access::terms::WrittenGrant;
use crate::access::token::{Claims, Key, Keys};
use crate::access::{Access, ApiKey, Issuer, JwtConfig, Link, Proofs};
use crate::clock::TestClock;
use crate::domain::grant::{Grant, Scope};
use crate::domain::{FileId, Owner, Refusal, Timestamp};
use crate::fuzzing::Input;
use crate::ledger::{KeySecret, SigningKey};
use crate::units::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_795_255_740_000);
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Of RFC 8037, appendix A.
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = |id: &str, byte| SigningKey { id: id.to_owned(), secret: KeySecret([byte; 32]), created_at: NOW };
    [key("a", 1), key("b", 2)].iter().map(Key::from).collect()
});

fn issuer(config: JwtConfig) -> Issuer {
    Issuer::new(&config, Arc::new(TestClock::at(NOW))).expect("an issuer")
}

/// By a secret, and by a public key that nobody has the secret of.
static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| {
    let hs256_secret = Some(Secret::new(SECRET));
    let shared = JwtConfig { algorithms: vec![JwtAlgorithm::HS256], hs256_secret, ..JwtConfig::default() };
    let public_key = Some(ED25519.to_owned());
    let public = JwtConfig { algorithms: vec![JwtAlgorithm::EdDSA], public_key, ..JwtConfig::default() };
    [issuer(shared), issuer(public)]
});

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let keys = vec![ApiKey::parse("app:ck_secret").expect("a key")];
    Access::Proven(Box::new(Proofs { keys: crate::rotating::Rotating::new(keys), authority: None, issuer: None }))
});

pub(crate) fn tokens(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 6 {
        0 => forged(&mut input),
        1 => signed(&mut input),
        2 => ours(&mut input),
        3 => edited(&mut input),
        4 => links(&mut input),
        _ => refresh_tokens(&mut input),
    }
}

fn check(issuer: &Issuer, token: &str) -> Result<Grant, Refusal> {
    let header = decode_header(token).map_err(|_| Refusal::TokenMalformed { reason: "no header" })?;
    issuer.check(token, &header).now_or_never().expect("it asks nobody")
}

fn hmac(secret: &[u8], message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(message.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Nothing that was not signed is let in, whatever it says of itself.
fn forged(input: &mut Input<'_>) {
    let lines = [input.text(), input.text(), input.text()];
    let parts = lines.map(|line| URL_SAFE_NO_PAD.encode(line));
    // As it stands, and as what stands there would be encoded.
    for token in [lines[0].to_owned(), parts.join("."), format!("{}.{}.", parts[0], parts[1])] {
        assert!(ISSUERS.iter().all(|issuer| check(issuer, &token).is_err()));
        assert!(["a", "b", ""].iter().all(|key| KEYS.check(&token, key, NOW).is_err()));
    }
    let is_key = lines[0].get(..7).is_some_and(|word| word.eq_ignore_ascii_case("bearer "))
        && lines[0][7..].trim() == "ck_secret";
    let caller = ACCESS.caller(Some(lines[0].as_bytes()), None).now_or_never().expect("it asks nobody");
    assert_eq!(caller.is_ok(), is_key);
}

/// Rightly signed, but by whom the header says, and in the way that it says?
fn signed(input: &mut Input<'_>) {
    let (header, claims) = (input.text(), input.text());
    let message = [header, claims].map(|json| URL_SAFE_NO_PAD.encode(json)).join(".");
    let said = serde_json::from_str::<Header>(header);
    // The public key's text as a secret: the oldest of tricks.
    for secret in [SECRET, ED25519] {
        let token = format!("{message}.{}", hmac(secret.as_bytes(), &message));
        assert!(check(&ISSUERS[1], &token).is_err());
        let Ok(grant) = check(&ISSUERS[0], &token) else { continue };
        assert!(secret == SECRET && said.as_ref().is_ok_and(|header| header.alg == Algorithm::HS256));
        is_granted(&grant, &serde_json::from_str(claims).expect("claims"));
    }
}

/// No more than the claims say.
fn is_granted(grant: &Grant, claims: &Map<String, Value>) {
    let now = NOW.seconds() as f64;
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp + 30.0 > now));
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| nbf - 30.0 <= now)));
    assert_eq!(claims["sub"].as_str(), Some(grant.owner.as_str()));
    let limit = claims.get("maxFileSize").and_then(Value::as_u64);
    assert_eq!(grant.terms.file_bytes_max, limit);
    let file_id = claims.get("fileId").and_then(Value::as_str);
    assert_eq!(grant.terms.file_id.as_ref().map(FileId::as_str), file_id);
    let types = claims.get("allowedTypes").and_then(Value::as_array).map(Vec::len);
    assert_eq!(grant.terms.kinds.as_ref().map(|kinds| kinds.as_slice().len()), types);
    let is_said = claims.get("scope").or(claims.get("scp")).is_some();
    let says = |scope: Scope| {
        let said = claims.get("scope").or(claims.get("scp")).map(Value::to_string).unwrap_or_default();
        said.contains(scope.name())
    };
    assert!(Scope::ALL.iter().all(|&scope| !is_said || !grant.scopes.contains(scope) || says(scope)));
    assert!(is_said || !grant.scopes.contains(Scope::FilesWrite));
}

/// What we sign is what we read, in its time.
fn ours(input: &mut Input<'_>) {
    let Ok(grant) = serde_json::from_str::<WrittenGrant>(input.text()) else { return };
    let Ok(owner) = Owner::parse(input.text()) else { return };
    let family = input.maybe().map(|id| Uuid::from_u128(id.into()));
    let (lasts, later) = (Duration::from_secs(input.number() >> 24), Duration::from_secs(input.number() >> 24));
    let claims = Claims::new(&owner, family, NOW, lasts, grant);
    let token = KEYS.sign(&claims, NOW).expect("there is a key");
    assert_eq!(decode_header(&token).ok().and_then(|header| header.kid).as_deref(), Some("b"));
    assert!(ISSUERS.iter().all(|issuer| check(issuer, &token).is_err()) && KEYS.check(&token, "a", NOW).is_err());
    match KEYS.check(&token, "b", NOW.plus(later)) {
        Ok(read) => {
            assert!(later < lasts && read == claims);
            if let Ok(grant) = read.grant() {
                assert_eq!(grant.owner, owner);
            }
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::TokenExpired { what: "access token" });
            assert!(later >= lasts);
        }
    }
}

/// A token that is edited anywhere is none.
fn edited(input: &mut Input<'_>) {
    let owner = Owner::local();
    let grant = WrittenGrant { scope: "files:read".to_owned(), terms: crate::access::terms::WrittenTerms::default() };
    let claims = Claims::new(&owner, None, NOW, Duration::from_secs(60), grant);
    let token = KEYS.sign(&claims, NOW).expect("there is a key");
    let message =
        [r#"{"alg":"HS256"}"#, r#"{"sub":"u","exp":99999999999}"#].map(|json| URL_SAFE_NO_PAD.encode(json)).join(".");
    let theirs = format!("{message}.{}", hmac(SECRET.as_bytes(), &message));
    assert!(KEYS.check(&token, "b", NOW).is_ok() && check(&ISSUERS[0], &theirs).is_ok());
    let edit = |token: &str, edits: &[u8]| {
        let mut bytes = token.as_bytes().to_vec();
        for edit in edits.chunks_exact(2) {
            let at = usize::from(edit[0]) * bytes.len() / 256;
            bytes[at] = edit[1] & 0x7F;
        }
        String::from_utf8(bytes).expect("ASCII")
    };
    let edits = input.rest();
    let (ours_edited, theirs_edited) = (edit(&token, edits), edit(&theirs, edits));
    assert!(ours_edited == token || KEYS.check(&ours_edited, "b", NOW).is_err());
    assert!(theirs_edited == theirs || check(&ISSUERS[0], &theirs_edited).is_err());
}

/// A link opens what it was signed for, and nothing else.
fn links(input: &mut Input<'_>) {
    struct Fields<'a>(&'a str, Owner, FileId, &'a str, i64);
    let mut fields = || {
        let (method, owner, id) = (input.text(), Owner::parse(input.text()), FileId::parse(input.text()));
        let expires = i64::from_be_bytes(input.number().to_be_bytes());
        Some(Fields(method, owner.ok()?, id.ok()?, input.text(), expires))
    };
    let (Some(one), Some(other)) = (fields(), fields()) else { return };
    let link = |Fields(method, owner, file_id, disposition, expires): &Fields<'_>| {
        let link = Link { method, owner, file_id, says: disposition, expires: *expires };
        (KEYS.sign_link(&link, NOW).expect("there is a key"), format!("{link:?}"))
    };
    let ((signature, said), (_, otherwise)) = (link(&one), link(&other));
    let opens = |Fields(method, owner, file_id, disposition, expires): &Fields<'_>, signature: &str| {
        KEYS.have_signed(&Link { method, owner, file_id, says: disposition, expires: *expires }, signature)
    };
    assert!(opens(&one, &signature) && opens(&other, &signature) == (said == otherwise));
    let text = input.text();
    assert!(text.eq_ignore_ascii_case(&signature) || !opens(&one, text));
}

fn refresh_tokens(input: &mut Input<'_>) {
    let (generation, family) = (input.number(), Uuid::from_u128(input.number().into()));
    let text = input.text();
    if let Some(token) = RefreshToken::parse(text) {
        assert!(token.text() == text && !token.is_genuine(&KeySecret([9; 32])));
    }
    let Ok(generation) = u32::try_from(generation) else { return };
    let (secret, other) = (KeySecret([1; 32]), KeySecret([2; 32]));
    let token = RefreshToken::mint(family, generation, &secret);
    assert_eq!(RefreshToken::parse(&token.text()), Some(token));
    assert!(token.is_genuine(&secret) && !token.is_genuine(&other));
}
