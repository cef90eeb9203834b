//! The async client against this server and against Mosquitto's programs.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use quoll_mqtt::client::{ClientOptions, Event, Message};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};
use quoll_server::client::{Client, ClientError, Target};

fn plain(server: &Server) -> Target {
    Target { host: "127.0.0.1".into(), port: server.plain.port(), tls: None }
}

fn secure(server: &Server, device: Option<&str>) -> Target {
    let config = Arc::new(pki().client_config(device, &rustls::version::TLS13));
    Target { host: "localhost".into(), port: server.tls.port(), tls: Some(config) }
}

async fn message(client: &mut Client) -> (String, usize) {
    loop {
        if let Event::Message(it) = tokio::time::timeout(LONG, client.next()).await.unwrap().unwrap() {
            return (it.topic.unwrap().as_str().to_owned(), it.payload.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_levels_come_back_plain_and_over_tls() {
    let server = serve(|_| {}).await;
    for target in [plain(&server), secure(&server, Some("lamp"))] {
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            let (mut client, answer) =
                Client::connect(&target, ClientOptions::new(version, "echo")).await.unwrap();
            assert!(!answer.session_present);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let filter = TopicFilter::parse("echo/#").unwrap();
                assert_eq!(client.subscribe_to(filter.clone(), qos).await.unwrap(), ReasonCode(qos as u8));
                for size in [0, 100, 100_000] {
                    let mut sent = Message::new(TopicName::parse("echo/x").unwrap(), vec![b'x'; size]);
                    sent.qos = qos;
                    assert!(!client.publish(&sent).await.unwrap().is_failure());
                    assert_eq!(message(&mut client).await, ("echo/x".into(), size), "{version:?} {qos:?}");
                }
                client.unsubscribe(vec![filter]).await.unwrap();
            }
            client.disconnect(ReasonCode::SUCCESS).await.unwrap();
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mosquitto_publishes_is_heard() {
    let server = serve(|_| {}).await;
    let options = ClientOptions::new(ProtocolVersion::V5, "");
    let (mut client, _) = Client::connect(&plain(&server), options).await.unwrap();
    assert!(!client.client_id().is_empty(), "the server gave it a name");
    client.subscribe_to(TopicFilter::parse("#").unwrap(), QoS::ExactlyOnce).await.unwrap();
    let port = server.plain.port().to_string();
    run_well("mosquitto_pub", &["-p", &port, "-q", "2", "-t", "from/mosquitto", "-m", "hello"]);
    assert_eq!(message(&mut client).await, ("from/mosquitto".into(), 5));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_whose_fault_it_is() {
    let server = serve(|_| {}).await;
    let mut evil = ClientOptions::new(ProtocolVersion::V311, "evil");
    evil.username = Some("evil".into());
    let error = Client::connect(&plain(&server), evil).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(ReasonCode::NOT_AUTHORIZED)), "{error}");
    let good = || ClientOptions::new(ProtocolVersion::V5, "good");
    let error = Client::connect(&secure(&server, None), good()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Tls(error) if error.to_string().contains("CertificateRequired")),
        "{error}"
    );
    let mut elsewhere = secure(&server, Some("lamp"));
    elsewhere.host = "127.0.0.2".into();
    let error = Client::connect(&elsewhere, good()).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls(_) | ClientError::Unreachable { .. }), "{error}");
    let mut nobody = plain(&server);
    server.handle.stop(LONG).await;
    nobody.host = "127.0.0.1".into();
    let error = Client::connect(&nobody, good()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.hint().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_nothing_to_say_stays_alive_by_pinging() {
    let server = serve(|_| {}).await;
    let mut options = ClientOptions::new(ProtocolVersion::V311, "quiet");
    options.keep_alive = 1;
    let (mut client, _) = Client::connect(&plain(&server), options).await.unwrap();
    for _ in 0..4 {
        let event = tokio::time::timeout(LONG, client.next()).await.unwrap().unwrap();
        assert_eq!(event, Event::Alive);
    }
    assert_eq!(server.handle.snapshot().await.connections.len(), 1);
    server.handle.stop(LONG).await;
    assert!(client.next().await.is_err());
}
