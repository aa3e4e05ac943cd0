//! Which credentials are meant, from what is configured and what the
//! environment offers. Pure.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::roles::{AssumeRole, EcsRole, OidcRole};
use crate::store::credentials::key::{Env, Key, Names, variable};
use crate::store::credentials::{Role, Source};
use crate::store::oss::{CredentialsConfig, CredentialsKind, OssConfig};
use crate::store::remote::setup::{Mistake, given};

/// What the settings are called.
const NAMES: Names = Names {
    id: "store.oss.access_key_id",
    secret: "store.oss.access_key_secret",
    kind: KIND,
    file: "store.oss.credentials.file",
    command: "store.oss.credentials.command",
    id_variable: "OSS_ACCESS_KEY_ID",
    secret_variable: "OSS_ACCESS_KEY_SECRET",
    token_variable: "OSS_SESSION_TOKEN",
};
const KIND: &str = "store.oss.credentials.kind";
/// What STS calls a session of ours when nobody says otherwise.
const SESSION_NAME: &str = "chunkgate";
/// STS gives out no shorter and no longer ones, in seconds.
const SESSION_SECONDS: RangeInclusive<u64> = 900..=43_200;

/// Where the bucket is, as far as STS cares.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Empty when it is not known.
    pub region: &'a str,
    /// Whether the store is reached from within Aliyun only; then STS is, too.
    pub is_internal: bool,
}

/// The one source, or all that is wrong with it.
pub fn source(oss: &OssConfig, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let (config, key) = (&oss.credentials, key(oss));
    let elsewhere = || key.elsewhere();
    match config.kind {
        None => offered(oss, place, env),
        Some(CredentialsKind::Static) => key.source(&|_| None),
        Some(CredentialsKind::AssumeRole) => assume_role(oss, place, env),
        Some(CredentialsKind::Environment) => elsewhere().and_then(|()| Key::unwritten(&NAMES).source(env)),
        Some(CredentialsKind::File) => elsewhere().and_then(|()| NAMES.of_file(config.file.as_ref())),
        Some(CredentialsKind::Command) => elsewhere().and_then(|()| NAMES.of_command(config.command.as_deref())),
        Some(CredentialsKind::EcsRole) => elsewhere().map(|()| ecs_role(config, env)),
        Some(CredentialsKind::OidcRole) => elsewhere().and_then(|()| oidc_role(config, place, env)),
    }
}

fn key(oss: &OssConfig) -> Key<'_> {
    Key {
        names: &NAMES,
        id: oss.access_key_id.as_deref(),
        secret: oss.access_key_secret.as_ref(),
        token: oss.security_token.as_ref(),
    }
}

/// Nobody says which: what is written, here or in the environment, else what a
/// pod of ACK or an ECS instance has been told.
fn offered(oss: &OssConfig, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let config = &oss.credentials;
    let speaks_of_another = config.file.is_some()
        || config.command.is_some()
        || config.role_arn.is_some()
        || config.oidc_provider_arn.is_some()
        || config.oidc_token_file.is_some()
        || config.ecs_role.is_some();
    if speaks_of_another {
        let advice = "must be set: file, command, assume_role, oidc_role or ecs_role, for which store.oss.credentials \
                      has more";
        return Err(vec![Mistake::new(KIND, advice)]);
    }
    let has = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    let has_key = key(oss).is_written() || variable(env, NAMES.id_variable).is_some();
    let of_pod = ["ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"];
    if !has_key && of_pod.into_iter().all(has) {
        return oidc_role(config, place, env);
    }
    if !has_key && has("ALIBABA_CLOUD_ECS_METADATA") {
        return Ok(ecs_role(config, env));
    }
    key(oss).source(env)
}

fn assume_role(oss: &OssConfig, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    let (by, role) = (key(oss).source(env), role(&oss.credentials, place, env));
    match (by, role) {
        (Ok(by), Ok(role)) => Ok(Source::Asked(Arc::new(AssumeRole { by, role }))),
        (by, role) => Err(by.err().into_iter().chain(role.err()).flatten().collect()),
    }
}

fn oidc_role(config: &CredentialsConfig, place: Place<'_>, env: Env<'_>) -> Result<Source, Vec<Mistake>> {
    const PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
    const TOKEN: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
    let provider = given(config.oidc_provider_arn.as_deref()).map(ToOwned::to_owned).or_else(|| env(PROVIDER));
    let token = config.oidc_token_file.clone().or_else(|| env(TOKEN).map(PathBuf::from));
    let missing = |key, name: &str| Mistake::new(key, format!("must be set, here or as {name}"));
    match (role(config, place, env), provider, token) {
        (Ok(role), Some(provider), Some(token)) => Ok(Source::Asked(Arc::new(OidcRole { provider, token, role }))),
        (role, provider, token) => {
            let provider = provider.is_none().then(|| missing("store.oss.credentials.oidc_provider_arn", PROVIDER));
            let token = token.is_none().then(|| missing("store.oss.credentials.oidc_token_file", TOKEN));
            Err(role.err().into_iter().flatten().chain(provider).chain(token).collect())
        }
    }
}

fn ecs_role(config: &CredentialsConfig, env: Env<'_>) -> Source {
    let role = given(config.ecs_role.as_deref()).map(ToOwned::to_owned).or_else(|| env("ALIBABA_CLOUD_ECS_METADATA"));
    let endpoint = config.metadata_endpoint.trim().trim_end_matches('/').to_owned();
    Source::Asked(Arc::new(EcsRole { endpoint, role: role.filter(|name| !name.trim().is_empty()) }))
}

fn role(config: &CredentialsConfig, place: Place<'_>, env: Env<'_>) -> Result<Role, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let own = |text: &Option<String>| given(text.as_deref()).map(|text| text.trim().to_owned());
    let arn = own(&config.role_arn).or_else(|| env("ALIBABA_CLOUD_ROLE_ARN"));
    match &arn {
        Some(arn) if arn.starts_with("acs:ram::") => {}
        _ => mistakes.push(Mistake::new(
            "store.oss.credentials.role_arn",
            "must be set to the role's ARN, such as acs:ram::1234567890123456:role/uploads",
        )),
    }
    if !SESSION_SECONDS.contains(&config.session_duration.as_secs()) {
        mistakes.push(Mistake::new("store.oss.credentials.session_duration", "must be between 15m and 12h"));
    }
    let session_name = own(&config.role_session_name).or_else(|| env("ALIBABA_CLOUD_ROLE_SESSION_NAME"));
    let session_name = session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".@-_".contains(&b);
    if !(2..=64).contains(&session_name.len()) || !session_name.bytes().all(is_plain) {
        mistakes
            .push(Mistake::new("store.oss.credentials.role_session_name", "must be 2 to 64 of A-Z a-z 0-9 . @ - _"));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Role {
        endpoint: sts_endpoint(config, place),
        arn: arn.unwrap_or_default(),
        session_name,
        duration: config.session_duration,
        external_id: own(&config.external_id),
        policy: own(&config.policy),
    })
}

fn sts_endpoint(config: &CredentialsConfig, place: Place<'_>) -> String {
    let host = match (given(config.sts_endpoint.as_deref()), place.region) {
        (Some(configured), _) => configured.trim().trim_end_matches('/').to_owned(),
        (None, "") => "sts.aliyuncs.com".to_owned(),
        (None, region) if place.is_internal => format!("sts-vpc.{region}.aliyuncs.com"),
        (None, region) => format!("sts.{region}.aliyuncs.com"),
    };
    if host.contains("://") { host } else { format!("https://{host}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::Secret;

    const PLACE: Place<'_> = Place { region: "cn-hangzhou", is_internal: false };

    fn kind(oss: &OssConfig, variables: &[(&str, &str)]) -> Result<&'static str, Vec<&'static str>> {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let chosen = source(oss, PLACE, &env);
        chosen.map(|source| source.kind()).map_err(|wrong| wrong.iter().map(|mistake| mistake.key).collect())
    }

    fn of(credentials: CredentialsConfig) -> OssConfig {
        OssConfig { credentials, ..OssConfig::default() }
    }

    fn with_key(oss: OssConfig) -> OssConfig {
        let secret = Some(Secret::new("sk"));
        OssConfig { access_key_id: Some("ak".to_owned()), access_key_secret: secret, ..oss }
    }

    const POD: [(&str, &str); 3] = [
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r"),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/token"),
    ];

    #[test]
    fn what_is_written_goes_before_what_the_environment_offers() {
        let none = OssConfig::default();
        let keys = vec!["store.oss.access_key_id", "store.oss.access_key_secret"];
        assert_eq!(kind(&none, &[]), Err(keys));
        assert_eq!(kind(&with_key(none.clone()), &POD), Ok("static"));
        let key = [("OSS_ACCESS_KEY_ID_FILE", "/id"), ("OSS_ACCESS_KEY_SECRET", "sk")];
        assert_eq!(kind(&none, &[&key[..], &POD].concat()), Ok("environment"));
        assert_eq!(kind(&none, &POD), Ok("oidc_role"));
        assert_eq!(kind(&none, &POD[..2]), Err(vec!["store.oss.access_key_id", "store.oss.access_key_secret"]));
        assert_eq!(kind(&none, &[("ALIBABA_CLOUD_ECS_METADATA", "role")]), Ok("ecs_role"));
    }

    #[test]
    fn each_kind_asks_for_what_it_needs() {
        let plain = |kind| of(CredentialsConfig { kind: Some(kind), ..CredentialsConfig::default() });
        for (wanted, missing) in [
            (CredentialsKind::Static, vec!["store.oss.access_key_id", "store.oss.access_key_secret"]),
            (CredentialsKind::Environment, vec!["store.oss.access_key_id", "store.oss.access_key_secret"]),
            (CredentialsKind::File, vec!["store.oss.credentials.file"]),
            (CredentialsKind::Command, vec!["store.oss.credentials.command"]),
            (
                CredentialsKind::AssumeRole,
                vec!["store.oss.access_key_id", "store.oss.access_key_secret", "store.oss.credentials.role_arn"],
            ),
            (
                CredentialsKind::OidcRole,
                vec![
                    "store.oss.credentials.role_arn",
                    "store.oss.credentials.oidc_provider_arn",
                    "store.oss.credentials.oidc_token_file",
                ],
            ),
        ] {
            assert_eq!(kind(&plain(wanted), &[]), Err(missing));
        }
        assert_eq!(kind(&plain(CredentialsKind::EcsRole), &[]), Ok("ecs_role"));
        assert_eq!(kind(&with_key(plain(CredentialsKind::EcsRole)), &[]), Err(vec![KIND]), "which of the two?");
        let unsaid = of(CredentialsConfig { command: Some("x".to_owned()), ..CredentialsConfig::default() });
        assert_eq!(kind(&with_key(unsaid), &[]), Err(vec![KIND]));
    }

    #[test]
    fn a_role_is_asked_for_where_its_region_is() {
        let ask = |config: &CredentialsConfig, place| role(config, place, &|_| None);
        let config =
            CredentialsConfig { role_arn: Some("acs:ram::1:role/r".to_owned()), ..CredentialsConfig::default() };
        let endpoint = |place| ask(&config, place).map(|role| role.endpoint).expect("a role");
        assert_eq!(endpoint(PLACE), "https://sts.cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint(Place { is_internal: true, ..PLACE }), "https://sts-vpc.cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint(Place { region: "", is_internal: true }), "https://sts.aliyuncs.com");
        let wrong = CredentialsConfig {
            role_arn: Some("uploads".to_owned()),
            role_session_name: Some("a b".to_owned()),
            session_duration: Duration::from_secs(1),
            ..config
        };
        assert_eq!(ask(&wrong, PLACE).err().map(|wrong| wrong.len()), Some(3));
    }
}
