//! What is sent: bytes that differ in every chunk of every file, made without
//! work and without memory.

use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::domain::Crc64;
use crate::domain::checksum::Crc64Stream;

/// What is repeated, and the most that is in one frame.
const BLOCK_BYTES: usize = 1 << 20;

/// A file as its size and a seed.
#[derive(Clone, Debug)]
pub struct Content {
    /// What the client calls it; the file's name as well.
    pub id: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The size of every chunk but the last.
    pub chunk_bytes: u64,
    /// Makes its bytes differ from those of other files.
    pub seed: u64,
}

impl Content {
    /// Chunks of the file; an empty file has none.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(self.chunk_bytes)
    }

    /// The chunk's size in bytes.
    pub fn chunk_len(&self, index: u64) -> u64 {
        self.chunk_bytes.min(self.bytes.saturating_sub(index * self.chunk_bytes))
    }

    /// The chunk's bytes: a line that names it, and a block that is the same
    /// for all, again and again.
    pub fn frames(&self, index: u64) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.seed.to_be_bytes());
        name[8..].copy_from_slice(&index.to_be_bytes());
        let mut left = usize::try_from(self.chunk_len(index)).unwrap_or(usize::MAX);
        let mut next = Bytes::copy_from_slice(&name);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let mut frame = std::mem::replace(&mut next, block());
            frame.truncate(left);
            left -= frame.len();
            Some(frame)
        })
    }

    /// The whole file's bytes.
    pub fn all_frames(&self) -> impl Iterator<Item = Bytes> {
        (0..self.chunks()).flat_map(|index| self.frames(index))
    }

    /// SHA-256 of the whole file.
    pub fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.all_frames().for_each(|frame| hash.update(&frame));
        hash.finalize().into()
    }

    /// CRC-64 of the whole file.
    pub fn crc64(&self) -> Crc64 {
        let mut crc64 = Crc64Stream::new();
        self.all_frames().for_each(|frame| crc64.update(&frame));
        crc64.value()
    }
}

/// Bytes that nothing compresses.
fn block() -> Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    let made = || {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.take(BLOCK_BYTES / 8).flatten().collect()
    };
    BLOCK.get_or_init(made).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_up_the_file_and_differ() {
        let file = Content { id: "a".to_owned(), bytes: 5_000_007, chunk_bytes: 2_000_000, seed: 7 };
        assert_eq!((file.chunks(), file.chunk_len(1), file.chunk_len(2)), (3, 2_000_000, 1_000_007));
        for index in 0..3 {
            let len: usize = file.frames(index).map(|frame| frame.len()).sum();
            assert_eq!(len as u64, file.chunk_len(index));
        }
        let heads: Vec<Bytes> = (0..3).filter_map(|index| file.frames(index).next()).collect();
        assert!(heads[0] != heads[1] && heads[1] != heads[2]);
        let whole: Vec<u8> = file.all_frames().flatten().collect();
        assert_eq!(file.sha256()[..], Sha256::digest(&whole)[..]);
        assert_eq!(file.crc64(), {
            let mut crc64 = Crc64Stream::new();
            crc64.update(&whole);
            crc64.value()
        });
    }

    #[test]
    fn small_and_empty_files() {
        let mut file = Content { id: "a".to_owned(), bytes: 3, chunk_bytes: 10, seed: 1 };
        assert_eq!(file.all_frames().map(|frame| frame.len()).sum::<usize>(), 3);
        file.bytes = 0;
        assert_eq!((file.chunks(), file.all_frames().count()), (0, 0));
    }
}
