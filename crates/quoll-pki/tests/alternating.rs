//! Random acts of Quoll and of Debian's Easy-RSA 3.1, in turns on one folder. After each, Quoll, Easy-RSA and OpenSSL must
//! tell the same: who is valid, who is revoked, what the revocation list holds, and that every certificate verifies.
//!
//! `QUOLL_TURNS=500` makes it long; the dice fall the same way in every run of the same `QUOLL_SEED`.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use common::*;
use quoll_pki::{
    Authority, Chain, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, NewCa, Pki, Profile, Renewal,
    RevocationReason, Serial,
};
use time::{Duration, OffsetDateTime};

const TURNS: usize = 40;
const EC: [(&str, &str); 2] = [("EASYRSA_ALGO", "ec"), ("EASYRSA_CURVE", "prime256v1")];
/// Days ahead that cover every certificate's end: what `show-expire` lists then is all that is valid.
const EVERYTHING: &str = "99999";

/// Easy-RSA asks the clock of the machine, so here Quoll must have the same one.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn one_of<T: Clone>(&mut self, things: impl IntoIterator<Item = T>) -> Option<T> {
        let things: Vec<_> = things.into_iter().collect();
        let at = self.below(things.len());
        things.get(at).cloned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Valid,
    Held,
    Revoked,
}

/// What must be true, by what was done.
#[derive(Default)]
struct Truth {
    /// Every certificate ever issued here.
    states: BTreeMap<Serial, State>,
    /// Which of them is in use under each name.
    names: BTreeMap<String, Serial>,
    /// Common name of each.
    of: BTreeMap<Serial, String>,
    /// What the revocation list holds.
    listed: BTreeSet<Serial>,
}

impl Truth {
    fn of(pki: &Pki) -> Self {
        let mut truth = Self::default();
        for entry in pki.entries().unwrap() {
            let name = entry.common_name().unwrap();
            let state = if entry.is_revoked() { State::Revoked } else { State::Valid };
            truth.states.insert(entry.serial.clone(), state);
            truth.of.insert(entry.serial.clone(), name.clone());
            if pki.certificate(&name.parse().unwrap()).unwrap().is_some_and(|it| it.serial() == entry.serial)
            {
                truth.names.insert(name, entry.serial);
            }
        }
        truth.listed = truth.refused();
        truth
    }

    fn issued(&mut self, name: &str, serial: Serial) {
        self.states.insert(serial.clone(), State::Valid);
        self.of.insert(serial.clone(), name.to_owned());
        self.names.insert(name.to_owned(), serial);
    }

    fn revoked(&mut self, serial: &Serial, state: State) {
        self.states.insert(serial.clone(), state);
        self.names.retain(|_, in_use| in_use != serial);
    }

    fn refused(&self) -> BTreeSet<Serial> {
        let refused = self.states.iter().filter(|(_, state)| **state != State::Valid);
        refused.map(|(serial, _)| serial.clone()).collect()
    }

    fn valid(&self) -> BTreeSet<Serial> {
        let valid = self.states.iter().filter(|(_, state)| **state == State::Valid);
        valid.map(|(serial, _)| serial.clone()).collect()
    }
}

/// The folder, both programs' hands on it, and the truth.
struct Table {
    path: PathBuf,
    authority: Authority,
    truth: Truth,
    dice: Dice,
    /// How often each act was done.
    acts: BTreeMap<&'static str, usize>,
}

impl Table {
    fn pki(&self) -> &Pki {
        self.authority.pki()
    }

    fn in_use(&self, name: &str) -> Option<Serial> {
        self.pki().certificate(&name.parse().unwrap()).unwrap().map(|certificate| certificate.serial())
    }

    fn reason(&mut self) -> RevocationReason {
        RevocationReason::ALL[self.dice.below(7)]
    }

    /// One act. Says what it was.
    fn turn(&mut self, turn: usize) -> &'static str {
        let fresh = format!("device_{turn}");
        let victim = self.dice.one_of(self.truth.names.clone());
        let Some((name, serial)) = victim else { return self.quoll_issues(&fresh) };
        match self.dice.below(30) {
            0..=3 => self.quoll_issues(&fresh),
            4 | 5 => self.quoll_renews(&name),
            6 => self.quoll_supersedes(&name),
            7 => self.quoll_rekeys(&name),
            8..=10 => self.quoll_revokes(&name, &serial),
            11 | 12 => self.quoll_releases(),
            13 => self.quoll_revokes_one_set_aside(),
            14 | 15 => self.quoll_lists(),
            16 if turn.is_multiple_of(4) => self.quoll_extends_the_ca(turn),
            17 if turn.is_multiple_of(8) => self.quoll_encrypts_the_key_anew(),
            16..=19 => self.easyrsa_builds(&fresh),
            20 | 21 => self.easyrsa_signs_a_request(&fresh),
            22 | 23 => self.easyrsa_revokes(&name, &serial),
            24 | 25 => self.easyrsa_renews(&name, &serial),
            26 => self.easyrsa_revokes_one_set_aside(),
            27 => {
                easyrsa(&self.path, &[], &["update-db"]);
                "easyrsa update-db"
            }
            _ => self.easyrsa_lists(),
        }
    }

    fn quoll_issues(&mut self, fresh: &str) -> &'static str {
        let profile = [Profile::Tasmota, Profile::Client, Profile::Server][self.dice.below(3)];
        let request = IssueRequest {
            key: KeySource::Generate(KeyKind::EcP256),
            ..IssueRequest::new(profile, name(fresh), KeyStorage::Plain)
        };
        let issued = self.authority.issue(&request, now()).unwrap();
        self.truth.issued(fresh, issued.certificate.serial());
        "quoll issue"
    }

    fn quoll_renews(&mut self, victim: &str) -> &'static str {
        let renewed = self.authority.renew(&name(victim), &Renewal::default(), now()).unwrap();
        self.truth.issued(victim, renewed.certificate.serial());
        "quoll renew"
    }

    fn quoll_supersedes(&mut self, victim: &str) -> &'static str {
        let request = IssueRequest {
            if_taken: IfTaken::Supersede,
            ..IssueRequest::new(Profile::Tasmota, name(victim), KeyStorage::Plain)
        };
        let issued = self.authority.issue(&request, now()).unwrap();
        self.truth.issued(victim, issued.certificate.serial());
        "quoll issue over"
    }

    fn quoll_rekeys(&mut self, victim: &str) -> &'static str {
        let done = self.authority.rekey_server(&name(victim), None, KeyKind::EcP256, None, now());
        match done {
            Ok(rekeyed) => self.truth.issued(victim, rekeyed.certificate.serial()),
            Err(error) => assert!(error.to_string().contains("not a server's"), "{error}"),
        }
        "quoll rekey"
    }

    fn quoll_revokes(&mut self, victim: &str, serial: &Serial) -> &'static str {
        assert_eq!(self.in_use(victim).as_ref(), Some(serial));
        let reason = self.reason();
        self.pki().revoke(serial, reason, now()).unwrap();
        let held = reason == RevocationReason::CertificateHold;
        self.truth.revoked(serial, if held { State::Held } else { State::Revoked });
        "quoll revoke"
    }

    fn quoll_releases(&mut self) -> &'static str {
        let held = self.truth.states.iter().filter(|(_, state)| **state == State::Held);
        let held: Vec<_> = held.map(|(serial, _)| serial.clone()).collect();
        let Some(serial) = self.dice.one_of(held) else { return "nothing" };
        let victim = self.truth.of[&serial].clone();
        match self.pki().release(&serial, now()) {
            Ok(_) => {
                self.truth.states.insert(serial.clone(), State::Valid);
                self.truth.names.entry(victim).or_insert(serial);
            }
            // Two newer ones of its name are there.
            Err(error) => assert!(matches!(error, quoll_pki::PkiError::NameTaken { .. }), "{error}"),
        }
        "quoll unhold"
    }

    /// One that is valid and not in use under its name.
    fn quoll_revokes_one_set_aside(&mut self) -> &'static str {
        let in_use: BTreeSet<_> = self.truth.names.values().cloned().collect();
        let aside: Vec<_> = self.truth.valid().difference(&in_use).cloned().collect();
        let Some(serial) = self.dice.one_of(aside) else { return "nothing" };
        self.pki().revoke(&serial, RevocationReason::Superseded, now()).unwrap();
        self.truth.revoked(&serial, State::Revoked);
        "quoll revoke one set aside"
    }

    fn quoll_lists(&mut self) -> &'static str {
        self.authority.publish_crl(now()).unwrap();
        self.truth.listed = self.truth.refused();
        "quoll crl"
    }

    fn quoll_extends_the_ca(&mut self, turn: usize) -> &'static str {
        let days = u32::try_from(7400 + turn).unwrap();
        self.authority.extend_ca(Some(days), now()).unwrap();
        self.authority = Pki::open(&self.path).unwrap().unlock(&test_pass()).unwrap();
        "quoll ca renew"
    }

    fn quoll_encrypts_the_key_anew(&mut self) -> &'static str {
        self.pki().reencrypt_ca_key(&test_pass(), &test_pass()).unwrap();
        "quoll ca reencrypt"
    }

    fn easyrsa_builds(&mut self, fresh: &str) -> &'static str {
        let kind = ["build-client-full", "build-server-full"][self.dice.below(2)];
        easyrsa(&self.path, &EC, &[kind, fresh, "nopass"]);
        let serial = self.in_use(fresh).unwrap();
        self.truth.issued(fresh, serial);
        "easyrsa build-*-full"
    }

    /// As the guide does it, with a key under a passphrase and, where the folder has it, the guide's own type.
    fn easyrsa_signs_a_request(&mut self, fresh: &str) -> &'static str {
        let kind = if self.path.join("x509-types/tasmota").exists() { "tasmota" } else { "client" };
        easyrsa(&self.path, &[&EC[..], &[("EASYRSA_REQ_CN", fresh)]].concat(), &["gen-req", fresh]);
        easyrsa(&self.path, &[], &["sign-req", kind, fresh]);
        let serial = self.in_use(fresh).unwrap();
        self.truth.issued(fresh, serial);
        "easyrsa gen-req, sign-req"
    }

    fn easyrsa_revokes(&mut self, victim: &str, serial: &Serial) -> &'static str {
        let reason = self.reason();
        easyrsa(&self.path, &[], &["revoke", victim, &reason.to_string()]);
        let held = reason == RevocationReason::CertificateHold;
        self.truth.revoked(serial, if held { State::Held } else { State::Revoked });
        "easyrsa revoke"
    }

    /// Easy-RSA refuses where a renewed one is still set aside, and for types of the user's own; then nothing has changed.
    fn easyrsa_renews(&mut self, victim: &str, serial: &Serial) -> &'static str {
        let env = [&EC[..], &[("EASYRSA_CERT_RENEW", EVERYTHING)]].concat();
        let (ok, said) = easyrsa_with(&self.path, "test", &env, &["renew", victim, "nopass"]);
        if ok {
            let renewed = self.in_use(victim).unwrap();
            assert_ne!(renewed, *serial);
            self.truth.issued(victim, renewed);
            return "easyrsa renew";
        }
        assert!(said.contains("conflicting file exists") || said.contains("Unknown key usage"), "{said}");
        "easyrsa renew, refused"
    }

    fn easyrsa_revokes_one_set_aside(&mut self) -> &'static str {
        let folder = self.path.join("renewed/issued");
        let aside = fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
        let aside: BTreeSet<_> = aside.collect();
        let Some(file) = self.dice.one_of(aside) else { return "nothing" };
        let victim = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let certificate = quoll_pki::Certificate::from_pem(&fs::read(&file).unwrap()).unwrap();
        if self.truth.states[&certificate.serial()] != State::Valid {
            return "nothing";
        }
        easyrsa(&self.path, &[], &["revoke-renewed", &victim, "superseded"]);
        self.truth.revoked(&certificate.serial(), State::Revoked);
        "easyrsa revoke-renewed"
    }

    fn easyrsa_lists(&mut self) -> &'static str {
        easyrsa(&self.path, &[], &["gen-crl"]);
        self.truth.listed = self.truth.refused();
        "easyrsa gen-crl"
    }

    /// Quoll's view, the files and OpenSSL's view agree with what was done.
    #[track_caller]
    fn agree(&self, what: &str, touched: Option<&Serial>) {
        let entries = self.pki().entries().unwrap();
        let seen: BTreeMap<_, _> =
            entries.iter().map(|entry| (entry.serial.clone(), entry.is_revoked())).collect();
        let expected: BTreeMap<_, _> = self
            .truth
            .states
            .iter()
            .map(|(serial, state)| (serial.clone(), *state != State::Valid))
            .collect();
        assert_eq!(seen, expected, "{what}");
        for (cn, serial) in &self.truth.names {
            assert_eq!(self.in_use(cn).as_ref(), Some(serial), "{what}: {cn}");
        }
        let issued = fs::read_dir(self.path.join("issued")).unwrap().count();
        assert_eq!(issued, self.truth.names.len(), "{what}: nothing lies around in issued/");
        let list = self.path.join("crl.pem");
        let text = openssl_ok(&["crl", "-in", text_of(&list), "-noout", "-text"]);
        assert_eq!(serials_after("Serial Number: ", &text), self.truth.listed, "{what}: crl.pem");
        assert_eq!(
            self.pki().crl_is_behind(now()).unwrap(),
            self.truth.listed != self.truth.refused(),
            "{what}"
        );
        if let Some(serial) = touched {
            self.verifies(serial, what);
        }
    }

    #[track_caller]
    fn verifies(&self, serial: &Serial, what: &str) {
        let certificate = self.pki().certificate_by_serial(serial).unwrap().unwrap_or_else(|| {
            panic!("{what}: {serial} has no file");
        });
        let file = self.path.join("looked-at.pem");
        fs::write(&file, certificate.pem()).unwrap();
        let (ok, said) = openssl_accepts(&self.path, &file, now() + Duration::minutes(1), true);
        let listed = self.truth.listed.contains(serial);
        assert_eq!(ok, !listed, "{what}: {serial}: {said}");
        assert_eq!(said.contains("certificate revoked"), listed, "{what}: {said}");
        fs::remove_file(file).unwrap();
    }

    /// What Easy-RSA shows, and what Quoll's check says.
    #[track_caller]
    fn shown_alike(&self, what: &str) {
        let shown = |verb: &str| {
            let env = [("EASYRSA_CERT_RENEW", EVERYTHING)];
            serials_after("Serial: ", &easyrsa(&self.path, &env, &[verb]))
        };
        assert_eq!(shown("show-expire"), self.truth.valid(), "{what}: show-expire");
        assert_eq!(shown("show-revoke"), self.truth.refused(), "{what}: show-revoke");
        let check = self.pki().check(now()).unwrap();
        assert_eq!(check.certificates.len(), self.truth.states.len() + 1, "{what}");
        for row in &check.certificates {
            assert_eq!(row.chain, Chain::Signed, "{what}: {row:?}");
            let contradiction = row.problems.iter().find(|problem| problem.what.contains("index.txt says"));
            assert_eq!(contradiction, None, "{what}: {row:?}");
        }
        for (cn, serial) in &self.truth.names {
            let key = self.pki().private_key(&name(cn), &test_pass()).unwrap().public_key_der();
            let certificate = self.pki().certificate_by_serial(serial).unwrap().unwrap();
            assert_eq!(key, certificate.public_key_der(), "{what}: {cn} has its key");
        }
    }
}

fn serials_after(marker: &str, text: &str) -> BTreeSet<Serial> {
    let after =
        text.split(marker).skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_hexdigit()).next());
    after.filter(|digits| !digits.is_empty()).map(|digits| digits.parse().unwrap()).collect()
}

fn alternate(path: &Path, seed: usize) {
    let authority = Pki::open(path).unwrap().unlock(&test_pass()).unwrap();
    let truth = Truth::of(authority.pki());
    authority.publish_crl(now()).unwrap();
    let dice = Dice(number("QUOLL_SEED", seed) as u64);
    let mut table = Table { path: path.to_owned(), authority, truth, dice, acts: BTreeMap::new() };
    let turns = number("QUOLL_TURNS", TURNS);
    for turn in 0..turns {
        let before = table.truth.states.clone();
        let act = table.turn(turn);
        *table.acts.entry(act).or_default() += 1;
        let what = format!("turn {turn}, {act}");
        let changed = table.truth.states.iter().find(|(serial, state)| before.get(*serial) != Some(*state));
        let touched = changed.map(|(serial, _)| serial.clone());
        table.agree(&what, touched.as_ref());
        if turn % 10 == 9 {
            table.shown_alike(&what);
        }
    }
    for by_quoll in [true, false] {
        match by_quoll {
            true => table.quoll_lists(),
            false => table.easyrsa_lists(),
        };
        for serial in table.truth.states.keys() {
            table.verifies(serial, "at the end");
        }
    }
    table.shown_alike("at the end");
    println!("{turns} turns, {} certificates: {:?}", table.truth.states.len(), table.acts);
}

#[test]
fn random_turns_on_a_folder_made_by_quoll() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("Quoll CA") };
    Pki::create(&path, &new, &test_pass(), now()).unwrap();
    alternate(&path, 1);
}

#[test]
fn random_turns_on_a_folder_made_by_easy_rsa() {
    let (_dir, path) = copy_of("easyrsa-pki");
    alternate(&path, 2);
}
