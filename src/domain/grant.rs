//! What a caller may do: whose files, which acts, on which terms.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::domain::ids::{FileId, Owner};
use crate::domain::kind::Kinds;
use crate::domain::refusal::Refusal;

/// An act that a token is handed out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Creating uploads, sending chunks, asking what has arrived, giving up.
    UploadsWrite,
    /// Lists of files, what is in them, links to them.
    FilesRead,
    /// Deleting files.
    FilesWrite,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UploadsWrite, Self::FilesRead, Self::FilesWrite];

    /// As tokens write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UploadsWrite => "uploads:write",
            Self::FilesRead => "files:read",
            Self::FilesWrite => "files:write",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::UploadsWrite => 1,
            Self::FilesRead => 2,
            Self::FilesWrite => 4,
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every one: what a key has.
    pub const ALL: Self = Self(7);

    /// What a browser gets unless something else is asked for: its uploads,
    /// and reading what became of them.
    pub const BROWSER: Self = Self(Scope::UploadsWrite.bit() | Scope::FilesRead.bit());

    /// Sending a file, and nothing else.
    pub const UPLOAD: Self = Self(Scope::UploadsWrite.bit());

    /// Whether this one is among them.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Reads names with spaces between them (RFC 6749 §3.3), at least one.
    pub fn parse(text: &str) -> Option<Self> {
        let bit = |name| Scope::ALL.into_iter().find(|scope| scope.name() == name).map(Scope::bit);
        let bits = text.split_ascii_whitespace().map(bit).try_fold(0, |all, bit| Some(all | bit?))?;
        (bits != 0).then_some(Self(bits))
    }

    /// Those of the names that mean something here: the tokens of another
    /// issuer have scopes that are not ours.
    pub fn known_among<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().filter_map(Self::parse).fold(0, |all, one| all | one.0))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Scope::ALL.into_iter().filter(|scope| self.contains(*scope)).map(Scope::name);
        f.write_str(&names.collect::<Vec<_>>().join(" "))
    }
}

/// What whoever handed out a token has locked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The largest file, in bytes.
    pub file_bytes_max: Option<u64>,
    /// The kinds of files; none is any kind.
    pub kinds: Option<Kinds>,
    /// The one upload that there is for the bearer.
    pub file_id: Option<FileId>,
    /// The folder in the store that the objects get into.
    pub key_prefix: Option<KeyPrefix>,
    /// Pairs that every upload gets, over those of the client.
    pub metadata: BTreeMap<String, String>,
}

/// Who is asking, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose files they are.
    pub owner: Owner,
    /// Which acts.
    pub scopes: Scopes,
    /// On which terms.
    pub terms: Arc<Terms>,
}

impl Grant {
    /// Everything, as this owner.
    pub fn all(owner: Owner) -> Self {
        Self { owner, scopes: Scopes::ALL, terms: Arc::default() }
    }

    /// Whether this act is allowed.
    pub fn allows(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Refusal::InsufficientScope { needed: scope.name() }) }
    }

    /// Whose upload or file this is for the caller: of a fileId that the token
    /// is not for, nobody's, which is as if there were none.
    pub fn owner_of(&self, file_id: &FileId) -> &Owner {
        static NOBODY: Owner = Owner::nobody();
        match &self.terms.file_id {
            Some(only) if only != file_id => &NOBODY,
            _ => &self.owner,
        }
    }

    /// The fileId of a new upload, where the token leaves no choice.
    pub fn file_id_for(&self, wanted: Option<FileId>) -> Result<Option<FileId>, Refusal> {
        match (&self.terms.file_id, wanted) {
            (Some(only), Some(wanted)) if *only != wanted => Err(Refusal::OtherFileId),
            (Some(only), _) => Ok(Some(only.clone())),
            (None, wanted) => Ok(wanted),
        }
    }
}

/// A folder in the store: segments of `A-Za-z0-9._~-`, none of them `.` or
/// `..`, each followed by `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// The longest, in bytes: room is left for the rest of the key.
    pub const BYTES_MAX: usize = 512;

    /// Reads it; the last slash may be left out.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-' | b'=' | b'@');
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(plain);
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.len() < Self::BYTES_MAX && text.split('/').all(segment) {
            return Ok(Self(format!("{text}/")));
        }
        Err(Refusal::invalid(format!(
            "keyPrefix is a folder such as avatars/42/: up to {} bytes of A-Z a-z 0-9 . _ ~ - = @ between slashes, \
             not beginning with one",
            Self::BYTES_MAX
        )))
    }

    /// With its slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written() {
        assert_eq!(Scopes::BROWSER.to_string(), "uploads:write files:read");
        assert_eq!(Scopes::parse("files:read  uploads:write"), Some(Scopes::BROWSER));
        assert_eq!(Scopes::parse(&Scopes::ALL.to_string()), Some(Scopes::ALL));
        for wrong in ["", " ", "files:*", "files:read,files:write", "FILES:READ"] {
            assert_eq!(Scopes::parse(wrong), None, "{wrong}");
        }
        let known = Scopes::known_among(["openid", "files:read", "email"]);
        assert!(known.contains(Scope::FilesRead) && !known.contains(Scope::UploadsWrite));
        assert!(!Scopes::known_among(["openid"]).contains(Scope::FilesRead));
    }

    #[test]
    fn a_token_for_one_file_sees_no_other() {
        let (this, that) = (FileId::parse("this").expect("an id"), FileId::parse("that").expect("an id"));
        let terms = Terms { file_id: Some(this.clone()), ..Terms::default() };
        let grant = Grant { terms: Arc::new(terms), ..Grant::all(Owner::local()) };
        assert_eq!(grant.owner_of(&this), &Owner::local());
        assert_ne!(grant.owner_of(&that), &Owner::local());
        assert_eq!(grant.file_id_for(None), Ok(Some(this.clone())));
        assert_eq!(grant.file_id_for(Some(this.clone())), Ok(Some(this)));
        assert_eq!(grant.file_id_for(Some(that)), Err(Refusal::OtherFileId));
    }

    #[test]
    fn a_prefix_is_a_folder() {
        for (given, kept) in [("a", "a/"), ("a/b/", "a/b/"), ("tenant=7/u@x", "tenant=7/u@x/")] {
            assert_eq!(KeyPrefix::parse(given).map(|prefix| prefix.as_str().to_owned()), Ok(kept.to_owned()));
        }
        for wrong in ["", "/", "/a", "a//b", "../a", "a/./b", "a b", "a\\b", "a\n", "报", &"a".repeat(513)] {
            assert!(KeyPrefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
