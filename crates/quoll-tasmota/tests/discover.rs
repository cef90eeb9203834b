//! Finding devices: sweeps of loopback addresses with virtual devices on them, and what they announce about themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::Duration;

use common::free_port::free_port;
use quoll_tasmota::{
    Mac, SetOption,
    discover::{Ability, Range, Rung, Visit, announced, sweep, visit},
    virtual_device::{
        Chip, Faults, Firmware, Flash, Machine, Now, RunningDevice, VirtualDevice, VirtualProfile,
    },
};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};
use zeroize::Zeroizing;

async fn device(host: &str, port: u16, profile: VirtualProfile) -> RunningDevice {
    VirtualDevice::start(profile, TcpListener::bind((host, port)).await.unwrap()).unwrap()
}

fn profile(chip: Chip, firmware: Firmware, last: u8) -> VirtualProfile {
    VirtualProfile { pace: 0.02, ..VirtualProfile::new(chip, firmware, Mac([2, 0, 0, 0, 0, last])) }
}

#[tokio::test]
async fn a_sweep_finds_the_devices_among_others() {
    let port = free_port();
    let stock = device("127.0.10.2", port, profile(Chip::Esp8266, Firmware::Stock, 2)).await;
    let wroom = device("127.0.10.5", port, profile(Chip::Esp32, Firmware::Stock, 5)).await;
    let custom = VirtualProfile {
        web_password: "open sesame".into(),
        broker: ("127.0.0.9".into(), 1),
        ..profile(Chip::Esp8266, Firmware::ClientCert, 7)
    };
    let custom = device("127.0.10.7", port, custom).await;
    let faults = Faults { impostor: Some("lighttpd".into()), ..Faults::default() };
    let router = VirtualProfile { faults, ..profile(Chip::Esp32, Firmware::Stock, 9) };
    let router = device("127.0.10.9", port, router).await;
    // Says something that is no HTTP to whoever connects.
    let ssh = TcpListener::bind(("127.0.10.11", port)).await.unwrap();
    let greeter = tokio::spawn(async move {
        while let Ok((mut socket, _)) = ssh.accept().await {
            let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await;
        }
    });

    let range: Range = "127.0.10.0/28".parse().unwrap();
    let password = Zeroizing::new("open sesame".to_owned());
    let swept = timeout(Duration::from_secs(60), sweep(range, port, Some(&password))).await.unwrap();
    assert_eq!((swept.asked, swept.strangers, swept.found.len()), (14, 2, 3), "{swept:?}");
    let rungs: Vec<_> = swept.found.iter().map(|found| (found.address().unwrap(), found.rung())).collect();
    let at = |last: u8| format!("127.0.10.{last}:{port}");
    assert_eq!(
        rungs,
        [(at(2), Some(Rung::Plain)), (at(5), Some(Rung::Pinned)), (at(7), Some(Rung::Mutual)),]
    );
    let found = &swept.found[2];
    assert_eq!(found.mac, Some(Mac([2, 0, 0, 0, 0, 7])));
    assert_eq!(found.broker, Some(("127.0.0.9".into(), 1)));
    assert_eq!((found.heap, found.rssi), (Some(25), Some(78)));
    assert_eq!(found.chip.as_deref(), Some("ESP8266EX"));
    assert!(found.clock_off.unwrap().abs() < 5);
    greeter.abort();
    for device in [stock, wroom, custom, router] {
        device.stop().await;
    }
}

#[tokio::test]
async fn a_device_that_wants_a_password_is_found_and_says_so() {
    let locked = VirtualProfile { web_password: "secret".into(), ..profile(Chip::Esp32, Firmware::Stock, 3) };
    let device = device("127.0.0.1", 0, locked).await;
    let port = device.http_addr().port();
    for password in [None, Some(Zeroizing::new("wrong".to_owned()))] {
        let Visit::Device(found) = visit("127.0.0.1", port, password.as_ref()).await else {
            panic!("it is one")
        };
        assert!(found.problem.as_ref().unwrap().contains("web password"), "{found:?}");
        assert_eq!((found.ability, found.rung()), (None, None));
    }
    device.stop().await;
}

#[tokio::test]
async fn a_device_with_mqtt_off_is_not_taken_for_one_without_tls() {
    let device = device("127.0.0.1", 0, profile(Chip::Esp32, Firmware::ClientCert, 4)).await;
    device.type_command("SetOption3 0").unwrap();
    let Visit::Device(found) = visit("127.0.0.1", device.http_addr().port(), None).await else {
        panic!("it is one")
    };
    assert_eq!((found.ability, found.rung()), (Some(Ability::MqttOff), None));
    assert!(found.takes(Rung::Pinned).contains("SetOption3 1"));
    device.stop().await;
}

#[tokio::test]
async fn a_hanging_device_costs_a_bounded_time() {
    let faults = Faults { hangs: true, ..Faults::default() };
    let hanging = VirtualProfile { faults, ..profile(Chip::Esp32, Firmware::Stock, 6) };
    let device = device("127.0.0.1", 0, hanging).await;
    let seen = timeout(Duration::from_secs(20), visit("127.0.0.1", device.http_addr().port(), None)).await;
    assert!(matches!(seen.unwrap(), Visit::Stranger(_)));
    device.stop().await;
}

#[test]
fn what_a_device_announces_is_read_back() {
    let profile = profile(Chip::Esp32, Firmware::ClientCert, 8);
    let now = Now { up: Duration::ZERO, utc: 1_790_000_000 };
    let mut machine =
        Machine::boot(profile.clone(), Flash::factory(&profile), ([127, 0, 0, 8], 80).into(), now);
    assert!(!machine.settings().option(SetOption::MQTT_TLS));
    machine.command("DeviceName Lamp", now);
    machine.connected(now);
    machine.tick(Now { up: Duration::from_secs(20), ..now });
    let said = machine.take_publications();
    let config = said.iter().find(|said| said.topic.ends_with("/config")).expect("it announces itself");
    assert!(config.retain);
    let found = announced(&config.topic, &config.payload, 80).unwrap();
    assert_eq!(found.mac, Some(profile.mac));
    assert_eq!(found.address().as_deref(), Some("127.0.0.8"));
    assert_eq!((found.name.as_deref(), found.topic.as_deref()), (Some("Lamp"), Some("tasmota_000008")));
}
