//! What survives: a broker in a process of its own, killed and stopped again and again, and a disk that is full.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod broker;
mod full;
mod kill;
mod kinds;
mod shards;

use std::path::PathBuf;
use std::time::Duration;

use broker::{DURABILITY, JOURNAL, SHARDS};
use common::*;
use quoll_mqtt::packet::{Ack, Connect, Disconnect, DisconnectProperties, Packet};
use quoll_mqtt::{PacketId, ProtocolVersion, ReasonCode};
use quoll_server::{Durability, SqliteJournal};

/// The process that the other tests here start and kill. By itself: a broker that starts and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_for_the_other_tests_to_kill() {
    let told = std::env::var_os(JOURNAL).map(PathBuf::from);
    let path = told.clone().unwrap_or_else(|| scratch("durable").join("alone.db"));
    let durability = match std::env::var(DURABILITY).as_deref() {
        Ok("process") => Durability::Process,
        _ => Durability::Power,
    };
    let journal = SqliteJournal::open(&path, durability).unwrap();
    let shards = std::env::var(SHARDS).map_or(1, |text| text.parse().unwrap());
    let server = serve_with(Box::new(journal), |settings| {
        two_shards(settings);
        settings.shards = shards;
        settings.rules.max_queued_messages = 0;
    })
    .await;
    if told.is_some() {
        println!("listening on {}", server.plain);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        terminate.recv().await;
    }
    server.handle.stop(Duration::from_secs(2)).await;
    assert!(path.exists());
}

/// A client whose session outlives its connection.
fn lasting(client_id: &str) -> Connect {
    let mut connect = connect_packet(client_id, ProtocolVersion::V5);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(3600);
    connect
}

/// After it the broker closes the connection, once it has dealt with it.
fn goodbye() -> Packet {
    Packet::Disconnect(Box::new(Disconnect {
        reason: ReasonCode::SUCCESS,
        properties: DisconnectProperties::default(),
    }))
}

fn ack(id: PacketId) -> Ack {
    Ack::new(id, ReasonCode::SUCCESS)
}

/// Anything, different each time.
fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
