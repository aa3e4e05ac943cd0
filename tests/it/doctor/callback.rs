//! Whom OSS tells of files that browsers put by forms.

use reqwest::Method;
use serde_json::Value;

use super::outward::{Healthy, no_such_name, with_names};
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, On, free_address};
use crate::signed_forms::{CALLBACKS, Overheard};

const CHECK: &str = "callback oss";

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_by_oss_and_believes_nobody_else() {
    let gateway = Gateway::start_with(On::OssAndPostgres, &[&TOKENS[..], &CALLBACKS].concat()).await;
    let asked = gateway.admin_request(Method::GET, "/admin/doctor").bearer_auth(KEY).send().await;
    let report = Answer::of(asked).await.json;
    assert!(report["firstCause"].is_null(), "{report}");
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["check"] == CHECK).expect("the finding");
    let what = found["what"].as_str().expect("a text");
    // Only the emulator gets to a loopback address.
    assert_eq!(found["status"], Value::from("warning"), "{found}");
    for told in ["OSS gets there, its signature is known, and a wrong one is refused", "127.0.0.1 is an address of"] {
        assert!(what.contains(told), "{what}");
    }
    // The object of which it was told is gone, and is no file.
    let files = gateway.request(Method::GET, "/files").bearer_auth(KEY).send().await;
    assert_eq!(Answer::of(files).await.json["files"], Value::Array(Vec::new()));
    let stats = format!("http://{}/-/stats", gateway.emulator.as_ref().expect("an emulator").address);
    let stats = Answer::of(gateway.http.get(stats).send().await).await.json;
    assert_eq!((&stats["objects"], &stats["openUploads"]), (&Value::from(0), &Value::from(0)), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_gets_nowhere_or_elsewhere() {
    let healthy = Healthy::start().await;
    let to = |url: String| healthy.patient().with("STORE__OSS__CALLBACK_URL", url);
    let nobody = to(format!("http://{}/callbacks/oss", free_address())).examine(healthy.path()).await;
    nobody.first_fails_at(CHECK, "OSS's callback unreachable").has("ok", "throughput");
    let anybody = to(Overheard::start().await.url).examine(healthy.path()).await;
    anybody.first_fails_at(CHECK, "OSS's callback answered by somebody else");
    // A gateway that was not told of it.
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let unknown = to(gateway.url("/callbacks/oss")).examine(healthy.path()).await;
    unknown.first_fails_at(CHECK, "OSS's callback at a gateway that does not expect it");
    healthy.is_clean().await;
    // Without one, that is said.
    healthy.patient().examine(healthy.path()).await.is_well().has("skipped", CHECK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_at_a_private_address() {
    let (healthy, server) = (Healthy::start().await, no_such_name().await);
    let port = healthy.emulator.address.port();
    let patient = healthy.patient().with("STORE__OSS__ENDPOINT", format!("http://oss-cn-hangzhou.aliyuncs.com:{port}"));
    let patient = patient.with("STORE__OSS__PATH_STYLE", "false");
    let patient = patient.with("STORE__OSS__CALLBACK_URL", "http://10.0.0.8/callbacks/oss");
    let patient = with_names(patient, healthy.path(), "127.0.0.1 bkt.oss-cn-hangzhou.aliyuncs.com\n", server);
    let examined = patient.examine(healthy.path()).await;
    examined.first_fails_at(CHECK, "OSS's callback at a private address").has("ok", "permission to put");
    healthy.is_clean().await;
}
