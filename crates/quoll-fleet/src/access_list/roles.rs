//! What a client may do by its role. A role follows the devices that there are: one whose FullTopic is not Tasmota's
//! default is commanded and heard like the others.

use std::collections::BTreeSet;

use super::{Access, AccessError};
use crate::client::{Client, Role};
use crate::device::{Device, Topics};

/// Where devices with Tasmota's own prefixes and FullTopic speak and listen, whichever devices there are.
const BY_DEFAULT: [&str; 3] = ["cmnd/#", "stat/#", "tele/#"];

/// What a client may do by its role, among these devices.
///
/// # Errors
/// Where a list of its own has something that is no filter.
pub fn client_access(client: &Client, devices: &[Device]) -> Result<Access, AccessError> {
    let mut access = Access::default();
    match &client.role {
        Role::Everything => {
            access.publish = texts(&["#"]);
            access.subscribe = texts(&["#", "$SYS/#"]);
        }
        Role::Observer => access.subscribe = texts(&["#"]),
        Role::HomeAssistant => {
            let [commands, said] = areas(devices);
            access.publish = commands.into_iter().chain(texts(&["homeassistant/#"])).collect();
            let own = texts(&["tasmota/discovery/#", "homeassistant/#"]);
            access.subscribe = said.into_iter().chain(own).collect();
        }
        Role::NodeRed => {
            let [commands, said] = areas(devices);
            // Flows talk among themselves below the client's own name.
            let own = format!("{}/#", client.name);
            access.publish = commands.into_iter().chain([own.clone()]).collect();
            access.subscribe = said.into_iter().chain(texts(&["tasmota/discovery/#"])).chain([own]).collect();
        }
        Role::Dashboard => {
            let [_, said] = areas(devices);
            access.subscribe = said.into_iter().chain(texts(&["tasmota/discovery/#"])).collect();
        }
        Role::Custom(templates) => {
            templates.check()?;
            let fill = |filters: &[String]| {
                filters.iter().map(|filter| filter.replace("%name%", client.name.as_str())).collect()
            };
            access = Access { publish: fill(&templates.publish), subscribe: fill(&templates.subscribe) };
        }
    }
    Ok(access)
}

fn texts(filters: &[&str]) -> Vec<String> {
    filters.iter().map(|filter| (*filter).to_owned()).collect()
}

/// Where devices take commands, and where they speak: a filter for each form of topics, not for each device.
fn areas(devices: &[Device]) -> [Vec<String>; 2] {
    let [command, status, telemetry] = BY_DEFAULT;
    let mut commands = BTreeSet::new();
    let mut said = BTreeSet::new();
    for topics in devices.iter().map(|device| &device.topics).filter(|topics| topics.check().is_ok()) {
        commands.insert(form(topics, &topics.command));
        said.insert(form(topics, &topics.status));
        said.insert(form(topics, &topics.telemetry));
    }
    let with = |mut defaults: Vec<String>, found: BTreeSet<String>| {
        for filter in found {
            let within = |wide: &String| filter.starts_with(wide.trim_end_matches('#'));
            if !defaults.iter().any(within) {
                defaults.push(filter);
            }
        }
        defaults
    };
    [with(texts(&[command]), commands), with(texts(&[status, telemetry]), said)]
}

/// A device's area of this prefix with `+` for each level of its topic: `home/+/stat/#`.
fn form(topics: &Topics, prefix: &str) -> String {
    let levels = vec!["+"; topics.topic.split('/').count()].join("/");
    // A level that is filled in only in part cannot have a wildcard: there the device's own topic stands.
    let fills_levels = topics.full_topic.match_indices("%topic%").all(|(at, word)| {
        let (before, after) = (&topics.full_topic[..at], &topics.full_topic[at + word.len()..]);
        (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'))
    });
    let topic = if fills_levels { &levels } else { &topics.topic };
    format!("{}#", topics.full(prefix, topic))
}
