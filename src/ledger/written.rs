//! What is written in more than one place.

use std::collections::BTreeMap;

use serde_json::json;

use crate::domain::File;
use crate::ledger::db::Conn;
use crate::ledger::error::LedgerError;
use crate::ledger::size;

/// The rows of files that are there now.
pub(super) async fn insert_files(conn: &mut Conn, files: impl Iterator<Item = &File>) -> Result<(), LedgerError> {
    let text = "INSERT INTO files (id, owner, file_id, file_name, content_type, metadata, object_key, etag, bytes, \
                crc64, completed_at, declared, verified) \
                SELECT r.id, r.owner, r.file_id, r.file_name, r.content_type, r.metadata, r.object_key, r.etag, \
                r.bytes, r.crc64, r.completed_at, r.declared, r.verified \
                FROM {rows 1 id:uuid owner:text file_id:text file_name:text content_type:text metadata:text \
                object_key:text etag:text bytes:bigint crc64:bigint completed_at:bigint declared:text \
                verified:boolean}";
    let row = |file: &File| {
        json!({
            "id": file.id.0.simple().to_string(),
            "owner": file.owner.as_str(),
            "file_id": file.file_id.as_str(),
            "file_name": file.file_name,
            "content_type": file.content_type,
            "metadata": metadata_json(&file.metadata),
            "object_key": file.key.as_str(),
            "etag": file.object.etag,
            "bytes": size(file.object.bytes),
            "crc64": file.object.crc64.map(|crc64| crc64.0.cast_signed()),
            "completed_at": file.object.completed_at.millis(),
            "declared": file.declared.map(|(checksum, _)| checksum.tagged()),
            "verified": file.declared.is_some_and(|(_, verified)| verified),
        })
    };
    conn.rows_of(text, files.map(row)).await.map(drop)
}

/// A client's pairs as their column holds them.
pub(super) fn metadata_json(metadata: &BTreeMap<String, String>) -> String {
    json!(metadata).to_string()
}
