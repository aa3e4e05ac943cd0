//! From a browser to a gateway, through nginx.

use std::time::Duration;

use super::nginx::Nginx;
use super::patient::{Examined, Patient};
use crate::access::{KEY, TOKENS};
use crate::chaos::{Cable, End, Weather};
use crate::harness::{Gateway, On};

const ORIGIN: &str = "https://app.example.com";
/// What a gateway's proxy has to say.
const STREAMS: &str =
    "client_max_body_size 0; proxy_request_buffering off; proxy_http_version 1.1; proxy_read_timeout 300s;";

async fn gateway() -> Gateway {
    Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &[("CORS__ALLOWED_ORIGINS", ORIGIN)]].concat()).await
}

async fn through(gateway: &Gateway, url: &str) -> Examined {
    let arguments = ["--url", url, "--origin", ORIGIN, "--key", KEY];
    Patient::new(Vec::new()).argue(&arguments).examine(gateway.folder.path()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_in_between_and_behind_a_good_proxy_all_is_well() {
    let gateway = gateway().await;
    let nginx = Nginx::before(gateway.address, STREAMS).await;
    let (bare, url) = (gateway.url(""), nginx.url());
    let (bare, proxied) = tokio::join!(through(&gateway, &bare), through(&gateway, &url));
    for examined in [bare, proxied] {
        examined.is_well();
        for check in
            ["gateway", "access", "headers", "cors", "body limit", "buffering", "early refusals", "upload", "time-outs"]
        {
            examined.has("ok", check);
        }
        examined.has("ok", "parallel connections");
    }
    // What it began is given up.
    let open = gateway.request(reqwest::Method::GET, "/uploads?status=uploading").bearer_auth(KEY).send().await;
    let open: serde_json::Value = open.expect("an answer").json().await.expect("JSON");
    assert_eq!(open["uploads"].as_array().map(Vec::len), Some(0), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_takes_a_megabyte() {
    let gateway = gateway().await;
    // What nginx does when nobody says otherwise.
    let nginx = Nginx::before(gateway.address, "proxy_request_buffering off; proxy_http_version 1.1;").await;
    let examined = through(&gateway, &nginx.url()).await;
    examined.first_fails_at("body limit", "18. nginx with a 1 MiB body limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_buffers() {
    let gateway = gateway().await;
    let nginx = Nginx::before(gateway.address, "client_max_body_size 0;").await;
    let examined = through(&gateway, &nginx.url()).await;
    examined.first_fails_at("buffering", "19. nginx that buffers").has("ok", "body limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_drops_retry_after() {
    let gateway = gateway().await;
    let nginx = Nginx::before(gateway.address, &format!("{STREAMS} proxy_hide_header Retry-After;")).await;
    let examined = through(&gateway, &nginx.url()).await;
    examined.first_fails_at("headers", "20. A proxy that drops Retry-After");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_impatient_and_one_that_puts_its_own_pages() {
    let gateway = gateway().await;
    let impatient = STREAMS.replace("proxy_read_timeout 300s", "proxy_read_timeout 5s");
    let impatient = Nginx::before(gateway.address, &impatient).await;
    let own =
        Nginx::before(gateway.address, &format!("{STREAMS} proxy_intercept_errors on; error_page 503 /none.html;"))
            .await;
    let twice =
        Nginx::before(gateway.address, &format!("{STREAMS} add_header Access-Control-Allow-Origin {ORIGIN} always;"))
            .await;
    let urls = [impatient.url(), own.url(), twice.url()];
    let (impatient, own, twice) =
        tokio::join!(through(&gateway, &urls[0]), through(&gateway, &urls[1]), through(&gateway, &urls[2]));
    impatient.first_fails_at("time-outs", "A proxy that does not wait");
    own.first_fails_at("headers", "A proxy with pages of its own");
    twice.first_fails_at("cors", "A proxy that adds a CORS header");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_and_without_a_gateway() {
    let gateway = gateway().await;
    let arguments = |url: &str| Patient::new(Vec::new()).argue(&["--url", url]);
    let keyless = arguments(&gateway.url("")).examine(gateway.folder.path()).await;
    keyless.first_fails_at("access", "A gateway that asks for a key").has("ok", "buffering").has("skipped", "upload");
    let nobody = Nginx::before(crate::harness::free_address(), STREAMS).await;
    let behind = arguments(&nobody.url()).examine(gateway.folder.path()).await;
    behind.first_fails_at("gateway", "A proxy that does not reach the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_under_a_refusal() {
    let gateway = gateway().await;
    let cable = Cable::to(gateway.address).await;
    // The refusal is on its way when the line breaks.
    cable.down(Weather { latency: Duration::from_secs(1), ..Weather::CALM });
    cable.up(Weather::after(4 << 20, End::Reset));
    let examined = through(&gateway, &format!("http://{}", cable.address)).await;
    examined.first_fails_at("early refusals", "A connection that is cut under a refusal").has("ok", "buffering");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_with_room_for_two() {
    let gateway = gateway().await;
    let nginx = Nginx::with_room_for(2, gateway.address, STREAMS).await;
    let examined = through(&gateway, &nginx.url()).await;
    examined.first_fails_at("parallel connections", "A limit for connections").has("ok", "time-outs");
}
