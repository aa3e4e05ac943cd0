//! `Content-Disposition`: whether a browser saves or shows a file, and under which name.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 8187: everything but its attr-char is percent-encoded.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// How a browser is to take a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    /// Shown in the page rather than saved; what it is may still not run there.
    pub(super) inline: bool,
    /// Saved under this name rather than its own.
    pub(super) name: Option<String>,
}

impl Disposition {
    /// The header for a file of this name.
    pub(super) fn of(&self, file_name: &str) -> String {
        disposition(if self.inline { "inline" } else { "attachment" }, self.name.as_deref().unwrap_or(file_name))
    }
}

/// RFC 6266: a plain name for old clients, the true one for all others.
fn disposition(kind: &str, file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/' | '%') || c == ' ' { c } else { '_' })
        .collect();
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(file_name, EXTENDED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_as_data() {
        assert_eq!(
            disposition("attachment", "a b.txt"),
            "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
        );
        let hostile = disposition("attachment", "报\"告\r\nX: y\u{202e}.exe");
        assert!(hostile.is_ascii() && !hostile.contains('\r') && hostile.matches('"').count() == 2, "{hostile}");
        assert!(hostile.contains("%E6%8A%A5"));
    }
}
