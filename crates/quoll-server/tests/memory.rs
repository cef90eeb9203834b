//! What an idle connection costs: the goals are 700 bytes plain and 8,000 over mutual TLS (`coat.md` §1).
//!
//! Resident memory of this process, the peers' sides included, which is why they are bare sockets here. A test binary of
//! its own: other tests' memory would be counted.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::*;
use quoll_mqtt::ProtocolVersion;
use quoll_mqtt::packet::Packet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux is needed for this test");
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn idle(server: &Server, names: std::ops::Range<usize>) -> Vec<TcpStream> {
    let version = ProtocolVersion::V311;
    names
        .map(|n| {
            let mut socket = TcpStream::connect(server.plain).unwrap();
            let connect = Packet::Connect(Box::new(connect_packet(&format!("idle-{n:05}"), version)));
            socket.write_all(&bytes_of(&connect, version)).unwrap();
            socket.read_exact(&mut [0; 4]).unwrap();
            socket
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_plain_connection_costs_less_than_800_bytes() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let count = 4000;
    let enough = limit.maximum.is_none_or(|maximum| maximum > 4 * count as u64);
    assert!(enough, "this test needs {} file descriptors: raise `ulimit -Hn`", 4 * count);
    let server = serve(|_| {}).await;
    // The first ones pay for what all share, and for tables that have room for more.
    let first = idle(&server, 0..count);
    let before = resident();
    let second = idle(&server, count..2 * count);
    let each = resident().saturating_sub(before) / count;
    println!("{each} bytes each");
    assert!(each < 800, "{each} bytes of an idle connection");
    assert_eq!(server.handle.snapshot().await.connections.len(), 2 * count);
    drop((first, second));
    server.handle.stop(LONG).await;
}
