//! What devices have announced on an existing broker: its retained messages under `tasmota/discovery/`. Nothing is
//! published there.

use std::time::Duration;

use quoll_mqtt::client::{ClientOptions, Event};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter};
use quoll_server::client::{Client, ClientError, Target};
use quoll_tasmota::discover::{AnnouncementError, Finding, announced};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, Outcome};

/// Retained messages come at once after the subscription; this long a silence means that they are over.
const QUIET: Duration = Duration::from_millis(1500);
/// For a broker that never falls silent.
const LONGEST: Duration = Duration::from_secs(20);
/// Most announcements that are read.
const MOST: usize = 20_000;

/// A broker to ask.
pub(crate) struct Source {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

/// What was read there.
pub(crate) struct Announced {
    pub(crate) devices: Vec<Finding>,
    /// Announcements that make no sense, in words.
    pub(crate) odd: Vec<String>,
}

/// Reads all announcements. `console_port` is where consoles are expected: an announcement says none.
pub(crate) async fn read(source: &Source, console_port: u16) -> Outcome<Announced> {
    let target = Target { host: source.host.clone(), port: source.port, tls: None };
    let mut options = ClientOptions::new(ProtocolVersion::V311, format!("quoll-find-{}", std::process::id()));
    options.username.clone_from(&source.user);
    options.password = source.password.as_ref().map(|password| password.as_bytes().to_vec().into());
    let (mut client, _) = Client::connect(&target, options).await.map_err(|error| failure(source, &error))?;
    let filter = TopicFilter::parse("tasmota/discovery/+/config").expect("a filter");
    client.subscribe_to(filter, QoS::AtMostOnce).await.map_err(|error| failure(source, &error))?;
    let mut read = Announced { devices: Vec::new(), odd: Vec::new() };
    let end = Instant::now() + LONGEST;
    while Instant::now() < end && read.devices.len() + read.odd.len() < MOST {
        let event = match timeout(QUIET, client.next()).await {
            Err(_) => break,
            Ok(event) => event.map_err(|error| failure(source, &error))?,
        };
        let Event::Message(message) = event else { continue };
        let Some(topic) = &message.topic else { continue };
        match announced(topic.as_str(), &message.payload, console_port) {
            Ok(found) => read.devices.push(found),
            Err(AnnouncementError::Withdrawn) => {}
            Err(error) => read.odd.push(format!("{}: {error}", topic.as_str())),
        }
    }
    client.disconnect(ReasonCode::SUCCESS).await.ok();
    Ok(read)
}

fn failure(source: &Source, error: &ClientError) -> Failure {
    let failed =
        Failure::new(Exit::System, format!("the broker {}:{} cannot be asked", source.host, source.port))
            .why(error);
    match error {
        ClientError::Refused(_) => {
            failed.hint("give --user and --password-file of somebody who may read there")
        }
        ClientError::Unreachable { .. } => failed.hint("check host and port, and that the broker runs"),
        _ => failed.hint("plain MQTT is spoken; a TLS listener answers otherwise"),
    }
}
