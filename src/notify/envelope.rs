//! The body of an event, as receivers read it. Written once, when the upload
//! ends; every attempt sends the same bytes. And what hooks are asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::domain::event::{EventKind, Subject};
use crate::domain::{Failure, File, Timestamp, Upload};
use crate::notify::hook::Hook;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    file_id: &'a str,
    file_name: &'a str,
    file_size: Option<u64>,
    content_type: Option<&'a str>,
    owner: &'a str,
    bucket: &'a str,
    object_key: &'a str,
    etag: Option<&'a str>,
    crc64: Option<String>,
    metadata: &'a BTreeMap<String, String>,
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
}

/// The JSON of an event of this kind that happened at `at`.
pub fn body(kind: EventKind, at: Timestamp, bucket: &str, subject: &Subject<'_>) -> String {
    let data = match subject {
        Subject::File(file) => of_file(file, bucket),
        Subject::Upload(upload, failure) => of_upload(upload, *failure, bucket),
    };
    let envelope = Envelope { r#type: kind.name(), timestamp: at.rfc3339(), data };
    // Strings and numbers only: this cannot fail.
    serde_json::to_string(&envelope).unwrap_or_default()
}

fn of_file<'a>(file: &'a File, bucket: &'a str) -> Data<'a> {
    Data {
        file_id: file.file_id.as_str(),
        file_name: &file.file_name,
        file_size: Some(file.object.bytes),
        content_type: file.content_type.as_deref(),
        owner: file.owner.as_str(),
        bucket,
        object_key: file.key.as_str(),
        etag: Some(&file.object.etag),
        crc64: file.object.crc64.map(|crc64| crc64.to_string()),
        metadata: &file.metadata,
        completed_at: Some(file.object.completed_at.rfc3339()),
        failure: None,
    }
}

fn of_upload<'a>(upload: &'a Upload, failure: Option<Failure>, bucket: &'a str) -> Data<'a> {
    Data {
        file_id: upload.file_id.as_str(),
        file_name: &upload.file_name,
        file_size: upload.geometry.total_bytes(),
        content_type: upload.content_type.as_deref(),
        owner: upload.owner.as_str(),
        bucket,
        object_key: upload.key.as_str(),
        etag: None,
        crc64: None,
        metadata: &upload.metadata,
        completed_at: None,
        failure: failure.map(Failure::code),
    }
}

/// An upload that is about to begin, and whose request it is.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Beginning<'a> {
    pub owner: &'a str,
    pub file_id: &'a str,
    pub file_name: &'a str,
    pub file_size: Option<u64>,
    pub chunk_size: Option<u64>,
    pub total_chunks: u32,
    pub content_type: Option<&'a str>,
    pub metadata: &'a BTreeMap<String, String>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<&'a str>,
}

/// What `before_create` is asked.
pub fn before_create(new: &Beginning<'_>) -> String {
    serde_json::json!({
        "hook": Hook::BeforeCreate.name(),
        "upload": {
            "fileId": new.file_id,
            "fileName": new.file_name,
            "fileSize": new.file_size,
            "chunkSize": new.chunk_size,
            "totalChunks": new.total_chunks,
            "contentType": new.content_type,
            "metadata": new.metadata,
        },
        "owner": new.owner,
        "request": {"ip": new.ip, "userAgent": new.user_agent},
    })
    .to_string()
}

/// What `completed` is asked: the event, as receivers get it.
pub fn completed(event: &str) -> String {
    format!(r#"{{"hook":"{}","event":{event}}}"#, Hook::Completed.name())
}
