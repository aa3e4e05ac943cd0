//! What holds wherever people say that OSS is.

use crate::domain::ObjectKey;
use crate::fuzzing::Input;
use crate::store::oss::endpoint::{self, bare_region, region_in};

pub(crate) fn endpoint(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let (path_style, cname) = (flags & 1 != 0, flags & 2 != 0);
    let (text, bucket, key) = (input.text(), input.text(), input.text());
    let bare = bare_region(text);
    assert!(!bare.starts_with("oss-") || text.to_ascii_lowercase().contains("oss-oss-"));
    let bucket = Some(bucket).filter(|name| !name.is_empty());
    let Ok(endpoint) = endpoint::parse(text, bucket, path_style, cname) else { return };
    assert_eq!(endpoint.region, region_in(text));
    assert!(bucket.is_none_or(|name| name.trim().is_empty() || name.trim() == endpoint.bucket));
    let Some(key) = ObjectKey::parse(key) else { return };
    crate::store::remote::fuzzing::endpoint(&endpoint, text, &key);
    // It can be written as it was understood.
    let written = format!("{}://{}", endpoint.scheme, endpoint.authority);
    assert_eq!(endpoint::parse(&written, Some(&endpoint.bucket), path_style, cname), Ok(endpoint.clone()));
}
