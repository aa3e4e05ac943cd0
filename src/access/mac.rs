//! Keyed hashes, for what only we are to be able to make.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::ledger::KeySecret;

/// Over fields that are told apart by their lengths. The first says what it is
/// for, so that nothing else that the same secret makes can be taken for it.
pub(super) fn keyed<const N: usize>(secret: &KeySecret, fields: [&[u8]; N]) -> Hmac<Sha256> {
    // HMAC pads a key with zeros to the hash's block, which is what it takes without fail.
    let mut block = [0; 64];
    block[..32].copy_from_slice(&secret.0);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart() {
        let secret = KeySecret([7; 32]);
        let of = |fields: [&[u8]; 2]| hex::encode(keyed(&secret, fields).finalize().into_bytes());
        assert_eq!(of([b"ab", b"c"]), of([b"ab", b"c"]));
        assert_ne!(of([b"ab", b"c"]), of([b"a", b"bc"]));
        assert_ne!(of([b"ab", b""]), of([b"", b"ab"]));
    }
}
