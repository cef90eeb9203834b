//! Rules about names that two devices have: client id and topic. Facts §6.1, §6.2.

use std::collections::BTreeSet;

use crate::doctor::evidence::Evidence;
use crate::doctor::verdict::{Found, Repair, Rule};

/// Connections that were taken over before it is called a fight.
const FIGHT: usize = 2;

/// Connections since the last boot that another took over: a device that restarts without a goodbye takes over its own.
fn taken_over(it: &Evidence) -> usize {
    let boot = it.device.uptime.map(|uptime| it.now.saturating_sub(uptime));
    let here = |at: i64| boot.is_none_or(|boot| at >= boot);
    let taken = |how: &Option<String>| how.as_deref().is_some_and(|how| how.contains("taken over"));
    it.wire.encounters.iter().filter(|one| here(one.at) && taken(&one.departure)).count()
}

pub(super) const CLIENT_ID_TAKEN: Rule = Rule {
    id: "client-id-taken",
    numbers: &[],
    looks_at: "how its connections ended at the broker, MqttClient against the registry, who has the client id now",
    cause: "two clients with the same client id throw each other out",
    fix: "give one of them another: MqttClient DVES_%06X",
    repairs: Some("MqttClient, where it is not the one that the device was proven with"),
    is_warning: false,
    judge: |it| {
        let times = taken_over(it);
        let id = it.device.client.as_deref().unwrap_or(&it.registered.client_id);
        let others = &it.registered.client_id_of;
        // Our broker lets nobody have the session of another certificate's.
        let is_anothers = it.was_refused() && it.number().is_none() && !others.is_empty();
        if times < FIGHT && !is_anothers {
            return None;
        }
        let peers: BTreeSet<&str> = it
            .wire
            .encounters
            .iter()
            .map(|it| it.peer.rsplit_once(':').map_or(it.peer.as_str(), |it| it.0))
            .collect();
        let found = match times {
            0 => Found::lines(it.wire_line()).cause(
                "the device comes with another's client id, and the broker does not let it in under that",
            ),
            _ => Found::because(format!(
                "wire: {times} of its last connections were taken over by another with the id {id}"
            )),
        };
        let found = found
            .and(format!("wire: its own came from {}", peers.into_iter().collect::<Vec<_>>().join(", ")));
        let found =
            found.and_all(it.wire.rival.as_ref().map(|rival| format!("wire: {rival} has that id now")));
        let found = found.and_all(
            (!others.is_empty()).then(|| format!("registry: {id} is that of {}", others.join(", "))),
        );
        let own = &it.registered.client_id;
        if it.device.client.as_ref().is_some_and(|client| client != own) && it.registered.state == "proven" {
            return Some(
                found
                    .and(format!("registry: its own is {own}"))
                    .fix(format!("give it its own again: MqttClient {own}"))
                    .repair(Repair::ClientId(own.clone())),
            );
        }
        Some(match &it.wire.rival {
            Some(rival) => found.fix(format!("give the other one ({rival}) its own: MqttClient 1")),
            None => found,
        })
    },
};

fn topic_repair(it: &Evidence, found: Found) -> Found {
    let own = &it.registered.topic;
    match &it.device.topic {
        Some(topic) if topic != own && !own.is_empty() && it.registered.state == "proven" => found
            .and(format!("registry: its own is {own}"))
            .fix(format!("give it its own again: Topic {own}"))
            .repair(Repair::Topic(own.clone())),
        _ => found,
    }
}

pub(super) const TOPIC_SHARED: Rule = Rule {
    id: "topic-shared",
    numbers: &[],
    looks_at: "Topic, the topics of the other devices in the registry",
    cause: "two devices have one topic: a command for one reaches both, and what they say cannot be told apart",
    fix: "give one of them another: Topic",
    repairs: Some("Topic, where it is not the one that the device was proven with"),
    is_warning: true,
    judge: |it| {
        let others = &it.registered.topic_of;
        let topic = it.device.topic.as_ref().filter(|_| !others.is_empty())?;
        let found = Found::because(format!("device: Topic is {topic}"))
            .and(format!("registry: {topic} is the topic of {}", others.join(", ")));
        Some(topic_repair(it, found))
    },
};

pub(super) const TOPIC_CHANGED: Rule = Rule {
    id: "topic-changed",
    numbers: &[],
    looks_at: "Topic against the registry",
    cause: "the device has another topic than the one that it was given permissions for: the broker drops what it says",
    fix: "give it its own again: Topic; or learn the new one: quoll device add, again",
    repairs: Some("Topic"),
    is_warning: true,
    judge: |it| {
        let own = &it.registered.topic;
        let topic = it.device.topic.as_ref().filter(|topic| *topic != own)?;
        let given = matches!(it.registered.state.as_str(), "proven" | "switched");
        if own.is_empty() || !given || !it.registered.topic_of.is_empty() {
            return None;
        }
        Some(topic_repair(it, Found::because(format!("device: Topic is {topic}"))))
    },
};
