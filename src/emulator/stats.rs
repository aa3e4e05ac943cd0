//! What the emulator was asked for, counted: for tests that say "nothing is
//! sent twice".

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::operation::Operation;

/// Requests that were rightly signed, by operation, whatever their answer;
/// and what became of all of them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// InitiateMultipartUpload.
    pub initiate: AtomicU64,
    /// UploadPart.
    pub upload_part: AtomicU64,
    /// ListParts.
    pub list_parts: AtomicU64,
    /// CompleteMultipartUpload.
    pub complete: AtomicU64,
    /// AbortMultipartUpload.
    pub abort: AtomicU64,
    /// ListMultipartUploads.
    pub list_uploads: AtomicU64,
    /// UploadPartCopy.
    pub upload_part_copy: AtomicU64,
    /// PutObject.
    pub put_object: AtomicU64,
    /// PostObject: also of forms that were refused.
    pub post_object: AtomicU64,
    /// AppendObject.
    pub append_object: AtomicU64,
    /// CopyObject.
    pub copy_object: AtomicU64,
    /// GetObject.
    pub get_object: AtomicU64,
    /// HeadObject and GetObjectMeta.
    pub head_object: AtomicU64,
    /// DeleteObject.
    pub delete_object: AtomicU64,
    /// DeleteMultipleObjects.
    pub delete_objects: AtomicU64,
    /// ACL and tags of objects.
    pub attributes: AtomicU64,
    /// ListObjects, of either version.
    pub list_objects: AtomicU64,
    /// All else: about the bucket.
    pub bucket: AtomicU64,
    /// What went wrong on purpose.
    pub faults: AtomicU64,
    /// Answers that were refusals, wrong signatures included.
    pub refused: AtomicU64,
    /// Parts that were stored.
    pub parts_stored: AtomicU64,
    /// Bytes of parts and objects that were stored.
    pub bytes_stored: AtomicU64,
}

impl Stats {
    /// One more.
    pub(crate) fn count(&self, operation: &Operation) {
        let counter = match operation {
            Operation::InitiateMultipartUpload => &self.initiate,
            Operation::UploadPart { .. } => &self.upload_part,
            Operation::ListParts(_) => &self.list_parts,
            Operation::CompleteMultipartUpload { .. } => &self.complete,
            Operation::AbortMultipartUpload { .. } => &self.abort,
            Operation::ListMultipartUploads(_) => &self.list_uploads,
            Operation::UploadPartCopy { .. } => &self.upload_part_copy,
            Operation::PutObject => &self.put_object,
            Operation::PostObject => &self.post_object,
            Operation::AppendObject { .. } => &self.append_object,
            Operation::CopyObject(_) => &self.copy_object,
            Operation::GetObject => &self.get_object,
            Operation::HeadObject | Operation::GetObjectMeta => &self.head_object,
            Operation::DeleteObject => &self.delete_object,
            Operation::ListObjects(_) => &self.list_objects,
            Operation::DeleteMultipleObjects => &self.delete_objects,
            Operation::GetObjectAcl
            | Operation::PutObjectAcl
            | Operation::GetObjectTagging
            | Operation::PutObjectTagging
            | Operation::DeleteObjectTagging => &self.attributes,
            Operation::ListBuckets
            | Operation::PutBucket
            | Operation::GetBucketInfo
            | Operation::GetBucketLocation
            | Operation::GetBucketStat
            | Operation::GetBucketAcl
            | Operation::GetBucketSetting(_)
            | Operation::PutBucketSetting(_)
            | Operation::DeleteBucketSetting(_) => &self.bucket,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// This many more of a counter.
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}
