//! Credentials in files that somebody else rewrites.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio::time::sleep;

use super::{Credentials, NoCredentials};
use crate::units::Secret;

/// Several files are changed one after the other: what has not changed for so
/// long belongs together.
const SETTLED: Duration = Duration::from_millis(50);
/// How often it is looked whether they have settled.
const LOOKS_MAX: u32 = 20;

/// A text that is here, or that a file has.
#[derive(Clone, Debug)]
pub enum Text {
    /// It does not change.
    Here(Secret),
    /// It is what the file says when it is asked.
    InFile(PathBuf),
}

impl Text {
    async fn read(&self) -> Result<String, NoCredentials> {
        match self {
            Self::Here(secret) => Ok(secret.expose().trim().to_owned()),
            Self::InFile(path) => {
                let text = read(path).await?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }

    /// Whether it may be another one later.
    pub const fn changes(&self) -> bool {
        matches!(self, Self::InFile(_))
    }
}

/// Reads a file of secrets, whose content no error repeats.
pub(in crate::store) async fn read(path: &Path) -> Result<String, NoCredentials> {
    fs::read_to_string(path).await.map_err(|error| {
        let text = format!("the file {} cannot be read: {error}", path.display());
        // Whoever replaces a file may have it away for a moment.
        match error.kind() == io::ErrorKind::PermissionDenied {
            true => NoCredentials::for_good("Unreadable", text),
            false => NoCredentials::for_now("Unreadable", text),
        }
    })
}

/// Reads all three, until they are the same for a while.
pub(in crate::store) async fn settled(
    id: &Text,
    secret: &Text,
    token: Option<&Text>,
) -> Result<Credentials, NoCredentials> {
    let changes = id.changes() || secret.changes() || token.is_some_and(Text::changes);
    let mut read = once(id, secret, token).await?;
    for _ in 0..LOOKS_MAX {
        if !changes {
            break;
        }
        sleep(SETTLED).await;
        let again = once(id, secret, token).await?;
        if again.are(&read) {
            break;
        }
        read = again;
    }
    Ok(read)
}

async fn once(id: &Text, secret: &Text, token: Option<&Text>) -> Result<Credentials, NoCredentials> {
    let (access_key_id, access_key_secret) = (id.read().await?, secret.read().await?);
    let security_token = match token {
        Some(token) => Some(token.read().await?).filter(|token| !token.is_empty()),
        None => None,
    };
    if access_key_id.is_empty() || access_key_secret.is_empty() {
        return Err(NoCredentials::for_now("Unreadable", "a file of the access key is empty"));
    }
    let (access_key_secret, security_token) = (Secret::new(access_key_secret), security_token.map(Secret::new));
    Ok(Credentials { access_key_id, access_key_secret, security_token })
}
