//! The log: a line is one event, whatever a client sends.

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::{say, send, with_query};
use crate::access::{KEY, TOKENS};
use crate::harness::{Gateway, On};
use crate::openapi::contract::{chunk_fields, with_form};

/// Ends a line, colours it, rubs it out, turns it around; forges another.
const HOSTILE: [&str; 6] = [
    "a\nforged\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "\u{1b}[2K\u{1b}[1A\u{1b}[31mforged\u{1b}]0;forged\u{7}",
    "\u{9b}31mforged\u{9d}0;forged\u{9c}\u{85}forged",
    "\u{202e}degrof\u{2066}\u{200f}",
    "a\u{2028}forged\u{2029}forged\u{8}\u{c}\u{b}\u{7f}",
    "\",\"level\":\"ERROR\",\"message\":\"forged",
];

fn is_tame(line: &str) -> bool {
    !line.chars().any(|c| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Everything that a client says and that may be logged.
async fn provoke(gateway: &Gateway) {
    for (nth, text) in HOSTILE.into_iter().enumerate() {
        let id = format!("f{nth}");
        let ask = |method: Method, path: &str| gateway.request(method, path).bearer_auth(KEY);
        // In JSON: as a name, and where it cannot be.
        let wanted = json!({"fileId": id, "fileName": text, "fileSize": 5, "metadata": {text: text}});
        assert_eq!(send(ask(Method::POST, "/uploads").json(&wanted)).await.status, 201);
        assert_eq!(send(ask(Method::PUT, &format!("/chunks/{id}/0")).body("hello")).await.json["complete"], true);
        for body in [
            json!({"fileName": "a", "fileSize": text}),
            json!({"fileId": text, "fileName": "a", "fileSize": 5}),
            json!({"fileName": "a", "fileSize": 5, "contentType": text}),
            json!({"fileName": "a", "fileSize": 5, "checksum": {"algorithm": text, "value": text}}),
        ] {
            assert_eq!(send(ask(Method::POST, "/uploads").json(&body)).await.status, 400);
        }
        send(ask(Method::POST, "/auth/tokens").json(&json!({"subject": text, text: text}))).await;
        send(gateway.request(Method::POST, "/auth/refresh").json(&json!({"refreshToken": text, text: 1}))).await;
        // In a form's fields and heads, in queries, in paths.
        let fields = [&chunk_fields("x", text, "1")[..], &[("checksum", text), ("contentType", text)]].concat();
        send(with_form(ask(Method::POST, "/chunks"), &fields, b"hello")).await;
        let fields = [&chunk_fields("x", "0", "1")[..], &[("autoComplete", text)]].concat();
        send(with_form(ask(Method::POST, "/chunks"), &fields, b"hello")).await;
        let query = [("owner", text), ("limit", text), ("cursor", text), ("status", text), (text, text)];
        send(ask(Method::GET, &with_query("/uploads", &query))).await;
        send(ask(Method::GET, &with_query("/files", &[("since", text), ("contentType", text), ("prefix", text)])))
            .await;
        send(gateway.request(Method::GET, &with_query("/files/x/content", &[("signature", text), ("owner", text)])))
            .await;
        let path = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        for path in [format!("/uploads/{path}"), format!("/{path}"), format!("/chunks/x/{path}")] {
            send(ask(Method::PUT, &path).body("hello")).await;
        }
        // In headers, as far as those can say it.
        let plain: Vec<u8> = text.bytes().filter(|b| *b >= 0x20 && *b != 0x7f).collect();
        let value = HeaderValue::from_bytes(&plain).expect("a value");
        for name in
            ["User-Agent", "Content-Encoding", "Content-Type", "Authorization", "Origin", "Host", "X-Request-Id"]
        {
            for (method, path) in
                [(Method::POST, "/chunks"), (Method::PUT, "/chunks/x/0"), (Method::OPTIONS, "/chunks")]
            {
                let request = gateway.request(method, path).header(name, value.clone());
                let _ = request.header("Access-Control-Request-Method", "PUT").body("hello").send().await;
            }
        }
        // And raw, which no decent client sends.
        for line in [
            "GET /forged\u{1b}[31m HTTP/1.1",
            "GET /\u{9b}forged HTTP/1.1",
            "\u{1b}[31mGET / HTTP/1.1",
            "GET / HTTP/1.1\r\nX: \u{1b}[31m",
        ] {
            say(gateway.address, format!("{line}\r\nHost: {}\r\n\r\n", gateway.address).as_bytes()).await;
        }
    }
}

async fn lines(format: &str) -> Vec<String> {
    let settings = [("LOG__FORMAT", format), ("LOG__LEVEL", "debug"), ("CORS__ALLOWED_ORIGINS", "https://good.com")];
    let gateway = Gateway::start_with(On::FileAndSqlite, &[&TOKENS[..], &settings].concat()).await;
    provoke(&gateway).await;
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    let lines: Vec<String> = log.split('\n').map(ToOwned::to_owned).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 100, "{}", lines.len());
    for line in &lines {
        assert!(is_tame(line), "{format}: {line:?}");
        assert!(line.len() < 4000, "{line}");
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_people_is_one_event() {
    for line in lines("text").await {
        // Each begins with its time.
        assert!(line.get(..4).is_some_and(|year| year.bytes().all(|b| b.is_ascii_digit())), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_machines_is_one_event() {
    for line in lines("json").await {
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_ne!(event["level"], "ERROR", "{line}");
        assert_ne!(event["message"], "forged", "{line}");
    }
}
