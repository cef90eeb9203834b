//! Revocation lists over HTTP: `/ca.crl` is the CA's, `/MARK.crl` that of the CA with this mark, in DER (RFC 5280 §4.2.1.13,
//! RFC 2585). They are public and signed: no login, any name of this machine, any address.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::timeout;

use crate::limits;
use crate::site::{Desk, Name};
use crate::source::{RevocationList, Source};

/// The media type of RFC 2585 §4.2.
const MEDIA_TYPE: &str = "application/pkix-crl";

/// The addresses, for a listener of their own.
pub(crate) fn site(source: Arc<dyn Source>) -> Router {
    Router::new()
        .route("/ca.crl", get(current))
        .route("/{name}", get(named))
        .fallback(nothing_here)
        .layer(middleware::from_fn(attend))
        .with_state(source)
}

/// Bounded time, and nothing but reading.
async fn attend(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::GET | Method::HEAD => match timeout(limits::ANSWER_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the node does not answer\n").into_response(),
        },
        _ => {
            let allow = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, "lists are read only\n").into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn current(State(source): State<Arc<dyn Source>>, headers: HeaderMap) -> Response {
    answer(source.revocation_list(None).await, &headers)
}

async fn named(State(source): State<Arc<dyn Source>>, Name(name): Name, headers: HeaderMap) -> Response {
    answer(by_file_name(&source, &name).await, &headers)
}

/// `/ca.crl` of the dashboard.
pub(crate) async fn of_dashboard(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    answer(desk.source.revocation_list(None).await, &headers)
}

/// `/crl/MARK.crl` of the dashboard.
pub(crate) async fn named_of_dashboard(
    State(desk): State<Desk>,
    Name(name): Name,
    headers: HeaderMap,
) -> Response {
    answer(by_file_name(&desk.source, &name).await, &headers)
}

async fn by_file_name(source: &Arc<dyn Source>, name: &str) -> Option<RevocationList> {
    let mark = name.strip_suffix(".crl").filter(|mark| mark.len() == 32)?;
    source.revocation_list(Some(mark)).await
}

async fn nothing_here(uri: Uri) -> Response {
    (StatusCode::NOT_FOUND, format!("there is nothing at {}; the list is at /ca.crl\n", uri.path()))
        .into_response()
}

fn answer(list: Option<RevocationList>, asked: &HeaderMap) -> Response {
    let Some(list) = list else {
        return (StatusCode::NOT_FOUND, "there is no revocation list; `quoll ca crl` writes one\n")
            .into_response();
    };
    let tag = format!("\"{}\"", list.tag);
    // A list is never newer than its next one is due, and an hour is soon enough for one that came early.
    let left =
        list.next_update.and_then(|next| next.duration_since(SystemTime::now()).ok()).unwrap_or_default();
    let age = left.min(Duration::from_secs(3600)).as_secs();
    let mut headers = HeaderMap::new();
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(header::ETAG, tag.clone());
    put(header::CACHE_CONTROL, format!("public, max-age={age}"));
    if let Some(since) = list.this_update {
        put(header::LAST_MODIFIED, httpdate::fmt_http_date(since));
    }
    if is_known(&list, &tag, asked) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    (headers, list.der).into_response()
}

/// RFC 9110 §13.2.2: `If-None-Match` counts; `If-Modified-Since` only where that is not said.
fn is_known(list: &RevocationList, tag: &str, asked: &HeaderMap) -> bool {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(known) = text(header::IF_NONE_MATCH) {
        let same = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag;
        return known.split(',').map(str::trim).any(same);
    }
    let since = text(header::IF_MODIFIED_SINCE).and_then(|text| httpdate::parse_http_date(text).ok());
    matches!((since, list.this_update), (Some(since), Some(made)) if made <= since)
}
