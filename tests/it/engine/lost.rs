//! Uploads whose parts clients put into the store themselves: what the store
//! lost is told, and what comes late is found.

use std::sync::Arc;
use std::time::Duration;

use chunkgate::clock::{Clock as _, TestClock};
use chunkgate::domain::{Owner, PartNumber, Status, Terms, Timestamp};
use chunkgate::engine::SweepConfig;
use chunkgate::engine::finish::Finished;
use chunkgate::engine::sweep::Sweeper;
use chunkgate::notify::Hooks;
use chunkgate::store::memory::MemoryStore;
use chunkgate::store::{NewPart, Store as _, Target, body_of};

use super::{CHUNK, House, file_id, session};
use crate::postgres;

const MINUTE: Duration = Duration::from_secs(60);

async fn direct() -> [(House, Arc<TestClock>); 2] {
    let on = async |url| {
        let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_000_000_000)));
        let mut limits = MemoryStore::new().limits();
        limits.direct = true;
        let memory = MemoryStore::with_limits(limits);
        (House::new(url, SweepConfig::default(), Hooks::default(), clock.clone(), memory).await, clock)
    };
    [on(None).await, on(Some(postgres::new_database().await)).await]
}

async fn sign(house: &House, id: &str) -> Result<usize, &'static str> {
    let signed = house.engine.sign_parts(&Owner::local(), &file_id(id), &Terms::default(), &[0, 1]).await;
    signed.map(|parts| parts.len()).map_err(|error| error.refusal().code())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_store_lost_is_told_to_who_puts_parts_there() {
    for (house, clock) in direct().await {
        let upload = async |id: &'static str| {
            house.create(id, 2).await;
            assert_eq!(sign(&house, id).await, Ok(2));
            let view = house.engine.upload(&Owner::local(), &file_id(id)).await.expect("an upload");
            let session = session(&house, id).await;
            let body = body_of(vec![0; CHUNK]);
            let part = NewPart { number: PartNumber::new(1).expect("a number"), bytes: CHUNK as u64, body };
            let target = Target { key: &view.upload.key, session: &session };
            house.memory.put_part(target, part).await.expect("put");
            assert_eq!(house.missing(id).await, [[1, 1]]);
            // As a lifecycle rule does.
            house.memory.abort(target).await.expect("aborted");
            clock.advance(Duration::from_secs(3));
        };
        // Who asks for more URLs,
        upload("signs").await;
        assert_eq!(sign(&house, "signs").await, Err("upload_lost"));
        // who asks what is there,
        upload("asks").await;
        let chunks = house.engine.chunks(&Owner::local(), &file_id("asks")).await.expect("an answer").expect("it");
        assert_eq!(chunks.view.upload.state.status(), Status::Failed);
        // and who wants it completed.
        upload("completes").await;
        let finished = house.engine.complete(&Owner::local(), &file_id("completes")).await.expect("an answer");
        let Finished::Failed(refusal) = finished else { panic!("{finished:?}") };
        assert_eq!(refusal.code(), "upload_lost");
        for id in ["signs", "asks", "completes"] {
            assert_eq!(house.status(id).await, Status::Failed);
        }
        assert_eq!(house.engine.ledger().outbox_counts().await.expect("counts").pending, 3, "upload.failed");
    }
}

/// A URL that was given out may be used for an hour, whatever became of its upload.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_by_a_url_after_the_end_go_too() {
    for (house, clock) in direct().await {
        for ending in ["aborted", "expired"] {
            house.create(ending, 2).await;
            assert_eq!(sign(&house, ending).await, Ok(2));
            let view = house.engine.upload(&Owner::local(), &file_id(ending)).await.expect("an upload");
            let session = session(&house, ending).await;
            let sweep = async || house.engine.sweep(&mut Sweeper::default()).await.expect("a sweep").cleaned;
            if ending == "aborted" {
                house.engine.abort(&Owner::local(), &file_id(ending)).await.expect("aborted");
            } else {
                clock.advance(view.upload.expires_at.since(clock.now()));
            }
            sweep().await;
            assert_eq!(house.memory.open_uploads(), 0);
            clock.advance(11 * MINUTE);
            assert_eq!(sweep().await, 0, "not yet");
            clock.advance(48 * MINUTE);
            let target = Target { key: &view.upload.key, session: &session };
            house.memory.leave_part(target, PartNumber::new(1).expect("a number"), vec![1; CHUNK]);
            clock.advance(12 * MINUTE);
            assert_eq!(sweep().await, 1);
            assert_eq!(house.memory.open_uploads(), 0, "{ending}");
        }
    }
}
