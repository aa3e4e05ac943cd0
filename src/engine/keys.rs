//! Object keys: made once per upload, from the operator's template, in the
//! folder that a token names, and never from a path that a client sent.

use sha2::{Digest as _, Sha256};

use crate::domain::grant::KeyPrefix;
use crate::domain::{ObjectKey, Owner, Timestamp};

/// The placeholders a template may have.
pub const PLACEHOLDERS: [&str; 6] = ["owner", "yyyy", "MM", "dd", "random", "ext"];

/// The key of an upload; `None` as of `Shape::key`.
pub fn object_key(
    template: &str,
    prefix: Option<&KeyPrefix>,
    owner: &Owner,
    file_name: &str,
    at: Timestamp,
    random: u128,
) -> Option<ObjectKey> {
    Shape::new(template, prefix, owner, file_name, at).key(random)
}

/// A key but for what is drawn by lot: a template with all else filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(String);

impl Shape {
    /// A prefix takes the place of all folders up to the owner's; of a template
    /// without an owner it comes first.
    pub fn new(template: &str, prefix: Option<&KeyPrefix>, owner: &Owner, file_name: &str, at: Timestamp) -> Self {
        let (year, month, day) = at.date();
        let (prefix, template) = match prefix {
            Some(prefix) => (prefix.as_str(), template.split_once("{owner}/").map_or(template, |(_, rest)| rest)),
            None => ("", template),
        };
        // None of these may have braces in it.
        let key = template
            .replace("{owner}", &owner_segment(owner))
            .replace("{yyyy}", &format!("{year:04}"))
            .replace("{MM}", &format!("{month:02}"))
            .replace("{dd}", &format!("{day:02}"))
            .replace("{ext}", &extension(file_name));
        Self(format!("{prefix}{key}"))
    }

    /// The key with this lot. `None` when it is no key, which configuration has
    /// checked for ordinary owners.
    pub fn key(&self, random: u128) -> Option<ObjectKey> {
        ObjectKey::parse(&self.0.replace("{random}", &format!("{random:032x}")))
    }
}

/// The owner as it is where that is plain, else a hash of it.
fn owner_segment(owner: &Owner) -> String {
    let text = owner.as_str();
    let plain = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { text.to_owned() } else { hex::encode(&Sha256::digest(text.as_bytes())[..16]) }
}

/// `.pdf` and the like, when the name has a harmless one.
fn extension(file_name: &str) -> String {
    let Some((_, ext)) = file_name.rsplit_once('.') else { return String::new() };
    let ext = ext.to_ascii_lowercase();
    let harmless = (1..=10).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if harmless { format!(".{ext}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(owner: &str, name: &str) -> String {
        let owner = Owner::parse(owner).expect("an owner");
        let at = Timestamp::from_millis(1_795_255_740_007);
        let template = "uploads/{owner}/{yyyy}{MM}{dd}/{random}{ext}";
        object_key(template, None, &owner, name, at, 7).expect("a key").as_str().to_owned()
    }

    #[test]
    fn keys_follow_the_template() {
        assert_eq!(key("local", "a.PDF"), "uploads/local/20261121/00000000000000000000000000000007.pdf");
    }

    #[test]
    fn a_prefix_takes_the_place_of_the_owners_folder() {
        let prefix = KeyPrefix::parse("avatars/42").expect("a prefix");
        let at = Timestamp::from_millis(1_795_255_740_007);
        let key =
            |template| object_key(template, Some(&prefix), &Owner::local(), "a.png", at, 7).map(|key| key.to_string());
        let random = "00000000000000000000000000000007.png";
        assert_eq!(key("uploads/{owner}/{yyyy}{MM}{dd}/{random}{ext}"), Some(format!("avatars/42/20261121/{random}")));
        assert_eq!(key("{yyyy}/{random}{ext}"), Some(format!("avatars/42/2026/{random}")));
    }

    #[test]
    fn nothing_of_a_name_but_a_harmless_extension_reaches_the_key() {
        for name in ["../../etc/passwd", "a.p/df", "报告", "x.", ".a b", "a.toolongextension"] {
            assert!(key("local", name).ends_with("0000007"), "{name}: {}", key("local", name));
        }
        let hashed = key("user/../x", "a");
        assert!(!hashed.contains(".."), "{hashed}");
        assert_eq!(hashed.split('/').nth(1).map(str::len), Some(32));
    }
}
