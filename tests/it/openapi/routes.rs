//! What is there to be asked is what the document describes, and no more.

use std::collections::BTreeSet;

use reqwest::Method;

use super::contract::{Contract, METHODS};
use crate::harness::{Answer, Gateway, On};

/// The page's own files are not the API.
const PAGE: [&str; 2] = ["/", "/page/app.js"];

/// Every `.route("/path", get(…).post(…))` of the public listener, and those
/// of the admin listener that are its own.
fn routes_of_the_program() -> BTreeSet<(String, String)> {
    let source = include_str!("../../../src/http/mod.rs");
    let routes = |listener: &str| {
        let (_, rest) = source.split_once(listener).expect("the listener's routes");
        routes_in(rest.split_once("\n}\n").expect("its end").0)
    };
    let administration = routes("pub fn admin(").into_iter().filter(|(path, _)| path.starts_with("/admin/"));
    routes("pub fn public(").into_iter().chain(administration).collect()
}

fn routes_in(function: &str) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for route in function.split(".route(\"").skip(1) {
        let (path, handlers) = route.split_once('"').expect("a path");
        let methods = METHODS.into_iter().filter(|method| handlers.contains(&format!("{method}(")));
        routes.extend(methods.map(|method| (path.to_owned(), method.to_owned())));
    }
    routes
}

#[test]
fn every_route_is_described_and_every_description_has_its_route() {
    let contract = Contract::read();
    let described = contract.operations().into_iter();
    // axum answers HEAD wherever it answers GET.
    let described: BTreeSet<(String, String)> = described
        .filter(|operation| operation.method != "head")
        .map(|operation| (operation.path.to_owned(), operation.method.to_owned()))
        .collect();
    assert_eq!(routes_of_the_program(), described);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_refused_with_those_that_there_are() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let described = contract.operations().into_iter().map(|operation| operation.path);
    let paths: BTreeSet<&str> = described.chain(PAGE).collect();
    for template in paths {
        let has = |method: &str| {
            let item = &contract.document["paths"][template];
            let is_read = matches!(method, "get" | "head");
            item[method].is_object() || (is_read && item["get"].is_object()) || (is_read && PAGE.contains(&template))
        };
        let expected: BTreeSet<String> =
            METHODS.into_iter().filter(|method| has(method)).map(str::to_ascii_uppercase).collect();
        let path = template.replace("{fileId}", "x").replace("{chunkIndex}", "0");
        let request = |method: Method, path: &str| {
            let is_administration = path.starts_with("/admin/");
            if is_administration { gateway.admin_request(method, path) } else { gateway.request(method, path) }
        };
        for method in METHODS.into_iter().chain(["trace", "brew"]).filter(|method| !has(method)) {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let answer = Answer::of(request(method.clone(), &path).send().await).await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            if method != Method::HEAD {
                answer.is_refused(405, "method_not_allowed");
                contract.hold_problem(&format!("{method} {path}"), &answer);
            }
            let allow = answer.headers["allow"].to_str().expect("ASCII");
            let allowed: BTreeSet<String> = allow.split(',').map(|method| method.trim().to_owned()).collect();
            assert_eq!(allowed, expected, "{method} {path}");
        }
        let options = Answer::of(request(Method::OPTIONS, &path).send().await).await;
        assert_eq!(options.status, 204, "{path}: {options:?}");
        assert!(options.headers.contains_key("x-request-id"));
        let allow = options.headers["allow"].to_str().expect("ASCII");
        let allowed: BTreeSet<&str> = allow.split(',').map(str::trim).filter(|method| *method != "OPTIONS").collect();
        assert!(allowed.into_iter().eq(expected.iter().map(String::as_str)), "{path}: {allow}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_are_not_found() {
    let contract = Contract::read();
    let gateway = Gateway::start(On::FileAndSqlite).await;
    let near = ["/uploads/", "//uploads", "/UPLOADS", "/uploads/x/y", "/chunks/x", "/chunks/x/0/"];
    let far =
        ["/nowhere", "/page/", "/page/../livez", "/metrics", "/admin", "/.env", "/%2e%2e/etc/passwd", "/%00", "/%ff"];
    for path in near.into_iter().chain(far) {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            let url = format!("http://{}{path}", gateway.address);
            let answer = Answer::of(gateway.http.request(method.clone(), url).send().await).await;
            if answer.status == 405 || answer.status == 200 {
                // `..` is resolved by the client already.
                assert!(path.contains("..") || path == "/chunks/x", "{method} {path}: {answer:?}");
                continue;
            }
            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            answer.is_refused(404, "not_found");
            contract.hold_problem(path, &answer);
        }
    }
}
