//! Uploads whose parts clients put themselves into a store that lists no CRC-64:
//! what is known of them, and what shows that the whole is they.

use std::sync::Arc;

use chunkgate::clock::SystemClock;
use chunkgate::domain::{Checksum, Crc64, Grant, Owner, PartNumber, Status, Terms, Upload};
use chunkgate::engine::SweepConfig;
use chunkgate::engine::create::CreateUpload;
use chunkgate::engine::finish::Finished;
use chunkgate::notify::Hooks;
use chunkgate::store::faulty::{Fault, Operation};
use chunkgate::store::memory::MemoryStore;
use chunkgate::store::{NewPart, Proof, Store as _, Target, body_of};

use super::{CHUNK, House, file_id, session, wanted};
use crate::postgres;

async fn houses(proof: Proof) -> [House; 2] {
    let on = async |url| {
        let mut limits = MemoryStore::new().limits();
        (limits.direct, limits.proof) = (true, proof);
        let memory = MemoryStore::with_limits(limits);
        House::new(url, SweepConfig::default(), Hooks::default(), Arc::new(SystemClock::new()), memory).await
    };
    [on(None).await, on(Some(postgres::new_database().await)).await]
}

/// What a client does without the gateway: chunk `index` is full of `index`.
async fn put_straight(house: &House, id: &str, index: u8) {
    put_bytes(house, id, index, vec![index; CHUNK]).await;
}

async fn put_bytes(house: &House, id: &str, index: u8, bytes: Vec<u8>) {
    if !upload(house, id).await.is_direct {
        house.engine.sign_parts(&Owner::local(), &file_id(id), &Terms::default(), &[0, 1]).await.expect("signed");
    }
    let (key, session) = (upload(house, id).await.key, session(house, id).await);
    let number = PartNumber::of_chunk(u32::from(index)).expect("a number");
    let part = NewPart { number, bytes: bytes.len() as u64, body: body_of(bytes) };
    house.memory.put_part(Target { key: &key, session: &session }, part).await.expect("put");
}

async fn upload(house: &House, id: &str) -> Upload {
    house.engine.upload(&Owner::local(), &file_id(id)).await.expect("an upload").upload
}

async fn complete(house: &House, id: &str) -> Finished {
    house.engine.complete(&Owner::local(), &file_id(id)).await.expect("an answer")
}

/// The CRC-64 of the file that an upload has become.
async fn crc64(house: &House, id: &str) -> Option<Crc64> {
    house.engine.file(&Owner::local(), &file_id(id)).await.expect("a file").object.crc64
}

fn of(chunks: u8) -> Crc64 {
    Crc64::of(&(0..chunks).flat_map(|index| vec![index; CHUNK]).collect::<Vec<u8>>())
}

fn declaring(id: &str, chunks: usize, crc64: Crc64) -> CreateUpload {
    CreateUpload { checksum: Some(Checksum::Crc64(crc64)), ..wanted(id, chunks * CHUNK) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_is_shown_by_the_etag_of_its_parts_also_when_the_answer_is_lost() {
    for house in houses(Proof::Md5Etag).await {
        for (id, is_lost) in [("told", false), ("lost", true)] {
            house.create(id, 3).await;
            put_straight(&house, id, 0).await;
            put_straight(&house, id, 2).await;
            assert_eq!(house.missing(id).await, [[1, 1]]);
            if is_lost {
                house.faulty.fail_next(Operation::Complete, Fault::AnswerLost);
            }
            // The other one passes the gateway, which knows its checksum, but not the whole's.
            assert!(house.put_ok(id, 1).await.file.is_some());
            assert_eq!(crc64(&house, id).await, None);
            assert_eq!(house.content(id).await, (0..3).flat_map(|index| vec![index; CHUNK]).collect::<Vec<u8>>());
        }
        let reads = house.memory.calls().get.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(reads, 2, "nothing is read to be sure");
        // Of those alone that passed the gateway, it is known.
        house.create("all", 2).await;
        house.put_ok("all", 0).await;
        house.put_ok("all", 1).await;
        assert_eq!(crc64(&house, "all").await, Some(of(2)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_shown_the_bytes_are_read() {
    for house in houses(Proof::SizeOnly).await {
        house.create("a", 2).await;
        put_straight(&house, "a", 0).await;
        assert_eq!(house.missing("a").await, [[1, 1]]);
        assert!(house.put_ok("a", 1).await.file.is_some());
        assert_eq!(crc64(&house, "a").await, Some(of(2)), "by reading");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_that_was_declared_is_verified_whoever_put_the_parts() {
    for house in houses(Proof::Md5Etag).await {
        let grant = Grant::all(Owner::local());
        house.engine.create(&grant, declaring("right", 2, of(2))).await.expect("an upload");
        put_straight(&house, "right", 0).await;
        put_straight(&house, "right", 1).await;
        assert!(matches!(complete(&house, "right").await, Finished::Completed(_)));
        assert_eq!(crc64(&house, "right").await, Some(of(2)));
        house.engine.create(&grant, declaring("wrong", 2, Crc64(1))).await.expect("an upload");
        put_straight(&house, "wrong", 0).await;
        put_straight(&house, "wrong", 1).await;
        let Finished::Failed(refusal) = complete(&house, "wrong").await else { panic!("a wrong file") };
        assert_eq!(refusal.code(), "integrity_failed");
        assert_eq!(house.status("wrong").await, Status::Failed);
        assert_eq!(house.memory.keys(), [upload(&house, "right").await.key.as_str()], "the wrong object is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_through_the_gateway_is_compared_by_what_is_known() {
    for house in houses(Proof::Md5Etag).await {
        house.create("a", 3).await;
        put_straight(&house, "a", 0).await;
        put_bytes(&house, "a", 1, vec![9; CHUNK]).await;
        assert_eq!(house.missing("a").await, [[2, 2]]);
        assert!(house.put_ok("a", 0).await.checksums.contains(&Checksum::Crc64(Crc64::of(&[0; CHUNK]))));
        assert_eq!(house.refused("a", 1).await, "chunk_conflict");
        house.put_ok("a", 2).await;
        house.put_ok("a", 0).await;
        assert_eq!(house.refused("a", 1).await, "chunk_conflict");
    }
    // Nothing but its size: nobody can tell, so nothing is said to be the same.
    for house in houses(Proof::SizeOnly).await {
        house.create("a", 2).await;
        put_straight(&house, "a", 0).await;
        assert_eq!(house.missing("a").await, [[1, 1]]);
        assert_eq!(house.refused("a", 0).await, "chunk_conflict");
    }
}
