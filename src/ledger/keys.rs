//! API keys that were made here rather than configured. Only their hashes.

use crate::domain::Timestamp;
use crate::ledger::Ledger;
use crate::ledger::db::sql;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;

impl Ledger {
    /// Their names and the SHA-256 of each.
    pub async fn api_keys(&self) -> Result<Vec<(String, [u8; 32])>, LedgerError> {
        let rows = self.read().await?.rows(sql("SELECT name, sha256 FROM api_keys ORDER BY name")).await?;
        rows.iter()
            .map(|row| {
                let read = Reader::new(row, "api_keys", &["name"]);
                let hash = read.parse("sha256", |text: String| hex::decode(text).ok()?.try_into().ok())?;
                Ok((read.get("name")?, hash))
            })
            .collect()
    }

    /// Keeps the first key there is. False when there is one already: of
    /// several gateways that start at once, one makes it.
    pub async fn add_first_api_key(&self, name: &str, sha256: &[u8; 32], at: Timestamp) -> Result<bool, LedgerError> {
        let text = "INSERT INTO api_keys (name, sha256, created_at) SELECT $1, $2, $3 \
                    WHERE NOT EXISTS (SELECT 1 FROM api_keys) ON CONFLICT DO NOTHING";
        let insert = sql(text).bind(name).bind(hex::encode(sha256)).bind(at.millis());
        self.swap(insert).await
    }
}
