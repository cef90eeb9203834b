//! A life with mqtt.js in a headless Chromium.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quoll_mqtt::{ProtocolVersion, QoS};
use quoll_server::tls::ClientAuth;
use quoll_server::{Listener, Settings, Transport, WebSocketSettings};

use crate::common::*;
use crate::{VERY_LONG, browse, serve_page};

/// Retained messages, a will, a session that is taken up again, what only 5.0 has; says by a message what went wrong, or "good".
const LIFE: &str = r#"<!doctype html><script src="/mqtt.min.js"></script><script>
const same = (what, found, wanted) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(what + ": " + a + ", not " + b);
};
async function life(name, url, version) {
  const topic = (what) => "life/" + name + "/" + what, five = version === 5;
  const open = (who, more) => new Promise((done, fail) => {
    const client = mqtt.connect(url, { protocolVersion: version, clientId: "life-" + name + "-" + who,
      reconnectPeriod: 0, ...more });
    const heard = [], waiting = [];
    client.on("message", (topic, payload, packet) => {
      const m = [topic, payload.toString(), packet.qos, packet.retain, packet.properties];
      waiting.length ? waiting.shift()(m) : heard.push(m);
    });
    client.hear = () => heard.length ? Promise.resolve(heard.shift()) : new Promise((done) => waiting.push(done));
    client.on("connect", (answer) => { client.present = answer.sessionPresent; done(client); });
    client.on("error", fail);
  });
  const lasting = five ? { clean: false, properties: { sessionExpiryInterval: 300 } } : { clean: false };
  const other = await open("other", {});
  await other.publishAsync(topic("kept"), "kept", { qos: 1, retain: true });
  const late = await open("late", {});
  await late.subscribeAsync(topic("kept"), { qos: 1 });
  same("retained", (await late.hear()).slice(0, 4), [topic("kept"), "kept", 1, true]);
  await other.publishAsync(topic("kept"), "", { qos: 1, retain: true });
  same("cleared", (await late.hear()).slice(0, 4), [topic("kept"), "", 1, false]);
  await other.subscribeAsync(topic("will"), { qos: 1 });
  const will = (payload) => ({ will: { topic: topic("will"), payload, qos: 1, retain: false } });
  await (await open("leaves", will("left"))).endAsync();
  (await open("vanishes", will("vanished"))).stream.destroy();
  same("will", (await other.hear()).slice(0, 4), [topic("will"), "vanished", 1, false]);
  const away = await open("away", lasting);
  same("a new session", away.present, false);
  await away.subscribeAsync(topic("waits"), { qos: 2 });
  const gone = new Promise((done) => away.on("close", done));
  away.stream.destroy();
  await gone;
  await other.publishAsync(topic("waits"), "one", { qos: 1 });
  await other.publishAsync(topic("waits"), "two", { qos: 2 });
  const back = await open("away", lasting);
  same("the session", back.present, true);
  same("one waited", (await back.hear()).slice(0, 4), [topic("waits"), "one", 1, false]);
  same("two waited", (await back.hear()).slice(0, 4), [topic("waits"), "two", 2, false]);
  const why = await open("evil", { username: "evil", password: "secret" }).then(() => "let in", (error) => error.code);
  same("refused", why, five ? 135 : 5);
  if (five) {
    await late.subscribeAsync(topic("dressed"), { qos: 1 });
    const properties = { userProperties: { a: ["1", "3"], b: "2" }, contentType: "text", responseTopic: "answer/here" };
    await other.publishAsync(topic("dressed"), "x", { qos: 1, properties });
    const came = (await late.hear())[4];
    same("properties", [came.userProperties.a, came.userProperties.b, came.contentType, came.responseTopic],
      [["1", "3"], "2", "text", "answer/here"]);
  }
  return "good";
}
(async () => {
  const reporter = mqtt.connect(CASES[0][1], { clientId: "reporter" });
  for (const [name, url, version] of CASES) {
    life(name, url, version).catch((error) => String(error))
      .then((text) => reporter.publish("life-result/" + name, text, { qos: 1 }));
  }
})();
</script>"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_lives_through_losses_with_and_without_tls() {
    let server = serve(|settings: &mut Settings| {
        for listener in &mut settings.listeners {
            listener.websocket = Some(WebSocketSettings::default());
            if let Transport::Tls(live) = &listener.transport {
                live.replace(pki().identity(ClientAuth::None, &[]));
            }
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.listeners.push(Listener::new("tcp", address, Transport::Tcp));
    })
    .await;
    let mut watcher = Peer::connect(dial(server.handle.addresses()[2].1), "watcher", ProtocolVersion::V5);
    watcher.subscribe("life-result/+", QoS::AtLeastOnce);
    let (plain, tls) = (format!("ws://{}/mqtt", server.plain), format!("wss://{}/mqtt", server.tls));
    let cases = [("plain-311", &plain, 4), ("plain-5", &plain, 5), ("tls-311", &tls, 4), ("tls-5", &tls, 5)];
    let page = serve_page(LIFE.replace("CASES", &serde_json::to_string(&cases).unwrap()));
    let _browser = browse(&format!("http://{page}/"), "chromium-lives");
    let told = tokio::task::spawn_blocking(move || {
        let mut told = BTreeMap::new();
        while told.len() < 4 {
            let publish = watcher.receive_publish();
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            told.insert(publish.topic.unwrap().as_str().to_owned(), text);
        }
        told
    });
    let told = tokio::time::timeout(VERY_LONG, told).await.expect("the browser reports").unwrap();
    for (name, ..) in cases {
        assert_eq!(told.get(&format!("life-result/{name}")).map(String::as_str), Some("good"), "{told:?}");
    }
    server.handle.stop(LONG).await;
}
