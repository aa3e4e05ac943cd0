//! The merge, decided: after each answer of the store, what to do next. The
//! engine carries the steps out; the model of the protocol in `tests/it` walks
//! through the same ones, in all orders there are.

use std::ops::ControlFlow::{self, Break, Continue};

use crate::domain::rules;
use crate::domain::upload::{Failure, Part};

/// What a merge asks the store. It begins with `List`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Which parts there are.
    List,
    /// To join the parts.
    Join,
    /// Whether the object is there, for there is no such multipart upload.
    Ask,
    /// What an object's size and checksum are.
    Verify {
        /// Whether it was joined by this very attempt, or found.
        joined: bool,
    },
}

/// How an attempt to merge ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The object is what was acknowledged: it is recorded and announced.
    Record,
    /// The store does not have these chunks as they were acknowledged: the
    /// upload is opened again without them.
    Reopen(Vec<u32>),
    /// The upload cannot become a file.
    Fail(Failure),
}

/// The next step, or the end.
pub type Next = ControlFlow<End, Step>;

/// The store has listed these parts, or has no such multipart upload.
pub fn after_listing(recorded: &[Part], listed: Option<&[Part]>) -> Next {
    let Some(listed) = listed else { return Continue(Step::Ask) };
    let differing = rules::differing_parts(recorded, listed);
    if differing.is_empty() {
        Continue(Step::Join)
    } else {
        Break(End::Reopen(differing.iter().map(|number| number.chunk_index()).collect()))
    }
}

/// The store has joined the parts, or has no such multipart upload: somebody
/// else may have had them joined, or an answer was lost. It never means
/// "finished".
pub const fn after_joining(is_joined: bool) -> Next {
    Continue(if is_joined { Step::Verify { joined: true } } else { Step::Ask })
}

/// There is an object where this upload's would be, or there is none.
pub const fn after_asking(is_there: bool) -> Next {
    if is_there { Continue(Step::Verify { joined: false }) } else { Break(End::Fail(Failure::UploadLost)) }
}

/// An object is what was acknowledged, or something else.
pub const fn after_verifying(is_same: bool, joined: bool) -> Next {
    Break(if is_same {
        End::Record
    } else if joined {
        End::Fail(Failure::IntegrityFailed)
    } else {
        End::Fail(Failure::UploadLost)
    })
}

/// Whether the parts may have been joined already, or may be joined yet by a
/// call that nobody waits for, when the store has failed at `step`. Then the
/// upload stays `completing`, whatever the store says: opened again, it could
/// be given up while its object is there. `before` is whether that was so at the
/// beginning of this attempt, and `is_unknown` that nobody knows what the store
/// did.
pub const fn may_be_joined(step: Step, before: bool, is_unknown: bool) -> bool {
    match step {
        Step::List => before,
        // A refusal does nothing; what is on its way from before it may arrive.
        Step::Join => before || is_unknown,
        Step::Ask | Step::Verify { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Crc64, PartNumber};

    fn part(number: u32, etag: &str) -> Part {
        let number = PartNumber::new(number).expect("a part number");
        Part { number, bytes: 10, etag: etag.to_owned(), crc64: Some(Crc64(7)) }
    }

    #[test]
    fn only_what_the_store_lists_alike_is_joined() {
        let recorded = [part(1, "a"), part(2, "b")];
        assert_eq!(after_listing(&recorded, Some(&recorded)), Continue(Step::Join));
        assert_eq!(after_listing(&recorded, Some(&[part(1, "a"), part(2, "x")])), Break(End::Reopen(vec![1])));
        assert_eq!(after_listing(&recorded, Some(&[])), Break(End::Reopen(vec![0, 1])));
    }

    #[test]
    fn a_multipart_upload_that_is_gone_is_neither_finished_nor_lost_until_the_object_is_asked_for() {
        assert_eq!(after_listing(&[part(1, "a")], None), Continue(Step::Ask));
        assert_eq!(after_joining(false), Continue(Step::Ask));
        assert_eq!(after_asking(false), Break(End::Fail(Failure::UploadLost)));
        assert_eq!(after_verifying(true, false), Break(End::Record));
        assert_eq!(after_verifying(false, false), Break(End::Fail(Failure::UploadLost)));
        assert_eq!(after_verifying(false, true), Break(End::Fail(Failure::IntegrityFailed)));
    }

    #[test]
    fn an_upload_is_opened_again_only_while_it_is_certain_that_nothing_was_joined() {
        assert!(!may_be_joined(Step::List, false, false));
        assert!(may_be_joined(Step::List, true, false), "an answer was lost before");
        assert!(!may_be_joined(Step::Join, false, false), "it was listed just now, and refused");
        assert!(may_be_joined(Step::Join, true, false), "a call from before may arrive yet");
        assert!(may_be_joined(Step::Join, false, true), "the answer is lost");
        assert!(may_be_joined(Step::Ask, false, false));
        assert!(may_be_joined(Step::Verify { joined: true }, false, false));
    }
}
