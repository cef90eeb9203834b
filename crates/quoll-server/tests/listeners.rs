//! Listeners of all kinds and with their own terms: UNIX sockets, PROXY headers, mount points, limits, reloads.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use quoll_broker::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_mqtt::packet::{Connect, Packet, Publish, Will, WillProperties};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicName};
use quoll_server::tls::{ClientAuth, LiveIdentity};
use quoll_server::*;

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// Adds a plain listener with these terms; its address is that of [`address`].
fn with_terms(name: &'static str, terms: Terms) -> impl FnOnce(&mut Settings) {
    move |settings| {
        let listener = Listener::new(name, loopback(), Transport::Tcp);
        settings.listeners.push(Listener { terms, ..listener });
    }
}

fn address(server: &Server, name: &str) -> SocketAddr {
    server.handle.addresses().iter().find(|it| it.0 == name).unwrap().1
}

fn mounted_at(point: &str) -> Terms {
    Terms { mount_point: Some(TopicName::parse(point).unwrap()), ..Terms::default() }
}

fn answer(server: &Server, name: &str, connect: Connect) -> quoll_mqtt::packet::ConnAck {
    let mut peer = Peer::over(dial(address(server, name)), connect.version);
    peer.send(&Packet::Connect(Box::new(connect)));
    match peer.receive() {
        Some(Packet::ConnAck(answer)) => *answer,
        other => panic!("no CONNACK but {other:?}"),
    }
}

// --- UNIX sockets ----------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_by_a_unix_socket_and_its_file_goes_with_the_server() {
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let place = Place::Unix(path.clone());
    let server =
        serve(|settings| settings.listeners.push(Listener::new("unix", place, Transport::Tcp))).await;
    let mut local = Peer::connect(UnixStream::connect(&path).unwrap(), "local", ProtocolVersion::V5);
    local.subscribe("t", QoS::AtMostOnce);
    let mut remote = Peer::plain(&server, "remote");
    remote.send(&publish("t", vec![1; 100_000], Delivery::AtMostOnce));
    assert_eq!(local.receive_publish().payload.len(), 100_000);
    let path_text = path.to_str().unwrap();
    run_well("mosquitto_pub", &["--unix", path_text, "-t", "t", "-m", "from mosquitto"]);
    assert_eq!(local.receive_publish().payload, "from mosquitto");
    let connections = server.handle.snapshot().await.connections;
    let who = connections.iter().find(|it| &*it.client_id == "local").unwrap();
    assert_eq!((&*who.listener, who.peer.port()), ("unix", 0));
    server.handle.stop(LONG).await;
    assert!(matches!(local.receive(), Some(Packet::Disconnect(_))));
    assert!(local.receive().is_none());
    eventually("the file is gone", async || !path.exists()).await;
}

// --- PROXY -----------------------------------------------------------------------------------------------------------

/// Version 2 of this client, with TLS facts where a name is given.
fn proxy_v2(ip: [u8; 4], common_name: Option<&str>) -> Vec<u8> {
    let mut body = ip.to_vec();
    body.extend([127, 0, 0, 1, 0xAB, 0xCD, 0x07, 0x5B]);
    if let Some(name) = common_name {
        let mut tls = vec![0b011, 0, 0, 0, 0, 0x22, 0, name.len() as u8];
        tls.extend(name.as_bytes());
        body.extend([0x20, 0, tls.len() as u8]);
        body.extend(tls);
    }
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

/// Notes what it is asked, and lets everybody in.
#[derive(Default)]
struct Notebook(Mutex<Vec<(SocketAddr, Option<Proxied>)>>);

#[async_trait::async_trait]
impl Doorkeeper for Notebook {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.0.lock().unwrap().push((facts.peer, facts.proxied.cloned()));
        let identity = Identity { name: "".into(), credential: None };
        Verdict::Admit(Admission { identity, grants: Arc::new(Grants::all()), client_id: None })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_tells_where_clients_come_from_and_who_they_are() {
    let notebook = Arc::new(Notebook::default());
    let listener =
        |name, proxy| Listener { proxy: Some(proxy), ..Listener::new(name, loopback(), Transport::Tcp) };
    let live = LiveIdentity::new(pki().identity(ClientAuth::None, &[]));
    let behind = Listener::new("tls", loopback(), Transport::Tls(live));
    let settings = Settings::new(vec![
        listener("v1", ProxyProtocol::V1),
        listener("v2", ProxyProtocol::V2 { require_tls: true }),
        Listener { proxy: Some(ProxyProtocol::V1), ..behind },
    ]);
    let door = Arc::clone(&notebook);
    let handle = start(settings, door, Box::new(MemoryJournal::default())).await.unwrap();
    let addresses = handle.addresses();
    let last = || notebook.0.lock().unwrap().last().cloned().unwrap();
    let mut first = dial(addresses[0].1);
    first.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1883\r\n").unwrap();
    Peer::connect(first, "first", ProtocolVersion::V5).ping();
    assert_eq!(last().0, "192.0.2.7:4242".parse().unwrap());
    let mut second = dial(addresses[1].1);
    // Header and CONNECT in one piece, and the header in two.
    let header = proxy_v2([198, 51, 100, 9], Some("lamp"));
    second.write_all(&header[..9]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let connect = Packet::Connect(Box::new(connect_packet("second", ProtocolVersion::V5)));
    second.write_all(&[&header[9..], &bytes_of(&connect, ProtocolVersion::V5)].concat()).unwrap();
    let mut second = Peer::over(second, ProtocolVersion::V5);
    assert!(matches!(second.receive(), Some(Packet::ConnAck(_))));
    let (peer, proxied) = last();
    assert_eq!(peer, "198.51.100.9:43981".parse().unwrap());
    assert_eq!(proxied.unwrap().tls.unwrap().proven_name(), Some("lamp"));
    // TLS behind the header.
    let mut socket = dial(addresses[2].1);
    socket.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    let config = Arc::new(pki().client_config(None, &rustls::version::TLS13));
    let connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let stream = rustls::StreamOwned::new(connection, socket);
    Peer::connect(stream, "third", ProtocolVersion::V5).ping();
    assert!(last().0.ip().is_loopback());
    // Who is no balancer hears nothing, and is not asked about.
    let asked = notebook.0.lock().unwrap().len();
    let connect = bytes_of(&connect, ProtocolVersion::V5);
    for (place, bytes) in [
        (0, connect.clone()),
        (1, connect),
        (0, proxy_v2([198, 51, 100, 9], Some("lamp"))),
        (1, proxy_v2([198, 51, 100, 9], None)),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1883\r\n".to_vec()),
    ] {
        let mut socket = dial(addresses[place].1);
        socket.write_all(&bytes).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert_eq!(notebook.0.lock().unwrap().len(), asked);
    handle.stop(LONG).await;
}

// --- terms -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_point_stands_before_all_topics_and_clients_do_not_see_it() {
    let server = serve(with_terms("mounted", mounted_at("site/"))).await;
    let dial_mounted = || dial(address(&server, "mounted"));
    let mut outside = Peer::plain(&server, "outside");
    outside.subscribe("#", QoS::AtLeastOnce);
    let mut inside = Peer::connect(dial_mounted(), "inside", ProtocolVersion::V5);
    inside.subscribe("t/+", QoS::AtLeastOnce);
    inside.send(&publish("t/1", "a", Delivery::AtMostOnce));
    assert_eq!(inside.receive_publish().topic.unwrap().as_str(), "t/1");
    assert_eq!(outside.receive_publish().topic.unwrap().as_str(), "site/t/1");
    outside.send(&publish("t/2", "beside it", Delivery::AtMostOnce));
    outside.send(&publish("site/t/3", "b", Delivery::AtMostOnce));
    assert_eq!(inside.receive_publish().topic.unwrap().as_str(), "t/3");
    // A will, and a shared subscription.
    let mut connect = connect_packet("mortal", ProtocolVersion::V5);
    connect.will = Some(Will {
        topic: TopicName::parse("t/gone").unwrap(),
        payload: bytes::Bytes::from_static(b"c"),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    drop(Peer::connect_as(dial_mounted(), connect));
    assert_eq!(inside.receive_publish().topic.unwrap().as_str(), "t/gone");
    let mut sharer = Peer::connect(dial_mounted(), "sharer", ProtocolVersion::V5);
    sharer.subscribe("$share/g/s", QoS::AtMostOnce);
    outside.send(&publish("site/s", "d", Delivery::AtMostOnce));
    assert_eq!(sharer.receive_publish().topic.unwrap().as_str(), "s");
    // Gone again: what is mounted is also what is unsubscribed.
    inside.send(&Packet::Unsubscribe(Box::new(quoll_mqtt::packet::Unsubscribe {
        packet_id: id(5),
        filters: vec![quoll_mqtt::TopicFilter::parse("t/+").unwrap()],
        user_properties: vec![],
    })));
    match inside.receive() {
        Some(Packet::UnsubAck(answer)) => assert_eq!(answer.reasons, [ReasonCode::SUCCESS]),
        other => panic!("{other:?}"),
    }
    server.handle.stop(LONG).await;
}

/// `#` below the mount point `site/` matches `site` too (§4.7.1.2): what cannot be named is not shown, and its place in the
/// window is free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_above_the_mount_point_is_not_shown() {
    let server = serve(|settings| {
        settings.rules.max_inflight_messages = 1;
        with_terms("mounted", mounted_at("site/"))(settings);
    })
    .await;
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut inside = Peer::connect(dial(address(&server, "mounted")), "inside", version);
        inside.subscribe("#", QoS::ExactlyOnce);
        let mut outside = Peer::plain(&server, "outside");
        for (number, delivery) in
            [Delivery::AtMostOnce, Delivery::AtLeastOnce(id(1)), Delivery::ExactlyOnce(id(2))]
                .into_iter()
                .enumerate()
        {
            outside.send(&publish("site", "above", delivery));
            if number > 0 {
                outside.receive();
            }
        }
        outside.send(&Packet::PubRel(quoll_mqtt::packet::Ack::new(id(2), ReasonCode::SUCCESS)));
        outside.receive();
        outside.send(&publish("site/below", "seen", Delivery::AtLeastOnce(id(3))));
        let seen = inside.receive_publish();
        assert_eq!((seen.topic.unwrap().as_str(), &seen.payload[..]), ("below", &b"seen"[..]), "{version:?}");
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_has_its_own_limits_and_tells_them() {
    let terms = Terms {
        max_qos: QoS::AtLeastOnce,
        max_topic_alias: Some(2),
        max_packet_size: Some(1000),
        ..Terms::default()
    };
    let server = serve(with_terms("strict", terms)).await;
    let told = answer(&server, "strict", connect_packet("asker", ProtocolVersion::V5)).properties;
    assert_eq!(told.maximum_qos, Some(QoS::AtLeastOnce));
    assert_eq!((told.topic_alias_maximum, told.maximum_packet_size), (Some(2), Some(1000)));
    let alias = |alias: u16| {
        let Packet::Publish(publish) = publish("t", "x", Delivery::AtMostOnce) else {
            unreachable!("it is one")
        };
        let topic_alias = alias.try_into().ok();
        let properties = quoll_mqtt::packet::PublishProperties { topic_alias, ..Default::default() };
        Packet::Publish(Publish { properties: Some(Box::new(properties)), ..publish })
    };
    for (packet, reason) in [
        (publish("t", "x", Delivery::ExactlyOnce(id(1))), ReasonCode::QOS_NOT_SUPPORTED),
        (alias(3), ReasonCode::TOPIC_ALIAS_INVALID),
        (publish("t", vec![0; 1000], Delivery::AtMostOnce), ReasonCode::PACKET_TOO_LARGE),
    ] {
        let mut peer = Peer::connect(dial(address(&server, "strict")), "breaker", ProtocolVersion::V5);
        peer.send(&packet);
        match peer.receive() {
            Some(Packet::Disconnect(farewell)) => assert_eq!(farewell.reason, reason),
            other => panic!("{reason}: {other:?}"),
        }
    }
    let mut peer = Peer::connect(dial(address(&server, "strict")), "modest", ProtocolVersion::V5);
    peer.send(&subscribe("t", QoS::ExactlyOnce));
    match peer.receive() {
        Some(Packet::SubAck(granted)) => assert_eq!(granted.reasons, [ReasonCode(1)]),
        other => panic!("{other:?}"),
    }
    peer.send(&alias(2));
    assert_eq!(peer.receive_publish().payload, "x");
    // The other listener has none of it.
    let mut free = Peer::plain(&server, "free");
    free.send(&publish("t", vec![0; 1000], Delivery::ExactlyOnce(id(1))));
    assert!(matches!(free.receive(), Some(Packet::PubRec(_))));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_takes_the_versions_that_it_takes() {
    let versions = Versions { v31: false, v311: false, v5: true };
    let server = serve(with_terms("new", Terms { versions, ..Terms::default() })).await;
    for (version, reason) in [
        (ProtocolVersion::V5, ReasonCode::SUCCESS),
        (ProtocolVersion::V311, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION),
        (ProtocolVersion::V31, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION),
    ] {
        assert_eq!(answer(&server, "new", connect_packet("c", version)).reason, reason, "{version:?}");
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_given_as_the_listener_says() {
    let terms = |empty| Terms { empty_client_id: Some(empty), ..Terms::default() };
    let server = serve(|settings| {
        with_terms("refusing", terms(EmptyClientId::Refused))(settings);
        with_terms("giving", terms(EmptyClientId::Given("guest-".into())))(settings);
        with_terms("named", Terms { username_as_client_id: true, ..Terms::default() })(settings);
    })
    .await;
    let connect = |client_id: &str, username: Option<&str>, version| {
        let mut connect = connect_packet(client_id, version);
        connect.username = username.map(str::to_owned);
        connect
    };
    let (v5, v311) = (ProtocolVersion::V5, ProtocolVersion::V311);
    let not_valid = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
    // What Mosquitto says to each of them.
    assert_eq!(answer(&server, "refusing", connect("", None, v5)).reason, ReasonCode::UNSPECIFIED_ERROR);
    assert_eq!(answer(&server, "refusing", connect("", None, v311)).reason, not_valid);
    assert_eq!(answer(&server, "refusing", connect("a", None, v5)).reason, ReasonCode::SUCCESS);
    let given =
        answer(&server, "giving", connect("", None, v5)).properties.assigned_client_identifier.unwrap();
    assert!(given.starts_with("guest-") && given.len() == "guest-".len() + 36, "{given}");
    assert_eq!(answer(&server, "giving", connect("", None, v311)).reason, ReasonCode::SUCCESS);
    let mut lasting = connect("", None, v311);
    lasting.clean_start = false;
    assert_eq!(answer(&server, "giving", lasting).reason, not_valid, "[MQTT-3.1.3-8] of 3.1.1");
    assert_eq!(answer(&server, "giving", connect("a", None, v5)).properties.assigned_client_identifier, None);
    // The door names clients by their user name.
    assert_eq!(answer(&server, "named", connect("x", None, v5)).reason, ReasonCode::NOT_AUTHORIZED);
    let mut ann = Peer::connect_as(dial(address(&server, "named")), connect("x", Some("ann"), v5));
    let of = async |name: &str| {
        let connections = server.handle.snapshot().await.connections;
        connections.iter().filter(|it| &*it.client_id == name).count()
    };
    assert_eq!((of("ann").await, of("x").await), (1, 0));
    let told = answer(&server, "named", connect("", Some("bob"), v5)).properties;
    assert_eq!(told.assigned_client_identifier.as_deref(), Some("bob"), "[MQTT-3.2.2-16]");
    ann.ping();
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_families_come_to_a_listener_without_a_host() {
    let place = Place::Host { port: 0, host: None, family: None, interface: None };
    let server = serve(|settings| settings.listeners.push(Listener::new("any", place, Transport::Tcp))).await;
    let addresses = server.handle.addresses();
    let port = addresses.iter().find(|it| it.0 == "any").unwrap().1.port();
    for (client, host) in [("four", "127.0.0.1"), ("six", "::1")] {
        let ip: std::net::IpAddr = host.parse().unwrap();
        let mut peer = Peer::connect(dial((ip, port).into()), client, ProtocolVersion::V5);
        peer.ping();
        let connections = server.handle.snapshot().await.connections;
        assert_eq!(connections.iter().find(|it| &*it.client_id == client).unwrap().peer.ip(), ip);
    }
    // One socket for both shows IPv4 peers as such too.
    let both = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let dual = serve(|settings| settings.listeners.push(Listener::new("dual", both, Transport::Tcp))).await;
    let port = address(&dual, "dual").port();
    let mut peer = Peer::connect(dial(([127, 0, 0, 1], port).into()), "mapped", ProtocolVersion::V5);
    peer.ping();
    let connections = dual.handle.snapshot().await.connections;
    assert!(connections.iter().any(|it| it.peer.ip().is_ipv4()), "{connections:?}");
    dual.handle.stop(LONG).await;
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_listeners_together_have_a_limit_too() {
    let server = serve(|settings| settings.limits.max_connections = Some(2)).await;
    let mut plain = Peer::plain(&server, "plain");
    let mut secure = Peer::secure(&server, "lamp");
    assert_eq!(dial(server.plain).read(&mut [0; 1]).unwrap_or(0), 0);
    plain.ping();
    secure.ping();
    drop(plain);
    eventually("there is room", async || {
        let mut peer = Peer::over(dial(server.plain), ProtocolVersion::V5);
        let connect = Packet::Connect(Box::new(connect_packet("next", ProtocolVersion::V5)));
        let sent = peer.stream.write_all(&bytes_of(&connect, ProtocolVersion::V5));
        sent.is_ok() && matches!(peer.receive(), Some(Packet::ConnAck(_)))
    })
    .await;
    server.handle.stop(LONG).await;
}

// --- reload ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_all_or_nothing() {
    let server = serve(with_terms("old", Terms::default())).await;
    let plain = Listener::new("plain", loopback(), Transport::Tcp);
    let tls = Listener::new("tls", loopback(), Transport::Tls(server.live.clone()));
    let mut settled = Peer::plain(&server, "settled");
    let mut left = Peer::connect(dial(address(&server, "old")), "left", ProtocolVersion::V5);
    // One that cannot be: an address that is taken, beside a change that could.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let changed = Listener { terms: mounted_at("site/"), ..plain.clone() };
    let impossible = Listener::new("new", taken.local_addr().unwrap(), Transport::Tcp);
    let before = server.handle.addresses();
    let error = server.handle.reload(vec![changed.clone(), tls.clone(), impossible]).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    assert!(matches!(server.handle.reload(vec![]).await, Err(StartError::NoListener)));
    assert_eq!(server.handle.addresses(), before);
    settled.subscribe("#", QoS::AtMostOnce);
    let mut peer = Peer::plain(&server, "peer");
    peer.send(&publish("unchanged", "x", Delivery::AtMostOnce));
    assert_eq!(settled.receive_publish().topic.unwrap().as_str(), "unchanged");
    // One that can.
    let new = Listener::new("new", loopback(), Transport::Tcp);
    let reloaded = server.handle.reload(vec![new, changed, tls]).await.unwrap();
    assert_eq!(reloaded.kept, ["plain", "tls"]);
    assert_eq!((reloaded.opened, reloaded.closed), (vec!["new".to_owned()], vec!["old".to_owned()]));
    let names: Vec<String> = server.handle.addresses().into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["new", "plain", "tls"]);
    let mut fresh = Peer::plain(&server, "fresh");
    fresh.send(&publish("t", "x", Delivery::AtMostOnce));
    assert_eq!(settled.receive_publish().topic.unwrap().as_str(), "site/t", "new terms for who comes now");
    Peer::connect(dial(address(&server, "new")), "newer", ProtocolVersion::V5).ping();
    left.ping();
    settled.ping();
    let old = before.iter().find(|it| it.0 == "old").unwrap().1;
    eventually("the old one is closed", async || std::net::TcpStream::connect(old).is_err()).await;
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_with_another_identity_ends_those_whom_it_revokes() {
    let server = serve(|_| {}).await;
    let mut lamp = Peer::secure(&server, "lamp");
    let mut plug = Peer::secure(&server, "plug");
    let live = LiveIdentity::new(pki().identity(ClientAuth::Required, &["plug"]));
    let plain = Listener::new("plain", loopback(), Transport::Tcp);
    let tls = Listener::new("tls", loopback(), Transport::Tls(live));
    let reloaded = server.handle.reload(vec![plain, tls]).await.unwrap();
    assert_eq!(reloaded.expelled, 1);
    match plug.receive() {
        Some(Packet::Disconnect(farewell)) => assert_eq!(farewell.reason, ReasonCode::NOT_AUTHORIZED),
        other => panic!("{other:?}"),
    }
    lamp.ping();
    let mut stream = dial_tls(server.tls, Some("plug"), &rustls::version::TLS12);
    assert!(stream.write_all(b"\xC0\0").and_then(|()| stream.read(&mut [0; 1])).is_err());
    server.handle.stop(LONG).await;
}

/// `systemd-socket-activate` and its like hand sockets over as file descriptor 3 and up; here they are made by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_so_to_its_watchdog() {
    let server = serve(|_| {}).await;
    assert_eq!(server.handle.is_well(LONG).await, Some(true));
    let handle = server.handle.clone();
    server.handle.stop(LONG).await;
    assert_eq!(handle.is_well(LONG).await, None);
}
