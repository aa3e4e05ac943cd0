//! `ListBucketResult`: pure.

use serde::Serialize;

use super::error::OssError;
use super::operation::{ListObjects, continuation_token};
use super::storage::ObjectRecord;
use super::xml::{OWNED, Owner, document, encoded, encoding, quoted, time};

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
struct Contents<'a> {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    r#type: &'static str,
    size: u64,
    storage_class: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
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
        contents: Vec<Contents<'a>>,
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
                storage_class: object.storage_class(),
                owner: list.with_owner.then_some(OWNED),
            })
            .collect(),
        common_prefixes: page.common_prefixes.iter().map(|prefix| CommonPrefixes { prefix: text(prefix) }).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::storage::{ObjectType, Properties};

    fn object(key: &str) -> ObjectRecord {
        ObjectRecord {
            key: key.to_owned(),
            bytes: 9,
            etag: "ABC".to_owned(),
            crc64: 1,
            object_type: ObjectType::Normal,
            modified_millis: 0,
            properties: Properties::default(),
            upload_id: None,
            segments: vec![],
        }
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
                with_owner: false,
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
}
