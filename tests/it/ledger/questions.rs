//! Every question and every write of the ledger, once. Shared by those who
//! look at how the databases answer: here for Postgres, in `src/ledger/plans.rs`
//! for SQLite.

use std::collections::BTreeMap;
use std::time::Duration;

use chunkgate::clock::Clock;
use chunkgate::domain::event::{EventKind, event_id};
use chunkgate::domain::kind::Kinds;
use chunkgate::domain::plan::Lesson;
use chunkgate::domain::{
    Checksum, Chunk, Crc64, Failure, File, FileId, Geometry, KeyHolder, Learning, Object, ObjectKey, Owner, Plan,
    SessionId, State, Status, Upload, UploadId,
};
use chunkgate::ledger::{
    Allowance, AwaitedFile, Claim, Creation, DeliveryCursor, DeliveryState, Failing, Family, FileFilter, Intent,
    KeyOrigin, KeySecret, Ledger, NewEvent, NewUpload, PageStart, RecordChunk, SigningKey,
};

const RECEIVER: &str = "https://app.example/hook";
const DAY: Duration = Duration::from_secs(24 * 3600);
const SIZE: u64 = 8 << 20;

struct Asking<'a> {
    ledger: &'a Ledger,
    clock: &'a dyn Clock,
}

/// Asks everything. What comes of it does not matter.
pub(crate) async fn ask_all(ledger: &Ledger, clock: &dyn Clock) {
    let asking = Asking { ledger, clock };
    asking.uploads().await;
    asking.ends().await;
    asking.files().await;
    asking.lists().await;
    asking.access().await;
    asking.outbox().await;
    asking.sweeping().await;
    let _ = ledger.examine().await;
}

impl Asking<'_> {
    fn wish(&self, file_id: &str, geometry: Geometry) -> NewUpload {
        let at = self.clock.now();
        NewUpload {
            id: UploadId(self.clock.uuid_v7()),
            owner: Owner::local(),
            file_id: FileId::parse(file_id).expect("an id"),
            file_name: "a".to_owned(),
            content_type: None,
            metadata: BTreeMap::new(),
            geometry,
            checksum: None,
            auto_complete: true,
            key: ObjectKey::parse(&format!("asked/{file_id}")).expect("a key"),
            key_origin: KeyOrigin::Drawn,
            reserved_bytes: geometry.bytes_to_reserve(),
            at,
            expires_at: at.plus(DAY),
        }
    }

    async fn create(&self, file_id: &str) -> Upload {
        let plan = Plan::restore(SIZE, 2, 2 * SIZE).expect("a plan");
        self.created(self.wish(file_id, Geometry::Fixed(plan))).await
    }

    async fn created(&self, wish: NewUpload) -> Upload {
        match self.ledger.create_upload(&wish, Allowance::of_uploads(1000)).await.expect("an answer") {
            Creation::Created(upload) => upload,
            other @ (Creation::Known(_)
            | Creation::TooManyOpen
            | Creation::NoRoom { .. }
            | Creation::KeyTaken(_)
            | Creation::BeingPut) => panic!("{other:?}"),
        }
    }

    async fn record(&self, upload: &Upload, index: u32, lesson: Option<Lesson>) {
        let chunk = Chunk { index, bytes: SIZE, crc64: Some(Crc64(1)), etag: "e".to_owned() };
        let (at, expires_at) = (self.clock.now(), Some(upload.expires_at.plus(DAY)));
        let record = RecordChunk { upload: upload.id, chunk, lesson, expires_at, at };
        self.ledger.record_chunk(record).await.expect("an answer");
    }

    fn events(&self, upload: &Upload, kind: EventKind) -> [NewEvent; 1] {
        [NewEvent {
            id: event_id(upload.id, kind),
            kind,
            upload: upload.id,
            owner: upload.owner.clone(),
            body: "{}".to_owned(),
            at: self.clock.now(),
            endpoints: vec![RECEIVER.to_owned()],
        }]
    }

    fn object(&self) -> Object {
        Object { etag: "e".to_owned(), bytes: 2 * SIZE, crc64: Some(Crc64(2)), completed_at: self.clock.now() }
    }

    async fn uploads(&self) {
        let ledger = self.ledger;
        let upload = self.create("whole").await;
        let (owner, file_id) = (&upload.owner, &upload.file_id);
        ledger.find_upload(owner, file_id).await.expect("an answer");
        ledger.find_for_chunk(owner, file_id, 0).await.expect("an answer");
        ledger.find_with_progress(owner, file_id).await.expect("an answer");
        ledger.upload(upload.id).await.expect("an answer");
        ledger.progress(upload.id).await.expect("an answer");
        for owner in [None, Some(owner)] {
            for after in [None, Some((self.clock.now(), upload.id))] {
                ledger.list_failed(owner, after, 20).await.expect("an answer");
            }
            for status in [None, Some(Status::Uploading)] {
                for after in [None, Some((self.clock.now(), upload.id))] {
                    ledger.list_uploads(owner, status, after, 20).await.expect("an answer");
                }
            }
        }
        ledger.intend_session(upload.id).await.expect("an answer");
        for session in ["one", "two"] {
            ledger.set_session(upload.id, &SessionId::new(session)).await.expect("an answer");
        }
        assert!(ledger.go_direct(upload.id, upload.expires_at).await.expect("an answer"));
        let checksum = Checksum::Crc64(Crc64(2));
        ledger.declare_checksum(upload.id, checksum).await.expect("an answer");
        for index in [0, 1, 1] {
            self.record(&upload, index, None).await;
        }
        ledger.chunks(upload.id).await.expect("an answer");
        ledger.received(upload.id).await.expect("an answer");
        ledger.chunk_indexes(upload.id).await.expect("an answer");
        ledger.parts(upload.id).await.expect("an answer");
        let learning = Learning { count: 3, chunk_bytes: None, last_bytes: None, total_bytes: None };
        let learnt = self.created(self.wish("learnt", Geometry::Learning(learning))).await;
        self.record(&learnt, 0, Some(Lesson::ChunkBytes(SIZE))).await;
        // Merged, but for one reopening.
        let lease = ledger.new_lease();
        ledger.take_lease(upload.id, lease).await.expect("an answer");
        ledger.renew_lease(upload.id, lease).await.expect("an answer");
        ledger.take_over(upload.id, ledger.new_lease()).await.expect("an answer");
        ledger.reopen(upload.id, lease, &[1]).await.expect("an answer");
        self.record(&upload, 1, None).await;
        let lease = ledger.new_lease();
        ledger.take_lease(upload.id, lease).await.expect("an answer");
        let events = self.events(&upload, EventKind::Completed);
        assert!(ledger.complete(upload.id, lease, &upload.file_with(self.object()), &events).await.expect("an answer"));
    }

    /// The other ends.
    async fn ends(&self) {
        let ledger = self.ledger;
        for failing in [Failing::Open, Failing::Untouched] {
            let upload = self.create("failed").await;
            let events = self.events(&upload, EventKind::Failed);
            assert!(ledger.fail(upload.id, failing, Failure::UploadLost, &events).await.expect("an answer"));
        }
        let upload = self.create("failed-merging").await;
        let lease = ledger.new_lease();
        ledger.take_lease(upload.id, lease).await.expect("an answer");
        let failing = Failing::Merging(lease);
        assert!(ledger.fail(upload.id, failing, Failure::UploadLost, &[]).await.expect("an answer"));
        let old = self.create("restarted").await;
        let new = self.wish("restarted", old.geometry);
        let events = self.events(&old, EventKind::Aborted);
        ledger.restart_upload(old.id, &new, Allowance::of_uploads(1000), &events).await.expect("an answer");
        let upload = self.create("aborted").await;
        assert!(ledger.abort(upload.id, &[]).await.expect("an answer"));
        let upload = self.create("expired").await;
        assert!(ledger.expire(upload.id, upload.expires_at, &[]).await.expect("an answer"));
    }

    async fn files(&self) {
        let ledger = self.ledger;
        let plan = Plan::restore(2 * SIZE, 1, 2 * SIZE).expect("a plan");
        // The second time its fileId is taken.
        for _ in 0..2 {
            let wish = self.wish("small", Geometry::Fixed(plan));
            let upload = Upload {
                id: wish.id,
                owner: wish.owner.clone(),
                file_id: wish.file_id.clone(),
                file_name: wish.file_name.clone(),
                content_type: None,
                metadata: BTreeMap::new(),
                geometry: wish.geometry,
                checksum: None,
                auto_complete: true,
                key: wish.key.clone(),
                state: State::Completed { object: self.object() },
                created_at: wish.at,
                updated_at: wish.at,
                expires_at: wish.expires_at,
                reserved_bytes: wish.reserved_bytes,
                is_direct: false,
            };
            ledger.intend_object(wish.id, &wish.key, wish.at).await.expect("an answer");
            let events = self.events(&upload, EventKind::Completed);
            ledger
                .create_file(&wish, &upload.file_with(self.object()), Allowance::of_uploads(100), &events)
                .await
                .expect("an answer");
            ledger.forget_object(wish.id, &wish.key).await.expect("an answer");
            let intent = Intent { id: wish.id, key: wish.key.clone(), at: wish.at };
            ledger.intend_objects(vec![intent.clone()]).await.expect("an answer");
            ledger.forget_intents(&[intent]).await.expect("an answer");
        }
        self.keys(plan).await;
        ledger.find_file(&Owner::local(), &FileId::parse("small").expect("an id")).await.expect("an answer");
        let gone = ledger.find_file(&Owner::local(), &FileId::parse("whole").expect("an id")).await.expect("an answer");
        assert!(ledger.delete_file(&gone.expect("a file")).await.expect("an answer"));
        self.forms().await;
        ledger.objects_underway(self.clock.now(), 20).await.expect("an answer");
        for orphan in ledger.condemn_objects(self.clock.now(), 20).await.expect("an answer") {
            ledger.claim_orphan(&orphan).await.expect("an answer");
        }
    }

    /// Keys that the application chose.
    async fn keys(&self, plan: Plan) {
        let ledger = self.ledger;
        let chosen = || NewUpload {
            key_origin: KeyOrigin::Chosen { is_occupied: false },
            key: ObjectKey::parse("asked/chosen").expect("a key"),
            ..self.wish("chosen", Geometry::Fixed(plan))
        };
        let wish = chosen();
        assert_eq!(ledger.claim_object(&wish).await.expect("an answer"), Claim::Made { has_remains: false });
        assert_eq!(ledger.claim_object(&chosen()).await.expect("an answer"), Claim::BeingPut);
        assert!(ledger.renew_claim(wish.id, &wish.key).await.expect("an answer"));
        ledger.leave_object(wish.id, &wish.key).await.expect("an answer");
        let again = chosen();
        assert_eq!(ledger.claim_object(&again).await.expect("an answer"), Claim::Made { has_remains: true });
        assert!(ledger.condemn_object(again.id, &again.key).await.expect("an answer"));
        ledger.forget_object(again.id, &again.key).await.expect("an answer");
        let old = self.created(chosen()).await;
        let new = chosen();
        ledger.restart_upload(old.id, &new, Allowance::of_uploads(1000), &[]).await.expect("an answer");
        assert!(ledger.abort(new.id, &[]).await.expect("an answer"));
        let file = chosen();
        assert_eq!(ledger.claim_object(&file).await.expect("an answer"), Claim::Made { has_remains: false });
        let object = Upload { state: State::Completed { object: self.object() }, ..old }.file_with(self.object());
        let file_row = File { id: file.id, ..object };
        ledger.create_file(&file, &file_row, Allowance::of_uploads(1000), &[]).await.expect("an answer");
    }

    async fn forms(&self) {
        let (ledger, now) = (self.ledger, self.clock.now());
        let file = AwaitedFile {
            key: ObjectKey::parse("asked/form").expect("a key"),
            id: UploadId(self.clock.uuid_v7()),
            owner: Owner::local(),
            file_id: FileId::parse("form").expect("an id"),
            file_name: "a".to_owned(),
            content_type: None,
            metadata: BTreeMap::new(),
            bytes_max: SIZE,
            kinds: vec![Kinds::parse(&["image/*"]).expect("kinds")],
            is_key_chosen: false,
            at: now,
            expires_at: now.plus(DAY),
        };
        let key = ObjectKey::parse("asked/chosen-form").expect("a key");
        let chosen = NewUpload {
            key_origin: KeyOrigin::Chosen { is_occupied: false },
            key: key.clone(),
            ..self.wish("chosen-form", Geometry::Fixed(Plan::restore(1, 1, 1).expect("a plan")))
        };
        let claimed = AwaitedFile { key, id: chosen.id, is_key_chosen: true, ..file.clone() };
        let free = Claim::Made { has_remains: false };
        assert_eq!(ledger.claim_form(&chosen, &claimed, now).await.expect("an answer"), free);
        assert_eq!(ledger.awaited_file(&claimed.key).await.expect("an answer").as_ref(), Some(&claimed));
        let other = NewUpload { id: UploadId(self.clock.uuid_v7()), ..self.wish("other-form", chosen.geometry) };
        let other = NewUpload { key: chosen.key.clone(), key_origin: chosen.key_origin, ..other };
        let taken = Claim::Taken(KeyHolder::Upload);
        assert_eq!(ledger.claim_form(&other, &claimed, now).await.expect("an answer"), taken);
        ledger.await_file(&file, now).await.expect("an answer");
        assert_eq!(ledger.awaited_file(&file.key).await.expect("an answer").as_ref(), Some(&file));
        assert_eq!(ledger.awaited_by(&file.owner, &file.file_id).await.expect("an answer").as_ref(), Some(&file));
        assert!(ledger.awaited_files(now, 20).await.expect("an answer").contains(&file));
        ledger.look_later(&file.key, now.plus(DAY)).await.expect("an answer");
        assert!(!ledger.awaited_files(now, 20).await.expect("an answer").contains(&file));
        assert_eq!(ledger.file_of_key(&file.key).await.expect("an answer"), None);
        ledger.forget_object(file.id, &file.key).await.expect("an answer");
    }

    /// Every page, of one owner and of all.
    async fn lists(&self) {
        let (ledger, now) = (self.ledger, self.clock.now());
        let filters = [
            FileFilter::default(),
            FileFilter {
                name_prefix: Some("a".to_owned()),
                content_type: Some("image/".to_owned()),
                since: Some(now),
                until: Some(now),
                file_id: Some(FileId::parse("small").expect("an id")),
                owner: None,
            },
        ];
        for (filter, owner) in filters.iter().flat_map(|filter| [(filter, None), (filter, Some(Owner::local()))]) {
            let filter = FileFilter { owner, ..filter.clone() };
            for start in [PageStart::Newest, PageStart::After(now, UploadId(self.clock.uuid_v7())), PageStart::Skip(1)]
            {
                ledger.list_files(&filter, start, 20).await.expect("an answer");
            }
            // To count everybody's of all times is to read them all.
            if filter.owner.is_some() || filter.since.is_some() {
                ledger.count_files(&filter).await.expect("an answer");
            }
        }
        let learning = Learning { count: 3, chunk_bytes: None, last_bytes: None, total_bytes: None };
        let upload = self.created(self.wish("reserving", Geometry::Learning(learning))).await;
        for bytes in [SIZE, 2000 * SIZE] {
            let allowance = Allowance { open_uploads_max: 10, bytes_max: Some(1000 * SIZE) };
            ledger.reserve(upload.id, bytes, allowance).await.expect("an answer");
        }
        ledger.used_bytes(&upload.owner).await.expect("an answer");
    }

    async fn access(&self) {
        let (ledger, now) = (self.ledger, self.clock.now());
        let key = SigningKey { id: "asked".to_owned(), secret: KeySecret([7; 32]), created_at: now };
        assert!(ledger.add_signing_key(&key, now.minus(DAY)).await.expect("an answer"));
        ledger.signing_keys().await.expect("an answer");
        ledger.drop_signing_keys(now).await.expect("an answer");
        let family = Family {
            id: self.clock.uuid_v4(),
            owner: Owner::local(),
            device: None,
            secret: KeySecret([8; 32]),
            terms: "{}".to_owned(),
            generation: 0,
            rotated_at: None,
            expires_at: now,
            created_at: now,
            is_revoked: false,
        };
        ledger.add_family(&family).await.expect("an answer");
        ledger.family(family.id).await.expect("an answer");
        assert!(ledger.rotate_family(family.id, 0, now, now).await.expect("an answer"));
        assert!(ledger.revoke_family(family.id, now).await.expect("an answer"));
        ledger.revoked_families(now.minus(DAY)).await.expect("an answer");
        ledger.prune_families(now.plus(DAY), 20).await.expect("an answer");
    }

    async fn outbox(&self) {
        let ledger = self.ledger;
        let claim = || ledger.claim_deliveries(RECEIVER, 1, Duration::from_secs(30));
        let delivery = claim().await.expect("an answer").remove(0);
        assert!(ledger.delivered(&delivery, 200).await.expect("an answer"));
        let delivery = claim().await.expect("an answer").remove(0);
        let later = self.clock.now().plus(DAY);
        assert!(ledger.retry_delivery(&delivery, later, Some(500), "no").await.expect("an answer"));
        let delivery = claim().await.expect("an answer").remove(0);
        assert!(ledger.bury_delivery(&delivery, None, "never").await.expect("an answer"));
        for state in [None, Some(DeliveryState::Pending), Some(DeliveryState::Dead)] {
            for after in [None, Some(DeliveryCursor { event: delivery.event.clone(), nth: 1 })] {
                ledger.list_deliveries(state, after.as_ref(), 20).await.expect("an answer");
            }
        }
        ledger.redeliver(delivery.event.as_str()).await.expect("an answer");
        ledger.bury_forgotten(self.clock.now(), vec![RECEIVER.to_owned()], 20).await.expect("an answer");
        ledger.outbox_counts().await.expect("an answer");
    }

    async fn sweeping(&self) {
        let (ledger, now) = (self.ledger, self.clock.now());
        let claim = ledger.claim_job("asked").await.expect("an answer").expect("a job");
        assert!(ledger.renew_job(claim).await.expect("an answer"));
        assert!(ledger.end_job(claim, Duration::ZERO).await.expect("an answer"));
        ledger.api_keys().await.expect("an answer");
        ledger.add_first_api_key("asked", &[7; 32], now).await.expect("an answer");
        ledger.due_expired(now, 20).await.expect("an answer");
        ledger.stale_completing(20).await.expect("an answer");
        for after in [None, Some(UploadId(self.clock.uuid_v7()))] {
            ledger.ready_to_merge(after, 20).await.expect("an answer");
        }
        let id = self.create("remains").await.id;
        ledger.intend_session(id).await.expect("an answer");
        ledger.abort(id, &[]).await.expect("an answer");
        ledger.look_again(id, now).await.expect("an answer");
        for remains in ledger.remains(now, 20).await.expect("an answer") {
            let claim = ledger.claim_remains(&remains).await.expect("an answer").expect("a claim");
            assert!(ledger.renew_remains(claim).await.expect("an answer"));
            ledger.defer_remains(claim, now).await.expect("an answer");
            ledger.clear_remains(claim).await.expect("an answer");
        }
        ledger.keys_in_use(vec!["asked/remains".to_owned()]).await.expect("an answer");
        ledger.prune_chunks(now, 20).await.expect("an answer");
        ledger.prune_events(now.minus(DAY), 20).await.expect("an answer");
        ledger.prune_uploads(now.minus(DAY), 20).await.expect("an answer");
    }
}
