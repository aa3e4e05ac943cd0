//! The XML of S3 and of OSS, pure: answers read, the list of parts written. Answers come
//! from the network: a document type is refused, entities beyond XML's own
//! are not known, and the reader's caller bounds the size.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::{Crc64, Part, PartNumber, SessionId, Timestamp};
use crate::store::ListedUpload;

/// `<Error>`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ErrorAnswer {
    /// `NoSuchUpload`, …
    pub code: String,
    /// A sentence.
    pub message: String,
    /// Where the bucket is, if it is not here.
    pub endpoint: Option<String>,
    /// For OSS's support.
    pub request_id: Option<String>,
    /// The finer code that OSS's support pages are filed under.
    #[serde(rename = "EC")]
    pub ec: Option<String>,
}

/// The checksums that S3 keeps of a part or an object, each in base64 and only
/// where it was uploaded with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// `ChecksumCRC64NVME`
    pub crc64nvme: Option<String>,
    /// `ChecksumCRC32C`
    pub crc32c: Option<String>,
    /// `ChecksumCRC32`
    pub crc32: Option<String>,
}

/// A part as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// What every store says of it.
    pub part: Part,
    /// What S3 says beyond that.
    pub checksums: Checksums,
}

/// One page of ListParts.
#[derive(Debug, PartialEq, Eq)]
pub struct PartsPage {
    /// The parts, as the store sorts them.
    pub parts: Vec<ListedPart>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// One page of ListMultipartUploads.
#[derive(Debug, PartialEq, Eq)]
pub struct UploadsPage {
    /// The uploads.
    pub uploads: Vec<ListedUpload>,
    /// Key and upload id where the next page begins, if there is one.
    pub next: Option<(String, String)>,
}

/// What is wrong with an answer's body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer that cannot be read: {0}")]
pub struct Unreadable(String);

/// Reads `<Error>`; none when it is something else.
pub fn error(text: &str) -> Option<ErrorAnswer> {
    is_error(text).then(|| read(text, "Error").ok()).flatten()
}

/// Whether it is one, readable or not: one that breaks off is no success either.
pub fn is_error(text: &str) -> bool {
    root(text) == Some("Error")
}

/// Reads the upload id of `<InitiateMultipartUploadResult>`.
pub fn initiated(text: &str) -> Result<SessionId, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Initiated {
        upload_id: String,
    }
    let Initiated { upload_id } = read(text, "InitiateMultipartUploadResult")?;
    if upload_id.is_empty() {
        return Err(Unreadable("an empty UploadId".to_owned()));
    }
    Ok(SessionId::new(upload_id))
}

/// An object that was joined.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// Without quotes.
    pub etag: String,
    /// Of the whole, or of the parts' checksums: then `-` and their number follow.
    pub checksums: Checksums,
}

/// Reads `<CompleteMultipartUploadResult>`.
pub fn completed(text: &str) -> Result<Joined, Unreadable> {
    #[derive(Deserialize)]
    struct Completed {
        #[serde(rename = "ETag")]
        etag: String,
        #[serde(rename = "ChecksumCRC64NVME")]
        crc64nvme: Option<String>,
        #[serde(rename = "ChecksumCRC32C")]
        crc32c: Option<String>,
        #[serde(rename = "ChecksumCRC32")]
        crc32: Option<String>,
    }
    let Completed { etag, crc64nvme, crc32c, crc32 } = read(text, "CompleteMultipartUploadResult")?;
    Ok(Joined { etag: unquoted(&etag).to_owned(), checksums: Checksums { crc64nvme, crc32c, crc32 } })
}

/// Reads `<ListPartsResult>`.
pub fn parts(text: &str) -> Result<PartsPage, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        #[serde(default)]
        is_truncated: bool,
        #[serde(default)]
        next_part_number_marker: Option<String>,
        #[serde(default)]
        part: Vec<OfPart>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct OfPart {
        part_number: u32,
        #[serde(rename = "ETag")]
        etag: String,
        size: u64,
        hash_crc64ecma: Option<String>,
        #[serde(rename = "ChecksumCRC64NVME")]
        crc64nvme: Option<String>,
        #[serde(rename = "ChecksumCRC32C")]
        crc32c: Option<String>,
        #[serde(rename = "ChecksumCRC32")]
        crc32: Option<String>,
    }
    // S3's specification has the second name, and moto too.
    let is_list = root(text) == Some("ListPartsResponse");
    let listed: Listed = read(text, if is_list { "ListPartsResponse" } else { "ListPartsResult" })?;
    let part = |part: OfPart| {
        let number = PartNumber::new(part.part_number)
            .ok_or_else(|| Unreadable(format!("{} is not a part number", part.part_number)))?;
        let etag = unquoted(&part.etag).to_owned();
        let crc64 = part.hash_crc64ecma.as_deref().and_then(Crc64::parse);
        let checksums = Checksums { crc64nvme: part.crc64nvme, crc32c: part.crc32c, crc32: part.crc32 };
        Ok(ListedPart { part: Part { number, bytes: part.size, etag, crc64 }, checksums })
    };
    let parts = listed.part.into_iter().map(part).collect::<Result<_, Unreadable>>()?;
    let next = if listed.is_truncated {
        let marker = listed.next_part_number_marker.filter(|marker| !marker.is_empty());
        Some(marker.ok_or_else(|| Unreadable("a truncated list without a marker".to_owned()))?)
    } else {
        None
    };
    Ok(PartsPage { parts, next })
}

/// Reads `<ListMultipartUploadsResult>`.
pub fn uploads(text: &str) -> Result<UploadsPage, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        #[serde(default)]
        encoding_type: Option<String>,
        #[serde(default)]
        is_truncated: bool,
        #[serde(default)]
        next_key_marker: String,
        #[serde(default)]
        next_upload_id_marker: String,
        #[serde(default)]
        upload: Vec<Upload>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Upload {
        key: String,
        upload_id: String,
        #[serde(default)]
        initiated: String,
    }
    let listed: Listed = read(text, "ListMultipartUploadsResult")?;
    let is_encoded = listed.encoding_type.is_some_and(|kind| kind == "url");
    let key = |text: String| if is_encoded { url_decoded(&text) } else { text };
    let uploads = listed.upload.into_iter();
    let uploads = uploads.map(|u| ListedUpload {
        key: key(u.key),
        session: SessionId::new(u.upload_id),
        begun_at: Timestamp::parse_rfc3339(&u.initiated),
    });
    let uploads = uploads.collect();
    let next = listed.is_truncated.then(|| (key(listed.next_key_marker), listed.next_upload_id_marker));
    if next.as_ref().is_some_and(|(marker, _)| marker.is_empty()) {
        return Err(Unreadable("a truncated list without a marker".to_owned()));
    }
    Ok(UploadsPage { uploads, next })
}

/// Writes `<CompleteMultipartUpload>`: an explicit list, so that the store
/// checks number and ETag of every part, and what `checksum` says beyond that: an
/// element's name and its text.
pub fn complete<'a>(parts: &'a [Part], checksum: impl Fn(&'a Part) -> Option<(&'static str, &'a str)>) -> String {
    let mut xml = String::with_capacity(64 + parts.len() * 96);
    xml.push_str("<CompleteMultipartUpload>");
    for part in parts {
        let etag = quick_xml::escape::partial_escape(part.etag.as_str());
        // Writing to a String cannot fail.
        let _ = write!(xml, "<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag>", part.number);
        if let Some((name, text)) = checksum(part) {
            let _ = write!(xml, "<{name}>{}</{name}>", quick_xml::escape::partial_escape(text));
        }
        xml.push_str("</Part>");
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

/// An ETag without its quotes.
pub fn unquoted(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

/// A blank is encoded as `+` and a plus as `%2B`.
fn url_decoded(text: &str) -> String {
    let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

pub(in crate::store) fn read<T: DeserializeOwned>(text: &str, expected: &str) -> Result<T, Unreadable> {
    if has_document_type(text) {
        return Err(Unreadable("a document type".to_owned()));
    }
    let name = root(text).unwrap_or("nothing");
    if name != expected {
        return Err(Unreadable(format!("{expected} was expected, {name} came")));
    }
    quick_xml::de::from_str(text).map_err(|e| Unreadable(format!("{expected}: {e}")))
}

/// In capitals or not, which XML does not allow and readers do.
fn has_document_type(text: &str) -> bool {
    let is_one = |(at, mark): (usize, &str)| {
        let name = text.as_bytes().get(at + mark.len()..at + mark.len() + 7);
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"doctype"))
    };
    text.match_indices("<!").any(is_one)
}

/// The name of the document's first element. Comments and instructions before
/// it may hold anything, what looks like elements too.
fn root(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.split_once('<')?.1;
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
        } else if let Some(instruction) = rest.strip_prefix('?') {
            rest = instruction.split_once("?>")?.1;
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return rest.split(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/').next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

    #[test]
    fn an_error_is_read_and_nothing_else_is_taken_for_one() {
        let text = format!(
            "{DECLARATION}<Error>\n  <Code>NoSuchUpload</Code>\n  <Message>a &lt;b&gt; &amp; c</Message>\n\
             <RequestId>5CF3</RequestId><HostId>h</HostId><UploadId>u</UploadId><EC>0042-00000021</EC></Error>"
        );
        let read = error(&text).expect("an error");
        assert_eq!((read.code.as_str(), read.message.as_str()), ("NoSuchUpload", "a <b> & c"));
        assert_eq!((read.request_id.as_deref(), read.ec.as_deref()), (Some("5CF3"), Some("0042-00000021")));
        for text in ["", "busy", "<html><Code>x</Code></html>", "<Errors/>", "<Error><Code>x"] {
            assert_eq!(error(text), None, "{text}");
        }
        assert_eq!(error("<Error/>"), Some(ErrorAnswer::default()));
        let commented = "<!-- <Fine/> --><?of <none?>\n<Error><Code>x</Code></Error>";
        assert_eq!(error(commented).map(|error| error.code).as_deref(), Some("x"));
        assert!(!is_error("<!-- <Error> --><Fine/>"));
        assert!(is_error("<Error><Code>x") && !is_error("<Errors/>") && !is_error(""));
    }

    #[test]
    fn what_defines_entities_is_refused() {
        let text = "<!DOCTYPE x [<!ENTITY a \"b\">]><InitiateMultipartUploadResult><UploadId>&a;</UploadId></InitiateMultipartUploadResult>";
        assert!(initiated(text).is_err());
        assert!(initiated(&text.replace("DOCTYPE", "doctype").replace("&a;", "a")).is_err());
        let text = "<InitiateMultipartUploadResult><UploadId>&a;</UploadId></InitiateMultipartUploadResult>";
        assert!(initiated(text).is_err());
    }

    #[test]
    fn an_upload_is_begun_and_completed() {
        let text = format!(
            "{DECLARATION}<InitiateMultipartUploadResult xmlns=\"http://doc.oss-cn-hangzhou.aliyuncs.com\">\n\
             <Bucket>b</Bucket><Key>k</Key><UploadId>0004B989</UploadId></InitiateMultipartUploadResult>"
        );
        assert_eq!(initiated(&text), Ok(SessionId::new("0004B989")));
        let text = "<CompleteMultipartUploadResult><Location>l</Location><ETag>&quot;B864-3&quot;</ETag></CompleteMultipartUploadResult>";
        assert_eq!(completed(text).map(|joined| joined.etag).as_deref(), Ok("B864-3"));
        assert!(completed("<Error><Code>InternalError</Code></Error>").is_err());
    }

    #[test]
    fn parts_are_listed_page_by_page() {
        let text = "<ListPartsResult><Bucket>b</Bucket><NextPartNumberMarker>5</NextPartNumberMarker>\
            <IsTruncated>true</IsTruncated>\
            <Part><PartNumber>1</PartNumber><LastModified>t</LastModified><ETag>\"3349\"</ETag>\
            <HashCrc64ecma>12241702105012776187</HashCrc64ecma><Size>102400</Size></Part>\
            <Part><PartNumber>5</PartNumber><ETag>\"7265\"</ETag><Size>7</Size></Part></ListPartsResult>";
        let page = parts(text).expect("a page");
        assert_eq!(page.next.as_deref(), Some("5"));
        assert_eq!(page.parts.len(), 2);
        let [first, second] = [&page.parts[0].part, &page.parts[1].part];
        assert_eq!((first.etag.as_str(), first.bytes), ("3349", 102_400));
        assert_eq!(first.crc64, Some(Crc64(12_241_702_105_012_776_187)));
        assert_eq!((second.number.get(), second.crc64), (5, None));
        assert_eq!(
            parts("<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>"),
            Ok(PartsPage { parts: Vec::new(), next: None })
        );
        assert_eq!(parts(&text.replace("ListPartsResult", "ListPartsResponse")).map(|page| page.parts.len()), Ok(2));
        assert!(parts(&text.replace("<PartNumber>5<", "<PartNumber>0<")).is_err());
        assert!(parts("<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>").is_err());
    }

    #[test]
    fn uploads_are_listed_with_their_keys_decoded() {
        let text = "<ListMultipartUploadsResult><EncodingType>url</EncodingType>\
            <NextKeyMarker>a%2Fz</NextKeyMarker><NextUploadIdMarker>U2</NextUploadIdMarker><IsTruncated>true</IsTruncated>\
            <Upload><Key>a%2Fb+c%2B%E4%B8%AD</Key><UploadId>U1</UploadId><Initiated>2026-11-21T10:09:00.007Z</Initiated></Upload>\
            </ListMultipartUploadsResult>";
        let page = uploads(text).expect("a page");
        assert_eq!(
            page.uploads,
            [ListedUpload {
                key: "a/b c+中".to_owned(),
                session: SessionId::new("U1"),
                begun_at: Some(Timestamp::from_millis(1_795_255_740_007))
            }]
        );
        assert_eq!(page.next, Some(("a/z".to_owned(), "U2".to_owned())));
        let page = uploads(&text.replace("<EncodingType>url</EncodingType>", "")).expect("a page");
        assert_eq!(page.uploads[0].key, "a%2Fb+c%2B%E4%B8%AD");
    }

    #[test]
    fn the_list_to_complete_is_explicit() {
        let part = |number, etag: &str| Part {
            number: PartNumber::new(number).expect("a number"),
            bytes: 1,
            etag: etag.to_owned(),
            crc64: None,
        };
        let of_second = |part: &Part| (part.number.get() == 2).then_some(("Sum", "A=="));
        assert_eq!(
            complete(&[part(1, "AB"), part(2, "<&>")], of_second),
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"AB\"</ETag></Part>\
             <Part><PartNumber>2</PartNumber><ETag>\"&lt;&amp;&gt;\"</ETag><Sum>A==</Sum></Part></CompleteMultipartUpload>"
        );
    }
}
