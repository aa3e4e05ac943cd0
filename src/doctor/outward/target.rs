//! Where a store on the network is. The one place that knows of kinds of stores.

use crate::config::Environment;
use crate::doctor::net::Place;
use crate::store::oss::sign::callback::KEY_URL;
use crate::store::remote::endpoint::{Endpoint, Style};
use crate::store::{StoreConfig, StoreKind, oss, s3};

/// A store on the network.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    /// As signatures name it; empty where they name none.
    pub(super) region: String,
    /// Whom it tells of files that browsers put by forms.
    pub(super) told: Told,
}

/// Whom a store tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It cannot tell anybody.
    Never,
    /// It is not asked to.
    Nobody,
    /// A gateway at this URL, which takes signatures by this key.
    Gateway { url: String, key_url: String },
}

/// None for a store that is a folder, and for a configuration that says nothing.
pub(super) fn of(config: &StoreConfig, environment: &Environment) -> Option<Target> {
    let env = |name: &str| environment.get(name);
    match config.kind {
        StoreKind::File => None,
        StoreKind::Oss => {
            let setup = oss::setup::Setup::of(&config.oss, &env).ok()?;
            let key_url = config.oss.callback_key_url.clone().unwrap_or_else(|| KEY_URL.to_owned());
            let told = match config.oss.callback_url.clone() {
                Some(url) => Told::Gateway { url, key_url },
                None => Told::Nobody,
            };
            Some(Target { place: place(&setup.endpoint, "store.oss.endpoint")?, region: setup.region, told })
        }
        StoreKind::S3 => {
            let setup = s3::setup::Setup::of(&config.s3, &env).ok()?;
            Some(Target {
                place: place(&setup.endpoint, "store.s3.endpoint")?,
                region: setup.region,
                told: Told::Never,
            })
        }
    }
}

fn place(endpoint: &Endpoint, setting: &'static str) -> Option<Place> {
    let url = reqwest::Url::parse(&endpoint.url(None, &[])).ok()?;
    let internal = "-internal.aliyuncs.com";
    let is_internal = endpoint.authority.ends_with(internal) && endpoint.style != Style::Cname;
    let public_twin = is_internal.then(|| endpoint.authority.replace(internal, ".aliyuncs.com"));
    Some(Place { public_twin, ..Place::of_url(&url, setting)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::oss::endpoint::parse;

    #[test]
    fn an_internal_endpoint_has_a_public_twin() {
        let of = |text: &str, cname: bool| {
            place(&parse(text, Some("bkt"), false, cname).expect("a place"), "store.oss.endpoint")
        };
        let internal = of("oss-cn-hangzhou-internal", false).expect("a place");
        assert_eq!(internal.host, "bkt.oss-cn-hangzhou-internal.aliyuncs.com");
        assert_eq!(internal.public_twin.as_deref(), Some("oss-cn-hangzhou.aliyuncs.com"));
        let test = of("http://127.0.0.1:9000", false).expect("a place");
        assert_eq!((test.base().as_str(), test.public_twin), ("http://127.0.0.1:9000", None));
        assert_eq!(of("files.example.com", true).expect("a place").host, "files.example.com");
    }
}
