//! A life with paho for Python.

use std::net::SocketAddr;
use std::process::Command;

use quoll_server::tls::{ClientAuth, LiveIdentity};
use quoll_server::{Listener, Settings, Transport, WebSocketSettings};

use crate::client_file;
use crate::common::*;

/// Retained messages, a will, a session that is taken up again, what only 5.0 has; prints what went wrong, or "good".
const LIFE: &str = r#"
import queue, socket, sys
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
host, port, transport, version, ca, certificate, key = sys.argv[1:8]
port, five, LONG = int(port), version == "5", 30
name = "paho-%s-%s-%s" % (transport, version, port)

class Peer:
    def __init__(self, who, lasting=False, will=None, user=None):
        kind = {} if five else {"clean_session": not lasting}
        self.client = c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name + who, protocol=int(version),
                                      transport=transport, reconnect_on_failure=False, **kind)
        self.heard, self.connected, self.subscribed, self.unsubscribed, self.published = [queue.Queue() for _ in range(5)]
        c.on_connect = lambda c, u, flags, reason, p: self.connected.put((flags.session_present, str(reason)))
        c.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.put([str(it) for it in reasons])
        c.on_unsubscribe = lambda c, u, mid, reasons, p: self.unsubscribed.put([str(it) for it in reasons])
        c.on_publish = lambda c, u, mid, reason, p: self.published.put(str(reason))
        c.on_message = lambda c, u, message: self.heard.put(message)
        if ca: c.tls_set(ca, certificate or None, key or None)
        if will: c.will_set(*will)
        if user: c.username_pw_set(user, "secret")
        if five:
            asked = Properties(PacketTypes.CONNECT)
            if lasting: asked.SessionExpiryInterval = 300
            c.connect(host, port, 30, clean_start=not lasting, properties=asked)
        else:
            c.connect(host, port, 30)
        c.loop_start()
        self.present, self.reason = self.connected.get(timeout=LONG)
    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        return self.subscribed.get(timeout=LONG)
    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)
        return self.unsubscribed.get(timeout=LONG)
    def publish(self, topic, payload, qos, retain=False, **properties):
        dressed = Properties(PacketTypes.PUBLISH) if five else None
        for key, value in properties.items(): setattr(dressed, key, value)
        self.client.publish(topic, payload, qos, retain, dressed)
        return self.published.get(timeout=LONG)
    def hear(self):
        m = self.heard.get(timeout=LONG)
        return (m.topic, m.payload.decode(), m.qos, m.retain)
    def leave(self):
        self.client.disconnect(); self.client.loop_stop()
    def vanish(self):
        raw = self.client.socket()
        getattr(raw, "_socket", raw).shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

def same(what, found, wanted):
    if found != wanted: sys.exit("%s: %r, not %r" % (what, found, wanted))

other = Peer("other")
# Each level as it was sent.
same("granted", other.subscribe(name + "/level", 2), ["Granted QoS 2"])
for qos in (0, 1, 2):
    other.publish(name + "/level", "x" * 5000, qos)
    same("level", other.hear(), (name + "/level", "x" * 5000, qos, False))
# A retained message waits, and can be cleared.
other.publish(name + "/kept", "kept", 1, True)
late = Peer("late")
late.subscribe(name + "/kept", 1)
same("retained", late.hear(), (name + "/kept", "kept", 1, True))
other.publish(name + "/kept", "", 1, True)
same("cleared", late.hear(), (name + "/kept", "", 1, False))
# Who vanishes leaves a will; who leaves does not.
other.subscribe(name + "/will", 1)
Peer("leaves", will=(name + "/will", "left", 1, False)).leave()
Peer("vanishes", will=(name + "/will", "vanished", 1, False)).vanish()
same("will", other.hear(), (name + "/will", "vanished", 1, False))
# A session is taken up again with what waited.
away = Peer("away", lasting=True)
same("a new session", away.present, False)
away.subscribe(name + "/waits", 2)
away.vanish()
other.publish(name + "/waits", "one", 1)
other.publish(name + "/waits", "two", 2)
back = Peer("away", lasting=True)
same("the session", back.present, True)
same("what waited", [back.hear(), back.hear()], [(name + "/waits", "one", 1, False), (name + "/waits", "two", 2, False)])
# Who is not let in is told why.
same("refused", Peer("evil", user="evil").reason, "Not authorized")
if five:
    same("nobody listens", other.publish(name + "/nobody", "x", 1), "No matching subscribers")
    same("no subscription", other.unsubscribe(name + "/never"), ["No subscription found"])
    late.subscribe(name + "/dressed", 1)
    other.publish(name + "/dressed", "x", 1, UserProperty=[("a", "1"), ("b", "2"), ("a", "3")], ContentType="text",
                  ResponseTopic="answer/here", CorrelationData=b"7", MessageExpiryInterval=100)
    p = late.heard.get(timeout=LONG).properties
    same("properties", (p.UserProperty, p.ContentType, p.ResponseTopic, p.CorrelationData),
         ([("a", "1"), ("b", "2"), ("a", "3")], "text", "answer/here", b"7"))
for peer in (other, late, back): peer.leave()
print("good")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_lives_through_losses_over_each_transport() {
    let server = serve(|settings: &mut Settings| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let live = LiveIdentity::new(pki().identity(ClientAuth::None, &[]));
        for (name, transport) in [("ws", Transport::Tcp), ("wss", Transport::Tls(live))] {
            let listener = Listener::new(name, address, transport);
            settings.listeners.push(Listener { websocket: Some(WebSocketSettings::default()), ..listener });
        }
    })
    .await;
    let ports: Vec<String> =
        server.handle.addresses().iter().map(|(_, address)| address.port().to_string()).collect();
    let (ca, certificate, key) = (pki().path("ca.crt"), pki().path("lamp.crt"), pki().path("lamp.key"));
    let library = client_file("paho");
    let live = move || {
        std::thread::scope(|scope| {
            for version in ["4", "5"] {
                for (place, transport, files) in [
                    (0, "tcp", ["", "", ""]),
                    (1, "tcp", [&*ca, &*certificate, &*key]),
                    (2, "websockets", ["", "", ""]),
                    (3, "websockets", [&*ca, "", ""]),
                ] {
                    let (library, port) = (&library, &ports[place]);
                    scope.spawn(move || {
                        let output = Command::new("python3")
                            .env("PYTHONPATH", library)
                            .args(["-c", LIFE, "127.0.0.1", port, transport, version])
                            .args(files)
                            .output()
                            .unwrap_or_else(|error| {
                                panic!("python3 is needed for this test and cannot be run: {error}")
                            });
                        let said = String::from_utf8_lossy(&output.stdout).into_owned();
                        let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
                        assert_eq!(said.trim(), "good", "{transport} {place}, version {version}: {trouble}");
                    });
                }
            }
        });
    };
    tokio::task::spawn_blocking(live).await.unwrap();
    server.handle.stop(LONG).await;
}
