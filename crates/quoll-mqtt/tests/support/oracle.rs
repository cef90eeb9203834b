//! The same packets built by a second implementation, mqtt-protocol-core: its bytes are what ours are held against.
//!
//! It knows 3.1.1 and 5.0. What it refuses to build that the standard allows is left out (`None`), case by case with
//! the reason.

#![allow(clippy::unwrap_used, reason = "what the other implementation refuses fails the test")]

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, AuthenticationData, AuthenticationMethod, ContentType, CorrelationData,
    MaximumPacketSize, MaximumQos, MessageExpiryInterval, PayloadFormat, PayloadFormatIndicator, Properties,
    Property, Qos, ReasonString, ReceiveMaximum, RequestProblemInformation, RequestResponseInformation,
    ResponseInformation, ResponseTopic, RetainAvailable, RetainHandling, ServerKeepAlive, ServerReference,
    SessionExpiryInterval, SharedSubscriptionAvailable, SubEntry, SubOpts, SubscriptionIdentifier,
    SubscriptionIdentifierAvailable, TopicAlias, TopicAliasMaximum, UserProperty,
    WildcardSubscriptionAvailable, WillDelayInterval, v3_1_1, v5_0,
};
use quoll_mqtt::packet::{
    AckProperties, Auth, ConnAckProperties, Connect, ConnectProperties, Disconnect, DisconnectProperties,
    Publish, PublishProperties, Subscribe, Subscription, WillProperties,
};
use quoll_mqtt::{Packet, QoS, ReasonCode};

macro_rules! ack {
    ($packet:ident, $ack:ident) => {{
        let mut builder = v5_0::$packet::builder().packet_id($ack.packet_id.get());
        if $ack.reason != ReasonCode::SUCCESS || $ack.properties.is_some() {
            builder = builder.reason_code(code($ack.reason));
        }
        if let Some(properties) = &$ack.properties {
            builder = builder.props(ack_properties(properties));
        }
        builder.build().unwrap().to_continuous_buffer()
    }};
}

macro_rules! ack_311 {
    ($packet:ident, $ack:ident) => {
        v3_1_1::$packet::builder().packet_id($ack.packet_id.get()).build().unwrap().to_continuous_buffer()
    };
}

/// Adds a property where there is a value.
macro_rules! push {
    ($properties:ident, $value:expr, $property:ident) => {
        if let Some(value) = $value {
            $properties.push(Property::$property($property::new(value).unwrap()));
        }
    };
}

/// The bytes of `packet` in 5.0, as the second implementation writes them.
pub(crate) fn bytes_5(packet: &Packet) -> Vec<u8> {
    match packet {
        Packet::Connect(it) => connect_5(it),
        Packet::ConnAck(it) => v5_0::Connack::builder()
            .session_present(it.session_present)
            .reason_code(code(it.reason))
            .props(connack_properties(&it.properties))
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::Publish(it) => publish_5(it),
        Packet::PubAck(it) => ack!(Puback, it),
        Packet::PubRec(it) => ack!(Pubrec, it),
        Packet::PubRel(it) => ack!(Pubrel, it),
        Packet::PubComp(it) => ack!(Pubcomp, it),
        Packet::Subscribe(it) => {
            let mut properties = Properties::new();
            if let Some(id) = it.properties.subscription_identifier {
                properties.push(Property::SubscriptionIdentifier(SubscriptionIdentifier::new(id).unwrap()));
            }
            users(&it.properties.user_properties, &mut properties);
            v5_0::Subscribe::builder()
                .packet_id(it.packet_id.get())
                .entries(entries(it))
                .props(properties)
                .build()
                .unwrap()
                .to_continuous_buffer()
        }
        Packet::SubAck(it) => v5_0::Suback::builder()
            .packet_id(it.packet_id.get())
            .reason_codes(it.reasons.iter().copied().map(code).collect())
            .props(ack_properties(&it.properties))
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::Unsubscribe(it) => {
            let mut properties = Properties::new();
            users(&it.user_properties, &mut properties);
            v5_0::Unsubscribe::builder()
                .packet_id(it.packet_id.get())
                .entries(it.filters.iter().map(|filter| filter.as_str()))
                .unwrap()
                .props(properties)
                .build()
                .unwrap()
                .to_continuous_buffer()
        }
        Packet::UnsubAck(it) => v5_0::Unsuback::builder()
            .packet_id(it.packet_id.get())
            .reason_codes(it.reasons.iter().copied().map(code).collect())
            .props(ack_properties(&it.properties))
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::PingReq => v5_0::Pingreq::builder().build().unwrap().to_continuous_buffer(),
        Packet::PingResp => v5_0::Pingresp::builder().build().unwrap().to_continuous_buffer(),
        Packet::Disconnect(it) => disconnect_5(it),
        Packet::Auth(it) => auth_5(it),
    }
}

/// The bytes of `packet` in 3.1.1.
pub(crate) fn bytes_311(packet: &Packet) -> Vec<u8> {
    match packet {
        Packet::Connect(it) => connect_311(it),
        Packet::ConnAck(it) => v3_1_1::Connack::builder()
            .session_present(it.session_present)
            .return_code(it.reason.connect_return_code().try_into().unwrap())
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::Publish(it) => {
            let mut builder = v3_1_1::Publish::builder()
                .dup(it.dup)
                .retain(it.retain)
                .qos(qos(it.delivery.qos()))
                .topic_name(it.topic.as_ref().unwrap().as_str())
                .unwrap()
                .payload(it.payload.to_vec());
            if let Some(id) = it.delivery.packet_id() {
                builder = builder.packet_id(id.get());
            }
            builder.build().unwrap().to_continuous_buffer()
        }
        Packet::PubAck(it) => ack_311!(Puback, it),
        Packet::PubRec(it) => ack_311!(Pubrec, it),
        Packet::PubRel(it) => ack_311!(Pubrel, it),
        Packet::PubComp(it) => ack_311!(Pubcomp, it),
        Packet::Subscribe(it) => v3_1_1::Subscribe::builder()
            .packet_id(it.packet_id.get())
            .entries(entries(it))
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::SubAck(it) => v3_1_1::Suback::builder()
            .packet_id(it.packet_id.get())
            .return_codes(it.reasons.iter().map(|reason| reason.0.try_into().unwrap()).collect())
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::Unsubscribe(it) => v3_1_1::Unsubscribe::builder()
            .packet_id(it.packet_id.get())
            .entries(it.filters.iter().map(|filter| filter.as_str()))
            .unwrap()
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Packet::UnsubAck(it) => ack_311!(Unsuback, it),
        Packet::PingReq => v3_1_1::Pingreq::builder().build().unwrap().to_continuous_buffer(),
        Packet::PingResp => v3_1_1::Pingresp::builder().build().unwrap().to_continuous_buffer(),
        Packet::Disconnect(_) => v3_1_1::Disconnect::builder().build().unwrap().to_continuous_buffer(),
        Packet::Auth(_) => panic!("3.1.1 has no AUTH"),
    }
}

/// What the second implementation reads from a frame and writes again; `None` where it refuses the frame.
pub(crate) fn read_and_write(frame: &[u8], is_5: bool) -> Option<Vec<u8>> {
    let header = 2 + frame[1..].iter().position(|byte| byte & 0x80 == 0)?;
    let body = frame.get(header..)?;
    macro_rules! again {
        ($packet:ident) => {
            if is_5 {
                v5_0::$packet::parse(body).ok().map(|(packet, _)| packet.to_continuous_buffer())
            } else {
                v3_1_1::$packet::parse(body).ok().map(|(packet, _)| packet.to_continuous_buffer())
            }
        };
    }
    match frame[0] >> 4 {
        1 => again!(Connect),
        2 => again!(Connack),
        3 if is_5 => v5_0::Publish::parse(frame[0] & 15, body.into())
            .ok()
            .map(|(packet, _)| packet.to_continuous_buffer()),
        3 => v3_1_1::Publish::parse(frame[0] & 15, body.into())
            .ok()
            .map(|(packet, _)| packet.to_continuous_buffer()),
        4 => again!(Puback),
        5 => again!(Pubrec),
        6 => again!(Pubrel),
        7 => again!(Pubcomp),
        8 => again!(Subscribe),
        9 => again!(Suback),
        10 => again!(Unsubscribe),
        11 => again!(Unsuback),
        12 => again!(Pingreq),
        13 => again!(Pingresp),
        14 => again!(Disconnect),
        15 if is_5 => v5_0::Auth::parse(body).ok().map(|(packet, _)| packet.to_continuous_buffer()),
        _ => None,
    }
}

fn code<T: TryFrom<u8>>(reason: ReasonCode) -> T {
    T::try_from(reason.0).ok().expect("a reason code of this packet")
}

fn qos(qos: QoS) -> Qos {
    (qos as u8).try_into().unwrap()
}

fn connect_5(it: &Connect) -> Vec<u8> {
    let mut builder = v5_0::Connect::builder()
        .client_id(it.client_id.as_str())
        .unwrap()
        .clean_start(it.clean_start)
        .keep_alive(it.keep_alive)
        .props(connect_properties(&it.properties));
    if let Some(will) = &it.will {
        builder = builder
            .will_message(will.topic.as_str(), will.payload.to_vec(), qos(will.qos), will.retain)
            .unwrap()
            .will_props(will_properties(&will.properties));
    }
    if let Some(username) = &it.username {
        builder = builder.user_name(username.as_str()).unwrap();
    }
    if let Some(password) = &it.password {
        builder = builder.password(password.to_vec()).unwrap();
    }
    builder.build().unwrap().to_continuous_buffer()
}

fn connect_311(it: &Connect) -> Vec<u8> {
    let mut builder = v3_1_1::Connect::builder()
        .client_id(it.client_id.as_str())
        .unwrap()
        .clean_session(it.clean_start)
        .keep_alive(it.keep_alive);
    if let Some(will) = &it.will {
        builder = builder
            .will_message(will.topic.as_str(), will.payload.to_vec(), qos(will.qos), will.retain)
            .unwrap();
    }
    if let Some(username) = &it.username {
        builder = builder.user_name(username.as_str()).unwrap();
    }
    if let Some(password) = &it.password {
        builder = builder.password(password.to_vec()).unwrap();
    }
    builder.build().unwrap().to_continuous_buffer()
}

fn publish_5(it: &Publish) -> Vec<u8> {
    let mut builder = v5_0::Publish::builder()
        .dup(it.dup)
        .retain(it.retain)
        .qos(qos(it.delivery.qos()))
        .payload(it.payload.to_vec());
    if let Some(topic) = &it.topic {
        builder = builder.topic_name(topic.as_str()).unwrap();
    }
    if let Some(id) = it.delivery.packet_id() {
        builder = builder.packet_id(id.get());
    }
    if let Some(properties) = &it.properties {
        builder = builder.props(publish_properties(properties));
    }
    builder.build().unwrap().to_continuous_buffer()
}

fn disconnect_5(it: &Disconnect) -> Vec<u8> {
    let mut builder = v5_0::Disconnect::builder();
    if *it == Disconnect::new(ReasonCode::SUCCESS) {
        return builder.build().unwrap().to_continuous_buffer();
    }
    builder = builder.reason_code(code(it.reason));
    if it.properties != DisconnectProperties::default() {
        let mut properties = Properties::new();
        push!(properties, it.properties.session_expiry_interval, SessionExpiryInterval);
        push!(properties, it.properties.reason_string.as_deref(), ReasonString);
        users(&it.properties.user_properties, &mut properties);
        push!(properties, it.properties.server_reference.as_deref(), ServerReference);
        builder = builder.props(properties);
    }
    builder.build().unwrap().to_continuous_buffer()
}

fn auth_5(it: &Auth) -> Vec<u8> {
    let mut properties = Properties::new();
    push!(properties, it.properties.authentication_method.as_deref(), AuthenticationMethod);
    push!(properties, it.properties.authentication_data.as_ref().map(|it| it.to_vec()), AuthenticationData);
    push!(properties, it.properties.reason_string.as_deref(), ReasonString);
    users(&it.properties.user_properties, &mut properties);
    v5_0::Auth::builder()
        .reason_code(code(it.reason))
        .props(properties)
        .build()
        .unwrap()
        .to_continuous_buffer()
}

fn entries(it: &Subscribe) -> Vec<SubEntry> {
    let entry = |subscription: &Subscription| {
        let options = subscription.options;
        let handling = RetainHandling::try_from(options.retain_handling as u8).unwrap();
        let options = SubOpts::new()
            .set_qos(qos(options.qos))
            .set_nl(options.no_local)
            .set_rap(options.retain_as_published)
            .set_rh(handling);
        SubEntry::new(subscription.filter.as_str(), options).unwrap()
    };
    it.subscriptions.iter().map(entry).collect()
}

fn users(pairs: &[quoll_mqtt::packet::UserProperty], properties: &mut Properties) {
    for (name, value) in pairs {
        properties.push(Property::UserProperty(UserProperty::new(name.as_str(), value.as_str()).unwrap()));
    }
}

fn connect_properties(it: &ConnectProperties) -> Properties {
    let mut to = Properties::new();
    push!(to, it.session_expiry_interval, SessionExpiryInterval);
    push!(to, it.receive_maximum, ReceiveMaximum);
    push!(to, it.maximum_packet_size, MaximumPacketSize);
    push!(to, it.topic_alias_maximum, TopicAliasMaximum);
    push!(to, it.request_response_information.map(u8::from), RequestResponseInformation);
    push!(to, it.request_problem_information.map(u8::from), RequestProblemInformation);
    users(&it.user_properties, &mut to);
    push!(to, it.authentication_method.as_deref(), AuthenticationMethod);
    push!(to, it.authentication_data.as_ref().map(|it| it.to_vec()), AuthenticationData);
    to
}

fn will_properties(it: &WillProperties) -> Properties {
    let mut to = Properties::new();
    push!(to, it.will_delay_interval, WillDelayInterval);
    push!(to, it.payload_format_indicator.map(format), PayloadFormatIndicator);
    push!(to, it.message_expiry_interval, MessageExpiryInterval);
    push!(to, it.content_type.as_deref(), ContentType);
    push!(to, it.response_topic.as_ref().map(|topic| topic.as_str()), ResponseTopic);
    push!(to, it.correlation_data.as_ref().map(|it| it.to_vec()), CorrelationData);
    users(&it.user_properties, &mut to);
    to
}

fn publish_properties(it: &PublishProperties) -> Properties {
    let mut to = Properties::new();
    for &id in &it.subscription_identifiers {
        to.push(Property::SubscriptionIdentifier(SubscriptionIdentifier::new(id).unwrap()));
    }
    push!(to, it.payload_format_indicator.map(format), PayloadFormatIndicator);
    push!(to, it.content_type.as_deref(), ContentType);
    push!(to, it.response_topic.as_ref().map(|topic| topic.as_str()), ResponseTopic);
    push!(to, it.correlation_data.as_ref().map(|it| it.to_vec()), CorrelationData);
    users(&it.user_properties, &mut to);
    push!(to, it.message_expiry_interval, MessageExpiryInterval);
    push!(to, it.topic_alias.map(|alias| alias.get()), TopicAlias);
    to
}

fn connack_properties(it: &ConnAckProperties) -> Properties {
    let mut to = Properties::new();
    push!(to, it.topic_alias_maximum, TopicAliasMaximum);
    push!(to, it.server_keep_alive, ServerKeepAlive);
    push!(to, it.assigned_client_identifier.as_deref(), AssignedClientIdentifier);
    push!(to, it.authentication_method.as_deref(), AuthenticationMethod);
    push!(to, it.authentication_data.as_ref().map(|it| it.to_vec()), AuthenticationData);
    push!(to, it.retain_available.map(u8::from), RetainAvailable);
    push!(to, it.maximum_packet_size, MaximumPacketSize);
    push!(to, it.receive_maximum, ReceiveMaximum);
    push!(to, it.maximum_qos.map(|qos| qos as u8), MaximumQos);
    push!(to, it.session_expiry_interval, SessionExpiryInterval);
    push!(to, it.wildcard_subscription_available.map(u8::from), WildcardSubscriptionAvailable);
    push!(to, it.subscription_identifiers_available.map(u8::from), SubscriptionIdentifierAvailable);
    push!(to, it.shared_subscription_available.map(u8::from), SharedSubscriptionAvailable);
    push!(to, it.response_information.as_deref(), ResponseInformation);
    push!(to, it.server_reference.as_deref(), ServerReference);
    push!(to, it.reason_string.as_deref(), ReasonString);
    users(&it.user_properties, &mut to);
    to
}

fn ack_properties(it: &AckProperties) -> Properties {
    let mut to = Properties::new();
    push!(to, it.reason_string.as_deref(), ReasonString);
    users(&it.user_properties, &mut to);
    to
}

fn format(is_text: bool) -> PayloadFormat {
    if is_text { PayloadFormat::String } else { PayloadFormat::Binary }
}
