//! Chunks are recorded, alone and many at once.

use chunkgate::domain::plan::Lesson;
use chunkgate::domain::{Chunk, Crc64, Geometry, Learning, Plan, Progress, UploadId};
use chunkgate::ledger::{Allowance, RecordChunk, Recorded};

use super::{BOUNDS, Gate, MIB, chunk, lesson, on_both, plan, progress, take_lease, unknown};

on_both!(
    a_chunk_is_recorded_once,
    out_of_order_and_all_at_once,
    one_index_at_once_has_one_winner,
    of_the_last_two_someone_sees_all,
    a_plan_is_learnt_from_the_first_chunk_that_is_recorded,
    of_two_plans_at_once_one_is_learnt,
    the_last_chunk_may_teach_first,
    an_upload_that_has_ended_takes_none,
    expiry_slides_forward_only,
    a_caller_that_goes_away_has_recorded,
    one_bad_record_spoils_no_other,
    what_passed_a_gateway_is_known_better_than_what_the_store_lists,
);

async fn a_chunk_is_recorded_once(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    assert_eq!(gate.record(&upload, 2).await, Recorded::New(progress(1)));
    assert_eq!(gate.record(&upload, 2).await, Recorded::Known(chunk(2), progress(1)));
    let mut other = gate.chunk_of(&upload, 2);
    other.chunk.crc64 = Some(Crc64(1));
    // The first bytes stay.
    assert_eq!(gate.ledger.record_chunk(other).await.unwrap(), Recorded::Known(chunk(2), progress(1)));
    assert_eq!(gate.record(&upload, 0).await, Recorded::New(progress(2)));
    assert_eq!(gate.ledger.chunks(upload.id).await.unwrap(), [chunk(0), chunk(2)]);
    assert_eq!(gate.ledger.chunk_indexes(upload.id).await.unwrap(), [0, 2]);
    assert_eq!(gate.ledger.progress(upload.id).await.unwrap(), progress(2));
    let parts = gate.ledger.parts(upload.id).await.unwrap();
    assert_eq!(parts.iter().map(|p| p.number.get()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((&parts[1].etag, parts[1].crc64), (&chunk(2).etag, chunk(2).crc64));
    let nobody = RecordChunk { upload: UploadId(uuid::Uuid::nil()), ..gate.chunk_of(&upload, 0) };
    assert_eq!(gate.ledger.record_chunk(nobody).await.unwrap(), Recorded::NotOpen);
}

/// A store that lists no CRC-64 shows a part before the gateway that put it has
/// recorded it.
async fn what_passed_a_gateway_is_known_better_than_what_the_store_lists(gate: Gate) {
    let upload = gate.upload("a", 4).await;
    let listed = |index| {
        let record = gate.chunk_of(&upload, index);
        RecordChunk { chunk: Chunk { crc64: None, ..record.chunk.clone() }, ..record }
    };
    let record = async |record: RecordChunk| gate.ledger.record_chunk(record).await.unwrap();
    assert_eq!(record(listed(0)).await, Recorded::New(progress(1)));
    assert_eq!(record(listed(0)).await, Recorded::Known(listed(0).chunk, progress(1)));
    assert_eq!(gate.ledger.parts(upload.id).await.unwrap()[0].crc64, None);
    // The same part: from now on with its checksum, which nothing takes away, and counted once.
    assert_eq!(gate.record(&upload, 0).await, Recorded::Known(chunk(0), progress(1)));
    assert_eq!(record(listed(0)).await, Recorded::Known(chunk(0), progress(1)));
    // Another part: the first one stays as it is.
    assert_eq!(record(listed(1)).await, Recorded::New(progress(2)));
    let mut other = gate.chunk_of(&upload, 1);
    other.chunk.etag = "other".to_owned();
    assert_eq!(record(other).await, Recorded::Known(listed(1).chunk, progress(2)));
    assert_eq!(gate.ledger.chunks(upload.id).await.unwrap(), [chunk(0), listed(1).chunk]);
    // Both at once, in whichever order.
    let both = [listed(2), gate.chunk_of(&upload, 2), gate.chunk_of(&upload, 3), listed(3)];
    futures_util::future::join_all(both.map(record)).await;
    assert_eq!(gate.ledger.chunks(upload.id).await.unwrap()[2..], [chunk(2), chunk(3)]);
}

async fn out_of_order_and_all_at_once(gate: Gate) {
    let uploads = [gate.upload("a", 500).await, gate.upload("b", 500).await];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000u32 {
        let (ledger, record) = (gate.ledger.clone(), gate.chunk_of(&uploads[(n % 2) as usize], (n * 7 % 1000) / 2));
        tasks.spawn(async move { (record.upload, ledger.record_chunk(record).await.unwrap()) });
    }
    let all = tasks.join_all().await;
    for upload in &uploads {
        let seen: Vec<_> = all.iter().filter(|(id, _)| *id == upload.id).map(|(_, recorded)| recorded).collect();
        let distinct = gate.ledger.chunk_indexes(upload.id).await.unwrap().len();
        let new = seen.iter().filter(|r| matches!(r, Recorded::New(_))).count();
        assert_eq!(new, distinct);
        let full = Recorded::New(progress(u32::try_from(distinct).unwrap()));
        assert!(seen.contains(&&full), "nobody saw the whole");
    }
}

async fn one_index_at_once_has_one_winner(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (ledger, mut record) = (gate.ledger.clone(), gate.chunk_of(&upload, 1));
        record.chunk.etag = format!("etag-{n}");
        tasks.spawn(async move { (record.chunk.clone(), ledger.record_chunk(record).await.unwrap()) });
    }
    let all = tasks.join_all().await;
    let row = gate.ledger.chunks(upload.id).await.unwrap().remove(0);
    for (mine, recorded) in &all {
        let expected =
            if *mine == row { Recorded::New(progress(1)) } else { Recorded::Known(row.clone(), progress(1)) };
        assert_eq!(*recorded, expected);
    }
    assert_eq!(all.iter().filter(|(_, r)| matches!(r, Recorded::New(_))).count(), 1);
}

/// Were the row inserted and counted at once, each of the two would count one,
/// and nobody would start the merge.
async fn of_the_last_two_someone_sees_all(gate: Gate) {
    for round in 0..1000 {
        let upload = gate.upload(&format!("u{round}"), 2).await;
        let record = |index| {
            let (ledger, record) = (gate.ledger.clone(), gate.chunk_of(&upload, index));
            tokio::spawn(async move { ledger.record_chunk(record).await.unwrap() })
        };
        let (a, b) = tokio::join!(record(0), record(1));
        let full = Recorded::New(progress(2));
        assert!(a.unwrap() == full || b.unwrap() == full, "round {round}");
        gate.ledger.abort(upload.id, &[]).await.unwrap();
    }
}

async fn learning(gate: &Gate, file_id: &str, geometry: Geometry) -> chunkgate::domain::Upload {
    let wish = gate.wish(file_id, geometry);
    gate.ledger.create_upload(&wish, Allowance::of_uploads(1000)).await.unwrap();
    gate.ledger.upload(wish.id).await.unwrap().unwrap()
}

async fn a_plan_is_learnt_from_the_first_chunk_that_is_recorded(gate: Gate) {
    let upload = learning(&gate, "a", unknown(3)).await;
    let at = |index, l| gate.ledger.record_chunk(lesson(gate.chunk_of(&upload, index), l));
    assert!(matches!(at(1, Lesson::ChunkBytes(MIB)).await.unwrap(), Recorded::New(_)));
    // Another size was in flight meanwhile.
    assert_eq!(at(0, Lesson::ChunkBytes(2 * MIB)).await.unwrap(), Recorded::PlanDiffers);
    assert_eq!(at(2, Lesson::LastBytes(2 * MIB)).await.unwrap(), Recorded::PlanDiffers);
    assert_eq!(gate.ledger.chunk_indexes(upload.id).await.unwrap(), [1]);
    assert!(matches!(at(0, Lesson::ChunkBytes(MIB)).await.unwrap(), Recorded::New(_)));
    assert!(matches!(at(2, Lesson::LastBytes(5)).await.unwrap(), Recorded::New(_)));
    let geometry = gate.ledger.upload(upload.id).await.unwrap().unwrap().geometry;
    assert_eq!(geometry, Geometry::Fixed(Plan::declare(2 * MIB + 5, Some(MIB), None, &BOUNDS).unwrap()));
}

async fn of_two_plans_at_once_one_is_learnt(gate: Gate) {
    let upload = learning(&gate, "a", unknown(100)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let bytes = MIB * (1 + u64::from(n % 2));
        let (ledger, record) = (gate.ledger.clone(), lesson(gate.chunk_of(&upload, n), Lesson::ChunkBytes(bytes)));
        tasks.spawn(async move { (bytes, ledger.record_chunk(record).await.unwrap()) });
    }
    let all = tasks.join_all().await;
    let learnt = gate.ledger.upload(upload.id).await.unwrap().unwrap().geometry.chunk_bytes().unwrap();
    for (bytes, recorded) in all {
        assert_eq!(matches!(recorded, Recorded::New(_)), bytes == learnt, "{recorded:?}");
        assert_eq!(recorded == Recorded::PlanDiffers, bytes != learnt);
    }
    let rows = gate.ledger.chunks(upload.id).await.unwrap();
    assert_eq!((rows.len(), rows.iter().all(|c| c.bytes == learnt)), (32, true));
}

async fn the_last_chunk_may_teach_first(gate: Gate) {
    let declared = Learning { count: 3, chunk_bytes: None, last_bytes: None, total_bytes: Some(2 * MIB + 4) };
    let upload = learning(&gate, "a", Geometry::Learning(declared)).await;
    let at = |index, l| gate.ledger.record_chunk(lesson(gate.chunk_of(&upload, index), l));
    assert!(matches!(at(2, Lesson::LastBytes(4)).await.unwrap(), Recorded::New(_)));
    // It fits the file's size alone, but not together with the last chunk.
    assert_eq!(at(0, Lesson::ChunkBytes(MIB + 1)).await.unwrap(), Recorded::PlanDiffers);
    assert!(matches!(at(0, Lesson::ChunkBytes(MIB)).await.unwrap(), Recorded::New(_)));
    let one = learning(&gate, "one", unknown(1)).await;
    let last = lesson(gate.chunk_of(&one, 0), Lesson::LastBytes(7));
    assert_eq!(gate.ledger.record_chunk(last).await.unwrap(), Recorded::New(Progress { chunks: 1, bytes: 7 }));
    assert_eq!(gate.ledger.upload(one.id).await.unwrap().unwrap().geometry.total_bytes(), Some(7));
}

async fn an_upload_that_has_ended_takes_none(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    gate.record(&upload, 0).await;
    let lease = take_lease(&gate.ledger, upload.id).await.unwrap();
    assert_eq!(gate.record(&upload, 1).await, Recorded::NotOpen);
    // A repeat is one whatever became of the upload.
    assert_eq!(gate.record(&upload, 0).await, Recorded::Known(chunk(0), progress(1)));
    assert!(gate.ledger.reopen(upload.id, lease, &[]).await.unwrap());
    assert!(matches!(gate.record(&upload, 1).await, Recorded::New(_)));
    gate.ledger.abort(upload.id, &[]).await.unwrap();
    assert_eq!(gate.record(&upload, 2).await, Recorded::NotOpen);
    let taught = learning(&gate, "b", unknown(2)).await;
    gate.ledger.abort(taught.id, &[]).await.unwrap();
    let late = lesson(gate.chunk_of(&taught, 0), Lesson::ChunkBytes(MIB));
    assert_eq!(gate.ledger.record_chunk(late).await.unwrap(), Recorded::NotOpen);
}

async fn expiry_slides_forward_only(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    let later = upload.expires_at.plus(super::DAY);
    for (index, expires_at) in [(0, Some(later)), (1, Some(upload.expires_at)), (2, None)] {
        let record = RecordChunk { expires_at, ..gate.chunk_of(&upload, index) };
        assert!(matches!(gate.ledger.record_chunk(record).await.unwrap(), Recorded::New(_)));
        assert_eq!(gate.ledger.upload(upload.id).await.unwrap().unwrap().expires_at, later);
    }
}

async fn a_caller_that_goes_away_has_recorded(gate: Gate) {
    let upload = gate.upload("a", 64).await;
    for index in 0..64 {
        // Polled once, so that the record is on its way to the writer, and dropped.
        let mut call = Box::pin(gate.ledger.record_chunk(gate.chunk_of(&upload, index)));
        let _ = futures_util::poll!(&mut call);
    }
    let gate = gate.restart().await;
    assert_eq!(gate.ledger.chunks(upload.id).await.unwrap().len(), 64);
}

async fn one_bad_record_spoils_no_other(gate: Gate) {
    let upload = gate.upload("a", 64).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..64 {
        let (ledger, mut record) = (gate.ledger.clone(), gate.chunk_of(&upload, index));
        if index == 13 {
            // Postgres has no such text; SQLite has.
            record.chunk = Chunk { etag: "a\0b".to_owned(), ..record.chunk };
        }
        tasks.spawn(async move { (index, ledger.record_chunk(record).await) });
    }
    for (index, recorded) in tasks.join_all().await {
        match recorded {
            Ok(Recorded::New(_)) => assert!(index != 13 || gate.ledger.backend() == "sqlite"),
            other => assert!(index == 13 && other.is_err(), "{index}: {other:?}"),
        }
    }
    let again = gate.record(&upload, 63).await;
    assert!(matches!(again, Recorded::Known(..)), "the writer goes on: {again:?}");
    assert_eq!(plan(64), upload.geometry);
}
