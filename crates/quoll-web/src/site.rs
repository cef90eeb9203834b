//! The tree of addresses. One line per address; what each shows is in `pages`, `api` and `live`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use crate::problem::Problem;
use crate::source::Source;
use crate::view::Diagnosis;
use crate::{api, assets, door, limits, lists, live, pages};

/// What every address can reach.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) source: Arc<dyn Source>,
    /// Places for live streams.
    pub(crate) watchers: Arc<Semaphore>,
    /// Places for diagnoses.
    pub(crate) diagnoses: Arc<Semaphore>,
    /// Becomes true when the node stops.
    pub(crate) closed: watch::Receiver<bool>,
}

impl Desk {
    /// The doctor's word on a device, one of a few at a time.
    pub(crate) async fn diagnose(&self, name: String) -> Result<Diagnosis, Problem> {
        let _place = self.diagnoses.try_acquire().map_err(|_| Problem::TooManyDiagnoses)?;
        self.source.diagnose(&name).await.ok_or(Problem::NoSuchDevice(name))
    }
}

/// All pages, behind the door.
pub(crate) fn site(source: Arc<dyn Source>, closed: watch::Receiver<bool>) -> Router {
    let desk = Desk {
        source,
        watchers: Arc::new(Semaphore::new(limits::LIVE_STREAMS)),
        diagnoses: Arc::new(Semaphore::new(limits::DIAGNOSES)),
        closed,
    };
    Router::new()
        .route("/", get(pages::overview))
        .route("/devices/{name}", get(pages::device))
        .route("/devices/{name}/diagnosis", get(pages::diagnosis))
        .route("/live", get(live::overview_fragments))
        .route("/live/{name}", get(live::device_fragments))
        .route("/api/overview", get(api::overview))
        .route("/api/devices", get(api::devices))
        .route("/api/devices/{name}", get(api::device))
        .route("/api/devices/{name}/diagnosis", get(api::diagnosis))
        .route("/api/live", get(live::json))
        .route("/assets/{name}", get(assets::asset))
        .route("/ca.crl", get(lists::of_dashboard))
        .route("/crl/{name}", get(lists::named_of_dashboard))
        .fallback(nothing_here)
        .layer(middleware::from_fn(door::attend))
        .with_state(desk)
}

/// Waits until the node stops, or has gone without a word.
pub(crate) async fn closed(closed: &mut watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}

async fn nothing_here(uri: Uri) -> Response {
    Problem::NoSuchPlace(uri.path().to_owned()).into_response_at(uri.path())
}

/// The search text of an address, `?q=`; absent is empty.
pub(crate) struct Search(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Search {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        #[derive(Deserialize)]
        struct Asked {
            #[serde(default)]
            q: String,
        }
        let refuse = |problem: Problem| problem.into_response_at(parts.uri.path());
        let Query(Asked { q }) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| refuse(Problem::BadAddress(rejection.body_text())))?;
        match q.chars().count() {
            found if found > limits::SEARCH_CHARS => Err(refuse(Problem::SearchTooLong { found })),
            _ => Ok(Self(q.trim().to_owned())),
        }
    }
}

/// The device name in an address, percent-decoded.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => {
                Err(Problem::BadAddress(rejection.body_text()).into_response_at(parts.uri.path()))
            }
        }
    }
}
