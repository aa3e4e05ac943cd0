//! Upload callbacks: after an object is there, OSS tells a URL of the
//! uploader's choice about it, and passes its answer on to the uploader.

mod key;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::address::value;
use super::call::Call;
use super::error::OssError;
use super::storage::ObjectRecord;
use crate::store::oss::sign::{self, Query, callback as signature};

pub(crate) use key::CallbackKey;

/// The longest parameter, in bytes of base64.
const PARAMETER_BYTES_MAX: usize = 5 << 10;
const URLS_MAX: usize = 5;
/// The longest answer that is passed on, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// What an uploader wants to be told, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    /// One after the other, until one answers well.
    urls: Vec<String>,
    host: Option<String>,
    template: String,
    is_json: bool,
    /// `x:…`, with what the uploader says of them.
    variables: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    callback_url: String,
    #[serde(default)]
    callback_host: String,
    callback_body: String,
    #[serde(default)]
    callback_body_type: String,
}

impl Callback {
    /// In the headers or in the query, never in both.
    pub(crate) fn of_request(headers: &HeaderMap, query: &Query) -> Result<Option<Self>, OssError> {
        let given = |header: &'static str, parameter: &'static str| {
            let in_header = headers.get(header).map(|value| value.to_str().unwrap_or_default());
            match (in_header, value(query, parameter).or_else(|| value(query, header))) {
                (Some(_), Some(_)) => Err(wrong("The callback is in the headers and in the query.", header)),
                (in_header, in_query) => Ok(in_header.or(in_query)),
            }
        };
        let (parameter, variables) =
            (given("x-oss-callback", "callback")?, given("x-oss-callback-var", "callback-var")?);
        let Some(parameter) = parameter else { return Ok(None) };
        let variables = match variables {
            None => Vec::new(),
            Some(text) => {
                let object: serde_json::Map<String, serde_json::Value> = decoded(text, "callback-var")?;
                let text =
                    |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                object.into_iter().map(|(name, value)| (name, text(value))).collect()
            }
        };
        Self::parse(parameter, variables).map(Some)
    }

    /// In a form's fields: the variables are fields, too.
    pub(crate) fn of_form<'f>(
        fields: impl Iterator<Item = (&'f str, &'f str)> + Clone,
    ) -> Result<Option<Self>, OssError> {
        let Some((_, parameter)) = fields.clone().find(|(name, _)| *name == "callback") else { return Ok(None) };
        let variables = fields.filter(|(name, _)| name.starts_with("x:"));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self::parse(parameter, variables.collect()).map(Some)
    }

    fn parse(parameter: &str, variables: Vec<(String, String)>) -> Result<Self, OssError> {
        let parameter: Parameter = decoded(parameter, "callback")?;
        let url = |url: &str| if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let urls = parameter.callback_url.split(';').map(str::trim).filter(|url| !url.is_empty());
        let urls: Vec<String> = urls.map(url).collect();
        if !(1..=URLS_MAX).contains(&urls.len()) {
            return Err(wrong("The callback has no callbackUrl, or more than five.", "callback"));
        }
        let is_json = match parameter.callback_body_type.as_str() {
            "" | FORM => false,
            JSON => true,
            _ => return Err(wrong("The callback's callbackBodyType is not supported.", "callback")),
        };
        if parameter.callback_body.is_empty() {
            return Err(wrong("The callback has no callbackBody.", "callback"));
        }
        let host = Some(parameter.callback_host).filter(|host| !host.is_empty());
        Ok(Self { urls, host, template: parameter.callback_body, is_json, variables })
    }

    /// The body: the template with each `${…}` replaced. Of what is unknown
    /// nothing stays; in JSON, texts come with their quotes.
    fn body(&self, known: impl Fn(&str) -> Option<Known>) -> String {
        let mut body = String::new();
        let mut rest = self.template.as_str();
        while let Some((before, variable, after)) = rest
            .split_once("${")
            .and_then(|(before, rest)| rest.split_once('}').map(|(name, after)| (before, name, after)))
        {
            body.push_str(before);
            let given = self.variables.iter().find(|(name, _)| name == variable).map(|(_, v)| Known::Text(v.clone()));
            match (given.or_else(|| known(variable)), self.is_json) {
                (Some(Known::Number(number)), _) => body.push_str(&number.to_string()),
                (Some(Known::Text(text)), true) => body.push_str(&serde_json::Value::String(text).to_string()),
                (Some(Known::Text(text)), false) => body.push_str(&sign::encode(&text)),
                (None, true) => body.push_str("\"\""),
                (None, false) => {}
            }
            rest = after;
        }
        body.push_str(rest);
        body
    }
}

/// What a variable stands for.
enum Known {
    Text(String),
    Number(u64),
}

fn wrong(message: &'static str, name: &'static str) -> OssError {
    OssError::invalid_argument(message, name, "").ec("0007-00000101")
}

fn decoded<T: serde::de::DeserializeOwned>(text: &str, name: &'static str) -> Result<T, OssError> {
    if text.len() > PARAMETER_BYTES_MAX {
        return Err(wrong("The callback parameter is longer than 5 KiB.", name));
    }
    let bytes = STANDARD.decode(text).map_err(|_| wrong("The callback configuration is not base64 encoded.", name))?;
    serde_json::from_slice(&bytes).map_err(|_| wrong("The callback configuration is not json format.", name))
}

/// The uploader's answer: `plain`, or what whoever was called back says.
pub(crate) async fn answer(
    call: &Call,
    callback: Option<Callback>,
    object: &ObjectRecord,
    operation: &'static str,
    mut plain: Response,
) -> Result<Response, OssError> {
    let Some(callback) = callback else { return Ok(plain) };
    let bucket = &call.emulator.bucket;
    let body = callback.body(|variable| {
        let text = |text: &str| Some(Known::Text(text.to_owned()));
        match variable {
            "bucket" => text(bucket),
            "object" => text(&object.key),
            "etag" => text(&object.etag),
            "size" => Some(Known::Number(object.bytes)),
            "mimeType" => text(object.header("content-type").unwrap_or("application/octet-stream")),
            "crc64" => Some(Known::Text(object.crc64.to_string())),
            "reqId" => text(&call.request_id),
            "operation" => text(operation),
            _ => None,
        }
    });
    let mut failure = String::new();
    for url in &callback.urls {
        match tell(call, &callback, url, &body).await {
            Ok(said) => {
                *plain.status_mut() = StatusCode::OK;
                *plain.body_mut() = Body::from(said);
                plain.headers_mut().remove(CONTENT_LENGTH);
                plain.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
                return Ok(plain);
            }
            Err(why) => failure = why,
        }
    }
    Err(OssError::callback_failed(failure))
}

/// One URL: its answer, or why it is none.
async fn tell(call: &Call, callback: &Callback, url: &str, body: &str) -> Result<Vec<u8>, String> {
    let url = reqwest::Url::parse(url).map_err(|_| "The callback url is invalid.".to_owned())?;
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let key = call.emulator.callback_key.get().await.map_err(|error| error.message.into_owned())?;
    let signature = signature::sign(&key, &target, body.as_bytes()).map_err(|error| error.to_string())?;
    let mut request = call
        .emulator
        .callback_client
        .post(url)
        .header(CONTENT_TYPE, if callback.is_json { JSON } else { FORM })
        .header(signature::SIGNATURE_HEADER, STANDARD.encode(signature))
        .header(signature::KEY_URL_HEADER, STANDARD.encode(&call.emulator.callback_key_url))
        .header("x-oss-request-id", &call.request_id)
        .header("x-oss-bucket", &call.emulator.bucket)
        .body(body.to_owned());
    if let Some(host) = &callback.host {
        request = request.header(HOST, host);
    }
    let mut answer =
        request.send().await.map_err(|_| "Error status : -1. The callback server did not answer.".to_owned())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("Error status : {}.", answer.status().as_u16()));
    }
    let mut said = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|_| "The callback server's answer broke off.".to_owned())? {
        said.extend_from_slice(&piece);
        if said.len() > ANSWER_BYTES_MAX {
            return Err("Response body is too long.".to_owned());
        }
    }
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&said).is_ok();
    if is_json { Ok(said) } else { Err("Response body is not valid json format.".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> HeaderValue {
        HeaderValue::from_str(&STANDARD.encode(json)).expect("a value")
    }

    fn known(variable: &str) -> Option<Known> {
        match variable {
            "object" => Some(Known::Text("a b\"/é".to_owned())),
            "size" => Some(Known::Number(7)),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in_as_the_type_needs_it() {
        let parse = |json: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-oss-callback", encoded(json));
            headers.insert("x-oss-callback-var", encoded("{\"x:who\":\"al ice\"}"));
            Callback::of_request(&headers, &[]).expect("is one").expect("is there")
        };
        let form = parse(
            "{\"callbackUrl\":\"a/b; https://c\",\"callbackBody\":\"o=${object}&s=${size}&w=${x:who}&n=${none}&${\"}",
        );
        assert_eq!(form.urls, ["http://a/b", "https://c"]);
        assert_eq!(form.body(known), "o=a%20b%22%2F%C3%A9&s=7&w=al%20ice&n=&${");
        let json = parse(
            "{\"callbackUrl\":\"http://a\",\"callbackBodyType\":\"application/json\",\
             \"callbackBody\":\"{\\\"o\\\":${object},\\\"s\\\":${size},\\\"n\\\":${none}}\"}",
        );
        assert_eq!(json.body(known), "{\"o\":\"a b\\\"/é\",\"s\":7,\"n\":\"\"}");
    }

    #[test]
    fn what_is_not_a_callback_is_refused_before_the_upload() {
        let of = |value: HeaderValue, query: &Query| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-oss-callback"), value)]);
            Callback::of_request(&headers, query).map_err(|error| error.code)
        };
        let body = "\"callbackBody\":\"b\"";
        for json in [
            "{}".to_owned(),
            "[".to_owned(),
            format!("{{\"callbackUrl\":\" ; \",{body}}}"),
            format!("{{\"callbackUrl\":\"a;b;c;d;e;f\",{body}}}"),
            format!("{{\"callbackUrl\":\"a\",{body},\"callbackBodyType\":\"text/xml\"}}"),
            "{\"callbackUrl\":\"a\",\"callbackBody\":\"\"}".to_owned(),
            format!("{{\"callbackUrl\":\"{}\",{body}}}", "a".repeat(5000)),
        ] {
            assert_eq!(of(encoded(&json), &[]), Err("InvalidArgument"), "{json}");
        }
        assert_eq!(of(HeaderValue::from_static("{}"), &[]), Err("InvalidArgument"));
        let right = || encoded(&format!("{{\"callbackUrl\":\"a\",{body}}}"));
        assert!(of(right(), &[]).is_ok_and(|callback| callback.is_some()));
        assert_eq!(of(right(), &[("callback".to_owned(), "x".to_owned())]), Err("InvalidArgument"));
    }
}
