//! The harmless questions to one device. Nothing is changed on it, and nothing secret is sent.

use super::finding::{Ability, Finding};
use crate::{
    command::{Command, StatusPage},
    console::{Console, ConsoleError},
    reply::{Reply, ReplyError},
    setting::Setting,
};

/// Asks a device what it is. `utc` is the true time, in seconds since 1970. Answers that are missing or make no sense
/// leave their field empty; the host and port of the result are for the caller to fill in.
///
/// # Errors
/// The device does not answer, or is none.
pub async fn examine(console: &dyn Console, utc: u64) -> Result<Finding, ConsoleError> {
    // The first answer decides whether it is a Tasmota at all.
    let firmware = console.ask(&Command::status(StatusPage::Firmware)).await?.firmware().ok();
    let network = console.ask(&Command::status(StatusPage::Network)).await?.network().ok();
    let mqtt = console.ask(&Command::status(StatusPage::Mqtt)).await?.mqtt();
    let clock = console.ask(&Command::status(StatusPage::Time)).await?.clock().ok();
    let vitals = console.ask(&Command::status(StatusPage::State)).await?.vitals();
    // Not known from the firmware's source, only from devices: taken where it is there.
    let memory = console.ask(&Command::status(StatusPage::Memory)).await?;
    let flash = memory.field("StatusMEM").and_then(|memory| memory.get("FlashSize")?.as_u64());
    let ability = match &mqtt {
        Err(ReplyError::Refused) => Some(Ability::MqttOff),
        _ => ability(console).await?,
    };
    let text = async |setting| -> Result<Option<String>, ConsoleError> {
        let reply: Reply = console.ask(&Command::ask(setting)).await?;
        Ok(reply.setting(setting).ok().filter(|text| !text.is_empty()))
    };
    let mqtt = mqtt.ok();
    let apart = |clock: u64| i64::try_from(clock).unwrap_or(i64::MAX).saturating_sub_unsigned(utc);
    Ok(Finding {
        host: None,
        port: 80,
        mac: network.as_ref().map(|network| network.mac),
        name: text(Setting::DeviceName).await?,
        crashes_without_broker: firmware.as_ref().is_some_and(|firmware| firmware.crashes_without_broker()),
        chip: firmware.as_ref().map(|firmware| firmware.hardware.clone()).filter(|chip| !chip.is_empty()),
        firmware: firmware.map(|firmware| firmware.version),
        heap: vitals.heap,
        rssi: vitals.rssi,
        topic: text(Setting::Topic).await?,
        client: mqtt.as_ref().map(|mqtt| mqtt.client.clone()),
        user: mqtt.as_ref().map(|mqtt| mqtt.user.clone()),
        flash,
        broker: mqtt.map(|mqtt| (mqtt.host, mqtt.port)),
        clock_off: clock.map(apart),
        ability,
        problem: None,
    })
}

/// In the order of facts §7.3.
async fn ability(console: &dyn Console) -> Result<Option<Ability>, ConsoleError> {
    match console.ask(&Command::mqtt_tls()).await?.knows_mqtt_tls() {
        Ok(()) => {}
        Err(ReplyError::Unknown) => return Ok(Some(Ability::NoTls)),
        Err(_) => return Ok(None),
    }
    Ok(match console.ask(&Command::tls_key()).await?.tls_key() {
        Ok(stored) => Some(Ability::ClientCert(stored)),
        Err(ReplyError::Unknown) => Some(Ability::Server),
        Err(_) => None,
    })
}
