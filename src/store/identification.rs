//! Who we are to a store, as far as it may be shown: for the doctor.

use std::time::Duration;

use crate::store::error::Fault;

/// Who we are to a store. No secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// How credentials are come by: `static`, `assume_role`, …
    pub kind: &'static str,
    /// The beginning of the access key's id.
    pub key: String,
    /// Where it comes from: the setting, the variable, the file, whoever is asked.
    pub origin: String,
    /// Whether a token came with it, so that it ends.
    pub is_temporary: bool,
    /// For how long it is good, where whoever gave it has said so.
    pub life_left: Option<Duration>,
    /// Why others cannot be had, although these still serve.
    pub failing: Option<Fault>,
}

/// Enough of an access key's id to tell it from others.
pub fn shortened(id: &str) -> String {
    match id.char_indices().nth(8) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_whole_key_is_shown() {
        assert_eq!((shortened("LTAI5tQnKxxXYZ").as_str(), shortened("ak").as_str()), ("LTAI5tQn…", "ak"));
    }
}
