//! How Postgres goes about what the ledger asks: no question reads all of a
//! table that grows. (For SQLite see `src/ledger/plans.rs`.)

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::{Gate, questions};
use crate::postgres;

/// So many rows that reading them all is worth it for nobody.
const FILL: &str = "
INSERT INTO uploads (id, owner, file_id, is_current, file_name, metadata, total_chunks, chunk_bytes, last_bytes,
    file_bytes, auto_complete, object_key, state, session, begins, created_at, updated_at, expires_at, ended_at,
    etag, crc64, completed_at)
SELECT CAST(lpad(to_hex(n), 32, '0') AS UUID), 'owner' || (n / 10), 'f' || n, TRUE, 'a', '{}', 3, 8, 8, 24, TRUE,
    'uploads/' || n, CASE WHEN n % 10 = 0 THEN 'uploading' ELSE 'completed' END, 's', 1, n, n, 4000000000000, n, 'e', 1, n
FROM generate_series(1, 50000) AS n;
INSERT INTO chunks (upload_id, chunk_index, bytes, crc64, etag, recorded_at)
SELECT CAST(lpad(to_hex(n), 32, '0') AS UUID), i, 8, n, 'e', n
FROM generate_series(1, 50000) AS n CROSS JOIN generate_series(0, 1) AS i;
INSERT INTO parts (upload_id, part_number, first_chunk, chunk_count, bytes, crc64, etag, recorded_at)
SELECT CAST(lpad(to_hex(n), 32, '0') AS UUID), i, i, 1, 8, n, 'e', n
FROM generate_series(1, 50000) AS n CROSS JOIN generate_series(3, 4) AS i;
INSERT INTO files (id, owner, file_id, file_name, metadata, object_key, etag, bytes, crc64, completed_at, verified)
SELECT id, owner, file_id, 'a', '{}', object_key, 'e', 24, 1, created_at, FALSE FROM uploads WHERE state = 'completed';
INSERT INTO events (id, kind, upload_id, owner, body, created_at)
SELECT 'e' || n, 'upload.completed', CAST(lpad(to_hex(n), 32, '0') AS UUID), 'a', '{}', 4000000000000 + n
FROM generate_series(1, 50000) AS n;
INSERT INTO deliveries (event_id, endpoint, state, next_attempt_at)
SELECT id, 'http://elsewhere', CASE WHEN created_at % 100 = 0 THEN 'pending' ELSE 'delivered' END, created_at FROM events;
INSERT INTO owners (owner, open_uploads) SELECT 'owner' || n, 1 FROM generate_series(1, 5000) AS n;
INSERT INTO objects_underway (object_key, upload_id, begun_at)
SELECT 'k' || n, CAST(lpad(to_hex(n), 32, '0') AS UUID), 4000000000000 + n FROM generate_series(1, 50000) AS n;
INSERT INTO attempts (event_id, endpoint, nth, at) SELECT event_id, endpoint, 1, 1 FROM deliveries;
INSERT INTO token_families (id, owner, secret, terms, generation, expires_at, created_at, revoked_at)
SELECT CAST(lpad(to_hex(n), 32, '0') AS UUID), 'o' || n, 's', '{}', 0, 4000000000000 + n, n,
    CASE WHEN n % 100 = 0 THEN n END FROM generate_series(1, 20000) AS n;
ANALYZE;
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_reads_all_of_a_table() {
    // As it would go about it by itself: what it is kept from is not seen.
    let url = postgres::new_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
    let set = format!("ALTER DATABASE {name} SET chunkgate.seqscan = 'on'");
    sqlx::query(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
    let gate = Gate::open(url, None).await;
    sqlx::raw_sql(FILL).execute(&mut connection).await.unwrap();
    // What is counted of a connection is told at its end.
    let scans = async || {
        let mut connection = PgConnection::connect(&gate.url).await.unwrap();
        let text = "SELECT relname, seq_scan FROM pg_stat_user_tables \
                    WHERE relname NOT IN ('api_keys', 'jobs', 'signing_keys', '_sqlx_migrations') ORDER BY relname";
        let rows = sqlx::query(text).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| (row.get::<String, _>(0), row.get::<i64, _>(1))).collect::<Vec<_>>()
    };
    connection.close().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = scans().await;
    assert_eq!(before.len(), 10, "{before:?}");
    questions::ask_all(&gate.ledger, &*gate.clock).await;
    gate.ledger.close().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scans().await, before);
}
