//! What holds wherever people say that S3 is.

use crate::domain::ObjectKey;
use crate::fuzzing::Input;
use crate::store::s3::endpoint;

pub(crate) fn endpoint(data: &[u8]) {
    let mut input = Input::new(data);
    let path_style = input.byte() & 1 != 0;
    let (text, bucket, key) = (input.text(), input.text(), input.text());
    let bucket = Some(bucket).filter(|name| !name.is_empty());
    let Ok(endpoint) = endpoint::parse(text, bucket, path_style) else { return };
    assert!(bucket.is_none_or(|name| name.trim().is_empty() || name.trim() == endpoint.bucket));
    let Some(key) = ObjectKey::parse(key) else { return };
    crate::store::remote::fuzzing::endpoint(&endpoint, text, &key);
    // It can be written as it was understood.
    let written = format!("{}://{}", endpoint.scheme, endpoint.authority);
    assert_eq!(endpoint::parse(&written, Some(&endpoint.bucket), path_style), Ok(endpoint.clone()));
}
