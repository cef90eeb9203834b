//! What the doctor says about a device: the cause, what it follows from, what to do.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::words;
use crate::limits::EVIDENCE_CHARS;
use crate::view::{Diagnosis, Finding, Health};

/// The way to a device's diagnosis.
pub(super) fn link(name: &str) -> Markup {
    html! {
        a .act href=(format!("/devices/{}/diagnosis", words::url_segment(name)))
            title="Asks the device, the broker, the certificates and the network; takes up to half a minute" { "Diagnose" }
    }
}

/// The whole of the page inside its frame.
pub(super) fn page(found: &Diagnosis, now: OffsetDateTime) -> Markup {
    let device = format!("/devices/{}", words::url_segment(&found.device));
    let (first, rest) = match found.findings.split_first() {
        Some((first, rest)) => (Some(first), rest),
        None => (None, &[][..]),
    };
    let class = match found.health {
        Health::Well => "good",
        Health::Warned => "warned",
        Health::Ill | Health::Unexplained => "bad",
    };
    html! {
        nav .trail aria-label="Where you are" {
            a href="/" { "Overview" } " / " a href=(device) { bdi { (words::tamed(&found.device)) } }
        }
        article #diagnosis {
            h1 { bdi { (words::tamed(&found.device)) } ": " (found.health.words()) }
            p .quiet { "Examined at " (words::clock(now)) ". Nothing was changed. " (again(&found.device)) }
            @if let Some(first) = first {
                section .card.verdict.(class) aria-labelledby="cause" {
                    h2 #cause { (words::sentence(&line(&first.cause))) }
                    (body(first))
                }
            } @else if found.health == Health::Well {
                section .card.verdict.good { p { "There is nothing to do." } }
            } @else {
                section .card.verdict.bad { p { "Switch its power off and on, and look at its own console." } }
            }
            @if !rest.is_empty() {
                section .card.verdict aria-labelledby="also" {
                    h2 #also { "Also" }
                    @for finding in rest {
                        details {
                            summary { (words::sentence(&line(&finding.cause))) }
                            (body(finding))
                        }
                    }
                }
            }
            @if !found.unknown.is_empty() {
                section .card.verdict aria-labelledby="unknown" {
                    h2 #unknown { "Not found out" }
                    ul { @for what in &found.unknown { li { bdi { (line(what)) } } } }
                }
            }
        }
    }
}

fn again(name: &str) -> Markup {
    html! { a href=(format!("/devices/{}/diagnosis", words::url_segment(name))) { "Examine it again" } }
}

fn body(finding: &Finding) -> Markup {
    html! {
        dl .facts {
            div { dt { "Evidence" } dd { ul .bare { @for what in &finding.evidence { li { bdi { (line(what)) } } } } } }
            div { dt { "Next step" } dd { (words::sentence(&line(&finding.next_step))) } }
            @if let Some(repair) = &finding.repair {
                div { dt { "Repair" } dd { (words::with_commands(&line(repair))) } }
            }
            div { dt { "Rule" } dd { code { (finding.rule) } } }
        }
    }
}

/// Evidence has words of devices and of strangers at the door in it: one line each, not for ever.
fn line(text: &str) -> String {
    words::tamed_to(text, EVIDENCE_CHARS)
}
