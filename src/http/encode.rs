//! What the native API's answers look like.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{Checksum, ChecksumAlgorithm, File, State, Upload};
use crate::engine::hooks::Completed;
use crate::engine::inspect::{ChunksView, UploadView};
use crate::engine::put_chunk::ChunkStored;

/// `Upload` of the API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadBody<'a> {
    file_id: &'a str,
    owner: &'a str,
    file_name: &'a str,
    file_size: Option<u64>,
    chunk_size: Option<u64>,
    total_chunks: u32,
    content_type: Option<&'a str>,
    status: &'static str,
    uploaded_chunks: u32,
    uploaded_bytes: u64,
    created_at: String,
    updated_at: String,
    expires_at: String,
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileBody<'a>>,
}

/// An upload with its counts and, once completed, its file.
pub fn view(view: &UploadView) -> UploadBody<'_> {
    let UploadView { upload, progress, file } = view;
    let failure = match &upload.state {
        State::Failed { failure } => Some(failure.code()),
        State::Open { .. } | State::Completing { .. } | State::Completed { .. } | State::Aborted | State::Expired => {
            None
        }
    };
    UploadBody {
        file_id: upload.file_id.as_str(),
        owner: upload.owner.as_str(),
        file_name: &upload.file_name,
        file_size: upload.geometry.total_bytes(),
        chunk_size: upload.geometry.chunk_bytes(),
        total_chunks: upload.geometry.count(),
        content_type: upload.content_type.as_deref(),
        status: upload.state.status().name(),
        uploaded_chunks: progress.chunks,
        uploaded_bytes: progress.bytes,
        created_at: upload.created_at.rfc3339(),
        updated_at: upload.updated_at.rfc3339(),
        expires_at: upload.expires_at.rfc3339(),
        metadata: &upload.metadata,
        failure,
        file: file.as_ref().map(self::file),
    }
}

/// An upload as an operator sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacedBody<'a> {
    #[serde(flatten)]
    upload: UploadBody<'a>,
    upload_id: String,
    bucket: &'a str,
    object_key: &'a str,
}

/// An upload with where its object lies, would lie, or is kept.
pub fn placed<'a>(view: &'a UploadView, bucket: &'a str) -> PlacedBody<'a> {
    PlacedBody {
        upload: self::view(view),
        upload_id: view.upload.id.to_string(),
        bucket,
        object_key: view.upload.key.as_str(),
    }
}

/// `File` of the API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileBody<'a> {
    file_id: &'a str,
    file_name: &'a str,
    file_size: u64,
    content_type: Option<&'a str>,
    checksum: Map<String, Value>,
    etag: &'a str,
    upload_time: String,
    metadata: &'a BTreeMap<String, String>,
}

/// A file that is there.
pub fn file(file: &File) -> FileBody<'_> {
    let crc64 = file.object.crc64.map(|crc64| crc64.to_string());
    let mut checksum = Map::from_iter([(ChecksumAlgorithm::Crc64.name().to_owned(), Value::from(crc64))]);
    if let Some((declared, verified)) = &file.declared {
        checksum.insert(declared.algorithm().name().to_owned(), Value::from(declared.value()));
        checksum.insert("verified".to_owned(), Value::from(*verified));
    } else if file.object.crc64.is_none() {
        checksum.insert("verified".to_owned(), Value::from(false));
    }
    FileBody {
        file_id: file.file_id.as_str(),
        file_name: &file.file_name,
        file_size: file.object.bytes,
        content_type: file.content_type.as_deref(),
        checksum,
        etag: &file.object.etag,
        upload_time: file.object.completed_at.rfc3339(),
        metadata: &file.metadata,
    }
}

/// An answer with what the application says of the file that is in it.
#[derive(Serialize)]
pub struct Told<'a, T> {
    #[serde(flatten)]
    body: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a Value>,
}

/// Adds what the application says, if it says anything.
pub fn told<T>(body: T, app: &Option<Value>) -> Told<'_, T> {
    Told { body, app: app.as_ref() }
}

/// The answer to a merge that is done.
#[derive(Serialize)]
pub struct CompletedBody<'a> {
    file: FileBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a Value>,
}

/// A merge that is done.
pub fn completed(completed: &Completed) -> CompletedBody<'_> {
    CompletedBody { file: file(&completed.file), app: completed.app.as_ref() }
}

/// The answer to a chunk.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunkStoredBody<'a> {
    file_id: &'a str,
    chunk_index: u32,
    offset: Option<u64>,
    size: u64,
    checksum: Map<String, Value>,
    status: &'static str,
    uploaded_chunks: u32,
    total_chunks: u32,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a [[u32; 2]]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    derived_file_id: bool,
}

/// A chunk that is safe. `derived_file_id`: the form brought no fileId.
pub fn chunk_stored(stored: &ChunkStored, derived_file_id: bool) -> ChunkStoredBody<'_> {
    let geometry = &stored.upload.geometry;
    ChunkStoredBody {
        file_id: stored.upload.file_id.as_str(),
        chunk_index: stored.index,
        // The one chunk of an empty file begins at 0, though the plan has none.
        offset: geometry.offset_of(stored.index).or((geometry.count() == 0).then_some(0)),
        size: stored.bytes,
        checksum: checksums(&stored.checksums),
        status: UPLOADED,
        uploaded_chunks: stored.progress.chunks,
        total_chunks: geometry.count(),
        complete: stored.file.is_some(),
        file: stored.file.as_ref().map(file),
        app: stored.app.as_ref(),
        missing: stored.missing.as_deref(),
        derived_file_id,
    }
}

fn checksums(checksums: &[Checksum]) -> Map<String, Value> {
    checksums.iter().map(|c| (c.algorithm().name().to_owned(), Value::from(c.value()))).collect()
}

/// What a resume query shows of each chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Those that were received.
    #[default]
    Received,
    /// All, the others as pending.
    All,
    /// None: the missing ranges say it.
    Ranges,
}

/// The answer to a resume query.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunksBody<'a> {
    #[serde(flatten)]
    upload: UploadBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<ChunkBody<'a>>>,
    missing: &'a [[u32; 2]],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChunkBody<'a> {
    file_id: &'a str,
    chunk_index: u32,
    offset: Option<u64>,
    size: Option<u64>,
    status: &'static str,
}

/// An upload with what of it has arrived.
pub fn chunks(view: &ChunksView, shown: Shown) -> ChunksBody<'_> {
    let upload = &view.view.upload;
    // A completed upload has all its chunks, also once their rows are swept.
    let completed = matches!(upload.state, State::Completed { .. });
    let chunks = (shown != Shown::Ranges).then(|| {
        let mut recorded = view.chunks.iter().peekable();
        let all = (0..upload.geometry.count()).map(|index| {
            let bytes = recorded.next_if(|chunk| chunk.index == index).map(|chunk| chunk.bytes);
            chunk_body(upload, index, bytes, completed)
        });
        all.filter(|chunk| shown == Shown::All || chunk.status == UPLOADED).collect()
    });
    ChunksBody { upload: self::view(&view.view), chunks, missing: &view.missing }
}

const UPLOADED: &str = "uploaded";

fn chunk_body(upload: &Upload, index: u32, recorded: Option<u64>, completed: bool) -> ChunkBody<'_> {
    let planned = upload.geometry.plan().and_then(|plan| plan.bytes_of(index));
    ChunkBody {
        file_id: upload.file_id.as_str(),
        chunk_index: index,
        offset: upload.geometry.offset_of(index),
        size: recorded.or(planned),
        status: if recorded.is_some() || completed { UPLOADED } else { "pending" },
    }
}
