//! What a node tells the commands that ask it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use quoll_fleet::witness::Witness as _;
use quoll_mqtt::ReasonCode;
use quoll_server::ConnectionInfo;

use super::Node;
use crate::control::{Answer, Question, Respond, Seen, Status};

#[async_trait]
impl Respond for Node {
    async fn respond(&self, question: Question) -> Answer {
        match question {
            Question::Changed => match self.reread().await {
                Ok(ended) => Answer::InForce { ended },
                Err(failure) => Answer::Failed { why: failure.what },
            },
            Question::Status => {
                let snapshot = self.server().snapshot().await;
                let connections = snapshot
                    .connections
                    .iter()
                    .map(|who| seen(who, who.credential.and_then(|credential| self.serial_of(&credential))));
                Answer::Status(Status {
                    version: env!("CARGO_PKG_VERSION").into(),
                    pid: std::process::id(),
                    host: self.settings.host.clone(),
                    listeners: self.addresses().iter().map(ToString::to_string).collect(),
                    connections: connections.collect(),
                })
            }
            Question::Encounters(whose) => Answer::Encountered { encounters: self.encounters.of(&whose) },
            Question::Disregard { peer } => {
                self.encounters.disregard(peer);
                Answer::InForce { ended: 0 }
            }
            Question::KeepOut { who } => match self.keep_out(&who).await {
                Ok(ended) => Answer::InForce { ended },
                Err(failure) => Answer::Failed { why: failure.what },
            },
            Question::Part { serial } => {
                let mut ended = 0;
                for who in &self.server().snapshot().await.connections {
                    let id = who.credential.and_then(|credential| self.serial_of(&credential));
                    if id.is_some_and(|id| id.eq_ignore_ascii_case(&serial)) {
                        ended +=
                            self.server().disconnect(&who.client_id, ReasonCode::ADMINISTRATIVE_ACTION).await;
                    }
                }
                Answer::InForce { ended }
            }
            Question::WaitFor { serial, within_ms } => {
                if let Err(failure) = self.reread().await {
                    return Answer::Failed { why: failure.what };
                }
                let begun = Instant::now();
                match self.presence.wait_for(&serial, Duration::from_millis(within_ms)).await {
                    Ok(sighting) => Answer::Seen(Seen {
                        name: String::new(),
                        client_id: sighting.client_id,
                        address: sighting.address,
                        serial: Some(serial),
                        since_ms: millis(sighting.at.into()),
                    }),
                    Err(_) => Answer::NotSeen { failed: self.refusals.since(begun) },
                }
            }
        }
    }
}

fn seen(who: &ConnectionInfo, serial: Option<String>) -> Seen {
    Seen {
        name: who.identity.to_string(),
        client_id: who.client_id.to_string(),
        address: who.peer.to_string(),
        serial,
        since_ms: millis(who.since),
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
