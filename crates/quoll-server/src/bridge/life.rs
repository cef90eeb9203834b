//! One bridge from start to end: when it calls, whom, and what becomes of a connection that breaks.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use quoll_mqtt::packet::{Disconnect, Packet};
use quoll_mqtt::{ProtocolVersion, ReasonCode, encode};
use tokio::sync::mpsc;

use super::dial::{dial, is_there};
use super::link::{Ending, Link, Outs};
use super::pace::Pace;
use super::wire::Wire;
use super::{Bridge, Told};
use crate::limits::{BRIDGE_CONNACK_PATIENCE, BRIDGE_DIAL_PATIENCE, BRIDGE_HIGH_WATER};
use crate::log::NOTICE;
use crate::mosquitto::bridge::{BridgeAddress, Reload, Start};
use crate::server::{Handle, Inner};

/// How often a lazy bridge looks whether there is enough to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a bridge that had to take another address looks for its first one; Mosquitto's time.
const PRIMARY_RETRY: Duration = Duration::from_secs(5);

/// A bridge at work.
pub(super) struct Life {
    server: Weak<Inner>,
    pub(super) bridge: Arc<Bridge>,
    /// What it is to be from the next connection on.
    next: Option<Arc<Bridge>>,
    told: mpsc::UnboundedReceiver<Told>,
    pace: Pace,
    /// Which address is called.
    at: usize,
    /// Whether CONNECT carries the bridges' mark, which some brokers do not know.
    marked: bool,
    /// Whether the last connection broke over the state topic.
    softly: bool,
}

/// Why a connection, or a wait, is over.
pub(super) enum Over {
    /// No connection came about, for this reason.
    Failed,
    /// It ended.
    Ended(Ending, Option<Duration>),
    /// The first address answers again.
    PrimaryIsBack,
    /// Another configuration, at once.
    Changed,
    /// The bridge is not wanted any more.
    Vanish,
    /// The server ends.
    Stop,
}

impl Life {
    pub(super) fn new(
        server: &Weak<Inner>,
        bridge: Arc<Bridge>,
        told: mpsc::UnboundedReceiver<Told>,
    ) -> Self {
        let pace = Pace::new(bridge.configuration.restart);
        let marked = bridge.configuration.try_private;
        Self { server: server.clone(), bridge, next: None, told, pace, at: 0, marked, softly: false }
    }

    pub(super) async fn run(mut self) {
        if let Err(over) = self.settle_in(self.bridge.configuration.local.clean_session).await {
            return self.leave(&over).await;
        }
        loop {
            let over = match self.wait_for_work().await {
                Ok(()) => self.call().await,
                Err(over) => over,
            };
            let lasted = self.say_how_it_ended(&over);
            let wait = match over {
                Over::Vanish | Over::Stop => return self.leave(&over).await,
                Over::Changed => None,
                Over::PrimaryIsBack => {
                    self.at = 0;
                    None
                }
                Over::Ended(Ending::Idle, _) => None,
                Over::Failed | Over::Ended(..) => {
                    if let Some(lasted) = lasted {
                        self.pace.lasted(lasted);
                    } else if !self.drops_the_mark(&over) {
                        self.at = (self.at + 1) % self.bridge.configuration.addresses.len();
                    }
                    Some(self.pace.next(chance()))
                }
            };
            if wait.is_some() && self.bridge.configuration.start == Start::Once {
                let name = &self.bridge.configuration.name;
                tracing::info!(target: NOTICE, "Bridge {name} has ended and is not started again (start_type once).");
                return;
            }
            if let Some(wait) = wait
                && let Some(over) = self.rest(wait).await
                && matches!(over, Over::Vanish | Over::Stop)
            {
                return self.leave(&over).await;
            }
            if let Some(next) = self.next.take()
                && let Err(over) = self.turn_into(next).await
            {
                return self.leave(&over).await;
            }
        }
    }

    /// The server, while it runs.
    pub(super) fn server(&self) -> Result<Handle, Over> {
        let server = self.server.upgrade().map(Handle).filter(|server| !server.is_stopped());
        server.ok_or(Over::Stop)
    }

    /// Prepares the local session, and says that the bridge is not connected.
    async fn settle_in(&mut self, clean: bool) -> Result<(), Over> {
        let server = self.server()?;
        let local_id = &self.bridge.configuration.local.client_id;
        for line in self.bridge.wanted_here() {
            tracing::debug!("Bridge {local_id} doing local SUBSCRIBE on topic {}", line.0);
        }
        let settled = if self.bridge.is_kept_here() {
            server.settle(&self.bridge, clean).await
        } else if server.session(local_id).await.is_some() {
            server.forget(&self.bridge).await
        } else {
            Ok(())
        };
        if let Err(why) = settled {
            let name = &self.bridge.configuration.name;
            tracing::error!("Bridge {name}: this broker does not take its local half {local_id}: {why}");
        }
        self.tell_here("0");
        Ok(())
    }

    /// Becomes another bridge of the same name.
    async fn turn_into(&mut self, next: Arc<Bridge>) -> Result<(), Over> {
        let before = std::mem::replace(&mut self.bridge, next);
        let (old, new) = (&before.configuration, &self.bridge.configuration);
        self.pace = Pace::new(new.restart);
        self.at = 0;
        self.marked = new.try_private;
        if old.local.client_id != new.local.client_id {
            self.forget(&before).await;
        }
        if old.notifications.as_ref().map(|it| &it.topic) != new.notifications.as_ref().map(|it| &it.topic) {
            self.tell(&before, "");
        }
        tracing::info!(target: NOTICE, "Bridge {} goes on with its new configuration.", new.name);
        self.settle_in(false).await
    }

    async fn leave(&self, over: &Over) {
        if matches!(over, Over::Vanish) {
            self.forget(&self.bridge).await;
            self.tell_here("");
            tracing::info!(target: NOTICE, "Bridge {} is gone.", self.bridge.configuration.name);
        }
    }

    async fn forget(&self, bridge: &Bridge) {
        let Ok(server) = self.server() else { return };
        if let Err(why) = server.forget(bridge).await {
            tracing::error!("The local session of bridge {} stays: {why}", bridge.configuration.name);
        }
    }

    /// A lazy bridge waits until enough messages do.
    async fn wait_for_work(&mut self) -> Result<(), Over> {
        loop {
            let Start::Lazy { threshold, .. } = self.bridge.configuration.start else { return Ok(()) };
            let session = self.server()?.session(&self.bridge.configuration.local.client_id).await;
            let waiting = session.map_or(0, |it| it.session.queued + it.session.inflight);
            if waiting >= threshold as usize {
                return Ok(());
            }
            match self.rest(LOOK_EVERY).await {
                None => {}
                Some(Over::Changed) => return Err(Over::Changed),
                Some(over) => return Err(over),
            }
        }
    }

    /// Waits; cut short by what the bridge is told.
    async fn rest(&mut self, time: Duration) -> Option<Over> {
        let until = tokio::time::Instant::now() + time;
        loop {
            let told = tokio::time::timeout_at(until, self.told.recv()).await.ok()?;
            let over = self.obey(told);
            if over.is_some() {
                return over;
            }
        }
    }

    /// What follows from what the bridge was told, for its connection.
    fn obey(&mut self, told: Option<Told>) -> Option<Over> {
        match told {
            None | Some(Told::Stop) => Some(Over::Stop),
            Some(Told::Vanish) => Some(Over::Vanish),
            Some(Told::Become(next, when)) => {
                self.next = Some(next);
                (when == Reload::Immediate).then_some(Over::Changed)
            }
        }
    }

    fn address(&self) -> &BridgeAddress {
        let addresses = &self.bridge.configuration.addresses;
        addresses.get(self.at).unwrap_or(&addresses[0])
    }

    /// Connects, and stays with the connection until it is over.
    async fn call(&mut self) -> Over {
        let (name, address) = (self.bridge.configuration.name.clone(), self.address().clone());
        let BridgeAddress { host, port } = &address;
        tracing::info!(target: NOTICE, "Connecting bridge (step 1) {name} ({host}:{port})");
        let bridge = Arc::clone(&self.bridge);
        tracing::info!(target: NOTICE, "Connecting bridge (step 2) {name} ({host}:{port})");
        let dialled = async {
            let dialled = dial(&address, &bridge.configuration, bridge.tls.as_ref());
            tokio::time::timeout(BRIDGE_DIAL_PATIENCE, dialled).await
        };
        tokio::pin!(dialled);
        let dialled = loop {
            tokio::select! {
                dialled = &mut dialled => break dialled,
                told = self.told.recv() => if let Some(over) = self.obey(told) { return over },
            }
        };
        match dialled {
            Ok(Ok(wire)) => self.serve(wire).await,
            Ok(Err(error)) => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                tracing::error!("Error creating bridge: {name}: {error}{hint}.");
                Over::Failed
            }
            Err(_) => {
                let seconds = BRIDGE_DIAL_PATIENCE.as_secs();
                tracing::error!(
                    "Error creating bridge: {name}: no connection to {host}:{port} within {seconds} s."
                );
                Over::Failed
            }
        }
    }

    /// Serves a connection until it is over.
    async fn serve(&mut self, mut remote: Wire) -> Over {
        let mut link = Link::begin(Arc::clone(&self.bridge), self.marked, Instant::now(), remote.out());
        link = link.softly(self.softly);
        let mut since = None;
        let over = self.relay(&mut link, &mut remote, &mut since).await;
        self.softly = link.is_in() && !self.softly && link.ended_over_state();
        if let Over::Ended(ending, lasted) = &over {
            // In 5.0 the other broker is told why; whether that arrives changes nothing.
            if let Ending::Broken(error) = ending
                && link.is_in()
                && self.bridge.configuration.version == ProtocolVersion::V5
            {
                let farewell = Packet::Disconnect(Box::new(Disconnect::new(error.reason())));
                let _ = encode(&farewell, ProtocolVersion::V5, remote.out());
                let _ = remote.write();
            }
            debug_assert!(lasted.is_none());
        }
        if since.is_some() {
            self.tell_here("0");
        }
        match over {
            Over::Ended(ending, _) => Over::Ended(ending, since.map(|since| since.elapsed())),
            other => other,
        }
    }

    async fn relay(&mut self, link: &mut Link, remote: &mut Wire, since: &mut Option<Instant>) -> Over {
        let until_connack = Instant::now() + BRIDGE_CONNACK_PATIENCE;
        let mut local: Option<Wire> = None;
        // What is for the local half before there is one.
        let mut early = Vec::new();
        let mut plain = Vec::new();
        let bridge = Arc::clone(&self.bridge);
        let primary = primary_is_back(&bridge, self.at);
        tokio::pin!(primary);
        if let Err(error) = remote.left_over(&mut plain) {
            return ended(Ending::Closed(error.to_string()));
        }
        loop {
            if !plain.is_empty() {
                let bytes = std::mem::take(&mut plain);
                let to_local = local.as_mut().map_or(&mut early, Wire::out);
                let mut outs = Outs { remote: remote.out(), local: to_local };
                if let Err(ending) = link.remote_said(&bytes, Instant::now(), &mut outs) {
                    return ended(ending);
                }
            }
            if link.is_in() && local.is_none() {
                *since = Some(Instant::now());
                local = match self.enter(link, std::mem::take(&mut early)) {
                    Ok(wire) => Some(wire),
                    Err(over) => return over,
                };
            }
            if let Err(error) = remote.write() {
                return ended(Ending::Closed(error.to_string()));
            }
            if let Some(Err(error)) = local.as_mut().map(Wire::write) {
                return ended(Ending::ClosedHere(error.to_string()));
            }
            let due = if link.is_in() { link.next_deadline() } else { Some(until_connack) };
            let remote_wanted = local.as_ref().is_none_or(|local| local.waiting() < BRIDGE_HIGH_WATER);
            let local_wanted = remote.waiting() < BRIDGE_HIGH_WATER;
            tokio::select! {
                ready = remote.ready(remote_wanted) => {
                    let is_open = ready.and_then(|_| if remote_wanted { remote.read(&mut plain) } else { Ok(true) });
                    match is_open {
                        Ok(true) => {}
                        Ok(false) if plain.is_empty() => return ended(Ending::Closed("it closed the connection".into())),
                        // What it said before is heard first; the end is read again.
                        Ok(false) => {}
                        Err(error) => return ended(Ending::Closed(error.to_string())),
                    }
                }
                ready = ready_if(local.as_ref(), local_wanted) => {
                    let Some(local) = local.as_mut() else { continue };
                    let mut bytes = Vec::new();
                    let is_open = ready.and_then(|_| if local_wanted { local.read(&mut bytes) } else { Ok(true) });
                    let mut outs = Outs { remote: remote.out(), local: local.out() };
                    if let Err(ending) = link.local_said(&bytes, Instant::now(), &mut outs) {
                        return ended(ending);
                    }
                    match is_open {
                        Ok(true) => {}
                        Ok(false) => return ended(Ending::ClosedHere("it closed the connection".into())),
                        Err(error) => return ended(Ending::ClosedHere(error.to_string())),
                    }
                }
                () = sleep_until(due) => {
                    if !link.is_in() {
                        return ended(Ending::Silent);
                    }
                    if let Err(ending) = link.tick(Instant::now(), remote.out()) {
                        return ended(ending);
                    }
                }
                told = self.told.recv() => if let Some(over) = self.obey(told) { return over },
                () = &mut primary => return Over::PrimaryIsBack,
            }
        }
    }

    /// Opens the local half, and says here that the bridge is connected.
    fn enter(&self, link: &Link, early: Vec<u8>) -> Result<Wire, Over> {
        let server = self.server()?;
        let (bridge, version) = (&self.bridge, self.bridge.local_version());
        let entered = server.enter(bridge, version, !bridge.is_kept_here(), link.receive_maximum());
        let mut wire = entered.map_err(|error| ended(Ending::ClosedHere(error.to_string())))?;
        *wire.out() = early;
        self.tell_here("1");
        Ok(wire)
    }

    /// Whether the next try goes without the bridges' mark, to the same address: this one did not understand it, as its
    /// answer says, or its silence may mean.
    fn drops_the_mark(&mut self, over: &Over) -> bool {
        let is_3 = self.bridge.configuration.version != ProtocolVersion::V5;
        let Over::Ended(ending, _) = over else { return false };
        let is_why =
            matches!(ending, Ending::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION) | Ending::Closed(_));
        if is_3 && self.marked && is_why {
            self.marked = false;
            let name = &self.bridge.configuration.name;
            tracing::info!(target: NOTICE, "Bridge {name}: the next try is without the bridges' mark (try_private).");
            return true;
        }
        self.marked =
            self.bridge.configuration.try_private && (self.marked || !matches!(ending, Ending::Refused(_)));
        false
    }
}

const fn ended(ending: Ending) -> Over {
    Over::Ended(ending, None)
}

async fn ready_if(wire: Option<&Wire>, wanted: bool) -> std::io::Result<tokio::io::Ready> {
    match wire {
        Some(wire) => wire.ready(wanted).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until the first address answers again, while another one is used and the order of addresses counts.
async fn primary_is_back(bridge: &Bridge, at: usize) {
    let configuration = &bridge.configuration;
    if at == 0 || configuration.round_robin {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(PRIMARY_RETRY).await;
        let found =
            tokio::time::timeout(PRIMARY_RETRY, is_there(&configuration.addresses[0], configuration)).await;
        if found.unwrap_or(false) {
            return;
        }
    }
}

/// Between 0.0 and 1.0.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance all bridges keep the same time, which is no fault.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
