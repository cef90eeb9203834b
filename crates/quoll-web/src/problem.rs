//! What went wrong with a request: RFC 9457 `application/problem+json` on the API, a short page elsewhere.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::limits;
use crate::pages;

/// Why a request is not answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("there is no device named \"{0}\"")]
    NoSuchDevice(String),
    #[error("there is nothing at \"{0}\"")]
    NoSuchPlace(String),
    #[error("the search text has {found} characters, at most {} are searched", limits::SEARCH_CHARS)]
    SearchTooLong { found: usize },
    #[error("the address cannot be understood: {0}")]
    BadAddress(String),
    #[error("the dashboard only shows; it answers GET and HEAD, not {0}")]
    OnlyShows(String),
    #[error("the dashboard serves this machine only, not the host \"{0}\"")]
    NotThisMachine(String),
    #[error("another web site asked for this in your name")]
    OtherSite,
    #[error("{} windows are already watching", limits::LIVE_STREAMS)]
    TooManyWatchers,
    #[error("{} devices are being diagnosed already", limits::DIAGNOSES)]
    TooManyDiagnoses,
    #[error("the node did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
}

impl Problem {
    /// RFC 9110 §15.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchDevice(_) | Self::NoSuchPlace(_) => StatusCode::NOT_FOUND,
            Self::SearchTooLong { .. } | Self::BadAddress(_) => StatusCode::BAD_REQUEST,
            Self::OnlyShows(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotThisMachine(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherSite => StatusCode::FORBIDDEN,
            Self::TooManyWatchers | Self::TooManyDiagnoses | Self::NoAnswer(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What the reader can do, if anything.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchDevice(_) => "see the list of devices for the names there are".into(),
            Self::NoSuchPlace(_) | Self::BadAddress(_) => "start at the overview".into(),
            Self::SearchTooLong { .. } => "search for fewer words".into(),
            Self::OnlyShows(_) => "use the command line to change something".into(),
            Self::NotThisMachine(_) => {
                "open http://localhost with the dashboard's port; from another machine, forward the port over SSH: \
                 `ssh -L 8080:localhost:PORT HOST`, then http://localhost:8080"
                    .into()
            }
            Self::OtherSite => "open the address yourself".into(),
            Self::TooManyWatchers => "close a window and reload".into(),
            Self::TooManyDiagnoses => "try again in a minute, or use `quoll doctor`".into(),
            Self::NoAnswer(_) => "look at the node's log, then reload".into(),
        })
    }

    /// The answer in the form of the part of the site it was asked in.
    pub(crate) fn into_response_at(self, path: &str) -> Response {
        if path.starts_with("/api/") { self.into_api_response(path) } else { self.into_page() }
    }

    /// The answer on the JSON API.
    fn into_api_response(self, path: &str) -> Response {
        let status = self.status();
        let body = ProblemDetails {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.to_string(),
            instance: path,
            next_step: self.hint(),
        };
        let mut response = (status, Json(body)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.finish(response)
    }

    /// The answer to a person.
    pub(crate) fn into_page(self) -> Response {
        let page = pages::problem(&self);
        self.finish((self.status(), page).into_response())
    }

    /// The answer in plain words, where not even our own style should be loaded.
    pub(crate) fn into_text(self) -> Response {
        let hint = self.hint().map(|hint| format!("hint:  {hint}\n")).unwrap_or_default();
        self.finish((self.status(), format!("quoll: error: {self}\n{hint}")).into_response())
    }

    fn finish(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        match self {
            Self::OnlyShows(_) => headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
            Self::TooManyWatchers | Self::TooManyDiagnoses | Self::NoAnswer(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"))
            }
            _ => None,
        };
        response
    }
}

/// RFC 9457 §3.1, with one extension member (§3.2): `next_step`.
#[derive(Serialize)]
struct ProblemDetails<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
}
