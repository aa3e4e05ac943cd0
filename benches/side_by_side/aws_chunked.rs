//! The framing that S3 clients put around a body that they sign or sum piece by
//! piece: `hex-length[;extensions] CRLF bytes CRLF`, again and again, then
//! trailers.

use http::HeaderMap;

/// Takes the framing off, where there is any.
pub(crate) enum Decoder {
    /// The body is what it is.
    Plain,
    /// Reading a line that says how long the next piece is.
    Line(Vec<u8>),
    /// So many bytes of a piece are still to come, and then a CRLF.
    Piece(usize),
    /// Trailers, which say nothing that is needed here.
    Trailers,
}

impl Decoder {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let streams =
            headers.get("x-amz-content-sha256").is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
        if streams { Self::Line(Vec::new()) } else { Self::Plain }
    }

    pub(crate) fn decode(&mut self, mut data: &[u8], mut piece: impl FnMut(&[u8])) {
        while !data.is_empty() {
            match self {
                Self::Plain => return piece(data),
                Self::Trailers => return,
                Self::Line(line) => {
                    let (now, rest) = match data.iter().position(|&byte| byte == b'\n') {
                        Some(end) => (&data[..=end], &data[end + 1..]),
                        None => return line.extend_from_slice(data),
                    };
                    line.extend_from_slice(now);
                    data = rest;
                    let digits: String =
                        line.iter().map(|&byte| char::from(byte)).take_while(char::is_ascii_hexdigit).collect();
                    if digits.is_empty() {
                        // The CRLF that ends a piece.
                        line.clear();
                        continue;
                    }
                    *self = match usize::from_str_radix(&digits, 16) {
                        Ok(length) if length > 0 => Self::Piece(length),
                        Ok(_) | Err(_) => Self::Trailers,
                    };
                }
                Self::Piece(left) => {
                    let (now, rest) = data.split_at(data.len().min(*left));
                    piece(now);
                    *left -= now.len();
                    data = rest;
                    if *left == 0 {
                        *self = Self::Line(Vec::new());
                    }
                }
            }
        }
    }
}
