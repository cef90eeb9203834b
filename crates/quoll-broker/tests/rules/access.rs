//! Grants at publish, subscribe and delivery; orders.

use std::sync::Arc;

use quoll_broker::Grants;
use quoll_broker::vocabulary::{Act, Departure, Event, Farewell, Order};
use quoll_mqtt::ReasonCode;
use quoll_mqtt::packet::{Ack, Packet};

use crate::town::{Town, client, filters, goodbye, grants, id, message, puback, pubcomp, pubrec, pubrel};

/// facts: mosquitto; 3.x has no way to say no
#[test]
fn a_forbidden_publish_is_told_to_5_0_and_swallowed_for_3_x() {
    let mut town = Town::new();
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "#", 0);
    let five = town.enter(client("five").v5().granted(&["mine/#"], &[]));
    let three = town.enter(client("three").granted(&["mine/#"], &[]));
    for peer in [five, three] {
        town.send(peer, message("yours", "0"));
        town.send(peer, message("yours", "1").qos1(1));
        town.send(peer, message("yours", "2").qos2(2));
    }
    let no = ReasonCode::NOT_AUTHORIZED;
    let refused = [Packet::PubAck(Ack::new(id(1), no)), Packet::PubRec(Ack::new(id(2), no))];
    assert_eq!(town.heard(five), refused);
    assert_eq!(town.heard(three), [puback(1), pubrec(2)]);
    town.send(three, pubrel(2));
    assert_eq!(town.heard(three), [pubcomp(2)]);
    assert!(town.messages(ears).is_empty() && town.is_open(five) && town.is_open(three));
    town.send(three, message("mine/x", "y"));
    assert_eq!(town.messages(ears), ["mine/x=y"]);
    assert_eq!(town.shard(0).stats().denied, 6);
}

#[test]
fn a_forbidden_retained_message_is_not_kept() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").granted(&["mine/#"], &[]));
    town.send(peer, message("yours", "x").retained());
    assert!(town.shared.retained.is_empty());
}

#[test]
fn a_subscription_wider_than_the_grants_is_refused() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").granted(&[], &["cmnd/lamp/#"]));
    assert_eq!(town.subscribe(peer, "cmnd/lamp/+", 1), ReasonCode::GRANTED_QOS_1);
    assert_eq!(town.subscribe(peer, "cmnd/#", 1), ReasonCode::NOT_AUTHORIZED);
    assert_eq!(town.subscribe(peer, "$share/g/cmnd/#", 1), ReasonCode::NOT_AUTHORIZED);
}

#[test]
fn a_wide_subscription_that_is_let_in_hears_only_what_it_may() {
    let mut town = Town::new();
    let lamp = town.enter(client("lamp"));
    for topic in ["open/1", "secret/1"] {
        town.send(lamp, message(topic, "old").retained());
    }
    let mut caller = client("ears");
    caller.admission.grants = Arc::new(grants(&[], &["open/#"]).with_wide_subscriptions());
    let ears = town.enter(caller);
    town.subscribe(ears, "#", 0);
    town.send(lamp, message("open/2", "new"));
    town.send(lamp, message("secret/2", "new"));
    assert_eq!(town.messages(ears), ["open/1=old", "open/2=new"]);
}

#[test]
fn new_grants_act_on_live_sessions_at_once() {
    let mut town = Town::new();
    let lamp = town.enter(client("lamp").v5().named("alice", Some(1)));
    town.subscribe(lamp, "a/#", 1);
    let other = town.enter(client("other"));
    let regrant = |town: &mut Town, grants: Grants| {
        town.order(Order::Regrant { identity: "alice".into(), grants: Arc::new(grants) });
    };
    regrant(&mut town, Grants::all().denying(&filters(&["b"]), &filters(&["a/x"])));
    town.send(other, message("a/x", "1"));
    town.send(other, message("a/y", "2"));
    assert_eq!(town.messages(lamp), ["a/y=2"]);
    town.send(lamp, message("b", "x").qos1(1));
    assert_eq!(town.next(lamp), Some(Packet::PubAck(Ack::new(id(1), ReasonCode::NOT_AUTHORIZED))));
    regrant(&mut town, Grants::all());
    town.send(other, message("a/x", "3"));
    assert_eq!(town.messages(lamp), ["a/x=3"]);
}

#[test]
fn what_lenient_grants_do_not_allow_happens_and_is_told() {
    let mut town = Town::new();
    let mut caller = client("lamp").named("alice", None);
    caller.admission.grants = Arc::new(grants(&["a/#"], &["a/#"]).leniently());
    let lamp = town.enter(caller);
    town.subscribe(lamp, "#", 0);
    for topic in ["a/1", "b/1"] {
        town.send(lamp, message(topic, "x"));
    }
    assert_eq!(town.messages(lamp), ["a/1=x", "b/1=x"]);
    town.send(lamp, message("$SYS/mine", "x").qos1(1));
    let told = town.events.iter().filter_map(|event| match event {
        Event::Denied { identity, act, topic, refused, .. } => Some((&**identity, *act, &**topic, *refused)),
        _ => None,
    });
    let expected = [
        ("alice", Act::Subscribe, "#", false),
        ("alice", Act::Publish, "b/1", false),
        ("alice", Act::Publish, "$SYS/mine", true),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected, "the server's own topics stay its own");
}

#[test]
fn what_waited_is_checked_against_the_grants_of_the_day() {
    let mut town = Town::new();
    let caller = || client("lamp").named("alice", None).kept(0);
    let lamp = town.enter(caller());
    town.subscribe(lamp, "#", 1);
    town.lose(lamp);
    let other = town.enter(client("other"));
    town.send(other, message("a", "1").qos1(1));
    town.send(other, message("b", "2").qos1(2));
    let lamp = town.enter(caller().granted(&[], &["b"]));
    assert_eq!(town.messages(lamp), ["b=2"]);
    town.send(other, message("a", "3"));
    assert!(town.messages(lamp).is_empty());
}

#[test]
fn an_expelled_credential_loses_connection_and_session_and_nobody_else_does() {
    let mut town = Town::of(2);
    let revoked = town.enter(client("a").v5().named("alice", Some(1)).kept(9999));
    let away = town.enter(client("b").named("alice", Some(1)).kept(0));
    let renewed = town.enter(client("c").named("alice", Some(2)).kept(0));
    town.send(away, goodbye());
    let order = Order::Expel { credential: [1; 32], reason: ReasonCode::NOT_AUTHORIZED };
    town.order(order);
    assert_eq!(town.last_word(revoked), Some(&Farewell::Disconnect(ReasonCode::NOT_AUTHORIZED)));
    assert!(town.is_open(renewed));
    let sessions: u64 = (0..2).map(|at| town.shard(at).stats().sessions).sum();
    assert_eq!(sessions, 1);
    let kept: Vec<_> = town.facts().iter().filter_map(|fact| fact.client_id().cloned()).collect();
    assert!(kept.iter().all(|client_id| **client_id == *"c"), "{kept:?}");
    town.crash();
    let sessions: u64 = (0..2).map(|at| town.shard(at).stats().sessions).sum();
    assert_eq!(sessions, 1, "and the journal agrees");
}

#[test]
fn an_order_ends_a_connection_and_leaves_its_session() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5().kept(99));
    town.order(Order::Disconnect { client_id: "lamp".into(), reason: ReasonCode::ADMINISTRATIVE_ACTION });
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::ADMINISTRATIVE_ACTION)));
    let peer = town.connect(client("lamp").v5().kept(99));
    assert!(town.connack(peer).session_present);
    let is_closed = |event: &Event| {
        matches!(event, Event::Disconnected { how: Departure::Closed(ReasonCode::ADMINISTRATIVE_ACTION), .. })
    };
    assert!(town.events.iter().any(is_closed));
}

#[test]
fn at_the_end_everybody_is_told_and_kept_sessions_stay_kept() {
    let mut town = Town::of(2);
    let peers = [town.enter(client("a").v5().kept(99)), town.enter(client("b").v5())];
    town.order(Order::ShutDown);
    for peer in peers {
        assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::SERVER_SHUTTING_DOWN)));
    }
    town.crash();
    let peer = town.connect(client("a").v5().kept(99));
    assert!(town.connack(peer).session_present);
}

/// facts: dynamic security; "these messages aren't passed on to other clients"
#[test]
fn what_is_published_to_control_is_for_the_server_alone_and_only_from_those_who_may() {
    let mut town = Town::new();
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "$CONTROL/#", 0);
    let admin = town.enter(client("admin").v5().granted(&["$CONTROL/#"], &["$CONTROL/#"]));
    town.send(admin, message("$CONTROL/x/v1", "do").qos1(1).retained());
    assert_eq!(town.heard(admin), [puback(1)]);
    let other = town.enter(client("other").v5().granted(&["#"], &["#"]));
    town.send(other, message("$CONTROL/x/v1", "no").qos1(1));
    assert_eq!(town.heard(other), [Packet::PubAck(Ack::new(id(1), ReasonCode::NOT_AUTHORIZED))]);
    assert_eq!(town.commands.iter().map(|it| &it.payload[..]).collect::<Vec<_>>(), [b"do"]);
    assert!(town.messages(ears).is_empty() && town.shared.retained.is_empty());
}

/// facts: dynamic security, unsubscribeLiteral
#[test]
fn an_unsubscription_that_rules_deny_leaves_the_subscription() {
    use quoll_broker::ordered::{FilterRule, OrderedRules, Usual};
    let mut town = Town::new();
    let rules = OrderedRules {
        unsubscribe: [FilterRule::Literal { filter: "a".into(), allow: false }].into(),
        usual: Usual { publish: true, receive: true, subscribe: true, unsubscribe: true },
        ..OrderedRules::default()
    };
    let peer = town.enter(client("lamp").v5().named("alice", None));
    town.order(Order::Regrant { identity: "alice".into(), grants: Arc::new(Grants::ordered(rules)) });
    town.subscribe(peer, "a", 0);
    town.subscribe(peer, "b", 0);
    town.send(peer, crate::town::unsubscribe(7, &["a", "b"]));
    let Some(Packet::UnsubAck(ack)) = town.next(peer) else { panic!("UNSUBACK is due") };
    assert_eq!(ack.reasons, [ReasonCode::NOT_AUTHORIZED, ReasonCode::SUCCESS]);
    town.send(peer, message("a", "still"));
    assert_eq!(town.messages(peer), ["a=still"]);
}

#[test]
fn a_kick_ends_an_identitys_connections_without_wills_and_leaves_its_sessions() {
    let mut town = Town::of(2);
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "#", 0);
    let caller = |name: &str| client(name).v5().named("alice", None).kept(99).will("gone", name, |_| ());
    let (one, two) = (town.enter(caller("one")), town.enter(caller("two")));
    let reason = ReasonCode::ADMINISTRATIVE_ACTION;
    let kick = |client_id: Option<&str>| Order::Kick {
        identity: "alice".into(),
        client_id: client_id.map(Into::into),
        reason,
    };
    town.order(kick(Some("one")));
    assert!(!town.is_open(one) && town.is_open(two));
    town.order(kick(None));
    for peer in [one, two] {
        assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(reason)));
    }
    assert!(town.is_open(ears) && town.messages(ears).is_empty());
    let two = town.connect(caller("two"));
    assert!(town.connack(two).session_present);
}
