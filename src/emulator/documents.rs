//! OSS's documents about objects, one by one or many: pure.

use serde::{Deserialize, Serialize};

use super::error::OssError;
use super::given;
use super::storage::{Acl, ObjectRecord, Tags};
use super::xml::{OWNED, Owner, document, encoded, encoding, quoted, time};

/// How many objects one DeleteMultipleObjects takes at most.
const DELETED_MAX: usize = 1000;

/// `CopyObjectResult`
pub(crate) fn copied(object: &ObjectRecord) -> Result<String, OssError> {
    #[derive(Serialize)]
    struct CopyObjectResult {
        #[serde(rename = "ETag")]
        etag: String,
        #[serde(rename = "LastModified")]
        last_modified: String,
    }
    document(&CopyObjectResult { etag: quoted(&object.etag), last_modified: time(object.modified_millis) })
}

/// `CopyPartResult`
pub(crate) fn part_copied(etag: &str, modified_millis: i64) -> Result<String, OssError> {
    #[derive(Serialize)]
    struct CopyPartResult {
        #[serde(rename = "LastModified")]
        last_modified: String,
        #[serde(rename = "ETag")]
        etag: String,
    }
    document(&CopyPartResult { last_modified: time(modified_millis), etag: quoted(etag) })
}

/// `PostResponse`, where a form asks for status 201.
pub(crate) fn posted(bucket: &str, location: &str, object: &ObjectRecord) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct PostResponse<'a> {
        bucket: &'a str,
        location: &'a str,
        key: &'a str,
        #[serde(rename = "ETag")]
        etag: String,
    }
    document(&PostResponse { bucket, location, key: &object.key, etag: quoted(&object.etag) })
}

/// What DeleteMultipleObjects asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub quiet: bool,
    pub keys: Vec<String>,
}

/// Reads `Delete`.
pub(crate) fn deletion(body: &str) -> Result<Deletion, OssError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Delete {
        #[serde(default)]
        quiet: bool,
        #[serde(rename = "Object", default)]
        objects: Vec<Object>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Object {
        key: String,
    }
    let Delete { quiet, objects } = quick_xml::de::from_str(body).map_err(|_| OssError::malformed_xml())?;
    if objects.is_empty() || objects.len() > DELETED_MAX {
        return Err(OssError::malformed_xml());
    }
    Ok(Deletion { quiet, keys: objects.into_iter().map(|object| object.key).collect() })
}

/// `DeleteResult`
pub(crate) fn deleted(deletion: &Deletion, url_encoded: bool) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct DeleteResult<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding_type: Option<&'a str>,
        deleted: Vec<Deleted>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Deleted {
        key: String,
    }
    let deleted = deletion.keys.iter().filter(|_| !deletion.quiet);
    document(&DeleteResult {
        encoding_type: encoding(url_encoded),
        deleted: deleted.map(|key| Deleted { key: encoded(key, url_encoded) }).collect(),
    })
}

/// `AccessControlPolicy`, of an object or of the bucket.
pub(crate) fn acl(acl: Acl) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct AccessControlPolicy {
        owner: Owner,
        access_control_list: AccessControlList,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct AccessControlList {
        grant: &'static str,
    }
    document(&AccessControlPolicy { owner: OWNED, access_control_list: AccessControlList { grant: acl.name() } })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagging {
    #[serde(default)]
    tag_set: TagSet,
}

#[derive(Default, Serialize, Deserialize)]
struct TagSet {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// `Tagging`
pub(crate) fn tagging(tags: &Tags) -> Result<String, OssError> {
    let tag = |(key, value): &(String, String)| Tag { key: key.clone(), value: value.clone() };
    document(&Tagging { tag_set: TagSet { tags: tags.iter().map(tag).collect() } })
}

/// Reads `Tagging`.
pub(crate) fn tags(body: &str) -> Result<Tags, OssError> {
    let read: Tagging = quick_xml::de::from_str(body).map_err(|_| OssError::malformed_xml())?;
    given::checked(read.tag_set.tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
}

/// `BucketStat`
pub(crate) fn stat(objects: usize, bytes: u64, open_uploads: usize) -> Result<String, OssError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct BucketStat {
        storage: u64,
        object_count: usize,
        multipart_upload_count: usize,
    }
    document(&BucketStat { storage: bytes, object_count: objects, multipart_upload_count: open_uploads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_read_and_told() {
        let xml = "<?xml version=\"1.0\"?><Delete><Quiet>false</Quiet><Object><Key>a&amp;b</Key></Object>\
                   <Object><Key> c </Key></Object></Delete>";
        let read = deletion(xml).expect("is one");
        assert_eq!(read.keys[0], "a&b");
        let told = deleted(&read, true).expect("xml");
        assert!(told.contains("<EncodingType>url</EncodingType><Deleted><Key>a%26b</Key></Deleted>"), "{told}");
        let quiet = Deletion { quiet: true, ..read };
        assert!(!deleted(&quiet, false).expect("xml").contains("Key"));
        let many = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1001));
        for bad in ["", "<Delete/>", "<Delete><Object/></Delete>", &many] {
            assert!(deletion(bad).is_err());
        }
    }

    #[test]
    fn tags_are_written_as_they_are_read() {
        let tags: Tags = [("a", "1"), ("b", "<&>")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        assert_eq!(super::tags(&tagging(&tags).expect("xml")), Ok(tags));
        assert_eq!(super::tags("<Tagging><TagSet/></Tagging>"), Ok(vec![]));
        assert!(super::tags("<Tagging>").is_err());
    }
}
