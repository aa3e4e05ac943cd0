//! What access tokens are signed with, and the families of refresh tokens.

use uuid::Uuid;

use crate::domain::{Owner, Timestamp};
use crate::ledger::Ledger;
use crate::ledger::db::{Row, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;

/// 32 random bytes that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(pub [u8; 32]);

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

/// A key that access tokens are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name, which a token carries.
    pub id: String,
    /// The key itself.
    pub secret: KeySecret,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A login on one device: all refresh tokens that come of it, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, which every token of it carries.
    pub id: Uuid,
    /// Whose tokens they are.
    pub owner: Owner,
    /// What the device calls itself, if it does.
    pub device: Option<String>,
    /// What its refresh tokens are made of.
    pub secret: KeySecret,
    /// What its bearer may do, as whoever wrote it reads it.
    pub terms: String,
    /// The one refresh token that may be used; from 0.
    pub generation: u32,
    /// When the one before it was used.
    pub rotated_at: Option<Timestamp>,
    /// When that one ends.
    pub expires_at: Timestamp,
    /// When the login was.
    pub created_at: Timestamp,
    /// Whether it was ended.
    pub is_revoked: bool,
}

impl Ledger {
    /// All keys, the newest last.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, LedgerError> {
        let text = "SELECT id, secret, created_at FROM signing_keys ORDER BY created_at, id";
        let rows = self.read().await?.rows(sql(text)).await?;
        let key = |row| {
            let read = Reader::new(row, "signing_keys", &["id"]);
            Ok(SigningKey { id: read.get("id")?, secret: secret(&read)?, created_at: read.time("created_at")? })
        };
        rows.iter().map(key).collect()
    }

    /// Keeps a key, unless there is one that was made after `unless_after`: of
    /// several gateways that want a new one, one makes it.
    pub async fn add_signing_key(&self, key: &SigningKey, unless_after: Timestamp) -> Result<bool, LedgerError> {
        let text = "INSERT INTO signing_keys (id, secret, created_at) SELECT $1, $2, $3 \
                    WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE created_at > $4) ON CONFLICT DO NOTHING";
        let insert = sql(text).bind(key.id.as_str()).bind(hex::encode(key.secret.0)).bind(key.created_at.millis());
        self.swap(insert.bind(unless_after.millis())).await
    }

    /// Forgets keys that were made before this, but never the newest.
    pub async fn drop_signing_keys(&self, before: Timestamp) -> Result<u64, LedgerError> {
        let text = "DELETE FROM signing_keys WHERE created_at < $1 \
                    AND created_at < (SELECT max(k.created_at) FROM signing_keys k)";
        self.run(sql(text).bind(before.millis())).await
    }

    /// Begins a family.
    pub async fn add_family(&self, family: &Family) -> Result<(), LedgerError> {
        let text = "INSERT INTO token_families (id, owner, device, secret, terms, generation, expires_at, created_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        let insert = sql(text).bind(family.id).bind(family.owner.as_str()).bind(family.device.clone());
        let insert = insert.bind(hex::encode(family.secret.0)).bind(family.terms.as_str()).bind(family.generation);
        self.run(insert.bind(family.expires_at.millis()).bind(family.created_at.millis())).await.map(drop)
    }

    /// The family of this name.
    pub async fn family(&self, id: Uuid) -> Result<Option<Family>, LedgerError> {
        let text = "SELECT id, owner, device, secret, terms, generation, rotated_at, expires_at, created_at, \
                    revoked_at FROM token_families WHERE id = $1";
        self.read().await?.row(sql(text).bind(id)).await?.as_ref().map(family).transpose()
    }

    /// The next generation, if this one is still the last and the family was
    /// not ended: of all who use one refresh token, one is the first.
    pub async fn rotate_family(
        &self,
        id: Uuid,
        generation: u32,
        at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let text = "UPDATE token_families SET generation = generation + 1, rotated_at = $3, expires_at = $4 \
                    WHERE id = $1 AND generation = $2 AND revoked_at IS NULL";
        let swap = sql(text).bind(id).bind(generation).bind(at.millis()).bind(expires_at.millis());
        self.swap(swap).await
    }

    /// Ends a family. False when it was ended before.
    pub async fn revoke_family(&self, id: Uuid, at: Timestamp) -> Result<bool, LedgerError> {
        let text = "UPDATE token_families SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        self.swap(sql(text).bind(id).bind(at.millis())).await
    }

    /// The families that were ended after this.
    pub async fn revoked_families(&self, after: Timestamp) -> Result<Vec<(Uuid, Timestamp)>, LedgerError> {
        let text = "SELECT id, revoked_at FROM token_families WHERE revoked_at IS NOT NULL AND revoked_at > $1";
        let rows = self.read().await?.rows(sql(text).bind(after.millis())).await?;
        let read = |row| {
            let read = Reader::new(row, "token_families", &["id"]);
            Ok((read.get("id")?, read.time("revoked_at")?))
        };
        rows.iter().map(read).collect()
    }

    /// Forgets families whose last token ended before this.
    pub async fn prune_families(&self, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
        let text = "DELETE FROM token_families WHERE id IN \
                    (SELECT f.id FROM token_families f WHERE f.expires_at < $1 ORDER BY f.expires_at LIMIT $2)";
        self.run(sql(text).bind(before.millis()).bind(limit)).await
    }
}

fn secret(read: &Reader<'_>) -> Result<KeySecret, LedgerError> {
    read.parse("secret", |text: String| hex::decode(text).ok()?.try_into().ok()).map(KeySecret)
}

fn family(row: &Row) -> Result<Family, LedgerError> {
    let read = Reader::new(row, "token_families", &["id"]);
    Ok(Family {
        id: read.get("id")?,
        owner: read.parse::<String, _>("owner", |text| Owner::parse(&text).ok())?,
        device: read.get("device")?,
        secret: secret(&read)?,
        terms: read.get("terms")?,
        generation: read.count("generation")?,
        rotated_at: read.get::<Option<i64>>("rotated_at")?.map(Timestamp::from_millis),
        expires_at: read.time("expires_at")?,
        created_at: read.time("created_at")?,
        is_revoked: read.get::<Option<i64>>("revoked_at")?.is_some(),
    })
}
