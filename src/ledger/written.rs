//! What is written in more than one place.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::File;
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;

/// The rows of files that are there now: all but whether what was declared of
/// them was verified stands in their uploads' rows already.
pub(super) async fn insert_files(conn: &mut Conn, files: impl Iterator<Item = &File>) -> Result<(), LedgerError> {
    let text = "INSERT INTO files (id, owner, file_id, file_name, content_type, metadata, object_key, etag, bytes, \
                crc64, completed_at, declared, verified) \
                SELECT u.id, u.owner, u.file_id, u.file_name, u.content_type, u.metadata, u.object_key, u.etag, \
                u.file_bytes, u.crc64, u.completed_at, u.checksum, u.id {any_id 2} \
                FROM uploads u WHERE u.id {any_id 1}";
    let (mut ids, mut verified) = (Vec::new(), Vec::new());
    for file in files {
        ids.push(file.id.0);
        verified.extend(file.declared.filter(|(_, verified)| *verified).map(|_| file.id.0));
    }
    conn.execute(sql(text).bind(ids).bind(verified)).await.map(drop)
}

/// A client's pairs as their column holds them.
pub(super) fn metadata_json(metadata: &BTreeMap<String, String>) -> String {
    json!(metadata).to_string()
}
