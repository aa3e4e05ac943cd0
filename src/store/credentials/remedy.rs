//! What to do when credentials cannot be had, by where they come from. Pure.

use super::NoCredentials;
use super::source::Source;

/// With the kind, and what to do.
pub(super) fn explained(source: &Source, why: NoCredentials) -> NoCredentials {
    let remedy = Some(remedy(source, &why.code).into());
    NoCredentials { kind: Some(source.kind()), remedy, ..why }
}

/// What to do about a failure with this code.
pub fn remedy(source: &Source, code: &str) -> String {
    match source {
        Source::Written { origin, .. } => format!(
            "let the gateway's user read {origin} and its neighbours; each file has one line, and is replaced by \
             renaming another over it"
        ),
        Source::File(path) => format!(
            "let the gateway's user read {}, and let whoever rotates it put JSON there (AccessKeyId, AccessKeySecret, \
             SecurityToken, Expiration) before the old ones end: written beside it, and renamed",
            path.display()
        ),
        Source::Command(_) => "run the command of credentials.command by hand, as the gateway's user: within a minute \
                               it must write JSON (AccessKeyId, AccessKeySecret, SecurityToken, Expiration) to its \
                               standard output, and exit with 0"
            .to_owned(),
        Source::Asked(ask) => ask.remedy(code),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::credentials::Text;
    use crate::units::Secret;

    #[test]
    fn each_failure_has_what_mends_it() {
        let key = Source::Written {
            id: Text::InFile(PathBuf::from("/id")),
            secret: Text::Here(Secret::new("hush")),
            token: None,
            origin: "/id (OSS_ACCESS_KEY_ID_FILE)".to_owned(),
            is_in_environment: true,
        };
        for (source, code, told) in [
            (&key, "Unreadable", "OSS_ACCESS_KEY_ID_FILE"),
            (&Source::File(PathBuf::from("/key.json")), "Unreadable", "/key.json"),
            (&Source::Command("hush".to_owned()), "Command", "credentials.command"),
        ] {
            let said = remedy(source, code);
            assert!(said.contains(told) && !said.contains("hush"), "{code}: {said}");
        }
        let none = explained(&key, NoCredentials::for_now("Unreadable", "gone")).fault("Op");
        assert!(none.message.starts_with("no credentials for the store (environment): Unreadable"), "{none}");
    }
}
