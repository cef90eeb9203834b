//! Enhanced authentication (5.0 §4.12): a dialogue of AUTH packets before CONNACK, and again on a live connection.
//!
//! The doorkeeper knows the methods and judges; here is who says what when. Before CONNACK all of it falls within the
//! connect patience; on a live connection the session goes on, and a failure ends it (§4.12.1).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quoll_broker::vocabulary::{ConnId, Input, Order};
use quoll_mqtt::packet::{Auth, AuthProperties, Packet};
use quoll_mqtt::{ProtocolVersion, ReasonCode};

use crate::doorkeeper::Verdict;
use crate::limits::AUTH_STEPS;
use crate::shard_thread::ShardThread;

/// A method that a client may prove itself by: begins a dialogue each time that it is asked.
pub type Authenticator = Arc<dyn Fn() -> Box<dyn Dialogue> + Send + Sync>;

/// One authentication by a method. Runs on the threads of shards too, so it neither waits nor hashes passwords.
pub trait Dialogue: Send {
    /// Takes what the client says: Authentication Data of CONNECT or AUTH, empty without any.
    fn hear(&mut self, data: &[u8]) -> Step;
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Step {
    /// The client is to go on; this is said to it (0x18).
    Ask(Vec<u8>),
    /// It is over: the verdict, and what a client that is let in is told with it.
    Over(Verdict, Vec<u8>),
}

/// How a connection was authenticated, for CONNACK and for the next time.
#[derive(Clone)]
pub(crate) struct Agreed {
    pub(crate) method: String,
    /// What CONNACK tells.
    pub(crate) data: Vec<u8>,
    pub(crate) again: Authenticator,
}

/// The same on a live connection.
pub(crate) struct LiveMethod {
    method: String,
    again: Authenticator,
    /// A re-authentication under way, and how many steps it had.
    dialogue: Option<(Box<dyn Dialogue>, usize)>,
}

impl LiveMethod {
    pub(crate) fn of(agreed: &Agreed) -> Self {
        Self { method: agreed.method.clone(), again: Arc::clone(&agreed.again), dialogue: None }
    }

    /// Takes an AUTH; `Err` with the reason that the connection ends with (§3.15.2.1, §4.12.1).
    fn take(&mut self, auth: &Auth, identity: &str) -> Result<Auth, ReasonCode> {
        if auth.properties.authentication_method.as_deref() != Some(self.method.as_str()) {
            return Err(ReasonCode::PROTOCOL_ERROR); // [MQTT-4.12.1-1]
        }
        let (mut dialogue, steps) = match auth.reason {
            ReasonCode::REAUTHENTICATE => ((self.again)(), 0),
            _ => self.dialogue.take().ok_or(ReasonCode::PROTOCOL_ERROR)?,
        };
        if steps >= AUTH_STEPS {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        match dialogue.hear(auth.properties.authentication_data.as_deref().unwrap_or_default()) {
            Step::Ask(data) => {
                self.dialogue = Some((dialogue, steps + 1));
                Ok(packet(ReasonCode::CONTINUE_AUTHENTICATION, &self.method, data))
            }
            Step::Over(Verdict::Admit(admission), data) if *admission.identity.name == *identity => {
                Ok(packet(ReasonCode::SUCCESS, &self.method, data))
            }
            // To become somebody else is to connect anew.
            Step::Over(Verdict::Admit(_), _) => Err(ReasonCode::NOT_AUTHORIZED),
            Step::Over(Verdict::Refuse(reason), _) => Err(reason),
        }
    }
}

impl fmt::Debug for LiveMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveMethod").field("method", &self.method).finish_non_exhaustive()
    }
}

/// An AUTH of the server.
pub(crate) fn packet(reason: ReasonCode, method: &str, data: Vec<u8>) -> Auth {
    let properties = AuthProperties {
        authentication_method: Some(method.to_owned()),
        authentication_data: (!data.is_empty()).then(|| Bytes::from(data)),
        ..AuthProperties::default()
    };
    Auth { reason, properties }
}

impl ShardThread {
    /// Takes an AUTH of a connected client. One that agreed on no method hears of the rules that it broke one.
    pub(crate) fn authenticate_again(&mut self, conn: ConnId, auth: Auth) {
        let Some(connection) = self.connection(conn) else { return };
        let identity = Arc::clone(&connection.who.identity);
        let client_id = Arc::clone(&connection.who.client_id);
        let method = connection.edge.as_mut().and_then(|edge| edge.method.as_mut());
        let Some(method) = method.filter(|_| connection.version == ProtocolVersion::V5) else {
            return self.hand_on(Input::Packet(conn, Packet::Auth(Box::new(auth))));
        };
        match method.take(&auth, &identity) {
            Ok(answer) => {
                // The rules note that the client was heard of.
                let heard = Auth { reason: ReasonCode::SUCCESS, ..auth };
                self.hand_on(Input::Packet(conn, Packet::Auth(Box::new(heard))));
                self.answer(conn, &Packet::Auth(Box::new(answer)));
            }
            // The rules end the connection.
            Err(reason) => self.hand_on(Input::Order(Order::Disconnect { client_id, reason })),
        }
    }
}
