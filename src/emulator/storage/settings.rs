//! What a bucket is told about itself: documents that come back as they were
//! given. The emulator heeds one of them, its CORS rules.

use super::{Storage, StorageError, locked};

/// A new bucket lets every page in: who tries the emulator in a browser should
/// not have to ask why not.
pub(super) const CORS_OF_A_NEW_BUCKET: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CORSConfiguration><CORSRule>\
     <AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
     <AllowedMethod>POST</AllowedMethod><AllowedMethod>DELETE</AllowedMethod><AllowedMethod>HEAD</AllowedMethod>\
     <AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><ExposeHeader>Content-MD5</ExposeHeader>\
     <ExposeHeader>x-oss-request-id</ExposeHeader><ExposeHeader>x-oss-hash-crc64ecma</ExposeHeader>\
     <ExposeHeader>x-oss-ec</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds></CORSRule></CORSConfiguration>\n";

/// Which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Cors,
    Lifecycle,
    Encryption,
    Tagging,
}

impl Setting {
    pub(crate) const ALL: [Self; 4] = [Self::Cors, Self::Lifecycle, Self::Encryption, Self::Tagging];

    /// The sub-resource that names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cors => "cors",
            Self::Lifecycle => "lifecycle",
            Self::Encryption => "encryption",
            Self::Tagging => "tagging",
        }
    }

    /// What OSS calls reading it, giving it, and taking it away.
    pub(crate) const fn operations(self) -> [&'static str; 3] {
        match self {
            Self::Cors => ["GetBucketCors", "PutBucketCors", "DeleteBucketCors"],
            Self::Lifecycle => ["GetBucketLifecycle", "PutBucketLifecycle", "DeleteBucketLifecycle"],
            Self::Encryption => ["GetBucketEncryption", "PutBucketEncryption", "DeleteBucketEncryption"],
            Self::Tagging => ["GetBucketTagging", "PutBucketTagging", "DeleteBucketTagging"],
        }
    }

    /// What OSS says where there is none.
    pub(crate) const fn code_of_none(self) -> &'static str {
        match self {
            Self::Cors => "NoSuchCORSConfiguration",
            Self::Lifecycle => "NoSuchLifecycle",
            Self::Encryption => "NoSuchServerSideEncryptionRule",
            Self::Tagging => "NoSuchTagSet",
        }
    }

    pub(super) fn file_name(self) -> String {
        format!("{}.xml", self.name())
    }
}

impl Storage {
    /// A document, if it was given.
    pub(crate) fn setting(&self, setting: Setting) -> Option<String> {
        locked(&self.settings).get(&setting).cloned()
    }

    /// Keeps a document, or takes it away.
    pub(crate) fn set(&self, setting: Setting, document: Option<String>) -> Result<(), StorageError> {
        let place = self.root.join("settings").join(setting.file_name());
        let mut settings = locked(&self.settings);
        match document {
            Some(document) => {
                self.write_aside(document.as_bytes())?.publish(&place)?;
                settings.insert(setting, document);
            }
            None if settings.remove(&setting).is_some() => std::fs::remove_file(place)?,
            None => {}
        }
        Ok(())
    }
}
