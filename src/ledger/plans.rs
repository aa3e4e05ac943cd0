//! How SQLite goes about what the ledger asks: no question reads all of a
//! table. (For Postgres see `tests/it/ledger/plans.rs`.)

#[path = "../../tests/it/ledger/questions.rs"]
mod questions;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use crate::clock::TestClock;
use crate::domain::Timestamp;
use crate::ledger::db::SEEN;
use crate::ledger::{DatabaseConfig, Ledger};

/// What goes through an index from its beginning: counts of what is open, all
/// that is there at a start, pages in the index's own order, and a few keys.
const IN_ORDER: [(&str, &str); 11] = [
    ("SCAN deliveries USING COVERING INDEX deliveries_overdue", "SELECT (SELECT count(*) FROM deliveries"),
    ("SCAN deliveries USING COVERING INDEX deliveries_dead", "SELECT (SELECT count(*) FROM deliveries"),
    ("SCAN deliveries USING INDEX deliveries_overdue", "UPDATE deliveries SET lease_until = 0 WHERE"),
    ("SCAN uploads USING INDEX uploads_with_remains", "UPDATE uploads SET lease_until = 0 WHERE"),
    ("SCAN uploads USING INDEX uploads_completing", "UPDATE uploads SET lease_until = 0 WHERE"),
    (
        "SCAN objects_underway USING INDEX objects_underway_leased",
        "UPDATE objects_underway SET lease_until = 0 WHERE lease",
    ),
    ("SCAN u USING INDEX uploads_of_all", "FROM uploads u WHERE u.is_current ORDER BY u.created_at DESC"),
    ("SCAN api_keys", "FROM api_keys"),
    ("SCAN d USING INDEX sqlite_autoindex_deliveries_1", "ORDER BY d.event_id DESC, d.endpoint DESC LIMIT"),
    ("SCAN u USING INDEX uploads_failed", "ORDER BY u.created_at DESC, u.id DESC LIMIT"),
    ("SCAN signing_keys", "signing_keys"),
];

/// Each statement with the steps that SQLite takes for it.
async fn plans(connection: &mut SqliteConnection) -> Vec<(String, Vec<String>)> {
    let seen: Vec<String> = SEEN.lock().unwrap().iter().cloned().collect();
    let mut plans = Vec::new();
    for text in seen {
        let words = ["SELECT", "INSERT", "UPDATE", "DELETE"];
        if !words.iter().any(|word| text.starts_with(word)) {
            continue;
        }
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(&mut *connection);
        // Other tests of this process ask what no ledger asks.
        let Ok(steps) = explained.await else { continue };
        plans.push((text, steps.iter().map(|step| step.get("detail")).collect()));
    }
    plans
}

#[tokio::test]
async fn no_question_reads_all_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let url = format!("sqlite://{}", path.display());
    let clock = Arc::new(TestClock::at(Timestamp::from_millis(1_795_000_000_000)));
    let ledger = Ledger::open(&DatabaseConfig::default(), &url, clock.clone(), Duration::from_secs(30)).await.unwrap();
    questions::ask_all(&ledger, &*clock).await;
    ledger.close().await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let (mut report, mut asked) = (String::new(), 0);
    for (text, steps) in plans(&mut connection).await {
        asked += 1;
        // A list that came with the statement is read whole, and what was selected from it.
        let of_a_table = |step: &&String| {
            step.starts_with("SCAN ")
                && !step.contains("VIRTUAL TABLE")
                && !step.starts_with("SCAN CONSTANT ROW")
                && !step.starts_with("SCAN (subquery")
                && *step != "SCAN listed"
                && !IN_ORDER.iter().any(|(known, of)| step == known && text.contains(of))
        };
        for step in steps.iter().filter(of_a_table) {
            writeln!(report, "{step}\n    {text}").unwrap();
        }
    }
    connection.close().await.unwrap();
    assert!(asked > 60, "all were asked: {asked}");
    assert!(report.is_empty(), "\n{report}");
}
