//! Bytes of the standard's own figures, both ways.
use quoll_mqtt::*;
#[test]
fn smoke() {
    let cx = DecodeContext { version: None, maximum_packet_size: 1000, role: Role::Server };
    // MQTT 5.0 figure 3-6: MQTT, level 5
    let connect = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x02ab";
    let Decoded::Packet(p, n) = decode(connect, &cx).unwrap() else { panic!() };
    assert_eq!(n, connect.len());
    let mut out = vec![];
    encode(&p, ProtocolVersion::V5, &mut out).unwrap();
    assert_eq!(out, connect);
}
