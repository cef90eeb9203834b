//! A listener's own terms for its clients, where they differ from those of the whole server: a mount point, a lower QoS,
//! other limits. Applied to packets at the connection's edge, between decoder and rules: the rules know no listeners.
//!
//! Permissions are asked with the mount point in front, as in Mosquitto. Response Topics stay as they are, there too.

use std::sync::Arc;

use quoll_mqtt::packet::{ConnAckProperties, Connect, Packet};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

/// Terms of one listener. The default changes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Versions that are let in (`accept_protocol_versions`).
    pub versions: Versions,
    /// The highest level (`max_qos`), if it is lower than that of the rules.
    pub max_qos: QoS,
    /// Topic aliases that a 5.0 client may make (`max_topic_alias`); `None`: as the rules say, and never more.
    pub max_topic_alias: Option<u16>,
    /// Topic aliases that are made towards a 5.0 client (`max_topic_alias_broker`); `None`: as the rules say, and never
    /// more.
    pub max_topic_alias_broker: Option<u16>,
    /// Bytes of the largest packet; `None`: as the rules say, and never more.
    pub max_packet_size: Option<u32>,
    /// What stands in front of all topics of its clients (`mount_point`).
    pub mount_point: Option<TopicName>,
    /// Whether clients without user name may come in (`listener_allow_anonymous`); a fact for the doorkeeper, who
    /// decides.
    pub allow_anonymous: Option<bool>,
    /// Whether the name that the doorkeeper gave takes the place of the client identifier (`use_username_as_clientid`);
    /// who has none is refused.
    pub username_as_client_id: bool,
    /// Empty client identifiers (`allow_zero_length_clientid`, `listener_auto_id_prefix`); `None`: as the rules say.
    pub empty_client_id: Option<EmptyClientId>,
}

/// What becomes of a CONNECT with an empty client identifier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EmptyClientId {
    /// It is refused.
    Refused,
    /// It gets an identifier that begins with this.
    Given(Arc<str>),
}

/// Versions of MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// 3.1.
    pub v31: bool,
    /// 3.1.1.
    pub v311: bool,
    /// 5.0.
    pub v5: bool,
}

impl Versions {
    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, version: ProtocolVersion) -> bool {
        match version {
            ProtocolVersion::V31 => self.v31,
            ProtocolVersion::V311 => self.v311,
            ProtocolVersion::V5 => self.v5,
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            versions: Versions { v31: true, v311: true, v5: true },
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: None,
            max_topic_alias_broker: None,
            max_packet_size: None,
            mount_point: None,
            allow_anonymous: None,
            username_as_client_id: false,
            empty_client_id: None,
        }
    }
}

impl Terms {
    /// Whether packets have to be looked at, so that a connection must remember them.
    pub(crate) const fn concern_packets(&self) -> bool {
        self.mount_point.is_some()
            || (self.max_qos as u8) < 2
            || self.max_topic_alias.is_some()
            || self.max_packet_size.is_some()
    }

    /// What no client may ask for here, whoever it is: looked at before it is asked who it is, as in Mosquitto.
    ///
    /// # Errors
    /// With the reason to refuse it for.
    pub(crate) fn acceptable(&self, connect: &Connect) -> Result<(), ReasonCode> {
        if !self.versions.has(connect.version) {
            return Err(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
        }
        if connect.will.as_ref().is_some_and(|will| will.qos > self.max_qos) {
            return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-12]
        }
        Ok(())
    }

    /// Changes a CONNECT into what the rules are to see.
    ///
    /// # Errors
    /// With the reason to refuse it for.
    pub(crate) fn apply_to_connect(&self, connect: &mut Connect) -> Result<(), ReasonCode> {
        if let Some(will) = &mut connect.will {
            self.mount(&mut will.topic)?;
        }
        if let Some(most) = self.max_topic_alias_broker {
            let asked = &mut connect.properties.topic_alias_maximum;
            *asked = asked.map(|asked| asked.min(most)).filter(|aliases| *aliases > 0);
        }
        Ok(())
    }

    /// Changes a packet of the client into what the rules are to see.
    ///
    /// # Errors
    /// With the reason to close the connection for.
    pub(crate) fn apply_to(&self, packet: &mut Packet) -> Result<(), ReasonCode> {
        match packet {
            Packet::Publish(publish) => {
                if publish.delivery.qos() > self.max_qos {
                    return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-11]
                }
                let alias = publish.properties.as_ref().and_then(|properties| properties.topic_alias);
                if let (Some(alias), Some(most)) = (alias, self.max_topic_alias)
                    && alias.get() > most
                {
                    return Err(ReasonCode::TOPIC_ALIAS_INVALID); // [MQTT-3.3.2-9]
                }
                publish.topic.as_mut().map_or(Ok(()), |topic| self.mount(topic))
            }
            Packet::Subscribe(subscribe) => subscribe.subscriptions.iter_mut().try_for_each(|wish| {
                wish.options.qos = wish.options.qos.min(self.max_qos);
                self.mount_filter(&mut wish.filter)
            }),
            Packet::Unsubscribe(unsubscribe) => {
                unsubscribe.filters.iter_mut().try_for_each(|filter| self.mount_filter(filter))
            }
            _ => Ok(()),
        }
    }

    /// What CONNACK tells a 5.0 client (§3.2.2.3), where it is less than the rules would say.
    pub(crate) fn apply_to_answer(&self, properties: &mut ConnAckProperties) {
        self.apply_to_refusal(properties);
        if let Some(most) = self.max_topic_alias {
            let told = properties.topic_alias_maximum.unwrap_or(0).min(most);
            properties.topic_alias_maximum = Some(told).filter(|aliases| *aliases > 0);
        }
        if let Some(most) = self.max_packet_size {
            properties.maximum_packet_size =
                Some(properties.maximum_packet_size.unwrap_or(u32::MAX).min(most));
        }
    }

    /// What a CONNACK tells a 5.0 client that is not let in: the highest level, which may be what it was refused for.
    pub(crate) fn apply_to_refusal(&self, properties: &mut ConnAckProperties) {
        if self.max_qos < QoS::ExactlyOnce {
            let told = properties.maximum_qos.get_or_insert(self.max_qos);
            *told = (*told).min(self.max_qos);
        }
    }

    fn mount(&self, topic: &mut TopicName) -> Result<(), ReasonCode> {
        if let Some(point) = &self.mount_point {
            let mounted = TopicName::parse(&format!("{}{}", point.as_str(), topic.as_str()));
            *topic = mounted.map_err(|_| ReasonCode::TOPIC_NAME_INVALID)?;
        }
        Ok(())
    }

    /// A shared subscription's filter is mounted, its group is not: groups of two listeners with the same name and filter
    /// are two.
    fn mount_filter(&self, filter: &mut TopicFilter) -> Result<(), ReasonCode> {
        if let Some(point) = &self.mount_point {
            let (text, plain) = (filter.as_str(), filter.unshared());
            let share = &text[..text.len() - plain.len()];
            let mounted = TopicFilter::parse(&format!("{share}{}{plain}", point.as_str()));
            *filter = mounted.map_err(|_| ReasonCode::TOPIC_FILTER_INVALID)?;
        }
        Ok(())
    }

    /// The topic as the client knows it; `None` for one that is not below the mount point, which `#` brings along for the
    /// level above (§4.7.1.2), and sessions that came by another listener.
    pub(crate) fn unmounted(&self, topic: &TopicName) -> Option<TopicName> {
        let Some(point) = &self.mount_point else { return Some(topic.clone()) };
        TopicName::parse(topic.as_str().strip_prefix(point.as_str())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use quoll_mqtt::packet::{Subscribe, SubscribeProperties, Subscription, SubscriptionOptions};
    use quoll_mqtt::{Delivery, PacketId};

    use super::*;

    fn mounted_at(point: &str) -> Terms {
        Terms { mount_point: Some(TopicName::parse(point).unwrap()), ..Terms::default() }
    }

    #[test]
    fn filters_get_the_mount_point_behind_the_group() {
        let terms = mounted_at("site/");
        for (filter, mounted) in [
            ("a/+/b", "site/a/+/b"),
            ("#", "site/#"),
            ("$share/g/a", "$share/g/site/a"),
            ("$SYS/x", "site/$SYS/x"),
        ] {
            let mut filter = TopicFilter::parse(filter).unwrap();
            terms.mount_filter(&mut filter).unwrap();
            assert_eq!(filter.as_str(), mounted);
        }
        let mut long = TopicFilter::parse(&"x".repeat(65_533)).unwrap();
        assert_eq!(terms.mount_filter(&mut long), Err(ReasonCode::TOPIC_FILTER_INVALID));
    }

    #[test]
    fn topics_lose_the_mount_point_and_those_beside_it_are_not_shown() {
        let terms = mounted_at("site/");
        let shown = |topic| terms.unmounted(&TopicName::parse(topic).unwrap());
        assert_eq!(shown("site/a").unwrap().as_str(), "a");
        for hidden in ["site", "site/", "other/a", "a"] {
            assert_eq!(shown(hidden), None, "{hidden}");
        }
    }

    #[test]
    fn a_lower_level_holds_for_what_comes_and_for_what_is_asked_for() {
        let terms = Terms { max_qos: QoS::AtLeastOnce, max_topic_alias: Some(2), ..Terms::default() };
        let id = PacketId::new(1).unwrap();
        let publish = |delivery, alias: Option<u16>| {
            let properties = alias.map(|alias| {
                let topic_alias = alias.try_into().ok();
                Box::new(quoll_mqtt::packet::PublishProperties { topic_alias, ..Default::default() })
            });
            let topic = Some(TopicName::parse("t").unwrap());
            let payload = bytes::Bytes::new();
            Packet::Publish(quoll_mqtt::packet::Publish {
                dup: false,
                retain: false,
                delivery,
                topic,
                payload,
                properties,
            })
        };
        for (mut packet, expected) in [
            (publish(Delivery::AtLeastOnce(id), Some(2)), Ok(())),
            (publish(Delivery::ExactlyOnce(id), None), Err(ReasonCode::QOS_NOT_SUPPORTED)),
            (publish(Delivery::AtMostOnce, Some(3)), Err(ReasonCode::TOPIC_ALIAS_INVALID)),
        ] {
            assert_eq!(terms.apply_to(&mut packet), expected);
        }
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        let mut subscribe = Packet::Subscribe(Box::new(Subscribe {
            packet_id: id,
            subscriptions: vec![Subscription { filter: TopicFilter::parse("t").unwrap(), options }],
            properties: SubscribeProperties::default(),
        }));
        terms.apply_to(&mut subscribe).unwrap();
        let Packet::Subscribe(subscribe) = subscribe else { unreachable!("it was one before") };
        assert_eq!(subscribe.subscriptions[0].options.qos, QoS::AtLeastOnce);
        let mut told = ConnAckProperties { topic_alias_maximum: Some(10), ..ConnAckProperties::default() };
        terms.apply_to_answer(&mut told);
        assert_eq!((told.maximum_qos, told.topic_alias_maximum), (Some(QoS::AtLeastOnce), Some(2)));
    }
}
