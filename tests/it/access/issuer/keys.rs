//! Keys of issuers, and tokens made with them or without.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, Pkcs8V2Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A key pair of an issuer's, as PEM.
pub(super) struct Pair {
    pub(super) algorithm: Algorithm,
    private: String,
    pub(super) public: String,
    rsa: Option<RsaKeyPair>,
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines = STANDARD.encode(der);
    let lines: Vec<&str> = lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Pair {
    pub(super) fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("DER");
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("DER");
        let (private, public) = (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()));
        Self { algorithm: Algorithm::RS256, private, public, rsa: Some(pair) }
    }

    pub(super) fn ec() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let private = pair.to_pkcs8v1().expect("DER");
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("DER");
        let (private, public) = (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()));
        Self { algorithm: Algorithm::ES256, private, public, rsa: None }
    }

    pub(super) fn ed() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let private = AsDer::<Pkcs8V2Der<'_>>::as_der(&pair).expect("DER");
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("DER");
        let (private, public) = (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()));
        Self { algorithm: Algorithm::EdDSA, private, public, rsa: None }
    }

    pub(super) fn key(&self) -> EncodingKey {
        let pem = self.private.as_bytes();
        match self.rsa {
            Some(_) => EncodingKey::from_rsa_pem(pem),
            None if self.algorithm == Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            None => EncodingKey::from_ed_pem(pem),
        }
        .expect("a key")
    }

    pub(super) fn sign(&self, header: Header, claims: &Value) -> String {
        jsonwebtoken::encode(&header, claims, &self.key()).expect("signed")
    }

    pub(super) fn header(&self) -> Header {
        Header::new(self.algorithm)
    }

    /// As an issuer publishes it.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let public = self.rsa.as_ref().expect("RSA").public_key();
        let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e})
    }
}

/// A token of these very parts.
pub(super) fn token_of(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// Signed with this secret.
pub(super) fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let token = token_of(header, claims, b"");
    let signed = token.trim_end_matches('.');
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
