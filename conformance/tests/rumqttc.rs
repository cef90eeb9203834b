//! The life of a client that others wrote: rumqttc, in 3.1.1 and 5.0, connects, publishes and hears at each level, keeps and
//! clears a retained message, leaves a will, and takes its session up again.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use conformance::client::unique_id;
use conformance::prelude::unique_topic;

/// Nothing that is expected takes this long.
const LONG: Duration = Duration::from_secs(30);

/// Topic, payload, level, RETAIN.
type Heard = (String, String, u8, bool);

/// The same life in each version: the modules of rumqttc have the same names and no common trait.
macro_rules! lives {
    () => {
        struct Peer {
            client: Client,
            connection: Connection,
            resumed: bool,
        }

        impl Peer {
            fn connect(options: MqttOptions) -> Self {
                let (client, connection) = Client::new(options, 32);
                let mut peer = Self { client, connection, resumed: false };
                peer.resumed = peer.until(|event| match event {
                    Event::Incoming(Packet::ConnAck(answer)) => Some(answer.session_present),
                    _ => None,
                });
                peer
            }

            fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
                let end = Instant::now() + LONG;
                loop {
                    let left = end.saturating_duration_since(Instant::now());
                    let event =
                        self.connection.recv_timeout(left).expect("an event in time").expect("a connection");
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
            }

            fn subscribe(&mut self, topic: &str, qos: QoS) {
                self.client.subscribe(topic, qos).expect("room for a request");
                self.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(()));
            }

            fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
                self.client.publish(topic, qos, retain, payload.to_owned()).expect("room for a request");
            }

            /// Waits for the end of a handshake.
            fn acknowledged(&mut self, qos: QoS) {
                self.until(|event| match (qos, event) {
                    (QoS::AtLeastOnce, Event::Incoming(Packet::PubAck(_))) => Some(()),
                    (QoS::ExactlyOnce, Event::Incoming(Packet::PubComp(_))) => Some(()),
                    _ => None,
                });
            }

            fn hear(&mut self) -> Heard {
                self.until(|event| match event {
                    Event::Incoming(Packet::Publish(it)) => {
                        let payload = String::from_utf8_lossy(&it.payload).into_owned();
                        Some((text(&it.topic), payload, it.qos as u8, it.retain))
                    }
                    _ => None,
                })
            }

            fn leave(mut self) {
                self.client.disconnect().expect("room for a request");
                // Until the broker has let go.
                while self.connection.recv_timeout(LONG).is_ok_and(|event| event.is_ok()) {}
            }
        }

        const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

        #[test]
        fn each_level_arrives_as_it_was_sent() {
            let topic = unique_topic();
            let mut peer = Peer::connect(options());
            peer.subscribe(&topic, QoS::ExactlyOnce);
            for qos in LEVELS {
                let payload = "x".repeat(5000);
                peer.publish(&topic, qos, false, &payload);
                assert_eq!(peer.hear(), (topic.clone(), payload, qos as u8, false));
            }
            peer.leave();
        }

        #[test]
        fn a_retained_message_waits_until_it_is_cleared() {
            let topic = unique_topic();
            let mut peer = Peer::connect(options());
            peer.publish(&topic, QoS::AtLeastOnce, true, "kept");
            peer.acknowledged(QoS::AtLeastOnce);
            let mut late = Peer::connect(options());
            late.subscribe(&topic, QoS::AtLeastOnce);
            assert_eq!(late.hear(), (topic.clone(), "kept".into(), 1, true));
            peer.publish(&topic, QoS::AtLeastOnce, true, "");
            peer.acknowledged(QoS::AtLeastOnce);
            assert_eq!(late.hear(), (topic.clone(), String::new(), 1, false));
            let mut later = Peer::connect(options());
            later.subscribe(&topic, QoS::AtLeastOnce);
            peer.publish(&topic, QoS::AtLeastOnce, false, "live");
            peer.acknowledged(QoS::AtLeastOnce);
            assert_eq!(later.hear(), (topic, "live".into(), 1, false), "nothing was kept");
        }

        #[test]
        fn who_vanishes_leaves_a_will_and_who_leaves_does_not() {
            let topic = unique_topic();
            let mut heir = Peer::connect(options());
            heir.subscribe(&topic, QoS::AtLeastOnce);
            for (payload, vanishes) in [("left", false), ("vanished", true)] {
                let mut options = options();
                options.set_last_will(will(&topic, payload));
                let peer = Peer::connect(options);
                if vanishes { drop(peer) } else { peer.leave() }
            }
            assert_eq!(heir.hear(), (topic, "vanished".into(), 1, false));
        }

        #[test]
        fn a_session_is_taken_up_with_all_that_waited() {
            let topic = unique_topic();
            let id = unique_id();
            let mut away = Peer::connect(lasting(&id));
            assert!(!away.resumed);
            away.subscribe(&topic, QoS::ExactlyOnce);
            away.leave();
            let mut peer = Peer::connect(options());
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                peer.publish(&topic, qos, false, "waited");
                peer.acknowledged(qos);
            }
            let mut back = Peer::connect(lasting(&id));
            assert!(back.resumed);
            for qos in [1, 2] {
                assert_eq!(back.hear(), (topic.clone(), "waited".into(), qos, false));
            }
            back.leave();
        }
    };
}

mod mqtt311 {
    use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Packet, QoS};

    use super::*;

    fn named(id: &str) -> MqttOptions {
        let address = conformance::subject::address();
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(60));
        options
    }

    fn options() -> MqttOptions {
        named(&unique_id())
    }

    fn lasting(id: &str) -> MqttOptions {
        let mut options = named(id);
        options.set_clean_session(false);
        options
    }

    fn will(topic: &str, payload: &str) -> LastWill {
        LastWill::new(topic, payload, QoS::AtLeastOnce, false)
    }

    fn text(topic: &str) -> String {
        topic.to_owned()
    }

    lives!();
}

mod mqtt5 {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, Packet};
    use rumqttc::v5::{Client, Connection, Event, MqttOptions};

    use super::*;

    fn named(id: &str) -> MqttOptions {
        let address = conformance::subject::address();
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(60));
        options
    }

    fn options() -> MqttOptions {
        named(&unique_id())
    }

    fn lasting(id: &str) -> MqttOptions {
        let mut options = named(id);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(600));
        options
    }

    fn will(topic: &str, payload: &str) -> LastWill {
        LastWill::new(topic, payload, QoS::AtLeastOnce, false, None)
    }

    fn text(topic: &[u8]) -> String {
        String::from_utf8_lossy(topic).into_owned()
    }

    lives!();
}
