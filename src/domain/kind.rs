//! Kinds of files: by their names, and by the bytes that they begin with.

use std::fmt;

use crate::domain::refusal::Refusal;

/// So many bytes of a file are looked at: those that tell Office files from
/// other archives come late.
pub const HEAD_BYTES: usize = 4096;

/// The kinds of files that are taken: MIME types, `image/*` for all images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// The most of them.
    pub const MAX: usize = 64;

    /// Reads MIME types, in lower case or not.
    pub fn parse<T: AsRef<str>>(given: &[T]) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::InvalidParameter { name: "allowedTypes", reason: why };
        if given.is_empty() || given.len() > Self::MAX {
            return Err(wrong(format!("is a list of 1 to {} MIME types", Self::MAX)));
        }
        let read = |text: &T| {
            let text = text.as_ref().to_ascii_lowercase();
            let token = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
            };
            let valid = text.split_once('/').is_some_and(|(kind, rest)| token(kind) && (rest == "*" || token(rest)));
            if valid && text.len() <= 127 {
                Ok(text)
            } else {
                Err(wrong(format!("has {text:?}, which is not a MIME type such as image/png or image/*")))
            }
        };
        given.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// As they were given.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    fn have(&self, mime: &str) -> bool {
        let mime = plain(mime);
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(folder) => mime.starts_with(folder),
            None => plain(pattern) == mime,
        })
    }

    /// Whether a file of this name may be one of them: what its ending says,
    /// and what the client says, must both be.
    pub fn allow_name(&self, file_name: &str, content_type: Option<&str>) -> Result<(), Refusal> {
        let by_name: Vec<&str> = mime_guess::from_path(file_name).iter_raw().collect();
        let named = by_name.iter().any(|mime| self.have(mime));
        let declared = content_type.map(|mime| self.have(essence(mime)));
        match (named, declared) {
            (true, None | Some(true)) => Ok(()),
            // An ending that says nothing: what the client says has to do, and the bytes.
            (false, Some(true)) if by_name.is_empty() => Ok(()),
            (true, Some(false)) => Err(self.refused(essence(content_type.unwrap_or_default()))),
            (false, _) => Err(self.refused(by_name.first().copied().or(content_type).unwrap_or("unknown"))),
        }
    }

    /// Whether a file that begins so may be one of them. `name` and
    /// `content_type` were allowed already.
    pub fn allow_head(&self, head: &[u8], file_name: &str, content_type: Option<&str>) -> Result<(), Refusal> {
        let by_name = mime_guess::from_path(file_name);
        let named: Vec<&str> = by_name.iter_raw().map(|mime: &str| mime).filter(|mime| self.have(mime)).collect();
        let declared = content_type.map(essence).filter(|mime| self.have(mime));
        let said: Vec<&str> = named.iter().copied().chain(declared).collect();
        match infer::get(head).map(|found| found.mime_type()) {
            Some(found) if self.have(found) || said.iter().any(|said| is_written_as(said, found)) => Ok(()),
            Some(found) => Err(self.refused(found)),
            // Text has no mark of its own; an image, a video or an archive that has none is none,
            // whichever of the two says that it is one.
            None if head.is_empty()
                || !said.is_empty()
                    && (named.is_empty() || named.iter().any(|mime| !has_mark(mime)))
                    && declared.is_none_or(|mime| !has_mark(mime)) =>
            {
                Ok(())
            }
            None => Err(self.refused("another kind than its name says")),
        }
    }

    fn refused(&self, found: &str) -> Refusal {
        Refusal::TypeNotAllowed { found: found.chars().take(100).collect(), allowed: self.to_string() }
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// `text/html; charset=utf-8` is `text/html`.
fn essence(mime: &str) -> &str {
    mime.split(';').next().unwrap_or(mime).trim()
}

/// One spelling for `audio/x-wav` and `audio/wav`.
fn plain(mime: &str) -> String {
    let mime = mime.to_ascii_lowercase();
    match mime.as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "audio/mp3" => "audio/mpeg".to_owned(),
        "audio/wave" | "audio/vnd.wave" => "audio/wav".to_owned(),
        "video/m4v" => "video/mp4".to_owned(),
        "application/zip-compressed" => "application/zip".to_owned(),
        "text/javascript" => "application/javascript".to_owned(),
        _ => mime.replacen("/x-", "/", 1),
    }
}

/// Formats that are written in another one: Office and OpenDocument files are
/// archives, SVG is XML, a QuickTime file may say that it is MPEG-4.
fn is_written_as(said: &str, found: &str) -> bool {
    let said = plain(said);
    match plain(found).as_str() {
        "application/zip" => {
            said.starts_with("application/vnd.openxmlformats-")
                || said.starts_with("application/vnd.oasis.opendocument.")
                || said.starts_with("application/vnd.android.")
                || matches!(said.as_str(), "application/epub+zip" | "application/java-archive")
        }
        "application/gzip" => matches!(said.as_str(), "application/gzip" | "application/gtar" | "application/tar"),
        "application/msword" | "application/ole-storage" => {
            matches!(said.as_str(), "application/msword" | "application/vnd.ms-excel" | "application/vnd.ms-powerpoint")
        }
        "text/xml" => said.ends_with("+xml") || said.ends_with("/xml"),
        "video/mp4" | "video/quicktime" => {
            matches!(said.as_str(), "video/mp4" | "video/quicktime" | "audio/mp4" | "audio/m4a" | "video/3gpp")
        }
        "video/matroska" | "video/webm" => {
            matches!(said.as_str(), "video/matroska" | "video/webm" | "audio/webm" | "audio/matroska")
        }
        "audio/ogg" | "video/ogg" => matches!(said.as_str(), "audio/ogg" | "video/ogg" | "audio/opus"),
        _ => false,
    }
}

/// Whether files of this type begin with bytes that tell it.
fn has_mark(mime: &str) -> bool {
    let mime = plain(mime);
    if mime == "image/svg+xml" {
        return false;
    }
    let marked = ["image/", "video/", "audio/", "font/", "application/vnd.openxmlformats-"];
    marked.iter().any(|folder| mime.starts_with(folder))
        || matches!(
            mime.as_str(),
            "application/pdf"
                | "application/zip"
                | "application/gzip"
                | "application/7z-compressed"
                | "application/rar-compressed"
                | "application/vnd.rar"
                | "application/xz"
                | "application/zstd"
                | "application/bzip2"
                | "application/epub+zip"
                | "application/msword"
                | "application/vnd.ms-excel"
                | "application/vnd.ms-powerpoint"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const PDF: &[u8] = b"%PDF-1.7\n";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0\x08\0";
    const SCRIPT: &[u8] = b"alert(document.cookie)";
    const HTML: &[u8] = b"<!DOCTYPE html><html><body>";

    fn kinds(list: &[&str]) -> Kinds {
        Kinds::parse(list).expect("kinds")
    }

    #[test]
    fn a_name_must_end_as_one_of_them() {
        let images = kinds(&["image/png", "IMAGE/JPEG"]);
        let ask = |name: &str, mime: Option<&str>| images.allow_name(name, mime).is_ok();
        assert!(ask("a.png", None) && ask("A.JPG", Some("image/jpg")) && ask("b.png", Some("image/png; q=1")));
        assert!(ask("photo", Some("image/png")), "no ending, but said to be one");
        assert!(!ask("a.png.html", None) && !ask("a.svg", None) && !ask("photo", None));
        assert!(!ask("a.png", Some("text/html")) && !ask("a.exe", Some("image/png")));
        assert!(kinds(&["image/*"]).allow_name("a.webp", None).is_ok());
    }

    #[test]
    fn the_first_bytes_must_be_of_one_of_them() {
        let ask = |list: &[&str], head: &[u8], name: &str| kinds(list).allow_head(head, name, None).is_ok();
        assert!(ask(&["image/*"], PNG, "a.png") && ask(&["image/png", "image/jpeg"], JPEG, "a.png"));
        assert!(!ask(&["image/png"], JPEG, "a.png"), "a JPEG is no PNG, whatever its name");
        assert!(!ask(&["image/png"], SCRIPT, "a.png"), "a script with an image's name");
        assert!(!ask(&["image/png", "application/pdf"], HTML, "a.pdf"));
        assert!(ask(&["application/pdf"], PDF, "a.pdf"));
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        assert!(ask(&[docx], ZIP, "a.docx") && !ask(&[docx], SCRIPT, "a.docx"));
        assert!(!ask(&["image/png"], ZIP, "a.png"));
        assert!(ask(&["text/plain", "text/csv"], b"a,b\n1,2\n", "a.csv"));
        assert!(!ask(&["text/csv"], HTML, "a.csv"));
        let both = kinds(&["text/plain", "image/png"]);
        let ask_both = |name: &str, mime: &str| both.allow_head(SCRIPT, name, Some(mime)).is_ok();
        assert!(ask_both("a.txt", "text/plain") && ask_both("a", "text/plain"));
        assert!(!ask_both("a.png", "text/plain") && !ask_both("a.txt", "image/png") && !ask_both("a", "image/png"));
        assert!(ask(&["image/png"], b"", "a.png"), "an empty file is of any kind");
    }

    #[test]
    fn a_list_names_mime_types() {
        for wrong in [&[][..], &["png"], &["image/"], &["*/*"], &["image/p ng"], &["image/png\r\n"], &["/png"]] {
            assert!(Kinds::parse(wrong).is_err(), "{wrong:?}");
        }
        let message = kinds(&["image/png", "application/pdf"]).allow_name("a.exe", None).expect_err("refused");
        assert!(message.detail().contains("image/png, application/pdf"), "{message}");
    }
}
