//! What the fuzzer calls (`fuzz/`, `tests/fuzz`): one function per target. Each
//! takes any bytes and panics where what must always hold does not. Compiled
//! for the fuzzer alone; the properties stand beside what they are about, in
//! modules named `fuzzing`, which may look at private parts as tests may.

/// Answers of the store, to the client.
pub fn answers(data: &[u8]) {
    crate::store::remote::fuzzing::answers(data);
    crate::store::s3::credentials::fuzzing::sessions(data);
}

/// Configuration, in each of its formats.
pub fn config(data: &[u8]) {
    crate::config::fuzzing::config(data);
}

/// Documents that the emulator writes and the client reads, and back.
pub fn documents(data: &[u8]) {
    crate::emulator::fuzzing::documents(data);
}

/// Where people say the store is.
pub fn endpoint(data: &[u8]) {
    crate::store::oss::fuzzing::endpoint(data);
    crate::store::s3::fuzzing::endpoint(data);
}

/// A form, however the network cuts it.
pub fn form(data: &[u8]) {
    crate::http::fuzzing::form(data);
}

/// The heads of requests.
pub fn heads(data: &[u8]) {
    crate::http::fuzzing::heads(data);
}

/// Kinds of files, and names of things.
pub fn kinds(data: &[u8]) {
    crate::domain::fuzzing::kinds(data);
}

/// Plans that are declared and plans that are learnt.
pub fn plan(data: &[u8]) {
    crate::domain::fuzzing::plan(data);
}

/// What the file store reads from its own files.
pub fn records(data: &[u8]) {
    crate::store::file::fuzzing::records(data);
}

/// Requests to the emulator.
pub fn requests(data: &[u8]) {
    crate::emulator::fuzzing::requests(data);
}

/// Answers of name servers, and certificates.
pub fn servers(data: &[u8]) {
    crate::doctor::net::fuzzing::servers(data);
}

/// Requests that are signed for OSS, and then tampered with.
pub fn signatures(data: &[u8]) {
    crate::emulator::fuzzing::signatures(data);
}

/// Tokens and links: ours, an issuer's, forged ones.
pub fn tokens(data: &[u8]) {
    crate::access::fuzzing::tokens(data);
}

/// A fuzzer's bytes as values. Of what has run out there is nothing more than
/// zeros, so that every input is one.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    /// A number of as many bytes as the first of them says: small ones are as
    /// likely as large ones.
    pub(crate) fn number(&mut self) -> u64 {
        let bytes = self.byte() % 9;
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// That number, or none.
    pub(crate) fn maybe(&mut self) -> Option<u64> {
        let is_there = self.byte().is_multiple_of(2);
        is_there.then(|| self.number())
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Up to the next line break. Seeds can be read that way.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&b| b == b'\n').unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// A line that is text, or as much of it as is.
    pub(crate) fn text(&mut self) -> &'a str {
        let line = self.line();
        line.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// All lines up to an empty one, or the end.
    pub(crate) fn texts(&mut self) -> Vec<&'a str> {
        std::iter::from_fn(|| Some(self.text()).filter(|text| !text.is_empty())).collect()
    }

    /// `name: value`, line by line.
    pub(crate) fn headers(&mut self) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        loop {
            let line = self.line();
            let Some(at) = line.iter().position(|&b| b == b':') else { return headers };
            let name = http::HeaderName::from_bytes(&line[..at]);
            let value = http::HeaderValue::from_bytes(line[at + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
