//! More connections than the system gives descriptors for.

use std::net::TcpStream;
use std::time::Duration;

use crate::common::*;
use crate::siege::{Siege, connect_bytes, is_closed, shove};

pub(crate) fn who_takes_all_descriptors_harms_nobody_who_is_there_and_others_come_in_when_he_goes() {
    let siege = Siege::begin_with_files(256, "shards=1");
    let mut greedy: Vec<TcpStream> = Vec::new();
    for number in 0..400 {
        let mut socket = siege.dial("plain");
        shove(&mut socket, &connect_bytes(&format!("greedy {number}")));
        greedy.push(socket);
    }
    let most = 256 - 16;
    siege.until("descriptors are taken, but for those that are not for connections", || {
        let files = siege.files();
        assert!(files <= most + 2, "{files} descriptors");
        files + 3 >= most
    });
    // Who comes now is told at once that there is no room: nobody hangs.
    siege.until("one more is turned away", || {
        let mut socket = siege.dial("plain");
        shove(&mut socket, &connect_bytes("one more"));
        crate::siege::read_to_end(&mut socket).is_empty()
    });
    // Nothing turns in a circle meanwhile.
    let before = siege.worked();
    std::thread::sleep(Duration::from_secs(1));
    let worked = siege.worked() - before;
    assert!(worked < Duration::from_millis(600), "it works {worked:?} in a second in which nobody comes");
    let inside = greedy.iter().filter(|socket| !is_closed(socket)).count();
    assert!(inside > 150, "{inside} of the greedy are in");
    drop(greedy);
    siege.until("there is room again", || {
        let mut socket = siege.dial("plain");
        shove(&mut socket, &connect_bytes("later"));
        socket.set_read_timeout(Some(LONG)).unwrap();
        std::io::Read::read(&mut socket, &mut [0; 4]).unwrap_or(0) == 4
    });
    siege.end("descriptors");
}

/// The same with those who say nothing: they give way.
pub(crate) fn silent_connections_on_all_descriptors_give_way() {
    let siege = Siege::begin_with_files(256, "shards=1 patience=60");
    let silent: Vec<TcpStream> = (0..400).map(|_| siege.dial("plain")).collect();
    siege.until("somebody comes in", || {
        let mut socket = siege.dial("plain");
        shove(&mut socket, &connect_bytes("patient"));
        std::io::Read::read(&mut socket, &mut [0; 4]).unwrap_or(0) == 4
    });
    drop(silent);
    siege.end("silent ones on all descriptors");
}
