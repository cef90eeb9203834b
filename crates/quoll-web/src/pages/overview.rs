//! The first page: how the node is, what needs a hand, and every device in one row.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::{diagnosis, words};
use crate::limits;
use crate::view::{DeviceView, Overview, Rung, Standing, Warning};

/// The whole of the page inside its frame.
pub(super) fn page(overview: &Overview, devices: &[DeviceView], search: &str, now: OffsetDateTime) -> Markup {
    html! {
        h1 .unseen { "Overview" }
        (overview_fragment(overview, now))
        section .devices aria-labelledby="devices-title" {
            div .head {
                h2 #devices-title { "Devices" }
                form role="search" method="get" action="/" {
                    label .unseen for="q" { "Filter devices" }
                    input #q type="search" name="q" value=(search) maxlength=(limits::SEARCH_CHARS)
                        placeholder="Name, address, state …" autocomplete="off" spellcheck="false";
                    button type="submit" { "Filter" }
                }
                nav .picks aria-label="Common filters" {
                    @for (words, title) in [("", "All"), ("problem", "Problems"), ("offline", "Offline")] {
                        a href=(if words.is_empty() { "/".to_owned() } else { format!("/?q={words}") })
                            data-search=(words)
                            aria-current=[(search == words).then_some("true")] { (title) }
                    }
                }
            }
            (table_fragment(devices, now))
            p .empty { "No device to show." }
        }
    }
}

/// What a browser's tab says: trouble first.
pub(super) fn title(overview: &Overview) -> String {
    let offline = overview.devices_total.saturating_sub(overview.devices_online);
    let node = words::tamed(&overview.node);
    match (overview.devices_with_problems, offline) {
        (0, 0) => node,
        (0, offline) => format!("{offline} offline · {node}"),
        (problems, _) => format!("{} · {node}", counted(problems, "problem", "problems")),
    }
}

/// The node's state: warnings and figures.
pub(crate) fn overview_fragment(overview: &Overview, now: OffsetDateTime) -> Markup {
    let offline = overview.devices_total.saturating_sub(overview.devices_online);
    html! {
        section #overview aria-label="Node" data-title=(format!("{} · Quoll", title(overview))) {
            @if !overview.warnings.is_empty() {
                ul .warnings aria-label="Warnings" {
                    @for warning in &overview.warnings { li { (notice("Warning", warning)) } }
                }
            }
            dl .tiles {
                (tile("Devices online", html! { (overview.devices_online) small { " of " (overview.devices_total) } },
                    html! { @if offline == 0 { "all of them" } @else { (offline) " offline" } }))
                (tile("Problems", html! { span.over[overview.devices_with_problems > 0] { (overview.devices_with_problems) } },
                    html! { @if overview.devices_with_problems == 0 { "nothing to do" } @else { "listed first below" } }))
                (tile("Messages", html! { (words::rate(overview.messages_per_second)) small { " per second" } },
                    html! { "up for " (words::duration(overview.uptime_seconds)) }))
                (certificate_tile("Server certificate", overview.server_certificate_expires.as_deref(), None, now))
                @match &overview.authority {
                    Some(ca) => (certificate_tile("Certification authority", ca.expires.as_deref(), Some(&ca.name), now)),
                    None => (tile("Certification authority", html! { "None" }, html! { "not set up" })),
                }
            }
            @if !overview.listeners.is_empty() {
                p .listeners.quiet {
                    "Listening on "
                    @for listener in &overview.listeners {
                        span { code { (listener.address) } " " (listener.speaks) } " "
                    }
                }
            }
        }
    }
}

fn tile(title: &str, figure: Markup, note: Markup) -> Markup {
    html! { div { dt { (title) } dd .figure { (figure) } dd .note { (note) } } }
}

fn certificate_tile(title: &str, expires: Option<&str>, name: Option<&str>, now: OffsetDateTime) -> Markup {
    let validity = expires.map(|expires| words::Validity::of(expires, now));
    let figure = match expires {
        Some(expires) => {
            html! { span class=[validity.and_then(words::Validity::class)] { (words::when(expires, now)) } }
        }
        None => html! { "–" },
    };
    let end = match (validity, expires.and_then(words::moment)) {
        (Some(words::Validity::Over), Some(end)) => format!("expired {}", words::day(end)),
        (_, Some(end)) => format!("ends {}", words::day(end)),
        (_, None) => "no end known".to_owned(),
    };
    tile(
        title,
        figure,
        html! {
            @match name { Some(name) => { bdi { (words::tamed(name)) } ", " (end) } None => (end) }
        },
    )
}

/// The table of devices, in the order given.
pub(crate) fn table_fragment(devices: &[DeviceView], now: OffsetDateTime) -> Markup {
    html! {
        table #devices role="table" aria-labelledby="devices-title" {
            thead role="rowgroup" {
                tr role="row" {
                    @for title in ["Device", "Status", "Security", "Address", "Certificate ends", "Last seen", "Latest message"] {
                        th scope="col" role="columnheader" { (title) }
                    }
                }
            }
            @for device in devices { (row_fragment(device, now)) }
        }
    }
}

/// The `id` of a device's row.
pub(crate) fn row_id(name: &str) -> String {
    format!("device-{}", words::url_segment(name))
}

/// A device's row: its own row group, so that a problem can have a line of its own.
pub(crate) fn row_fragment(device: &DeviceView, now: OffsetDateTime) -> Markup {
    let class = match device.standing() {
        Standing::OfflineWithProblem | Standing::Problem => "problem",
        Standing::Offline => "offline",
        Standing::Online => "online",
        Standing::Dismissed => "dismissed",
    };
    html! {
        tbody id=(row_id(&device.name)) class=(class) role="rowgroup" data-key=(device.sort_key()) {
            tr role="row" {
                th scope="row" role="rowheader" {
                    a href=(format!("/devices/{}", words::url_segment(&device.name))) {
                        bdi { (words::tamed(&device.name)) }
                    }
                    (state(device))
                }
                td role="cell" data-title="Status" {
                    (status(device))
                    // Where there is a problem, its line has it.
                    @if device.standing() == Standing::Offline { " " (diagnosis::link(&device.name)) }
                }
                td role="cell" data-title="Security" { (rung(device.rung)) }
                td role="cell" data-title="Address" { (or_dash(device.address.as_deref())) }
                td role="cell" data-title="Certificate ends" {
                    @match &device.expires {
                        Some(expires) => (words::expiry(expires, now)),
                        None => span .quiet { "–" },
                    }
                }
                td role="cell" data-title="Last seen" {
                    (last_seen(device, now))
                }
                td .telemetry role="cell" data-title="Latest message"
                    title=[device.telemetry.as_ref().map(|said| words::tamed(&said.topic))] {
                    @match &device.telemetry {
                        Some(said) => {
                            bdi .said { (words::tamed(&said.text)) } " " bdi .topic { (words::tamed(&said.topic)) }
                        }
                        None => span .quiet { "–" },
                    }
                }
            }
            @if let Some(problem) = &device.problem {
                tr .trouble role="row" {
                    td colspan="7" role="cell" { (notice("Problem", problem)) (diagnosis::link(&device.name)) }
                }
            }
        }
    }
}

/// Connected or not: a sign and a word, so that colour is never alone.
pub(super) fn status(device: &DeviceView) -> Markup {
    html! { span .status.on[device.online] { (device.status()) } }
}

/// Who is online is seen now, however long ago it came.
pub(super) fn last_seen(device: &DeviceView, now: OffsetDateTime) -> Markup {
    match &device.last_seen {
        _ if device.online => html! { "now" },
        Some(seen) => words::when(seen, now),
        None => html! { span .quiet { "never" } },
    }
}

/// The registry's word, where it says more than the status does.
pub(super) fn state(device: &DeviceView) -> Markup {
    html! {
        @if !matches!(device.state.as_str(), "" | "proven") {
            " " span .tag { (words::tamed(&device.state)) }
        }
    }
}

pub(super) fn rung(rung: Rung) -> Markup {
    let class = match rung {
        Rung::Plain => Some("soon"),
        Rung::Unknown => Some("quiet"),
        Rung::Mutual | Rung::Pinned => None,
    };
    html! { span class=[class] { (rung.words()) } }
}

pub(super) fn or_dash(text: Option<&str>) -> Markup {
    match text {
        Some(text) => html! { bdi { (words::tamed(text)) } },
        None => html! { span .quiet { "–" } },
    }
}

/// What is the matter and what to do about it.
pub(super) fn notice(kind: &str, warning: &Warning) -> Markup {
    html! {
        div .notice {
            p { strong { (kind) ": " } bdi { (words::with_commands(&warning.text)) } }
            @if let Some(step) = &warning.next_step {
                p .next { span .quiet { "Next: " } bdi { (words::with_commands(step)) } }
            }
        }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
