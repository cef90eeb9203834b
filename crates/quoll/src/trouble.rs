//! Turns the libraries' errors into what a person is told: the right exit code, and the next step.

use quoll_fleet::registry::RegistryError;
use quoll_pki::PkiError;
use quoll_server::StartError;

use crate::failure::{Exit, Failure};

pub(crate) fn pki(error: PkiError) -> Failure {
    let exit = match &error {
        PkiError::WrongPassphrase { .. } => Exit::Passphrase,
        PkiError::Io { .. } => Exit::System,
        _ => Exit::Unusable,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

pub(crate) fn registry(error: RegistryError) -> Failure {
    let exit = match &error {
        RegistryError::Busy { .. } => Exit::System,
        _ => Exit::Unusable,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

pub(crate) fn start(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Bind { .. } => Exit::Address,
        _ => Exit::System,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}
