//! The serial road, over a pseudo-terminal, to a virtual device.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{path::PathBuf, time::Duration};

use quoll_tasmota::{
    Command, Console, ConsoleError, Mac, Refusal, SerialConsole, SetOption, Setting, StatusPage,
    virtual_device::{Chip, Firmware, Flash, RunningDevice, VirtualDevice, VirtualProfile, Wiring},
};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

const MAC: Mac = Mac([2, 0, 0, 0xA1, 0xB2, 0xC3]);
const PATIENCE: Duration = Duration::from_secs(20);
/// 32 bytes, and 300: a device checks no more than lengths.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn profile(firmware: Firmware) -> VirtualProfile {
    VirtualProfile { pace: 0.02, ..VirtualProfile::new(Chip::Esp8266, firmware, MAC) }
}

fn start(profile: VirtualProfile) -> (RunningDevice, SerialConsole, PathBuf) {
    let flash = Flash::factory(&profile);
    let mut device = VirtualDevice::start_wired(profile, flash, Wiring::default()).unwrap();
    let path = device.attach_serial().unwrap();
    let console = SerialConsole::open(&path).unwrap().with_patience(Duration::from_secs(3));
    (device, console, path)
}

/// A command that no builder makes, through the one that takes free text.
fn device_name(text: &str) -> Command {
    Command::set(Setting::DeviceName, text).unwrap()
}

#[tokio::test]
async fn a_device_answers_over_its_serial_line() {
    let (device, console, _) = start(profile(Firmware::ClientCert));
    let firmware = console.ask(&Command::status(StatusPage::Firmware)).await.unwrap().firmware().unwrap();
    assert_eq!(firmware.number, [15, 3, 0, 0]);
    let network = console.ask(&Command::status(StatusPage::Network)).await.unwrap().network().unwrap();
    assert_eq!(network.mac, MAC);
    let option = console.ask(&Command::set_option(SetOption::ECDSA, true)).await.unwrap();
    assert!(option.option(SetOption::ECDSA).unwrap());
    let name = console.ask(&device_name("Lamp = {odd} RSL: x = {}")).await.unwrap();
    assert_eq!(name.setting(Setting::DeviceName).unwrap(), "Lamp = {odd} RSL: x = {}");
    assert_eq!(console.ask(&Command::tls_key()).await.unwrap().tls_key().unwrap().key, None);
    device.stop().await;
}

#[tokio::test]
async fn a_refusal_is_a_refusal_and_the_log_keeps_no_command() {
    let (device, console, _) = start(profile(Firmware::Stock));
    let reply = console.ask(&Command::tls_key()).await.unwrap();
    assert_eq!(reply.refusal(), Some(Refusal::Unknown));
    let log = console.log_lines().await.unwrap();
    assert!(log.iter().all(|line| !line.contains("CMD:") && !line.contains("Input")), "{log:?}");
    device.stop().await;
}

#[tokio::test]
async fn a_line_that_does_not_fit_is_not_sent() {
    let (device, console, _) = start(profile(Firmware::ClientCert));
    let commands: Vec<Command> = (0..12).map(|_| device_name(&"x".repeat(60))).collect();
    let long = Command::backlog(&commands).unwrap();
    let error = console.ask(&long).await.unwrap_err();
    assert!(matches!(error, ConsoleError::TooLong { limit: 799, .. }), "{error}");
    let error = console.ask(&device_name("Küche")).await.unwrap_err();
    assert!(matches!(error, ConsoleError::NotAscii { .. }), "{error}");
    device.stop().await;
}

#[tokio::test]
async fn the_device_itself_drops_what_is_too_long() {
    let profile = profile(Firmware::ClientCert);
    let flash = Flash::factory(&profile);
    let now = quoll_tasmota::virtual_device::Now { up: Duration::ZERO, utc: 1_790_000_000 };
    let mut machine =
        quoll_tasmota::virtual_device::Machine::boot(profile, flash, ([127, 0, 0, 1], 80).into(), now);
    machine.attach_serial();
    for (length, fits) in [(799, true), (800, false)] {
        machine.take_printed();
        machine.serial_line(&format!("DeviceName {}", "x".repeat(length - 11)), now);
        let printed = machine.take_printed();
        assert_eq!(printed.iter().any(|line| line.contains("DeviceName\":")), fits, "{length}");
        assert_eq!(printed.iter().any(|line| line.contains("buffer overrun")), !fits, "{length}");
    }
}

#[tokio::test]
async fn a_typed_key_stands_in_the_web_log_unless_that_is_turned_down() {
    let profile = profile(Firmware::ClientCert);
    let flash = Flash::factory(&profile);
    let now = quoll_tasmota::virtual_device::Now { up: Duration::ZERO, utc: 1_790_000_000 };
    for (level, stands) in [("WebLog 2", true), ("WebLog 1", false)] {
        let mut machine = quoll_tasmota::virtual_device::Machine::boot(
            profile.clone(),
            flash.clone(),
            ([127, 0, 0, 1], 80).into(),
            now,
        );
        machine.attach_serial();
        machine.serial_line(level, now);
        machine.serial_line(&format!("TLSKey1 {KEY}"), now);
        assert_eq!(machine.stored().key, Some(32));
        assert_eq!(machine.log(0).contains(KEY), stands, "{level}");
        assert!(
            machine.take_printed().iter().any(|line| line.contains(r#"RESULT = {"TLSKey1":32"#)),
            "{level}"
        );
    }
}

#[tokio::test]
async fn a_backlog_and_a_restart_are_survived() {
    let (device, console, _) = start(profile(Firmware::ClientCert));
    let commands = [
        Command::set(Setting::MqttHost, "127.0.0.9").unwrap(),
        Command::set(Setting::MqttPort, "18830").unwrap(),
    ];
    assert!(console.ask(&Command::backlog(&commands).unwrap()).await.unwrap().is_empty());
    let settled = async {
        loop {
            let reply = console.ask(&Command::status(StatusPage::Mqtt)).await;
            let mqtt = reply.ok().and_then(|reply| reply.mqtt().ok());
            if device.state().boot_count == 2 && mqtt.is_some_and(|mqtt| mqtt.port == 18830) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("it comes back with its new settings");
    device.stop().await;
}

#[tokio::test]
async fn an_answer_is_told_from_telemetry_and_noise() {
    let (device, console, _) = start(profile(Firmware::ClientCert));
    // Half a line typed by somebody else before us, and publications in between.
    device.type_command("Power TOGGLE").unwrap();
    for _ in 0..3 {
        device.type_command("State").unwrap();
        let reply = console.ask(&Command::ask(Setting::Topic)).await.unwrap();
        assert_eq!(reply.setting(Setting::Topic).unwrap(), "tasmota_A1B2C3");
    }
    device.stop().await;
}

#[tokio::test]
async fn ports_that_cannot_be_used_say_why() {
    for (path, why) in [("/dev/no-such-port", "No such file"), ("/dev/null", "")] {
        let error = SerialConsole::open(path.as_ref()).err().expect(path);
        assert!(matches!(&error, ConsoleError::Port { why: told, .. } if told.contains(why)), "{error}");
        assert!(error.hint().unwrap().contains("dialout"));
    }
    let (device, console, path) = start(profile(Firmware::Stock));
    drop(device);
    let error = console.ask(&Command::tls_key()).await.unwrap_err();
    assert!(matches!(error, ConsoleError::Broken { .. } | ConsoleError::Timeout { .. }), "{error}");
    assert!(!path.exists() || SerialConsole::open(&path).is_ok());
}

#[tokio::test]
async fn a_flash_can_be_typed_for_thousands() {
    let profile = profile(Firmware::ClientCert);
    let certificate = "A".repeat(400);
    let lines = [
        "SetOption103 1".to_owned(),
        "MqttUser lamp".to_owned(),
        format!("TLSKey1 {KEY}"),
        format!("TLSKey2 {certificate}"),
    ]
    .map(Zeroizing::new);
    let flash = Flash::typed(&profile, &lines, 1_790_000_000);
    assert!(flash.settings.option(SetOption::MQTT_TLS));
    let stored = flash.keys.as_ref().unwrap().stored();
    assert_eq!((stored.key, stored.certificate), (Some(32), Some(300)));
    assert_eq!(flash.boots, 0);
}
