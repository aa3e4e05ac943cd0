//! Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`. <https://www.standardwebhooks.com>

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::units::Secret;

/// One signing key or, while secrets rotate, several: receivers that know any
/// of them believe what is signed. Cannot be printed.
#[derive(Clone)]
pub struct SigningKeys(Vec<Vec<u8>>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

impl SigningKeys {
    /// Reads secrets with spaces or commas between them: `whsec_` and base64,
    /// with or without padding, for tools disagree about it.
    pub fn parse(secrets: &Secret) -> Result<Self, String> {
        const ADVICE: &str = "must be whsec_ and base64, as from: echo whsec_$(openssl rand -base64 32)";
        let key = |secret: &str| {
            let digits = secret.strip_prefix("whsec_")?.trim_end_matches('=');
            STANDARD_NO_PAD.decode(digits).ok().filter(|key| !key.is_empty())
        };
        let secrets = secrets.expose().split([' ', ',', '\n', '\t', '\r']).filter(|secret| !secret.is_empty());
        let keys: Option<Vec<_>> = secrets.map(key).collect();
        Ok(Self(keys.filter(|keys| !keys.is_empty()).ok_or(ADVICE)?))
    }

    /// The value of `webhook-signature`: one signature of each key.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signatures: Vec<String> = self.0.iter().map(|key| signature(key, id, timestamp, body)).collect();
        signatures.join(" ")
    }
}

fn signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    // HMAC takes keys of any length: this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The vector in the specification's own libraries.
        let key = SigningKeys::parse(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_base64_behind_its_prefix() {
        for good in ["whsec_AQID", "whsec_AQ==", "whsec_AQ"] {
            assert!(SigningKeys::parse(&Secret::new(good)).is_ok(), "{good}");
        }
        for wrong in ["", "whsec_", "AQID", "whsec_!", "secret"] {
            assert!(SigningKeys::parse(&Secret::new(wrong)).is_err_and(|e| e.contains("openssl")), "{wrong}");
        }
    }

    #[test]
    fn while_secrets_rotate_each_signs() {
        let (new, old) = ("whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let sign = |secrets: &str| SigningKeys::parse(&Secret::new(secrets)).map(|keys| keys.sign("id", 1, "{}"));
        let one = |secret: &str| sign(secret).expect("a key");
        assert_eq!(sign(&format!("{new} {old}")), Ok(format!("{} {}", one(new), one(old))));
        assert_eq!(sign(&format!("{new},{old}\n")), Ok(format!("{} {}", one(new), one(old))));
        assert!(sign(&format!("{new} nonsense")).is_err());
    }
}
