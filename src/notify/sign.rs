//! Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`. <https://www.standardwebhooks.com>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::units::Secret;

/// A signing key. Cannot be printed.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

impl SigningKey {
    /// Reads `whsec_` + base64 of 24 to 64 bytes.
    pub fn parse(secret: &Secret) -> Result<Self, &'static str> {
        let encoded = secret.expose().strip_prefix("whsec_").ok_or("a webhook secret begins with whsec_")?;
        let key = STANDARD.decode(encoded).map_err(|_| "what follows whsec_ is base64")?;
        if (24..=64).contains(&key.len()) { Ok(Self(key)) } else { Err("a webhook secret has 24 to 64 bytes") }
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        // HMAC takes keys of any length: this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The vector in the specification's own libraries.
        let key = SigningKey::parse(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_says_what_is_wrong_with_it() {
        for (secret, reason) in
            [("abc", "begins with whsec_"), ("whsec_***", "base64"), ("whsec_AAAA", "24 to 64 bytes")]
        {
            let error = SigningKey::parse(&Secret::new(secret)).expect_err(secret);
            assert!(error.contains(reason), "{error}");
        }
    }
}
