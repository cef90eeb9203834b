//! Mosquitto's own clients: publishing, subscribing, asking and answering, with a client certificate.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use quoll_mqtt::{ProtocolVersion, QoS};

use crate::Running;
use crate::common::*;

fn command(server: &Server, program: &str, secure: bool, version: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-V", version]);
    if secure {
        command.args(["-p", &server.tls.port().to_string(), "--cafile", &pki().path("ca.crt")]);
        command.args(["--cert", &pki().path("lamp.crt"), "--key", &pki().path("lamp.key")]);
    } else {
        command.args(["-p", &server.plain.port().to_string()]);
    }
    command
}

fn run_well(mut command: Command) -> String {
    let output = command.output().expect("mosquitto-clients are needed for this test (scripts/setup)");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A subscriber that says `ready` once it hears.
struct Listening {
    _child: Running,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Listening {
    fn start(mut command: Command) -> Self {
        let mut child: Child = command.stdout(Stdio::piped()).spawn().expect("mosquitto-clients are needed");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: Running(child), lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("it goes on").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_and_sub_live_through_losses_with_and_without_a_certificate() {
    let server = serve(|_| {}).await;
    let server = &server;
    tokio::task::block_in_place(|| {
        let rows = [
            (false, "mqttv31"),
            (false, "mqttv311"),
            (false, "mqttv5"),
            (true, "mqttv311"),
            (true, "mqttv5"),
        ];
        for (secure, version) in rows {
            let topic = |what: &str| format!("{version}/{secure}/{what}");
            let id = |who: &str| format!("{who}{version}{secure}");
            let publish = |what: &str, more: &[&str]| {
                let mut command = command(server, "mosquitto_pub", secure, version);
                command.args(["-t", &topic(what)]).args(more);
                run_well(command);
            };
            let subscribe = |who: &str, what: &str, more: &[&str]| {
                let mut command = command(server, "mosquitto_sub", secure, version);
                command.args(["-i", &id(who), "-t", &topic(what), "-W", "30"]).args(more);
                command
            };
            // A retained message waits, and can be cleared.
            publish("kept", &["-r", "-q", "1", "-m", "kept"]);
            let kept = run_well(subscribe("k", "kept", &["-C", "1", "-F", "%r %q %p", "-q", "1"]));
            assert_eq!(kept, "1 1 kept", "{version} {secure}");
            publish("kept", &["-r", "-n"]);
            // What was published while a subscriber was away waits for it, level by level.
            let lasts: &[&str] = if version == "mqttv5" { &["-c", "-x", "300"] } else { &["-c"] };
            run_well(subscribe("w", "waits", &[lasts, &["-q", "2", "-E"]].concat()));
            for qos in ["1", "2"] {
                publish("waits", &["-q", qos, "-m", qos]);
            }
            let waited =
                run_well(subscribe("w", "waits", &[lasts, &["-q", "2", "-C", "2", "-F", "%q %p"]].concat()));
            assert_eq!(waited, "1 1\n2 2", "{version} {secure}");
            // A will is heard when its client is killed.
            let mut heir = Peer::connect(dial(server.plain), "heir", ProtocolVersion::V5);
            heir.subscribe(&topic("will"), QoS::AtMostOnce);
            let will = topic("will");
            let with_will = ["-q", "0", "--will-topic", &will, "--will-payload", "died"];
            let mut dies = Listening::start(subscribe("d", "alive", &with_will));
            // It hears, so it is there.
            let said = (0..300).any(|_| {
                publish("alive", &["-r", "-m", "there"]);
                !dies.next().is_empty()
            });
            assert!(said);
            drop(dies);
            assert_eq!(heir.receive_publish().payload, "died", "{version} {secure}");
            publish("alive", &["-r", "-n"]);
        }
        // 5.0 alone: user properties, and a request that is answered.
        for secure in [false, true] {
            let mut answers = Peer::connect(dial(server.plain), "answers", ProtocolVersion::V5);
            answers.subscribe("asked/now", QoS::AtLeastOnce);
            let asked = std::thread::spawn(move || {
                let request = answers.receive_publish();
                let properties = request.properties.clone().unwrap();
                let reply_to = properties.response_topic.clone().unwrap();
                let text = format!("{} to you", String::from_utf8_lossy(&request.payload));
                let mut answer = publish(reply_to.as_str(), text, quoll_mqtt::Delivery::AtMostOnce);
                if let quoll_mqtt::packet::Packet::Publish(answer) = &mut answer {
                    answer.properties = Some(Box::new(quoll_mqtt::packet::PublishProperties {
                        correlation_data: properties.correlation_data.clone(),
                        ..Default::default()
                    }));
                }
                answers.send(&answer);
                answers.ping();
                properties.user_properties.clone()
            });
            let mut asks = command(server, "mosquitto_rr", secure, "mqttv5");
            asks.args(["-t", "asked/now", "-e", "answer/here", "-m", "hello", "-q", "1", "-W", "30"]);
            asks.args(["-D", "publish", "user-property", "colour", "red"]);
            assert_eq!(run_well(asks), "hello to you");
            let properties = asked.join().unwrap();
            assert_eq!(properties, [("colour".to_owned(), "red".to_owned())]);
        }
    });
    server.handle.clone().stop(LONG).await;
}
