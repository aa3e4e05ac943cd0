//! A gateway that runs is asked about itself.

use reqwest::Method;

use super::patient::Patient;
use crate::access::{KEY, TOKENS};
use crate::harness::{Answer, Gateway, On};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_says_how_it_is_to_who_has_a_key() {
    for on in On::BOTH {
        let gateway = Gateway::start_with(on, &TOKENS).await;
        let ask = || gateway.admin_request(Method::GET, "/admin/doctor");
        let nobody = Answer::of(ask().send().await).await;
        nobody.is_refused(401, "unauthorized");
        let report = Answer::of(ask().bearer_auth(KEY).send().await).await;
        assert_eq!((report.status.as_u16(), report.json["status"].as_str()), (200, Some("ok")), "{report:?}");
        let findings = report.json["findings"].as_array().expect("findings");
        let status = |check: &str| {
            let found = findings.iter().find(|finding| finding["check"] == check);
            found.unwrap_or_else(|| panic!("no {check}: {report:?}"))["status"].clone()
        };
        for check in ["permission to put", "permission to complete", "database", "throughput"] {
            assert_eq!(status(check), "ok", "{check} {report:?}");
        }
        // It is not on the listener that everybody reaches.
        let public = gateway.request(Method::GET, "/admin/doctor").bearer_auth(KEY).send().await;
        Answer::of(public).await.is_refused(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_gateway_its_files_are_left_alone() {
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let data = gateway.folder.path().join("data").display().to_string();
    let examined = Patient::new(Vec::new()).with("DATA_DIR", data).examine(gateway.folder.path()).await;
    examined.is_well().has("warning", "bucket");
    assert!(examined.finding("ok", "database").contains("so that nothing was written"), "{}", examined.said);
    assert!(examined.finding("warning", "bucket").contains("/admin/doctor"), "{}", examined.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_found_by_the_gateway_itself() {
    let mut gateway = Gateway::start_with(On::OssAndPostgres, &TOKENS).await;
    gateway.emulator.as_mut().expect("an emulator").stop();
    let asked = gateway.admin_request(Method::GET, "/admin/doctor").bearer_auth(KEY).send().await;
    let report = Answer::of(asked).await;
    assert_eq!(
        (report.json["status"].as_str(), report.json["firstCause"]["check"].as_str()),
        (Some("failed"), Some("tcp"))
    );
}
