//! What is said of an object or of the bucket, read and changed: ACL, tags,
//! and the bucket's documents.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use super::body::{blocking, document};
use super::call::{Call, empty, of_object, of_upload, xml as xml_response};
use super::error::OssError;
use super::storage::{Acl, Properties, Setting};
use super::{cors, documents, given, objects};

/// GetObjectAcl.
pub(crate) fn object_acl(call: &Call) -> Result<Response, OssError> {
    Ok(xml_response(documents::acl(objects::found(call)?.properties.acl)?))
}

/// PutObjectAcl.
pub(crate) async fn put_object_acl(call: &Call) -> Result<Response, OssError> {
    let missing = || OssError::invalid_argument("x-oss-object-acl is missing.", "x-oss-object-acl", "");
    let acl = given::acl(&call.headers, "x-oss-object-acl")?.ok_or_else(missing)?;
    change(call, move |properties| properties.acl = acl).await
}

/// GetObjectTagging.
pub(crate) fn object_tagging(call: &Call) -> Result<Response, OssError> {
    Ok(xml_response(documents::tagging(&objects::found(call)?.properties.tags)?))
}

/// PutObjectTagging.
pub(crate) async fn put_object_tagging(call: &Call, body: &mut Body) -> Result<Response, OssError> {
    let tags = documents::tags(&document(&call.headers, body).await?)?;
    change(call, move |properties| properties.tags = tags).await
}

/// DeleteObjectTagging.
pub(crate) async fn delete_object_tagging(call: &Call) -> Result<Response, OssError> {
    change(call, |properties| properties.tags.clear()).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn change(call: &Call, change: impl FnOnce(&mut Properties) + Send + 'static) -> Result<Response, OssError> {
    let (storage, key) = (call.storage(), call.key.clone());
    of_object(blocking(move || storage.change_object(&key, change)).await?, &call.key)?;
    Ok(empty(StatusCode::OK))
}

/// GetBucketAcl: it is private, whatever is asked for.
pub(crate) fn bucket_acl() -> Result<Response, OssError> {
    Ok(xml_response(documents::acl(Acl::Private)?))
}

/// GetBucketStat.
pub(crate) fn bucket_stat(call: &Call) -> Result<Response, OssError> {
    let storage = call.storage();
    let bytes = storage.objects_after("", "").iter().map(|object| object.bytes).sum();
    Ok(xml_response(documents::stat(storage.object_count(), bytes, storage.upload_counts().0)?))
}

/// GetBucketCors and the like.
pub(crate) fn bucket_setting(call: &Call, setting: Setting) -> Result<Response, OssError> {
    let document = call.storage().setting(setting);
    document.map(xml_response).ok_or_else(|| OssError::no_such_setting(setting, &call.emulator.bucket))
}

/// PutBucketCors and the like.
pub(crate) async fn put_bucket_setting(call: &Call, setting: Setting, body: &mut Body) -> Result<Response, OssError> {
    let text = document(&call.headers, body).await?;
    match setting {
        Setting::Cors => {
            drop(cors::rules(&text).filter(|rules| !rules.is_empty()).ok_or_else(OssError::malformed_xml)?)
        }
        Setting::Lifecycle | Setting::Encryption | Setting::Tagging => {
            quick_xml::de::from_str::<serde::de::IgnoredAny>(&text).map_err(|_| OssError::malformed_xml())?;
        }
    }
    set(call, setting, Some(text)).await?;
    Ok(empty(StatusCode::OK))
}

/// DeleteBucketCors and the like.
pub(crate) async fn delete_bucket_setting(call: &Call, setting: Setting) -> Result<Response, OssError> {
    set(call, setting, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn set(call: &Call, setting: Setting, document: Option<String>) -> Result<(), OssError> {
    let storage = call.storage();
    of_upload(blocking(move || storage.set(setting, document)).await?, "")
}
