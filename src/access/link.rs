//! Links that we sign ourselves.

use hmac::Hmac;
use sha2::Sha256;

use crate::access::mac;
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
    /// What else it says: how a browser is to take a file, or on which terms
    /// one may be sent.
    pub says: &'a str,
    /// Until when, in seconds since the Unix epoch.
    pub expires: i64,
}

impl Link<'_> {
    pub(super) fn keyed(&self, secret: &KeySecret) -> Hmac<Sha256> {
        let (owner, file_id, expires) = (self.owner.as_str(), self.file_id.as_str(), self.expires.to_string());
        let fields = ["chunkgate link", self.method, owner, file_id, self.says, &expires];
        mac::keyed(secret, fields.map(str::as_bytes))
    }
}
