//! What holds of whatever a store answers, and of whatever is made of what
//! people say of where it is.

use bytes::Bytes;
use http::{Method, StatusCode};
use quick_xml::events::Event;

use crate::domain::ObjectKey;
use crate::fuzzing::Input;
use crate::store::remote::answer::{Answer, object};
use crate::store::remote::endpoint::{Endpoint, Style};
use crate::store::remote::xml;

pub(crate) fn answers(data: &[u8]) {
    let mut input = Input::new(data);
    let status = input.pick(&[
        StatusCode::OK,
        StatusCode::NOT_FOUND,
        StatusCode::BAD_GATEWAY,
        StatusCode::NON_AUTHORITATIVE_INFORMATION,
    ]);
    let method = input.pick(&[&Method::PUT, &Method::HEAD]).clone();
    let headers = input.headers();
    let body = input.rest();
    let text = String::from_utf8_lossy(body);
    documents(&text);
    let _ = object(&headers);
    let answer = Answer { status, headers, body: Bytes::copy_from_slice(body) };
    let _ = (answer.etag(), answer.crc64());
    let failure = answer.failure("Op", &method).error.to_string();
    assert!(!failure.is_empty());
    if let Ok(passed) = answer.checked("Op", &method) {
        assert!(passed.status == StatusCode::OK && xml::error(&text).is_none());
    }
}

fn documents(text: &str) {
    let is_error = xml::is_error(text);
    assert!(xml::error(text).is_none() || is_error);
    let root = root(text);
    if let Some(root) = &root {
        assert_eq!(is_error, root == "Error", "the root is {root}");
    }
    // What is read as one answer is read as no other.
    let initiated = xml::initiated(text);
    let parts = xml::parts(text);
    let uploads = xml::uploads(text);
    let read =
        [initiated.is_ok(), xml::completed(text).is_ok(), parts.is_ok(), uploads.is_ok(), xml::error(text).is_some()];
    assert!(read.into_iter().filter(|&is_read| is_read).count() <= 1);
    assert!(initiated.is_err() || initiated.is_ok_and(|session| !session.as_str().is_empty()));
    if let Ok(page) = parts {
        assert!(page.next.is_none_or(|next| !next.is_empty()));
        let again: Vec<_> = page.parts.into_iter().map(|listed| listed.part).collect();
        assert_eq!(xml::complete(&again, |_| None).matches("<PartNumber>").count(), again.len());
    }
    if let Ok(page) = uploads {
        assert!(page.next.is_none_or(|(key, _)| !key.is_empty()));
    }
}

/// The name of the first element, by the parser; none if there is none or if
/// what stands before it cannot be read.
fn root(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => {
                let name = element.name();
                let name: &str = name.as_ref();
                // What no XML has as a name is read in more than one way.
                let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric())
                    && name.starts_with(|c: char| c.is_ascii_alphabetic());
                return is_plain.then(|| name.to_owned());
            }
            Event::Eof => return None,
            Event::Text(_) | Event::CData(_) | Event::End(_) | Event::GeneralRef(_) => return None,
            // Whatever it is the type of is refused.
            Event::DocType(_) => return None,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// Whatever makes requests reads its URLs as they were meant. `text` is what it
/// was made of.
pub(crate) fn endpoint(endpoint: &Endpoint, text: &str, key: &ObjectKey) {
    let query = [("a b".to_owned(), key.as_str().to_owned())];
    let url = endpoint.url(Some(key.as_str()), &query);
    let read = reqwest::Url::parse(&url).unwrap_or_else(|e| panic!("{text:?} gave {url:?}: {e}"));
    assert_eq!(read.scheme(), endpoint.scheme);
    assert_eq!(
        read.query_pairs().next().map(|(name, value)| (name.into_owned(), value.into_owned())),
        Some(query[0].clone())
    );
    assert_eq!(read.path(), endpoint.path(Some(key.as_str())), "it is signed as it is sent");
    let path = percent_encoding::percent_decode_str(read.path()).decode_utf8().expect("as it was encoded").into_owned();
    let (host, expected) = match endpoint.style {
        Style::VirtualHost => {
            (read.host_str().and_then(|host| host.strip_prefix(&format!("{}.", endpoint.bucket))), format!("/{key}"))
        }
        Style::Path => (read.host_str(), format!("/{}/{key}", endpoint.bucket)),
        Style::Cname => (read.host_str(), format!("/{key}")),
    };
    assert_eq!(path, expected);
    let host = host.unwrap_or_else(|| panic!("{text:?} gave {url:?} without its bucket"));
    assert!(
        endpoint.authority.starts_with(host) || host.starts_with('['),
        "{text:?} gave {url:?}, whose host is {host:?}"
    );
    assert!(endpoint.address().rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()));
    // The Host header is the URL's own, an address's spelling aside.
    let said = match read.port() {
        Some(port) => format!("{}:{port}", read.host_str().unwrap_or_default()),
        None => read.host_str().unwrap_or_default().to_owned(),
    };
    assert!(endpoint.host() == said || said.starts_with('['), "{text:?}: {said:?} is not {:?}", endpoint.host());
}
