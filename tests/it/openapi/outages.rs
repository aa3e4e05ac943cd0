//! The store is away, the database is full, broken, and away.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::contract::{CHUNK, Contract, Operation};
use crate::harness::{Gateway, On};
use crate::postgres;

/// Every write says that the disk is full, as Postgres says it.
const FILL: &str = "
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON uploads EXECUTE FUNCTION fail();
    CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON objects_underway FOR EACH ROW WHEN (NEW.form IS NOT NULL)
        EXECUTE FUNCTION fail();
    CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON chunks EXECUTE FUNCTION fail()";
const EMPTY: &str = "DROP FUNCTION fail CASCADE";
/// Every statement is about a table that is not there.
pub(super) const BREAK: &str = "ALTER SCHEMA public RENAME TO elsewhere";
const MEND: &str = "ALTER SCHEMA elsewhere RENAME TO public";
/// Another gateway merges the upload, and takes its time.
const MERGE: &str = "UPDATE uploads SET state = 'completing', lease_token = id, lease_holder = id,
    lease_until = 9000000000000000 WHERE file_id = 'busy'";

pub(super) async fn story(contract: &Contract) {
    let database = postgres::new_database().await;
    let link = Link::to(&database).await;
    let settings = [
        ("DATABASE__URL", link.url(&database)),
        ("DATABASE__ACQUIRE_TIMEOUT", "2s".to_owned()),
        ("HEALTH__READY_REQUIRES", "database,store".to_owned()),
        ("SWEEP__INTERVAL", "1h".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut gateway = Gateway::start_with(On::OssAndPostgres, &settings).await;
    let mut sql = PgConnection::connect(&database).await.expect("the test server answers");
    furnish(&gateway).await;

    // A doctor needs neither to say something.
    let needs_neither = |operation: &Operation<'_>| operation.path.ends_with("/doctor");
    let guarded =
        |operation: &Operation<'_>| operation.is_guarded() && !operation.is_of_tokens() && !needs_neither(operation);
    let operations = contract.operations().into_iter().filter(guarded);
    let guarded: Vec<&str> = operations.map(|operation| operation.id).collect();
    execute(&mut sql, FILL).await;
    let full = ["createUpload", "putChunk", "putChunkByHeaders", "postChunk", "uploadChunk", "postFile"];
    all(contract, &gateway, &[&full[..], &["signUpload"]].concat(), (507, "storage_full")).await;
    execute(&mut sql, EMPTY).await;
    execute(&mut sql, BREAK).await;
    all(contract, &gateway, &guarded, (500, "internal")).await;
    execute(&mut sql, MEND).await;
    execute(&mut sql, MERGE).await;
    merging(contract, &gateway).await;

    gateway.emulator.as_mut().expect("an emulator").stop();
    let stores = [&full[..], &["getContent"]].concat();
    all(contract, &gateway, &stores, (503, "store_unavailable")).await;
    // All chunks are there and the store is not: the merge is put off.
    let complete = gateway.request(Method::POST, "/chunks/complete").json(&json!({"fileId": "full"}));
    assert_eq!(contract.ask("/chunks/complete", complete).await.status, 202);

    gateway.emulator.as_mut().expect("an emulator").boot().await;
    link.cut();
    all(contract, &gateway, &guarded, (503, "database_unavailable")).await;
    gateway.emulator.as_mut().expect("an emulator").stop();
    // Health is asked for every five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for path in ["/readyz", "/healthz?strict=1"] {
        let (template, _) = path.split_once('?').unwrap_or((path, ""));
        assert_eq!(contract.ask(template, gateway.request(Method::GET, path)).await.status, 503, "{path}");
    }
    assert_eq!(contract.ask("/healthz", gateway.request(Method::GET, "/healthz")).await.json["status"], "failing");
}

/// What the operations' samples need.
async fn furnish(gateway: &Gateway) {
    for id in ["o", "full", "busy"] {
        let plan = json!({"fileId": id, "fileName": "报告.bin", "fileSize": 2 * CHUNK + 7, "chunkSize": CHUNK,
            "autoComplete": false});
        assert_eq!(gateway.post("/uploads", plan).await.status, 201);
    }
    for (index, bytes) in [(0, CHUNK), (1, CHUNK), (2, 7)] {
        assert_eq!(gateway.put("full", index, &vec![1; bytes]).await.status, 200);
    }
    assert_eq!(gateway.put("o", 0, &[1; CHUNK]).await.status, 200);
    let file = gateway.request(Method::POST, "/files?fileName=f&fileId=f").body("hello").send().await;
    assert_eq!(file.expect("an answer").status(), 201);
}

/// Asks these operations at once; each is refused in the same way.
pub(super) async fn all(contract: &Contract, gateway: &Gateway, ids: &[&str], expected: (u16, &str)) {
    let operations = contract.operations().into_iter().filter(|operation| ids.contains(&operation.id));
    let asked = operations.map(async |operation| {
        let answer = contract.ask(operation.path, operation.sample(gateway)).await;
        assert_eq!(answer.status.as_u16(), expected.0, "{}: {answer:?}\n{}", operation.id, gateway.log());
        if operation.method != "head" {
            answer.is_refused(expected.0, expected.1);
        }
    });
    join_all(asked).await;
}

async fn merging(contract: &Contract, gateway: &Gateway) {
    let one = |method| gateway.request(method, "/uploads/busy");
    contract.ask("/uploads/{fileId}", one(Method::DELETE)).await.is_refused(409, "upload_completing");
    assert_eq!(contract.ask("/uploads/{fileId}", one(Method::GET)).await.json["status"], "completing");
    let again = json!({"fileId": "busy", "fileName": "a", "fileSize": 2 * CHUNK + 7, "restart": true});
    let again = gateway.request(Method::POST, "/uploads").json(&again);
    contract.ask("/uploads", again).await.is_refused(409, "upload_completing");
    let late = gateway.request(Method::PUT, "/chunks/busy/0").body(vec![1; CHUNK]);
    contract.ask("/chunks/{fileId}/{chunkIndex}", late).await.is_refused(503, "store_unavailable");
    let complete = gateway.request(Method::POST, "/chunks/complete").json(&json!({"fileId": "busy"}));
    assert_eq!(contract.ask("/chunks/complete", complete).await.status, 202);
}

pub(super) async fn execute(sql: &mut PgConnection, statements: &'static str) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(sql).await.expect("done");
}

/// A cable to the database that can be cut.
pub(super) struct Link {
    address: SocketAddr,
    cut: CancellationToken,
}

impl Link {
    pub(super) async fn to(database: &str) -> Self {
        let far = host_of(database).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let link = Self { address: listener.local_addr().expect("an address"), cut: CancellationToken::new() };
        tokio::spawn(link.cut.clone().run_until_cancelled_owned(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let far = far.clone();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(far).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        }));
        link
    }

    /// The database's URL by way of this link.
    pub(super) fn url(&self, database: &str) -> String {
        database.replace(host_of(database), &self.address.to_string())
    }

    /// Breaks all connections, and takes no more.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

/// The host and port of a URL with a user.
fn host_of(url: &str) -> &str {
    url.split(['@', '/']).nth(3).expect("a host")
}
