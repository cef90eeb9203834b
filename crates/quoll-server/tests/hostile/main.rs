//! Peers that mean harm: each may spoil its own connection, for as long and with as much memory as `docs/limits.md` says, and
//! nothing else. The broker is a process of its own, so that its memory and its descriptors can be counted; beside each attack two
//! clients talk with each other all the time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod door;
mod files;
mod frames;
mod packets;
mod siege;
mod takeover;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use quoll_broker::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_server::tls::{ClientAuth, LiveIdentity};
use quoll_server::*;
use siege::{PKI, TERMS};

/// Lets everybody in; who asks for the method `endless` is asked for more, again and again.
struct Everybody(Arc<Grants>);

struct Endless;

impl Dialogue for Endless {
    fn hear(&mut self, _: &[u8]) -> Step {
        Step::Ask(b"more".to_vec())
    }
}

#[async_trait]
impl Doorkeeper for Everybody {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let name = facts.connect.username.as_deref().unwrap_or_default().into();
        let identity = Identity { name, credential: None };
        Verdict::Admit(Admission { identity, grants: Arc::clone(&self.0), client_id: None })
    }

    fn begin(&self, _: &ConnectFacts<'_>, method: &str) -> Option<Authenticator> {
        (method == "endless").then(|| Arc::new(|| Box::new(Endless) as Box<dyn Dialogue>) as Authenticator)
    }
}

/// The process that the other tests here attack. By itself: a broker that starts and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_for_the_other_tests_to_attack() {
    let folder = std::env::var_os(PKI);
    let shared = folder.clone().map(|folder| Pki { folder: folder.into() });
    let pki = shared.as_ref().unwrap_or_else(|| pki());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let secure = |auth| Transport::Tls(LiveIdentity::new(pki.identity(auth, &[])));
    let web = Some(WebSocketSettings::default());
    let mut settings = Settings::new(vec![
        Listener::new("plain", address, Transport::Tcp),
        Listener::new("tls", address, secure(ClientAuth::None)),
        Listener::new("mutual", address, secure(ClientAuth::Required)),
        Listener { websocket: web.clone(), ..Listener::new("web", address, Transport::Tcp) },
        Listener { websocket: web, ..Listener::new("wss", address, secure(ClientAuth::None)) },
        Listener {
            proxy: Some(ProxyProtocol::V2 { require_tls: false }),
            ..Listener::new("proxy", address, Transport::Tcp)
        },
        Listener { proxy: Some(ProxyProtocol::V1), ..Listener::new("proxy1", address, Transport::Tcp) },
    ]);
    settings.shards = 2;
    for word in std::env::var(TERMS).unwrap_or_default().split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "patience" => settings.limits.connect_patience = Duration::from_secs(value.parse().unwrap()),
            "arrivals" => settings.limits.max_arrivals = value.parse().unwrap(),
            "sessions" => settings.rules.max_sessions = value.parse().unwrap(),
            "subscriptions" => settings.rules.max_subscriptions = value.parse().unwrap(),
            "queued" => settings.rules.max_queued_messages = value.parse().unwrap(),
            "stall" => settings.limits.stall_patience = Duration::from_secs(value.parse().unwrap()),
            "shards" => settings.shards = value.parse().unwrap(),
            other => panic!("{other} is no term"),
        }
    }
    let door = Arc::new(Everybody(Arc::new(Grants::all())));
    let handle = start(settings, door, Box::new(MemoryJournal::default())).await.unwrap();
    if folder.is_some() {
        for (name, address) in handle.addresses() {
            println!("listening {name} {address}");
        }
        println!("ready");
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        terminate.recv().await;
        let stats = handle.stats().await;
        assert_eq!(stats.panics, 0, "no attack made the broker panic");
    }
    handle.stop(Duration::from_secs(2)).await;
}
