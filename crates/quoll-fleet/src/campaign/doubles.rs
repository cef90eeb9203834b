//! Devices that cannot all be enrolled as they are, since they share what each must have of its own.

use std::collections::{BTreeMap, BTreeSet};

use quoll_tasmota::Mac;

use super::candidate::Candidate;
use super::plan::{Held, Hold, Item, Policy, Verdict};
use crate::device::{Device, DeviceState};

/// Two devices with one topic speak for each other, two with one client id throw each other out of the broker, and two
/// with one name are one.
pub(super) fn hold_doubles(items: &mut [Item], found: &[Candidate], known: &[Device], policy: &Policy) {
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut clients = topics.clone();
    let mut names = topics.clone();
    let macs: BTreeSet<Mac> = items.iter().map(|item| item.mac).collect();
    let note = |map: &mut BTreeMap<String, BTreeSet<String>>, key: &str, who: &str| {
        map.entry(key.to_owned()).or_default().insert(who.to_owned());
    };
    for (item, candidate) in items.iter().zip(found) {
        let who = format!("{} ({})", item.name, item.mac);
        if let Some(topic) = &candidate.found.topic {
            note(&mut topics, topic, &who);
        }
        if let Some(client) = &candidate.found.client {
            note(&mut clients, client, &who);
        }
        note(&mut names, &item.name.as_str().to_ascii_lowercase(), &who);
    }
    for device in known.iter().filter(|device| !macs.contains(&device.mac)) {
        let who = format!("{} ({})", device.name, device.mac);
        if device.state != DeviceState::Revoked {
            note(&mut topics, &device.topics.topic, &who);
            note(&mut clients, &device.topics.client_id, &who);
        }
        note(&mut names, &device.name.as_str().to_ascii_lowercase(), &who);
    }
    for (item, candidate) in items.iter_mut().zip(found) {
        let me = format!("{} ({})", item.name, item.mac);
        let others = |map: &BTreeMap<String, BTreeSet<String>>, key: &str| -> Option<String> {
            let others: Vec<&str> =
                map.get(key)?.iter().filter(|who| **who != me).map(String::as_str).collect();
            (!others.is_empty()).then(|| others.join(", "))
        };
        let mut held = Vec::new();
        if let Some(topic) = candidate.found.topic.as_deref().filter(|_| !policy.share_topics)
            && let Some(others) = others(&topics, topic)
        {
            let why = format!("it has the topic {topic:?}, and so has {others}");
            let next = "Topic NAME on one of them, then quoll fleet scan again; or --share-topics".to_owned();
            held.push(Held { hold: Hold::SharedTopic, why, next });
        }
        if let Some(client) = &candidate.found.client
            && let Some(others) = others(&clients, client)
        {
            let why = format!("it has the MQTT client id {client:?}, and so has {others}");
            let next =
                "MqttClient 1 on one of them (the factory's: made of its MAC), then quoll fleet scan again";
            held.push(Held { hold: Hold::SharedClientId, why, next: next.into() });
        }
        if let Some(others) = others(&names, &item.name.as_str().to_ascii_lowercase()) {
            let why = format!("it would be called {}, as {others}", item.name);
            let next = "name them in a list: quoll fleet scan --csv FILE".to_owned();
            held.push(Held { hold: Hold::SharedName, why, next });
        }
        match (&mut item.verdict, held.is_empty()) {
            (_, true) | (Verdict::Proven(_), _) => {}
            (Verdict::Held(all), false) => all.extend(held),
            (verdict @ Verdict::Enrol(_), false) => *verdict = Verdict::Held(held),
        }
    }
}
