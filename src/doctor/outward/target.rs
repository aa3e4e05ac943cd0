//! Where a store on the network is, and who we are to it. The one place that
//! knows of kinds of stores.

use crate::config::Environment;
use crate::doctor::net::Place;
use crate::store::remote::endpoint::{Endpoint, Style};
use crate::store::{StoreConfig, StoreKind, oss, s3};

/// A store on the network.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    /// Which key, and where it comes from. No secret.
    pub(super) credentials: String,
    /// As signatures name it; empty where they name none.
    pub(super) region: String,
}

/// None for a store that is a folder, and for a configuration that says nothing.
pub(super) fn of(config: &StoreConfig, environment: &Environment) -> Option<Target> {
    let env = |name: &str| environment.get(name);
    let is_given = |id: &Option<String>| id.as_deref().is_some_and(|id| !id.trim().is_empty());
    let (endpoint, setting, from, id, is_temporary, region) = match config.kind {
        StoreKind::File => return None,
        StoreKind::Oss => {
            let setup = oss::setup::Setup::of(&config.oss, &env).ok()?;
            let from =
                if is_given(&config.oss.access_key_id) { "store.oss.access_key_id" } else { "OSS_ACCESS_KEY_ID" };
            let (region, kind) = (setup.region.clone(), setup.credentials.kind());
            let Some((id, is_temporary)) = setup.credentials.written_id() else {
                let place = place(&setup.endpoint, "store.oss.endpoint")?;
                return Some(Target { place, credentials: format!("{kind} (store.oss.credentials)"), region });
            };
            (setup.endpoint.clone(), "store.oss.endpoint", from, shortened(id), is_temporary, region)
        }
        StoreKind::S3 => {
            let setup = s3::setup::Setup::of(&config.s3, &env).ok()?;
            let from = if is_given(&config.s3.access_key_id) { "store.s3.access_key_id" } else { "AWS_ACCESS_KEY_ID" };
            let (region, kind) = (setup.region, setup.credentials.kind());
            let Some((id, is_temporary)) = setup.credentials.written_id() else {
                let place = place(&setup.endpoint, "store.s3.endpoint")?;
                return Some(Target { place, credentials: format!("{kind} (store.s3.credentials)"), region });
            };
            (setup.endpoint, "store.s3.endpoint", from, shortened(id), is_temporary, region)
        }
    };
    let kind = if is_temporary { "temporary (STS): when its token ends is not written in it" } else { "permanent" };
    Some(Target { place: place(&endpoint, setting)?, credentials: format!("{id} from {from}, {kind}"), region })
}

fn place(endpoint: &Endpoint, setting: &'static str) -> Option<Place> {
    let url = reqwest::Url::parse(&endpoint.url(None, &[])).ok()?;
    let internal = "-internal.aliyuncs.com";
    let is_internal = endpoint.authority.ends_with(internal) && endpoint.style != Style::Cname;
    let public_twin = is_internal.then(|| endpoint.authority.replace(internal, ".aliyuncs.com"));
    Some(Place { public_twin, ..Place::of_url(&url, setting)? })
}

/// Enough of an id to tell it from others.
fn shortened(id: &str) -> String {
    match id.char_indices().nth(8) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
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

    #[test]
    fn no_whole_key_is_shown() {
        assert_eq!((shortened("LTAI5tQnKxxXYZ").as_str(), shortened("ak").as_str()), ("LTAI5tQn…", "ak"));
    }
}
