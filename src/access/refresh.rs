//! Refresh tokens: `cr_{family}.{generation}.{mac}`. Whoever has the family's
//! secret can make and tell each of them, so none has to be kept; which one may
//! be used is one number in the ledger.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::access::mac;
use crate::domain::{Refusal, Timestamp};
use crate::ledger::{Family, KeySecret};

/// A refresh token that can be read; whether it is one is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whose it says it is.
    pub family: Uuid,
    generation: u32,
    mac: [u8; 32],
}

/// What using a refresh token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is the one that may be used: the next one follows.
    Rotate,
    /// It has just been used on the same device: that pair once more.
    Again,
    /// It was used before: the family ends.
    Reused,
}

impl RefreshToken {
    /// That of this generation.
    pub fn mint(family: Uuid, generation: u32, secret: &KeySecret) -> Self {
        Self { family, generation, mac: keyed(family, generation, secret).finalize().into_bytes().into() }
    }

    /// As a client sends it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("cr_")?.split('.');
        let (family, generation, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        if parts.next().is_some() || family.len() != 32 || !plain(family) {
            return None;
        }
        let token = Self {
            family: Uuid::parse_str(family).ok()?,
            generation: generation.parse().ok()?,
            mac: URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?,
        };
        // One spelling each: `+1` and `01` are numbers too.
        (token.text() == text).then_some(token)
    }

    /// As a client keeps it.
    pub fn text(&self) -> String {
        format!("cr_{}.{}.{}", self.family.simple(), self.generation, URL_SAFE_NO_PAD.encode(self.mac))
    }

    /// Whether it was made of this secret.
    pub fn is_genuine(&self, secret: &KeySecret) -> bool {
        keyed(self.family, self.generation, secret).verify_slice(&self.mac).is_ok()
    }
}

fn keyed(family: Uuid, generation: u32, secret: &KeySecret) -> Hmac<Sha256> {
    mac::keyed(secret, [b"chunkgate refresh token", family.as_bytes(), &generation.to_be_bytes()])
}

/// Decides about a token that is used now, by this device.
pub fn judge(
    family: &Family,
    token: &RefreshToken,
    device: Option<&str>,
    now: Timestamp,
    leeway: Duration,
) -> Result<Use, Refusal> {
    // Of a ledger that was restored, a token may be newer than all it knows.
    if !token.is_genuine(&family.secret) || token.generation > family.generation {
        return Err(Refusal::Unauthorized { reason: "the refresh token is not known" });
    }
    if family.is_revoked {
        return Err(Refusal::TokenRevoked);
    }
    let is_same_device = family.device.as_deref() == device;
    if token.generation == family.generation {
        return match is_same_device {
            _ if now >= family.expires_at => Err(Refusal::TokenExpired { what: "refresh token" }),
            false => Err(Refusal::DeviceMismatch),
            true => Ok(Use::Rotate),
        };
    }
    let is_last_used = token.generation + 1 == family.generation;
    let is_just_used = family.rotated_at.is_some_and(|at| now <= at.plus(leeway));
    Ok(if is_last_used && is_same_device && is_just_used { Use::Again } else { Use::Reused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Owner;

    const LEEWAY: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
    }

    fn family() -> Family {
        Family {
            id: Uuid::from_u128(7),
            owner: Owner::local(),
            device: Some("phone".to_owned()),
            secret: KeySecret([3; 32]),
            terms: "{}".to_owned(),
            generation: 5,
            rotated_at: Some(at(0)),
            expires_at: at(1000),
            created_at: at(-100),
            is_revoked: false,
        }
    }

    fn used(family: &Family, generation: u32, device: Option<&str>, seconds: i64) -> Result<Use, Refusal> {
        judge(family, &RefreshToken::mint(family.id, generation, &family.secret), device, at(seconds), LEEWAY)
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = RefreshToken::mint(Uuid::from_u128(7), 3, &KeySecret([3; 32]));
        let text = token.text();
        assert_eq!(RefreshToken::parse(&text), Some(token));
        let of = |from: &str, to: &str| text.replacen(from, to, 1);
        for wrong in
            [String::new(), of("cr_", "ck_"), of(".3.", ".+3."), of(".3.", ".03."), of(".3.", "."), format!("{text}=")]
        {
            assert_eq!(RefreshToken::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_current_one_may_be_used_by_its_device_in_its_time() {
        let family = family();
        assert_eq!(used(&family, 5, Some("phone"), 1), Ok(Use::Rotate));
        assert_eq!(used(&family, 5, Some("laptop"), 1), Err(Refusal::DeviceMismatch));
        assert_eq!(used(&family, 5, None, 1), Err(Refusal::DeviceMismatch));
        assert_eq!(used(&family, 5, Some("phone"), 1000), Err(Refusal::TokenExpired { what: "refresh token" }));
        assert_eq!(used(&Family { device: None, ..family }, 5, None, 1), Ok(Use::Rotate));
    }

    #[test]
    fn the_one_before_is_given_its_successor_once_more_for_a_while() {
        let family = family();
        assert_eq!(used(&family, 4, Some("phone"), 10), Ok(Use::Again));
        for reused in [
            used(&family, 4, Some("phone"), 11),
            used(&family, 4, Some("laptop"), 1),
            used(&family, 3, Some("phone"), 1),
        ] {
            assert_eq!(reused, Ok(Use::Reused));
        }
    }

    #[test]
    fn what_was_never_handed_out_ends_no_family() {
        let family = family();
        let forged = RefreshToken::mint(family.id, 4, &KeySecret([4; 32]));
        let unknown = Err(Refusal::Unauthorized { reason: "the refresh token is not known" });
        assert_eq!(judge(&family, &forged, Some("phone"), at(100), LEEWAY), unknown);
        assert_eq!(used(&family, 6, Some("phone"), 1), unknown);
        let ended = Family { is_revoked: true, ..family };
        assert_eq!(used(&ended, 5, Some("phone"), 1), Err(Refusal::TokenRevoked));
    }
}
