//! What goes wrong with devices of a running node; what `--fix` mends, and what it takes back where it does not help.
//!
//! They are set up as an enrolment leaves them, without one: key and certificate of the house's CA, entered as proven.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use quoll_fleet::device::{DeviceName, Rung};
use quoll_fleet::issuer::{DeviceCredential, Issuer as _, PkiIssuer};
use quoll_pki::{
    AltNames, Authority, CertName, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, Passphrase, Pki,
    Profile,
};
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, ClockFault, Faults, Firmware, VirtualProfile};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use time::OffsetDateTime;

use crate::HOST;
use crate::house::Says::{Code, Nothing, Number};
use crate::house::{Case, House, at_once, case, is_whole};
use crate::office::{Office, base64};
use crate::servers::{Mosquitto, serve};
use crate::support::{Home, PATIENCE, Up, free_port, until};

/// At a node whose CA and server have RSA keys. The names say what `--fix` is to do: those with `fix-` come back.
pub(crate) const CASES: &[Case] = &[
    case("fix-mqtt-off", Nothing, "mqtt-off", "SetOption3 is 0", "SetOption3 1"),
    case("fix-no-broker", Nothing, "no-broker", "MqttHost is empty", "set MqttHost 127.0.0.1"),
    case("fix-restart", Nothing, "restart-due", "Status 6 says TLS off", "Restart 1"),
    case("fix-tls-off", Nothing, "tls-off", "speaks TLS", "SetOption103 1"),
    case("fix-clock", Number(54), "clock", "s off", "NtpServer1"),
    case("fix-memory", Number(-1000), "no-memory", "KiB of heap", "more memory"),
    case("fix-elsewhere", Number(-1002), "other-broker", "it was proven at", "set MqttHost 127.0.0.1"),
    case("fix-port", Number(0), "port-without-tls", "does not answer a ClientHello", "set MqttPort"),
    case("fix-name", Number(56), "server-name", "MqttHost is \"localhost\"", "MqttHost"),
    case("fix-pin", Number(1), "fingerprint", "our own key", "MqttFingerprint1"),
    case("fix-id", Nothing, "client-id-taken", "is that of victim", "MqttClient DVES_"),
    case("twins", Nothing, "client-id-taken", "were taken over", "MqttClient"),
    case("fix-topic", Nothing, "topic-changed", "Topic is strange", "Topic fix-topic"),
    case("fix-twin", Nothing, "topic-shared", "is the topic of well", "Topic fix-twin"),
    case("fix-clock-off", Nothing, "clock-off", "s off", "NtpServer1"),
    case("fix-slot", Nothing, "open-fingerprint-slot", "MqttFingerprint2 is all", "both slots"),
    case("revoked", Number(300), "revoked", "the folder's index says revoked", "quoll device remove revoked"),
    case("quarantined", Nothing, "quarantined", "talks to strangers", "quoll device release quarantined"),
    case("unfinished", Nothing, "not-switched", "its state is known", "quoll device add unfinished"),
    case("blocked", Number(-1002), "blocked", "accepts connections from here", "firewall"),
    case("mute", Nothing, "left-at-our-certificate", "came as far as", "device's clock"),
    case("restarts", Nothing, "restarts", "restarted by \"Exception\"", "power supply"),
    case("silent", Nothing, "keep-alive", "ended in silence", "MqttKeepAlive"),
    case("password", Code(5), "connect-refused", "user \"DVES_USER\"", "quoll device add password"),
    case("impostor", Nothing, "not-the-device", "is not a Tasmota", "quoll device find"),
    case("other-mac", Nothing, "not-the-device", "registered is 02:51:00:00:99:99", "quoll device find"),
    case("locked", Nothing, "console-closed", "web password", "web password"),
    case("user-mode", Nothing, "console-closed", "user mode", "WebServer 2"),
    case("hangs", Nothing, "console-hangs", "did not answer", "power"),
    case("liar", Nothing, "console-senseless", "no sense in", "browser"),
    case("gone", Nothing, "not-there", "cannot be reached", "check its power"),
    case("elsewhere", Nothing, "elsewhere", "no connection of it", "if it should be here"),
    case("ends-soon", Nothing, "expires-soon", "it ends in", "quoll device add ends-soon"),
    case("key-lost", Nothing, "key-not-stored", "TLSKey1 -1", "quoll device add key-lost"),
    case("weak", Nothing, "weak-wifi", "14 %", "access point"),
    case("little", Nothing, "little-memory", "11 KiB", "switch features off"),
    case("crashes", Nothing, "crashes-without-broker", "15.3.0", "15.4"),
    case("half-silent", Nothing, "console-silent", "did not answer", ""),
];

/// What an enrolment types.
fn lines(credential: &DeviceCredential) -> Vec<String> {
    vec![
        format!("TLSKey1 {}", base64(&*credential.scalar)),
        format!("TLSKey2 {}", base64(&credential.certificate_der)),
        "SetOption103 1".into(),
    ]
}

/// A node, and what issues certificates for it.
struct Street {
    house: House,
    up: Up,
    issuer: PkiIssuer,
    authority: Arc<Authority>,
    pinned: u16,
    /// The dashboard's port.
    web: u16,
}

impl Street {
    fn new(street: u8, key: &str, change: impl FnOnce(&Home, &Authority)) -> Self {
        let home = Home::new();
        let (port, pinned) = (home.port, free_port());
        let (listen, pinned_at) = (format!("{HOST}:{port}"), format!("{HOST}:{pinned}"));
        let doors = ["--host", HOST, "--listen", &listen, "--pinned", &pinned_at];
        home.ok(&[&["ca", "init", "--key", key][..], &doors].concat());
        let ca = CertificateDer::from_pem_file(home.path("pki/ca.crt")).unwrap().to_vec();
        let passphrase = Passphrase::from_file(&home.path("ca-passphrase")).unwrap();
        let authority = Pki::open(&home.path("pki")).unwrap().unlock(&passphrase).unwrap();
        let authority = Arc::new(authority);
        change(&home, &authority);
        let issuer = PkiIssuer::new(Arc::clone(&authority), KeyStorage::Plain);
        let web = free_port();
        let web_at = format!("{HOST}:{web}");
        let words = ["up", "--host", HOST, "--listen", &listen, "--pinned", &pinned_at, "--web", &web_at];
        let mut up = Up::of(home.command(&words));
        up.wait_for(|line| line.starts_with("Listening on"));
        Self { house: House::new(home, vec![ca], street), up, issuer, authority, pinned, web }
    }

    /// One with a certificate, as it was when it was proven. What is typed after that comes before its first boot.
    fn mutual(&mut self, name: &str, change: impl FnOnce(&mut VirtualProfile, &mut Vec<String>)) {
        let device = DeviceName::parse(name).unwrap();
        let credential = self.house.runtime.block_on(self.issuer.issue(&device)).unwrap();
        self.holder(name, &credential, change);
    }

    fn holder(
        &mut self,
        name: &str,
        credential: &DeviceCredential,
        change: impl FnOnce(&mut VirtualProfile, &mut Vec<String>),
    ) {
        let mut lines = lines(credential);
        let port = self.house.home.port;
        let mut profile = VirtualProfile { firmware: Firmware::ClientCert, ..self.house.profile(name, port) };
        change(&mut profile, &mut lines);
        let mac = profile.mac;
        // The registry has it before the broker sees it: a stranger of our CA would come in as somebody else.
        self.house.register(name, mac, "127.0.0.1:1", Rung::Mutual);
        let device = DeviceName::parse(name).unwrap();
        self.house.registry.assign_certificate(&device, &credential.serial, credential.not_after).unwrap();
        let address = self.house.start(name, profile, &lines);
        self.house.enter(name, mac, &address);
    }

    /// One with a pinned key and a password of its own.
    fn pinned(&mut self, name: &str, slots: [&str; 2], knows_password: bool) {
        let profile = VirtualProfile {
            chip: Chip::Esp32,
            firmware: Firmware::Stock,
            anchors: Vec::new(),
            ..self.house.profile(name, self.pinned)
        };
        let mac = profile.mac;
        let device = self.house.enter(name, mac, "127.0.0.1:1");
        let password = self.house.registry.propose_password(&device).unwrap();
        self.house.registry.settle_password(&device, &password.id).unwrap();
        let mut lines = vec![
            "SetOption132 1".into(),
            "SetOption103 1".into(),
            format!("MqttFingerprint1 {}", slots[0]),
            format!("MqttFingerprint2 {}", slots[1]),
        ];
        if knows_password {
            lines.push(format!("MqttUser {}", password.login));
            lines.push(format!("MqttPassword {}", *password.secret));
        }
        self.house.register(name, mac, "127.0.0.1:1", Rung::Pinned);
        let address = self.house.start(name, profile, &lines);
        self.house.enter(name, mac, &address);
    }

    /// The dashboard's answer, as a browser on this machine gets it.
    fn browse(&self, path: &str) -> String {
        let mut socket = TcpStream::connect((HOST, self.web)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The fingerprint of the server's key, as devices write it.
    fn fingerprint(&self) -> String {
        let server = self.house.home.json(&["server", "show"]);
        server["mqtt_fingerprint"].as_str().unwrap_or_else(|| panic!("{server:#}")).to_owned()
    }
}

/// Those with a certificate, at our broker or at another.
fn settle_mutual(street: &mut Street, elsewhere: u16, closed: u16) {
    street.mutual("fix-no-broker", |_, lines| lines.push("MqttHost 0".into()));
    street.mutual("fix-tls-off", |_, lines| lines.push("SetOption103 0".into()));
    street.mutual("fix-mqtt-off", |_, lines| lines.push("SetOption3 0".into()));
    street.mutual("fix-restart", |profile, lines| {
        profile.faults.holds_restarts = true;
        lines.push("SetOption103 0".into());
    });
    street.mutual("fix-clock", |profile, _| profile.faults.clock = ClockFault::Unset);
    street.mutual("fix-memory", |profile, _| profile.faults.leaks_memory = true);
    street.mutual("fix-elsewhere", |_, lines| lines.push(format!("MqttPort {closed}")));
    street.mutual("fix-port", |_, lines| lines.push(format!("MqttPort {elsewhere}")));
    street.mutual("fix-name", |_, lines| lines.push("MqttHost localhost".into()));
    street.mutual("fix-topic", |profile, _| profile.topic = "strange".into());
    street.mutual("fix-twin", |profile, _| profile.topic = "well".into());
    street.mutual("fix-clock-off", |profile, _| profile.faults.clock = ClockFault::Wrong(-7200));
    street.mutual("fix-both", |_, lines| {
        lines.push(format!("MqttPort {closed}"));
        lines.push("SetOption3 0".into());
    });
    street.mutual("vain-port", |profile, lines| {
        profile.faults.isolated = true;
        lines.push(format!("MqttPort {closed}"));
    });
    street.mutual("vain-tls", |profile, lines| {
        // Its firmware knows another CA.
        profile.anchors.clear();
        lines.push("SetOption103 0".into());
    });
    street.mutual("revoked", |_, _| {});
    street.mutual("quarantined", |_, _| {});
    street.mutual("blocked", |profile, _| profile.faults.isolated = true);
    street.mutual("mute", |profile, lines| {
        profile.faults.clock = ClockFault::Unset;
        lines.push("WebLog 0".into());
    });
    street.mutual("restarts", |profile, _| profile.faults.reboots = Some(Duration::from_secs(10)));
    street.mutual("silent", |profile, lines| {
        profile.faults.sends_no_pings = true;
        lines.push("MqttKeepAlive 1".into());
    });
    street.mutual("elsewhere", |_, lines| {
        lines.extend([format!("MqttPort {elsewhere}"), "SetOption103 0".into()]);
    });
    street.mutual("key-lost", |_, _| {});
    street.mutual("weak", |profile, _| profile.faults.weak_wifi = Some(Duration::from_secs(1_000_000)));
    street.mutual("little", |profile, _| profile.faults.little_memory = true);
    street.mutual("crashes", |profile, _| profile.version = "15.3.0".into());
    street.mutual("half-silent", |_, _| {});
    let name = CertName::parse("ends-soon").unwrap();
    let request =
        IssueRequest { days: Some(10), ..IssueRequest::new(Profile::Tasmota, name, KeyStorage::Plain) };
    street.authority.issue(&request, OffsetDateTime::now_utc()).unwrap();
    let device = DeviceName::parse("ends-soon").unwrap();
    let credential = street.house.runtime.block_on(street.issuer.existing(&device)).unwrap().unwrap();
    street.holder("ends-soon", &credential, |_, _| {});
}

/// Those that cannot be asked, or are somebody else.
fn settle_strangers(street: &mut Street, elsewhere: u16) {
    let asleep = |street: &Street, name: &str, faults: Faults| VirtualProfile {
        broker: (String::new(), 8883),
        faults,
        ..street.house.profile(name, 0)
    };
    let impostor = Faults { impostor: Some("lighttpd/1.4".into()), ..Faults::default() };
    let hangs = Faults { hangs: true, ..Faults::default() };
    let locked =
        VirtualProfile { web_password: "secret".into(), ..asleep(street, "locked", Faults::default()) };
    street.house.device("locked", locked, &[]);
    for (name, faults, line) in [
        ("impostor", impostor, "SetOption3 1"),
        ("hangs", hangs, "SetOption3 1"),
        ("user-mode", Faults::default(), "WebServer 1"),
    ] {
        let profile = asleep(street, name, faults);
        street.house.device(name, profile, &[line.to_owned()]);
    }
    // Another device has the address now, and is well where it is.
    let profile = street.house.profile("other-mac", elsewhere);
    let address = street.house.start("other-mac", profile, &[]);
    street.house.register("other-mac", Mac([2, 0x51, 0, 0, 0x99, 0x99]), &address, Rung::Mutual);
    let profile = street.house.profile("unfinished", elsewhere);
    let mac = profile.mac;
    let address = street.house.start("unfinished", profile, &[]);
    street.house.enter("unfinished", mac, &address);
    let lies = serve(|mut socket| {
        let mut request = [0; 2048];
        let _ = socket.read(&mut request);
        let body = r#"{"StatusFWR":{"Version":7},"StatusMQT":[],"TLSKey1":"yes"}"#;
        let head = "HTTP/1.1 200 OK\r\nServer: Tasmota/15.3.0 (ESP8266EX)\r\nConnection: close\r\n";
        let _ = socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    });
    street.house.register("liar", Mac([2, 0x51, 0, 0, 4, 201]), &format!("{HOST}:{lies}"), Rung::Mutual);
    let nobody = format!("{HOST}:{}", free_port());
    street.house.register("gone", Mac([2, 0x51, 0, 0, 4, 202]), &nobody, Rung::Mutual);
}

pub(crate) fn at_a_node_every_fault_is_named_and_what_is_safe_is_mended() {
    let office = Office::open();
    let open = Mosquitto::start(&office, "open.conf", "allow_anonymous true");
    let closed = free_port();
    let mut street = Street::new(4, "rsa2048", |home, _| {
        // A name less than it could have.
        let file = home.path("quoll.toml");
        let settings = std::fs::read_to_string(&file).unwrap();
        assert!(settings.contains(r#", "localhost"]"#), "{settings}");
        std::fs::write(&file, settings.replace(r#", "localhost"]"#, "]")).unwrap();
        home.ok(&["server", "renew"]);
    });
    let fingerprint = street.fingerprint();
    let (wrong, any) = ("11 ".repeat(20), "FF ".repeat(20));
    street.pinned("fix-pin", [wrong.trim(), wrong.trim()], true);
    street.pinned("fix-slot", [&fingerprint, any.trim()], true);
    street.pinned("password", [&fingerprint, &fingerprint], false);
    for name in ["well", "victim"] {
        street.mutual(name, |_, _| {});
    }
    street.house.waits("victim", |state| state.connected);
    // Somebody has copied a device, with its key and its name.
    let device = DeviceName::parse("twins").unwrap();
    let credential = street.house.runtime.block_on(street.issuer.issue(&device)).unwrap();
    street.holder("twins", &credential, |_, _| {});
    let port = street.house.home.port;
    let mut copy = VirtualProfile { firmware: Firmware::ClientCert, ..street.house.profile("copy", port) };
    copy.mac = street.house.mac("twins");
    street.house.start("copy", copy, &lines(&credential));
    let victims = format!("MqttClient DVES_{}", street.house.mac("victim").tail());
    street.mutual("fix-id", |_, lines| lines.push(victims));
    settle_mutual(&mut street, open.1, closed);
    settle_strangers(&mut street, open.1);
    let house = &street.house;
    let extra = ["well", "victim", "copy", "fix-both", "vain-port", "vain-tls"];
    let provoked: Vec<&str> =
        house.names().into_iter().chain(["liar", "gone"]).filter(|name| !extra.contains(name)).collect();
    is_whole(CASES, &provoked);

    // The rest is done to devices that were in.
    house.waits("fix-restart", |state| state.last_return_code.is_some());
    house.types("fix-restart", "SetOption103 1");
    for name in
        ["well", "revoked", "quarantined", "key-lost", "half-silent", "fix-slot", "fix-topic", "ends-soon"]
    {
        house.waits(name, |state| state.connected);
    }
    house.home.ok(&["device", "quarantine", "quarantined", "--reason", "talks to strangers"]);
    house.home.ok(&["device", "revoke", "revoked", "--yes"]);
    house.types("key-lost", "TLSKey1 0");
    house.running("half-silent").set_faults(Faults { hangs: true, ..Faults::default() });
    house.waits("restarts", |state| state.boot_count > 5 && state.connected);
    house
        .running("restarts")
        .set_faults(Faults { reboots: Some(Duration::from_secs(36_000)), ..Faults::default() });
    // Two that ended in silence, the one that goes on, and perhaps a first one that came before the node knew the device.
    house.waits("silent", |state| state.mqtt_count > 3);
    for name in ["fix-id", "quarantined"] {
        house.waits(name, |state| state.last_return_code == Some(5));
    }
    house.waits("twins", |state| state.mqtt_count > 4);
    house.waits_for(CASES);
    house.judges_impatiently(CASES, &["hangs", "half-silent", "liar"]);

    // The dashboard says the same as the command.
    let answer = street.browse("/api/devices/blocked/diagnosis");
    let said: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&said["health"], &said["findings"][0]["rule"]),
        (&"ill".into(), &"blocked".into()),
        "{said:#}"
    );
    let page = street.browse("/devices/fix-elsewhere/diagnosis");
    for text in [
        "not well",
        "has no connection there",
        "it was proven at",
        "<code>quoll doctor fix-elsewhere --fix</code>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }

    let mut works: Vec<(&str, Work)> = CASES
        .iter()
        .filter(|case| case.name.starts_with("fix-"))
        .map(|case| (case.name, Work::Mend(1)))
        .collect();
    works.push(("fix-both", Work::Mend(2)));
    works.push(("vain-port", Work::GiveUp("broker")));
    works.push(("vain-tls", Work::GiveUp("tls-on")));
    at_once(&works, |(name, work)| match work {
        Work::Mend(repairs) => house.mends(name, *repairs),
        Work::GiveUp(repair) => house.gives_up(name, repair),
    });
    // They restart over it once more.
    house.waits("vain-port", |state| state.running && state.broker == (HOST.to_owned(), closed));
    let tls = || house.running("vain-tls").type_command("SetOption103");
    until(tls, |said| said.as_ref().is_some_and(|said| said.contains("OFF")));
    house.waits("victim", |state| state.connected);
    assert_eq!(street.up.stop(), 0);
}

enum Work {
    /// So many repairs, and it is back.
    Mend(usize),
    /// This one, and it is taken back.
    GiveUp(&'static str),
}

/// Nodes with EC keys, whose devices have ECDSA switched off.
pub(crate) mod ec {
    use super::*;

    /// One at each node.
    pub(crate) const CASES: &[Case] = &[
        case("fix-ca", Number(62), "ecdsa-off", "SetOption165 is OFF", "SetOption165 1"),
        case("fix-suite", Number(296), "no-common-suite", "EC P-256", "SetOption165 1"),
    ];

    pub(crate) fn ecdsa_is_switched_on_where_the_ca_or_the_server_needs_it() {
        let mut ca = Street::new(5, "ec-p256", |_, _| {});
        ca.mutual("fix-ca", |_, _| {});
        let mut server = Street::new(6, "rsa2048", |home, authority| {
            let shown = home.json(&["server", "show"]);
            let names = |field: &str| {
                let all = shown[field].as_array().unwrap().iter();
                all.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let name = CertName::parse(shown["name"].as_str().unwrap()).unwrap();
            let addresses: Vec<std::net::IpAddr> =
                names("ip_addresses").iter().map(|it| it.parse().unwrap()).collect();
            let mut dns = names("dns_names");
            dns.retain(|name| name.parse::<std::net::IpAddr>().is_err());
            let request = IssueRequest {
                alt_names: AltNames { dns, ip: addresses },
                key: KeySource::Generate(KeyKind::EcP256),
                if_taken: IfTaken::Supersede,
                ..IssueRequest::new(Profile::Server, name, KeyStorage::Plain)
            };
            authority.issue(&request, OffsetDateTime::now_utc()).unwrap();
        });
        // The device switches ECDSA on by itself after that error, and then waits.
        server.mutual("fix-suite", |_, lines| lines.push("MqttRetry 32000".into()));
        is_whole(CASES, &[ca.house.names(), server.house.names()].concat());
        for (street, case) in [(&ca, &CASES[..1]), (&server, &CASES[1..])] {
            street.house.waits_for(case);
            street.house.judges(case);
            assert_eq!(street.house.mends(case[0].name, 1), None);
        }
    }
}
