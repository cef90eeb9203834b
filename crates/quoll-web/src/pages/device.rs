//! One device: everything known about it.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::overview::{last_seen, notice, or_dash, rung, state, status};
use super::{diagnosis, words};
use crate::view::{Certificate, DeviceDetail, Telemetry};

/// The whole of the page inside its frame.
pub(super) fn page(detail: &DeviceDetail, now: OffsetDateTime) -> Markup {
    html! {
        nav .trail aria-label="Where you are" { a href="/" { "Overview" } }
        (device_fragment(detail, now))
    }
}

/// What is left to say about a device that is gone.
pub(crate) fn device_gone_fragment(name: &str) -> Markup {
    html! {
        article #device {
            h1 { bdi { (words::tamed(name)) } }
            section .card.plain { p { "This device is no longer in the registry." } }
        }
    }
}

/// The device itself.
pub(crate) fn device_fragment(detail: &DeviceDetail, now: OffsetDateTime) -> Markup {
    let device = &detail.device;
    html! {
        article #device {
            h1 { bdi { (words::tamed(&device.name)) } " " (state(device)) " " (diagnosis::link(&device.name)) }
            @if let Some(problem) = &device.problem {
                ul .warnings { li .bad { (notice("Problem", problem)) } }
            }
            div .cards {
                section .card aria-labelledby="now" {
                    h2 #now { "Now" }
                    dl .facts {
                        (fact("Status", status(device)))
                        (fact("Security", rung(device.rung)))
                        (fact("Address", or_dash(device.address.as_deref())))
                        (fact("Last seen", last_seen(device, now)))
                        (fact("Hardware", or_dash(detail.hardware.as_deref())))
                        (fact("Firmware", or_dash(detail.firmware.as_deref())))
                        (fact("MAC address", or_dash(detail.mac.as_deref())))
                        (fact("Client id", or_dash(detail.client_id.as_deref())))
                        (fact("Topic", or_dash(detail.topic.as_deref())))
                    }
                }
                section .card aria-labelledby="certificate" {
                    h2 #certificate { "Certificate" }
                    @match &detail.certificate {
                        Some(certificate) => (certificate_facts(certificate, now)),
                        None if device.certificate_serial.is_none() && device.expires.is_none() => {
                            p .quiet { "None." }
                        }
                        None => dl .facts {
                            (fact("Serial", or_dash(device.certificate_serial.as_deref())))
                            (fact("Ends", match &device.expires {
                                Some(expires) => words::expiry(expires, now),
                                None => html! { span .quiet { "–" } },
                            }))
                        },
                    }
                }
                section .card aria-labelledby="permissions" {
                    h2 #permissions { "Permissions" }
                    @if detail.permissions.is_empty() { p .quiet { "None." } }
                    ul .bare { @for permission in &detail.permissions { li { code { (permission) } } } }
                }
                section .card aria-labelledby="history" {
                    h2 #history { "History" }
                    @if detail.history.is_empty() { p .quiet { "Nothing was done to it yet." } }
                    ol .bare.history {
                        @for entry in &detail.history {
                            li { span .quiet { (words::when(&entry.at, now)) } " " bdi { (words::tamed(&entry.text)) } }
                        }
                    }
                }
            }
            section .card.messages aria-labelledby="messages" {
                h2 #messages { "Latest messages" }
                (messages(detail, now))
            }
        }
    }
}

fn certificate_facts(certificate: &Certificate, now: OffsetDateTime) -> Markup {
    html! {
        dl .facts {
            (fact("Subject", or_dash(Some(&certificate.subject))))
            (fact("Issuer", or_dash(Some(&certificate.issuer))))
            (fact("Key", or_dash(certificate.key.as_deref())))
            (fact("Starts", match &certificate.not_before {
                Some(start) => words::when(start, now),
                None => html! { span .quiet { "–" } },
            }))
            (fact("Ends", match &certificate.not_after {
                Some(end) => words::expiry(end, now),
                None => html! { span .quiet { "–" } },
            }))
            (fact("Serial", html! { code { (certificate.serial) } }))
            @if let Some(fingerprint) = &certificate.fingerprint {
                (fact("SHA-256", html! { code { (fingerprint) } }))
            }
        }
    }
}

fn messages(detail: &DeviceDetail, now: OffsetDateTime) -> Markup {
    let latest: Vec<&Telemetry> = match detail.messages.as_slice() {
        [] => detail.device.telemetry.iter().collect(),
        messages => messages.iter().collect(),
    };
    html! {
        @if latest.is_empty() {
            p .quiet { "It has said nothing yet." }
        } @else {
            table role="table" {
                thead role="rowgroup" {
                    tr role="row" {
                        @for title in ["When", "Topic", "Message"] { th scope="col" role="columnheader" { (title) } }
                    }
                }
                tbody role="rowgroup" {
                    @for message in latest {
                        tr role="row" {
                            td role="cell" data-title="When" {
                                @match &message.at { Some(at) => (words::when(at, now)), None => span .quiet { "–" } }
                            }
                            td role="cell" data-title="Topic" { bdi { (words::tamed(&message.topic)) } }
                            td role="cell" data-title="Message" { bdi .said { (words::tamed(&message.text)) } }
                        }
                    }
                }
            }
        }
    }
}

fn fact(title: &str, value: Markup) -> Markup {
    html! { div { dt { (title) } dd { (value) } } }
}
