//! Links that we sign ourselves.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::{FileId, Owner};
use crate::ledger::KeySecret;

/// What a link is for: all of it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The one method.
    pub method: &'a str,
    /// Whose file.
    pub owner: &'a Owner,
    /// Which file.
    pub file_id: &'a FileId,
    /// How a browser is to take it.
    pub disposition: &'a str,
    /// Until when, in seconds since the Unix epoch.
    pub expires: i64,
}

impl Link<'_> {
    /// Over fields that are told apart by their lengths, and told from all else
    /// that the same key signs.
    pub(super) fn keyed(&self, secret: &KeySecret) -> Hmac<Sha256> {
        let mut block = [0; 64];
        block[..32].copy_from_slice(&secret.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        let expires = self.expires.to_string();
        for field in
            ["chunkgate link", self.method, self.owner.as_str(), self.file_id.as_str(), self.disposition, &expires]
        {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        mac
    }
}
