//! Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`. <https://www.standardwebhooks.com>

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
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
    /// Reads `whsec_` and base64, with or without padding: tools disagree about it.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        const ADVICE: &str = "must be whsec_ and base64, as from: echo whsec_$(openssl rand -base64 32)";
        let digits = secret.expose().trim().strip_prefix("whsec_").ok_or(ADVICE)?;
        let key = STANDARD_NO_PAD.decode(digits.trim_end_matches('=')).map_err(|_| ADVICE)?;
        if key.is_empty() { Err(ADVICE.to_owned()) } else { Ok(Self(key)) }
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
    fn a_secret_is_base64_behind_its_prefix() {
        for good in ["whsec_AQID", "whsec_AQ==", "whsec_AQ"] {
            assert!(SigningKey::parse(&Secret::new(good)).is_ok(), "{good}");
        }
        for wrong in ["", "whsec_", "AQID", "whsec_!", "secret"] {
            assert!(SigningKey::parse(&Secret::new(wrong)).is_err_and(|e| e.contains("openssl")), "{wrong}");
        }
    }
}
