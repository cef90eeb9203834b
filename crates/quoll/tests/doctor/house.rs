//! A house with devices, each broken in its own way, and what the doctor says about them.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use quoll_fleet::device::{Address, DeviceName, DeviceState, Rung, Topics};
use quoll_fleet::registry::{NewDevice, Registry};
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{
    Chip, DeviceState as Seen, Firmware, Flash, RunningDevice, VirtualDevice, VirtualProfile,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::HOST;
use crate::support::{Home, complaint, until};

/// What a device is to log before the doctor is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Says {
    /// `TLS connection error: N`.
    Number(i32),
    /// `rc N`.
    Code(i32),
    /// Nothing that the case is about.
    Nothing,
}

/// One fault, and what the doctor is to say about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The device.
    pub(crate) name: &'static str,
    pub(crate) says: Says,
    /// The one cause.
    pub(crate) rule: &'static str,
    /// A part of the evidence.
    pub(crate) evidence: &'static str,
    /// A part of the next step.
    pub(crate) fix: &'static str,
}

/// A case in a line.
pub(crate) const fn case(
    name: &'static str,
    says: Says,
    rule: &'static str,
    evidence: &'static str,
    fix: &'static str,
) -> Case {
    Case { name, says, rule, evidence, fix }
}

/// A home, its registry, and running devices.
pub(crate) struct House {
    pub(crate) home: Home,
    pub(crate) runtime: Runtime,
    pub(crate) registry: Registry,
    pub(crate) anchors: Vec<Vec<u8>>,
    /// Each device has a loopback address of its own, so that the broker tells them apart.
    street: u8,
    devices: Vec<(String, RunningDevice)>,
}

impl House {
    pub(crate) fn new(home: Home, anchors: Vec<Vec<u8>>, street: u8) -> Self {
        let runtime = Runtime::new().unwrap();
        let registry = Registry::open(&home.path("fleet.db")).unwrap();
        Self { home, runtime, registry, anchors, street, devices: Vec::new() }
    }

    /// A device as it comes from the shop, next in line.
    pub(crate) fn profile(&self, name: &str, port: u16) -> VirtualProfile {
        let number = u8::try_from(self.devices.len()).unwrap();
        VirtualProfile {
            version: "15.5.0".into(),
            topic: name.into(),
            broker: (HOST.into(), port),
            anchors: self.anchors.clone(),
            tele_period: 0,
            pace: 0.05,
            crashes_without_key: false,
            ..VirtualProfile::new(Chip::Esp8266, Firmware::TlsOnly, Mac([2, 0x51, 0, 0, self.street, number]))
        }
    }

    /// Proven by the registry with TLS, and set up like this.
    pub(crate) fn device(&mut self, name: &str, profile: VirtualProfile, lines: &[String]) {
        let lines = [&["SetOption103 1".to_owned()], lines].concat();
        self.proven(name, Rung::Mutual, profile, &lines);
    }

    /// The same at any rung.
    pub(crate) fn proven(&mut self, name: &str, rung: Rung, profile: VirtualProfile, lines: &[String]) {
        let mac = profile.mac;
        let address = self.start(name, profile, lines);
        self.register(name, mac, &address, rung);
    }

    /// Switches it on; the address of its console.
    pub(crate) fn start(&mut self, name: &str, profile: VirtualProfile, lines: &[String]) -> String {
        let typed: Vec<_> = lines.iter().cloned().map(Zeroizing::new).collect();
        let flash = Flash::typed(&profile, &typed, 0);
        let own = std::net::Ipv4Addr::new(127, 0, self.street, u8::try_from(self.devices.len()).unwrap() + 1);
        let device = self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind((own, 0)).await.unwrap();
            VirtualDevice::start_from(profile, flash, listener).unwrap()
        });
        let address = device.http_addr().to_string();
        self.devices.push((name.to_owned(), device));
        address
    }

    /// Enters it into the registry as proven.
    pub(crate) fn register(&self, name: &str, mac: Mac, address: &str, rung: Rung) {
        let name = self.enter(name, mac, address);
        for state in [DeviceState::KeyPushed, DeviceState::Switched, DeviceState::Proven] {
            self.registry.advance(&name, state, Some(rung)).unwrap();
        }
    }

    /// Enters it into the registry as known.
    pub(crate) fn enter(&self, name: &str, mac: Mac, address: &str) -> DeviceName {
        let name = DeviceName::parse(name).unwrap();
        let topics = Topics {
            topic: name.to_string(),
            full_topic: "%prefix%/%topic%/".into(),
            command: "cmnd".into(),
            status: "stat".into(),
            telemetry: "tele".into(),
            groups: Vec::new(),
            client_id: format!("DVES_{}", mac.tail()),
        };
        let address = Address::parse(address).unwrap();
        let (chip, firmware) = (String::new(), String::new());
        let new = NewDevice { name: name.clone(), address, mac, chip, firmware, topics };
        self.registry.register(&new).unwrap();
        name
    }

    pub(crate) fn running(&self, name: &str) -> &RunningDevice {
        let found = self.devices.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("there is no device {name}")).1
    }

    pub(crate) fn mac(&self, name: &str) -> Mac {
        let number = self.devices.iter().position(|(known, _)| known == name).unwrap();
        Mac([2, 0x51, 0, 0, self.street, u8::try_from(number).unwrap()])
    }

    /// Types on its serial line, as soon as it is up.
    pub(crate) fn types(&self, name: &str, line: &str) {
        let device = self.running(name);
        let answer = until(|| device.type_command(line), Option::is_some).unwrap();
        assert!(!answer.contains("\"Command\""), "{name}: {line}: {answer}");
    }

    /// All that run.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.devices.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn waits(&self, name: &str, good: impl Fn(&Seen) -> bool) {
        until(|| self.running(name).state(), |state| good(state));
    }

    /// Waits until every device has logged what its case says.
    pub(crate) fn waits_for(&self, cases: &[Case]) {
        let telling: Vec<&Case> = cases.iter().filter(|case| case.says != Says::Nothing).collect();
        at_once(&telling, |case| {
            until(
                || self.running(case.name).state(),
                |state| match case.says {
                    Says::Number(number) => state.last_error == Some(number),
                    Says::Code(code) => state.last_return_code == Some(code),
                    Says::Nothing => true,
                },
            );
            None
        });
    }

    /// The doctor's word on one device.
    pub(crate) fn doctor(&self, name: &str, more: &[&str]) -> (Output, Value) {
        let words = [&["doctor", name, "--output", "json"], more].concat();
        let output = self.home.run(&words);
        let said = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{name}: {}", complaint(&output)));
        (output, said)
    }

    /// The doctor names the one cause of each case, what it follows from, and what to do. Tries again while the house is
    /// still settling: a device in mid-restart is in no state to be judged.
    pub(crate) fn judges(&self, cases: &[Case]) {
        self.judges_impatiently(cases, &[]);
    }

    /// The same; these devices are not waited for as long as others.
    pub(crate) fn judges_impatiently(&self, cases: &[Case], silent: &[&str]) {
        at_once(cases, |case| {
            let more: &[&str] = if silent.contains(&case.name) { &["--patience", "2"] } else { &[] };
            let mut last = None;
            for _ in 0..4 {
                last = self.differs(case, more);
                last.as_ref()?;
                std::thread::sleep(std::time::Duration::from_millis(500));
            }
            last
        });
    }

    /// `--fix` mends it: what was done is in the report and in the audit trail, and the broker has the device.
    pub(crate) fn mends(&self, name: &str, repairs: usize) -> Option<String> {
        let (output, said) = self.doctor(name, &["--fix"]);
        let done = said["repaired"].as_array().map_or(0, Vec::len);
        let fits = output.status.success()
            && done == repairs
            && said["put_back"].as_array().is_some_and(Vec::is_empty)
            && said["evidence"]["wire"]["online"].is_array();
        let trail = self.home.ok(&["audit", "show", "--last", "500", "--output", "csv"]);
        let told = about(&trail, name, "device.repaired") >= repairs;
        (!fits || !told).then(|| format!("{name}: {} {said:#}\n{trail}", complaint(&output)))
    }

    /// `--fix` does not help, says so, and the device is as it was.
    pub(crate) fn gives_up(&self, name: &str, repair: &str) -> Option<String> {
        let (output, said) = self.doctor(name, &["--fix"]);
        let only = |list: &Value| {
            list.as_array().is_some_and(|all| all.len() == 1 && all[0].to_string().contains(repair))
        };
        let fits = output.status.code() == Some(11)
            && only(&said["put_back"])
            && said["repaired"].as_array().is_some_and(Vec::is_empty)
            && said["verdict"]["health"] == "ill";
        let trail = self.home.ok(&["audit", "show", "--last", "500", "--output", "csv"]);
        let told = about(&trail, name, "device.repair-taken-back") == 1;
        (!fits || !told).then(|| format!("{name}: {} {said:#}\n{trail}", complaint(&output)))
    }

    /// What is wrong with the verdict on a case.
    fn differs(&self, case: &Case, more: &[&str]) -> Option<String> {
        let (output, said) = self.doctor(case.name, more);
        let cause = &said["verdict"]["cause"];
        let warned = said["verdict"]["health"] == "warned";
        let lines = cause["evidence"].as_array().cloned().unwrap_or_default();
        let number = match case.says {
            Says::Number(number) => format!("\"TLS connection error: {number}\""),
            Says::Code(code) => format!("rc {code}"),
            Says::Nothing => String::new(),
        };
        let tells =
            |text: &str| lines.iter().any(|line| line.as_str().is_some_and(|line| line.contains(text)));
        let fits = cause["rule"] == case.rule
            && tells(&number)
            && tells(case.evidence)
            && cause["fix"].as_str().is_some_and(|fix| fix.contains(case.fix))
            && output.status.code() == Some(if warned { 0 } else { 11 });
        (!fits).then(|| {
            format!("{case:?}: exit {:?}, {cause:#}, evidence {:#}", output.status.code(), said["evidence"])
        })
    }
}

fn about(trail: &str, name: &str, verb: &str) -> usize {
    trail.lines().filter(|line| line.contains(verb) && line.contains(name)).count()
}

/// Works on all, some at once; panics with everything that was found wrong.
pub(crate) fn at_once<T: Sync>(all: &[T], work: impl Fn(&T) -> Option<String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(found) = work(one) {
                        wrong.lock().unwrap().push(found);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The table is what was provoked: no case without a device, no device without a case.
pub(crate) fn is_whole(cases: &[Case], provoked: &[&str]) {
    let table: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(table, provoked.iter().copied().collect(), "the table against what was provoked");
}
