//! Refresh tokens: each is used once, and what is used twice ends its login.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{KEY, Tokens, ask, gateway, log_in, refresh, send};
use crate::harness::{Gateway, On};

const LEEWAY: (&str, &str) = ("AUTH__REFRESH_LEEWAY", "2s");

async fn is_let_in(gateway: &Gateway, tokens: &Tokens) -> bool {
    let answer = ask(gateway, &tokens.access, Method::GET, "/uploads", None).await;
    if answer.status == 200 {
        return true;
    }
    answer.is_refused(401, "token_revoked");
    assert!(answer.headers["www-authenticate"].to_str().expect("ASCII").contains("invalid_token"));
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_that_asks_twice_at_once_gets_one_pair() {
    for on in On::BOTH {
        let here = gateway(on, &[LEEWAY]).await;
        let there = if on == On::OssAndPostgres { Some(here.neighbour().await) } else { None };
        let first = log_in(&here, json!({"subject": "u1", "deviceId": "phone"})).await;
        let other = there.as_ref().unwrap_or(&here);
        let all = tokio::join!(
            refresh(&here, &first.refresh, Some("phone")),
            refresh(other, &first.refresh, Some("phone")),
            refresh(&here, &first.refresh, Some("phone")),
            refresh(other, &first.refresh, Some("phone")),
        );
        let pairs = [&all.0, &all.1, &all.2, &all.3].map(Tokens::of);
        assert!(pairs.iter().all(|pair| *pair == pairs[0]), "{on:?}: {pairs:?}");
        assert_ne!(pairs[0], first);
        assert!(is_let_in(other, &pairs[0]).await);
        // A lost answer, a moment later.
        assert_eq!(Tokens::of(&refresh(&here, &first.refresh, Some("phone")).await), pairs[0]);
        // Its successor was used: now it is used twice.
        let next = Tokens::of(&refresh(&here, &pairs[0].refresh, Some("phone")).await);
        refresh(&here, &first.refresh, Some("phone")).await.is_refused(401, "token_reused");
        refresh(&here, &next.refresh, Some("phone")).await.is_refused(401, "token_revoked");
        assert!(!is_let_in(&here, &next).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_twice_ends_its_login_everywhere() {
    for on in On::BOTH {
        let here = gateway(on, &[LEEWAY]).await;
        let there = if on == On::OssAndPostgres { Some(here.neighbour().await) } else { None };
        for (device, late) in [(Some("laptop"), false), (Some("phone"), true), (None, false)] {
            let first = log_in(&here, json!({"subject": "u1", "deviceId": "phone"})).await;
            let second = Tokens::of(&refresh(&here, &first.refresh, Some("phone")).await);
            if late {
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            refresh(&here, &first.refresh, device).await.is_refused(401, "token_reused");
            assert!(!is_let_in(&here, &second).await && !is_let_in(&here, &first).await);
            refresh(&here, &second.refresh, Some("phone")).await.is_refused(401, "token_revoked");
            if let Some(there) = &there {
                tokio::time::timeout(Duration::from_secs(5), async {
                    while is_let_in(there, &second).await {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                })
                .await
                .expect("within five seconds");
            }
        }
        // Another login of the same subject goes on.
        let other = log_in(&here, json!({"subject": "u1"})).await;
        assert!(is_let_in(&here, &other).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_belongs_to_its_device_and_ends_with_its_time() {
    let here = gateway(On::FileAndSqlite, &[("AUTH__REFRESH_TTL", "2s"), ("AUTH__ACCESS_TTL", "1s")]).await;
    let tokens = log_in(&here, json!({"subject": "u1", "deviceId": "phone"})).await;
    for device in [None, Some("laptop")] {
        refresh(&here, &tokens.refresh, device).await.is_refused(401, "device_mismatch");
    }
    // Asking with the wrong name has ended nothing.
    let next = Tokens::of(&refresh(&here, &tokens.refresh, Some("phone")).await);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let late = ask(&here, &next.access, Method::GET, "/uploads", None).await;
    late.is_refused(401, "token_expired");
    refresh(&here, &next.refresh, Some("phone")).await.is_refused(401, "token_expired");
    for (wrong, code) in [
        ("", "token_malformed"),
        ("cr_", "token_malformed"),
        (KEY, "token_malformed"),
        (tokens.access.as_str(), "token_malformed"),
        (&format!("cr_{}.0.{}", "0".repeat(32), "A".repeat(43)), "unauthorized"),
        (&next.refresh.replace(".1.", ".0."), "unauthorized"),
    ] {
        refresh(&here, wrong, Some("phone")).await.is_refused(401, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_can_be_ended() {
    for on in On::BOTH {
        let mut here = gateway(on, &[]).await;
        let tokens = log_in(&here, json!({"subject": "u1"})).await;
        let next = Tokens::of(&refresh(&here, &tokens.refresh, None).await);
        // With any token of it.
        for _ in 0..2 {
            let body = json!({"refreshToken": tokens.refresh});
            assert_eq!(send(here.request(Method::POST, "/auth/revoke").json(&body)).await.status, 204);
            assert!(!is_let_in(&here, &next).await);
        }
        refresh(&here, &next.refresh, None).await.is_refused(401, "token_revoked");
        here.crash_and_restart().await;
        assert!(!is_let_in(&here, &next).await, "it is known after a restart");
        // And what was not ended still counts: the keys are the ledger's.
        let other = log_in(&here, json!({"subject": "u1"})).await;
        here.crash_and_restart().await;
        assert!(is_let_in(&here, &other).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_was_not_answered_is_answered_again_after_a_crash() {
    let mut here = gateway(On::FileAndSqlite, &[]).await;
    let first = log_in(&here, json!({"subject": "u1"})).await;
    let second = Tokens::of(&refresh(&here, &first.refresh, None).await);
    here.crash_and_restart().await;
    assert_eq!(Tokens::of(&refresh(&here, &first.refresh, None).await), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_of_one_login_are_limited() {
    let here = gateway(On::FileAndSqlite, &[("AUTH__REFRESH_RATE", "3/h")]).await;
    let mut tokens = log_in(&here, json!({"subject": "u1"})).await;
    let other = log_in(&here, json!({"subject": "u1"})).await;
    for _ in 0..3 {
        tokens = Tokens::of(&refresh(&here, &tokens.refresh, None).await);
    }
    let refused = refresh(&here, &tokens.refresh, None).await;
    refused.is_refused(429, "rate_limited");
    let wait: u64 = refused.headers["retry-after"].to_str().expect("ASCII").parse().expect("seconds");
    assert!((60..=1200).contains(&wait), "{refused:?}");
    assert_eq!(refresh(&here, &other.refresh, None).await.status, 200);
}
