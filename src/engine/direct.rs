//! Straight to the store: clients are given URLs to put parts at, and what has
//! come there is taken over into the ledger before anybody is told of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::domain::rules;
use crate::domain::{
    Chunk, FileId, Geometry, Owner, Part, PartNumber, Plan, Refusal, State, Terms, Timestamp, Upload, UploadId,
};
use crate::engine::finish::Entry;
use crate::engine::{Engine, EngineError};
use crate::ledger::{RecordChunk, Recorded};
use crate::store::{SignedPut, StoreError, Target};

/// How long a signed URL may be used.
pub(super) const EXPIRES_IN: Duration = Duration::from_secs(3600);
/// Parts that are signed in one request.
pub const PARTS_MAX: usize = 1000;
/// What the store has listed counts for so long.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// Chunks that are on their way into the ledger at once: it takes many in one.
const AT_ONCE: usize = 256;

/// A part that a client puts without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPart {
    /// Which chunk it is.
    pub index: u32,
    /// How to put it.
    pub put: SignedPut,
    /// Until when.
    pub expires_at: Timestamp,
}

/// When each upload's parts were listed last. One list at a time per upload.
#[derive(Debug, Default)]
pub struct Listings {
    known: Mutex<HashMap<UploadId, Listing>>,
}

#[derive(Debug)]
struct Listing {
    gate: Weak<Gate>,
    at: Option<Duration>,
}

type Gate = tokio::sync::Mutex<()>;

impl Listings {
    fn gate(&self, id: UploadId, now: Duration) -> Arc<Gate> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |listing: &Listing| listing.at.is_some_and(|at| now < at + FRESH_FOR);
        known.retain(|_, listing| listing.gate.strong_count() > 0 || is_fresh(listing));
        let listing = known.entry(id).or_insert(Listing { gate: Weak::new(), at: None });
        listing.gate.upgrade().unwrap_or_else(|| {
            let gate = Arc::default();
            listing.gate = Arc::downgrade(&gate);
            gate
        })
    }

    fn is_listed_since(&self, id: UploadId, since: Duration) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).and_then(|listing| listing.at).is_some_and(|at| at >= since)
    }

    fn listed(&self, id: UploadId, at: Duration) {
        if let Some(listing) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            listing.at = Some(at);
        }
    }
}

impl Engine {
    /// URLs of the store for these chunks, as they were asked for.
    pub async fn sign_parts(
        &self,
        owner: &Owner,
        file_id: &FileId,
        terms: &Terms,
        indexes: &[i128],
    ) -> Result<Vec<SignedPart>, EngineError> {
        let upload = self.shared.ledger.find_upload(owner, file_id).await?.ok_or(Refusal::UploadNotFound)?;
        // Of one that the store has lost, URLs are of no use.
        let mut upload = self.catch_up(upload, false).await?;
        let numbers = self.numbers(&upload, terms, indexes)?;
        let now = self.shared.clock.now();
        // What is in the store without a row is found by who knows that it may be there.
        let expires_at = now.plus(self.shared.settings.upload.expires_after);
        if !self.shared.ledger.go_direct(upload.id, expires_at).await? {
            return Err(self.why_closed(upload.id).await?);
        }
        upload.is_direct = true;
        let session = self.session(&upload).await?;
        let target = Target { key: &upload.key, session: &session };
        let mut signed = Vec::with_capacity(numbers.len());
        for number in numbers {
            let put = self.shared.store.sign_part(target, number, EXPIRES_IN).await?.ok_or(not_direct())?;
            signed.push(SignedPart { index: number.chunk_index(), expires_at: now.plus(put.expires_in), put });
        }
        Ok(signed)
    }

    /// The parts of these chunks, if all of them may be put without us.
    fn numbers(&self, upload: &Upload, terms: &Terms, indexes: &[i128]) -> Result<Vec<PartNumber>, Refusal> {
        if !self.shared.store.limits().direct {
            return Err(not_direct());
        }
        match &upload.state {
            State::Open { .. } => {}
            State::Completing { .. } => return Err(Refusal::UploadCompleting),
            State::Completed { .. } => return Err(Refusal::UploadCompleted),
            State::Failed { .. } | State::Aborted | State::Expired => {
                return Err(rules::closed(&upload.state).unwrap_or(Refusal::UploadFailed));
            }
        }
        let Geometry::Fixed(plan) = &upload.geometry else {
            let reason =
                "the sizes of this upload's chunks are not known yet: create it with POST /uploads and its fileSize";
            return Err(Refusal::invalid(reason));
        };
        if indexes.is_empty() || indexes.len() > PARTS_MAX {
            return Err(Refusal::invalid(format!("chunkIndexes has 1 to {PARTS_MAX} indexes")));
        }
        let number = |index: &i128| {
            let known = u32::try_from(*index).ok().filter(|index| *index < plan.count());
            let known = known.ok_or(Refusal::ChunkIndexOutOfRange { index: *index, count: plan.count() })?;
            if known == 0 && self.kinds(terms).next().is_some() {
                let what =
                    "chunk 0 shows what kind of file it is: send that one through the gateway, which looks at it";
                return Err(Refusal::NotSupported { what });
            }
            PartNumber::of_chunk(known).ok_or(Refusal::Internal)
        };
        indexes.iter().map(number).collect()
    }

    /// Takes over what clients have put into the store since, and gives back
    /// the upload as it is then. Whoever needs the newest asks the store, others
    /// are content with what it said a moment ago.
    pub(super) async fn catch_up(&self, upload: Upload, newest: bool) -> Result<Upload, EngineError> {
        let (State::Open { session: Some(session) }, Geometry::Fixed(plan), true) =
            (&upload.state, &upload.geometry, upload.is_direct)
        else {
            return Ok(upload);
        };
        let (listings, clock) = (&self.shared.listings, &self.shared.clock);
        let began = clock.monotonic();
        let since = if newest { began } else { began.saturating_sub(FRESH_FOR) };
        let gate = listings.gate(upload.id, began);
        let _one = gate.lock().await;
        if listings.is_listed_since(upload.id, since) {
            return Ok(upload);
        }
        let at = clock.monotonic();
        let target = Target { key: &upload.key, session };
        let listed = match self.shared.store.list_parts(target).await {
            Ok(listed) => listed,
            // Nobody can put anything into it any more: merged meanwhile, or lost.
            Err(StoreError::NoSuchUpload) => {
                drop(self.lost(&upload).await?);
                return Ok(self.shared.ledger.upload(upload.id).await?.ok_or(Refusal::UploadNotFound)?);
            }
            Err(error) => return Err(error.into()),
        };
        self.take_over(&upload, plan, &listed).await?;
        listings.listed(upload.id, at);
        Ok(upload)
    }

    /// Records the parts that the ledger does not know and that are as the plan
    /// says: another size is no chunk, nor is one without a checksum where the
    /// store lists it.
    async fn take_over(&self, upload: &Upload, plan: &Plan, listed: &[Part]) -> Result<(), EngineError> {
        let (ledger, must_have_crc64) = (&self.shared.ledger, self.shared.store.limits().proof.lists_crc64());
        let present: HashSet<u32> = ledger.chunk_indexes(upload.id).await?.into_iter().collect();
        let new = listed.iter().filter_map(|part| {
            let index = part.number.chunk_index();
            let fits = plan.bytes_of(index) == Some(part.bytes) && !present.contains(&index);
            let is_proven = part.crc64.is_some() || !must_have_crc64;
            let chunk = || Chunk { index, bytes: part.bytes, crc64: part.crc64, etag: part.etag.clone() };
            (fits && is_proven).then(chunk)
        });
        let at = self.shared.clock.now();
        let expires_at = Some(at.plus(self.shared.settings.upload.expires_after));
        let records = new.map(|chunk| RecordChunk { upload: upload.id, chunk, lesson: None, expires_at, at });
        let recorded = stream::iter(records.collect::<Vec<_>>()).map(|record| ledger.record_chunk(record));
        let mut recorded = recorded.buffer_unordered(AT_ONCE);
        let mut is_full = false;
        while let Some(recorded) = recorded.next().await {
            if let Recorded::New(progress) = recorded? {
                metrics::counter!("chunkgate_chunks_direct_total").increment(1);
                is_full |= rules::is_full(&upload.geometry, progress);
            }
        }
        if is_full && upload.auto_complete {
            self.finish_later(upload, Entry::Fresh);
        }
        Ok(())
    }
}

fn not_direct() -> Refusal {
    Refusal::NotSupported {
        what: "this gateway's store takes nothing but through the gateway: send chunks to PUT /chunks",
    }
}
