//! CONNECT, takeover, sessions, keep alive, identities (§3.1, §3.2, §4.1).

use quoll_broker::ShardSettings;
use quoll_broker::vocabulary::{Departure, Event, Farewell, Input};
use quoll_mqtt::packet::{Auth, AuthProperties, ConnAckProperties, Packet};
use quoll_mqtt::{DecodeError, QoS, ReasonCode};

use crate::town::{Caller, Town, client, disconnect, goodbye, message, pubrel};

/// §3.2.2.3; Mosquitto 2.1 tells the same three.
#[test]
fn a_plain_accept_tells_a_5_0_client_three_limits() {
    let mut town = Town::new();
    let peer = town.connect(client("lamp").v5());
    let expected = ConnAckProperties {
        receive_maximum: Some(20),
        maximum_packet_size: Some(2_000_000),
        topic_alias_maximum: Some(10),
        ..ConnAckProperties::default()
    };
    let ack = town.connack(peer);
    assert_eq!((ack.session_present, ack.reason, ack.properties), (false, ReasonCode::SUCCESS, expected));
}

#[test]
fn a_3_x_client_is_told_nothing_but_success() {
    let mut town = Town::new();
    for caller in [client("a"), client("b").v31()] {
        let peer = town.connect(caller);
        assert_eq!(town.connack(peer).properties, ConnAckProperties::default());
    }
}

/// [MQTT-3.2.2-9] and its neighbours
#[test]
fn settings_that_take_something_away_are_told() {
    let settings = ShardSettings {
        retain_available: false,
        max_qos: QoS::AtLeastOnce,
        max_keepalive: 60,
        persistent_client_expiration: Some(std::time::Duration::from_secs(100)),
        ..ShardSettings::default()
    };
    let mut town = Town::with(settings, 1);
    let peer = town.connect(client("lamp").v5().kept(1000).keep_alive(0));
    let told = town.connack(peer).properties;
    assert_eq!(told.retain_available, Some(false));
    assert_eq!(told.maximum_qos, Some(QoS::AtLeastOnce));
    assert_eq!(told.server_keep_alive, Some(60));
    assert_eq!(told.session_expiry_interval, Some(100));
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7]
#[test]
fn a_client_without_identifier_is_given_one_of_its_own() {
    let mut town = Town::new();
    let one = town.connect(client("").v5());
    let two = town.connect(client("").v5());
    let name = |ack: quoll_mqtt::packet::ConnAck| ack.properties.assigned_client_identifier.unwrap();
    let (one, two) = (name(town.connack(one)), name(town.connack(two)));
    assert!(one.starts_with("auto-") && one.len() == 41 && one != two, "{one} {two}");
}

/// 3.1.1 [MQTT-3.1.3-8]; 3.1 §3.1 client identifier of 1 to 23 characters
#[test]
fn an_empty_identifier_is_refused_where_its_session_could_not_be_found_again() {
    let mut town = Town::new();
    let refused = Some(&Farewell::Refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID));
    for caller in [client("").kept(0), client("").v31()] {
        let peer = town.connect(caller);
        assert_eq!(town.last_word(peer), refused);
    }
    let settings = ShardSettings { allow_zero_length_clientid: false, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let peer = town.connect(client("").v5());
    assert_eq!(town.last_word(peer), refused);
}

/// [MQTT-3.1.4-3]; 3.1.1 [MQTT-3.1.4-2]
#[test]
fn a_second_connect_with_the_same_id_ends_the_first() {
    let mut town = Town::new();
    let first = town.enter(client("lamp").v5());
    let second = town.enter(client("lamp").v5());
    assert_eq!(town.last_word(first), Some(&Farewell::Disconnect(ReasonCode::SESSION_TAKEN_OVER)));
    assert!(town.is_open(second));
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_packet_on_a_connection_is_a_protocol_error() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    town.send(peer, Packet::Connect(Box::new(client("lamp").connect)));
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
}

/// [MQTT-3.2.2-2] [MQTT-3.2.2-3]
#[test]
fn a_kept_session_is_present_when_its_client_comes_back() {
    let mut town = Town::new();
    for caller in [|| client("three").kept(0), || client("five").v5().kept(100)] {
        let peer = town.enter(caller());
        town.subscribe(peer, "a", 1);
        town.lose(peer);
        let peer = town.connect(caller());
        assert!(town.connack(peer).session_present);
        let other = town.enter(client("other"));
        town.send(other, message("a", "x"));
        assert_eq!(town.messages(peer), ["a=x"]);
    }
}

/// [MQTT-3.1.2-4]
#[test]
fn a_clean_start_forgets_the_old_session() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").kept(0));
    town.subscribe(peer, "a", 1);
    let peer = town.connect(client("lamp"));
    assert!(!town.connack(peer).session_present);
    town.send(peer, message("a", "x"));
    assert!(town.heard(peer).is_empty());
    town.lose(peer);
    let peer = town.connect(client("lamp").kept(0));
    assert!(!town.connack(peer).session_present, "the clean one was not kept either");
}

/// §3.1.2.11.2: without an interval the session ends with its connection, also when that is taken over.
#[test]
fn a_session_without_expiry_is_not_there_after_a_takeover() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    town.subscribe(peer, "a", 1);
    let peer = town.connect(client("lamp").v5().kept(0));
    assert!(!town.connack(peer).session_present);
}

/// [MQTT-3.1.2-23]
#[test]
fn a_session_expires_after_its_interval_without_a_connection_and_not_before() {
    let mut town = Town::new();
    for (wait, present) in [(99, true), (101, false)] {
        let peer = town.enter(client("lamp").v5().kept(100));
        town.seconds(1000);
        town.lose(peer);
        town.seconds(wait);
        let peer = town.connect(client("lamp").v5().kept(100));
        assert_eq!(town.connack(peer).session_present, present, "after {wait} s");
        town.send(peer, goodbye());
        town.seconds(200);
    }
    assert_eq!(town.shard(0).stats().sessions, 0);
}

#[test]
fn sessions_of_3_x_clients_expire_where_the_operator_says_so() {
    let expiration = Some(std::time::Duration::from_secs(3600));
    let settings = ShardSettings { persistent_client_expiration: expiration, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let peer = town.enter(client("lamp").kept(0));
    town.lose(peer);
    town.seconds(3599);
    assert_eq!(town.shard(0).stats().sessions, 1);
    town.seconds(2);
    assert_eq!((town.shard(0).stats().sessions, town.shard(0).stats().expired_sessions), (0, 1));
}

/// §3.14.2.2.2
#[test]
fn disconnect_may_shorten_or_lengthen_a_kept_session_but_not_make_one() {
    let table = [(Some(100), 0, Some(false)), (Some(100), 500, Some(true)), (None, 500, None)];
    for (asked, changed, present) in table {
        let mut town = Town::new();
        let caller = || client("lamp").v5().asking(|ask| ask.session_expiry_interval = asked);
        let peer = town.enter(caller());
        let mut packet = disconnect(ReasonCode::SUCCESS);
        if let Packet::Disconnect(disconnect) = &mut packet {
            disconnect.properties.session_expiry_interval = Some(changed);
        }
        town.send(peer, packet);
        let Some(present) = present else {
            assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
            continue;
        };
        assert_eq!(town.last_word(peer), Some(&Farewell::Silent));
        town.seconds(300);
        let mut again = caller();
        again.connect.clean_start = false;
        let peer = town.connect(again);
        assert_eq!(town.connack(peer).session_present, present, "{asked:?} then {changed}");
    }
}

/// [MQTT-3.1.2-22]
#[test]
fn a_silent_client_is_dropped_after_one_and_a_half_keep_alives() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5().keep_alive(60));
    town.seconds(89);
    assert!(town.is_open(peer));
    town.seconds(2);
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::KEEP_ALIVE_TIMEOUT)));
    assert!(
        town.events
            .iter()
            .any(|event| { matches!(event, Event::Disconnected { how: Departure::KeepAlive, .. }) })
    );
}

/// [MQTT-3.1.2-20] [MQTT-3.12.4-1]
#[test]
fn any_packet_keeps_a_connection_alive_and_a_ping_is_answered() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").keep_alive(10));
    for packet in [Packet::PingReq, message("a", "").into(), pubrel(9), Packet::PingReq] {
        town.seconds(14);
        town.send(peer, packet);
    }
    assert!(town.is_open(peer));
    let pongs = town.heard(peer).iter().filter(|packet| **packet == Packet::PingResp).count();
    assert_eq!(pongs, 2);
}

/// [MQTT-3.1.2-21]; facts: mosquitto, max_keepalive
#[test]
fn a_keep_alive_above_the_cap_is_told_to_5_0_and_refused_to_3_x() {
    let settings = ShardSettings { max_keepalive: 60, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let peer = town.connect(client("five").v5().keep_alive(600));
    assert_eq!(town.connack(peer).properties.server_keep_alive, Some(60));
    town.seconds(91);
    assert!(!town.is_open(peer), "the server's value is in force");
    for seconds in [0, 61] {
        let peer = town.connect(client("three").keep_alive(seconds));
        let refused = Farewell::Refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        assert_eq!(town.last_word(peer), Some(&refused));
    }
    town.enter(client("three").keep_alive(60));
}

#[test]
fn without_a_keep_alive_nobody_is_dropped() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp"));
    town.seconds(1_000_000);
    assert!(town.is_open(peer) && town.shard(0).next_deadline().is_none());
}

/// [MQTT-4.12.0-1]
#[test]
fn an_authentication_method_is_refused_while_none_is_set_up() {
    let mut town = Town::new();
    let ask = |caller: Caller| caller.asking(|ask| ask.authentication_method = Some("SCRAM-SHA-1".into()));
    let peer = town.connect(ask(client("lamp").v5()));
    assert_eq!(town.last_word(peer), Some(&Farewell::Refuse(ReasonCode::BAD_AUTHENTICATION_METHOD)));
}

/// [MQTT-4.12.0-6]
#[test]
fn auth_without_an_agreed_method_is_a_protocol_error() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    let auth = Auth { reason: ReasonCode::REAUTHENTICATE, properties: AuthProperties::default() };
    town.send(peer, Packet::Auth(Box::new(auth)));
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
}

/// §4.13
#[test]
fn bytes_that_are_no_packet_end_the_connection_with_their_reason() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    town.input(peer, |conn| Input::Malformed(conn, DecodeError::TooLarge { found: 9, allowed: 5 }));
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PACKET_TOO_LARGE)));
}

/// Our rule: an identifier is no proof of anything.
#[test]
fn a_session_of_another_identity_is_neither_resumed_nor_ended() {
    let mut town = Town::new();
    let owner = town.enter(client("lamp").named("alice", Some(1)).kept(0));
    town.subscribe(owner, "a", 1);
    let strangers = [
        client("lamp").named("mallory", Some(2)),
        client("lamp").named("mallory", Some(2)).clean(),
        client("lamp"),
        client("lamp").v5().named("mallory", None).kept(9),
    ];
    for stranger in strangers {
        let peer = town.connect(stranger);
        assert_eq!(town.last_word(peer), Some(&Farewell::Refuse(ReasonCode::NOT_AUTHORIZED)));
        assert!(town.is_open(owner));
    }
    town.lose(owner);
    let peer = town.connect(client("lamp").named("mallory", Some(2)));
    assert!(!town.is_open(peer), "not while its owner is away either");
    let owner = town.connect(client("lamp").named("alice", Some(1)).kept(0));
    assert!(town.connack(owner).session_present);
}

#[test]
fn a_renewed_certificate_of_the_same_name_resumes_its_session() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").named("alice", Some(1)).kept(0));
    town.lose(peer);
    let peer = town.connect(client("lamp").named("alice", Some(2)).kept(0));
    assert!(town.connack(peer).session_present);
}

#[test]
fn certificates_without_a_name_are_told_apart_by_themselves() {
    let mut town = Town::new();
    town.enter(client("lamp").named("", Some(1)).kept(0));
    let peer = town.connect(client("lamp").named("", Some(2)).kept(0));
    assert!(!town.is_open(peer));
}

#[test]
fn an_imposed_client_identifier_wins_over_the_one_in_connect() {
    let mut town = Town::new();
    let mut caller = client("whatever");
    caller.admission.client_id = Some("alice".into());
    town.enter(caller);
    assert!(
        town.events
            .iter()
            .any(|event| matches!(event, Event::Connected { client_id, .. } if **client_id == *"alice"))
    );
}

#[test]
fn a_full_house_refuses_new_sessions_and_lets_old_ones_in() {
    let mut town = Town::with(ShardSettings { max_sessions: 1, ..ShardSettings::default() }, 1);
    town.enter(client("one").kept(0));
    let peer = town.connect(client("two"));
    assert_eq!(town.last_word(peer), Some(&Farewell::Refuse(ReasonCode::SERVER_BUSY)));
    town.enter(client("one").kept(0));
}

#[test]
fn packets_of_a_closed_connection_are_ignored() {
    let mut town = Town::new();
    let listener = town.enter(client("listener"));
    town.subscribe(listener, "#", 0);
    let peer = town.enter(client("lamp"));
    town.send(peer, goodbye());
    town.send(peer, message("a", "late"));
    assert!(town.messages(listener).is_empty());
}

/// [MQTT-3.1.2-23]: also where the coat was too busy to let it expire.
#[test]
fn a_session_that_should_be_gone_is_not_resumed() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5().kept(100));
    town.lose(peer);
    town.now += std::time::Duration::from_secs(101);
    let peer = town.connect(client("lamp").v5().kept(100));
    assert!(!town.connack(peer).session_present);
}

#[test]
fn a_session_can_be_seen_from_outside() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5().kept(60).keep_alive(10).named("alice", Some(1)));
    town.subscribe(peer, "a/+", 1);
    town.send(peer, message("a/b", "x").qos1(1));
    let seen = town.shard(0).session("lamp").unwrap();
    assert_eq!((seen.keep_alive, seen.expiry, seen.subscriptions), (10, 60, 1));
    assert_eq!(
        (seen.inflight, seen.queued, seen.conn.is_some(), &*seen.identity.name),
        (1, 0, true, "alice")
    );
    town.lose(peer);
    assert!(town.shard(0).sessions().all(|seen| seen.conn.is_none()));
    let subscriptions = town.shard(0).subscriptions("lamp");
    assert_eq!(subscriptions[0].0.as_str(), "a/+");
    assert!(town.shard(0).subscriptions("nobody").is_empty() && town.shard(0).session("nobody").is_none());
}

/// A server's packets from a client: [MQTT-4.13.1-1]
#[test]
fn a_client_that_sends_what_only_a_server_sends_is_dropped() {
    for packet in [Packet::PingResp, Packet::ConnAck(Box::new(Town::new().some_connack()))] {
        let mut town = Town::new();
        let peer = town.enter(client("lamp").v5());
        town.send(peer, packet);
        assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
    }
}

impl Town {
    fn some_connack(&mut self) -> quoll_mqtt::packet::ConnAck {
        let peer = self.connect(client("x"));
        self.connack(peer)
    }
}
