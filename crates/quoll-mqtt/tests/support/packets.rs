//! Packets of every kind, made by proptest, within the rules of their version and direction.

#![allow(dead_code, reason = "each test crate uses its part")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use quoll_mqtt::packet::*;
use quoll_mqtt::{
    DecodeContext, Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, Role, TopicFilter, TopicName,
};

pub(crate) const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

/// So many cases, and no file of past failures: what once failed belongs into a table.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The context in which the receiver of `packet` decodes it.
pub(crate) fn context(packet: &Packet, version: ProtocolVersion, role: Role) -> DecodeContext {
    let version = if matches!(packet, Packet::Connect(_)) { None } else { Some(version) };
    DecodeContext { version, maximum_packet_size: 1 << 20, role }
}

/// A version, the receiver's side, and a packet that it may receive.
pub(crate) fn any_packet() -> impl Strategy<Value = (ProtocolVersion, Role, Packet)> {
    (select(&VERSIONS[..]), select(&[Role::Server, Role::Client][..]))
        .prop_flat_map(|(version, role)| (Just(version), Just(role), packet(version, role)))
}

/// A packet that a receiver on this side may get in this version.
pub(crate) fn packet(version: ProtocolVersion, role: Role) -> BoxedStrategy<Packet> {
    let is_5 = version == ProtocolVersion::V5;
    let mut kinds = vec![
        publish(is_5, role).prop_map(Packet::Publish).boxed(),
        ack(is_5, PacketKind::PubAck).prop_map(Packet::PubAck).boxed(),
        ack(is_5, PacketKind::PubRec).prop_map(Packet::PubRec).boxed(),
        ack(is_5, PacketKind::PubRel).prop_map(Packet::PubRel).boxed(),
        ack(is_5, PacketKind::PubComp).prop_map(Packet::PubComp).boxed(),
    ];
    if role == Role::Server {
        kinds.extend([
            connect(version).prop_map(|it| Packet::Connect(Box::new(it))).boxed(),
            subscribe(is_5).prop_map(|it| Packet::Subscribe(Box::new(it))).boxed(),
            unsubscribe(is_5).prop_map(|it| Packet::Unsubscribe(Box::new(it))).boxed(),
            Just(Packet::PingReq).boxed(),
        ]);
    } else {
        kinds.extend([
            connack(version).prop_map(|it| Packet::ConnAck(Box::new(it))).boxed(),
            suback(is_5).prop_map(|it| Packet::SubAck(Box::new(it))).boxed(),
            unsuback(is_5).prop_map(|it| Packet::UnsubAck(Box::new(it))).boxed(),
            Just(Packet::PingResp).boxed(),
        ]);
    }
    if is_5 {
        kinds.push(auth(role).prop_map(|it| Packet::Auth(Box::new(it))).boxed());
    }
    if is_5 || role == Role::Server {
        kinds.push(disconnect(is_5, role).prop_map(|it| Packet::Disconnect(Box::new(it))).boxed());
    }
    proptest::strategy::Union::new(kinds).boxed()
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[ -~]{0,12}", 2 => "[a-zß-ÿ温度😀/]{0,9}", 1 => "[a-z]{120,300}"]
}

pub(crate) fn topic() -> impl Strategy<Value = TopicName> {
    prop_oneof![8 => "[$a-z/]{1,16}", 2 => "[ -\"$-*,-~ü温😀]{1,9}", 1 => "[a-z/]{100,300}"]
        .prop_map(|text| TopicName::parse(&text).expect("the pattern has no wildcard"))
}

pub(crate) fn filter() -> impl Strategy<Value = TopicFilter> {
    let plain = (vec(prop_oneof![4 => "[a-z]{0,4}", 1 => Just("+".to_owned())], 1..5), any::<bool>())
        .prop_map(|(levels, hash)| {
            let text = levels.join("/") + if hash { "/#" } else { "" };
            if text.is_empty() { "/".to_owned() } else { text }
        });
    (plain, of("[a-z]{1,5}")).prop_map(|(plain, share)| {
        let text = share.map_or_else(|| plain.clone(), |share| format!("$share/{share}/{plain}"));
        TopicFilter::parse(&text).expect("built to the rules")
    })
}

pub(crate) fn binary() -> impl Strategy<Value = Bytes> {
    prop_oneof![6 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 100..400)].prop_map(Bytes::from)
}

pub(crate) fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![6 => vec(any::<u8>(), 0..40), 2 => vec(any::<u8>(), 100..300), 1 => vec(any::<u8>(), 16_300..16_500)]
        .prop_map(Bytes::from)
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|number| PacketId::new(number).expect("not 0"))
}

pub(crate) fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn users() -> impl Strategy<Value = Vec<UserProperty>> {
    vec((text(), text()), 0..3)
}

/// Any value in 5.0, the default below it.
fn only_5<T: std::fmt::Debug + Clone + Default + 'static>(
    is_5: bool,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if is_5 { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn reason_of(kind: PacketKind, is_5: bool) -> BoxedStrategy<ReasonCode> {
    if !is_5 {
        return Just(ReasonCode::SUCCESS).boxed();
    }
    // Ours and Mosquitto's, not the standard's: the other implementation has no such PUBACK.
    let is_extra = |reason: &ReasonCode| {
        matches!(kind, PacketKind::PubAck | PacketKind::PubRec) && *reason == ReasonCode::PACKET_TOO_LARGE
    };
    let allowed: Vec<_> =
        (0..=255).map(ReasonCode).filter(|reason| reason.is_allowed_in(kind) && !is_extra(reason)).collect();
    select(allowed).boxed()
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect> {
    let is_5 = version == ProtocolVersion::V5;
    let identity = (text(), any::<bool>(), any::<bool>(), any::<u16>());
    let login = (of(text()), of(binary()));
    (identity, login, of(will(is_5)), only_5(is_5, connect_properties())).prop_map(
        move |((client_id, clean_start, bridge, keep_alive), (username, password), will, properties)| {
            let client_id = if client_id.is_empty() && !is_5 { "id".to_owned() } else { client_id };
            let password = password.filter(|_| is_5 || username.is_some());
            let bridge = bridge && !is_5;
            Connect {
                version,
                bridge,
                client_id,
                clean_start,
                keep_alive,
                will,
                username,
                password,
                properties,
            }
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let numbers = (of(any::<u32>()), of(1..=u16::MAX), of(1..=u32::MAX), of(any::<u16>()));
    let flags = (of(any::<bool>()), of(any::<bool>()));
    (numbers, flags, users(), of((text(), of(binary())))).prop_map(
        |(numbers, flags, user_properties, auth)| ConnectProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: flags.0,
            request_problem_information: flags.1,
            user_properties,
            authentication_method: auth.clone().map(|it| it.0),
            authentication_data: auth.and_then(|it| it.1),
        },
    )
}

fn will(is_5: bool) -> impl Strategy<Value = Will> {
    (topic(), binary(), qos(), any::<bool>(), only_5(is_5, will_properties())).prop_map(
        |(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties },
    )
}

fn will_properties() -> impl Strategy<Value = WillProperties> {
    let message = (of(any::<bool>()), of(any::<u32>()), of(text()), of(topic()), of(binary()), users());
    (of(any::<u32>()), message).prop_map(|(will_delay_interval, message)| WillProperties {
        will_delay_interval,
        payload_format_indicator: message.0,
        message_expiry_interval: message.1,
        content_type: message.2,
        response_topic: message.3,
        correlation_data: message.4,
        user_properties: message.5,
        ..WillProperties::default()
    })
}

fn connack(version: ProtocolVersion) -> impl Strategy<Value = ConnAck> {
    let is_5 = version == ProtocolVersion::V5;
    let reason = if is_5 {
        reason_of(PacketKind::ConnAck, true)
    } else {
        (0..=5_u8).prop_map(|code| ReasonCode::from_connect_return_code(code).expect("0 to 5")).boxed()
    };
    (any::<bool>(), reason, only_5(is_5, connack_properties())).prop_map(move |(flag, reason, properties)| {
        ConnAck {
            session_present: flag && !reason.is_failure() && version != ProtocolVersion::V31,
            reason,
            properties,
        }
    })
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let numbers = (of(any::<u32>()), of(1..=u16::MAX), of(1..=u32::MAX), of(any::<u16>()), of(any::<u16>()));
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let low_qos = of(select(&[QoS::AtMostOnce, QoS::AtLeastOnce][..]));
    (numbers, flags, texts, low_qos, users(), of((text(), of(binary())))).prop_map(
        |(numbers, flags, texts, maximum_qos, user_properties, auth)| ConnAckProperties {
            session_expiry_interval: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos,
            retain_available: flags.0,
            maximum_packet_size: numbers.2,
            assigned_client_identifier: texts.0,
            topic_alias_maximum: numbers.3,
            reason_string: texts.1,
            user_properties,
            wildcard_subscription_available: flags.1,
            subscription_identifiers_available: flags.2,
            shared_subscription_available: flags.3,
            server_keep_alive: numbers.4,
            response_information: texts.2,
            server_reference: texts.3,
            authentication_method: auth.clone().map(|it| it.0),
            authentication_data: auth.and_then(|it| it.1),
        },
    )
}

pub(crate) fn publish(is_5: bool, receiver: Role) -> impl Strategy<Value = Publish> {
    let delivery = (qos(), packet_id()).prop_map(|(qos, id)| match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (flags, delivery, topic(), payload(), only_5(is_5, publish_properties(receiver).prop_map(Some))).prop_map(
        |((dup, retain, by_alias), delivery, topic, payload, properties)| {
            let properties = properties.filter(|it| *it != PublishProperties::default()).map(Box::new);
            let aliased = properties.as_ref().is_some_and(|it| it.topic_alias.is_some());
            Publish {
                dup: dup && delivery.qos() != QoS::AtMostOnce,
                retain,
                delivery,
                topic: (!(aliased && by_alias)).then_some(topic),
                payload,
                properties,
            }
        },
    )
}

pub(crate) fn publish_properties(receiver: Role) -> impl Strategy<Value = PublishProperties> {
    let ids = if receiver == Role::Client { 0..3 } else { 0..1 };
    let message = (of(any::<bool>()), of(any::<u32>()), of(text()), of(topic()), of(binary()), users());
    (message, of(any::<std::num::NonZeroU16>()), vec(1..=268_435_455_u32, ids)).prop_map(
        |(message, topic_alias, subscription_identifiers)| PublishProperties {
            payload_format_indicator: message.0,
            message_expiry_interval: message.1,
            topic_alias,
            response_topic: message.3,
            correlation_data: message.4,
            user_properties: message.5,
            subscription_identifiers,
            content_type: message.2,
            ..PublishProperties::default()
        },
    )
}

fn ack_properties() -> impl Strategy<Value = AckProperties> {
    (of(text()), users())
        .prop_map(|(reason_string, user_properties)| AckProperties { reason_string, user_properties })
}

fn ack(is_5: bool, kind: PacketKind) -> impl Strategy<Value = Ack> {
    (packet_id(), reason_of(kind, is_5), only_5(is_5, ack_properties())).prop_map(
        |(packet_id, reason, properties)| {
            let none = properties == AckProperties::default();
            Ack { packet_id, reason, properties: (!none).then(|| Box::new(properties)) }
        },
    )
}

fn subscribe(is_5: bool) -> impl Strategy<Value = Subscribe> {
    let handling = select(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][..]);
    let subscription = (filter(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(filter, qos, local, rap, handling)| {
            let options = SubscriptionOptions {
                qos,
                no_local: is_5 && local && filter.share().is_none(),
                retain_as_published: is_5 && rap,
                retain_handling: if is_5 { handling } else { RetainHandling::Send },
            };
            Subscription { filter, options }
        },
    );
    let properties =
        (of(1..=268_435_455_u32), users()).prop_map(|(subscription_identifier, user_properties)| {
            SubscribeProperties { subscription_identifier, user_properties }
        });
    (packet_id(), vec(subscription, 1..4), only_5(is_5, properties))
        .prop_map(|(packet_id, subscriptions, properties)| Subscribe { packet_id, subscriptions, properties })
}

fn suback(is_5: bool) -> impl Strategy<Value = SubAck> {
    let reason = if is_5 {
        reason_of(PacketKind::SubAck, true)
    } else {
        select(&[ReasonCode(0), ReasonCode(1), ReasonCode(2), ReasonCode(0x80)][..]).boxed()
    };
    (packet_id(), vec(reason, 1..5), only_5(is_5, ack_properties()))
        .prop_map(|(packet_id, reasons, properties)| SubAck { packet_id, reasons, properties })
}

fn unsubscribe(is_5: bool) -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), vec(filter(), 1..4), only_5(is_5, users()))
        .prop_map(|(packet_id, filters, user_properties)| Unsubscribe { packet_id, filters, user_properties })
}

fn unsuback(is_5: bool) -> impl Strategy<Value = UnsubAck> {
    let reasons = vec(reason_of(PacketKind::UnsubAck, true), 1..5);
    (packet_id(), only_5(is_5, reasons), only_5(is_5, ack_properties()))
        .prop_map(|(packet_id, reasons, properties)| UnsubAck { packet_id, reasons, properties })
}

fn disconnect(is_5: bool, receiver: Role) -> impl Strategy<Value = Disconnect> {
    let properties = (of(any::<u32>()), of(text()), users(), of(text())).prop_map(
        move |(expiry, reason, users, server)| DisconnectProperties {
            session_expiry_interval: expiry.filter(|_| receiver == Role::Server),
            reason_string: reason,
            user_properties: users,
            server_reference: server,
        },
    );
    (reason_of(PacketKind::Disconnect, is_5), only_5(is_5, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth(receiver: Role) -> impl Strategy<Value = Auth> {
    let other = if receiver == Role::Client { ReasonCode::SUCCESS } else { ReasonCode::REAUTHENTICATE };
    let reason = select(vec![other, ReasonCode::CONTINUE_AUTHENTICATION]);
    (reason, text(), of(binary()), of(text()), users()).prop_map(
        |(reason, method, data, reason_string, users)| Auth {
            reason,
            properties: AuthProperties {
                authentication_method: Some(method),
                authentication_data: data,
                reason_string,
                user_properties: users,
            },
        },
    )
}
