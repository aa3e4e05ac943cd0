//! Whether it is a gateway that answers, and whether it lets us in.

use reqwest::Method;

use super::site::{Answer, Site};
use crate::doctor::net::cors::header;
use crate::doctor::report::Verdict;

/// Whether what answers is a gateway.
pub(super) async fn gateway(site: &Site) -> Verdict {
    let answer = match site.ask(site.request(Method::GET, "/healthz")).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = "the connection is taken, and no request is answered";
            return Verdict::failed(error, why, "see the log of what stands first on the way (CDN, ingress, balancer)");
        }
    };
    let Some(checks) = answer.json["checks"].as_array() else { return somebody_else(&answer) };
    let ill = |check: &&serde_json::Value| check["status"] != "ok";
    let ill: Vec<&str> = checks.iter().filter(ill).filter_map(|check| check["name"].as_str()).collect();
    if ill.is_empty() {
        return Verdict::ok("chunkgate answers, and says that it is well");
    }
    Verdict::warning(
        format!("chunkgate answers, and says that its {} is failing", ill.join(" and ")),
        "uploads get 503",
        "run chunkgate doctor there, or ask its admin listener: GET /admin/doctor",
    )
}

fn somebody_else(answer: &Answer) -> Verdict {
    let server = header(&answer.headers, "server");
    let from = if server.is_empty() { String::new() } else { format!(" by {server}") };
    let location = header(&answer.headers, "location");
    let what = format!("/healthz is answered {}{from}, and not by chunkgate", answer.status);
    let (why, fix) = match answer.status {
        300..=399 => {
            ("browsers do not follow redirects of a preflight", format!("use the URL that it leads to: {location}"))
        }
        502 | 504 => (
            "what stands in front does not reach the gateway",
            "check the address it forwards to (proxy_pass), and that chunkgate listens there and not only on loopback"
                .to_owned(),
        ),
        503 => ("what stands in front has no gateway that is ready", "check the gateways' /readyz".to_owned()),
        _ => (
            "the requests end somewhere else",
            "check which name and path lead to the gateway: location / { proxy_pass http://127.0.0.1:8080; }"
                .to_owned(),
        ),
    };
    Verdict::failed(what, why, fix)
}

/// Whether we may upload; the gateway's sample of a refusal.
pub(super) async fn check(site: &Site) -> (Verdict, Option<Answer>) {
    // Its own id is given back, if it gets there.
    let request = site.request(Method::GET, "/doctor").header("x-request-id", &site.run);
    match site.ask(request).await {
        Err(error) => {
            (Verdict::failed(error, "no refusal comes through", "see the log of what stands in between"), None)
        }
        Ok(answer) => (judge(site, &answer), Some(answer)),
    }
}

fn judge(site: &Site, answer: &Answer) -> Verdict {
    let whose = if site.key.is_some() { "with the key that was given" } else { "without a key" };
    let refused = |why: &str, fix: &str| {
        Verdict::failed(format!("{whose} the answer is {} {}", answer.status, answer.code()), why, fix)
    };
    match (answer.status, answer.code()) {
        (503, "overloaded") => Verdict::ok(format!("{whose} one may upload")),
        (401, "") => refused(
            "something in front of the gateway asks for a password of its own",
            "let the API's paths through: auth_basic off; gateways know who asks",
        ),
        (401, _) if site.key.is_none() => {
            refused("this gateway asks who uploads", "give a key: --key ck_…, or an access token that may upload")
        }
        (401, _) => refused(
            answer.detail(),
            "give a key of auth.api_keys, or a fresh token; if it is right, something in between removes Authorization",
        ),
        (403, "host_not_allowed" | "origin_not_allowed") => refused(
            "without authentication a gateway serves this machine's own pages only, and the proxy forwards another Host",
            "set auth.mode = [\"keys\"] and auth.api_keys, or [\"tokens\"]",
        ),
        (403, code) if !code.is_empty() => {
            refused(answer.detail(), "use a key, or a token with the scope uploads:write")
        }
        (429, "rate_limited") => refused("limits.rate is used up", "wait, and try again"),
        // Not the gateway's words: `headers` tells what became of them.
        (503, _) => Verdict::ok(format!("{whose} one may upload, as far as what stands in between lets it be seen")),
        _ => refused(
            "the request does not reach the gateway, or one that knows no doctor",
            "forward all paths to the gateway: location / { proxy_pass http://127.0.0.1:8080; }",
        ),
    }
}
