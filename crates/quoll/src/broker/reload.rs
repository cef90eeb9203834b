//! SIGHUP: a new state in place of the old, whole or not at all, and what becomes of those who are in.
//!
//! First everything is read; a fault anywhere leaves all as it was. Then identities and doors are swapped, so that nobody
//! comes in by the old ones; then who was let in before is looked at again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quoll_broker::Grants;
use quoll_mqtt::ReasonCode;
use quoll_server::{Bridges, ConnectionInfo, Handle, Reloaded, StartError};
use tokio::sync::watch;

use super::control::SecondLook;
use super::doors::{DoorOf, Doors, Keeper};
use super::log::Log;
use super::source::{Source, State};

/// After this one looks once more: somebody may have been between the door and the rules during the swap.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A broker at work.
pub(super) struct Live {
    pub(super) source: Source,
    pub(super) state: State,
    pub(super) keeper: Arc<Keeper>,
    pub(super) handle: Handle,
    pub(super) log: Log,
    pub(super) bridges: Bridges,
    pub(super) second_look: SecondLook,
    pub(super) sys_interval: watch::Sender<Option<Duration>>,
}

impl Live {
    /// Reads everything anew.
    pub(super) async fn reload(&mut self) {
        tracing::info!("Reloading config.");
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load_again()).await;
        let faults = match loaded {
            Ok(Ok(state)) => return self.put_in_force(state).await,
            Ok(Err(faults)) => faults,
            Err(_) => vec!["reading it was interrupted".into()],
        };
        stays(&faults.join("\n"));
    }

    /// Opens the log files anew, for those who rotate them.
    pub(super) fn reopen_log(&self) {
        let log = &self.state.configuration.global.log;
        match self.log.replace(log, &self.source) {
            Ok(()) => tracing::info!("The log was opened anew."),
            Err(error) => tracing::error!("The log stays where it is: {error}"),
        }
    }

    async fn put_in_force(&mut self, new: State) {
        let old_log = &self.state.configuration.global.log;
        if let Err(error) = self.log.replace(&new.configuration.global.log, &self.source) {
            return stays(&error.to_string());
        }
        let reloaded = match self.replace_listeners(&new).await {
            Ok(reloaded) => reloaded,
            Err(error) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                // It was open a moment ago.
                self.log.replace(old_log, &self.source).ok();
                return stays(&format!("{error}{hint}"));
            }
        };
        for warning in new.warnings() {
            tracing::warn!("{warning}");
        }
        self.say_what_waits(&new);
        let after = new.doors.clone();
        let before = std::mem::replace(&mut self.state, new).doors;
        let after_all = after.clone();
        self.keeper.replace(after.clone());
        let mut ended = reloaded.expelled;
        ended += look(&self.handle, &before, &after).await;
        self.regrant_absent().await;
        let global = &self.state.configuration.global;
        self.handle.set_rules(&self.state.rules, global.max_connections.map(|most| most as usize));
        self.sys_interval.send_replace(global.sys_interval);
        self.source.board.put_up(self.state.inventory.clone());
        withhold(&self.handle, &after_all);
        self.bridges.replace(self.state.bridges.clone()).await;
        tracing::info!("Config reloaded; {ended} connections were ended.");
        let handle = self.handle.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            look(&handle, &after, &after).await;
        });
    }

    /// The listeners, with their identities: all of them or none. Clients of a new one need a door at once.
    async fn replace_listeners(&self, new: &State) -> Result<Reloaded, StartError> {
        let mut both = new.doors.clone();
        both.extend(self.state.doors.iter().map(|(name, door)| (name.clone(), Arc::clone(door))));
        self.keeper.replace(both);
        let reloaded = self.handle.reload(new.listeners.clone()).await;
        if reloaded.is_err() {
            self.keeper.replace(self.state.doors.clone());
        }
        reloaded
    }

    /// What a reload does not change.
    fn say_what_waits(&self, new: &State) {
        let (old, global) = (&self.state.configuration.global, &new.configuration.global);
        let waiting = [
            (old.persistence != global.persistence, "persistence"),
            (old.user != global.user, "user"),
            (old.pid_file != global.pid_file, "pid_file"),
        ];
        for (_, what) in waiting.iter().filter(|(differs, _)| *differs) {
            tracing::warn!("Changed, and taken over at the next start only: {what}.");
        }
    }

    /// Sessions whose clients are away get the new permissions too, for what is queued for them. Which listener a client
    /// will come to is not known; where listeners differ, its next CONNECT brings them.
    async fn regrant_absent(&self) {
        let new = &self.state;
        let mut listeners = new.configuration.listeners.iter();
        let first = listeners.next();
        let same = listeners.all(|other| first.is_some_and(|first| first.security == other.security));
        let Some(door) = new.doors.values().next().filter(|_| same) else { return };
        // Bridges came in by no door.
        let bridges = self.bridges.local_client_ids();
        for subscriber in self.handle.sessions().await {
            let session = subscriber.session;
            if session.conn.is_none() && !bridges.iter().any(|it| **it == *session.client_id) {
                regrant(&self.handle, door, &session.client_id, &session.identity.name);
            }
        }
    }
}

fn stays(why: &str) {
    for line in why.lines() {
        tracing::error!("{line}");
    }
    tracing::error!("The new configuration cannot be used; the old one stays in force, all of it.");
}

/// Looks at all connections: those that would not be let in any more are ended, the others get their new permissions.
/// Answers how many were ended.
async fn look(handle: &Handle, before: &Doors, now: &Doors) -> usize {
    let mut ended = 0;
    for who in handle.snapshot().await.connections {
        let now = now.get(&*who.listener);
        // One of a new listener was let in by the new door.
        let before = before.get(&*who.listener).or(now);
        match before.zip(now).filter(|(old, new)| is_welcome(&who, old, new)) {
            Some((_, door)) => regrant(handle, door, &who.client_id, &who.identity),
            None => ended += handle.disconnect(&who.client_id, ReasonCode::NOT_AUTHORIZED).await,
        }
    }
    ended
}

fn is_welcome(who: &ConnectionInfo, old: &DoorOf, new: &DoorOf) -> bool {
    if !new.takes_client_id(&who.client_id) && old.takes_client_id(&who.client_id) {
        return false;
    }
    // Its name came from somewhere else.
    if old.certificate_name != new.certificate_name {
        return false;
    }
    // A CA is gone: whether it was this one's is found out by its next handshake.
    let roots = |door: &DoorOf| door.tls.as_ref().map(|tls| tls.roots.clone()).unwrap_or_default();
    if who.credential.is_some() && !roots(old).is_subset(&roots(new)) {
        return false;
    }
    // Certificates are asked for now.
    if who.credential.is_none() && !roots(new).is_empty() {
        return false;
    }
    let certified = new.certificate_name.is_some() && who.credential.is_some();
    new.door.still_admits(&old.door, name(&who.identity), certified)
}

/// Withholds retained messages that their publishers may not publish any more (`check_retain_source`). By which
/// listener one came is not remembered: it is enough that one of them allows it.
pub(super) fn withhold(handle: &Handle, doors: &Doors) {
    /// By identity and client identifier.
    type ByPublisher = HashMap<(Arc<str>, Arc<str>), Vec<Arc<Grants>>>;
    let mut known = ByPublisher::new();
    handle.judge_retained(|message| {
        let source: Arc<str> = message.source().unwrap_or_default().into();
        let grants =
            known.entry((Arc::clone(&source), Arc::clone(&message.publisher))).or_insert_with(|| {
                doors.values().map(|door| door.door.grants(name(&source), &message.publisher)).collect()
            });
        grants.iter().any(|grants| grants.may_publish(&message.topic))
    });
}

fn regrant(handle: &Handle, door: &DoorOf, client_id: &Arc<str>, identity: &Arc<str>) {
    let grants = door.door.grants(name(identity), client_id);
    handle.regrant_client(client_id, identity, &grants);
}

/// A client without user name has an empty one.
pub(super) fn name(identity: &str) -> Option<&str> {
    Some(identity).filter(|name| !name.is_empty())
}
