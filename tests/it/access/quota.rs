//! Quotas and caps, beaten upon by many at once: never passed by one byte or
//! one upload, and given back.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{KEY, ask, gateway, log_in, put_chunk, put_file};
use crate::harness::{Gateway, On};
use crate::openapi::contract::{chunk_fields, with_form};

async fn used(gateway: &Gateway, token: &str) -> u64 {
    // Too large for any quota: the refusal says what is used.
    let huge = json!({"fileName": "a", "fileSize": 1u64 << 40});
    let refused = ask(gateway, token, Method::POST, "/uploads", Some(huge)).await;
    refused.is_refused(413, "quota_exceeded").json["usedBytes"].as_u64().expect("bytes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_against_many_at_once_and_is_given_back() {
    for on in On::BOTH {
        let here = gateway(on, &[("LIMITS__QUOTA_BYTES", "10000")]).await;
        let a = log_in(&here, json!({"subject": "a", "scope": "uploads:write files:read files:write"})).await;
        let token = &a.access;
        // Of 64 that want 999 bytes each, ten have room.
        let made = join_all((0..64).map(async |nth| {
            let wanted = json!({"fileId": format!("u{nth}"), "fileName": "a", "fileSize": 999});
            ask(&here, token, Method::POST, "/uploads", Some(wanted)).await.status.as_u16()
        }))
        .await;
        assert_eq!(made.iter().filter(|status| **status == 201).count(), 10, "{on:?}: {made:?}");
        assert!(made.iter().all(|status| matches!(status, 201 | 413)));
        assert_eq!(used(&here, token).await, 9990);
        // Another's is another's.
        let b = log_in(&here, json!({"subject": "b"})).await;
        assert_eq!(put_file(&here, &b.access, "fileName=f", &[1; 10_000]).await.status, 201);
        // Given back by who gives up, kept by who completes, given back by who deletes.
        let ids: Vec<usize> = (0..64).filter(|nth| made[*nth] == 201).collect();
        for id in &ids[1..] {
            assert_eq!(ask(&here, token, Method::DELETE, &format!("/uploads/u{id}"), None).await.status, 204);
        }
        let first = format!("u{}", ids[0]);
        assert_eq!(put_chunk(&here, token, &format!("/chunks/{first}/0"), &[7; 999]).await.json["complete"], true);
        assert_eq!(used(&here, token).await, 999);
        // Small files, many at once as well.
        let put = join_all((0..64).map(async |nth| {
            put_file(&here, token, &format!("fileName=f&fileId=f{nth}"), &[1; 500]).await.status.as_u16()
        }))
        .await;
        assert_eq!(put.iter().filter(|status| **status == 201).count(), 18, "{on:?}: {put:?}");
        assert_eq!(used(&here, token).await, 9999);
        for nth in (0..64).filter(|nth| put[*nth] == 201) {
            assert_eq!(ask(&here, token, Method::DELETE, &format!("/files/f{nth}"), None).await.status, 204);
        }
        assert_eq!(ask(&here, token, Method::DELETE, &format!("/files/{first}"), None).await.status, 204);
        assert_eq!(used(&here, token).await, 0);
    }
}

/// The size of an upload by forms is learnt from its chunks.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_learnt_is_reserved_as_it_is_learnt() {
    for on in On::BOTH {
        let chunk = 100 << 10;
        let here = gateway(on, &[("LIMITS__QUOTA_BYTES", &(3 * chunk).to_string())]).await;
        let form = async |id: &str, index: usize, count: usize, bytes: usize| {
            let (index, count) = (index.to_string(), count.to_string());
            let fields = chunk_fields(id, &index, &count);
            let request = here.request(Method::POST, "/chunks").bearer_auth(KEY);
            super::send(with_form(request, &fields, &vec![b'a'; bytes])).await
        };
        form("large", 0, 4, chunk).await.is_refused(413, "quota_exceeded");
        assert_eq!(form("fits", 0, 3, chunk).await.status, 200);
        assert_eq!(used(&here, KEY).await, 3 * chunk as u64);
        form("more", 0, 1, 1).await.is_refused(413, "quota_exceeded");
        // The last is larger than the others: it would be one byte too many.
        form("fits", 2, 3, chunk + 1).await.is_refused(413, "quota_exceeded");
        assert_eq!(form("fits", 2, 3, 7).await.status, 200);
        assert_eq!(form("fits", 1, 3, chunk).await.json["complete"], true);
        assert_eq!(used(&here, KEY).await, 2 * chunk as u64 + 7, "what was too much is given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_uploads_are_capped_against_many_at_once() {
    for on in On::BOTH {
        let here = gateway(on, &[("LIMITS__MAX_OPEN_UPLOADS", "5")]).await;
        for _ in 0..2 {
            let made = join_all((0..64).map(async |nth| {
                let wanted = json!({"fileId": format!("u{nth}"), "fileName": "a", "fileSize": 9});
                (nth, ask(&here, KEY, Method::POST, "/uploads", Some(wanted)).await)
            }))
            .await;
            let (yes, no): (Vec<_>, Vec<_>) = made.into_iter().partition(|(_, answer)| answer.status == 201);
            assert_eq!(yes.len(), 5, "{on:?}");
            for (_, answer) in &no {
                answer.is_refused(429, "too_many_uploads");
                assert!(answer.headers.contains_key("retry-after"));
            }
            for (nth, _) in yes {
                assert_eq!(ask(&here, KEY, Method::DELETE, &format!("/uploads/u{nth}"), None).await.status, 204);
            }
        }
    }
}
