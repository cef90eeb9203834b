//! SCRAM-SHA-256 with the accounts of the password files that have a record for it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_mqtt::ReasonCode;
use quoll_server::mosquitto::scram::{Exchange, METHOD, ScramRecord, Secret};
use quoll_server::{Authenticator, ConnectFacts, Dialogue, Step, Verdict};

use super::doors::Doors;

/// What a client's dialogues have in common.
#[derive(Clone)]
struct Caller {
    doors: Arc<ArcSwap<Doors>>,
    secret: Secret,
    listener: String,
    /// The user name of its CONNECT, which then has to be the one that is proven.
    username: Option<String>,
    client_id: String,
    username_as_client_id: bool,
    credential: Option<[u8; 32]>,
}

/// One authentication.
struct Talk {
    caller: Caller,
    exchange: Option<(Exchange, Option<ScramRecord>)>,
}

/// The method, where this listener has an account with a record.
pub(super) fn begin(
    doors: &Arc<ArcSwap<Doors>>,
    secret: &Secret,
    facts: &ConnectFacts<'_>,
    method: &str,
) -> Option<Authenticator> {
    let all = doors.load();
    let door = all.get(facts.listener)?;
    // Who comes by a certificate has proven himself.
    if method != METHOD || door.certificate_name.is_some() || !door.door.has_scram() {
        return None;
    }
    let caller = Caller {
        doors: Arc::clone(doors),
        secret: secret.clone(),
        listener: facts.listener.to_owned(),
        username: facts.connect.username.clone(),
        client_id: facts.connect.client_id.clone(),
        username_as_client_id: facts.terms.username_as_client_id,
        credential: facts.certificate.map(|certificate| certificate.credential),
    };
    Some(Arc::new(move || Box::new(Talk { caller: caller.clone(), exchange: None })))
}

impl Dialogue for Talk {
    fn hear(&mut self, data: &[u8]) -> Step {
        let refused = Step::Over(Verdict::Refuse(ReasonCode::NOT_AUTHORIZED), Vec::new());
        let Some((exchange, record)) = self.exchange.take() else {
            if data.is_empty() {
                // The method begins with the client.
                return Step::Ask(Vec::new());
            }
            return self.begin(data).unwrap_or(refused);
        };
        let Ok((name, answer)) = exchange.finish(data) else { return refused };
        match self.caller.admission(&name, record.as_ref()) {
            Some(admission) => Step::Over(Verdict::Admit(admission), answer),
            None => refused,
        }
    }
}

impl Talk {
    fn begin(&mut self, data: &[u8]) -> Option<Step> {
        let doors = self.caller.doors.load();
        let door = doors.get(&self.caller.listener)?;
        let mut found = None;
        let record_of = |name: &str| {
            found = door.door.scram_record(name).cloned();
            found.clone()
        };
        let (exchange, answer) = Exchange::begin(data, &self.caller.secret, record_of).ok()?;
        self.exchange = Some((exchange, found));
        Some(Step::Ask(answer))
    }
}

impl Caller {
    /// What somebody who proved to be this user gets; by the doors of now, which may be others than a moment ago.
    fn admission(&self, name: &str, record: Option<&ScramRecord>) -> Option<Admission> {
        if self.username.as_deref().is_some_and(|claimed| claimed != name) {
            return None;
        }
        let doors = self.doors.load();
        let door = &doors.get(&self.listener)?.door;
        if record.is_none() || door.scram_record(name) != record {
            return None;
        }
        let client_id = if self.username_as_client_id { name } else { &self.client_id };
        let grants = door.grants(Some(name), client_id);
        let identity = Identity { name: name.into(), credential: self.credential };
        Some(Admission { identity, grants, client_id: None })
    }
}
