//! The suite that every store passes. It is public so that integration tests
//! can run it against a store that must be started first; it panics with the
//! name of the case and of the call that went wrong.
//!
//! It knows a store only by its trait and its limits: parts are as small as
//! the store takes them, and proofs are asked for where the store has them.

mod bench;
mod objects;
mod uploads;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::store::Store;
use bench::Bench;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Case = (&'static str, for<'a> fn(&'a Bench) -> Running<'a>);

macro_rules! cases {
    ($($group:ident::$name:ident),+ $(,)?) => { &[$((stringify!($name), |bench| Box::pin($group::$name(bench)))),+] };
}

/// All cases, by name.
const CASES: &[Case] = cases![
    uploads::parts_in_order_make_the_object,
    uploads::parts_out_of_order_make_the_object,
    uploads::parts_at_once_make_the_object,
    uploads::a_learnt_plan_makes_the_object,
    uploads::a_larger_last_chunk_makes_the_object,
    uploads::a_single_part_makes_the_object,
    uploads::parts_are_listed_as_they_were_answered,
    uploads::a_part_put_again_replaces_the_first,
    uploads::a_missing_part_is_refused,
    uploads::a_gap_is_refused,
    uploads::another_etag_is_refused,
    uploads::a_broken_body_leaves_no_part,
    uploads::a_broken_overwrite_is_never_the_old_part_with_new_bytes,
    uploads::abort_can_be_repeated,
    uploads::an_aborted_upload_is_unknown,
    uploads::a_completed_upload_is_unknown,
    uploads::an_upload_that_never_was_is_unknown,
    uploads::two_uploads_of_one_key_are_two,
    uploads::uploads_are_listed_by_prefix,
    objects::a_small_object_is_put_and_read,
    objects::an_empty_object_is_put_and_read,
    objects::a_put_replaces_and_a_broken_one_does_not,
    objects::ranges_are_read_exactly,
    objects::an_absent_object_is_absent,
    objects::the_store_is_well,
];

/// Runs the whole suite. Keys lie under `prefix`, which should be the test's
/// own; everything that is made there is removed again.
pub async fn run(store: Arc<dyn Store>, prefix: &str) {
    for (name, case) in CASES {
        let bench = Bench { store: store.clone(), prefix: prefix.to_owned(), case: name };
        case(&bench).await;
        bench.sweep().await;
    }
}
