//! Where a body stands in its file.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pwritev};

use crate::domain::Crc64;
use crate::domain::checksum::Crc64Stream;

/// The disk is told of what was written whenever it is this much.
const WRITEBACK_BYTES: u64 = 1 << 20;

/// How far a body has come, and the checksum of what is there.
pub(super) struct Cursor {
    /// Where its next byte goes.
    next: u64,
    /// Where what the disk has not been told of begins.
    untold: u64,
    crc64: Crc64Stream,
}

impl Cursor {
    /// Of a body that begins at this offset.
    pub(super) fn from(offset: u64) -> Self {
        Self { next: offset, untold: offset, crc64: Crc64Stream::new() }
    }

    /// Where its next byte goes.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Of all that was written.
    pub(super) fn crc64(&self) -> Crc64 {
        self.crc64.value()
    }

    /// Writes the frames behind what is there.
    pub(super) fn write(&mut self, file: &File, frames: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match pwritev(file, rest, self.next) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.next += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.tell(file);
        for frame in frames {
            self.crc64.update(frame);
        }
        Ok(())
    }

    /// Has the disk begin with what is there while the rest is still coming,
    /// so that the sync at the end, which the client waits for, finds little
    /// left. That it is not needed any more is the only way to say so; what is
    /// on its way to the disk stays in the cache all the same.
    fn tell(&mut self, file: &File) {
        if let Some(bytes) = NonZeroU64::new(self.next - self.untold).filter(|bytes| bytes.get() >= WRITEBACK_BYTES) {
            // A hint: what fails here, the sync says.
            let _ = fadvise(file, self.untold, Some(bytes), Advice::DontNeed);
            self.untold = self.next;
        }
    }
}
