//! The real HTTP console against the virtual device, over a socket: enrolment's steps, encoding, and every fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    certificates::{Identity, Key, Office},
    shared,
};
use proptest::prelude::*;
use quoll_tasmota::{
    Command, CommandError, Console, ConsoleError, Fingerprint, FingerprintSlot, HttpConsole, Mac, Refusal,
    ReplyError, Road, SetOption, Setting, Slot, StatusPage, Stored, TlsKey1, TlsKey2,
    setting::Kind,
    virtual_device::{
        Chip, ClockFault, DeviceState, Faults, Firmware, Flash, Machine, MemoryConsole, Now, RunningDevice,
        VirtualDevice, VirtualProfile,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::{sleep, timeout},
};

const MAC: Mac = Mac([2, 0, 0, 0xA1, 0xB2, 0xC3]);

fn profile(firmware: Firmware) -> VirtualProfile {
    VirtualProfile { pace: 0.02, ..VirtualProfile::new(Chip::Esp32, firmware, MAC) }
}

async fn start(profile: VirtualProfile) -> (RunningDevice, HttpConsole) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let device = VirtualDevice::start(profile, listener).unwrap();
    let console = HttpConsole::new("127.0.0.1", device.http_addr().port());
    (device, console)
}

/// Waits for a state; ten seconds are plenty at the pace of tests.
async fn until(device: &RunningDevice, what: &str, reached: impl Fn(&DeviceState) -> bool) {
    for _ in 0..1000 {
        if reached(&device.state()) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not reached: {what}: {:?}", device.state());
}

fn kitchen() -> (TlsKey1, TlsKey2) {
    let identity = Identity {
        certificate: shared("fixtures/tlskeys/tasmota_kitchen.cert.pem"),
        key: shared("fixtures/tlskeys/tasmota_kitchen.key.pem"),
    };
    (TlsKey1::new(&identity.scalar()).unwrap(), TlsKey2::new(&identity.der(), Road::Http).unwrap())
}

#[tokio::test]
async fn a_key_and_certificate_arrive_intact_and_survive_a_restart() {
    for chip in [Chip::Esp8266, Chip::Esp32] {
        let (device, console) = start(VirtualProfile { chip, ..profile(Firmware::ClientCert) }).await;
        let (key, certificate) = kitchen();
        assert_eq!(console.ask(&Command::tls_key()).await.unwrap().tls_key(), Ok(Stored::default()));
        let reply = console.ask(&Command::tls_key1(&key)).await.unwrap();
        assert_eq!(reply.tls_key(), Ok(Stored { key: Some(32), certificate: None }));
        let reply = console.ask(&Command::tls_key2(&certificate)).await.unwrap();
        assert_eq!(reply.tls_key(), Ok(certificate.expected()), "{chip:?}");
        device.power_cut();
        assert!(!device.state().running);
        until(&device, "second boot", |state| state.boot_count == 2 && state.running).await;
        assert_eq!(console.ask(&Command::tls_key()).await.unwrap().tls_key(), Ok(certificate.expected()));
        device.stop().await;
    }
}

/// Facts §0.5: the same certificate with bare plus signs is stored, damaged, with a reply of success.
#[tokio::test]
async fn a_naive_request_stores_a_damaged_certificate_and_the_length_tells() {
    let (device, console) = start(profile(Firmware::ClientCert)).await;
    let (key, certificate) = kitchen();
    let base64 = certificate.base64();
    let pluses = base64.matches('+').count();
    assert!(pluses > 0, "the fixture has plus signs");
    console.ask(&Command::tls_key1(&key)).await.unwrap();
    let naive = format!("GET /cm?cmnd=TLSKey2%20{base64} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut socket = TcpStream::connect(device.http_addr()).await.unwrap();
    socket.write_all(naive.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#"{"TLSKey1":32,"TLSKey2":"#) && !answer.contains("Error"), "{answer}");
    let stored = console.ask(&Command::tls_key()).await.unwrap().tls_key().unwrap();
    assert!(stored.certificate.unwrap() < certificate.der().len());
    assert_ne!(stored, certificate.expected());
    console.ask(&Command::tls_key2(&certificate)).await.unwrap();
    assert_eq!(console.ask(&Command::tls_key()).await.unwrap().tls_key(), Ok(certificate.expected()));
    device.stop().await;
}

#[tokio::test]
async fn one_backlog_changes_everything_with_one_restart() {
    let (device, console) = start(profile(Firmware::ClientCert)).await;
    let fingerprint: Fingerprint =
        "08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB".parse().unwrap();
    let backlog = Command::backlog(&[
        Command::set_fingerprint(FingerprintSlot::One, &fingerprint),
        Command::set_fingerprint(FingerprintSlot::Two, &Fingerprint::MATCHES_NOTHING),
        Command::set_option(SetOption::FINGERPRINT_MODE, true),
        Command::set_option(SetOption::MQTT_TLS, true),
        Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
        Command::set(Setting::MqttPort, "9").unwrap(),
        Command::set(Setting::MqttUser, "plug & friends").unwrap(),
        Command::set(Setting::MqttPassword, "a+b/c=d%20&e#f").unwrap(),
    ])
    .unwrap();
    assert!(backlog.is_secret() && backlog.restarts() && !format!("{backlog} {backlog:?}").contains("a+b"));
    assert!(console.ask(&backlog).await.unwrap().is_empty());
    until(&device, "the restart", |state| state.boot_count == 2 && state.running).await;
    assert_eq!(device.state().broker, ("127.0.0.1".into(), 9));
    let ask = async |command: Command| console.ask(&command).await.unwrap();
    let slot = ask(Command::ask_fingerprint(FingerprintSlot::One)).await.fingerprint(FingerprintSlot::One);
    assert_eq!(slot, Ok(Slot::Pinned(fingerprint)));
    assert_eq!(ask(Command::ask_option(SetOption::MQTT_TLS)).await.option(SetOption::MQTT_TLS), Ok(true));
    assert_eq!(ask(Command::mqtt_tls()).await.mqtt_tls(), Ok(true));
    assert_eq!(
        ask(Command::ask(Setting::MqttUser)).await.setting(Setting::MqttUser).unwrap(),
        "plug & friends"
    );
    assert_eq!(
        ask(Command::ask(Setting::MqttPassword)).await.setting(Setting::MqttPassword).unwrap(),
        "****"
    );
    let mqtt = ask(Command::status(StatusPage::Mqtt)).await.mqtt().unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.port, mqtt.tls, mqtt.count), ("127.0.0.1", 9, Some(true), 0));
    device.stop().await;
}

#[tokio::test]
async fn status_pages_and_probes_tell_the_firmware_apart() {
    for (chip, firmware, tls, keys) in [
        (Chip::Esp8266, Firmware::Stock, false, false),
        (Chip::Esp32, Firmware::Stock, true, false),
        (Chip::Esp8266, Firmware::TlsOnly, true, false),
        (Chip::Esp8266, Firmware::ClientCert, true, true),
    ] {
        let (device, console) = start(VirtualProfile { chip, ..profile(firmware) }).await;
        let ask = async |command: Command| console.ask(&command).await.unwrap();
        let name = format!("{chip:?} {firmware:?}");
        let found = ask(Command::status(StatusPage::Firmware)).await.firmware().unwrap();
        assert_eq!((found.number, found.is_esp32()), ([15, 3, 0, 0], chip == Chip::Esp32), "{name}");
        assert_eq!(ask(Command::status(StatusPage::Memory)).await.has_tls(), Ok(tls), "{name}");
        let probe = ask(Command::mqtt_tls()).await.mqtt_tls();
        assert_eq!(probe, if tls { Ok(false) } else { Err(ReplyError::Unknown) }, "{name}");
        let probe = ask(Command::tls_key()).await.tls_key();
        assert_eq!(probe, if keys { Ok(Stored::default()) } else { Err(ReplyError::Unknown) }, "{name}");
        // Useless as a probe: accepted by everyone.
        let option = ask(Command::ask_option(SetOption::FINGERPRINT_MODE)).await;
        assert_eq!(option.option(SetOption::FINGERPRINT_MODE), Ok(false), "{name}");
        let network = ask(Command::status(StatusPage::Network)).await.network().unwrap();
        assert_eq!((network.mac, network.ip), (MAC, Some("127.0.0.1".parse().unwrap())), "{name}");
        assert_eq!(ask(Command::status(StatusPage::State)).await.mqtt_count(), Ok(0), "{name}");
        device.stop().await;
    }
}

#[tokio::test]
async fn a_web_password_is_asked_for_and_accepted() {
    let locked = VirtualProfile { web_password: "p+ä:%".into(), ..profile(Firmware::Stock) };
    let (device, console) = start(locked).await;
    let status = Command::status(StatusPage::Firmware);
    let unauthorized = |sent| ConsoleError::Unauthorized { address: console.address(), sent };
    assert_eq!(console.ask(&status).await, Err(unauthorized(false)));
    assert_eq!(console.log(0).await, Err(unauthorized(false)));
    let port = device.http_addr().port();
    let wrong = HttpConsole::new("127.0.0.1", port).with_password("guess");
    assert_eq!(wrong.ask(&status).await, Err(unauthorized(true)));
    let right = HttpConsole::new("127.0.0.1", port).with_password("p+ä:%");
    right.ask(&status).await.unwrap().firmware().unwrap();
    device.stop().await;
}

#[tokio::test]
async fn a_referer_check_is_satisfied_by_the_address_and_nothing_else() {
    let (device, console) = start(profile(Firmware::Stock)).await;
    let strict = Command::set_option(SetOption::HTTP_WITHOUT_REFERER, false);
    assert_eq!(console.ask(&strict).await.unwrap().option(SetOption::HTTP_WITHOUT_REFERER), Ok(false));
    console.ask(&Command::status(StatusPage::Firmware)).await.unwrap();
    // By another name of the same machine the Referer does not fit.
    let other = HttpConsole::new("localhost", device.http_addr().port());
    let denied = other.ask(&Command::status(StatusPage::Firmware)).await.unwrap_err();
    assert!(matches!(denied, ConsoleError::RefererDenied { .. }), "{denied:?}");
    assert!(
        console
            .log(0)
            .await
            .unwrap()
            .lines
            .iter()
            .any(|line| line.contains("Referer") && line.contains("denied"))
    );
    device.stop().await;
}

#[tokio::test]
async fn user_mode_and_a_switched_off_web_server_are_told_apart() {
    let (device, console) = start(profile(Firmware::Stock)).await;
    device.type_command("WebServer 1").unwrap();
    let status = Command::status(StatusPage::Firmware);
    assert!(matches!(console.ask(&status).await, Err(ConsoleError::UserMode { .. })));
    device.type_command("WebServer 0").unwrap();
    let gone = console.ask(&status).await.unwrap_err();
    assert!(gone.may_pass() && gone.hint().is_some(), "{gone:?}");
    device.stop().await;
}

/// Walk 4.2 of the layout, and facts §0.4: nothing secret goes to something that is no Tasmota.
#[tokio::test]
async fn no_key_is_sent_to_an_impostor() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(String::new()));
    let ears = heard.clone();
    let router = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let bytes = socket.read(&mut buffer).await.unwrap();
            ears.lock().await.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
            let answer = "HTTP/1.1 200 OK\r\nServer: lighttpd\r\nContent-Length: 2\r\n\r\n{}";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let console = HttpConsole::new("127.0.0.1", port);
    let error = console.ask(&Command::tls_key1(&kitchen().0)).await.unwrap_err();
    assert!(
        matches!(&error, ConsoleError::NotTasmota { seen, .. } if seen.contains("lighttpd")),
        "{error:?}"
    );
    let password = Command::set(Setting::MqttPassword, "very secret").unwrap();
    console.ask(&password).await.unwrap_err();
    let heard = heard.lock().await.clone();
    assert!(
        heard.contains("Status%202") && !heard.contains("TLSKey1") && !heard.contains("secret"),
        "{heard}"
    );
    router.abort();
}

#[tokio::test]
async fn each_fault_shows_as_its_own_error() {
    let impostor = Faults { impostor: Some("nginx".into()), ..Faults::default() };
    let (device, console) = start(VirtualProfile { faults: impostor, ..profile(Firmware::Stock) }).await;
    let status = Command::status(StatusPage::Firmware);
    assert!(matches!(console.ask(&status).await, Err(ConsoleError::NotTasmota { .. })));
    device.stop().await;

    let hangs = Faults { hangs: true, ..Faults::default() };
    let (device, _) = start(VirtualProfile { faults: hangs, ..profile(Firmware::Stock) }).await;
    let short = Duration::from_millis(300);
    let console = HttpConsole::new("127.0.0.1", device.http_addr().port()).with_patience(short, short);
    assert!(matches!(console.ask(&status).await, Err(ConsoleError::Timeout { .. })));
    let address = device.http_addr();
    timeout(Duration::from_secs(5), device.stop()).await.expect("a hanging device can be stopped");
    let console = HttpConsole::new("127.0.0.1", address.port());
    assert!(matches!(console.ask(&status).await, Err(ConsoleError::Unreachable { .. })));

    let refuses = Faults { refuses: Some("TLSKey2".into()), ..Faults::default() };
    let (device, console) = start(VirtualProfile { faults: refuses, ..profile(Firmware::ClientCert) }).await;
    let (key, certificate) = kitchen();
    console.ask(&Command::tls_key1(&key)).await.unwrap();
    let reply = console.ask(&Command::tls_key2(&certificate)).await.unwrap();
    assert_eq!((reply.refusal(), reply.tls_key()), (Some(Refusal::Error), Err(ReplyError::Refused)));
    device.stop().await;

    let dies = Faults { dies_after: Some("TLSKey1".into()), ..Faults::default() };
    let (device, console) = start(VirtualProfile { faults: dies, ..profile(Firmware::ClientCert) }).await;
    console.ask(&Command::tls_key1(&key)).await.unwrap();
    until(&device, "the boot after the power cut", |state| state.boot_count == 2 && state.running).await;
    let half = console.ask(&Command::tls_key()).await.unwrap().tls_key();
    assert_eq!(half, Ok(Stored { key: Some(32), certificate: None }));
    console.ask(&Command::tls_key1(&key)).await.unwrap();
    let reply = console.ask(&Command::tls_key2(&certificate)).await.unwrap();
    assert_eq!(reply.tls_key(), Ok(certificate.expected()), "the second attempt is not cut off");
    device.stop().await;
}

#[tokio::test]
async fn a_device_is_away_while_it_restarts() {
    let (device, console) = start(VirtualProfile { pace: 0.1, ..profile(Firmware::Stock) }).await;
    console.ask(&Command::restart()).await.unwrap();
    assert!(device.state().restarting);
    until(&device, "it is down", |state| !state.running).await;
    let error = console.ask(&Command::status(StatusPage::Firmware)).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
    until(&device, "it is back", |state| state.running && state.boot_count == 2).await;
    console.ask(&Command::status(StatusPage::Firmware)).await.unwrap();
    device.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_can_be_seen_and_set() {
    for (clock, expected) in
        [(ClockFault::Unset, 0..60), (ClockFault::Wrong(-1_000_000_000), 700_000_000..900_000_000)]
    {
        let faults = Faults { clock, ..Faults::default() };
        let (device, console) = start(VirtualProfile { faults, ..profile(Firmware::Stock) }).await;
        let seen = console.ask(&Command::status(StatusPage::Time)).await.unwrap().clock().unwrap();
        assert!(expected.contains(&seen), "{clock:?}: {seen}");
        console.ask(&Command::time(1_795_359_210).unwrap()).await.unwrap();
        let seen = console.ask(&Command::status(StatusPage::Time)).await.unwrap().clock().unwrap();
        assert!((1_795_359_210..1_795_359_270).contains(&seen), "{clock:?}: {seen}");
        device.stop().await;
    }
}

#[tokio::test]
async fn what_is_too_long_is_not_sent() {
    let (device, console) = start(profile(Firmware::Stock)).await;
    let host = Command::set(Setting::MqttHost, &"h".repeat(100)).unwrap();
    let error = Command::backlog(&vec![host; 12]).unwrap_err();
    assert!(matches!(error, CommandError::LongBacklog { limit: 1199, .. }), "{error:?}");
    // The device itself takes such a request for an empty command.
    let long = format!("GET /cm?cmnd={} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1200));
    let mut socket = TcpStream::connect(device.http_addr()).await.unwrap();
    socket.write_all(long.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#"{"WARNING":"Enter command cmnd="}"#), "{answer}");
    console.ask(&Command::status(StatusPage::Firmware)).await.unwrap();
    device.stop().await;
}

#[test]
fn values_that_would_not_arrive_as_written_are_refused_without_showing_them() {
    let cases = [
        (Setting::MqttPassword, "a;b", "semicolon"),
        (Setting::MqttPassword, "a\nb", "control"),
        (Setting::MqttPassword, " a", "blank"),
        (Setting::MqttPassword, "0", "clear"),
        (Setting::MqttUser, "", "empty"),
        (Setting::MqttUser, "?", "query"),
        (Setting::Topic, "a/+", "wildcard"),
        (Setting::Topic, "a b", "blank"),
        (Setting::MqttHost, "häuschen", "ASCII"),
        (Setting::MqttPort, "1", "2 to 65535"),
        (Setting::MqttPort, "+80", "2 to 65535"),
        (Setting::WebLog, "9", "0 to 4"),
        (Setting::TelePeriod, "5", "10 to 3600"),
    ];
    for (setting, value, word) in cases {
        let error = Command::set(setting, value).unwrap_err();
        assert!(error.to_string().contains(word), "{setting:?} {value:?}: {error}");
    }
    assert_eq!(Command::set(Setting::TelePeriod, "0").unwrap().text(), "TelePeriod 0");
    let error = Command::set(Setting::MqttPassword, "hunter2;").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let brace = Command::set(Setting::MqttPassword, "a{b").unwrap();
    let semicolon = Command::set_alone(Setting::MqttPassword, "a;b").unwrap();
    assert!(semicolon.is_secret() && semicolon.restarts() && semicolon.text() == "MqttPassword a;b");
    for alone in [brace, semicolon] {
        assert!(!alone.fits_a_backlog());
        let refused = Command::backlog(&[alone]);
        assert_eq!(refused, Err(CommandError::BraceInBacklog { keyword: "MqttPassword".into() }));
    }
    for (setting, value) in [
        (Setting::Topic, "a;b"),
        (Setting::MqttHost, "a;b"),
        (Setting::MqttUser, "0"),
        (Setting::MqttUser, "a\nb"),
    ] {
        assert!(Command::set_alone(setting, value).is_err(), "{setting:?} {value:?}");
    }
}

fn in_memory() -> Machine {
    let profile = profile(Firmware::ClientCert);
    let flash = Flash::factory(&profile);
    Machine::boot(profile, flash, "127.0.0.1:80".parse().unwrap(), now())
}

fn now() -> Now {
    Now { up: Duration::ZERO, utc: 1_795_359_210 }
}

proptest! {
    /// Whatever is accepted as a value is what the device has afterwards.
    #[test]
    fn an_accepted_value_arrives_as_written(value in "\\PC{1,40}") {
        for setting in [Setting::MqttUser, Setting::DeviceName, Setting::MqttHost, Setting::NtpServer1] {
            if let Ok(command) = Command::set(setting, &value) {
                let mut device = in_memory();
                let answers = device.command(command.text(), now());
                let merged = quoll_tasmota::virtual_device::merged(&answers);
                let reply = quoll_tasmota::Reply::parse(merged.as_bytes()).unwrap();
                prop_assert_eq!(reply.setting(setting).unwrap(), value.clone());
            }
        }
    }

    /// Every key arrives as the bytes it is, whatever characters its base64 has.
    #[test]
    fn any_key_arrives_as_it_is(scalar in proptest::array::uniform32(any::<u8>())) {
        let Ok(key) = TlsKey1::new(&scalar) else { return Ok(()) };
        let mut device = in_memory();
        device.command(Command::tls_key1(&key).text(), now());
        let file = device.parts().1.keys.unwrap().file();
        prop_assert_eq!(&file[32..64], &scalar[..]);
    }

    /// A device answers any line with JSON objects, and never falls over.
    #[test]
    fn any_line_is_answered_with_json(line in "(Backlog |TLSKey2? |Status |MqttFingerprint |_?Topic )?\\PC{0,60}") {
        let mut device = in_memory();
        for answer in device.command(&line, now()) {
            prop_assert!(quoll_tasmota::Reply::parse(answer.json.as_bytes()).is_ok(), "{}", answer.json);
        }
        device.tick(Now { up: Duration::from_secs(1), utc: 0 });
    }
}

#[tokio::test]
async fn the_same_steps_work_in_memory_without_a_clock() {
    let profile = VirtualProfile { pace: 1.0, ..profile(Firmware::ClientCert) };
    let console = MemoryConsole::new(profile, 1_795_359_210);
    let (key, certificate) = kitchen();
    console.ask(&Command::tls_key1(&key)).await.unwrap();
    let reply = console.ask(&Command::tls_key2(&certificate)).await.unwrap();
    assert_eq!(reply.tls_key(), Ok(certificate.expected()));
    let steps = [
        Command::set_option(SetOption::MQTT_TLS, true),
        Command::set(Setting::MqttHost, "broker.test").unwrap(),
    ];
    assert!(console.ask(&Command::backlog(&steps).unwrap()).await.unwrap().is_empty());
    let host =
        async || console.ask(&Command::ask(Setting::MqttHost)).await.unwrap().setting(Setting::MqttHost);
    assert_eq!(host().await.unwrap(), "", "the Backlog runs later");
    console.wait(Duration::from_secs(1));
    assert_eq!(host().await.unwrap(), "broker.test");
    assert_eq!(console.with(Machine::boots), 1, "the restart comes two seconds after the Backlog");
    console.wait(Duration::from_secs(5));
    assert_eq!(console.with(Machine::boots), 2);
    let mqtt = console.ask(&Command::status(StatusPage::Mqtt)).await.unwrap().mqtt().unwrap();
    assert_eq!((mqtt.host.as_str(), mqtt.tls), ("broker.test", Some(true)));
    let clock = console.ask(&Command::status(StatusPage::Time)).await.unwrap().clock();
    assert_eq!(clock, Ok(1_795_359_216));
}

#[tokio::test]
async fn clearing_gives_back_what_the_factory_had() {
    let factory = MemoryConsole::new(profile(Firmware::ClientCert), 1_795_359_210);
    let emptied = [Setting::MqttUser, Setting::NtpServer1, Setting::DeviceName];
    for &setting in Setting::ALL {
        let changed = MemoryConsole::new(profile(Firmware::ClientCert), 1_795_359_210);
        let value = if matches!(setting.kind(), Kind::Number { .. }) { "3" } else { "other" };
        let value = if matches!(setting, Setting::MqttRetry | Setting::TelePeriod) { "99" } else { value };
        let of = async |console: &MemoryConsole| {
            console.ask(&Command::ask(setting)).await.unwrap().setting(setting).unwrap()
        };
        changed.ask(&Command::set(setting, value).unwrap()).await.unwrap();
        changed.ask(&Command::clear(setting)).await.unwrap();
        let expected = match setting {
            // A custom build's own default, not the port this profile was given.
            Setting::MqttPort => "8883".into(),
            setting if emptied.contains(&setting) => String::new(),
            _ => of(&factory).await,
        };
        assert_eq!(of(&changed).await, expected, "{setting:?}");
    }
}

/// Settings are saved a second after a change; the key area is written at once.
#[tokio::test]
async fn a_power_cut_takes_what_was_not_saved() {
    let profile = VirtualProfile { pace: 1.0, ..profile(Firmware::ClientCert) };
    let console = MemoryConsole::new(profile, 1_795_359_210);
    let name =
        async || console.ask(&Command::ask(Setting::DeviceName)).await.unwrap().setting(Setting::DeviceName);
    console.ask(&Command::tls_key1(&kitchen().0)).await.unwrap();
    console.ask(&Command::set(Setting::DeviceName, "Kitchen").unwrap()).await.unwrap();
    console.power_cut();
    assert_eq!(name().await.unwrap(), "Tasmota");
    assert_eq!(console.ask(&Command::tls_key()).await.unwrap().tls_key().unwrap().key, Some(32));
    console.ask(&Command::set(Setting::DeviceName, "Kitchen").unwrap()).await.unwrap();
    console.wait(Duration::from_secs(2));
    console.power_cut();
    assert_eq!(name().await.unwrap(), "Kitchen");
}

/// Facts §0.4: why the feature is probed before a key is sent.
#[test]
fn a_device_without_tls_key_echoes_63_characters_of_what_it_got() {
    let profile = profile(Firmware::Stock);
    let flash = Flash::factory(&profile);
    let mut device = Machine::boot(profile, flash, "127.0.0.1:80".parse().unwrap(), now());
    let line = format!("TLSKey1 {}", kitchen().0.base64().as_str());
    let answers = device.command(&line, now());
    assert!(
        answers[0].json.starts_with(r#"{"Command":"Unknown","Input":"TLSKEY t+0H+"#),
        "{}",
        answers[0].json
    );
    let long = format!("NoSuchCommand {}", "x".repeat(100));
    let answers = device.command(&long, now());
    let json: serde_json::Value = serde_json::from_str(&answers[0].json).unwrap();
    assert_eq!(json["Input"].as_str().unwrap().len(), 63);
}

#[tokio::test]
async fn the_office_s_device_certificates_fit_every_road_but_serial_for_rsa() {
    let office = Office::new();
    for (key, serial_fits) in [(Key::P256, true), (Key::Rsa2048, false)] {
        let device = office.device("tasmota_A1B2C3", &office.root("Root", key));
        assert!(TlsKey2::new(&device.der(), Road::Http).is_ok());
        assert_eq!(TlsKey2::new(&device.der(), Road::Serial).is_ok(), serial_fits, "{key:?}");
    }
}
