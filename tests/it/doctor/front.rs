//! A proxy before the emulator that always answers some requests itself, or
//! changes the headers of the answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::client;

/// A status, and a document.
pub(super) type Said = (u16, String);
type Rule = Box<dyn Fn(&Parts) -> Option<Said> + Send + Sync>;
type Edit = Box<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// The proxy; it ends when it is dropped.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    _stop: DropGuard,
}

struct Inner {
    behind: SocketAddr,
    http: reqwest::Client,
    rule: Rule,
    edit: Edit,
}

impl Front {
    /// Says what the rule says.
    pub(super) async fn saying(
        behind: SocketAddr,
        rule: impl Fn(&Parts) -> Option<Said> + Send + Sync + 'static,
    ) -> Self {
        Self::start(behind, Box::new(rule), Box::new(|_| {})).await
    }

    /// Changes the headers of all answers.
    pub(super) async fn editing(behind: SocketAddr, edit: impl Fn(&mut HeaderMap) + Send + Sync + 'static) -> Self {
        Self::start(behind, Box::new(|_| None), Box::new(edit)).await
    }

    async fn start(behind: SocketAddr, rule: Rule, edit: Edit) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner { behind, http: client(), rule, edit });
        let router = Router::new().fallback(pass).with_state(inner);
        let served = async move { axum::serve(listener, router).await };
        tokio::spawn(stop.clone().run_until_cancelled_owned(served));
        Self { address, _stop: stop.drop_guard() }
    }
}

async fn pass(State(front): State<Arc<Inner>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.expect("a body");
    if let Some((status, text)) = (front.rule)(&head) {
        return Response::builder().status(status).body(Body::from(text)).expect("an answer");
    }
    let path = head.uri.path_and_query().expect("a path").as_str();
    let request = front.http.request(head.method, format!("http://{}{path}", front.behind));
    let answer = request.headers(head.headers).body(body).send().await.expect("an answer");
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.expect("a body");
    (front.edit)(&mut headers);
    headers.remove(http::header::TRANSFER_ENCODING);
    let mut answer = Response::new(Body::from(body));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    answer
}

/// A refusal as OSS has it.
pub(super) fn refused(status: u16, code: &str, message: &str) -> Said {
    let id = "<RequestId>5C3D9175B6FC201293AD4890</RequestId>";
    (status, format!("<Error><Code>{code}</Code><Message>{message}</Message>{id}</Error>"))
}

/// What a request to a bucket asks for, as the doctor calls it.
pub(super) fn asked_for(head: &Parts) -> &'static str {
    let query = head.uri.query().unwrap_or_default();
    let is_object = head.uri.path().trim_matches('/').contains('/');
    let of_upload = query.contains("uploadId=");
    match head.method {
        Method::POST if of_upload => "complete",
        Method::POST => "begin",
        Method::PUT if of_upload => "put part",
        Method::PUT => "put",
        Method::DELETE if of_upload => "abort",
        Method::DELETE => "delete",
        Method::GET if of_upload => "list parts",
        Method::GET if is_object => "get",
        Method::GET if query.contains("uploads") => "list",
        _ => "other",
    }
}
