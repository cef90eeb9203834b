//! The commands of dynamic security: beside Debian's Mosquitto with its real plugin, by table and by chance.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{
    Connect, ConnectProperties, Packet, Publish, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions,
};
use quoll_mqtt::{
    DecodeContext, Decoded, Delivery, PacketId, ProtocolVersion, TopicFilter, TopicName, decode, encode,
};
use serde_json::{Value, json};

use super::super::control_request::Request;
use super::super::dynamic_security::commands::{Admin, Connections, Obeyed};
use super::super::dynamic_security::{DynamicSecurity, RESPONSE_TOPIC, TOPIC};
use super::super::password_file::Answer;
use super::counterpart::{Mosquitto, program};

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);

/// An administrator who may do everything on `$CONTROL`, with the password "adminpw".
const INITIAL: &str = r##"{
"defaultACLAccess": {"publishClientSend":false,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
"clients": [{"username":"admin","textname":"all","salt":"xToxLwvJbhiEtrYR","iterations":101,
"password":"aa6NTxet7DBrINEVWpUttMw8wpiVKbWhfgnfeJjk34UBKdXvPXO+FTQO9E3+knF7LIXDEDTCc6rK2JbRqGgk1g==",
"roles":[{"rolename":"super"}]}],
"groups": [],
"roles": [{"rolename":"super","acls":[
  {"acltype":"publishClientSend","topic":"$CONTROL/#","allow":true},
  {"acltype":"publishClientReceive","topic":"$CONTROL/#","allow":true},
  {"acltype":"subscribePattern","topic":"$CONTROL/#","allow":true}]}]
}"##;

/// A connection to a Mosquitto with the plugin.
struct Plugin {
    socket: TcpStream,
    input: Vec<u8>,
    mosquitto: Mosquitto,
}

impl Plugin {
    fn start() -> Self {
        Self::with(INITIAL)
    }

    fn with(file: &str) -> Self {
        let plugin = program("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so");
        let lines = format!(
            "user root\nallow_anonymous false\nlistener PORT 127.0.0.1\nplugin {}\nplugin_opt_config_file d.json\n",
            plugin.display()
        );
        let mosquitto =
            Mosquitto::start(&lines, &[("d.json", file.as_bytes())]).expect("the plugin takes the file");
        let socket = TcpStream::connect(("127.0.0.1", mosquitto.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut plugin = Self { socket, input: Vec::new(), mosquitto };
        plugin.send(&Packet::Connect(Box::new(Connect {
            version: ProtocolVersion::V311,
            bridge: false,
            client_id: "ctrl".into(),
            clean_start: true,
            keep_alive: 0,
            will: None,
            username: Some("admin".into()),
            password: Some("adminpw".into()),
            properties: ConnectProperties::default(),
        })));
        assert!(matches!(plugin.receive(), Packet::ConnAck(ack) if ack.reason.0 == 0));
        plugin.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscriptions: vec![Subscription {
                filter: TopicFilter::parse(RESPONSE_TOPIC).unwrap(),
                options: SubscriptionOptions::default(),
            }],
            properties: SubscribeProperties::default(),
        })));
        assert!(matches!(plugin.receive(), Packet::SubAck(_)));
        plugin
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, ProtocolVersion::V311, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    fn receive(&mut self) -> Packet {
        let context = DecodeContext {
            version: Some(ProtocolVersion::V311),
            maximum_packet_size: u32::MAX,
            role: Role::Client,
        };
        loop {
            if let Decoded::Packet(packet, used) = decode(&self.input, &context).unwrap() {
                self.input.drain(..used);
                return packet;
            }
            assert!(self.read(), "mosquitto is gone");
        }
    }

    /// Whether something came.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = self.socket.read(&mut bytes);
        let read = read.or_else(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        });
        let read = read.expect("the plugin answers");
        self.input.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// As [`Self::ask`]; `None` where Mosquitto has ended.
    fn try_ask(&mut self, payload: &[u8]) -> Option<Value> {
        self.send(&ask_packet(payload));
        if self.input.is_empty() && !self.read() {
            return None;
        }
        let Packet::Publish(publish) = self.receive() else { panic!("an answer is due") };
        serde_json::from_slice(&publish.payload).ok()
    }

    fn ask(&mut self, payload: &[u8]) -> Value {
        self.send(&ask_packet(payload));
        let Packet::Publish(publish) = self.receive() else { panic!("an answer is due") };
        serde_json::from_slice(&publish.payload).unwrap()
    }
}

fn ask_packet(payload: &[u8]) -> Packet {
    Packet::Publish(Publish {
        topic: Some(TopicName::parse(TOPIC).unwrap()),
        payload: payload.to_owned().into(),
        delivery: Delivery::AtMostOnce,
        dup: false,
        retain: false,
        properties: None,
    })
}

fn initial() -> DynamicSecurity {
    DynamicSecurity::parse(INITIAL.as_bytes()).unwrap()
}

fn obey(security: &mut DynamicSecurity, payload: &[u8]) -> Obeyed {
    let admin = Admin { client_id: "ctrl", username: "admin" };
    let obeyed = security.obey(&Request::parse(payload), admin, &Connections::new());
    if let Some(changed) = &obeyed.changed {
        *security = changed.clone();
    }
    obeyed
}

/// What 2.1 tells and 2.0 does not know.
fn without_news(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            for news in ["allowwildcardsubs", "connections"] {
                fields.shift_remove(news);
            }
            fields.values_mut().for_each(|value| *value = without_news(value.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = without_news(value.take())),
        _ => {}
    }
    answer
}

/// Payloads one after the other, on one state.
#[rustfmt::skip]
const TABLE: &[&str] = &[
    // What is no command.
    "", "no json", "7", "{}", "[]", r#""not json""#, r#"{"commands":"test"}"#, r#"{"commands":[]}"#, r#"{"commands":["bad"]}"#,
    r#"{"commands":[{}]}"#, r#"{"commands":[{"command":6}]}"#, r#"{"commands":[{"command":"command","correlationData":6}]}"#,
    r#"{"commands":[{"command":"command"}]}"#, r#"{"commands":[{"command":"command","correlationData":"x"},{"command":"getRole"}]}"#,
    r#"{"commands":[]} behind"#,
    // Defaults.
    r#"{"commands":[{"command":"getDefaultACLAccess","correlationData":"c"}]}"#, r#"{"commands":[{"command":"setDefaultACLAccess"}]}"#,
    r#"{"commands":[{"command":"setDefaultACLAccess","acls":"bad"}]}"#,
    r#"{"commands":[{"command":"setDefaultACLAccess","acls":[7,{},{"acltype":"subscribe"},{"acltype":"SUBSCRIBE","allow":true},
        {"acltype":"publishClientSend","allow":true},{"acltype":"dance","allow":true}]},{"command":"getDefaultACLAccess"}]}"#,
    // Roles.
    r#"{"commands":[{"command":"createRole"},{"command":"createRole","rolename":5},
        {"command":"createRole","rolename":"r","textname":7},{"command":"createRole","rolename":"r","textdescription":7}]}"#,
    r#"{"commands":[{"command":"createRole","rolename":"r","textname":"n","textdescription":"d","acls":[
        {"acltype":"publishClientSend","topic":"a","allow":true,"priority":1},{"acltype":"publishClientSend","topic":"b","priority":7},
        {"acltype":"publishClientSend","topic":"c","priority":1},
        {"acltype":"dance","topic":"x"},{"topic":"x"},{"acltype":"subscribeLiteral"},{"acltype":"SUBSCRIBEpattern","topic":"p/%c","allow":true}]}]}"#,
    r#"{"commands":[{"command":"getRole","rolename":"r"},{"command":"getRole","rolename":"x"},{"command":"getRole"},{"command":"createRole","rolename":"r"}]}"#,
    r#"{"commands":[{"command":"addRoleACL","ROLEname":"r","acltype":"unsubscribeLiteral","topic":"u","allow":true,"correlationData":"id"}]}"#,
    r#"{"commands":[{"command":"addRoleACL","rolename":"r","acltype":"unsubscribeLiteral","topic":"u"},
        {"command":"addRoleACL","rolename":"r","acltype":"unsubscribePattern","topic":"bad#"},{"command":"addRoleACL","rolename":"r"},
        {"command":"addRoleACL","rolename":"r","acltype":"dance"},{"command":"addRoleACL","rolename":"r","acltype":"publishClientReceive"},
        {"command":"addRoleACL","rolename":"x","acltype":"publishClientReceive","topic":"a"},
        {"command":"addRoleACL","rolename":"r","acltype":"publishClientReceive","topic":"a","priority":"high","allow":"yes"}]}"#,
    r#"{"commands":[{"command":"removeRoleACL","rolename":"r","acltype":"publishClientSend","topic":"c"},
        {"command":"removeRoleACL","rolename":"r","acltype":"publishClientSend","topic":"c"},{"command":"removeRoleACL","rolename":"x"},
        {"command":"removeRoleACL","rolename":"r"},{"command":"removeRoleACL","rolename":"r","acltype":"dance"},
        {"command":"removeRoleACL","rolename":"r","acltype":"publishClientSend"},{"command":"getRole","rolename":"r"}]}"#,
    r#"{"commands":[{"command":"modifyRole","rolename":"r","textname":"other","acls":[{"acltype":"publishClientSend","topic":"z","allow":true}]},
        {"command":"modifyRole","rolename":"r","textdescription":7},{"command":"modifyRole","rolename":"x"},{"command":"modifyRole"},
        {"command":"getRole","rolename":"r"}]}"#,
    r#"{"commands":[{"command":"createRole","rolename":"q"},{"command":"createRole","rolename":"s"},{"command":"listRoles"},
        {"command":"listRoles","verbose":true},{"command":"listRoles","count":1},{"command":"listRoles","count":0},{"command":"listRoles","offset":1},
        {"command":"listRoles","count":2,"offset":2},{"command":"listRoles","offset":9},{"command":"listRoles","count":-5,"offset":-5},
        {"command":"listRoles","verbose":7,"count":"x"}]}"#,
    // Groups.
    r#"{"commands":[{"command":"createGroup"},{"command":"createGroup","groupname":7},
        {"command":"createGroup","groupname":"g","textname":7},{"command":"createGroup","groupname":"g","roles":[{"rolename":"no"}]},
        {"command":"createGroup","groupname":"g","roles":7},{"command":"createGroup","groupname":"g","textname":"n","textdescription":"d"},
        {"command":"createGroup","groupname":"g"},{"command":"createGroup","groupname":"h"},{"command":"getGroup","groupname":"g"},
        {"command":"getGroup","groupname":"no"},{"command":"getGroup"},{"command":"listGroups"},{"command":"listGroups","verbose":true,"count":1}]}"#,
    r#"{"commands":[{"command":"addGroupRole","groupname":"g","rolename":"r","priority":4},{"command":"addGroupRole","groupname":"g","rolename":"q"},
        {"command":"addGroupRole","groupname":"g","rolename":"s"},
        {"command":"addGroupRole","groupname":"no","rolename":"r"},{"command":"addGroupRole","groupname":"g","rolename":"no"},{"command":"addGroupRole"},
        {"command":"addGroupRole","groupname":"g"},{"command":"removeGroupRole","groupname":"g","rolename":"s"},
        {"command":"removeGroupRole","groupname":"g","rolename":"s"},{"command":"removeGroupRole","groupname":"no","rolename":"s"},
        {"command":"removeGroupRole","groupname":"g","rolename":"no"},{"command":"getGroup","groupname":"g"}]}"#,
    // Clients.
    r#"{"commands":[{"command":"createClient"},{"command":"createClient","username":7},
        {"command":"createClient","username":"u","password":7},{"command":"createClient","username":"u","clientid":7},
        {"command":"createClient","username":"u","textname":7},{"command":"createClient","username":"u","textdescription":null},
        {"command":"createClient","username":"u","roles":[{"rolename":"no"}]},{"command":"createClient","username":"u","roles":[{}]},
        {"command":"createClient","username":"u","roles":7},{"command":"getClient","username":"u"},
        {"command":"createClient","username":"u","groups":[{"groupname":"no"}]},{"command":"getClient","username":"u"}]}"#,
    r#"{"commands":[{"command":"createClient","username":"u","password":"pw","clientid":"id","textname":"n","textdescription":"d",
        "groups":[{"groupname":"g","priority":3},{"groupname":"h"}]},{"command":"createClient","username":"u"},{"command":"getClient","username":"u"},
        {"command":"getClient","username":"no"},{"command":"getClient"},{"command":"listClients"},{"command":"listClients","verbose":true},
        {"command":"createClient","username":"v","clientid":""},{"command":"createClient","username":"w","groups":[7,{},{"groupname":"h"}]},
        {"command":"getGroup","groupname":"g"},{"command":"getGroup","groupname":"h"}]}"#,
    r#"{"commands":[{"command":"addClientRole","username":"u","rolename":"r","priority":2},{"command":"addClientRole","username":"u","rolename":"q","priority":9},
        {"command":"addClientRole","username":"u","rolename":"s","priority":99999},{"command":"addClientRole","username":"no","rolename":"r"},
        {"command":"addClientRole","username":"u","rolename":"no"},{"command":"addClientRole","username":"u"},{"command":"addClientRole"},
        {"command":"getClient","username":"u"},{"command":"removeClientRole","username":"u","rolename":"s"},
        {"command":"removeClientRole","username":"u","rolename":"s"},{"command":"removeClientRole","username":"no","rolename":"s"},
        {"command":"removeClientRole","username":"u","rolename":"no"},{"command":"removeClientRole","username":"u"},{"command":"getClient","username":"u"}]}"#,
    r#"{"commands":[{"command":"disableClient","username":"u"},{"command":"getClient","username":"u"},{"command":"disableClient","username":"no"},
        {"command":"disableClient"},{"command":"enableClient","username":"u"},{"command":"enableClient","username":"no"},{"command":"enableClient"},
        {"command":"setClientId","username":"u","clientid":"other"},{"command":"getClient","username":"u"},{"command":"setClientId","username":"u"},
        {"command":"getClient","username":"u"},{"command":"setClientId","username":"u","clientid":7},{"command":"setClientId","username":"no"},{"command":"setClientId"},
        {"command":"setClientPassword","username":"u","password":"new"},{"command":"setClientPassword","username":"u","password":""},
        {"command":"setClientPassword","username":"u"},{"command":"setClientPassword","username":"no","password":"x"},{"command":"setClientPassword"}]}"#,
    r#"{"commands":[{"command":"modifyClient","username":"u","textname":"other","clientid":"tied","roles":[{"rolename":"s"},{"rolename":"q","priority":1}],
        "groups":[{"groupname":"h","priority":8}]},{"command":"getClient","username":"u"},{"command":"modifyClient","username":"u","clientid":"","groups":[]},
        {"command":"modifyClient","username":"u","roles":[{"rolename":"no"}]},{"command":"modifyClient","username":"u","roles":7},
        {"command":"modifyClient","username":"no"},{"command":"modifyClient"},{"command":"getClient","username":"u"}]}"#,
    // Members.
    r#"{"commands":[{"command":"addGroupClient","groupname":"g","username":"u","priority":5},{"command":"addGroupClient","groupname":"g","username":"v"},
        {"command":"addGroupClient","groupname":"no","username":"u"},{"command":"addGroupClient","groupname":"g","username":"no"},
        {"command":"addGroupClient","groupname":"g"},{"command":"addGroupClient","username":"u"},{"command":"getGroup","groupname":"g"},
        {"command":"removeGroupClient","groupname":"g","username":"v"},{"command":"removeGroupClient","groupname":"g","username":"v"},
        {"command":"removeGroupClient","groupname":"no","username":"v"},{"command":"removeGroupClient","groupname":"g","username":"no"},
        {"command":"modifyGroup","groupname":"g","textname":"changed","clients":[{"username":"v"},{"username":"w","priority":2}]},
        {"command":"getGroup","groupname":"g"},
        {"command":"modifyGroup","groupname":"no"},{"command":"modifyGroup"},
        {"command":"modifyGroup","groupname":"g","roles":7},{"command":"modifyGroup","groupname":"g","roles":[{"rolename":"no"}]},
        {"command":"getClient","username":"v"},{"command":"getClient","username":"u"},{"command":"getGroup","groupname":"g"}]}"#,
    r#"{"commands":[{"command":"getAnonymousGroup"},{"command":"setAnonymousGroup"},{"command":"setAnonymousGroup","groupname":"no"},
        {"command":"setAnonymousGroup","groupname":"h","correlationData":"a"},{"command":"getAnonymousGroup","correlationData":"b"},
        {"command":"deleteGroup","groupname":"no"},{"command":"deleteGroup"},{"command":"deleteGroup","groupname":"g"},{"command":"getClient","username":"w"},
        {"command":"deleteRole","rolename":"q"},{"command":"deleteRole","rolename":"q"},{"command":"deleteRole"},{"command":"getClient","username":"u"},
        {"command":"deleteClient","username":"w"},{"command":"deleteClient","username":"w"},{"command":"deleteClient"},
        {"command":"getGroup","groupname":"h"},{"command":"listClients"},{"command":"listGroups"},{"command":"listRoles"}]}"#,
];

/// What 2.1 answers otherwise than 2.0: on the state that the table before leaves.
#[rustfmt::skip]
const NEWS: &[(&str, &str)] = &[
    (r#"{"command":"createRole","rolename":""}"#, r#"{"command":"createRole","error":"Empty rolename"}"#),
    (r#"{"command":"createGroup","groupname":""}"#, r#"{"command":"createGroup","error":"Empty groupname"}"#),
    (r#"{"command":"createClient","username":""}"#, r#"{"command":"createClient","error":"Empty username"}"#),
    (r#"{"command":"createClient","username":"a\u0007"}"#, r#"{"command":"createClient","error":"Username not valid UTF-8"}"#),
    (r#"{"command":"createRole","rolename":"new","allowwildcardsubs":7}"#, r#"{"command":"createRole","error":"Invalid allowwildcardsubs"}"#),
    (r#"{"command":"CREATErole","rolename":"new","allowwildcardsubs":false,"acls":[{"acltype":"publishClientSend","topic":"a"},
        {"acltype":"publishClientSend","topic":"a","allow":true}]}"#, r#"{"command":"CREATErole"}"#),
    (r#"{"command":"getROLE","rolename":"new"}"#, r#"{"command":"getRole","data":{"role":{"rolename":"new","allowwildcardsubs":false,
        "acls":[{"acltype":"publishClientSend","topic":"a","priority":0,"allow":false}]}}}"#),
    (r#"{"command":"addClientRole","username":"u","rolename":"new","priority":999999}"#, r#"{"command":"addClientRole"}"#),
    (r#"{"command":"addClientRole","username":"u","rolename":"new"}"#, r#"{"command":"addClientRole","error":"Internal error"}"#),
    (r#"{"command":"modifyClient","username":"u","groups":[{"groupname":"no"}]}"#,
        r#"{"command":"modifyClient","error":"'groups' contains an object with a 'groupname' that does not exist"}"#),
    (r#"{"command":"modifyClient","username":"u","groups":[{}]}"#,
        r#"{"command":"modifyClient","error":"'groups' contains an object with an invalid 'groupname'"}"#),
    (r#"{"command":"modifyGroup","groupname":"h","clients":[{"username":"no"}]}"#,
        r#"{"command":"modifyGroup","error":"'clients' contains an object with a 'username' that does not exist"}"#),
    (r#"{"command":"modifyGroup","groupname":"h","clients":[{}]}"#,
        r#"{"command":"modifyGroup","error":"'clients' contains an object with an invalid 'username'"}"#),
    (r#"{"command":"deleteGroup","groupname":"h","correlationData":"x"}"#,
        r#"{"command":"deleteGroup","error":"Deleting the anonymous group is forbidden","correlationData":"x"}"#),
    (r#"{"command":"getClient","username":"u"}"#, r#"{"command":"getClient","data":{"client":{"username":"u","textname":"other",
        "textdescription":"d","roles":[{"rolename":"new","priority":100000},{"rolename":"s"}],"groups":[],"connections":[]}}}"#),
];

fn responses(answer: &Value) -> &[Value] {
    answer["responses"].as_array().expect("answers are a list")
}

#[test]
fn the_table_is_answered_as_by_the_plugin_and_news_as_by_2_1() {
    let mut plugin = Plugin::start();
    let mut security = initial();
    for payload in TABLE {
        let theirs = plugin.ask(payload.as_bytes());
        let ours = without_news(obey(&mut security, payload.as_bytes()).response);
        for (ours, theirs) in responses(&ours).iter().zip(responses(&theirs)) {
            assert_eq!(ours, theirs, "{payload}");
        }
        assert_eq!(responses(&ours).len(), responses(&theirs).len(), "{payload}");
    }
    for (command, expected) in NEWS {
        let payload = format!(r#"{{"commands":[{command}]}}"#);
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(responses(&obey(&mut security, payload.as_bytes()).response), [expected], "{command}");
    }
    let before =
        obey(&mut security, br#"{"commands":[{"command":"getDetails","correlationData":"d"}]}"#).response;
    let counts = json!({ "clientCount": 3, "groupCount": 1, "roleCount": 4, "changeIndex": before["responses"][0]["data"]["changeIndex"] });
    assert_eq!(
        responses(&before),
        [json!({ "command": "getDetails", "data": counts, "correlationData": "d" })]
    );
    // What is no command ends the list, and what stood before holds.
    let list = r#"{"commands":[{"command":"enableClient","username":"u"},7,{"command":"deleteClient","username":"u"}]}"#;
    let obeyed = obey(&mut security, list.as_bytes());
    assert_eq!(responses(&obeyed.response).len(), 2);
    assert!(obeyed.changed.is_some() && obeyed.kicked.is_empty());
}

/// facts: dynamic security, "Enforce any changes"
#[test]
fn whose_permissions_change_is_told_to_come_again() {
    let mut security = initial();
    let setup = r#"{"commands":[{"command":"createRole","rolename":"r"},{"command":"createRole","rolename":"own"},
        {"command":"createGroup","groupname":"g","roles":[{"rolename":"r"}]},{"command":"createGroup","groupname":"anon"},
        {"command":"setAnonymousGroup","groupname":"anon"},{"command":"addGroupRole","groupname":"anon","rolename":"r"},
        {"command":"createClient","username":"a","groups":[{"groupname":"g"}]},
        {"command":"createClient","username":"b","roles":[{"rolename":"own"}]},{"command":"createClient","username":"c"}]}"#;
    assert!(
        responses(&obey(&mut security, setup.as_bytes()).response).iter().all(|it| it.get("error").is_none())
    );
    let (all, none): (&[Option<&str>], &[Option<&str>]) = (&[None, Some("a")], &[]);
    let table: &[(&str, &[Option<&str>])] = &[
        (r#""addRoleACL","rolename":"r","acltype":"publishClientSend","topic":"x""#, all),
        (r#""addRoleACL","rolename":"r","acltype":"publishClientSend","topic":"x""#, none),
        (r#""modifyRole","rolename":"r","textname":"other""#, none),
        (r#""modifyRole","rolename":"r","allowwildcardsubs":false"#, all),
        (r#""modifyRole","rolename":"own","acls":[]"#, &[Some("b")]),
        (r#""removeRoleACL","rolename":"r","acltype":"publishClientSend","topic":"x""#, all),
        (r#""addGroupClient","groupname":"g","username":"c""#, &[Some("c")]),
        (r#""addGroupClient","groupname":"g","username":"nobody""#, none),
        (r#""removeGroupClient","groupname":"g","username":"c""#, &[Some("c")]),
        (r#""modifyGroup","groupname":"g","clients":[{"username":"b"}]"#, &[Some("a"), Some("b")]),
        (r#""addGroupRole","groupname":"g","rolename":"own""#, &[Some("b")]),
        (r#""deleteGroup","groupname":"g""#, &[Some("b")]),
        (r#""deleteRole","rolename":"own""#, &[Some("b")]),
        (r#""setClientPassword","username":"a","password":"new""#, &[Some("a")]),
        (r#""setClientId","username":"a","clientid":"id""#, &[Some("a")]),
        (r#""disableClient","username":"a""#, &[Some("a")]),
        (r#""enableClient","username":"a""#, none),
        (r#""modifyClient","username":"a""#, &[Some("a")]),
        (r#""addClientRole","username":"a","rolename":"r""#, &[Some("a")]),
        (r#""removeClientRole","username":"a","rolename":"r""#, &[Some("a")]),
        (r#""setAnonymousGroup","groupname":"anon""#, &[None]),
        (r#""deleteClient","username":"a""#, &[Some("a")]),
        (r#""setDefaultACLAccess","acls":[]"#, none),
    ];
    for (command, expected) in table {
        let obeyed = obey(&mut security, format!(r#"{{"commands":[{{"command":{command}}}]}}"#).as_bytes());
        let kicked: Vec<Option<&str>> = obeyed.kicked.iter().map(Option::as_deref).collect();
        assert_eq!(kicked, *expected, "{command}: {}", obeyed.response);
    }
}

#[test]
fn a_role_reaches_those_who_have_it_and_a_password_is_asked_for_at_once() {
    let mut security = initial();
    let list = r#"{"commands":[{"command":"createRole","rolename":"r"},{"command":"createClient","username":"u","password":"one",
        "roles":[{"rolename":"r"}]},{"command":"addRoleACL","rolename":"r","acltype":"publishClientSend","topic":"t/%c","allow":true}]}"#;
    let obeyed = obey(&mut security, list.as_bytes());
    let lines = [
        "dynsec: ctrl/admin | createRole | rolename=r",
        "dynsec: ctrl/admin | createClient | username=u | password=*****",
        "dynsec: ctrl/admin | addRoleACL | rolename=r | acltype=publishClientSend | topic=t/%c | priority=0 | allow=true",
    ];
    assert_eq!(obeyed.log, lines);
    let topic = TopicName::parse("t/id").unwrap();
    assert!(security.grants(Some("u"), "id").may_publish(&topic));
    assert!(!security.grants(Some("u"), "other").may_publish(&topic));
    assert_eq!(security.verify("u", "id", b"one"), Answer::Right);
    obey(&mut security, br#"{"commands":[{"command":"setClientPassword","username":"u","password":"two"}]}"#);
    assert_eq!(security.verify("u", "id", b"one"), Answer::Wrong);
    assert_eq!(security.verify("u", "id", b"two"), Answer::Right);
    obey(&mut security, br#"{"commands":[{"command":"deleteRole","rolename":"r"},{"command":"disableClient","username":"u"}]}"#);
    assert!(!security.grants(Some("u"), "id").may_publish(&topic));
    assert_eq!(security.verify("u", "id", b"two"), Answer::Wrong);
    let mut unsaved = obey(&mut security, br#"{"commands":[{"command":"getRole","rolename":"super"},{"command":"enableClient","username":"u"}]}"#);
    unsaved.response = unsaved.unsaved();
    assert!(unsaved.response["responses"][0].get("error").is_none());
    assert_eq!(unsaved.response["responses"][1]["error"], "Internal error");
}

fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(names).prop_map(Value::from)
}

/// A command out of what a small house needs, now and then with something wrong. Deleting a role that came with another
/// command's `roles` is not in it: there the plugin of 2.0 reads memory that it has given back.
fn command(deletes_roles: bool) -> impl Strategy<Value = Value> {
    let user = || one_of(&["u1", "u2", "u3", "ghost"]);
    let group = || one_of(&["g1", "g2", "g3", "ghost"]);
    let role = || one_of(&["r1", "r2", "r3", "ghost"]);
    // Not the empty one, which the plugin takes for a topic.
    let topic = || one_of(&["a", "a/+", "a/#", "%u/x", "b/%c", "#", "bad#"]);
    let about = || {
        one_of(&[
            "publishClientSend",
            "publishClientReceive",
            "subscribeLiteral",
            "subscribePattern",
            "unsubscribeLiteral",
            "unsubscribePattern",
            "dance",
        ])
    };
    let priority = || prop_oneof![4 => (-3..9_i32).prop_map(Value::from), 1 => Just(Value::Null)];
    let text = || one_of(&["", "text", "\u{e9}\u{4e2d}", "quote\" \\ back"]);
    prop_oneof![
        (user(), text(), any::<bool>()).prop_map(|(u, t, tied)| match tied {
            true => json!({ "command": "createClient", "username": u, "textname": t, "clientid": "id" }),
            false => json!({ "command": "createClient", "username": u, "groups": [{ "groupname": "g1", "priority": 2 }] }),
        }),
        user().prop_map(|u| json!({ "command": "deleteClient", "username": u })),
        user().prop_map(|u| json!({ "command": "getClient", "username": u, "correlationData": "c" })),
        user().prop_map(|u| json!({ "command": "disableClient", "username": u })),
        user().prop_map(|u| json!({ "command": "enableClient", "username": u })),
        (user(), text()).prop_map(|(u, t)| json!({ "command": "setClientId", "username": u, "clientid": t })),
        (user(), text()).prop_map(|(u, t)| json!({ "command": "setClientPassword", "username": u, "password": t })),
        (user(), role(), priority())
            .prop_map(|(u, r, p)| json!({ "command": "addClientRole", "username": u, "rolename": r, "priority": p })),
        (user(), role()).prop_map(|(u, r)| json!({ "command": "removeClientRole", "username": u, "rolename": r })),
        (user(), role(), priority()).prop_map(|(u, r, p)| {
            json!({ "command": "modifyClient", "username": u, "roles": [{ "rolename": r, "priority": p }, { "rolename": "r1" }] })
        }),
        (group(), text()).prop_map(|(g, t)| json!({ "command": "createGroup", "groupname": g, "textdescription": t })),
        group().prop_map(|g| json!({ "command": "deleteGroup", "groupname": g })),
        group().prop_map(|g| json!({ "command": "getGroup", "groupname": g })),
        (group(), user(), priority())
            .prop_map(|(g, u, p)| json!({ "command": "addGroupClient", "groupname": g, "username": u, "priority": p })),
        (group(), user()).prop_map(|(g, u)| json!({ "command": "removeGroupClient", "groupname": g, "username": u })),
        (group(), role(), priority())
            .prop_map(|(g, r, p)| json!({ "command": "addGroupRole", "groupname": g, "rolename": r, "priority": p })),
        (group(), role()).prop_map(|(g, r)| json!({ "command": "removeGroupRole", "groupname": g, "rolename": r })),
        group().prop_map(|g| json!({ "command": "setAnonymousGroup", "groupname": g })),
        Just(json!({ "command": "getAnonymousGroup" })),
        (role(), about(), topic()).prop_map(|(r, a, t)| {
            json!({ "command": "createRole", "rolename": r, "acls": [{ "acltype": a, "topic": t, "allow": true }] })
        }),
        (role(), any::<bool>()).prop_map(move |(r, really)| match really && deletes_roles {
            true => json!({ "command": "deleteRole", "rolename": r }),
            false => json!({ "command": "getRole", "rolename": r }),
        }),
        (role(), about(), topic(), priority(), any::<bool>()).prop_map(|(r, a, t, p, allow)| {
            json!({ "command": "addRoleACL", "rolename": r, "acltype": a, "topic": t, "priority": p, "allow": allow })
        }),
        (role(), about(), topic()).prop_map(|(r, a, t)| {
            json!({ "command": "removeRoleACL", "rolename": r, "acltype": a, "topic": t })
        }),
        (role(), text()).prop_map(|(r, t)| json!({ "command": "modifyRole", "rolename": r, "textname": t })),
        (-1..4_i32, -1..3_i32, any::<bool>()).prop_map(|(count, offset, verbose)| {
            json!({ "command": "listClients", "count": count, "offset": offset, "verbose": verbose })
        }),
        any::<bool>().prop_map(|verbose| json!({ "command": "listGroups", "verbose": verbose })),
        any::<bool>().prop_map(|verbose| json!({ "command": "listRoles", "verbose": verbose })),
    ]
}

/// Lives of some hundred messages, both sides asked the same. The plugin of 2.0 reads memory that it has given back when
/// roles go that somebody has, and when the anonymous group goes: what leads there is not asked, and where Mosquitto ends all
/// the same another life begins.
#[test]
fn commands_by_chance_are_answered_as_by_the_plugin() {
    let end = Instant::now() + Duration::from_secs(8);
    // The same chance each time: what differs is looked at by a person.
    let mut runner = TestRunner::deterministic();
    let list = proptest::collection::vec(command(false), 1..6);
    let mut compared = 0;
    for _ in 0..5 {
        let mut plugin = Plugin::start();
        let mut security = initial();
        for _ in 0..200 {
            let commands = list.new_tree(&mut runner).unwrap().current();
            let is_dangerous = |command: &Value| {
                command["command"] == "deleteGroup" && {
                    let anonymous = security.to_json();
                    let file: Value = serde_json::from_str(&anonymous).unwrap();
                    file.get("anonymousGroup") == command.get("groupname")
                }
            };
            let sets = commands.iter().any(|command| command["command"] == "setAnonymousGroup");
            if commands.iter().any(is_dangerous)
                || (sets && commands.iter().any(|command| command["command"] == "deleteGroup"))
            {
                continue;
            }
            let payload = json!({ "commands": commands }).to_string();
            let Some(theirs) = plugin.try_ask(payload.as_bytes()) else { break };
            let ours = without_news(obey(&mut security, payload.as_bytes()).response);
            for ((ours, theirs), command) in responses(&ours).iter().zip(responses(&theirs)).zip(&commands) {
                assert_eq!(ours, theirs, "{command}\nof {payload}\nbefore: {}", security.to_json());
                compared += 1;
            }
            // What stands in the file means the same as what is in memory.
            let written = security.to_json();
            assert_eq!(DynamicSecurity::parse(written.as_bytes()).unwrap().to_json(), written);
            if Instant::now() > end {
                break;
            }
        }
        if Instant::now() > end {
            break;
        }
    }
    assert!(compared > 50, "only {compared} answers were compared");
}

/// Each reads what the other has written.
#[test]
fn the_plugin_goes_on_with_our_file_and_we_with_its() {
    let ask_all = br#"{"commands":[{"command":"listClients","verbose":true},{"command":"listGroups","verbose":true},
        {"command":"listRoles","verbose":true},{"command":"getDefaultACLAccess"},{"command":"getAnonymousGroup"}]}"#;
    let mut security = initial();
    let list = r#"{"commands":[{"command":"createRole","rolename":"r","textname":"t","acls":[{"acltype":"publishClientSend","topic":"a/#","priority":3,"allow":true}]},
        {"command":"createGroup","groupname":"g"},{"command":"addGroupRole","groupname":"g","rolename":"r","priority":3},
        {"command":"createClient","username":"u","password":"secret","clientid":"id","groups":[{"groupname":"g","priority":8}]},
        {"command":"addClientRole","username":"u","rolename":"r"},{"command":"setAnonymousGroup","groupname":"g"},
        {"command":"setDefaultACLAccess","acls":[{"acltype":"subscribe","allow":true}]},{"command":"disableClient","username":"u"}]}"#;
    assert!(
        responses(&obey(&mut security, list.as_bytes()).response).iter().all(|it| it.get("error").is_none())
    );
    let mut plugin = Plugin::with(&security.to_json());
    assert_eq!(plugin.ask(ask_all), without_news(obey(&mut security, ask_all).response));
    // The plugin writes when something changes.
    let change = br#"{"commands":[{"command":"enableClient","username":"u"},{"command":"setClientPassword","username":"u","password":"changed"}]}"#;
    plugin.ask(change);
    let end = Instant::now() + PATIENCE;
    let mut theirs = loop {
        let written = std::fs::read(plugin.mosquitto.path("d.json")).unwrap();
        if let Ok(theirs) = DynamicSecurity::parse(&written)
            && theirs.verify("u", "id", b"changed") == Answer::Right
        {
            break theirs;
        }
        assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&written));
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(plugin.ask(ask_all), without_news(obey(&mut theirs, ask_all).response));
    // And it lets in whom we gave a password.
    obey(&mut security, br#"{"commands":[{"command":"enableClient","username":"u"}]}"#);
    let plugin = Plugin::with(&security.to_json());
    for (password, comes_in) in [("secret", true), ("wrong", false)] {
        let mut publish = plugin.mosquitto.client("mosquitto_pub", Some("u"), "id");
        let done = publish.args(["-P", password, "-t", "a/b", "-m", "x", "-q", "1"]).status().unwrap();
        assert_eq!(done.success(), comes_in, "{password}");
    }
}

proptest! {
    /// Whatever comes is answered, in the form of an answer.
    #[test]
    fn no_payload_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), field in ".{0,20}", commands in proptest::collection::vec(command(true), 0..3)) {
        let mut security = initial();
        let odd = json!({ "commands": [commands, { "command": field, "rolename": field }], "x": commands }).to_string();
        let cut = odd.len().min(usize::from(payload.first().copied().unwrap_or(0)));
        let cut = (0..=cut).rev().find(|at| odd.is_char_boundary(*at)).unwrap_or(0);
        for payload in [&payload[..], odd.as_bytes(), &odd.as_bytes()[..cut]] {
            prop_assert!(obey(&mut security, payload).response["responses"].is_array());
        }
    }
}
