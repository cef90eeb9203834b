//! Ports for programs that are started with one: shared by the tests of all crates, which include this file.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nothing listens on, each time another one. Not one of those that the system gives to outgoing connections
/// (from 32768), which could be a neighbour's before the program has it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() * 31;
    let ports = std::iter::repeat_with(|| start + NEXT.fetch_add(1, Ordering::Relaxed));
    let mut ports = ports.map(|at| 10_000 + (at % 20_000) as u16).take(20_000);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a port is free")
}
