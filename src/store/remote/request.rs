//! A call to a store before it is signed and sent, and what is said of one that
//! got no answer.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderValue};

use crate::store::StoreError;
use crate::store::deadline::Overdue;
use crate::store::error::Fault;

/// One call, without its signature.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `UploadPart`, …: for errors.
    pub operation: &'static str,
    /// The method.
    pub method: Method,
    /// None for calls on the bucket.
    pub key: Option<&'a str>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// Headers beside those that every call has.
    pub headers: HeaderMap,
    /// A small body, or nothing.
    pub body: Bytes,
}

impl<'a> Call<'a> {
    /// A call without query, headers and body.
    pub fn new(operation: &'static str, method: Method, key: Option<&'a str>) -> Self {
        Self { operation, method, key, query: Vec::new(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// With a query pair; an empty value is none.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// With a header. A value that cannot be one is refused before anything is sent.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, StoreError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| StoreError::Refused(self.fault("InvalidHeader", format!("{value:?} cannot be a {name}"))))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// With these headers, too.
    #[must_use]
    pub fn headers(mut self, headers: &HeaderMap) -> Self {
        self.headers.extend(headers.clone());
        self
    }

    /// What went wrong, where there is no answer that says it.
    pub fn fault(&self, code: &str, message: impl Into<String>) -> Fault {
        Fault { operation: self.operation, code: code.to_owned(), message: message.into(), ..Fault::default() }
    }

    /// A fault that may be over the next time.
    pub fn unavailable(&self, code: &str, message: impl Into<String>) -> StoreError {
        StoreError::Unavailable(self.fault(code, message))
    }
}

/// A deadline that passed.
pub fn late(call: &Call<'_>, overdue: Overdue) -> StoreError {
    match overdue {
        Overdue::FirstByte => call.unavailable("FirstByteTimeout", "no answer came"),
        Overdue::Idle => call.unavailable("IdleTimeout", "the store stopped in the middle"),
    }
}

/// A connection that could not be had, or broke. The URL stays out of the
/// message: a query may hold a signature.
pub fn unreachable_store(call: &Call<'_>, error: reqwest::Error) -> StoreError {
    broken(call, (error.is_connect(), error.is_timeout()), &error.without_url())
}

/// The same, where it is known whether there was no connection, and whether for
/// want of time.
pub fn broken(call: &Call<'_>, (is_connect, is_timeout): (bool, bool), error: &dyn Error) -> StoreError {
    let text = chain(error);
    let code = match (is_connect, is_timeout) {
        (true, true) => "ConnectTimeout",
        // What the connector calls a name that has no address.
        (true, false) if text.contains("dns error") => "NameNotResolved",
        (true, false) => "ConnectFailed",
        (false, _) => "ConnectionReset",
    };
    // What TLS says of an answer in plain HTTP.
    let hint =
        if text.contains("InvalidContentType") { "; does the endpoint speak http rather than https?" } else { "" };
    call.unavailable(code, format!("{text}{hint}"))
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
