//! Devices that give no honest answer, and a house without a broker: what can be found out is said, and what cannot.

use std::io::{Read as _, Write as _};

use quoll_fleet::device::Rung;
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Faults, VirtualProfile};
use serde_json::Value;

use crate::HOST;
use crate::house::Says::{Code, Nothing, Number};
use crate::house::{Case, House, at_once, case, is_whole};
use crate::office::{NAMED, Office, SERVER};
use crate::servers::{OpenSsl, serve};
use crate::support::{Home, complaint, free_port};

/// No broker runs.
pub(crate) const CASES: &[Case] = &[
    case("down", Number(-1002), "broker-down", "no node runs in this home", "quoll up"),
    case("down-plain", Code(-2), "broker-down", "no node runs in this home", "quoll up"),
    case("crashing", Nothing, "no-node", "no node runs", "quoll up"),
    case("hangs", Nothing, "no-node", "no node runs", "quoll up"),
    case("impostor", Nothing, "not-the-device", "lighttpd", "quoll device find"),
    case("liar", Nothing, "no-node", "no node runs", "quoll up"),
    case("gone", Nothing, "no-node", "no node runs", "quoll up"),
];

/// A home whose CA no ESP8266 can check.
pub(crate) const BIG_CA: &[Case] =
    &[case("large", Number(62), "ca-too-large", "the CA's key is RSA-4096, the device takes 2048", "ESP32")];

pub(crate) fn without_a_broker_and_an_honest_device_what_can_be_known_is_said() {
    let office = Office::open();
    let home = Home::new();
    home.init();
    let port = home.port;
    let mut house = House::new(home, vec![office.der("root")], 2);
    house.device("down", house.profile("down", port), &[]);
    house.proven("down-plain", Rung::Plain, house.profile("down-plain", port), &[]);
    let crashing = VirtualProfile {
        version: "15.2.0".into(),
        faults: Faults { crashes_on_refusal: true, ..Faults::default() },
        ..house.profile("crashing", port)
    };
    house.device("crashing", crashing, &[]);
    house.waits("crashing", |state| state.boot_count > 1);
    let faults = |faults| VirtualProfile { faults, ..house.profile("x", port) };
    let hangs = faults(Faults { hangs: true, ..Faults::default() });
    let impostor = faults(Faults { impostor: Some("lighttpd/1.4".into()), ..Faults::default() });
    house.device("hangs", hangs, &[]);
    let mac = Mac([2, 0x51, 0, 0, 2, 77]);
    house.device("impostor", VirtualProfile { mac, ..impostor }, &[]);
    let lies = serve(|mut socket| {
        let mut request = [0; 2048];
        let _ = socket.read(&mut request);
        let body = r#"{"StatusFWR":{"Version":7},"StatusMQT":[],"TLSKey1":"yes"}"#;
        let head = "HTTP/1.1 200 OK\r\nServer: Tasmota/15.3.0 (ESP8266EX)\r\nConnection: close\r\n";
        let _ = socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    });
    house.register("liar", Mac([2, 0x51, 0, 0, 2, 81]), &format!("{HOST}:{lies}"), Rung::Mutual);
    house.register("gone", Mac([2, 0x51, 0, 0, 2, 82]), &format!("{HOST}:{}", free_port()), Rung::Mutual);
    is_whole(CASES, &[&house.names()[..], &["liar", "gone"]].concat());
    house.waits_for(CASES);
    house.judges_impatiently(CASES, &["hangs", "impostor", "gone"]);

    // Of the silent ones it is told besides what they are.
    let silent = [("hangs", "console-hangs"), ("impostor", "no-node"), ("gone", "not-there")];
    at_once(&silent, |(name, rule)| {
        let (_, said) = house.doctor(name, &["--patience", "2"]);
        let also = said["verdict"]["also"].as_array().unwrap();
        let fits = also.iter().any(|finding| finding["rule"] == *rule)
            && said["evidence"]["device"]["silence"].is_object();
        (!fits).then(|| format!("{name}: {said:#}"))
    });
    let (_, said) = house.doctor("liar", &[]);
    assert!(!said["evidence"]["device"]["missing"].as_array().unwrap().is_empty(), "{said:#}");

    // The whole house in a line each, in the order of the registry, with the exit code of the worst.
    let output = house.home.run(&["doctor", "--output", "json", "--patience", "2"]);
    assert_eq!(output.status.code(), Some(11), "{}", complaint(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let devices: Vec<&Value> =
        rows.as_array().unwrap().iter().filter(|row| row["part"] == "device").collect();
    assert_eq!(devices.len(), CASES.len(), "{rows:#}");
    for device in devices {
        let case = CASES.iter().find(|case| device["name"] == case.name).unwrap();
        assert_eq!((&device["rule"], &device["health"]), (&case.rule.into(), &"ill".into()), "{device:#}");
    }
    assert!(rows.as_array().unwrap().iter().any(|row| row["part"] == "node" && row["health"] == "ill"));
    house.home.fails(9, &["doctor", "nobody"]);
}

pub(crate) fn a_ca_that_the_chip_cannot_compute_with_is_named() {
    let office = Office::open();
    office.root("large", "4096");
    office.sign("leaf", "server", "large", &format!("{SERVER}\n{NAMED}"), &[]);
    let home = Home::new();
    // The public side of an Easy-RSA folder is all that the doctor reads.
    for folder in ["pki/private", "pki/issued", "pki/certs_by_serial", "pki/reqs"] {
        std::fs::create_dir_all(home.path(folder)).unwrap();
    }
    std::fs::copy(office.path("large.crt"), home.path("pki/ca.crt")).unwrap();
    std::fs::copy(office.path("large.key"), home.path("pki/private/ca.key")).unwrap();
    std::fs::write(home.path("pki/index.txt"), "").unwrap();
    std::fs::write(home.path("pki/serial"), "01\n").unwrap();
    let server = OpenSsl::start(&office, "leaf", "server", &["-tls1_2"]);
    let mut house = House::new(home, vec![office.der("large")], 3);
    house.device("large", house.profile("large", server.1), &[]);
    is_whole(BIG_CA, &house.names());
    house.waits_for(BIG_CA);
    house.judges(BIG_CA);
}
