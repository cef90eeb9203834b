//! The Easy-RSA folder that is taken over: where it is, what lies beside it, whose certificates are in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use quoll_pki::{CertName, Certificate, CertificateState, Pki};
use time::OffsetDateTime;

use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::trouble;

/// Files and folders of a folder; more is no Easy-RSA folder.
const FILES_MAX: usize = 2_000_000;

/// A certificate in use, by what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) name: String,
    pub(crate) serial: String,
    pub(crate) profile: &'static str,
    pub(crate) not_after: OffsetDateTime,
}

/// Finds the folder: the one named, or the `pki` in it. A problem says what was looked for.
pub(crate) fn find(dir: &Path) -> Outcome<Pki> {
    let places = [dir.to_owned(), dir.join("pki"), dir.join("easyrsa3/pki")];
    let found = places.iter().find(|place| place.join("ca.crt").exists() && place.join("index.txt").exists());
    let Some(found) = found else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no Easy-RSA folder in {}", dir.display()),
        )
        .why("neither it nor the pki in it has ca.crt and index.txt; nothing was changed")
        .hint("name the folder that `easyrsa init-pki` made"));
    };
    let found = std::path::absolute(found).map_err(|error| io_failure("find", found, &error))?;
    Pki::open(&found).map_err(trouble::pki)
}

/// The valid certificates that are in use.
pub(crate) fn issued(pki: &Pki, now: OffsetDateTime) -> Outcome<Vec<Issued>> {
    let check = pki.check(now).map_err(trouble::pki)?;
    let in_use = check.certificates.into_iter().filter(|row| {
        let there = row.file.as_deref().is_some_and(|file| file.starts_with("issued/"));
        there && row.state == CertificateState::Valid
    });
    Ok(in_use
        .filter_map(|row| {
            let profile = row.profile?;
            Some(Issued {
                name: row.name?,
                serial: row.serial.to_string(),
                profile,
                not_after: row.not_after,
            })
        })
        .collect())
}

/// The certificate in use under that name.
pub(crate) fn certificate(pki: &Pki, name: &str) -> Outcome<Option<Certificate>> {
    let Ok(name) = CertName::parse(name) else { return Ok(None) };
    pki.certificate(&name).map_err(trouble::pki)
}

/// Copies the folder, and what Easy-RSA reads beside it, to `to`, which is not there yet. Modes are kept; nobody else may
/// look in.
pub(crate) fn copy(pki: &Pki, to: &Path) -> Outcome {
    let mut left = FILES_MAX;
    copy_folder(pki.dir(), to, &mut left)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))
        .map_err(|error| io_failure("protect", to, &error))?;
    let Some(beside) = pki.dir().parent() else { return Ok(()) };
    for name in ["vars", "x509-types", "openssl-easyrsa.cnf"] {
        let (from, to) = (beside.join(name), to.join(name));
        if to.exists() {
            continue;
        }
        match from.metadata() {
            Ok(meta) if meta.is_dir() => copy_folder(&from, &to, &mut left)?,
            Ok(meta) if meta.is_file() => copy_file(&from, &to)?,
            _ => {}
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path, left: &mut usize) -> Outcome {
    let failed = |error: std::io::Error| io_failure("read the folder", from, &error);
    fs::create_dir_all(to).map_err(|error| io_failure("make the folder", to, &error))?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        *left = left.checked_sub(1).ok_or_else(|| {
            Failure::new(Exit::Unusable, format!("{} has over {FILES_MAX} files", from.display()))
                .hint("is it the right folder?")
        })?;
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        // A link is followed: what it leads to is what Easy-RSA reads.
        let meta = path.metadata().map_err(|error| io_failure("read", &path, &error))?;
        if meta.is_dir() {
            copy_folder(&path, &target, left)?;
            fs::set_permissions(&target, meta.permissions())
                .map_err(|error| io_failure("protect", &target, &error))?;
        } else if meta.is_file() {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Outcome {
    fs::copy(from, to).map_err(|error| io_failure("copy", from, &error))?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(|error| io_failure("write", to, &error))
}

/// Where the server's key is to be had without a passphrase: in the folder, or where Mosquitto has it.
pub(crate) enum ServerKey {
    /// In the folder, as it is to be.
    Plain,
    /// This file has it, in the clear.
    Elsewhere(PathBuf, zeroize::Zeroizing<String>),
    /// Nowhere.
    Locked,
}

/// Looks for it.
pub(crate) fn server_key(pki: &Pki, server: &Certificate, elsewhere: &[PathBuf]) -> ServerKey {
    let name = server.subject_cn().and_then(|name| CertName::parse(name).ok());
    if name.is_some_and(|name| pki.server_key_pem(&name).is_ok()) {
        return ServerKey::Plain;
    }
    for path in elsewhere {
        let Ok(key) = quoll_pki::PrivateKey::from_plain_file(path) else { continue };
        if key.public_key_der() == server.public_key_der() {
            return ServerKey::Elsewhere(path.clone(), key.pkcs8_pem());
        }
    }
    ServerKey::Locked
}
