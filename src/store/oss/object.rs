//! What objects are made with: `store.oss.object`, as headers of the calls that
//! take them. Parts take none: OSS refuses encryption that is said again. Pure.

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderMap, HeaderName, HeaderValue};

use crate::store::oss::{Encryption, ObjectConfig};
use crate::store::remote::encode::encode;
use crate::store::remote::setup::Mistake;

/// OSS takes no more tags of one object.
const TAGS_MAX: usize = 10;
/// Names and values of the user's own metadata together, in bytes.
const METADATA_BYTES_MAX: usize = 8 << 10;

/// The headers, by call.
#[derive(Clone, Debug, Default)]
pub struct ObjectHeaders {
    /// InitiateMultipartUpload.
    pub begin: HeaderMap,
    /// PutObject.
    pub put: HeaderMap,
    /// CompleteMultipartUpload.
    pub complete: HeaderMap,
}

/// A value and the key that it is from.
struct Sayer {
    headers: HeaderMap,
    mistakes: Vec<Mistake>,
}

impl Sayer {
    fn say(&mut self, key: &'static str, name: HeaderName, value: &str) {
        // What is not ASCII arrives as something else.
        match HeaderValue::from_str(value).ok().filter(|_| value.is_ascii() && !value.trim().is_empty()) {
            Some(value) => {
                self.headers.insert(name, value);
            }
            None => self.mistakes.push(Mistake::new(key, "must be printable ASCII: encode the rest, as %E6%96%87")),
        }
    }
}

impl ObjectHeaders {
    /// Of what is configured, or all that is wrong with it.
    pub fn of(object: &ObjectConfig) -> Result<Self, Vec<Mistake>> {
        let mut sayer = Sayer { headers: HeaderMap::new(), mistakes: Vec::new() };
        let named = HeaderName::from_static;
        if let Some(class) = object.storage_class {
            sayer.say("store.oss.object.storage_class", named("x-oss-storage-class"), class.name());
        }
        if let Some(encryption) = object.encryption {
            sayer.say("store.oss.object.encryption", named("x-oss-server-side-encryption"), encryption.name());
        }
        if let Some(id) = &object.kms_key_id {
            const KEY: &str = "store.oss.object.kms_key_id";
            if object.encryption != Some(Encryption::Kms) {
                sayer.mistakes.push(Mistake::new(KEY, "needs store.oss.object.encryption = \"KMS\""));
            }
            sayer.say(KEY, named("x-oss-server-side-encryption-key-id"), id);
        }
        if !object.tagging.is_empty() {
            let (tagging, wrong) = tagging(&object.tagging);
            sayer.mistakes.extend(wrong);
            sayer.say("store.oss.object.tagging", named("x-oss-tagging"), &tagging);
        }
        if let Some(value) = &object.cache_control {
            sayer.say("store.oss.object.cache_control", CACHE_CONTROL, value);
        }
        if let Some(value) = &object.content_disposition {
            sayer.say("store.oss.object.content_disposition", CONTENT_DISPOSITION, value);
        }
        metadata(&object.metadata, &mut sayer);
        if !sayer.mistakes.is_empty() {
            return Err(sayer.mistakes);
        }
        // What the object may be, and whether it may be at all, is decided when it comes to be.
        let mut last = HeaderMap::new();
        if object.forbid_overwrite {
            last.insert("x-oss-forbid-overwrite", HeaderValue::from_static("true"));
        }
        let mut begin = sayer.headers;
        begin.extend(last.clone());
        if let Some(acl) = object.acl {
            last.insert("x-oss-object-acl", HeaderValue::from_static(acl.name()));
        }
        let mut put = begin.clone();
        put.extend(last.clone());
        Ok(Self { begin, put, complete: last })
    }
}

/// `a=b` as `a=b&c=d`, encoded.
fn tagging(tags: &[String]) -> (String, Option<Mistake>) {
    const KEY: &str = "store.oss.object.tagging";
    let mut encoded = Vec::new();
    for tag in tags {
        let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
        if name.trim().is_empty() || name.chars().count() > 128 || value.chars().count() > 256 {
            let advice =
                "must be a list such as [\"project=video\"]: names of 1 to 128 characters, values of up to 256";
            return (String::new(), Some(Mistake::new(KEY, advice)));
        }
        encoded.push(format!("{}={}", encode(name.trim()), encode(value.trim())));
    }
    let too_many = (tags.len() > TAGS_MAX).then(|| Mistake::new(KEY, "must have 10 tags at most"));
    (encoded.join("&"), too_many)
}

fn metadata(pairs: &[String], sayer: &mut Sayer) {
    const KEY: &str = "store.oss.object.metadata";
    if pairs.iter().map(String::len).sum::<usize>() > METADATA_BYTES_MAX {
        sayer.mistakes.push(Mistake::new(KEY, "must have 8 KiB at most"));
    }
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.trim().to_ascii_lowercase();
        let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match HeaderName::try_from(format!("x-oss-meta-{name}")).ok().filter(|_| is_plain) {
            Some(header) => sayer.say(KEY, header, value.trim()),
            None => sayer
                .mistakes
                .push(Mistake::new(KEY, "must be a list such as [\"team=video\"]: names of a-z, 0-9 and -")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::oss::{Acl, StorageClass};

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_call_says_what_it_takes() {
        assert!(lines(&ObjectHeaders::of(&ObjectConfig::default()).expect("nothing").put).is_empty());
        let all = ObjectConfig {
            storage_class: Some(StorageClass::ColdArchive),
            encryption: Some(Encryption::Kms),
            kms_key_id: Some("key-1".to_owned()),
            tagging: vec!["project=视频".to_owned(), "a b=".to_owned()],
            acl: Some(Acl::PublicRead),
            cache_control: Some("no-cache".to_owned()),
            content_disposition: Some("attachment".to_owned()),
            metadata: vec!["Team=video".to_owned()],
            forbid_overwrite: true,
        };
        let headers = ObjectHeaders::of(&all).expect("headers");
        let begin = [
            "cache-control: no-cache",
            "content-disposition: attachment",
            "x-oss-forbid-overwrite: true",
            "x-oss-meta-team: video",
            "x-oss-server-side-encryption-key-id: key-1",
            "x-oss-server-side-encryption: KMS",
            "x-oss-storage-class: ColdArchive",
            "x-oss-tagging: project=%E8%A7%86%E9%A2%91&a%20b=",
        ];
        assert_eq!(lines(&headers.begin), begin);
        let complete = ["x-oss-forbid-overwrite: true", "x-oss-object-acl: public-read"];
        assert_eq!(lines(&headers.complete), complete);
        let mut put: Vec<&str> = begin.into_iter().chain([complete[1]]).collect();
        put.sort_unstable();
        assert_eq!(lines(&headers.put), put);
    }

    #[test]
    fn all_mistakes_are_told() {
        let wrong = ObjectConfig {
            encryption: Some(Encryption::Aes256),
            kms_key_id: Some("key-1".to_owned()),
            tagging: vec!["=x".to_owned()],
            cache_control: Some("无".to_owned()),
            content_disposition: Some("a\nb".to_owned()),
            metadata: vec!["a_b=c".to_owned()],
            ..ObjectConfig::default()
        };
        let keys: Vec<&str> = ObjectHeaders::of(&wrong).expect_err("wrong").iter().map(|wrong| wrong.key).collect();
        let all = ["kms_key_id", "tagging", "tagging", "cache_control", "content_disposition", "metadata"];
        assert_eq!(keys, all.map(|name| format!("store.oss.object.{name}")));
    }
}
