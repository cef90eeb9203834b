//! Two who both want to be the same client, and reconnects without end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quoll_mqtt::packet::{Packet, Will, WillProperties};
use quoll_mqtt::{ProtocolVersion, QoS, TopicName};

use crate::common::*;
use crate::siege::{Siege, connect_bytes, reset, shove};

pub(crate) fn two_who_throw_each_other_out_for_ever_keep_nobody_else_busy() {
    let siege = Siege::begin("");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connect = connect_packet("rival", ProtocolVersion::V5);
                connect.clean_start = false;
                connect.properties.session_expiry_interval = Some(100);
                connect.will = Some(Will {
                    topic: TopicName::parse("rival/gone").unwrap(),
                    payload: bytes::Bytes::from(vec![b'x'; 1000]),
                    qos: QoS::AtLeastOnce,
                    retain: true,
                    properties: WillProperties::default(),
                });
                let connect = bytes_of(&Packet::Connect(Box::new(connect)), ProtocolVersion::V5);
                while !is_over.load(Ordering::Relaxed) {
                    let mut peer = Peer::over(siege.dial("plain"), ProtocolVersion::V5);
                    let _ = std::io::Write::write_all(&mut peer.stream, &connect);
                    let _ = peer.receive();
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            siege.is_well("rivals");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    siege.end("rivals");
}

/// As a device with a broken supply does it.
pub(crate) fn one_who_connects_and_vanishes_again_and_again_leaves_nothing() {
    let siege = Siege::begin("");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let siege = &siege;
            scope.spawn(move || {
                for number in 0..400 {
                    let mut socket = siege.dial("plain");
                    shove(&mut socket, &connect_bytes(&format!("flickers {thread} {}", number % 7)));
                    if number % 2 == 0 {
                        let _ = std::io::Read::read(&mut socket, &mut [0; 4]);
                    }
                    reset(socket);
                }
            });
        }
    });
    siege.end("flickering");
}
