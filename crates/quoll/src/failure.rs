//! How a command ends badly: what failed, why, what to do next, and the exit code that says it to a script.

use std::fmt::Display;
use std::process::ExitCode;

use crate::output::shown;

/// Exit codes. Documented in `docs/exit-codes.md`; a test holds the two together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The machine refused: disk, permission, network.
    System = 1,
    /// The command line makes no sense (clap's own code).
    Usage = 2,
    /// A file or folder that we were given or keep is unusable: `quoll.toml`, `pki/`, `fleet.db`.
    Unusable = 3,
    /// Done in part: something waits for its proof or for a second run.
    Partial = 4,
    /// The CA passphrase is wrong or missing.
    Passphrase = 5,
    /// An address is in use or is not ours.
    Address = 6,
    /// A device cannot be reached, refuses us, or is no Tasmota.
    Device = 7,
    /// The device's firmware cannot do it.
    Firmware = 8,
    /// There is nothing of that name.
    NotFound = 9,
    /// An act that cannot be undone was not confirmed.
    Unconfirmed = 10,
    /// The doctor found a device, or a part of the house, that is not well.
    Unwell = 11,
}

impl Exit {
    /// The exit that a code stands for; [`Exit::System`] for one that is none of ours.
    pub(crate) fn from_code(code: u8) -> Self {
        let all = [
            Self::Usage,
            Self::Unusable,
            Self::Partial,
            Self::Passphrase,
            Self::Address,
            Self::Device,
            Self::Firmware,
            Self::NotFound,
            Self::Unconfirmed,
            Self::Unwell,
        ];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::System)
    }

    /// Every code with its meaning, for the documentation and its test.
    #[cfg(test)]
    pub(crate) const ALL: [(u8, &'static str); 12] = [
        (0, "done"),
        (Self::System as u8, "the machine refused: disk, permission, network"),
        (Self::Usage as u8, "the command line makes no sense"),
        (Self::Unusable as u8, "a file or folder is unusable: quoll.toml, pki/, fleet.db, an input file"),
        (Self::Partial as u8, "done in part: something waits for its proof or for a second run"),
        (Self::Passphrase as u8, "the CA passphrase is wrong or missing"),
        (Self::Address as u8, "an address is in use or does not belong to this machine"),
        (Self::Device as u8, "a device cannot be reached, refuses, or is no Tasmota"),
        (Self::Firmware as u8, "the device's firmware cannot do it"),
        (Self::NotFound as u8, "there is nothing of that name"),
        (Self::Unconfirmed as u8, "an act that cannot be undone was not confirmed"),
        (Self::Unwell as u8, "the doctor found something that is not well"),
    ];
}

/// What failed, why, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Display) -> Self {
        Self { exit, what: what.to_string(), why: None, hint: None }
    }

    pub(crate) fn why(mut self, why: impl Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<impl Display>) -> Self {
        self.hint = hint.map(|hint| hint.to_string()).or(self.hint);
        self
    }

    /// All of it, for a log.
    pub(crate) fn in_a_line(&self) -> String {
        let parts = [Some(&self.what), self.why.as_ref(), self.hint.as_ref()];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("quoll: error: {}", shown(&self.what));
        if let Some(why) = &self.why {
            eprintln!("quoll: why:   {}", shown(why));
        }
        if let Some(hint) = &self.hint {
            eprintln!("quoll: hint:  {}", shown(hint));
        }
        ExitCode::from(self.exit as u8)
    }
}

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Turns an I/O error on a path into a failure.
pub(crate) fn io_failure(act: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Exit::System, format!("cannot {act} {}", path.display())).why(error);
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("run quoll as the owner of that folder, or choose another one with --home")
        }
        std::io::ErrorKind::StorageFull => failure.hint("make room on that disk and run the command again"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented_as_it_is() {
        let page = include_str!("../../../docs/exit-codes.md");
        for (code, meaning) in Exit::ALL {
            assert!(page.contains(&format!("| {code} | {meaning} |")), "{code}: {meaning}");
        }
        assert_eq!(
            page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).count(),
            Exit::ALL.len()
        );
    }

    #[test]
    fn a_code_leads_back_to_its_exit() {
        for (code, _) in &Exit::ALL[1..] {
            assert_eq!(Exit::from_code(*code) as u8, *code);
        }
    }
}
