//! The pages, made on the server and complete without script. This file holds the frame all pages share.
//!
//! Everything from outside is escaped by maud and, where it could disturb the text around it, tamed (see `words`).
//! There are no inline styles or scripts: the content security policy forbids them.

mod device;
mod diagnosis;
mod overview;
mod words;

use axum::extract::State;
use axum::response::{Html, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use time::OffsetDateTime;

pub(crate) use device::{device_fragment, device_gone_fragment};
pub(crate) use overview::{overview_fragment, row_fragment, row_id, table_fragment};

use crate::assets;
use crate::problem::Problem;
use crate::site::{Desk, Name, Search};
use crate::view::{self, Overview};

/// `/`
pub(crate) async fn overview(State(desk): State<Desk>, Search(search): Search) -> Html<String> {
    let overview = desk.source.overview().await;
    let mut devices = desk.source.devices().await;
    devices.retain(|device| device.matches(&search));
    view::sort(&mut devices);
    let main = overview::page(&overview, &devices, &search, now());
    frame(&overview::title(&overview), Some(&overview), Some("/live"), &main)
}

/// `/devices/NAME`
pub(crate) async fn device(State(desk): State<Desk>, Name(name): Name) -> Result<Html<String>, Response> {
    let Some(device) = desk.source.device(&name).await else {
        return Err(Problem::NoSuchDevice(name).into_page());
    };
    let overview = desk.source.overview().await;
    let live = format!("/live/{}", words::url_segment(&name));
    Ok(frame(&words::tamed(&name), Some(&overview), Some(&live), &device::page(&device, now())))
}

/// `/devices/NAME/diagnosis`: asks the device, and takes its time.
pub(crate) async fn diagnosis(State(desk): State<Desk>, Name(name): Name) -> Result<Html<String>, Response> {
    let found = desk.diagnose(name).await.map_err(Problem::into_page)?;
    let overview = desk.source.overview().await;
    Ok(frame(&words::tamed(&found.device), Some(&overview), None, &diagnosis::page(&found, now())))
}

/// A page for what went wrong.
pub(crate) fn problem(problem: &Problem) -> Html<String> {
    let title = problem.status().canonical_reason().unwrap_or("Error");
    let main = html! {
        section .card.plain {
            h1 { (title) }
            p { (words::sentence(&problem.to_string())) }
            @if let Some(hint) = problem.hint() { p { (words::with_commands(&words::sentence(&hint))) } }
            p { a href="/" { "Overview" } }
        }
    };
    frame(title, None, None, &main)
}

/// The clock; pages take the time as an argument.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// What all pages have in common. `live` is the stream the script listens to.
fn frame(title: &str, node: Option<&Overview>, live: Option<&str>, main: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Quoll" }
                link rel="icon" type="image/svg+xml" href=(assets::FAVICON.path());
                link rel="stylesheet" href=(assets::STYLE.path());
                @if live.is_some() { script src=(assets::SCRIPT.path()) defer {} }
            }
            body data-live=[live] {
                a .skip href="#main" { "Skip to content" }
                header .bar {
                    a .brand href="/" { (picture()) span { "Quoll" } }
                    @if let Some(node) = node {
                        p .node { bdi { (words::tamed(&node.node)) } " " span .quiet { "version " (node.version) } }
                    }
                    @if live.is_some() {
                        p #live role="status" { "As of " (words::clock(now())) }
                    }
                }
                main #main { (main) }
            }
        }
    };
    Html(page.into_string())
}

/// The favicon, drawn into the page.
fn picture() -> Markup {
    PreEscaped(include_str!("../assets/quoll.svg").to_owned())
}
