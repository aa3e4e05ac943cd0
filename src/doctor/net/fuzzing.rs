//! What holds of whatever a name server or a certificate says.

use super::{certificate, query};
use crate::fuzzing::Input;

pub(crate) fn servers(data: &[u8]) {
    let mut input = Input::new(data);
    let id = u16::from(input.byte());
    let rest = input.rest();
    // A question is read by whoever answers it, and is no answer.
    if let Some(question) = std::str::from_utf8(rest).ok().and_then(|name| query::question(id, name)) {
        assert!(query::read(id, &question).is_none() && question.len() <= 512);
    }
    let answer = [&id.to_be_bytes(), rest].concat();
    if let Some(query::Said::Addresses(addresses)) = query::read(id, &answer) {
        // Each took ten bytes and its own four.
        assert!(addresses.len() * 14 <= answer.len());
    }
    let _ = certificate::not_after(rest);
}
