//! Quoll's own client at Mosquitto's door, where `mosquitto_pub` is not installed. It looks at the CA and the dates of the
//! server's certificate, not at its name, as the other does with `--insecure`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quoll_mqtt::client::{ClientOptions, Message};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicName};
use quoll_server::bridge::tls;
use quoll_server::client::{Client, Target};
use quoll_server::mosquitto::Disk;
use quoll_server::mosquitto::bridge::BridgeTls;
use quoll_server::mosquitto::tls::{MinimumVersion, Roots};
use rustls::ClientConfig;

use super::proof::Identity;
use crate::failure::{Exit, Failure, Outcome};

/// What is published; no message of anybody's has it.
const TOPIC: &str = "quoll/proof";

/// A visit, on a thread of its own with a runtime of its own: the caller may be in one. `None` where the client was let in.
pub(crate) fn visit(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Outcome<Option<String>> {
    let config = config(ca, identity)?;
    let target = Target { host: address.ip().to_string(), port: address.port(), tls: Some(config) };
    let failed = |why: String| Failure::new(Exit::System, "a client of the proof cannot be run").why(why);
    let visiting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let visit = async { tokio::time::timeout(super::proof::PATIENCE, knock(&target)).await };
        Ok::<_, std::io::Error>(runtime.block_on(visit))
    });
    let visited = visiting.join().map_err(|_| failed("its thread ended".into()))?;
    match visited.map_err(|error| failed(error.to_string()))? {
        Ok(complaint) => Ok(complaint),
        Err(_) => Ok(Some("it was kept waiting".into())),
    }
}

async fn knock(target: &Target) -> Option<String> {
    let topic = TopicName::parse(TOPIC).expect("it is a topic");
    let message = Message { qos: QoS::AtLeastOnce, ..Message::new(topic, Vec::new()) };
    let options = ClientOptions::new(ProtocolVersion::V311, "quoll-proof");
    let (mut client, _) = match Client::connect(target, options).await {
        Ok(connected) => connected,
        Err(error) => return Some(error.to_string()),
    };
    let taken = client.publish(&message).await;
    client.disconnect(ReasonCode::SUCCESS).await.ok();
    match taken {
        Ok(reason) if !reason.is_failure() => None,
        Ok(reason) => Some(format!("its message was refused: {reason}")),
        Err(error) => Some(error.to_string()),
    }
}

/// As a bridge would come: the CA and the dates looked at, the name not.
fn config(ca: &Path, identity: Option<&Identity>) -> Outcome<Arc<ClientConfig>> {
    let tls = BridgeTls {
        roots: Roots { file: Some(ca.to_owned()), folder: None },
        system_roots: false,
        identity: identity.map(|identity| (identity.certificate.clone(), identity.key.clone())),
        insecure: true,
        alpn: None,
        minimum: MinimumVersion::Tls12,
    };
    tls::client_config(&tls, &Disk)
        .map_err(|error| Failure::new(Exit::Unusable, "a client of the proof cannot be made").why(error))
}
