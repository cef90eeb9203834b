//! The JSON API: the same facts as the pages, for programs. Reads only.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::problem::Problem;
use crate::site::{Desk, Name, Search};
use crate::view::{self, DeviceDetail, DeviceView, Diagnosis, Overview};

/// `/api/overview`
pub(crate) async fn overview(State(desk): State<Desk>) -> Json<Overview> {
    Json(desk.source.overview().await)
}

/// `/api/devices`, in the order of the page; `?q=` filters as the page does.
pub(crate) async fn devices(State(desk): State<Desk>, Search(search): Search) -> Json<Vec<DeviceView>> {
    let mut devices = desk.source.devices().await;
    devices.retain(|device| device.matches(&search));
    view::sort(&mut devices);
    Json(devices)
}

/// `/api/devices/NAME`
pub(crate) async fn device(
    State(desk): State<Desk>,
    uri: Uri,
    Name(name): Name,
) -> Result<Json<DeviceDetail>, Response> {
    match desk.source.device(&name).await {
        Some(device) => Ok(Json(device)),
        None => Err(Problem::NoSuchDevice(name).into_response_at(uri.path())),
    }
}

/// `/api/devices/NAME/diagnosis`: asks the device, and takes its time.
pub(crate) async fn diagnosis(
    State(desk): State<Desk>,
    uri: Uri,
    Name(name): Name,
) -> Result<Json<Diagnosis>, Response> {
    desk.diagnose(name).await.map(Json).map_err(|problem| problem.into_response_at(uri.path()))
}
