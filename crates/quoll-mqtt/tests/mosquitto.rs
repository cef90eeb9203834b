//! The client machine over a real socket with a real broker: Mosquitto, which must be installed.

#![allow(clippy::unwrap_used, reason = "what cannot be built fails the test")]

#[path = "support/free_port.rs"]
mod free_port;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use free_port::free_port;
use quoll_mqtt::client::{Client, ClientOptions, Event, Message};
use quoll_mqtt::packet::{SubscribeProperties, Subscription, SubscriptionOptions};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

const PATIENCE: Duration = Duration::from_secs(10);

/// A broker on a port of its own; ends with the test.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    fn start() -> Self {
        let port = free_port();
        let program = ["mosquitto", "/usr/sbin/mosquitto"]
            .into_iter()
            .find_map(|program| {
                Command::new(program).args(["-p", &port.to_string()]).stderr(Stdio::null()).spawn().ok()
            })
            .expect("mosquitto must be installed for this test");
        Self { process: program, port }
    }

    fn dial(&self) -> TcpStream {
        let end = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(stream) => return stream,
                Err(error) if Instant::now() > end => panic!("mosquitto does not listen: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The machine with a socket.
struct Wire {
    client: Client,
    stream: TcpStream,
    out: Vec<u8>,
    events: Vec<Event>,
}

impl Wire {
    fn connect(broker: &Broker, options: ClientOptions) -> Self {
        let stream = broker.dial();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut wire = Self { client: Client::new(options), stream, out: Vec::new(), events: Vec::new() };
        wire.client.connect(Instant::now(), &mut wire.out).unwrap();
        wire.until(|event| matches!(event, Event::Connected { .. }));
        wire
    }

    /// Reads until this has happened, and returns it.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            if let Some(index) = self.events.iter().position(&wanted) {
                return self.events.remove(index);
            }
            assert!(Instant::now() < end, "it did not happen; this did: {:?}", self.events);
            self.stream.write_all(&self.out).unwrap();
            self.out.clear();
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("mosquitto closed the connection: {:?}", self.events),
                Ok(length) => {
                    let bytes = &buffer[..length];
                    self.client.receive(bytes, Instant::now(), &mut self.events, &mut self.out).unwrap();
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn mosquitto_understands_us_and_we_it_in_every_version_and_level() {
    let broker = Broker::start();
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut wire =
            Wire::connect(&broker, ClientOptions::new(version, format!("quoll-{}", version as u8)));
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
        let filter = TopicFilter::parse(&format!("test/{}/#", version as u8)).unwrap();
        let wanted = vec![Subscription { filter: filter.clone(), options }];
        let properties = SubscribeProperties {
            subscription_identifier: Some(300),
            user_properties: vec![("who".into(), "quoll".into())],
        };
        wire.client.subscribe(wanted, properties, Instant::now(), &mut wire.out).unwrap();
        let event = wire.until(|event| matches!(event, Event::Subscribed { .. }));
        assert!(
            matches!(&event, Event::Subscribed { reasons, .. } if *reasons == [ReasonCode::GRANTED_QOS_2])
        );
        for (index, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            round_trip(&mut wire, version, qos, 10_usize.pow(index as u32 + 1));
        }
        wire.client.unsubscribe(vec![filter], Instant::now(), &mut wire.out).unwrap();
        wire.until(|event| matches!(event, Event::Unsubscribed { .. }));
        wire.client.ping(Instant::now(), &mut wire.out);
        wire.until(|event| *event == Event::Alive);
        wire.client.disconnect(ReasonCode::SUCCESS, &mut wire.out);
        wire.stream.write_all(&wire.out).unwrap();
    }
}

/// A message goes out and comes back as it was.
fn round_trip(wire: &mut Wire, version: ProtocolVersion, qos: QoS, size: usize) {
    let topic = TopicName::parse(&format!("test/{}/Küche", version as u8)).unwrap();
    let mut message = Message { qos, ..Message::new(topic, vec![0xA5; size]) };
    let properties = quoll_mqtt::packet::PublishProperties {
        content_type: Some("test".into()),
        correlation_data: Some((&b"\0\xFF"[..]).into()),
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        payload_format_indicator: Some(false),
        response_topic: Some(TopicName::parse("answer/here").unwrap()),
        message_expiry_interval: Some(3_600),
        ..Default::default()
    };
    message.properties = Some(Box::new(properties.clone()));
    let id = wire.client.publish(&message, Instant::now(), &mut wire.out).unwrap();
    if let Some(id) = id {
        let done = wire.until(|event| matches!(event, Event::Published { id: its, .. } if *its == id));
        assert!(matches!(done, Event::Published { reason, .. } if !reason.is_failure()), "{done:?}");
    }
    let Event::Message(found) = wire.until(|event| matches!(event, Event::Message(_))) else {
        unreachable!("until returns what was asked for")
    };
    assert_eq!((found.topic, found.payload), (Some(message.topic), message.payload));
    assert_eq!(found.delivery.qos(), qos);
    if version == ProtocolVersion::V5 {
        let mut found = *found.properties.unwrap();
        assert_eq!(std::mem::take(&mut found.subscription_identifiers), [300]);
        found.message_expiry_interval = Some(3_600); // what is left of it
        assert_eq!(found, properties);
    } else {
        assert_eq!(found.properties, None);
    }
}
