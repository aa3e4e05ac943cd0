//! Credentials as files, commands, STS and the metadata service write them:
//! JSON, in each one's own words. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Credentials, Fetched};
use crate::domain::Timestamp;
use crate::units::Secret;

/// Names of the same thing, without case and underscores: OSS's SDKs, the
/// command line of Aliyun, and what AWS calls a credential process.
const ID: [&str; 1] = ["accesskeyid"];
const SECRET: [&str; 2] = ["accesskeysecret", "secretaccesskey"];
const TOKEN: [&str; 3] = ["securitytoken", "sessiontoken", "ststoken"];
const ENDS: [&str; 1] = ["expiration"];

/// Reads them; the error says what is missing, and nothing of what is there.
/// `now` is the time of whoever wrote them, as far as it is known.
pub(in crate::store) fn read(text: &str, now: Timestamp) -> Result<Fetched, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON (line {})", e.line()))?;
    let all = json.as_object().ok_or("it is not a JSON object")?;
    // STS puts them into a room of their own.
    let fields = all.get("Credentials").and_then(Value::as_object).unwrap_or(all);
    let of = |names: &[&str]| field(fields, names);
    let id = of(&ID).ok_or("it has no AccessKeyId")?;
    let secret = of(&SECRET).ok_or("it has no AccessKeySecret")?;
    let life = match of(&ENDS) {
        None => None,
        Some(text) => Some(life(text, now)?),
    };
    let credentials = Credentials {
        access_key_id: id.to_owned(),
        access_key_secret: Secret::new(secret),
        security_token: of(&TOKEN).map(Secret::new),
    };
    Ok(Fetched { credentials, life })
}

fn field<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let found = fields.iter().find(|(name, _)| names.contains(&plain(name).as_str()));
    found.and_then(|(_, value)| value.as_str()).map(str::trim).filter(|text| !text.is_empty())
}

/// For how long what ends then is good.
pub(in crate::store) fn life(ends: &str, now: Timestamp) -> Result<Duration, String> {
    let ends: jiff::Timestamp =
        ends.parse().map_err(|_| "its Expiration is not a time such as 2026-11-20T09:11:08Z".to_owned())?;
    let life = Timestamp::from_millis(ends.as_millisecond()).since(now);
    if life.is_zero() { Err("they have expired already".to_owned()) } else { Ok(life) }
}

/// When to ask for others: while a third of their life is left, but not so
/// early that an hour's token is asked for all the time.
pub(in crate::store) fn lead(life: Duration) -> Duration {
    const LEAD_MAX: Duration = Duration::from_secs(300);
    (life / 3).min(LEAD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_165_868_000); // 2026-11-20T09:11:08Z

    #[test]
    fn each_ones_words_are_understood() {
        for text in [
            r#"{"AccessKeyId": "ak", "AccessKeySecret": "sk", "SecurityToken": "t", "Expiration": "2026-11-20T10:11:08Z"}"#,
            r#"{"Code": "Success", "AccessKeyId": "ak", "AccessKeySecret": "sk", "SecurityToken": "t",
                "Expiration": "2026-11-20T10:11:08Z", "LastUpdated": "2026-11-20T04:11:08Z"}"#,
            r#"{"RequestId": "R", "Credentials": {"AccessKeyId": "ak", "AccessKeySecret": "sk", "SecurityToken": "t",
                "Expiration": "2026-11-20T10:11:08Z"}}"#,
            r#"{"mode": "StsToken", "access_key_id": "ak", "access_key_secret": "sk", "sts_token": "t",
                "expiration": "2026-11-20T18:11:08+08:00"}"#,
            r#"{"Version": 1, "AccessKeyId": "ak", "SecretAccessKey": "sk", "SessionToken": "t",
                "Expiration": "2026-11-20T10:11:08Z"}"#,
        ] {
            let read = read(text, NOW).expect(text);
            assert_eq!(read.credentials.access_key_id, "ak");
            assert_eq!(read.credentials.access_key_secret.expose(), "sk");
            assert_eq!(read.credentials.security_token.expect("a token").expose(), "t");
            assert_eq!(read.life, Some(Duration::from_secs(3600)));
        }
        let forever = read(r#"{"AccessKeyId": "ak", "AccessKeySecret": "sk"}"#, NOW).expect("a key");
        assert!(forever.life.is_none() && forever.credentials.security_token.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_without_what_is_there() {
        for (text, told) in [
            ("", "not JSON"),
            ("{\"AccessKeyId\": \"hush\"", "not JSON"),
            ("[\"hush\"]", "object"),
            (r#"{"AccessKeyId": " ", "AccessKeySecret": "hush"}"#, "AccessKeyId"),
            (r#"{"AccessKeyId": "ak", "Secret": "hush"}"#, "AccessKeySecret"),
            (r#"{"AccessKeyId": "ak", "AccessKeySecret": "hush", "Expiration": "hush"}"#, "Expiration"),
            (r#"{"AccessKeyId": "ak", "AccessKeySecret": "hush", "Expiration": "2026-11-20T09:11:08Z"}"#, "expired"),
        ] {
            let said = read(text, NOW).expect_err(text);
            assert!(said.contains(told) && !said.contains("hush"), "{said}");
        }
    }

    #[test]
    fn others_are_asked_for_in_time() {
        assert_eq!(lead(Duration::from_secs(3600)), Duration::from_secs(300));
        assert_eq!(lead(Duration::from_secs(3)), Duration::from_secs(1));
    }
}
