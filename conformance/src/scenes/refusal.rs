//! CONNECTs that must not be accepted.

use crate::prelude::*;

/// What became of a CONNECT.
#[derive(Debug)]
pub struct Refusal {
    /// The connection ended.
    pub closed: bool,
    /// Code of a CONNACK that refused.
    pub code: Option<u8>,
    /// The broker said yes.
    pub accepted: Option<crate::heard::ConnAck>,
}

/// Says these bytes on a new connection and tells what became of it.
pub fn refusal(bytes: &[u8], v: Version) -> Refusal {
    let mut client = Client::open(v);
    client.say(bytes);
    let ending = client.fate();
    let mut outcome = Refusal { closed: ending.closed, code: None, accepted: None };
    for packet in ending.others {
        // A version the broker does not know is answered in the form of 3.1.1: two bytes.
        let form = if packet.body.len() == 2 { V311 } else { v };
        let answer = packet.connack(form);
        match answer.code {
            0 => outcome.accepted = Some(answer),
            code => {
                assert!(!answer.session_present, "session present in a refusal");
                outcome.code = Some(code);
            }
        }
    }
    outcome
}

/// CONNECT packets that do not have the form of chapter 3.1, by row. They are right in nothing but one thing.
pub fn malformed_connects(v: Version) -> Vec<(&'static str, Vec<u8>)> {
    let good = || Connect::new(v, unique_id());
    let willing = || good().will(Will::new("will/topic", "w"));
    let mut named = good();
    named.user = Some("user".into());
    named.password = Some("secret".into());
    let cut = |connect: &Connect, less: usize| {
        let body = connect.body();
        words::packet(0x10, &body[..body.len() - less])
    };
    let mut wild = willing();
    wild.will = Some(Will::new("will/+", "w"));
    let mut nul = willing();
    nul.will = Some(Will::new("will\0", "w"));
    let mut empty_will = willing();
    empty_will.will = Some(Will::new("", "w"));
    let mut ill = willing();
    ill.will = Some(Will::new(b"will/\xC3\x28".as_slice(), "w"));
    let mut bad_user = named.clone();
    bad_user.user = Some(b"us\xFFer".to_vec());
    let id_end = good().body().len() - good().client_id.len() - 2;
    let no_id = words::packet(0x10, &good().body()[..id_end]);
    vec![
        ("flags 0x11 in the fixed header", words::packet(0x11, &good().body())),
        ("no payload", no_id),
        ("client id cut short", cut(&good(), 1)),
        ("a byte too many", words::packet(0x10, &[good().body().as_slice(), &[0]].concat())),
        ("will flag without will", good().flip(0x04).bytes()),
        ("will without will flag", willing().flip(0x04).bytes()),
        ("will QoS 3", willing().flip(0x18).bytes()),
        ("will QoS 1 without will", good().flip(0x08).bytes()),
        ("will retain without will", good().flip(0x20).bytes()),
        ("user flag without user", good().flip(0x80).bytes()),
        ("user without user flag", named.clone().flip(0xC0).bytes()),
        ("password flag without password", named.clone().flip(0).pipe_without_password()),
        ("password cut short", cut(&named, 2)),
        ("user name that is not UTF-8", bad_user.bytes()),
        ("will topic with a wildcard", wild.bytes()),
        ("a will topic with NUL", nul.bytes()),
        ("will topic of no characters", empty_will.bytes()),
        ("will topic that is not UTF-8", ill.bytes()),
        ("protocol name cut short", words::packet(0x10, b"\x00\x04MQ")),
        ("empty", words::packet(0x10, b"")),
    ]
}

impl Connect {
    /// Flag set, field missing.
    fn pipe_without_password(mut self) -> Vec<u8> {
        self.password = None;
        self.flip ^= 0x40;
        self.bytes()
    }
}

/// Every one of them ends the connection, and none is accepted.
pub fn a_connect_of_wrong_form_ends_the_connection(v: Version) {
    let mut rows = Rows::default();
    for (row, bytes) in malformed_connects(v) {
        let outcome = refusal(&bytes, v);
        rows.check(row, outcome.closed && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
}
