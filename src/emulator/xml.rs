//! OSS's documents, written and read: pure.

use serde::{Deserialize, Serialize};

use super::error::OssError;
use super::operation::{ListParts, ListUploads};
use super::storage::{Chosen, ObjectRecord, PartRecord, UploadRecord};
use crate::domain::Timestamp;
use crate::store::oss::sign;

/// Whom everything belongs to.
const OWNER: &str = "chunkgate-emulator";
pub(super) const STORAGE_CLASS: &str = "Standard";

/// A document as OSS sends it.
pub(crate) fn document(root: &impl Serialize) -> Result<String, OssError> {
    let body = quick_xml::se::to_string(root).map_err(|e| OssError::internal(&e))?;
    Ok(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}\n"))
}

/// `2026-11-21T10:09:00.000Z`: oss2 takes no other milliseconds than these.
pub(super) fn time(millis: i64) -> String {
    Timestamp::from_millis(millis.div_euclid(1000) * 1000).rfc3339()
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

pub(super) fn encoded(text: &str, url_encoded: bool) -> String {
    if url_encoded { sign::encode(text) } else { text.to_owned() }
}

pub(super) const fn encoding(url_encoded: bool) -> Option<&'static str> {
    if url_encoded { Some("url") } else { None }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Owner {
    #[serde(rename = "ID")]
    id: &'static str,
    display_name: &'static str,
}

pub(super) const OWNED: Owner = Owner { id: OWNER, display_name: OWNER };

/// `InitiateMultipartUploadResult`
pub(crate) fn initiated(bucket: &str, key: &str, upload_id: &str, url_encoded: bool) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct InitiateMultipartUploadResult<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        bucket: &'a str,
        key: String,
        upload_id: &'a str,
    }
    document(&InitiateMultipartUploadResult {
        encoding_type: encoding(url_encoded),
        bucket,
        key: encoded(key, url_encoded),
        upload_id,
    })
}

/// `CompleteMultipartUploadResult`
pub(crate) fn completed(
    location: &str,
    bucket: &str,
    object: &ObjectRecord,
    url_encoded: bool,
) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct CompleteMultipartUploadResult<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        location: &'a str,
        bucket: &'a str,
        key: String,
        #[serde(rename = "ETag")]
        etag: String,
    }
    document(&CompleteMultipartUploadResult {
        encoding_type: encoding(url_encoded),
        location,
        bucket,
        key: encoded(&object.key, url_encoded),
        etag: quoted(&object.etag),
    })
}

/// `ListPartsResult`: the page of `parts` that was asked for.
pub(crate) fn parts(bucket: &str, key: &str, list: &ListParts, parts: &[PartRecord]) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct ListPartsResult<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        bucket: &'a str,
        key: String,
        upload_id: &'a str,
        storage_class: &'a str,
        part_number_marker: u32,
        next_part_number_marker: u32,
        max_parts: u32,
        is_truncated: bool,
        part: Vec<Part>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Part {
        part_number: u16,
        last_modified: String,
        #[serde(rename = "ETag")]
        etag: String,
        #[serde(rename = "HashCrc64ecma")]
        crc64: u64,
        size: u64,
    }
    let mut after = parts.iter().filter(|part| u32::from(part.number) > list.marker).peekable();
    let page: Vec<&PartRecord> = after.by_ref().take(list.parts_max as usize).collect();
    document(&ListPartsResult {
        encoding_type: encoding(list.url_encoded),
        bucket,
        key: encoded(key, list.url_encoded),
        upload_id: &list.upload_id,
        storage_class: STORAGE_CLASS,
        part_number_marker: list.marker,
        next_part_number_marker: page.last().map_or(list.marker, |part| part.number.into()),
        max_parts: list.parts_max,
        is_truncated: after.peek().is_some(),
        part: page
            .into_iter()
            .map(|part| Part {
                part_number: part.number,
                last_modified: time(part.modified_millis),
                etag: quoted(&part.etag),
                crc64: part.crc64,
                size: part.bytes,
            })
            .collect(),
    })
}

/// `ListMultipartUploadsResult`: the page of `uploads`, which are ordered by
/// key and id, that was asked for.
pub(crate) fn uploads<'u>(
    bucket: &str,
    list: &ListUploads,
    uploads: impl Iterator<Item = &'u UploadRecord>,
) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct ListMultipartUploadsResult<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        bucket: &'a str,
        prefix: String,
        key_marker: String,
        upload_id_marker: &'a str,
        next_key_marker: String,
        next_upload_id_marker: &'a str,
        delimiter: &'a str,
        max_uploads: u32,
        is_truncated: bool,
        upload: Vec<Upload<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Upload<'a> {
        key: String,
        upload_id: &'a str,
        storage_class: &'a str,
        initiated: String,
    }
    let after_marker = |upload: &&UploadRecord| match upload.key.as_str().cmp(&list.key_marker) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => {
            list.key_marker.is_empty()
                || (!list.upload_id_marker.is_empty() && upload.upload_id > list.upload_id_marker)
        }
        std::cmp::Ordering::Greater => true,
    };
    let mut after = uploads.filter(|upload| upload.key.starts_with(&list.prefix)).filter(after_marker).peekable();
    let page: Vec<&UploadRecord> = after.by_ref().take(list.uploads_max as usize).collect();
    let is_truncated = after.peek().is_some();
    let next = page.last().filter(|_| is_truncated);
    document(&ListMultipartUploadsResult {
        encoding_type: encoding(list.url_encoded),
        bucket,
        prefix: encoded(&list.prefix, list.url_encoded),
        key_marker: encoded(&list.key_marker, list.url_encoded),
        upload_id_marker: &list.upload_id_marker,
        next_key_marker: next.map(|upload| encoded(&upload.key, list.url_encoded)).unwrap_or_default(),
        next_upload_id_marker: next.map(|upload| upload.upload_id.as_str()).unwrap_or_default(),
        delimiter: "",
        max_uploads: list.uploads_max,
        is_truncated,
        upload: page
            .into_iter()
            .map(|upload| Upload {
                key: encoded(&upload.key, list.url_encoded),
                upload_id: &upload.upload_id,
                storage_class: STORAGE_CLASS,
                initiated: time(upload.initiated_millis),
            })
            .collect(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Bucket<'a> {
    name: &'a str,
    location: String,
    creation_date: String,
    extranet_endpoint: &'a str,
    intranet_endpoint: &'a str,
    storage_class: &'a str,
    data_redundancy_type: &'a str,
    owner: Owner,
    access_control_list: AccessControlList,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccessControlList {
    grant: &'static str,
}

fn bucket<'a>(name: &'a str, region: &str, endpoint: &'a str) -> Bucket<'a> {
    Bucket {
        name,
        location: format!("oss-{region}"),
        creation_date: time(0),
        extranet_endpoint: endpoint,
        intranet_endpoint: endpoint,
        storage_class: STORAGE_CLASS,
        data_redundancy_type: "LRS",
        owner: OWNED,
        access_control_list: AccessControlList { grant: "private" },
    }
}

/// `BucketInfo`
pub(crate) fn bucket_info(name: &str, region: &str, endpoint: &str) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct BucketInfo<'a> {
        bucket: Bucket<'a>,
    }
    document(&BucketInfo { bucket: bucket(name, region, endpoint) })
}

/// `ListAllMyBucketsResult`: the one there is.
pub(crate) fn buckets(name: &str, region: &str, endpoint: &str) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct ListAllMyBucketsResult<'a> {
        is_truncated: bool,
        owner: Owner,
        buckets: Buckets<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Buckets<'a> {
        bucket: Bucket<'a>,
    }
    let buckets = Buckets { bucket: bucket(name, region, endpoint) };
    document(&ListAllMyBucketsResult { is_truncated: false, owner: OWNED, buckets })
}

/// `LocationConstraint`
pub(crate) fn location(region: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint>oss-{region}</LocationConstraint>\n")
}

/// Reads `CompleteMultipartUpload`.
pub(crate) fn chosen(body: &str) -> Result<Chosen, OssError> {
    #[derive(Deserialize)]
    struct CompleteMultipartUpload {
        #[serde(rename = "Part", default)]
        parts: Vec<Part>,
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(rename = "PartNumber")]
        number: u32,
        #[serde(rename = "ETag")]
        etag: String,
    }
    let read: CompleteMultipartUpload = quick_xml::de::from_str(body).map_err(|_| OssError::malformed_xml())?;
    Ok(Chosen::Listed(read.parts.into_iter().map(|part| (part.number, part.etag)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::storage::{BlobId, Properties};

    fn part(number: u16) -> PartRecord {
        PartRecord { number, bytes: 9, etag: "ABC".to_owned(), crc64: u64::MAX, modified_millis: 7, blob: BlobId(0) }
    }

    #[test]
    fn a_list_of_parts_has_all_that_the_sdks_read() {
        let list = ListParts { upload_id: "U".to_owned(), marker: 1, parts_max: 2, url_encoded: true };
        let xml = parts("bkt", "a b/é", &list, &[part(1), part(2), part(4), part(9)]).expect("xml");
        for element in [
            "<ListPartsResult><EncodingType>url</EncodingType><Bucket>bkt</Bucket>",
            "<Key>a%20b%2F%C3%A9</Key>",
            "<NextPartNumberMarker>4</NextPartNumberMarker>",
            "<IsTruncated>true</IsTruncated>",
            "<PartNumber>2</PartNumber><LastModified>1970-01-01T00:00:00.000Z</LastModified>",
            "<HashCrc64ecma>18446744073709551615</HashCrc64ecma><Size>9</Size>",
        ] {
            assert!(xml.contains(element), "{element} is not in {xml}");
        }
        assert_eq!(xml.matches("<Part>").count(), 2);
        let list = ListParts { marker: 9, url_encoded: false, ..list };
        let xml = parts("bkt", "a&b", &list, &[part(9)]).expect("xml");
        assert!(xml.contains("<Key>a&amp;b</Key>") && xml.contains("<IsTruncated>false</IsTruncated>"), "{xml}");
    }

    #[test]
    fn a_list_of_uploads_goes_on_after_key_and_id() {
        let upload = |key: &str, id: &str| UploadRecord {
            upload_id: id.to_owned(),
            key: key.to_owned(),
            initiated_millis: 0,
            properties: Properties::default(),
            forbid_overwrite: false,
        };
        let all = [upload("a", "1"), upload("b", "1"), upload("b", "2"), upload("c", "1")];
        let page = |key_marker: &str, upload_id_marker: &str, uploads_max| {
            let list = ListUploads {
                prefix: String::new(),
                key_marker: key_marker.to_owned(),
                upload_id_marker: upload_id_marker.to_owned(),
                uploads_max,
                url_encoded: false,
            };
            uploads("bkt", &list, all.iter()).expect("xml")
        };
        let first = page("", "", 2);
        assert!(
            first.contains("<NextKeyMarker>b</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"),
            "{first}"
        );
        assert_eq!(page("b", "1", 9).matches("<Upload>").count(), 2);
        assert_eq!(page("b", "", 9).matches("<Upload>").count(), 1);
        assert!(page("b", "1", 2).contains("<IsTruncated>false</IsTruncated>"));
    }

    #[test]
    fn complete_lists_parts_with_or_without_quotes_and_blanks() {
        let xml = "<?xml version=\"1.0\"?>\n<CompleteMultipartUpload>\n <Part>\n <PartNumber>1</PartNumber>\
                   <ETag>\"A\"</ETag></Part><Part><ETag>&quot;B&quot;</ETag><PartNumber> 2 </PartNumber></Part>\
                   </CompleteMultipartUpload>";
        let expected = vec![(1, "\"A\"".to_owned()), (2, "\"B\"".to_owned())];
        assert_eq!(chosen(xml), Ok(Chosen::Listed(expected)));
        assert_eq!(chosen("<CompleteMultipartUpload/>"), Ok(Chosen::Listed(vec![])));
        for bad in ["", "<Complete", "<C><Part><PartNumber>x</PartNumber></Part></C>", "{}"] {
            assert!(chosen(bad).is_err(), "{bad}");
        }
    }
}
