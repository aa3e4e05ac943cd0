//! A ledger is opened, or refuses to be, and says why.

use std::time::Duration;

use chunkgate::domain::Owner;
use chunkgate::ledger::{Allowance, DatabaseConfig, Ledger, LedgerError, OpenError, Recorded};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::{Gate, LEASE, chunk, config, on_both, plan, progress, take_lease};
use crate::postgres::new_database;

on_both!(
    everything_is_there_after_a_restart,
    a_newer_schema_is_refused,
    a_corrupt_row_is_named,
    reading_only_reads_beside_a_gateway,
    a_closed_ledger_says_so,
);

impl Gate {
    /// Something that is no gateway changes the database.
    async fn meddle(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        if let Some(path) = self.url.strip_prefix("sqlite://") {
            let mut connection = SqliteConnection::connect(path).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
    }

    async fn opened_again(self) -> Result<Ledger, OpenError> {
        self.ledger.close().await;
        drop(self.ledger);
        Ledger::open(&config(), &self.url, self.clock.clone(), LEASE).await
    }
}

async fn everything_is_there_after_a_restart(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    gate.record(&upload, 1).await;
    let gate = gate.restart().await;
    let found = gate.ledger.find_with_progress(&upload.owner, &upload.file_id).await.unwrap();
    assert_eq!(found, Some((upload, progress(1))));
    gate.ledger.ping().await.unwrap();
}

async fn a_newer_schema_is_refused(gate: Gate) {
    let checksum = if gate.ledger.backend() == "sqlite" { "x'00'" } else { "'\\x00'" };
    gate.meddle(&format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9000, 'of tomorrow', TRUE, {checksum}, 1)"
    ))
    .await;
    let reading = Ledger::open_read_only(&config(), &gate.url, gate.clock.clone()).await;
    assert!(matches!(reading, Err(OpenError::Newer { found: 9000, .. })), "{reading:?}");
    let refused = gate.opened_again().await.unwrap_err().to_string();
    assert!(refused.contains("has schema 9000") && refused.ends_with("run a newer program"), "{refused}");
}

async fn a_corrupt_row_is_named(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    gate.record(&upload, 2).await;
    gate.meddle("UPDATE chunks SET bytes = -1").await;
    let corrupt = gate.ledger.chunks(upload.id).await.unwrap_err();
    let row = format!("upload_id={} c_index=2", upload.id);
    assert!(
        matches!(&corrupt, LedgerError::Corrupt { table: "chunks", column: "c_bytes", row: r } if r.contains(&row)),
        "{corrupt}"
    );

    let corrupt = gate.ledger.received(upload.id).await.unwrap_err();
    let row = format!("upload_id={} chunk_index=2", upload.id);
    assert_eq!(corrupt, LedgerError::Corrupt { table: "chunks", column: "bytes", row });

    gate.meddle("UPDATE uploads SET state = 'thinking'").await;
    let corrupt = gate.ledger.find_upload(&upload.owner, &upload.file_id).await.unwrap_err();
    let row = format!("id={} owner=local file_id=a", upload.id);
    assert_eq!(corrupt, LedgerError::Corrupt { table: "uploads", column: "state", row });
    // Others are not concerned.
    assert!(gate.ledger.create_upload(&gate.wish("b", plan(1)), Allowance::of_uploads(10)).await.is_ok());
}

async fn reading_only_reads_beside_a_gateway(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    let reading = Ledger::open_read_only(&config(), &gate.url, gate.clock.clone()).await.unwrap();
    assert_eq!(reading.upload(upload.id).await.unwrap(), Some(upload.clone()));
    assert_eq!(reading.abort(upload.id, &[]).await, Err(LedgerError::ReadOnly));
    assert_eq!(reading.record_chunk(gate.chunk_of(&upload, 0)).await, Err(LedgerError::ReadOnly));
    reading.close().await;
    gate.record(&upload, 0).await;
}

async fn a_closed_ledger_says_so(gate: Gate) {
    let upload = gate.upload("a", 3).await;
    gate.ledger.close().await;
    gate.ledger.close().await;
    for error in [
        gate.ledger.ping().await.unwrap_err(),
        gate.ledger.abort(upload.id, &[]).await.unwrap_err(),
        gate.ledger.record_chunk(gate.chunk_of(&upload, 0)).await.unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");
    }
}

#[tokio::test]
async fn a_file_in_use_names_its_process() {
    let gate = Gate::on_sqlite().await;
    let refused = Ledger::open(&config(), &gate.url, gate.clock.clone(), LEASE).await.unwrap_err();
    assert!(matches!(refused, OpenError::Locked { pid, .. } if pid == Some(std::process::id())));
    let refused = Ledger::migrate_only(&config(), &gate.url).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    gate.restart().await;
}

#[tokio::test]
async fn migrating_alone_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    for url in [format!("sqlite://{}", folder.path().join("a.db").display()), new_database().await] {
        let clock = std::sync::Arc::new(chunkgate::clock::SystemClock::new());
        let absent = Ledger::open_read_only(&config(), &url, clock.clone()).await.unwrap_err();
        assert!(matches!(absent, OpenError::Missing(_) | OpenError::NotMigrated { .. }), "{absent}");
        let first = Ledger::migrate_only(&config(), &url).await.unwrap();
        assert!(first.before.is_none() && first.after >= 1);
        let second = Ledger::migrate_only(&config(), &url).await.unwrap();
        assert_eq!(second.before, Some(second.after));
        Ledger::open_read_only(&config(), &url, clock).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_loudly() {
    let gate = Gate::on_sqlite().await;
    for n in 0..200 {
        gate.upload(&format!("u{n}"), 2).await;
    }
    gate.ledger.close().await;
    let path = gate.url.strip_prefix("sqlite://").unwrap().to_owned();
    let whole = std::fs::read(&path).unwrap();
    for (from, length) in [(0, 100), (8192, 16384)] {
        let mut bytes = whole.clone();
        bytes[from..from + length].fill(0xA5);
        let other = tempfile::tempdir().unwrap();
        let broken = other.path().join("broken.db");
        std::fs::write(&broken, bytes).unwrap();
        let url = format!("sqlite://{}", broken.display());
        let refused = Ledger::open(&config(), &url, gate.clock.clone(), LEASE).await.unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let config = DatabaseConfig { acquire_timeout: Duration::from_millis(300), ..config() };
    let clock = std::sync::Arc::new(chunkgate::clock::SystemClock::new());
    let url = "postgres://me:secret@127.0.0.1:1/gate";
    let refused = Ledger::open(&config, url, clock.clone(), LEASE).await.unwrap_err().to_string();
    assert!(refused.starts_with("the database 127.0.0.1:1/gate cannot be reached: "), "{refused}");
    assert!(refused.contains("refused") && !refused.contains("secret"), "{refused}");

    let no_such = new_database().await.replace("/test_", "/none_").replace("unused", "secret");
    let refused = Ledger::open(&config, &no_such, clock, LEASE).await.unwrap_err().to_string();
    assert!(refused.contains("does not exist") && !refused.contains("secret"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_share_one_postgres() {
    let a = Gate::on_postgres().await;
    let clock = std::sync::Arc::new(chunkgate::clock::SystemClock::new());
    let b = Ledger::open(&config(), &a.url, clock, LEASE).await.unwrap();
    let upload = a.upload("a", 100).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let ledger = if n % 2 == 0 { a.ledger.clone() } else { b.clone() };
        let record = a.chunk_of(&upload, n / 2);
        tasks.spawn(async move { ledger.record_chunk(record).await.unwrap() });
    }
    let all = tasks.join_all().await;
    let new = all.iter().filter(|r| matches!(r, Recorded::New(_))).count();
    assert_eq!(new, 100);
    assert_eq!(b.progress(upload.id).await.unwrap(), progress(100));
    let (mine, theirs) = tokio::join!(take_lease(&a.ledger, upload.id), take_lease(&b, upload.id));
    assert_eq!([mine, theirs].iter().flatten().count(), 1);
    assert_eq!(b.list_uploads(Some(&Owner::local()), None, None, 10).await.unwrap().len(), 1);
}

/// faults.md 32 and 33: connections break at any moment, answers to commits
/// among them. Whoever sends again gets its answer, and what was acknowledged
/// is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_drops_connections_loses_nothing() {
    let gate = Gate::on_postgres().await;
    let upload = gate.upload("a", 1600).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16u32 {
        let (ledger, record) = (gate.ledger.clone(), gate.chunk_of(&upload, 0));
        clients.spawn(async move {
            for n in 0..100 {
                let mut record = record.clone();
                record.chunk = chunk(client * 100 + n);
                loop {
                    match ledger.record_chunk(record.clone()).await {
                        Ok(Recorded::New(_)) => break,
                        // It was recorded, and the answer was lost on the way.
                        Ok(Recorded::Known(row, _)) if row == record.chunk => break,
                        Err(LedgerError::Unavailable(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    }
    let mut cuts = 0;
    while !clients.is_empty() {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        gate.meddle(cut).await;
        cuts += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        while let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
    assert!(cuts > 1);
    assert_eq!(gate.ledger.progress(upload.id).await.unwrap(), progress(1600));
    assert!(take_lease(&gate.ledger, upload.id).await.is_some());
}
