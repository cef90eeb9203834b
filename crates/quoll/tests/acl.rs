//! Access lists at a running node: learned, shown, enforced; and as a file that Mosquitto takes.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Home, Up, complaint, free_port, tool, until};

/// A client of this home at this port; `-q 1 -V mqttv5`, so that a refusal is heard.
fn publish(home: &Home, name: &str, topic: &str) -> Output {
    let folder = home.path("clients").join(name);
    let file = |file: &str| folder.join(file).display().to_string();
    let port = home.port.to_string();
    let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
    let words = ["-h", "127.0.0.1", "-p", &port, "--cafile", &file("ca.crt"), "--cert", &file(&certificate)];
    let more = ["--key", &file(&key), "-V", "mqttv5", "-q", "1", "-t", topic, "-m", "x"];
    tool("mosquitto_pub", &[&words[..], &more[..]].concat())
}

fn is_refused(output: &Output) -> bool {
    complaint(output).contains("Not authorized")
}

fn rows(home: &Home, name: &str) -> Vec<Value> {
    home.json(&["acl", "simulate", name]).as_array().unwrap().clone()
}

#[test]
fn what_a_client_needs_is_learned_shown_and_enforced() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "panel", "--role", "dashboard"]);
    let up = home.up_and_listening(&[]);
    assert!(is_refused(&publish(&home, "panel", "panel/state")), "a dashboard publishes nothing");
    let seen = until(|| rows(&home, "panel"), |rows| !rows.is_empty());
    assert_eq!(seen[0]["outcome"], json!("refused"));
    assert_eq!(seen[0]["filter"], json!("panel/state"));

    home.ok(&["acl", "learn", "panel", "--hours", "1"]);
    let said = publish(&home, "panel", "panel/state");
    assert!(!is_refused(&said), "let through at once, to learn: {}", complaint(&said));
    publish(&home, "panel", "panel/light");
    let seen = until(
        || rows(&home, "panel"),
        |rows| rows.len() == 2 && rows.iter().all(|row| row["outcome"] == "would be refused"),
    );
    assert!(seen.iter().all(|row| row["reach"].is_null()), "{seen:?}");

    let said = home.fails(10, &["acl", "enforce", "panel"]);
    assert!(said.contains("panel publish panel/state") && said.contains("--yes"), "{said}");
    let enforced = home.json(&["acl", "enforce", "panel", "--accept"]);
    assert_eq!(enforced["allowed"], json!(["panel publish panel/light", "panel publish panel/state"]));
    assert!(!is_refused(&publish(&home, "panel", "panel/state")), "it was accepted");
    assert!(is_refused(&publish(&home, "panel", "panel/else")), "nothing else was");

    home.ok(&["acl", "withdraw", "panel", "--publish", "panel/state"]);
    assert!(is_refused(&publish(&home, "panel", "panel/state")), "taken back, and in force at once");
    let said = home.fails(9, &["acl", "withdraw", "panel", "--publish", "panel/state"]);
    assert!(said.contains("acl show panel"), "{said}");
    let said = home.fails(2, &["acl", "allow", "panel", "--publish", "a/#/b"]);
    assert!(said.contains("a/#/b") && said.contains("nothing was changed"), "{said}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_reaches_into_another_devices_topics_is_never_accepted_by_itself() {
    let home = Home::new();
    let up = home.up_and_listening(&["--virtual", "1"]);
    let name =
        until(|| home.json(&["device", "list"]), |list| list[0]["online"] == json!(true))[0]["name"].clone();
    let topic = home.json(&["device", "show", name.as_str().unwrap()])["topic"].clone();
    home.ok(&["client", "add", "panel", "--role", "dashboard"]);
    home.ok(&["acl", "learn", "--all"]);
    publish(&home, "panel", &format!("cmnd/{}/POWER", topic.as_str().unwrap()));
    let seen = until(|| rows(&home, "panel"), |rows| !rows.is_empty());
    assert_eq!(seen[0]["reach"], json!(format!("device {}", name.as_str().unwrap())));
    let enforced = home.json(&["acl", "enforce", "--all", "--accept", "--yes"]);
    assert_eq!(enforced["allowed"], json!([]));
    assert_eq!(enforced["refused"].as_array().unwrap().len(), 1, "{enforced}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn mosquitto_takes_the_exported_list_and_means_the_same_by_it() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "panel", "--role", "dashboard"]);
    home.ok(&["client", "add", "flows", "--role", "node-red"]);
    home.ok(&["acl", "allow", "panel", "--publish", "panel/+", "--subscribe", "weather/#"]);
    let (list, port) = (home.path("acl"), free_port());
    home.ok(&["acl", "export", "--out", list.to_str().unwrap()]);
    let conf = home.path("mosquitto.conf");
    let text =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {}\nuser root\n", list.display());
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("mosquitto");
    command.args(["-v", "-c", conf.to_str().unwrap()]);
    let mut mosquitto = Up::of(command);
    mosquitto.wait_for(|line| line.contains("running"));
    let may = |user: &str, topic: &str| {
        let port = port.to_string();
        let words =
            ["-h", "127.0.0.1", "-p", &port, "-u", user, "-V", "mqttv5", "-q", "1", "-t", topic, "-m", "x"];
        !is_refused(&tool("mosquitto_pub", &words))
    };
    for (user, topic, allowed) in [
        ("panel", "panel/state", true),
        ("panel", "panel/a/b", false),
        ("panel", "cmnd/lamp/POWER", false),
        ("flows", "cmnd/lamp/POWER", true),
        ("flows", "flows/own/x", true),
        ("flows", "panel/state", false),
        ("nobody", "panel/state", false),
    ] {
        assert_eq!(may(user, topic), allowed, "{user} {topic}");
    }
    let shown = home.json(&["acl", "show", "panel"]);
    let beyond: Vec<_> = shown.as_array().unwrap().iter().filter(|row| row["from"] == "allowed").collect();
    assert_eq!(beyond.len(), 2, "{shown}");
}
