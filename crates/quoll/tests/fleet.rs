//! `quoll fleet` with a real node and virtual devices: scan, plan, provision, report, and a run that was killed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use quoll_fleet::campaign::{Hold, Outcome};
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Faults, Firmware, RunningDevice, VirtualDevice, VirtualProfile};
use serde_json::Value;
use support::{Home, Up, free_port, until};

struct Stage {
    runtime: tokio::runtime::Runtime,
    home: Home,
    up: Up,
    anchors: Vec<Vec<u8>>,
}

impl Stage {
    fn new() -> Self {
        let home = Home::new();
        let pinned = format!("127.0.0.1:{}", free_port());
        let up = home.up_and_listening(&["--host", "127.0.0.1", "--pinned", &pinned]);
        let pem = home.ok(&["ca", "show", "--output", "json"]);
        assert!(!pem.is_empty());
        let ca = std::fs::read_to_string(home.path("pki/ca.crt")).unwrap();
        let der = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            ca.as_bytes(),
        );
        let anchors = vec![der.unwrap().to_vec()];
        Self { runtime: tokio::runtime::Runtime::new().unwrap(), home, up, anchors }
    }

    fn device(&self, number: u8, change: impl FnOnce(&mut VirtualProfile)) -> RunningDevice {
        let mac = Mac([2, 0, 0, 0, 0, number]);
        let mut profile = VirtualProfile {
            version: "15.5.0".into(),
            pace: 0.05,
            tele_period: 0,
            anchors: self.anchors.clone(),
            ..VirtualProfile::new(Chip::Esp8266, Firmware::ClientCert, mac)
        };
        change(&mut profile);
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            VirtualDevice::start(profile, listener).unwrap()
        })
    }

    fn report(&self) -> Vec<Value> {
        self.home.json(&["fleet", "report"]).as_array().unwrap().clone()
    }
}

fn csv(stage: &Stage, rows: &[(&RunningDevice, &str)]) -> String {
    let rows: String = rows.iter().map(|(device, name)| format!("{},{name}\n", device.http_addr())).collect();
    let file = stage.home.path("devices.csv");
    std::fs::write(&file, format!("address,name\n{rows}")).unwrap();
    file.display().to_string()
}

fn of<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

#[test]
fn a_fleet_is_found_planned_enrolled_and_reported() {
    let stage = Stage::new();
    let stock =
        |profile: &mut VirtualProfile| (profile.chip, profile.firmware) = (Chip::Esp32, Firmware::Stock);
    let devices = [
        stage.device(1, |_| {}),
        stage.device(2, stock),
        stage.device(3, |profile| profile.firmware = Firmware::Stock),
        stage.device(4, |profile| profile.version = "15.3.0".into()),
        stage.device(5, |profile| profile.topic = "twin".into()),
        stage.device(6, |profile| profile.topic = "twin".into()),
        stage.device(7, |profile| {
            profile.faults = Faults { refuses: Some("TLSKey2".into()), ..Faults::default() }
        }),
    ];
    let names = ["mine", "stock", "old", "crashes", "twin-a", "twin-b", "stubborn"];
    let rows: Vec<(&RunningDevice, &str)> = devices.iter().zip(names).collect();

    // A list with bad rows is not used at all, and each is named with line and column.
    let bad = stage.home.path("bad.csv");
    std::fs::write(&bad, format!("address,name,mac\n{},ok,\nhttp://x,a b,\n", devices[0].http_addr()))
        .unwrap();
    let said = stage.home.fails(3, &["fleet", "scan", "--csv", &bad.display().to_string()]);
    assert!(
        said.contains("line 3, column 1 (address)") && said.contains("line 3, column 2 (name)"),
        "{said}"
    );
    assert!(stage.report().is_empty());
    stage.home.fails(9, &["fleet", "plan"]);

    let list = csv(&stage, &rows);
    let found = stage.home.json(&["fleet", "scan", "--csv", &list]);
    assert_eq!(found.as_array().unwrap().len(), 7);
    let plan = stage.home.json(&["fleet", "plan"]).as_array().unwrap().clone();
    for (name, verdict, rung, why) in [
        ("mine", "enrol", "mutual", ""),
        ("stock", "enrol", "pinned", ""),
        ("old", "held back", "", "no TLS"),
        ("crashes", "held back", "", "restarts over and over"),
        ("twin-a", "held back", "", "twin-b"),
        ("twin-b", "held back", "", "twin-a"),
        ("stubborn", "enrol", "mutual", ""),
    ] {
        let row = of(&plan, name);
        assert_eq!(
            (row["verdict"].as_str(), row["rung"].as_str().unwrap_or("")),
            (Some(verdict), rung),
            "{row}"
        );
        assert!(row["why"].as_str().unwrap().contains(why), "{row}");
    }

    let words = ["fleet", "provision", "--canaries", "2", "--force", "known-crash", "--attempts", "1"];
    let all = [&words[..], &["mine", "stock", "crashes", "old", "stubborn", "--stop-at", "90"]].concat();
    let said = stage.home.fails(4, &all);
    assert!(said.contains("not all devices are proven"), "{said}");
    let report = stage.report();
    for (name, outcome, rung) in [
        ("mine", "proven", "mutual"),
        ("stock", "proven", "pinned"),
        ("old", "held", "plain"),
        ("stubborn", "failed", "plain"),
    ] {
        let row = of(&report, name);
        assert_eq!((row["outcome"].as_str(), row["rung"].as_str()), (Some(outcome), Some(rung)), "{row}");
        assert_eq!(row["next"].as_str().unwrap().is_empty(), outcome == "proven", "{row}");
    }
    // The stubborn one was a canary or not; if it was not, the others were all begun.
    for name in ["mine", "stock"] {
        until(|| stage.home.device(name)["online"].clone(), |online| online == true);
    }
    // Those that can be are proven now, and a second run has nothing to do with them.
    stage.home.ok(&["fleet", "provision", "--force", "known-crash", "mine", "stock", "crashes"]);
    let page = stage.home.path("report.html");
    stage.home.ok(&["fleet", "report", "--html", &page.display().to_string()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("<td>stubborn</td>") && !page.contains("http://") && !page.contains("<script"),
        "{page}"
    );
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn a_run_that_was_killed_goes_on_with_the_same_command() {
    let stage = Stage::new();
    let devices: Vec<RunningDevice> =
        (1..=6).map(|number| stage.device(number, |profile| profile.pace = 0.2)).collect();
    let names = ["a", "b", "c", "d", "e", "f"];
    let rows: Vec<(&RunningDevice, &str)> = devices.iter().zip(names).collect();
    let list = csv(&stage, &rows);
    stage.home.ok(&["fleet", "scan", "--csv", &list]);
    let words = ["fleet", "provision", "--parallel", "2"];
    let run = Up::of(stage.home.command(&words));
    let proven = |rows: &[Value]| rows.iter().filter(|row| row["outcome"] == "proven").count();
    until(|| proven(&stage.report()), |count| *count >= 2);
    run.kill();
    let before = stage.report();
    stage.home.ok(&words);
    let after = stage.report();
    assert_eq!(proven(&after), 6, "{after:#?}");
    for row in before.iter().filter(|row| row["outcome"] == "proven") {
        assert_eq!(of(&after, row["name"].as_str().unwrap())["at"], row["at"], "it is not done twice");
    }
    for (device, name) in rows {
        assert_eq!(stage.home.device(name)["rung"], "mutual");
        assert!(device.state().stored.key.is_some());
    }
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn the_page_has_every_reason_and_every_outcome() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fleet.md")).unwrap();
    for word in Hold::ALL.iter().map(|hold| hold.as_str()).chain(Outcome::ALL.iter().map(|one| one.as_str()))
    {
        assert!(page.contains(&format!("| `{word}` |")), "docs/fleet.md does not have {word}");
    }
    for hold in Hold::ALL {
        let row = page.lines().find(|line| line.contains(&format!("| `{}` |", hold.as_str()))).unwrap();
        assert_eq!(row.contains(&format!("--force {hold}")), hold.can_be_forced(), "{row}");
    }
}

/// Between the scan and the night in which devices are enrolled, a router may lend their addresses to others.
#[test]
fn a_name_is_for_the_device_that_was_found_and_for_nobody_who_has_its_address_now() {
    let stage = Stage::new();
    let found = stage.device(1, |_| {});
    let address = found.http_addr();
    stage.home.ok(&["fleet", "scan", "--csv", &csv(&stage, &[(&found, "kitchen")])]);
    stage.runtime.block_on(found.stop());
    let other = stage.device(2, |_| {});
    let before = other.state();
    // Whoever asks at the old address reaches the other one.
    let relay = stage.runtime.spawn({
        let other = other.http_addr();
        async move {
            let listener = loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            };
            while let Ok((mut one, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut two = tokio::net::TcpStream::connect(other).await?;
                    tokio::io::copy_bidirectional(&mut one, &mut two).await
                });
            }
        }
    });
    until(|| std::net::TcpStream::connect(address).is_ok(), |is_there| *is_there);
    let said = stage.home.fails(4, &["fleet", "provision"]);
    assert!(said.contains("02:00:00:00:00:02") && said.contains("another device"), "{said}");
    let row = of(&stage.report(), "kitchen").clone();
    assert!(row["next"].as_str().unwrap().contains("fleet scan"), "{row}");
    assert_eq!(stage.home.json(&["device", "list"]), serde_json::json!([]));
    let after = other.state();
    assert_eq!((after.broker, after.stored), (before.broker, before.stored), "nothing was told to it");
    relay.abort();
}
