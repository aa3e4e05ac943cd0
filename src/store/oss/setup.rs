//! From what is configured to what the store needs, or to all that is wrong
//! with it. Pure.

use std::fmt;

use http::HeaderMap;
use http::header::InvalidHeaderValue;

use crate::domain::Timestamp;
use crate::store::oss::sign::{self, Request, Signer};
use crate::store::oss::{OssConfig, SignatureVersion, endpoint};
use crate::store::remote::client::Sign;
use crate::store::remote::endpoint::{Endpoint, NoEndpoint};
use crate::store::remote::request::Call;
use crate::store::remote::setup::{Mistake, given, in_environment};
use crate::units::Secret;

/// Who we are to OSS.
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub access_key_secret: Secret,
    /// The STS token that came with the two.
    pub security_token: Option<Secret>,
}

/// Who signs, and how.
pub struct Identity {
    /// The signature.
    pub version: SignatureVersion,
    /// The region that V4 signs for; empty with V1, which names none.
    pub region: String,
    /// Who we are.
    pub credentials: Credentials,
}

impl Identity {
    /// As the signatures take it.
    pub fn signer(&self) -> Signer<'_> {
        Signer {
            access_key_id: &self.credentials.access_key_id,
            access_key_secret: self.credentials.access_key_secret.expose(),
            security_token: self.credentials.security_token.as_ref().map(Secret::expose),
            region: &self.region,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("version", &self.version).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Sign for Identity {
    fn sign(
        &self,
        at: Timestamp,
        endpoint: &Endpoint,
        call: &Call<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), InvalidHeaderValue> {
        let (method, bucket) = (call.method.as_str(), Some(endpoint.bucket.as_str()));
        let request = Request { method, bucket, key: call.key, query: &call.query };
        sign::sign(self.version, &self.signer(), at, &request, headers)
    }
}

/// What the store is made of.
pub struct Setup {
    /// Where our own calls go.
    pub endpoint: Endpoint,
    /// Where URLs point that are given out.
    pub public: Endpoint,
    /// Who signs.
    pub identity: Identity,
}

impl Setup {
    /// `env` is asked for what the configuration leaves open.
    pub fn of(oss: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut keep = |mistake: Mistake| mistakes.push(mistake);
        let endpoint = own_endpoint(oss).map_err(&mut keep).ok();
        let public = public_endpoint(oss, endpoint.as_ref()).map_err(&mut keep).ok().flatten();
        let region = region(oss).map_err(&mut keep).ok();
        let (id, secret) = (access_key_id(oss, env).map_err(&mut keep), access_key_secret(oss, env).map_err(&mut keep));
        let (Some(endpoint), Some(public), Some(region), Ok(access_key_id), Ok(access_key_secret)) =
            (endpoint, public, region, id, secret)
        else {
            return Err(mistakes);
        };
        let security_token = security_token(oss, env);
        let credentials = Credentials { access_key_id, access_key_secret, security_token };
        let identity = Identity { version: oss.signature, region, credentials };
        Ok(Self { endpoint, public, identity })
    }
}

fn own_endpoint(oss: &OssConfig) -> Result<Endpoint, Mistake> {
    const KEY: &str = "store.oss.endpoint";
    let text = given(oss.endpoint.as_deref()).ok_or_else(|| {
        Mistake::new(KEY, "must be set when store.kind is oss, for example to oss-cn-hangzhou.aliyuncs.com")
    })?;
    endpoint::parse(text, oss.bucket.as_deref(), oss.path_style, oss.cname).map_err(|no| match no {
        NoEndpoint::Text(advice) => Mistake { key: KEY, advice },
        NoEndpoint::Bucket(advice) => Mistake { key: "store.oss.bucket", advice },
    })
}

/// The one that is configured, else our own. None when it is only our own that
/// is wrong, which is told already.
fn public_endpoint(oss: &OssConfig, own: Option<&Endpoint>) -> Result<Option<Endpoint>, Mistake> {
    let (Some(text), Some(own)) = (given(oss.public_endpoint.as_deref()), own) else { return Ok(own.cloned()) };
    let parsed = endpoint::parse(text, Some(&own.bucket), oss.path_style && !oss.cname, oss.cname);
    parsed.map(Some).map_err(|no| {
        // The bucket is our own endpoint's: what does not fit it is this text.
        let (NoEndpoint::Text(advice) | NoEndpoint::Bucket(advice)) = no;
        Mistake { key: "store.oss.public_endpoint", advice }
    })
}

/// The region that is configured, else the endpoint's, else the public one's.
fn region(oss: &OssConfig) -> Result<String, Mistake> {
    let said = |text: Option<&str>| given(text).and_then(endpoint::region_in);
    let region = given(oss.region.as_deref())
        .map(endpoint::bare_region)
        .or_else(|| said(oss.endpoint.as_deref()))
        .or_else(|| said(oss.public_endpoint.as_deref()));
    match (region, oss.signature) {
        (Some(region), _) => Ok(region),
        (None, SignatureVersion::V1) => Ok(String::new()),
        (None, SignatureVersion::V4) => Err(Mistake::new(
            "store.oss.region",
            "must be set, for example to cn-hangzhou: V4 signatures name it, and the endpoint does not say it",
        )),
    }
}

fn access_key_id(oss: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Mistake> {
    let own = given(oss.access_key_id.as_deref()).map(|id| id.trim().to_owned());
    own.or_else(|| in_environment(env, "OSS_ACCESS_KEY_ID"))
        .ok_or_else(|| Mistake::new("store.oss.access_key_id", "must be set, here or as OSS_ACCESS_KEY_ID"))
}

fn access_key_secret(oss: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, Mistake> {
    let own = oss.access_key_secret.clone().filter(|secret| given(Some(secret.expose())).is_some());
    own.or_else(|| in_environment(env, "OSS_ACCESS_KEY_SECRET").map(Secret::new))
        .ok_or_else(|| Mistake::new("store.oss.access_key_secret", "must be set, here or as OSS_ACCESS_KEY_SECRET"))
}

/// A token belongs to its key: one of the environment is not mixed with a
/// configured key.
fn security_token(oss: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    let own = oss.security_token.clone().filter(|token| given(Some(token.expose())).is_some());
    match (given(oss.access_key_id.as_deref()), own) {
        (None, None) => in_environment(env, "OSS_SESSION_TOKEN").map(Secret::new),
        (_, own) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistaken(oss: &OssConfig) -> Vec<&'static str> {
        let setup = Setup::of(oss, &|_| None);
        setup.err().unwrap_or_default().into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let keys = ["store.oss.access_key_id", "store.oss.access_key_secret"];
        let of = |endpoint: &str, bucket: &str| OssConfig {
            endpoint: Some(endpoint.to_owned()),
            bucket: Some(bucket.to_owned()),
            ..OssConfig::default()
        };
        assert_eq!(mistaken(&of("oss-cn-beijing", "media")), keys);
        assert_eq!(mistaken(&of("oss-cn-beijing", "B!")), [&["store.oss.bucket"][..], &keys].concat());
        let unknown_place = ["store.oss.bucket", "store.oss.region"];
        assert_eq!(mistaken(&of("127.0.0.1:9000", "")), [&unknown_place[..], &keys].concat());
        let no_place = ["store.oss.endpoint", "store.oss.region"];
        assert_eq!(mistaken(&of("", "media")), [&no_place[..], &keys].concat());
        let oss = OssConfig { public_endpoint: Some("a b".to_owned()), ..of("oss-cn-beijing", "media") };
        assert_eq!(mistaken(&oss), [&["store.oss.public_endpoint"][..], &keys].concat());
    }

    #[test]
    fn a_region_is_what_is_configured_or_what_an_endpoint_says() {
        let of = |endpoint: &str, public: Option<&str>, configured: Option<&str>| {
            region(&OssConfig {
                endpoint: Some(endpoint.to_owned()),
                public_endpoint: public.map(ToOwned::to_owned),
                region: configured.map(ToOwned::to_owned),
                ..OssConfig::default()
            })
            .ok()
        };
        assert_eq!(of("oss-cn-beijing", None, None).as_deref(), Some("cn-beijing"));
        assert_eq!(of("oss-accelerate", None, Some("oss-CN-hangzhou")).as_deref(), Some("cn-hangzhou"));
        assert_eq!(of("10.0.0.7", Some("oss-cn-shenzhen"), None).as_deref(), Some("cn-shenzhen"));
        assert_eq!(of("localhost:1", None, Some(" ")), None);
    }
}
