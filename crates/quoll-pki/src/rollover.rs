//! From one CA to the next: a second folder beside the first (`pki-next/` beside `pki/`), itself a whole Easy-RSA folder,
//! which takes the first one's place when nobody needs that any more. Two folders, two names, two keys, two revocation
//! lists: every tool that reads a folder goes on as it is.
//!
//! What it is not: it does not know who needs which CA. Whoever calls [`succeed`] has looked.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use time::OffsetDateTime;
use x509_cert::{der::Decode, name::Name};

use crate::{
    authority::{Authority, fresh_serial},
    builder::{self, Plan, failed},
    certificate::Certificate,
    error::{Obstacle, PkiError},
    life::{looks_like, names_of},
    limits::{COMMON_NAME_MAX, MAX_FILE},
    name::CertName,
    passphrase::Passphrase,
    request::{IfTaken, Renewed},
    store::{
        NewCa, Pki, create,
        files::{self, Mode},
        index::Index,
        journal::Unfinished,
        make_way::Incoming,
    },
};

/// In the folder that is to be, or has become, the CA's: the name that its predecessor's folder gets.
const SUCCEEDING: &str = ".quoll-succeeding";

/// What of a folder's owner goes along to the next CA's, where that has none of its own.
const KEPT_FOLDERS: [&str; 2] = ["x509-types", "profiles"];

/// The folder of the CA that is to follow the one in `dir`, whether it is there or not: `pki-next` beside `pki`.
#[must_use]
pub fn next_folder(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_else(|| "pki".as_ref()).to_owned();
    name.push("-next");
    dir.with_file_name(name)
}

/// The folder that `dir` would be the [`next_folder`] of; `None` if its name says that it is no next CA's.
#[must_use]
pub fn predecessor_folder(dir: &Path) -> Option<PathBuf> {
    let name = dir.file_name()?.to_str()?.strip_suffix("-next").filter(|name| !name.is_empty())?;
    Some(dir.with_file_name(name))
}

/// A name for the CA that follows one of this name: `Home CA`, `Home CA 2`, `Home CA 3`. Never the same, because two CAs of
/// one name are told apart by their key identifiers only, which OpenSSL looks at and BearSSL does not.
#[must_use]
pub fn next_name(name: &str) -> String {
    let counted = name.rsplit_once(' ').and_then(|(stem, count)| Some((stem, count.parse::<u32>().ok()?)));
    let (stem, count) = counted.filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, 1));
    let end = format!(" {}", count.saturating_add(1));
    let room = COMMON_NAME_MAX.saturating_sub(end.chars().count());
    format!("{}{end}", stem.chars().take(room).collect::<String>().trim_end())
}

/// The CA that is to follow the one in `dir`; `None` where none is being introduced.
///
/// # Errors
/// As [`Pki::open`].
pub fn successor(dir: &Path) -> Result<Option<Pki>, PkiError> {
    let next = next_folder(dir);
    // With the mark in `dir`, what lies in `next` is the predecessor, on its way to the archive.
    if !next.join("ca.crt").exists() || create::is_unfinished(&next) || dir.join(SUCCEEDING).exists() {
        return Ok(None);
    }
    Pki::open(&next).map(Some)
}

/// Whether a succession was interrupted: [`succeed`] finishes it.
#[must_use]
pub fn is_half_done(dir: &Path) -> bool {
    dir.join(SUCCEEDING).exists() || next_folder(dir).join(SUCCEEDING).exists()
}

/// Makes the next CA beside `current`: its own name and key, an empty revocation list, the owner's `vars`, certificate types
/// and profiles. If an earlier call was interrupted, it is finished.
///
/// # Errors
/// [`PkiError::BadRequest`] where the name is that of the CA there is, [`PkiError::AlreadyACa`] where another one is being
/// introduced, and as [`Pki::create`].
pub fn begin(
    current: &Pki,
    new: &NewCa,
    pass: &Passphrase,
    now: OffsetDateTime,
) -> Result<Authority, PkiError> {
    let same = |name: &str| name.trim().eq_ignore_ascii_case(new.common_name.trim());
    if current.ca().subject_cn().is_some_and(same) {
        let problem = "the CA there is has this name, and devices tell CAs apart by their names".to_owned();
        return Err(PkiError::BadRequest { name: new.common_name.clone(), problem });
    }
    let dir = next_folder(current.dir());
    let next = match successor(current.dir())? {
        Some(there) if there.ca().subject_cn() == Some(&new.common_name) => there,
        Some(_) => return Err(PkiError::AlreadyACa { dir }),
        None => Pki::create(&dir, new, pass, now)?,
    };
    let authority = next.unlock(pass)?;
    take_along(current.dir(), &dir)?;
    if !next.layout.crl().exists() {
        authority.publish_crl(now)?;
    }
    Ok(authority)
}

/// Copies what the folder's owner has set, where the new folder has nothing of that name.
fn take_along(from: &Path, to: &Path) -> Result<(), PkiError> {
    let copy = |from: &Path, to: &Path| match files::read_if_there(from, MAX_FILE)? {
        Some(content) if !to.exists() => files::write(to, &content, Mode::Private),
        _ => Ok(()),
    };
    copy(&from.join("vars"), &to.join("vars"))?;
    for folder in KEPT_FOLDERS {
        let Ok(listing) = std::fs::read_dir(from.join(folder)) else { continue };
        for file in listing {
            let file = file.map_err(files::io("listing", &from.join(folder)))?;
            if file.file_type().is_ok_and(|kind| kind.is_file()) {
                copy(&file.path(), &to.join(folder).join(file.file_name()))?;
            }
        }
    }
    Ok(())
}

/// The next CA takes the place of the one in `dir`, whose folder becomes `archive` beside it. The two folders change places
/// in one step, where the system can do that (Linux); the same call finishes what an interrupted one left. The archive.
///
/// # Errors
/// [`PkiError::NotAPki`] where there is no next CA, [`PkiError::Io`].
pub fn succeed(dir: &Path, archive: &str) -> Result<PathBuf, PkiError> {
    let next = next_folder(dir);
    let mark = dir.join(SUCCEEDING);
    if !mark.exists() {
        let coming = next.join(SUCCEEDING);
        if dir.exists() {
            Pki::open(&next)?;
            let _old = files::lock(dir)?;
            let _new = files::lock(&next)?;
            if !coming.exists() {
                files::write(&coming, free_name(dir, archive).as_bytes(), Mode::Private)?;
            }
            if !files::exchange(dir, &next)? {
                // For a moment there is no folder; whoever comes in that moment finds the mark.
                files::replace(dir, &named_in(&coming, dir)?)?;
                files::replace(&next, dir)?;
            }
        } else if coming.exists() {
            files::replace(&next, dir)?;
        } else {
            return Err(PkiError::NotAPki { dir: dir.to_owned(), missing: "ca.crt".into(), nearby: None });
        }
    }
    let archive = named_in(&mark, dir)?;
    if next.exists() {
        files::replace(&next, &archive)?;
    }
    files::remove(&mark)?;
    Ok(archive)
}

/// Takes the next CA's folder away, as `archive` beside it; the CA there is stays. The archive.
///
/// # Errors
/// [`PkiError::NotAPki`] where there is no next CA, [`PkiError::Io`].
pub fn abandon(dir: &Path, archive: &str) -> Result<PathBuf, PkiError> {
    let next = next_folder(dir);
    let nothing = || PkiError::NotAPki { dir: next.clone(), missing: "ca.crt".into(), nearby: None };
    if !next.exists() || dir.join(SUCCEEDING).exists() {
        return Err(nothing());
    }
    let archive = dir.with_file_name(free_name(dir, archive));
    files::replace(&next, &archive)?;
    Ok(archive)
}

/// `wanted`, or `wanted-2` and so on where that is taken.
fn free_name(dir: &Path, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut count = 1_u32;
    while dir.with_file_name(&name).exists() {
        count = count.saturating_add(1);
        name = format!("{wanted}-{count}");
    }
    name
}

fn named_in(mark: &Path, dir: &Path) -> Result<PathBuf, PkiError> {
    let name = String::from_utf8_lossy(&files::read(mark, MAX_FILE)?).into_owned();
    if name.is_empty() || name.contains('/') {
        let problem = "it does not name a folder".to_owned();
        return Err(PkiError::BadFile { path: mark.to_owned(), problem });
    }
    Ok(dir.with_file_name(name))
}

impl Certificate {
    /// What a device that trusts this CA has of it, as a short mark: a digest of subject and public key. A renewal of the CA
    /// does not change it. 32 hex digits.
    #[must_use]
    pub fn anchor_id(&self) -> String {
        let content = [self.subject_der(), self.public_key_der()].concat();
        let hash = digest::digest(&digest::SHA256, &content);
        hash.as_ref()[..16].iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

impl Authority {
    /// Issues under this CA what `from` has issued under that name: same subject, same key, same profile, same names. The
    /// key's file is copied as it is, encrypted or not. What `from` has stays as good as it was. A second call gives what
    /// the first one made.
    ///
    /// # Errors
    /// [`PkiError::UnknownName`], [`PkiError::BadRequest`] if it is revoked there or of no profile,
    /// [`PkiError::NameTaken`] if this CA has another key's certificate of that name, [`PkiError::InTheWay`].
    pub fn take_over(&self, from: &Pki, name: &CertName, now: OffsetDateTime) -> Result<Renewed, PkiError> {
        self.check_may_sign(now)?;
        let old = from.renewable(name, &from.read_index()?)?;
        let refuse = |problem: String| PkiError::BadRequest { name: name.to_string(), problem };
        let profile = looks_like(&old).ok_or_else(|| {
            refuse("it is of no known profile; issue it anew with `quoll ca issue`".to_owned())
        })?;
        let rules = profile.rules();
        let mut warnings = Vec::new();
        let names = names_of(&old, rules.takes_alt_names(), &mut warnings);
        let alt_names = match rules.wants_alt_names(&names) {
            true => Some(builder::alt_names(&names, name.as_str())?),
            false => None,
        };
        let (not_before, not_after) = self.validity(rules, None, now, &mut warnings);

        let pki = self.pki();
        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;
        if let Some(certificate) = self.made_before(&old, name, &index, now)? {
            return Ok(Renewed { certificate, previous: old.serial(), warnings: Vec::new() });
        }
        self.make_way_for(from, &old, name, &index, now)?;
        let plan = Plan {
            serial: &fresh_serial(&index)?,
            subject: Name::from_der(old.subject_der())
                .map_err(failed("reading the certificate's subject"))?,
            public_key_der: old.public_key_der(),
            not_before,
            not_after,
            extensions: self.leaf_extensions(rules, old.public_key_der(), alt_names)?,
        };
        let certificate = builder::certificate(plan, pki.ca(), self.key())?;
        self.check_made(rules, name, &certificate, &mut warnings)?;
        pki.begin(name, &certificate.serial(), Unfinished::Keep)?;
        // The certificate last: where it is, its key is there.
        for (there, here) in [
            (from.layout.request(name), pki.layout.request(name)),
            (from.layout.key(name), pki.layout.key(name)),
        ] {
            if let Some(content) = files::read_if_there(&there, MAX_FILE)?.map(zeroize::Zeroizing::new) {
                files::write(&here, &content, Mode::Private)?;
            }
        }
        self.write_certificate(name, &certificate)?;
        pki.complete(&mut index, &certificate)?;
        Ok(Renewed { certificate, previous: old.serial(), warnings })
    }

    /// This CA's valid certificate for the same key.
    fn made_before(
        &self,
        old: &Certificate,
        name: &CertName,
        index: &Index,
        now: OffsetDateTime,
    ) -> Result<Option<Certificate>, PkiError> {
        let there = self.pki().certificate(name)?;
        let same = |it: &Certificate| {
            it.public_key_der() == old.public_key_der()
                && index.get(&it.serial()).is_some_and(|entry| entry.is_valid_at(now))
        };
        Ok(there.filter(same))
    }

    /// Like `make_way`, but the other folder's own key is not in the way: an interrupted call left it.
    fn make_way_for(
        &self,
        from: &Pki,
        old: &Certificate,
        name: &CertName,
        index: &Index,
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let pki = self.pki();
        if pki.certificate(name)?.is_some() {
            let public_key_der = old.public_key_der();
            pki.make_way(index, &Incoming { name, public_key_der, if_taken: IfTaken::Refuse }, now)?;
            return Ok(());
        }
        for (there, here, what) in [
            (from.layout.key(name), pki.layout.key(name), Obstacle::Key),
            (from.layout.request(name), pki.layout.request(name), Obstacle::Request),
        ] {
            let (there, here_bytes) =
                (files::read_if_there(&there, MAX_FILE)?, files::read_if_there(&here, MAX_FILE)?);
            let (there, here_bytes) =
                (there.map(zeroize::Zeroizing::new), here_bytes.map(zeroize::Zeroizing::new));
            if here_bytes.is_some() && here_bytes != there {
                return Err(PkiError::InTheWay { path: here, what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may unwrap")]

    use std::fs;

    use time::Duration;

    use super::*;
    use crate::{
        IssueRequest, KeyKind, KeySource, KeyStorage, Profile, RevocationReason, store::files::death,
    };

    fn pass() -> Passphrase {
        Passphrase::new("test")
    }

    fn new(name: &str) -> NewCa {
        NewCa { key: KeyKind::EcP256, ..NewCa::new(name) }
    }

    fn name(text: &str) -> CertName {
        text.parse().unwrap()
    }

    /// A CA with a server and a device.
    fn folder(dir: &Path, now: OffsetDateTime) -> Pki {
        let pki = Pki::create(&dir.join("pki"), &new("Old"), &pass(), now).unwrap();
        let authority = pki.unlock(&pass()).unwrap();
        for (profile, text) in [(Profile::Server, "hub"), (Profile::Tasmota, "lamp")] {
            let mut request = IssueRequest::new(profile, name(text), KeyStorage::Plain);
            request.key = KeySource::Generate(KeyKind::EcP256);
            authority.issue(&request, now).unwrap();
        }
        fs::write(dir.join("pki/vars"), "set_var EASYRSA_DN \"cn_only\"\n").unwrap();
        fs::create_dir(dir.join("pki/profiles")).unwrap();
        fs::write(dir.join("pki/profiles/gate.toml"), "about = 'a gate'\n").unwrap();
        pki
    }

    #[test]
    fn each_next_ca_has_another_name_that_fits() {
        let long = "x".repeat(COMMON_NAME_MAX);
        for (old, next) in [
            ("Home CA", "Home CA 2"),
            ("Home CA 2", "Home CA 3"),
            ("Home CA 9", "Home CA 10"),
            ("CA", "CA 2"),
            ("4", "4 2"),
            (&long, &format!("{} 2", "x".repeat(COMMON_NAME_MAX - 2))),
        ] {
            assert_eq!(next_name(old), next);
            assert!(next_name(old).chars().count() <= COMMON_NAME_MAX);
        }
    }

    #[test]
    fn the_next_ca_lies_beside_takes_over_keys_as_they_are_and_then_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let old = folder(dir.path(), now);
        assert!(successor(old.dir()).unwrap().is_none());
        assert!(begin(&old, &new("old"), &pass(), now).is_err(), "the same name");
        let next = begin(&old, &new("New"), &pass(), now).unwrap();
        assert!(matches!(begin(&old, &new("Newer"), &pass(), now), Err(PkiError::AlreadyACa { .. })));
        assert_eq!(successor(old.dir()).unwrap().unwrap().ca(), next.pki().ca());
        assert_ne!(old.ca().anchor_id(), next.pki().ca().anchor_id());
        assert!(next.pki().profile("gate").unwrap().is_some(), "the owner's profiles come along");
        assert!(!next.pki().crl_is_behind(now).unwrap(), "there is a list, for servers that want one");

        let hub = next.take_over(&old, &name("hub"), now).unwrap();
        assert_eq!(next.take_over(&old, &name("hub"), now).unwrap().certificate, hub.certificate);
        let before = old.certificate(&name("hub")).unwrap().unwrap();
        assert_eq!(hub.certificate.public_key_der(), before.public_key_der(), "what pins the key goes on");
        assert_eq!(hub.certificate.dns_names(), before.dns_names());
        assert_eq!(
            *next.pki().server_key_pem(&name("hub")).unwrap(),
            *old.server_key_pem(&name("hub")).unwrap()
        );
        old.revoke(&before.serial(), RevocationReason::Superseded, now).unwrap();
        assert!(next.take_over(&old, &name("hub"), now).is_err(), "revoked is revoked");

        let archive = succeed(old.dir(), "pki-old").unwrap();
        let pki = Pki::open(old.dir()).unwrap();
        assert_eq!(pki.ca().subject_cn(), Some("New"));
        assert_eq!(Pki::open(&archive).unwrap().ca().subject_cn(), Some("Old"));
        assert!(successor(old.dir()).unwrap().is_none() && !is_half_done(old.dir()));
        let again = begin(&pki, &new("Newest"), &pass(), now).unwrap();
        assert!(again.pki().entries().unwrap().is_empty());
        let archive = succeed(pki.dir(), "pki-old").unwrap();
        assert!(archive.ends_with("pki-old-2"), "no archive is written over");
    }

    #[test]
    fn an_abandoned_ca_leaves_the_one_there_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let old = folder(dir.path(), now);
        assert!(abandon(old.dir(), "pki-abandoned").is_err());
        begin(&old, &new("New"), &pass(), now).unwrap();
        let archive = abandon(old.dir(), "pki-abandoned").unwrap();
        assert_eq!(Pki::open(&archive).unwrap().ca().subject_cn(), Some("New"));
        assert!(successor(old.dir()).unwrap().is_none());
        assert_eq!(Pki::open(old.dir()).unwrap().entries().unwrap().len(), 2);
        begin(&old, &new("New"), &pass(), now).unwrap();
    }

    /// An act of a rollover, as another process would do it.
    type Act = fn(&Path, OffsetDateTime) -> Result<(), PkiError>;

    const ACTS: [(&str, Act); 3] = [
        ("begin", |dir, now| begin(&Pki::open(dir)?, &new("New"), &pass(), now).map(drop)),
        ("take over", |dir, now| {
            let next = successor(dir)?.unwrap().unlock(&pass())?;
            next.take_over(&Pki::open(dir)?, &name("hub"), now).map(drop)
        }),
        ("succeed", |dir, _| {
            let done = Pki::open(dir)?.ca().subject_cn() == Some("New") && !is_half_done(dir);
            if done { Ok(()) } else { succeed(dir, "pki-old").map(drop) }
        }),
    ];

    /// Encrypting a key well takes its time, so `begin` is killed at every fourth change only.
    const STEPS: [usize; 3] = [4, 1, 1];

    #[test]
    fn a_rollover_killed_at_any_change_has_one_ca_in_force_and_can_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let later = now + Duration::seconds(1);
        folder(dir.path(), now);
        for ((act_name, act), step) in ACTS.into_iter().zip(STEPS) {
            for killed_at in (0..200).step_by(step) {
                let what = format!("{act_name}, killed at change {killed_at}");
                let site = dir.path().join("site");
                copy(&dir.path().join("pki"), &site.join("pki"));
                if dir.path().join("pki-next").exists() {
                    copy(&dir.path().join("pki-next"), &site.join("pki-next"));
                }
                let pki = site.join("pki");
                death::comes_after(killed_at);
                let outcome = act(&pki, later);
                death::is_over();
                let survived = outcome.is_ok();
                let there = Pki::open(&pki).unwrap_or_else(|error| panic!("{what}: {error}"));
                let hub = there.certificate(&name("hub")).unwrap();
                let hub = hub.unwrap_or_else(|| panic!("{what}: no server"));
                let key = there.private_key(&name("hub"), &pass()).unwrap();
                assert_eq!(key.public_key_der(), hub.public_key_der(), "{what}");
                successor(&pki).unwrap_or_else(|error| panic!("{what}: {error}"));
                act(&pki, later).unwrap_or_else(|error| panic!("{what}, again: {error}"));
                assert!(!is_half_done(&pki), "{what}");
                if survived && act_name != "succeed" {
                    // The next act begins where this one ended.
                    fs::remove_dir_all(dir.path().join("pki-next")).ok();
                    copy(&site.join("pki-next"), &dir.path().join("pki-next"));
                }
                fs::remove_dir_all(&site).unwrap();
                if survived {
                    assert!(killed_at > 3, "{act_name} changed the disk {killed_at} times only");
                    break;
                }
                assert!(killed_at < 190, "{act_name} does not end");
            }
        }
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
}
