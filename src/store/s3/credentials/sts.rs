//! What is asked of STS, as AWS has it and MinIO too, and what it answers. Pure.

use serde::Deserialize;

use crate::domain::Timestamp;
use crate::store::credentials::{Credentials, Fetched, Role, said};
use crate::store::remote::encode::encode_query;
use crate::store::remote::xml;
use crate::units::Secret;

/// The form of an `AssumeRole`, which is signed.
pub(super) fn assume_role(role: &Role) -> String {
    form("AssumeRole", role, [("ExternalId", role.external_id.as_deref())])
}

/// The form of an `AssumeRoleWithWebIdentity`, for which the token stands.
pub(super) fn assume_role_with_web_identity(role: &Role, token: &Secret) -> String {
    form("AssumeRoleWithWebIdentity", role, [("WebIdentityToken", Some(token.expose()))])
}

fn form(action: &str, role: &Role, own: [(&str, Option<&str>); 1]) -> String {
    let seconds = role.duration.as_secs().to_string();
    let all = [
        ("Action", Some(action)),
        ("Version", Some("2011-06-15")),
        ("RoleArn", Some(&*role.arn)),
        ("RoleSessionName", Some(&*role.session_name)),
        ("DurationSeconds", Some(&*seconds)),
        ("Policy", role.policy.as_deref()),
    ];
    let pair = |(name, value): (&str, Option<&str>)| Some((name.to_owned(), value?.to_owned()));
    encode_query(&all.into_iter().chain(own).filter_map(pair).collect::<Vec<_>>())
}

/// Reads what the action `action` answers. The error repeats nothing of it.
pub(super) fn read(action: &str, text: &str, now: Timestamp) -> Result<Fetched, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Session {
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        expiration: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Outcome {
        credentials: Session,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(alias = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
        outcome: Outcome,
    }
    let answer: Answer =
        xml::read(text, &format!("{action}Response")).map_err(|_| "it has no credentials".to_owned())?;
    let Session { access_key_id, secret_access_key, session_token, expiration } = answer.outcome.credentials;
    if [&access_key_id, &secret_access_key, &session_token].into_iter().any(String::is_empty) {
        return Err("it has no credentials".to_owned());
    }
    let life = said::life(&expiration, now)?;
    let (access_key_secret, security_token) = (Secret::new(secret_access_key), Some(Secret::new(session_token)));
    Ok(Fetched { credentials: Credentials { access_key_id, access_key_secret, security_token }, life: Some(life) })
}

/// Code and request id of a refusal; empty where it does not say them.
pub(super) fn refusal(text: &str) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Why {
        code: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Refusal {
        error: Why,
        request_id: String,
    }
    let Refusal { error, request_id } = xml::read(text, "ErrorResponse").unwrap_or_default();
    (error.code, request_id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_165_868_000); // 2026-11-20T09:11:08Z

    fn answer(action: &str, expiration: &str) -> String {
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser>\
             <Arn>arn</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>hush\
             </SecretAccessKey><SessionToken>t</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
             </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
        )
    }

    #[test]
    fn a_session_is_read_from_either_answer() {
        for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
            let fetched = read(action, &answer(action, "2026-11-20T10:11:08Z"), NOW).expect("a session");
            let Credentials { access_key_id, access_key_secret, security_token } = fetched.credentials;
            assert_eq!((access_key_id.as_str(), access_key_secret.expose()), ("ASIA", "hush"));
            assert_eq!(security_token.expect("a token").expose(), "t");
            assert_eq!(fetched.life, Some(Duration::from_secs(3600)));
        }
        for text in ["", "{}", "<AssumeRoleResponse>hush</AssumeRoleResponse>", &answer("AssumeRole", "hush")] {
            let told = read("AssumeRole", text, NOW).expect_err(text);
            assert!(!told.contains("hush"), "{told}");
        }
        assert!(read("AssumeRole", &answer("AssumeRole", "2026-11-20T09:11:08Z"), NOW).is_err(), "over already");
    }

    #[test]
    fn a_refusal_is_read() {
        let text = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>hush</Message></Error>\
                    <RequestId>r-1</RequestId></ErrorResponse>";
        assert_eq!(refusal(text), ("AccessDenied".to_owned(), "r-1".to_owned()));
        assert_eq!(refusal("<html>"), (String::new(), String::new()));
    }

    #[test]
    fn a_form_says_what_is_known_and_no_more() {
        let role = Role {
            endpoint: String::new(),
            arn: "arn:aws:iam::1:role/r".to_owned(),
            session_name: "s".to_owned(),
            duration: Duration::from_secs(900),
            external_id: None,
            policy: None,
        };
        let common =
            "&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=s&DurationSeconds=900";
        assert_eq!(assume_role(&role), format!("Action=AssumeRole{common}"));
        let by_token = assume_role_with_web_identity(&role, &Secret::new("a.b"));
        assert_eq!(by_token, format!("Action=AssumeRoleWithWebIdentity{common}&WebIdentityToken=a.b"));
        let more = Role { external_id: Some("x".to_owned()), policy: Some("{}".to_owned()), ..role };
        assert_eq!(assume_role(&more), format!("Action=AssumeRole{common}&Policy=%7B%7D&ExternalId=x"));
    }
}
