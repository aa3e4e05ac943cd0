//! What axum and reqwest cost by themselves: every request goes on to the
//! store as it is, with its body streaming through. No checksum, no key, no
//! ledger.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use chunkgate::bench::client;

#[derive(Clone)]
struct Onward {
    client: reqwest::Client,
    store: String,
}

/// Serves until the process ends.
pub(crate) async fn serve(listen: SocketAddr, store: String) -> std::io::Result<()> {
    let onward = Onward { client: client().map_err(std::io::Error::other)?, store };
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, Router::new().fallback(pass).with_state(onward)).await
}

async fn pass(State(onward): State<Onward>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = head.headers;
    headers.remove(http::header::HOST);
    let has_body = headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let mut request = onward.client.request(head.method, format!("{}{path}", onward.store)).headers(headers);
    if has_body {
        request = request.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match request.send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
