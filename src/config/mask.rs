//! What is shown of values in which a password or a token may stand where none
//! belongs. Pure.

use serde_json::Value as Json;

/// Keys whose values are addresses: a query is part of one, and may hold a token.
const ADDRESSES: [&str; 11] = [
    "public_url",
    "webhook.url",
    "hooks.before_create.url",
    "hooks.completed.url",
    "store.oss.endpoint",
    "store.oss.public_endpoint",
    "store.s3.endpoint",
    "store.s3.public_endpoint",
    "store.oss.credentials.sts_endpoint",
    "store.s3.credentials.sts_endpoint",
    "store.oss.credentials.metadata_endpoint",
];

/// Whether this key's value is an address.
pub(super) fn is_address(key: &str) -> bool {
    ADDRESSES.contains(&key)
}

/// `https://********@host/path?********`: what is useful of an address that may
/// have a password where none belongs.
fn without_secrets(address: &str) -> String {
    let (scheme, rest) = address.find("://").map_or(("", address), |at| address.split_at(at + 3));
    let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("********@", place));
    match place.find(['?', '#']) {
        Some(at) => format!("{scheme}{user}{}********", &place[..=at]),
        None => format!("{scheme}{user}{place}"),
    }
}

/// A value for an error message. Whatever looks like an address is shown as
/// one: a password pasted under the wrong key is still a password.
pub(super) fn shown(key: &str, value: &Json) -> Json {
    match value {
        Json::String(text) if is_address(key) || text.contains("://") || text.contains('@') => {
            Json::String(without_secrets(text))
        }
        Json::Array(items) => items.iter().map(|item| shown(key, item)).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => value.clone(),
    }
}

/// An advice without the secrets of the value that it may repeat.
pub(super) fn advised(key: &str, value: &Json, advice: &str) -> String {
    match (value, shown(key, value)) {
        (Json::String(raw), Json::String(hidden)) if *raw != hidden => {
            advice.replace(&format!("{raw:?}"), &format!("{hidden:?}")).replace(raw, &hidden)
        }
        (Json::Array(items), _) => items.iter().fold(advice.to_owned(), |advice, item| advised(key, item, &advice)),
        _ => advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_passwords_and_queries() {
        for (address, known) in [
            ("https://h/a", "https://h/a"),
            ("http://u:p@h/a", "http://********@h/a"),
            ("http://u:p@s?s@h/a?b=c#d", "http://********@h/a?********"),
            ("u:p@h", "********@h"),
            ("h/a?token=t", "h/a?********"),
            ("https://h/#t", "https://h/#********"),
        ] {
            assert_eq!(without_secrets(address), known);
        }
        let value = Json::String("http://u:p@h/?t=1".to_owned());
        let advice = advised("webhook.url", &value, "\"http://u:p@h/?t=1\" is wrong");
        assert_eq!(advice, "\"http://********@h/?********\" is wrong");
    }
}
