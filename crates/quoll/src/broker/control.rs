//! `$CONTROL/broker/v1`: what there is, told to those who ask.
//!
//! `$CONTROL/dynamic-security/v1`: commands are obeyed, saved, put in force, answered; then whose permissions changed have to
//! come again, as Mosquitto's plugin does it.
//!
//! In this order nobody sees an answer before it is true: a failure to save changes nothing, new permissions hold before
//! the answer, and who is told to come again hears it behind the answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use quoll_mqtt::{ReasonCode, TopicName};
use quoll_server::mosquitto::control_request::Request;
use quoll_server::mosquitto::dynamic_security::commands::{Admin, Connections, Obeyed, asks_for_connections};
use quoll_server::mosquitto::dynamic_security::{DynamicSecurity, RESPONSE_TOPIC, TOPIC};
use quoll_server::mosquitto::replace_file;
use quoll_server::{ConnectionInfo, ControlMessage, Handle};
use serde_json::Value;

use super::doors::{DoorOf, Doors, Keeper};
use super::inventory;
use super::reload::{Live, name, withhold};

/// After this one looks once more: somebody may have been between the door and the rules while doors were swapped.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Who came later before a change than this was not between.
const BETWEEN: Duration = Duration::from_secs(2);

/// Users; `None` stands for those without a name.
type Users = BTreeSet<Option<Arc<str>>>;

impl Live {
    /// Does what a client says to the server.
    pub(super) async fn obey(&mut self, words: ControlMessage) {
        let configuration = &self.state.configuration;
        if configuration.global.control_api && words.message.topic.as_str() == inventory::TOPIC {
            let listeners = self.source.board.listeners();
            let response = inventory::answer(&words.message.payload, configuration, &listeners);
            return self.answer(inventory::RESPONSE_TOPIC, &response);
        }
        let door = self.state.doors.get(&*words.listener);
        let own = door.filter(|door| door.door.is_dynamic()).and_then(|door| door.door.dynamic_security());
        let Some((path, security)) = own.filter(|_| words.message.topic.as_str() == TOPIC) else {
            return tracing::debug!("{}: nobody listens to this.", words.message.topic.as_str());
        };
        let (path, security) = (path.to_owned(), Arc::clone(security));
        let request = Request::parse(&words.message.payload);
        let connections =
            if asks_for_connections(&request) { connections(&self.handle).await } else { Connections::new() };
        let done = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || obey(&path, &security, &request, &words, &connections)).await
        };
        let Ok((obeyed, response)) = done else { return };
        if let Some(new) = &obeyed.changed {
            self.put_in_force_dynamic(&path, &Arc::new(new.clone()));
            self.regrant(&path, &obeyed).await;
        }
        self.answer(RESPONSE_TOPIC, &response);
        self.kick(&path, &obeyed.kicked).await;
        if obeyed.changed.is_some() {
            withhold(&self.handle, &self.state.doors);
            self.look_again();
        }
    }

    fn answer(&self, topic: &str, response: &Value) {
        if let Ok(topic) = TopicName::parse(topic) {
            self.handle.answer(topic, response.to_string().into_bytes());
        }
    }

    fn put_in_force_dynamic(&mut self, path: &Path, security: &Arc<DynamicSecurity>) {
        let mut doors = self.state.doors.clone();
        for door in doors.values_mut() {
            if let Some(changed) = door.door.with_dynamic_security(path, security) {
                *door = Arc::new(DoorOf { door: changed, ..(**door).clone() });
            }
        }
        self.state.doors = doors.clone();
        self.keeper.replace(doors);
    }

    /// The sessions of those whose permissions may be others now, wherever their clients are, get the new ones.
    async fn regrant(&self, path: &Path, obeyed: &Obeyed) {
        let users: Users = obeyed.touched.union(&obeyed.kicked).cloned().collect();
        let everybody = obeyed.everybody;
        if users.is_empty() && !everybody {
            return;
        }
        if let Some(door) = self.only_door(path) {
            let wanted = move |identity: &str| everybody || has(&users, identity);
            for (client_id, identity) in self.handle.clients_of(Arc::new(wanted)).await {
                let grants = door.door.grants(name(&identity), &client_id);
                self.handle.regrant_client(&client_id, &identity, &grants);
            }
            return;
        }
        // Where listeners differ, whoever is away gets them with its next CONNECT.
        for who in self.handle.snapshot().await.connections {
            let door = self.state.doors.get(&*who.listener).filter(|door| decides(door, path));
            if let Some(door) = door.filter(|_| everybody || has(&users, &who.identity)) {
                let grants = door.door.grants(name(&who.identity), &who.client_id);
                self.handle.regrant_client(&who.client_id, &who.identity, &grants);
            }
        }
    }

    async fn kick(&self, path: &Path, users: &Users) {
        if users.is_empty() {
            return;
        }
        let only = self.only_door(path).is_some();
        if only {
            users.iter().flatten().for_each(|user| self.handle.kick(user, None));
        }
        if only && !users.contains(&None) {
            return;
        }
        for who in self.handle.snapshot().await.connections {
            let door = self.state.doors.get(&*who.listener).filter(|door| decides(door, path));
            if door.is_some() && has(users, &who.identity) {
                self.handle.kick(&who.identity, Some(&who.client_id));
            }
        }
    }

    /// A door, if all are decided by this file.
    fn only_door(&self, path: &Path) -> Option<&Arc<DoorOf>> {
        let mut doors = self.state.doors.values();
        let first = doors.next().filter(|door| decides(door, path));
        first.filter(|_| doors.all(|door| decides(door, path)))
    }

    /// Once for many changes.
    fn look_again(&self) {
        if self.second_look.swap(true, Ordering::AcqRel) {
            return;
        }
        let (handle, keeper) = (self.handle.clone(), Arc::clone(&self.keeper));
        let pending = Arc::clone(&self.second_look);
        let since = SystemTime::now() - BETWEEN;
        tokio::spawn(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            pending.store(false, Ordering::Release);
            let doors = keeper.doors();
            for who in handle.snapshot().await.connections.iter().filter(|who| who.since >= since) {
                look_at(&handle, &doors, who).await;
            }
        });
    }
}

/// Whether a second look is due already.
pub(super) type SecondLook = Arc<AtomicBool>;

/// Obeys and saves; what became of it, and what to answer.
fn obey(
    path: &Path,
    security: &DynamicSecurity,
    request: &Request,
    words: &ControlMessage,
    connections: &Connections,
) -> (Obeyed, Value) {
    let admin = Admin { client_id: &words.client_id, username: &words.identity };
    let mut obeyed = security.obey(request, admin, connections);
    let saved = obeyed.changed.as_ref().map(|new| replace_file(path, new.to_json().as_bytes()));
    if let Some(Err(error)) = saved {
        tracing::error!(
            "Error saving Dynamic security plugin config: {}: {error}; nothing was changed.",
            path.display()
        );
        let response = obeyed.unsaved();
        (obeyed.changed, obeyed.everybody) = (None, false);
        obeyed.kicked.clear();
        obeyed.touched.clear();
        return (obeyed, response);
    }
    for line in &obeyed.log {
        tracing::info!("{line}");
    }
    let response = obeyed.response.take();
    (obeyed, response)
}

async fn connections(handle: &Handle) -> Connections {
    let mut all = Connections::new();
    for who in handle.snapshot().await.connections {
        let address = who.peer.ip().to_string();
        all.entry(who.identity).or_default().push((who.client_id, address));
    }
    all
}

async fn look_at(handle: &Handle, doors: &Doors, who: &ConnectionInfo) {
    let Some(door) = doors.get(&*who.listener).filter(|door| door.door.is_dynamic()) else { return };
    let certified = door.certificate_name.is_some();
    if door.door.still_admits(&door.door, name(&who.identity), certified) {
        let grants = door.door.grants(name(&who.identity), &who.client_id);
        handle.regrant_client(&who.client_id, &who.identity, &grants);
    } else {
        handle.disconnect(&who.client_id, ReasonCode::NOT_AUTHORIZED).await;
    }
}

fn decides(door: &DoorOf, path: &Path) -> bool {
    door.door.is_dynamic() && door.door.dynamic_security().is_some_and(|(own, _)| own == path)
}

fn has(users: &Users, identity: &str) -> bool {
    users.iter().any(|user| user.as_deref() == name(identity))
}

impl Keeper {
    /// The doors in force.
    pub(super) fn doors(&self) -> Arc<Doors> {
        self.doors.load_full()
    }
}
