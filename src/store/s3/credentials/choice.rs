//! Which credentials are meant, from what is configured and what the
//! environment offers. Pure.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::roles::{AssumeRole, WebIdentity};
use crate::store::config::s3::{S3CredentialsConfig, S3CredentialsKind};
use crate::store::credentials::key::{Env, Key, Names, variable};
use crate::store::credentials::{Role, Source};
use crate::store::remote::endpoint::Endpoint;
use crate::store::remote::setup::{Mistake, given, in_environment};
use crate::store::s3::{S3Config, endpoint};

/// What the settings are called.
const NAMES: Names = Names {
    id: "store.s3.access_key_id",
    secret: "store.s3.access_key_secret",
    kind: "store.s3.credentials.kind",
    file: "store.s3.credentials.file",
    command: "store.s3.credentials.command",
    id_variable: "AWS_ACCESS_KEY_ID",
    secret_variable: "AWS_SECRET_ACCESS_KEY",
    token_variable: "AWS_SESSION_TOKEN",
};
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// What STS calls a session of ours when nobody says otherwise.
const SESSION_NAME: &str = "chunkgate";
/// STS gives out no shorter and no longer ones, in seconds.
const SESSION_SECONDS: RangeInclusive<u64> = 900..=43_200;

/// Where the bucket is, as far as STS cares.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As signatures name it.
    pub region: &'a str,
    /// None when it is not known.
    pub endpoint: Option<&'a Endpoint>,
}

/// The one source, or all that is wrong with it.
pub fn source(s3: &S3Config, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let (config, key) = (&s3.credentials, key(s3));
    let elsewhere = || key.elsewhere();
    match config.kind {
        None => offered(s3, place, env),
        Some(S3CredentialsKind::Static) => key.source(&|_| None),
        Some(S3CredentialsKind::AssumeRole) => assume_role(s3, place, env),
        Some(S3CredentialsKind::Environment) => elsewhere().and_then(|()| Key::unwritten(&NAMES).source(env)),
        Some(S3CredentialsKind::File) => elsewhere().and_then(|()| NAMES.of_file(config.file.as_ref())),
        Some(S3CredentialsKind::Command) => elsewhere().and_then(|()| NAMES.of_command(config.command.as_deref())),
        Some(S3CredentialsKind::WebIdentity) => elsewhere().and_then(|()| web_identity(config, place, env)),
    }
}

fn key(s3: &S3Config) -> Key<'_> {
    Key {
        names: &NAMES,
        id: s3.access_key_id.as_deref(),
        secret: s3.access_key_secret.as_ref(),
        token: s3.session_token.as_ref(),
    }
}

/// Nobody says which: what is written, here or in the environment, else what a
/// pod of Kubernetes has been told.
fn offered(s3: &S3Config, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let config = &s3.credentials;
    let speaks_of_another = config.file.is_some()
        || config.command.is_some()
        || config.role_arn.is_some()
        || config.web_identity_token_file.is_some();
    if speaks_of_another {
        let advice = "must be set: file, command, assume_role or web_identity, for which store.s3.credentials has more";
        return Err(vec![Mistake::new(NAMES.kind, advice)]);
    }
    let has_key = key(s3).is_written() || variable(env, NAMES.id_variable).is_some();
    if !has_key && [ROLE_ARN, TOKEN_FILE].into_iter().all(|name| in_environment(env, name).is_some()) {
        return web_identity(config, place, env);
    }
    key(s3).source(env)
}

fn assume_role(s3: &S3Config, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    match (key(s3).source(env), role(&s3.credentials, place, env)) {
        (Ok(by), Ok(role)) => Ok(Source::Asked(Arc::new(AssumeRole { by, role, region: place.region.to_owned() }))),
        (by, role) => Err(by.err().into_iter().chain(role.err()).flatten().collect()),
    }
}

fn web_identity(config: &S3CredentialsConfig, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let token = config.web_identity_token_file.clone();
    let token = token.or_else(|| in_environment(env, TOKEN_FILE).map(PathBuf::from));
    match (token, role(config, place, env)) {
        (Some(token), Ok(role)) => Ok(Source::Asked(Arc::new(WebIdentity { token, role }))),
        (token, role) => {
            let advice = format!("must be set, here or as {TOKEN_FILE}");
            let no_token =
                token.is_none().then(|| Mistake::new("store.s3.credentials.web_identity_token_file", advice));
            Err(role.err().into_iter().flatten().chain(no_token).collect())
        }
    }
}

fn role(config: &S3CredentialsConfig, place: Place<'_>, env: Env<'_>) -> Result<Role, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let own = |text: &Option<String>| given(text.as_deref()).map(|text| text.trim().to_owned());
    let arn = own(&config.role_arn).or_else(|| in_environment(env, ROLE_ARN)).unwrap_or_default();
    if !arn.starts_with("arn:") {
        let advice = "must be set to the role's ARN, such as arn:aws:iam::123456789012:role/uploads";
        mistakes.push(Mistake::new("store.s3.credentials.role_arn", advice));
    }
    if !SESSION_SECONDS.contains(&config.session_duration.as_secs()) {
        mistakes.push(Mistake::new("store.s3.credentials.session_duration", "must be between 15m and 12h"));
    }
    let session_name = own(&config.role_session_name).or_else(|| in_environment(env, "AWS_ROLE_SESSION_NAME"));
    let session_name = session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if !(2..=64).contains(&session_name.len()) || !session_name.bytes().all(is_plain) {
        let advice = "must be 2 to 64 of A-Z a-z 0-9 _ + = , . @ -";
        mistakes.push(Mistake::new("store.s3.credentials.role_session_name", advice));
    }
    let endpoint = sts_endpoint(config, place);
    if reqwest::Url::parse(&endpoint).is_err() {
        mistakes.push(Mistake::new(
            "store.s3.credentials.sts_endpoint",
            "must be an address such as https://sts.example.com",
        ));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Role {
        endpoint,
        arn,
        session_name,
        duration: config.session_duration,
        external_id: own(&config.external_id),
        policy: own(&config.policy),
    })
}

/// AWS has one in each region; MinIO answers where it stands.
fn sts_endpoint(config: &S3CredentialsConfig, place: Place<'_>) -> String {
    let configured = given(config.sts_endpoint.as_deref()).map(|text| text.trim().trim_end_matches('/').to_owned());
    let host = configured.unwrap_or_else(|| match place.endpoint {
        Some(own) if !endpoint::is_aws(own) => format!("{}://{}", own.scheme, own.authority),
        Some(_) | None => endpoint::sts_of_region(place.region),
    });
    if host.contains("://") { host } else { format!("https://{host}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::Secret;

    const PLACE: Place<'_> = Place { region: "eu-central-1", endpoint: None };

    fn kind(s3: &S3Config, variables: &[(&str, &str)]) -> Result<&'static str, Vec<&'static str>> {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let chosen = source(s3, PLACE, &env);
        chosen.map(|source| source.kind()).map_err(|wrong| wrong.iter().map(|mistake| mistake.key).collect())
    }

    fn of(credentials: S3CredentialsConfig) -> S3Config {
        S3Config { credentials, ..S3Config::default() }
    }

    fn with_key(s3: S3Config) -> S3Config {
        S3Config { access_key_id: Some("ak".to_owned()), access_key_secret: Some(Secret::new("sk")), ..s3 }
    }

    const POD: [(&str, &str); 2] = [(ROLE_ARN, "arn:aws:iam::1:role/r"), (TOKEN_FILE, "/token")];

    #[test]
    fn what_is_written_goes_before_what_the_environment_offers() {
        let none = S3Config::default();
        let keys = vec!["store.s3.access_key_id", "store.s3.access_key_secret"];
        assert_eq!(kind(&none, &[]), Err(keys.clone()));
        assert_eq!(kind(&with_key(none.clone()), &POD), Ok("static"));
        let key = [("AWS_ACCESS_KEY_ID_FILE", "/id"), ("AWS_SECRET_ACCESS_KEY", "sk")];
        assert_eq!(kind(&none, &[&key[..], &POD].concat()), Ok("environment"));
        assert_eq!(kind(&none, &POD), Ok("web_identity"));
        assert_eq!(kind(&none, &POD[..1]), Err(keys));
    }

    #[test]
    fn each_kind_asks_for_what_it_needs() {
        let plain = |kind| of(S3CredentialsConfig { kind: Some(kind), ..S3CredentialsConfig::default() });
        let key = ["store.s3.access_key_id", "store.s3.access_key_secret"];
        let role = "store.s3.credentials.role_arn";
        for (wanted, missing) in [
            (S3CredentialsKind::Static, key.to_vec()),
            (S3CredentialsKind::Environment, key.to_vec()),
            (S3CredentialsKind::File, vec!["store.s3.credentials.file"]),
            (S3CredentialsKind::Command, vec!["store.s3.credentials.command"]),
            (S3CredentialsKind::AssumeRole, [&key[..], &[role]].concat()),
            (S3CredentialsKind::WebIdentity, vec![role, "store.s3.credentials.web_identity_token_file"]),
        ] {
            assert_eq!(kind(&plain(wanted), &[]), Err(missing));
        }
        let both = with_key(plain(S3CredentialsKind::Command));
        assert_eq!(kind(&both, &[]), Err(vec![NAMES.kind]), "which of the two?");
        let unsaid = of(S3CredentialsConfig { command: Some("x".to_owned()), ..S3CredentialsConfig::default() });
        assert_eq!(kind(&with_key(unsaid), &[]), Err(vec![NAMES.kind]));
    }

    #[test]
    fn a_role_is_asked_for_where_its_region_is_or_where_the_server_stands() {
        let config = S3CredentialsConfig {
            role_arn: Some("arn:aws:iam::1:role/r".to_owned()),
            ..S3CredentialsConfig::default()
        };
        let endpoint = |text: &str, region: &str, config: &S3CredentialsConfig| {
            let own = endpoint::parse(text, Some("bkt"), false).expect(text);
            role(config, Place { region, endpoint: Some(&own) }, &|_| None).map(|role| role.endpoint).expect("a role")
        };
        assert_eq!(endpoint("eu-central-1", "eu-central-1", &config), "https://sts.eu-central-1.amazonaws.com");
        assert_eq!(endpoint("cn-north-1", "cn-north-1", &config), "https://sts.cn-north-1.amazonaws.com.cn");
        assert_eq!(endpoint("minio:9000", "us-east-1", &config), "http://minio:9000");
        let own = S3CredentialsConfig { sts_endpoint: Some("sts.example.com/".to_owned()), ..config.clone() };
        assert_eq!(endpoint("minio:9000", "us-east-1", &own), "https://sts.example.com");
        let wrong = S3CredentialsConfig {
            role_arn: Some("uploads".to_owned()),
            role_session_name: Some("a b".to_owned()),
            session_duration: Duration::from_secs(1),
            sts_endpoint: Some("a b".to_owned()),
            ..config
        };
        assert_eq!(role(&wrong, PLACE, &|_| None).err().map(|wrong| wrong.len()), Some(4));
    }
}
