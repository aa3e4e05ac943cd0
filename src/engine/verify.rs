//! Whether the object that came of a merge is what was acknowledged: by what the
//! store shows of it, or by its bytes.

use futures_util::StreamExt as _;

use crate::domain::checksum::Crc64Stream;
use crate::domain::{Checksum, Crc64, Lease, Part, Upload};
use crate::engine::Engine;
use crate::store::{Joined, Shown, StoreError, Target};

/// One merge under its lease.
pub(super) struct Merge<'a> {
    pub(super) upload: &'a Upload,
    pub(super) target: Target<'a>,
    pub(super) lease: Lease,
    pub(super) parts: &'a [Part],
    /// Size and checksum of what they make; none if parts came straight to a
    /// store that keeps none.
    pub(super) whole: (u64, Option<Crc64>),
}

impl Merge<'_> {
    /// Whether the client has declared another checksum.
    pub(super) fn is_not_declared(&self, crc64: Crc64) -> bool {
        matches!(self.upload.checksum, Some(Checksum::Crc64(declared)) if declared != crc64)
    }
}

impl Engine {
    /// Whether an object is what was acknowledged. Where nothing of the store
    /// shows it, the bytes are read, for no proof is no pass; and where its
    /// checksum was declared and nobody knows it, to know it.
    pub(super) async fn is_acknowledged(&self, merge: &Merge<'_>, joined: &mut Joined) -> Result<bool, StoreError> {
        let (object, (bytes, crc64)) = (&mut joined.object, merge.whole);
        if object.bytes != bytes {
            return Ok(false);
        }
        let is_to_be_known = crc64.is_none() && matches!(merge.upload.checksum, Some(Checksum::Crc64(_)));
        match (object.crc64.zip(crc64), joined.shown) {
            (Some((theirs, ours)), _) => Ok(theirs == ours),
            (None, Shown::TheseParts) if !is_to_be_known => Ok(true),
            // What nobody of ours has seen, reading cannot make right again.
            (None, Shown::Others) if crc64.is_none() => Ok(false),
            (None, Shown::TheseParts | Shown::Others | Shown::Nothing) => {
                object.crc64 = self.read_parts(merge).await?;
                Ok(object.crc64.is_some())
            }
        }
    }

    /// The checksum of an object; none if one of the parts in it is not what
    /// passed a gateway.
    async fn read_parts(&self, merge: &Merge<'_>) -> Result<Option<Crc64>, StoreError> {
        let mut reading = self.shared.store.get(&merge.upload.key, None).await?;
        let (mut whole, mut part, mut parts) = (Crc64Stream::new(), Crc64Stream::new(), merge.parts.iter());
        let mut now = parts.next();
        let mut left = now.map_or(0, |part| part.bytes);
        while let Some(frame) = reading.stream.next().await {
            let mut frame = frame?;
            whole.update(&frame);
            while !frame.is_empty() {
                let piece = frame.split_to(frame.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                part.update(&piece);
                left -= piece.len() as u64;
                if left > 0 {
                    continue;
                }
                let read = std::mem::take(&mut part).value();
                if now.is_none_or(|now| now.crc64.is_some_and(|crc64| crc64 != read)) {
                    return Ok(None);
                }
                now = parts.next();
                left = now.map_or(0, |part| part.bytes);
            }
        }
        Ok(now.is_none().then(|| whole.value()))
    }
}
