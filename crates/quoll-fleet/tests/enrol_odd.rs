//! Devices that are healthy and odd: their owners gave them words, names and versions that no factory gives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceName, DeviceState, Rung};
use quoll_fleet::enrol::{EnrolError, EnrolRequest, Enrolment, OldPassword, Patience, Stands, WantedRung};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer};
use quoll_fleet::registry::{Owner, RegistryError};
use quoll_fleet::step::Silent;
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_tasmota::virtual_device::{Firmware, VirtualProfile};
use theatre::paper::{Paper, patience, profile};

/// `StateText1` and `StateText2` are the owner's words for off and on, and a device answers SetOptions with them.
#[tokio::test]
async fn the_owners_own_words_for_on_and_off_are_understood() {
    for (off, on) in
        [("AUS", "AN"), ("0", "1"), ("off", "on"), ("closed", "öffen"), ("ON", "OFF"), ("ON", "AN")]
    {
        for (firmware, wanted, rung) in [
            (Firmware::ClientCert, WantedRung::Auto, Rung::Mutual),
            (Firmware::Stock, WantedRung::Pinned, Rung::Pinned),
        ] {
            let stage = Paper::new(VirtualProfile { firmware, ..profile() }, wanted);
            let words = format!("Backlog StateText1 {off}; StateText2 {on}");
            let _ = stage.told(&words);
            stage.memory.wait(Duration::from_secs(5));
            assert!(stage.told("SetOption103").contains(off), "{off}");
            let console = stage.console();
            let enrolled = stage.enrol(&console).await.unwrap_or_else(|error| panic!("{off}/{on}: {error}"));
            assert_eq!(enrolled.device.rung, rung, "{off}/{on}");
            let again = stage.enrol(&console).await.unwrap();
            assert!(again.already, "{off}/{on}: it is seen that it has all this");
        }
    }
    // One word for both says nothing: no state is made up.
    let stage = Paper::new(profile(), WantedRung::Auto);
    let _ = stage.told("Backlog StateText1 x; StateText2 x");
    stage.memory.wait(Duration::from_secs(5));
    let error = stage.enrol(&stage.console()).await.unwrap_err();
    assert!(error.to_string().contains("StateText"), "{error}");
    assert!(error.hint().unwrap().contains("StateText1 OFF"), "{error:?}");
    assert_eq!(stage.in_registry(), None);
}

/// In other letters it is the same name, and not a second certificate.
#[tokio::test]
async fn a_device_keeps_the_letters_of_its_name() {
    let stage = Paper::new(profile(), WantedRung::Auto);
    stage.enrol(&stage.console()).await.unwrap();
    let request = EnrolRequest { name: "PLUG".parse().unwrap(), ..stage.request.clone() };
    let enrolled = stage.enrol_as(&request, &stage.console(), &Silent).await.unwrap();
    assert!(enrolled.already);
    assert_eq!(enrolled.device.name.as_str(), "plug");
    assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 1);
}

/// Who gives another device's address has said nothing about the one that was meant.
#[tokio::test]
async fn a_mistyped_address_is_no_problem_of_the_device() {
    let stage = Paper::new(profile(), WantedRung::Auto);
    stage.enrol(&stage.console()).await.unwrap();
    let other = Paper::new(VirtualProfile { mac: theatre::mac(0x77), ..profile() }, WantedRung::Auto);
    let request = EnrolRequest { address: "192.0.2.8".parse().unwrap(), ..stage.request.clone() };
    let error = stage.enrol_as(&request, &other.console(), &Silent).await.unwrap_err();
    assert!(matches!(error, EnrolError::OtherDevice { .. }), "{error:?}");
    // Nobody is told to remove a device that is well.
    let hint = error.hint().unwrap();
    assert!(hint.contains("quoll device replace plug") && !hint.contains("remove"), "{hint}");
    assert_eq!(stage.in_registry().unwrap().problem, None);
    // The same at its own address is one: it is not there any more.
    let error = stage.enrol(&other.console()).await.unwrap_err();
    assert!(matches!(error, EnrolError::AddressMoved { .. }), "{error:?}");
    assert_eq!(stage.in_registry().unwrap().problem, Some(error.to_string()));
}

/// A broker that is away for a few questions, and then sees what the inner one sees.
struct Restarting<'a> {
    broker: &'a Paper,
    away: AtomicUsize,
}

#[async_trait]
impl Witness for Restarting<'_> {
    async fn wait_for(&self, id: &str, within: Duration) -> Result<Sighting, WitnessError> {
        let away = |left: usize| left.checked_sub(1);
        if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, away).is_ok() {
            return Err(WitnessError::NoBroker { why: "it restarts".into() });
        }
        self.broker.wait_for(id, within).await
    }
}

/// An update of the broker in the middle of two hundred enrolments is no reason to send devices back.
#[tokio::test]
async fn a_broker_that_restarts_in_the_middle_of_a_proof_is_waited_for() {
    for (firmware, wanted) in
        [(Firmware::ClientCert, WantedRung::Auto), (Firmware::Stock, WantedRung::Pinned)]
    {
        let (long, short) = (Duration::from_secs(30), Duration::from_millis(50));
        for (away, proof, proven) in [(3, long, true), (usize::MAX, short, false)] {
            let stage = Paper::new(VirtualProfile { firmware, ..profile() }, wanted);
            let witness = Restarting { broker: &stage, away: AtomicUsize::new(away) };
            let enrolment = Enrolment {
                registry: &stage.registry,
                issuer: &stage.issuer,
                witness: &witness,
                reporter: &Silent,
                broker: &stage.broker,
                patience: Patience { proof, ..patience() },
            };
            let result = enrolment.run(&stage.request, &stage.console()).await.map(drop);
            stage.holds_to_its_word(&result.as_ref().map(drop), &format!("{firmware:?}"));
            match result {
                Ok(()) => assert!(proven),
                Err(error) => {
                    assert!(!proven && error.to_string().contains("no broker to ask"), "{error}");
                    assert_eq!(stage.in_registry().unwrap().state, DeviceState::RolledBack);
                }
            }
        }
    }
}

/// Somebody revokes, or removes, the device while its certificate is made.
struct Meanwhile<'a>(&'a Paper, bool);

#[async_trait]
impl Issuer for Meanwhile<'_> {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        let made = self.0.issuer.issue(name).await;
        match self.1 {
            true => drop(self.0.registry.shut_out(&Owner::Device(name.clone()), "keyCompromise").unwrap()),
            false => self.0.registry.remove_device(name).unwrap(),
        }
        made
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        self.0.issuer.existing(name).await
    }
}

#[tokio::test]
async fn who_is_revoked_in_the_middle_of_an_enrolment_gets_no_key() {
    for (revoked, told) in [(true, "it was revoked meanwhile"), (false, "add it again")] {
        let stage = Paper::new(profile(), WantedRung::Auto);
        let enrolment = Enrolment {
            registry: &stage.registry,
            issuer: &Meanwhile(&stage, revoked),
            witness: &stage,
            reporter: &Silent,
            broker: &stage.broker,
            patience: patience(),
        };
        let error = enrolment.run(&stage.request, &stage.console()).await.unwrap_err();
        assert!(matches!(error, EnrolError::Registry(RegistryError::Transition { .. })), "{error:?}");
        assert!(error.hint().unwrap().contains(told), "{error:?}");
        let owner = Owner::Device(stage.name().clone());
        assert!(stage.registry.certificates_of(&owner).unwrap().iter().all(|one| one.revoked));
        assert_eq!(stage.told("TLSKey"), r#"{"TLSKey1":-1,"TLSKey2":-1}"#, "nothing was sent to it");
        // Nor a password that opens the door.
        let error = stage.registry.propose_password(stage.name()).unwrap_err();
        assert!(matches!(error, RegistryError::Transition { .. }), "{error:?}");
    }
}

/// A semicolon ends a command in a Backlog and nowhere else, and a brace hides it: both are plausible in a password that a
/// program made.
#[tokio::test]
async fn a_login_that_no_backlog_can_carry_goes_back_all_the_same() {
    for (user, password) in [("me", "s;3cret"), ("a;b", "plain"), ("x{y", "p{q;r}"), ("a;b", "c;d")] {
        let stage = Paper::new(VirtualProfile { firmware: Firmware::Stock, ..profile() }, WantedRung::Pinned);
        for line in [format!("MqttUser {user}"), format!("MqttPassword {password}")] {
            let _ = stage.told(&line);
            stage.memory.wait(Duration::from_secs(5));
        }
        let login = || {
            stage.memory.with(|machine| {
                let (user, password) = machine.settings().login();
                (user.to_owned(), password.to_owned())
            })
        };
        let old = (user.to_owned(), password.to_owned());
        assert_eq!(login(), old);
        stage.blind.store(true, Ordering::SeqCst);
        let told = Some(OldPassword(password.to_owned().into()));
        let request = EnrolRequest { old_password: told, ..stage.request.clone() };
        let error = stage.enrol_as(&request, &stage.console(), &Silent).await.unwrap_err();
        assert!(matches!(error, EnrolError::NotProven { stands: Stands::RolledBack, .. }), "{error:?}");
        assert_eq!(stage.in_registry().unwrap().state, DeviceState::RolledBack);
        stage.memory.wait(Duration::from_secs(5));
        assert_eq!(login(), old);
        assert_eq!(stage.told("MqttHost"), format!(r#"{{"MqttHost":"{}"}}"#, theatre::OLD_HOST));
    }
    // What no line can bring back is said before anything is changed.
    let stage = Paper::new(VirtualProfile { firmware: Firmware::Stock, ..profile() }, WantedRung::Pinned);
    let _ = stage.told("MqttUser me");
    stage.memory.wait(Duration::from_secs(5));
    let told = Some(OldPassword("2".to_owned().into()));
    let request = EnrolRequest { old_password: told, ..stage.request.clone() };
    let error = stage.enrol_as(&request, &stage.console(), &Silent).await.unwrap_err();
    assert!(matches!(error, EnrolError::NoWayBack(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("--lose-old-password"), "{error:?}");
    assert_eq!(stage.in_registry(), None);
}
