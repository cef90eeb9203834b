//! Turns the libraries' errors into what a person is told: the right exit code, and the next step.

use quoll_fleet::registry::RegistryError;
use quoll_pki::PkiError;
use quoll_pki::bundle::BundleError;
use quoll_server::{StartError, StoreError};

use crate::failure::{Exit, Failure};

pub(crate) fn pki(error: PkiError) -> Failure {
    let exit = match &error {
        PkiError::WrongPassphrase { .. } => Exit::Passphrase,
        PkiError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Unusable,
        PkiError::Io { .. } => Exit::System,
        _ => Exit::Unusable,
    };
    let hint = error.hint().or_else(|| {
        Some(match &error {
            PkiError::WrongPassphrase { .. } => {
                "nothing was changed; look which file it came from (docs/configuration.md lists the places)"
                    .into()
            }
            PkiError::Io { source, path, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                format!("put {} back from a backup", path.display())
            }
            PkiError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "make room on that disk and run the command again; nothing is half done".into()
            }
            PkiError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "run quoll as the owner of that folder".into()
            }
            PkiError::BadFile { path, .. } | PkiError::BadKey { path, .. } => {
                format!("nothing was changed; put {} back from a backup", path.display())
            }
            _ => return None,
        })
    });
    Failure::new(exit, &error).maybe_hint(hint)
}

/// A bundle that came in a file: the file is named.
pub(crate) fn bundle_file(file: &std::path::Path, error: BundleError) -> Failure {
    let is_files_fault = !matches!(&error, BundleError::Pki(_) | BundleError::ClockBehind { .. });
    let failure = bundle(error);
    if is_files_fault {
        let Failure { exit, what, why: _, hint } = failure;
        return Failure::new(exit, format!("{} was not taken", file.display())).why(what).maybe_hint(hint);
    }
    failure
}

pub(crate) fn bundle(error: BundleError) -> Failure {
    let exit = match &error {
        BundleError::PhraseDiffers { .. } => Exit::Unconfirmed,
        BundleError::ClockBehind { .. } => Exit::System,
        BundleError::NothingWanted => Exit::Usage,
        _ => Exit::Unusable,
    };
    match error {
        BundleError::Pki(error) => pki(error),
        error => Failure::new(exit, &error).maybe_hint(error.hint()),
    }
}

pub(crate) fn registry(error: RegistryError) -> Failure {
    let exit = match &error {
        RegistryError::Busy { .. } => Exit::System,
        _ => Exit::Unusable,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

pub(crate) fn journal(error: StoreError) -> Failure {
    let exit = match &error {
        StoreError::Damaged { .. }
        | StoreError::NotOurs { .. }
        | StoreError::Newer { .. }
        | StoreError::NewerRow { .. } => Exit::Unusable,
        _ => Exit::System,
    };
    let hint = error.hint();
    Failure::new(exit, &error).maybe_hint(hint)
}

pub(crate) fn start(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Bind { .. } => Exit::Address,
        _ => Exit::System,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}
