//! From what is configured to what the store needs, or to all that is wrong
//! with it. Pure.

use crate::store::credentials::Source;
use crate::store::remote::endpoint::{Endpoint, NoEndpoint};
use crate::store::remote::setup::{Mistake, given};
use crate::store::s3::credentials::choice::{self, Place};
use crate::store::s3::endpoint::{self, ONLY_REGION};
use crate::store::s3::{S3Config, proof::PartProof};

/// What the store is made of.
#[derive(Debug)]
pub struct Setup {
    /// Where our own calls go.
    pub endpoint: Endpoint,
    /// Where URLs point that are given out.
    pub public: Endpoint,
    /// The region that is signed for.
    pub region: String,
    /// Who we are.
    pub credentials: Source,
    /// What proves a part; none is to be found out.
    pub proof: Option<PartProof>,
}

impl Setup {
    /// `env` is asked for what the configuration leaves open.
    pub fn of(s3: &S3Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut keep = |mistake: Mistake| mistakes.push(mistake);
        let endpoint = own_endpoint(s3).map_err(&mut keep).ok();
        let public = public_endpoint(s3, endpoint.as_ref()).map_err(&mut keep).ok().flatten();
        let region = region(s3, endpoint.as_ref(), public.as_ref());
        let place = Place { region: &region, endpoint: endpoint.as_ref() };
        let credentials = choice::source(s3, place, env).map_err(|more| mistakes.extend(more)).ok();
        let (Some(endpoint), Some(public), Some(credentials)) = (endpoint, public, credentials) else {
            return Err(mistakes);
        };
        Ok(Self { endpoint, public, region, credentials, proof: PartProof::configured(s3.proof) })
    }
}

/// The one that is configured, else AWS's of the region.
fn own_endpoint(s3: &S3Config) -> Result<Endpoint, Mistake> {
    const KEY: &str = "store.s3.endpoint";
    let of_region = given(s3.region.as_deref()).map(|region| endpoint::of_region(&bare(region)));
    let text = given(s3.endpoint.as_deref()).map(ToOwned::to_owned).or(of_region).ok_or_else(|| {
        let advice =
            "must be set when store.kind is s3, for example to s3.eu-central-1.amazonaws.com or http://minio:9000";
        Mistake::new(KEY, advice)
    })?;
    endpoint::parse(&text, s3.bucket.as_deref(), s3.path_style).map_err(|no| match no {
        NoEndpoint::Text(advice) => Mistake::new(KEY, advice),
        NoEndpoint::Bucket(advice) => Mistake::new("store.s3.bucket", advice),
    })
}

/// The one that is configured, else our own. None when it is only our own that
/// is wrong, which is told already.
fn public_endpoint(s3: &S3Config, own: Option<&Endpoint>) -> Result<Option<Endpoint>, Mistake> {
    let (Some(text), Some(own)) = (given(s3.public_endpoint.as_deref()), own) else { return Ok(own.cloned()) };
    endpoint::parse(text, Some(&own.bucket), s3.path_style).map(Some).map_err(|no| {
        // The bucket is our own endpoint's: what does not fit it is this text.
        let (NoEndpoint::Text(advice) | NoEndpoint::Bucket(advice)) = no;
        Mistake::new("store.s3.public_endpoint", advice)
    })
}

fn region(s3: &S3Config, own: Option<&Endpoint>, public: Option<&Endpoint>) -> String {
    let said = |endpoint: Option<&Endpoint>| endpoint.and_then(|endpoint| endpoint.region.clone());
    let configured = given(s3.region.as_deref()).map(bare);
    configured.or_else(|| said(own)).or_else(|| said(public)).unwrap_or_else(|| ONLY_REGION.to_owned())
}

fn bare(region: &str) -> String {
    region.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str, region: &str) -> S3Config {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (endpoint, region) = (text(endpoint), text(region));
        S3Config { endpoint, region, bucket: text("bkt"), ..S3Config::default() }
    }

    fn setup(s3: &S3Config) -> Setup {
        Setup::of(s3, &|name| Some(format!("env-{name}")).filter(|name| !name.ends_with("_FILE"))).expect("complete")
    }

    /// Where the key is from, and whether a token came with it.
    fn who(source: &Source) -> (String, bool) {
        let Source::Written { origin, token, .. } = source else { panic!("{source:?}") };
        (origin.clone(), token.is_some())
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mistaken = |s3: &S3Config| -> Vec<&'static str> {
            let setup = Setup::of(s3, &|_| None);
            setup.err().unwrap_or_default().into_iter().map(|mistake| mistake.key).collect()
        };
        let keys = ["store.s3.access_key_id", "store.s3.access_key_secret"];
        assert_eq!(mistaken(&config("minio:9000", "")), keys);
        assert_eq!(mistaken(&config("", "")), [&["store.s3.endpoint"][..], &keys].concat());
        let unnamed = S3Config { bucket: None, ..config("minio:9000", "") };
        assert_eq!(mistaken(&unnamed), [&["store.s3.bucket"][..], &keys].concat());
        let public = S3Config { public_endpoint: Some("a b".to_owned()), ..config("minio:9000", "") };
        assert_eq!(mistaken(&public), [&["store.s3.public_endpoint"][..], &keys].concat());
    }

    #[test]
    fn a_region_is_what_is_configured_or_what_an_endpoint_says_or_the_only_one() {
        let region = |endpoint: &str, region: &str| setup(&config(endpoint, region)).region;
        assert_eq!(region("eu-west-1", ""), "eu-west-1");
        assert_eq!(region("minio:9000", ""), "us-east-1");
        assert_eq!(region("minio:9000", " Garage "), "garage");
        assert_eq!(region("abc.r2.cloudflarestorage.com", ""), "auto");
        let by_region = setup(&config("", "ap-south-1"));
        assert_eq!(by_region.endpoint.url(None, &[]), "https://bkt.s3.ap-south-1.amazonaws.com/");
    }

    #[test]
    fn what_is_not_configured_is_asked_of_the_environment_and_shown_nowhere() {
        let setup = setup(&config("minio:9000", ""));
        assert_eq!(who(&setup.credentials), ("AWS_ACCESS_KEY_ID".to_owned(), true));
        assert!(!format!("{setup:?}").contains("env-"));
        let own = S3Config { access_key_id: Some("ak".to_owned()), ..config("minio:9000", "") };
        let env = |name: &str| Some(format!("env-{name}")).filter(|name| !name.ends_with("_FILE"));
        let own = Setup::of(&own, &env).expect("complete");
        assert_eq!(who(&own.credentials), ("store.s3.access_key_id".to_owned(), false), "a token belongs to its key");
    }
}
