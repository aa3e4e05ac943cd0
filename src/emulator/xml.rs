//! OSS's documents, written and read: pure.

use serde::{Deserialize, Serialize};

use super::error::OssError;
use super::operation::{ListObjects, ListParts, ListUploads, continuation_token};
use super::storage::{Chosen, ObjectRecord, PartRecord, UploadRecord};
use crate::domain::Timestamp;
use crate::store::oss::sign;

/// Whom everything belongs to.
const OWNER: &str = "chunkgate-emulator";
const STORAGE_CLASS: &str = "Standard";

/// A document as OSS sends it.
pub(crate) fn document(root: &impl Serialize) -> Result<String, OssError> {
    let body = quick_xml::se::to_string(root).map_err(|e| OssError::internal(&e))?;
    Ok(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}\n"))
}

/// `2026-11-21T10:09:00.000Z`: oss2 takes no other milliseconds than these.
fn time(millis: i64) -> String {
    Timestamp::from_millis(millis.div_euclid(1000) * 1000).rfc3339()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn encoded(text: &str, url_encoded: bool) -> String {
    if url_encoded { sign::encode(text) } else { text.to_owned() }
}

const fn encoding(url_encoded: bool) -> Option<&'static str> {
    if url_encoded { Some("url") } else { None }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Owner {
    #[serde(rename = "ID")]
    id: &'static str,
    display_name: &'static str,
}

const OWNED: Owner = Owner { id: OWNER, display_name: OWNER };

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

/// One page of a list of objects.
#[derive(Debug, Default)]
struct Page<'a> {
    objects: Vec<&'a ObjectRecord>,
    common_prefixes: Vec<&'a str>,
    /// The key or prefix after which the next page begins, if there is one.
    next: Option<&'a str>,
}

/// The page of `objects`, which are ordered by key and all have the prefix,
/// that was asked for. What `delimiter` makes one folder counts as one entry.
fn page<'a>(list: &ListObjects, objects: impl Iterator<Item = &'a ObjectRecord>) -> Page<'a> {
    let mut page = Page::default();
    let mut last: Option<&str> = None;
    for object in objects {
        let rest = &object.key[list.prefix.len()..];
        let folder = match list.delimiter.as_str() {
            "" => None,
            delimiter => rest.find(delimiter).map(|at| &object.key[..list.prefix.len() + at + delimiter.len()]),
        };
        // The page before ended with this folder, or this one has it already.
        if folder.is_some_and(|folder| list.after.starts_with(folder) || page.common_prefixes.last() == Some(&folder)) {
            continue;
        }
        if page.objects.len() + page.common_prefixes.len() == list.keys_max as usize {
            page.next = last;
            break;
        }
        match folder {
            Some(folder) => page.common_prefixes.push(folder),
            None => page.objects.push(object),
        }
        last = Some(folder.unwrap_or(&object.key));
    }
    page
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    r#type: &'static str,
    size: u64,
    storage_class: &'static str,
    owner: Owner,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefixes {
    prefix: String,
}

/// `ListBucketResult`, of either version.
pub(crate) fn objects<'o>(
    bucket: &str,
    list: &ListObjects,
    objects: impl Iterator<Item = &'o ObjectRecord>,
) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct ListBucketResult<'a> {
        name: &'a str,
        prefix: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        marker: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        start_after: Option<String>,
        max_keys: u32,
        delimiter: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        is_truncated: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_continuation_token: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_count: Option<usize>,
        contents: Vec<Contents>,
        common_prefixes: Vec<CommonPrefixes>,
    }
    let page = page(list, objects);
    let text = |text: &str| encoded(text, list.url_encoded);
    document(&ListBucketResult {
        name: bucket,
        prefix: text(&list.prefix),
        marker: (!list.second_version).then(|| text(&list.after)),
        start_after: list.second_version.then(|| text(&list.after)),
        max_keys: list.keys_max,
        delimiter: text(&list.delimiter),
        encoding_type: encoding(list.url_encoded),
        is_truncated: page.next.is_some(),
        next_marker: page.next.filter(|_| !list.second_version).map(text),
        next_continuation_token: page.next.filter(|_| list.second_version).map(continuation_token),
        key_count: list.second_version.then_some(page.objects.len() + page.common_prefixes.len()),
        contents: page
            .objects
            .iter()
            .map(|object| Contents {
                key: text(&object.key),
                last_modified: time(object.modified_millis),
                etag: quoted(&object.etag),
                r#type: object.object_type.name(),
                size: object.bytes,
                storage_class: STORAGE_CLASS,
                owner: OWNED,
            })
            .collect(),
        common_prefixes: page.common_prefixes.iter().map(|prefix| CommonPrefixes { prefix: text(prefix) }).collect(),
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
    use crate::emulator::storage::{BlobId, ObjectType};

    fn part(number: u16) -> PartRecord {
        PartRecord { number, bytes: 9, etag: "ABC".to_owned(), crc64: u64::MAX, modified_millis: 7, blob: BlobId(0) }
    }

    fn object(key: &str) -> ObjectRecord {
        ObjectRecord {
            key: key.to_owned(),
            bytes: 9,
            etag: "ABC".to_owned(),
            crc64: 1,
            object_type: ObjectType::Normal,
            modified_millis: 0,
            headers: vec![],
            upload_id: None,
            segments: vec![],
        }
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
            headers: vec![],
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
    fn folders_are_one_entry_each() {
        let all = ["a/1", "a/2", "b", "c/1", "d"].map(object);
        let entries = |after: &str, keys_max| {
            let list = ListObjects {
                second_version: true,
                prefix: String::new(),
                delimiter: "/".to_owned(),
                after: after.to_owned(),
                keys_max,
                url_encoded: false,
            };
            let after = all.iter().filter(|object| object.key.as_str() > after);
            let page = page(&list, after);
            let keys: Vec<String> = page.objects.iter().map(|object| object.key.clone()).collect();
            (page.common_prefixes.join(" "), keys.join(" "), page.next.unwrap_or_default().to_owned())
        };
        let texts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(entries("", 9), texts("a/ c/", "b d", ""));
        assert_eq!(entries("", 1), texts("a/", "", "a/"));
        assert_eq!(entries("a/", 2), texts("c/", "b", "c/"));
        assert_eq!(entries("c/", 2), texts("", "d", ""));
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
