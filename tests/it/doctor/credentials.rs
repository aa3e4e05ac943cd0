//! Which credentials a gateway has, from where and until when; and what keeps it
//! from having any.

use std::time::Duration;

use chunkgate::clock::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::Value;

use super::patient::Patient;
use crate::access::{KEY, TOKENS};
use crate::credentials::gatekeeper::Key;
use crate::credentials::services::{BASE, PROVIDER, ROLE, Services};
use crate::credentials::{Ground, replace};
use crate::harness::{Answer, Gateway, free_address};

const HOUR: Duration = Duration::from_secs(3600);

/// The bucket, and nothing of who we are.
fn patient(ground: &Ground) -> Patient {
    let settings = ground.emulator.environment().into_iter().filter(|(name, _)| !name.contains("ACCESS_KEY"));
    let endpoint = format!("http://{}", ground.gatekeeper.address);
    Patient::new(settings.collect()).with("STORE__OSS__ENDPOINT", endpoint)
}

fn of_kind(ground: &Ground, kind: &str) -> Patient {
    patient(ground).with("STORE__OSS__CREDENTIALS__KIND", kind)
}

fn written(patient: Patient, key: &Key) -> Patient {
    patient.with("STORE__OSS__ACCESS_KEY_ID", &key.id).with("STORE__OSS__ACCESS_KEY_SECRET", &key.secret)
}

fn assume_role(patient: Patient, sts: &str) -> Patient {
    let base = Key { id: BASE.0.to_owned(), secret: BASE.1.to_owned(), token: None };
    let role = written(patient, &base).with("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE);
    role.with("STORE__OSS__CREDENTIALS__STS_ENDPOINT", sts)
}

fn pod(patient: Patient, sts: &str, token: &str) -> Patient {
    let role = patient.with("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE);
    let role = role.with("STORE__OSS__CREDENTIALS__OIDC_PROVIDER_ARN", PROVIDER);
    let role = role.with("STORE__OSS__CREDENTIALS__OIDC_TOKEN_FILE", token);
    role.with("STORE__OSS__CREDENTIALS__STS_ENDPOINT", sts)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_told_with_where_it_is_from_and_when_it_ends() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, HOUR, false).await;
    let (plain, session) = (Key::of("plain", 1, false), Key::of("session", 1, true));
    ground.gatekeeper.admit(&plain, HOUR);
    ground.gatekeeper.admit(&session, HOUR);
    let name = |name: &str| ground.path(name).display().to_string();
    let ends = SystemClock::new().now().plus(HOUR);
    replace(&ground.path("key.json"), &session.json(Some(ends)).to_string());
    replace(&ground.path("oidc"), "oidc-hush");
    services.set_oidc_token("oidc-hush");
    let variables = [("OSS_ACCESS_KEY_ID", &plain.id), ("OSS_ACCESS_KEY_SECRET", &plain.secret)];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.clone()));
    let (file, sts, until) = (name("key.json"), services.url(), "good until 20");
    let kinds = [
        (written(of_kind(&ground, "static"), &plain), "plain-id… from store.oss.access_key_id (static), permanent"),
        (
            of_kind(&ground, "environment").beside(variables),
            "plain-id… from OSS_ACCESS_KEY_ID (environment), permanent",
        ),
        (of_kind(&ground, "file").with("STORE__OSS__CREDENTIALS__FILE", &file), "/key.json (file), good until 20"),
        (
            of_kind(&ground, "command").with("STORE__OSS__CREDENTIALS__COMMAND", format!("cat {file} # hush")),
            "from credentials.command (command), good until 20",
        ),
        (assume_role(of_kind(&ground, "assume_role"), &sts), "which base-id of store.oss.access_key_id assumes"),
        (
            of_kind(&ground, "ecs_role").with("STORE__OSS__CREDENTIALS__METADATA_ENDPOINT", &sts),
            "for the instance's RAM role (ecs_role), good until 20",
        ),
        (pod(of_kind(&ground, "oidc_role"), &sts, &name("oidc")), "/oidc (oidc_role), good until 20"),
    ];
    for (n, (patient, told)) in kinds.into_iter().enumerate() {
        let examined = patient.examine(ground.folder.path()).await;
        let credentials = examined.is_well().finding("ok", "credentials");
        assert!(credentials.contains(told), "{told}: {credentials}");
        assert_eq!(credentials.contains(until) && credentials.contains("min from now"), n > 1, "{credentials}");
        assert!(!examined.said.contains("hush"), "{}", examined.said);
    }
    assert_eq!(services.wrong(), Vec::<String>::new());
    // It ends soon, and nobody has put another one there.
    let ends = SystemClock::new().now().plus(Duration::from_secs(50));
    replace(&ground.path("key.json"), &session.json(Some(ends)).to_string());
    let late =
        of_kind(&ground, "file").with("STORE__OSS__CREDENTIALS__FILE", &file).examine(ground.folder.path()).await;
    late.is_well().has("warning", "credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_had_are_the_first_cause() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, HOUR, false).await;
    let name = |name: &str| ground.path(name).display().to_string();
    let key = Key::of("session", 1, true);
    let ended = SystemClock::new().now().minus(HOUR);
    replace(&ground.path("key.json"), &key.json(Some(ended)).to_string());
    replace(&ground.path("oidc"), "of-another-cluster-hush");
    services.set_oidc_token("oidc-hush");
    let nobody = format!("http://{}", free_address());
    let file = |name: &str| of_kind(&ground, "file").with("STORE__OSS__CREDENTIALS__FILE", name);
    let command = |text: &str| of_kind(&ground, "command").with("STORE__OSS__CREDENTIALS__COMMAND", text);
    let role = |sts: &str| assume_role(of_kind(&ground, "assume_role"), sts);
    for (patient, heading) in [
        (file(&name("none.json")), "A file of credentials that is not there"),
        (file(&name("key.json")), "A file of credentials that nobody replaced"),
        (command("echo hush; exit 3"), "A command of credentials that fails"),
        (role(&services.url()).with("STORE__OSS__ACCESS_KEY_SECRET", "hush"), "STS that refuses the key"),
        (role(&nobody), "STS that is not reached"),
        (pod(of_kind(&ground, "oidc_role"), &services.url(), &name("oidc")), "A pod's token that STS does not take"),
        (
            of_kind(&ground, "ecs_role").with("STORE__OSS__CREDENTIALS__METADATA_ENDPOINT", &nobody),
            "A machine without a metadata service",
        ),
    ] {
        let examined = patient.examine(ground.folder.path()).await;
        examined.first_fails_at("credentials", heading).has("skipped", "permission to put");
        assert!(!examined.said.contains("hush"), "{}", examined.said);
    }
}

async fn credentials(gateway: &Gateway) -> (Value, Value) {
    let asked = gateway.admin_request(Method::GET, "/admin/doctor").bearer_auth(KEY).send().await;
    let report = Answer::of(asked).await.json;
    let findings = report["findings"].as_array().expect("findings").clone();
    let found = findings.into_iter().find(|finding| finding["check"] == "credentials").expect("the finding");
    (found, report["firstCause"]["check"].clone())
}

/// The gateway's own session is renewed for the look, so that it shows whether it can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_finds_that_its_session_cannot_be_renewed_before_it_ends() {
    let ground = Ground::prepare().await;
    let services = Services::start(&ground.gatekeeper, Duration::from_secs(100), false).await;
    let role = [
        ("STORE__OSS__CREDENTIALS__KIND", "assume_role".to_owned()),
        ("STORE__OSS__CREDENTIALS__ROLE_ARN", ROLE.to_owned()),
        ("STORE__OSS__CREDENTIALS__STS_ENDPOINT", services.url()),
        ("STORE__OSS__ACCESS_KEY_ID", BASE.0.to_owned()),
        ("STORE__OSS__ACCESS_KEY_SECRET", BASE.1.to_owned()),
    ];
    let settings = [&role[..], &TOKENS.map(|(name, value)| (name, value.to_owned()))].concat();
    let gateway = ground.gateway(&settings).await;
    let (found, cause) = credentials(&gateway).await;
    assert_eq!((&found["status"], cause.is_null()), (&Value::from("ok"), true), "{found}");
    services.set_down(true);
    // A gateway that had a session when STS went away has it still.
    let (found, cause) = credentials(&gateway).await;
    assert_eq!((&found["status"], cause.is_null()), (&Value::from("warning"), true), "{found}");
    let what = found["what"].as_str().expect("a text");
    assert!(what.contains("good until 20") && what.contains("others cannot be had"), "{what}");
    assert!(found["why"].as_str().is_some_and(|why| why.contains("503")), "{found}");
    // One that never had any has its first cause there.
    let other = ground.gateway(&settings).await;
    let (found, cause) = credentials(&other).await;
    assert_eq!((&found["status"], cause.as_str()), (&Value::from("failed"), Some("credentials")), "{found}");
    services.set_down(false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for gateway in [&gateway, &other] {
        let (found, cause) = credentials(gateway).await;
        assert_eq!((&found["status"], cause.is_null()), (&Value::from("ok"), true), "{found}");
    }
}
