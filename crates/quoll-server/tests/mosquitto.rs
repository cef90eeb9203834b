//! Mosquitto's clients against this server: both versions, all levels, with and without TLS, on one and two shards.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};

use common::*;

/// Arguments by which both clients reach a listener.
fn reach(server: &Server, secure: bool) -> Vec<String> {
    let mut words = vec!["-h".to_owned(), "localhost".to_owned(), "-p".to_owned()];
    if secure {
        words.push(server.tls.port().to_string());
        for (option, file) in [("--cafile", "ca.crt"), ("--cert", "lamp.crt"), ("--key", "lamp.key")] {
            words.extend([option.to_owned(), pki().path(file)]);
        }
    } else {
        words.push(server.plain.port().to_string());
    }
    words
}

async fn all_levels_pass(shards: fn(&mut quoll_server::Settings)) {
    let server = serve(shards).await;
    for secure in [false, true] {
        for version in ["mqttv31", "mqttv311", "mqttv5"] {
            for qos in ["0", "1", "2"] {
                let reach = reach(&server, secure);
                let words: Vec<&str> = reach.iter().map(String::as_str).collect();
                let topic = format!("t/{version}/{qos}/{secure}");
                let subscriber = Command::new("mosquitto_sub")
                    .args(&words)
                    .args(["-V", version, "-q", qos, "-t", &topic, "-C", "3", "-W", "20", "-F", "%q %p"])
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("mosquitto_sub is needed for this test");
                let rules = |it: &quoll_server::Snapshot| it.stats.rules.subscriptions;
                eventually("the subscription is there", async || rules(&server.handle.snapshot().await) == 1)
                    .await;
                let large = "x".repeat(10_000);
                for text in ["small", large.as_str(), "last"] {
                    let mut all = words.clone();
                    all.extend(["-V", version, "-q", qos, "-t", &topic, "-m", text]);
                    run_well("mosquitto_pub", &all);
                }
                let output =
                    tokio::task::spawn_blocking(|| subscriber.wait_with_output()).await.unwrap().unwrap();
                let told = String::from_utf8(output.stdout).unwrap();
                assert_eq!(
                    told,
                    format!("{qos} small\n{qos} {large}\n{qos} last\n"),
                    "{version}, TLS {secure}"
                );
                eventually("the subscriber is gone", async || rules(&server.handle.snapshot().await) == 0)
                    .await;
            }
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_levels_pass_on_one_shard() {
    all_levels_pass(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_levels_pass_on_two_shards() {
    all_levels_pass(two_shards).await;
}
