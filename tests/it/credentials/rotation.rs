//! The store's keys rotate, and end, while clients upload.

use std::time::Duration;

use tokio::time::Instant;

use chunkgate::clock::{Clock as _, SystemClock};
use futures_util::future::join_all;

use super::*;
use crate::faults::stand::{eventually, is_retryable};
use crate::harness::MIB;

const CLIENTS: usize = 8;
const LASTS: Duration = Duration::from_secs(8);
/// Whoever rotates keys once a second lets the old one live until it is used
/// nowhere any more.
const OVERLAP: Duration = Duration::from_secs(4);

/// Rotates once a second, in whatever way, while clients upload.
async fn rotates(ground: &Ground, gateway: &Gateway, mut rotate: impl FnMut(u64)) {
    let until = Instant::now() + LASTS;
    let rotating = async {
        for n in 1.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if Instant::now() >= until {
                break;
            }
            rotate(n);
        }
    };
    let loads = join_all((0..CLIENTS).map(|client| load(gateway, client, until)));
    let (chunks, ()) = tokio::join!(loads, rotating);
    let chunks: usize = chunks.iter().sum();
    let used = ground.gatekeeper.used();
    println!("{chunks} chunks under {used} keys, {} requests refused for theirs", ground.gatekeeper.refused());
    assert!(used >= 4, "{used} keys were used");
    assert!(chunks >= 4 * CLIENTS, "{chunks} chunks");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_file_rotate_every_second() {
    let ground = Ground::prepare().await;
    let path = ground.path("key.json");
    let rotate = |n: u64| {
        let key = Key::of("file", n, n.is_multiple_of(2));
        ground.gatekeeper.admit(&key, OVERLAP);
        replace(&path, &key.json(None).to_string());
    };
    rotate(0);
    let settings = [
        ("STORE__OSS__CREDENTIALS__KIND", "file".to_owned()),
        ("STORE__OSS__CREDENTIALS__FILE", path.display().to_string()),
    ];
    let gateway = ground.gateway(&settings).await;
    rotates(&ground, &gateway, rotate).await;
}

/// As a secret of Kubernetes that is mounted: each value a file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_files_of_their_own_rotate_every_second() {
    let ground = Ground::prepare().await;
    let (id, secret, token) = (ground.path("id"), ground.path("secret"), ground.path("token"));
    let rotate = |n: u64| {
        let key = Key::of("files", n, true);
        ground.gatekeeper.admit(&key, 2 * OVERLAP);
        replace(&id, &format!("{}\n", key.id));
        replace(&secret, &key.secret);
        replace(&token, &key.token.expect("a token"));
    };
    rotate(0);
    let name = |path: &PathBuf| path.display().to_string();
    let settings = [
        ("STORE__OSS__ACCESS_KEY_ID_FILE", name(&id)),
        ("STORE__OSS__ACCESS_KEY_SECRET_FILE", name(&secret)),
        ("STORE__OSS__SECURITY_TOKEN_FILE", name(&token)),
    ];
    let gateway = ground.gateway(&settings).await;
    // Every other second: what has been there for half a second counts.
    rotates(&ground, &gateway, rotate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_again_before_its_keys_end() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(3), true).await;
    let url = format!("{}/latest/meta-data/ram/security-credentials/uploads", services.url());
    let settings = [
        ("STORE__OSS__CREDENTIALS__KIND", "command".to_owned()),
        ("STORE__OSS__CREDENTIALS__COMMAND", format!("/usr/bin/curl -sf {url}")),
    ];
    let gateway = ground.gateway(&settings).await;
    rotates(&ground, &gateway, |_| {}).await;
    assert_eq!(services.wrong(), Vec::<String>::new());
}

fn assume_role(services: &Services) -> [(&'static str, String); 5] {
    [
        ("STORE__OSS__CREDENTIALS__KIND", "assume_role".to_owned()),
        ("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE.to_owned()),
        ("STORE__OSS__CREDENTIALS__STS_ENDPOINT", services.url()),
        ("STORE__OSS__ACCESS_KEY_ID", BASE.0.to_owned()),
        ("STORE__OSS__ACCESS_KEY_SECRET", BASE.1.to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_sts_follow_one_another() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_millis(2400), false).await;
    let gateway = ground.gateway(&assume_role(&services)).await;
    rotates(&ground, &gateway, |_| {}).await;
    assert_eq!((services.wrong(), ground.gatekeeper.refused()), (Vec::new(), 0));
    // Each two thirds of their life, and not for each of the clients.
    let asked = services.asked();
    assert!(asked <= 10, "STS was asked {asked} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_of_an_instance_and_of_a_pod_are_taken() {
    let ground = Ground::prepare().await;
    for is_old in [false, true] {
        let services = Services::start(&ground.gatekeeper, Duration::from_secs(3), is_old).await;
        let settings = [
            ("STORE__OSS__CREDENTIALS__KIND", "ecs_role".to_owned()),
            ("STORE__OSS__CREDENTIALS__METADATA_ENDPOINT", services.url()),
        ];
        let gateway = ground.gateway(&settings).await;
        load(&gateway, usize::from(is_old), Instant::now() + LASTS / 2).await;
        assert_eq!(services.wrong(), Vec::<String>::new());
        assert!((2..=6).contains(&services.asked()), "{}", services.asked());
    }
    // Kubernetes replaces the pod's token.
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(3), false).await;
    let path = ground.path("oidc");
    let rotate = |n: u64| {
        let token = format!("oidc-hush-{n}");
        services.set_oidc_token(&token);
        replace(&path, &token);
    };
    rotate(0);
    let settings = [
        ("STORE__OSS__CREDENTIALS__KIND", "oidc_role".to_owned()),
        ("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE.to_owned()),
        ("STORE__OSS__CREDENTIALS__OIDC_PROVIDER_ARN", PROVIDER.to_owned()),
        ("STORE__OSS__CREDENTIALS__OIDC_TOKEN_FILE", path.display().to_string()),
        ("STORE__OSS__CREDENTIALS__STS_ENDPOINT", services.url()),
    ];
    let gateway = ground.gateway(&settings).await;
    rotates(&ground, &gateway, rotate).await;
    assert!(services.asked() >= 4);
}

/// What expires is replaced before; what is refused, at once; and while nobody
/// gives out others, what still lives serves.
#[tokio::test(flavor = "multi_thread")]
async fn fault_24_credentials_expire_during_an_upload() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(12), false).await;
    let gateway = ground.gateway(&assume_role(&services)).await;
    let bytes = content(8 * MIB, 24);
    let chunk = |n: usize| &bytes[n * MIB..(n + 1) * MIB];
    gateway.create("a", bytes.len(), MIB).await;
    assert_eq!(gateway.put("a", 0, chunk(0)).await.status, 200);
    assert_eq!(services.asked(), 1);
    // STS is away for longer than it should: the old session still lives.
    services.set_down(true);
    tokio::time::sleep(Duration::from_millis(8500)).await;
    assert_eq!(gateway.put("a", 1, chunk(1)).await.status, 200);
    assert_eq!(ground.gatekeeper.refused(), 0);
    // It has ended. Clients are told to come again; nobody else is asked.
    // In whole seconds, as STS says it.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    is_retryable(&gateway.put("a", 2, chunk(2)).await);
    assert_eq!(ground.gatekeeper.refused(), 0, "what has ended is not used");
    // Everybody waits for one answer.
    services.set_down(false);
    eventually("STS gives out others", async || gateway.put("a", 2, chunk(2)).await.status == 200).await;
    assert_eq!(services.asked(), 2);
    let more = join_all((3..6).map(|n| gateway.put("a", n, chunk(n)))).await;
    assert!(more.iter().all(|answer| answer.status == 200), "{more:?}");
    assert_eq!(services.asked(), 2);
    // Taken away before their time: a body cannot be sent twice, so its client is
    // asked to; all that has none notices nothing.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ground.gatekeeper.revoke_all();
    is_retryable(&gateway.put("a", 6, chunk(6)).await);
    assert_eq!((ground.gatekeeper.refused(), services.asked()), (1, 3));
    assert_eq!(gateway.put("a", 6, chunk(6)).await.status, 200);
    assert_eq!(gateway.put("a", 7, chunk(7)).await.json["complete"], true);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ground.gatekeeper.revoke_all();
    assert_eq!(gateway.download("a").await, bytes);
    assert_eq!(ground.gatekeeper.refused(), 2);
    assert_eq!(gateway.metric("chunkgate_store_breaker_open").await, 0.0);
    assert_eq!(services.wrong(), Vec::<String>::new());
}

/// A signed URL ends with the session that signed it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_url_ends_with_its_session() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(120), false).await;
    let gateway = ground.gateway(&assume_role(&services)).await;
    gateway.create("a", 3, MIB).await;
    gateway.put("a", 0, b"abc").await;
    let signed = gateway.post("/files/a/sign", serde_json::json!({"expiresIn": 86_400})).await;
    let left = seconds_until(&signed.json["expiresAt"]);
    assert!((60..=120).contains(&left), "{left} s: {signed:?}");
    gateway.create("b", 2 * MIB, MIB).await;
    let parts = gateway.post("/uploads/b/parts/sign", serde_json::json!({"chunkIndexes": [0, 1]})).await;
    assert!(seconds_until(&parts.json["parts"][1]["expiresAt"]) <= 120, "{parts:?}");
}

fn seconds_until(time: &serde_json::Value) -> i64 {
    let ends: jiff::Timestamp = time.as_str().expect("a time").parse().expect("a time");
    ends.as_second() - SystemClock::new().now().seconds()
}
