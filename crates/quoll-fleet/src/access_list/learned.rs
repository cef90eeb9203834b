//! What an identity did beyond its list, and what could be added to the list so that it may.
//! What it is not: a decision. A proposal that reaches into what is another device's own is marked, and is never taken
//! over unless a person names it.

use std::collections::{BTreeMap, BTreeSet};

use quoll_mqtt::topic::{covers, overlap};
use time::OffsetDateTime;

use super::{Access, Act, areas};
use crate::device::Device;
use crate::limits::SIBLINGS_MAX;

/// Something that an identity did and its list does not allow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// Name of the device or client.
    pub name: String,
    /// What it did.
    pub act: Act,
    /// The topic, or of a SUBSCRIBE the filter.
    pub topic: String,
    /// Whether it was refused the last time; else it was let through, to learn.
    pub refused: bool,
    /// How often.
    pub times: u64,
    /// When it was seen first.
    pub first: OffsetDateTime,
    /// When it was seen last.
    pub last: OffsetDateTime,
}

/// A filter that would allow what was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// For what.
    pub act: Act,
    /// The filter.
    pub filter: String,
    /// How far it reaches.
    pub reach: Reach,
}

impl Proposal {
    /// Whether it would allow this.
    #[must_use]
    pub fn allows(&self, seen: &Observation) -> bool {
        self.act == seen.act && is_allowed(std::slice::from_ref(&self.filter), &seen.topic)
    }
}

/// How far a proposed filter reaches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Into nothing that is anybody else's.
    Own,
    /// Into topics that are this other device's own: to command it, to speak in its name, to listen to its commands.
    Device(String),
    /// Into all of several devices, or everything.
    Wide,
}

/// What could be added to the list of `name`, narrow filters only: a topic as it was seen, or one `+` in the place of more
/// than [`SIBLINGS_MAX`] siblings. Of a subscription, the filter as it was asked for. What `access` allows already is left
/// out.
#[must_use]
pub fn proposals(name: &str, access: &Access, seen: &[Observation], devices: &[Device]) -> Vec<Proposal> {
    let mut wanted: BTreeSet<(Act, String)> = BTreeSet::new();
    let mut siblings: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in seen.iter().filter(|one| one.name.eq_ignore_ascii_case(name)) {
        match (one.act, one.topic.rsplit_once('/')) {
            (Act::Publish, Some((parent, last))) => {
                siblings.entry(parent).or_default().insert(last);
            }
            _ => {
                wanted.insert((one.act, one.topic.clone()));
            }
        }
    }
    for (parent, names) in siblings {
        if names.len() > SIBLINGS_MAX {
            wanted.insert((Act::Publish, format!("{parent}/+")));
        } else {
            wanted.extend(names.iter().map(|last| (Act::Publish, format!("{parent}/{last}"))));
        }
    }
    let missing = wanted.into_iter().filter(|(act, filter)| !is_allowed(access.of(*act), filter));
    missing
        .map(|(act, filter)| {
            let reach = reach(name, act, &filter, devices);
            Proposal { act, filter, reach }
        })
        .collect()
}

/// Whether one of `filters` matches all that `wanted` does.
fn is_allowed(filters: &[String], wanted: &str) -> bool {
    filters.iter().any(|filter| covers(filter, wanted))
}

fn reach(name: &str, act: Act, filter: &str, devices: &[Device]) -> Reach {
    let mut touched = devices
        .iter()
        .filter(|device| !device.name.as_str().eq_ignore_ascii_case(name))
        .filter(|device| {
            let (own, _) = areas(device.mac, &device.topics);
            // To hear what a device says harms nobody; to hear its commands may.
            let listened = |area: &String| act == Act::Publish || !is_said(area, device);
            own.iter().filter(|area| listened(area)).any(|area| meets(filter, area))
        })
        .map(|device| device.name.to_string());
    match (touched.next(), touched.next()) {
        _ if matches!(filter, "#" | "+/#") => Reach::Wide,
        (Some(_), Some(_)) => Reach::Wide,
        (Some(one), None) => Reach::Device(one),
        (None, _) => Reach::Own,
    }
}

fn is_said(area: &str, device: &Device) -> bool {
    let topics = &device.topics;
    let said = [&topics.status, &topics.telemetry].map(|prefix| topics.full(prefix, &topics.topic));
    said.iter().any(|own| own == area) || area.starts_with("tasmota/discovery/")
}

/// Whether the filter matches some topic of `area`, which ends in `/`.
fn meets(filter: &str, area: &str) -> bool {
    overlap(filter, &format!("{area}#"))
}
