//! What is written in more than one place.

use std::collections::BTreeMap;

use crate::domain::File;
use crate::ledger::db::{Conn, Value, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::size;

/// The row of a file that is there now.
pub(super) async fn insert_file(conn: &mut Conn, file: &File) -> Result<(), LedgerError> {
    let text = "INSERT INTO files (id, owner, file_id, file_name, content_type, metadata, object_key, etag, bytes, \
                crc64, completed_at, declared, verified) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let row = vec![
        Value::from(file.id.0),
        Value::from(file.owner.as_str()),
        Value::from(file.file_id.as_str()),
        Value::from(file.file_name.as_str()),
        Value::from(file.content_type.clone()),
        Value::from(metadata_json(&file.metadata)),
        Value::from(file.key.as_str()),
        Value::from(file.object.etag.as_str()),
        Value::from(size(file.object.bytes)),
        Value::from(file.object.crc64.0.cast_signed()),
        Value::from(file.object.completed_at.millis()),
        Value::from(file.declared.map(|(checksum, _)| checksum.tagged())),
        Value::from(file.declared.is_some_and(|(_, verified)| verified)),
    ];
    conn.execute(sql(text).bind_all(row)).await.map(|_| ())
}

/// A client's pairs as their column holds them.
pub(super) fn metadata_json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::json!(metadata).to_string()
}
