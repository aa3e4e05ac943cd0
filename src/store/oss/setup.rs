//! From what is configured to what the store needs, or to all that is wrong
//! with it. Pure.

use crate::store::credentials::Source;
use crate::store::oss::credentials::choice::{self, Place};
use crate::store::oss::object::ObjectHeaders;
use crate::store::oss::{OssConfig, SignatureVersion, endpoint};
use crate::store::remote::endpoint::{Endpoint, NoEndpoint};
use crate::store::remote::setup::{Mistake, given};

/// What the store is made of.
pub struct Setup {
    /// Where our own calls go.
    pub endpoint: Endpoint,
    /// Where URLs point that are given out.
    pub public: Endpoint,
    /// The region that V4 signs for; empty with V1, which names none.
    pub region: String,
    /// Who we are.
    pub credentials: Source,
    /// What objects are made with.
    pub object: ObjectHeaders,
}

impl Setup {
    /// `env` is asked for what the configuration leaves open.
    pub fn of(oss: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut keep = |mistake: Mistake| mistakes.push(mistake);
        let endpoint = own_endpoint(oss).map_err(&mut keep).ok();
        let public = public_endpoint(oss, endpoint.as_ref()).map_err(&mut keep).ok().flatten();
        let region = region(oss).map_err(&mut keep).ok();
        let place = Place {
            region: region.as_deref().unwrap_or_default(),
            is_internal: endpoint.as_ref().is_some_and(endpoint::is_internal),
        };
        let credentials = choice::source(oss, place, env).map_err(|more| mistakes.extend(more)).ok();
        let object = ObjectHeaders::of(&oss.object).map_err(|more| mistakes.extend(more)).ok();
        let (Some(endpoint), Some(public), Some(region), Some(credentials), Some(object)) =
            (endpoint, public, region, credentials, object)
        else {
            return Err(mistakes);
        };
        Ok(Self { endpoint, public, region, credentials, object })
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
    let parsed = parsed.map_err(|no| {
        // The bucket is our own endpoint's: what does not fit it is this text.
        let (NoEndpoint::Text(advice) | NoEndpoint::Bucket(advice)) = no;
        Mistake { key: "store.oss.public_endpoint", advice }
    })?;
    if endpoint::is_internal(&parsed) {
        let advice = "is an internal endpoint, which nobody reaches from outside of Aliyun: set it to the public one";
        return Err(Mistake::new("store.oss.public_endpoint", advice));
    }
    Ok(Some(parsed))
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
            "must be set, for example to cn-hangzhou: V4 signatures name it, and a domain of one's own, an address or \
             an acceleration endpoint does not say it",
        )),
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
    fn what_cannot_work_together_is_refused_with_the_reason() {
        let told = |oss: OssConfig| {
            let env = |name: &str| {
                Some(name.to_owned()).filter(|name| name.starts_with("OSS_ACCESS") && !name.ends_with("FILE"))
            };
            let setup = Setup::of(&OssConfig { bucket: Some("media".to_owned()), ..oss }, &env);
            setup.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let at = |endpoint: &str| OssConfig { endpoint: Some(endpoint.to_owned()), ..OssConfig::default() };
        assert_eq!(told(at("oss-cn-beijing")), "");
        assert_eq!(told(OssConfig { signature: SignatureVersion::V1, cname: true, ..at("files.example.com") }), "");
        for (oss, key, why) in [
            (OssConfig { cname: true, ..at("files.example.com") }, "store.oss.region", "V4 signatures name it"),
            (at("oss-accelerate"), "store.oss.region", "acceleration"),
            (at("oss-accelerate-internal"), "store.oss.endpoint", "no internal acceleration"),
            (OssConfig { path_style: true, ..at("oss-cn-beijing") }, "store.oss.endpoint", "path_style"),
            (OssConfig { path_style: true, cname: true, ..at("files.example.com") }, "store.oss.endpoint", "both"),
            (
                OssConfig { public_endpoint: Some("oss-cn-beijing-internal".to_owned()), ..at("oss-cn-beijing") },
                "store.oss.public_endpoint",
                "internal",
            ),
        ] {
            let told = told(oss);
            assert!(told.contains(key) && told.contains(why), "{told}");
        }
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
