//! Clients that others wrote: mqtt.js in a headless Chromium, paho for Python, Mosquitto's own. `scripts/clients` puts the first two
//! into `target/clients`, from their registries. Here is that each level arrives as it was sent, over each transport; whole lives
//! (retained messages, wills, sessions, reasons) are in the modules.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod mosquitto;
mod paho;
mod rumqttc;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::*;
use quoll_mqtt::{ProtocolVersion, QoS};
use quoll_server::tls::ClientAuth;
use quoll_server::{Listener, Settings, Transport, WebSocketSettings};

/// Starting a browser takes its time on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(90);

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client_file(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients")).join(name);
    assert!(path.exists(), "{} is needed for this test: run scripts/clients", path.display());
    path
}

/// Serves two files to a browser: a page and mqtt.js.
fn serve_page(page: String) -> SocketAddr {
    let script = std::fs::read_to_string(client_file("mqtt.min.js")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut request = [0; 4096];
            let length = socket.read(&mut request).unwrap_or(0);
            let wants_script = request[..length].starts_with(b"GET /mqtt.min.js ");
            let (kind, body) =
                if wants_script { ("text/javascript", &script) } else { ("text/html; charset=utf-8", &page) };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            // A browser that went away is no concern of ours.
            let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body.as_bytes()));
        }
    });
    address
}

fn browse(url: &str, profile: &str) -> Running {
    let profile = scratch(profile);
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--no-default-browser-check",
        "--no-proxy-server",
        // The test's own CA is in no browser.
        "--ignore-certificate-errors",
    ];
    let child = Command::new("chromium")
        .args(arguments)
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--remote-debugging-port=0", url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(
        child.unwrap_or_else(|error| panic!("chromium is needed for this test and cannot be run: {error}")),
    )
}

/// Each script connects, subscribes, publishes at its level, compares what comes back, and says how it went by a message.
const PAGE: &str = r#"<!doctype html><script src="/mqtt.min.js"></script><script>
for (const [name, url, version, qos] of CASES) {
  const options = { protocolVersion: version, clientId: "browser-" + name, reconnectPeriod: 0,
    protocolId: version === 3 ? "MQIsdp" : "MQTT" };
  const client = mqtt.connect(url, options);
  const big = "x".repeat(70000);
  let seen = [];
  const say = (text) => client.publish("result/" + name, text, { qos: 1 });
  client.on("connect", () => client.subscribe("echo/" + name, { qos }, () => {
    client.publish("echo/" + name, "hello", { qos });
    client.publish("echo/" + name, big, { qos });
    client.publish("echo/" + name, "bye", { qos });
  }));
  client.on("message", (topic, payload) => {
    seen.push(payload.toString());
    if (seen.length === 3) say(seen[0] === "hello" && seen[1] === big && seen[2] === "bye" ? "good" : "different");
  });
}
const refused = mqtt.connect(REFUSED, { clientId: "refused", reconnectPeriod: 0 });
refused.on("connect", () => refused.publish("result/refused", "let in"));
</script>"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_in_a_browser_talks_over_websocket_with_and_without_tls() {
    let server = serve(|settings: &mut Settings| {
        for listener in &mut settings.listeners {
            listener.websocket = Some(WebSocketSettings::default());
            if let Transport::Tls(live) = &listener.transport {
                live.replace(pki().identity(ClientAuth::None, &[]));
            }
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let choosy = Listener::new("choosy", address, Transport::Tcp);
        let origins = vec!["https://home.example".to_owned()];
        let websocket = Some(WebSocketSettings { origins, ..WebSocketSettings::default() });
        settings.listeners.push(Listener { websocket, ..choosy });
        settings.listeners.push(Listener::new("tcp", address, Transport::Tcp));
    })
    .await;
    let addresses = server.handle.addresses();
    let mut watcher = Peer::connect(dial(addresses[3].1), "watcher", ProtocolVersion::V5);
    watcher.subscribe("result/+", QoS::AtLeastOnce);
    let (plain, tls) = (format!("ws://{}/mqtt", server.plain), format!("wss://{}/mqtt", server.tls));
    let cases = [
        ("plain-31", &plain, 3, 0),
        ("plain-311", &plain, 4, 1),
        ("plain-5", &plain, 5, 2),
        ("tls-311", &tls, 4, 2),
        ("tls-5", &tls, 5, 1),
    ];
    let text = serde_json::to_string(&cases).unwrap();
    let refused = serde_json::to_string(&format!("ws://{}/mqtt", addresses[2].1)).unwrap();
    let mut events = server.handle.events();
    let page = serve_page(PAGE.replace("CASES", &text).replace("REFUSED", &refused));
    let _browser = browse(&format!("http://{page}/"), "chromium");
    let told = tokio::task::spawn_blocking(move || {
        let mut told = BTreeMap::new();
        while told.len() < 5 {
            let publish = watcher.receive_publish();
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            told.insert(publish.topic.unwrap().as_str().to_owned(), text);
        }
        told
    });
    let told = tokio::time::timeout(VERY_LONG, told).await.expect("the browser reports").unwrap();
    for (name, ..) in cases {
        assert_eq!(told.get(&format!("result/{name}")).map(String::as_str), Some("good"), "{told:?}");
    }
    // The page's origin is not among those that the third listener takes.
    let mut was_refused = false;
    while let Ok(event) = events.try_recv() {
        if let quoll_server::ServerEvent::HandshakeFailed { listener, reason, .. } = event {
            was_refused |= &*listener == "choosy" && reason.contains("403");
        }
    }
    assert!(was_refused);
    server.handle.stop(LONG).await;
}

/// Over TCP, TLS with a client certificate, and WebSocket; prints what came back.
const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
host, port, transport, version, ca, certificate, key = sys.argv[1:8]
done = threading.Event()
seen = []
def on_connect(client, userdata, flags, reason, properties=None):
    client.subscribe("paho/#", 2)
def on_subscribe(client, userdata, mid, reasons, properties=None):
    for qos in (0, 1, 2):
        client.publish("paho/%d" % qos, b"x" * 20000, qos)
def on_message(client, userdata, message):
    seen.append((message.topic, message.qos, len(message.payload)))
    if len(seen) == 3:
        done.set()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho", protocol=int(version), transport=transport)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
if ca:
    client.tls_set(ca, certificate or None, key or None)
client.connect(host, int(port), 30)
client.loop_start()
ok = done.wait(20)
client.disconnect()
client.loop_stop()
print(sorted(seen))
sys.exit(0 if ok else 1)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_talks_over_tcp_tls_and_websocket() {
    let server = serve(|settings: &mut Settings| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let live = quoll_server::tls::LiveIdentity::new(pki().identity(ClientAuth::None, &[]));
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
    let talks = move || {
        for version in ["3", "4", "5"] {
            for (place, transport, files) in [
                (0, "tcp", ["", "", ""]),
                (1, "tcp", [&*ca, &*certificate, &*key]),
                (2, "websockets", ["", "", ""]),
                (3, "websockets", [&*ca, "", ""]),
            ] {
                let output = Command::new("python3")
                    .env("PYTHONPATH", &library)
                    .args(["-c", PAHO, "127.0.0.1", &ports[place], transport, version])
                    .args(files)
                    .output()
                    .unwrap_or_else(|error| {
                        panic!("python3 is needed for this test and cannot be run: {error}")
                    });
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
                let expected = "[('paho/0', 0, 20000), ('paho/1', 1, 20000), ('paho/2', 2, 20000)]";
                assert_eq!(said.trim(), expected, "{transport} {place}, version {version}: {trouble}");
            }
        }
    };
    tokio::task::spawn_blocking(talks).await.unwrap();
    server.handle.stop(LONG).await;
}
