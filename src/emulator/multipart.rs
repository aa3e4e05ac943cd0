//! The operations of multipart uploads.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use super::body::{blocking, document, receive};
use super::call::{Call, empty, of_upload, set, xml as xml_response};
use super::callback::{self, Callback};
use super::error::OssError;
use super::operation::{ListParts, ListUploads};
use super::stats::Stats;
use super::storage::Chosen;
use super::{given, objects, xml};
use crate::domain::PartNumber;

/// InitiateMultipartUpload.
pub(crate) async fn initiate(call: &Call) -> Result<Response, OssError> {
    let (storage, key) = (call.storage(), call.key.clone());
    let (properties, precondition) = (call.properties()?, call.precondition());
    let upload = of_upload(blocking(move || storage.initiate(&key, properties, precondition)).await?, "")?;
    let bucket = &call.emulator.bucket;
    Ok(xml_response(xml::initiated(bucket, &call.key, &upload.upload_id, call.url_encoded())?))
}

/// UploadPart.
pub(crate) async fn upload_part(
    call: &Call,
    upload_id: &str,
    number: PartNumber,
    body: &mut Body,
) -> Result<Response, OssError> {
    // How the object is encrypted was said when the upload began.
    if let Some(value) = call.header("x-oss-server-side-encryption") {
        let message = "The encryption headers are not applicable to parts.";
        return Err(OssError::invalid_argument(message, "x-oss-server-side-encryption", value));
    }
    let storage = call.storage();
    let upload = of_upload(storage.upload(&call.key, upload_id), upload_id)?;
    let blob = receive(&storage, &call.headers, body).await?;
    let md5 = blob.md5;
    let part = of_upload(blocking(move || storage.put_part(&upload, number, blob)).await?, upload_id)?;
    let stats = &call.emulator.stats;
    Stats::add(&stats.parts_stored, 1);
    Stats::add(&stats.bytes_stored, part.bytes);
    let mut response = empty(StatusCode::OK);
    objects::set_digests(response.headers_mut(), &part.etag, part.crc64(), Some(md5));
    Ok(response)
}

/// ListParts.
pub(crate) async fn list_parts(call: &Call, list: &ListParts) -> Result<Response, OssError> {
    let id = &list.upload_id;
    let upload = of_upload(call.storage().upload(&call.key, id), id)?;
    // Complete holds the parts while it writes.
    let parts = of_upload(blocking(move || upload.parts()).await?, id)?;
    Ok(xml_response(xml::parts(&call.emulator.bucket, &call.key, list, &parts)?))
}

/// CompleteMultipartUpload.
pub(crate) async fn complete(call: &Call, upload_id: &str, body: &mut Body) -> Result<Response, OssError> {
    let all = call.header("x-oss-complete-all").is_some_and(|text| text.eq_ignore_ascii_case("yes"));
    let callback = Callback::of_request(&call.headers, &call.query)?;
    let acl = given::acl(&call.headers, "x-oss-object-acl")?;
    let text = document(&call.headers, body).await?;
    let chosen = match (all, text.trim().is_empty()) {
        (true, true) => Chosen::All,
        (true, false) => {
            let message = "x-oss-complete-all and a list of parts exclude each other.";
            return Err(OssError::invalid_argument(message, "x-oss-complete-all", "yes"));
        }
        (false, _) => xml::chosen(&text)?,
    };
    let (storage, precondition) = (call.storage(), call.precondition());
    let upload = of_upload(storage.upload(&call.key, upload_id), upload_id)?;
    // Goes on when the client is gone, as OSS does.
    let object = blocking(move || storage.complete(&upload, &chosen, acl, precondition)).await?;
    let object = of_upload(object, upload_id)?;
    let location = format!("http://{}/{}", call.host, crate::store::oss::sign::encode(&call.key));
    let document = xml::completed(&location, &call.emulator.bucket, &object, call.url_encoded())?;
    let mut response = xml_response(document);
    objects::set_digests(response.headers_mut(), &object.etag, object.crc64(), None);
    set(response.headers_mut(), "location", &location);
    callback::answer(call, callback, &object, "CompleteMultipartUpload", response).await
}

/// AbortMultipartUpload.
pub(crate) async fn abort(call: &Call, upload_id: &str) -> Result<Response, OssError> {
    let storage = call.storage();
    let upload = of_upload(storage.upload(&call.key, upload_id), upload_id)?;
    of_upload(blocking(move || storage.abort(&upload)).await?, upload_id)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// ListMultipartUploads.
pub(crate) fn list_uploads(call: &Call, list: &ListUploads) -> Result<Response, OssError> {
    let uploads = call.storage().uploads();
    let records = uploads.iter().map(|upload| &***upload);
    Ok(xml_response(xml::uploads(&call.emulator.bucket, list, records)?))
}
