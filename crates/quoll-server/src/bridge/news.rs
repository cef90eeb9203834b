//! What is told of a bridge: to subscribers of its notifications, and in the log when its connection ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoll_broker::Message;
use quoll_broker::message::MessageParts;
use quoll_mqtt::{DecodeError, ProtocolVersion, QoS, ReasonCode, TopicName};

use super::Bridge;
use super::life::{Life, Over};
use super::link::Ending;
use crate::log::{CONNECTION, NOTICE, shown};

impl Life {
    /// Says on this broker whether the bridge is connected; nothing: takes that back.
    pub(super) fn tell_here(&self, state: &'static str) {
        self.tell(&self.bridge, state);
    }

    pub(super) fn tell(&self, bridge: &Bridge, state: &'static str) {
        let Ok(server) = self.server() else { return };
        let told = bridge.configuration.notifications.as_ref();
        let Some(topic) = told.and_then(|it| TopicName::parse(&it.topic).ok()) else { return };
        let mut number = [0; 8];
        // Without chance the number is 0: it tells messages apart in facts, and these are never kept.
        let _ = aws_lc_rs::rand::fill(&mut number);
        server.publish(Arc::new(Message::new(MessageParts {
            number: u64::from_le_bytes(number),
            publisher: "".into(),
            topic,
            payload: Bytes::from_static(state.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: None,
            expires: None,
        })));
    }

    /// Says it in Mosquitto's words where there are some. Answers how long messages could flow.
    pub(super) fn say_how_it_ended(&self, over: &Over) -> Option<Duration> {
        let Over::Ended(ending, lasted) = over else { return None };
        let (name, id) = (&self.bridge.configuration.name, shown(&self.bridge.configuration.local.client_id));
        match ending {
            Ending::Refused(reason) => {
                tracing::error!(
                    "Connection Refused: {}",
                    refusal(*reason, self.bridge.configuration.version)
                );
                tracing::info!(target: CONNECTION, "Client {id} closed its connection.");
            }
            Ending::Closed(why) => {
                tracing::info!(target: CONNECTION, "Client {id} closed its connection.");
                tracing::debug!(bridge = name, why, "a bridge's connection is over");
            }
            Ending::Broken(error) => {
                let what = match error {
                    DecodeError::TooLarge { .. } => "oversize packet",
                    DecodeError::Malformed { .. } => "malformed packet",
                    _ => "protocol error",
                };
                tracing::info!(target: CONNECTION, "Client {id} disconnected due to {what}.");
                tracing::warn!("Bridge {name}: {ending}");
            }
            Ending::Silent => {
                tracing::info!(target: CONNECTION, "Client {id} has exceeded timeout, disconnecting.");
            }
            Ending::Idle => {
                tracing::info!(target: NOTICE, "Bridge connection {id} has exceeded idle timeout, disconnecting.");
            }
            Ending::Disconnected(_) | Ending::RefusedHere(_) | Ending::ClosedHere(_) => {
                // At the server's end this is no news.
                if self.server().is_ok() {
                    tracing::warn!("Bridge {name}: {ending}");
                }
            }
        }
        *lasted
    }
}

/// A refusal in the words of Mosquitto's log.
fn refusal(reason: ReasonCode, version: ProtocolVersion) -> String {
    if version == ProtocolVersion::V5 {
        return reason.to_string();
    }
    match reason {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => "unacceptable protocol version",
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => "identifier rejected",
        ReasonCode::SERVER_UNAVAILABLE => "broker unavailable",
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => "bad user name or password",
        ReasonCode::NOT_AUTHORIZED => "not authorised",
        _ => "unknown reason",
    }
    .to_owned()
}
