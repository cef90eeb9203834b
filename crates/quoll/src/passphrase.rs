//! Where the CA passphrase comes from: a file, a systemd credential, the terminal; never the command line.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use quoll_pki::Passphrase;

use crate::failure::{Exit, Failure, Outcome};
use crate::home::{Home, write_whole};

/// The places to look in.
#[derive(Clone, Debug)]
pub(crate) struct PassphraseSource {
    given: Option<PathBuf>,
    kept: PathBuf,
    /// Whether there is a person to ask.
    may_ask: bool,
}

/// A passphrase, and the file that it was just written to where we made it ourselves.
pub(crate) struct Chosen {
    pub(crate) passphrase: Passphrase,
    pub(crate) made_in: Option<PathBuf>,
}

impl PassphraseSource {
    pub(crate) fn new(given: Option<PathBuf>, home: &Home) -> Self {
        Self { given, kept: home.passphrase_file(), may_ask: a_person_is_there() }
    }

    /// For a process whose standard input is a pipe, yet whose parent has a terminal.
    pub(crate) fn may_ask(mut self, may_ask: bool) -> Self {
        self.may_ask = may_ask;
        self
    }

    /// Whether there is a file, so that nobody need be asked.
    pub(crate) fn has_file(&self) -> bool {
        self.file().is_some()
    }

    /// A file to read: `--passphrase-file`, systemd's credential `ca-passphrase`, the home folder's own.
    fn file(&self) -> Option<PathBuf> {
        if let Some(given) = &self.given {
            return Some(given.clone());
        }
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join("ca-passphrase"))
            .filter(|path| path.exists());
        credential.or_else(|| self.kept.exists().then(|| self.kept.clone()))
    }

    /// The passphrase of a CA that exists.
    pub(crate) fn of_existing(&self, ca: &str) -> Outcome<Passphrase> {
        if let Some(file) = self.file() {
            return read(&file);
        }
        if !self.may_ask {
            return Err(Failure::new(Exit::Passphrase, "the CA's passphrase is needed")
                .why("there is no terminal to ask on, and no --passphrase-file")
                .hint("give --passphrase-file FILE (mode 0600, the passphrase on its first line)"));
        }
        ask(&format!("Passphrase of the CA \"{ca}\": ")).map(Passphrase::new)
    }

    /// The passphrase of a CA that is being made: from the file, asked twice on a terminal, else made.
    pub(crate) fn of_new(&self) -> Outcome<Chosen> {
        if let Some(file) = self.file() {
            return Ok(Chosen { passphrase: read(&file)?, made_in: None });
        }
        if self.may_ask {
            eprintln!(
                "A new CA is being made. Its passphrase protects the key that signs every certificate."
            );
            let first = ask("New CA passphrase (empty: make one and keep it in a file): ")?;
            if !first.is_empty() {
                if ask("The same again: ")? != first {
                    return Err(Failure::new(Exit::Passphrase, "the two passphrases differ")
                        .hint("nothing was made; run the command again"));
                }
                return Ok(Chosen { passphrase: Passphrase::new(first), made_in: None });
            }
        }
        let made = Passphrase::generate()
            .map_err(|error| Failure::new(Exit::System, "cannot make a passphrase").why(error))?;
        let mut line = made.as_bytes().to_vec();
        line.push(b'\n');
        let written = write_whole(&self.kept, &line, 0o600, false);
        zeroize::Zeroize::zeroize(&mut line);
        written?;
        Ok(Chosen { passphrase: made, made_in: Some(self.kept.clone()) })
    }
}

/// The passphrase in a file.
pub(crate) fn read(file: &Path) -> Outcome<Passphrase> {
    Passphrase::from_file(file).map_err(|error| {
        Failure::new(Exit::Passphrase, format!("cannot take the passphrase from {}", file.display()))
            .maybe_hint(
                error.hint().or_else(|| Some("the passphrase stands on its first line; mode 0600".into())),
            )
            .why(error)
    })
}

/// Whether both ends of a terminal are ours.
pub(crate) fn a_person_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A new passphrase, asked twice; there must be a terminal.
pub(crate) fn ask_twice(prompt: &str) -> Outcome<Passphrase> {
    if !a_person_is_there() {
        return Err(Failure::new(Exit::Passphrase, "a new passphrase is needed")
            .why("there is no terminal to ask on")
            .hint("give it in a file of mode 0600, on the first line; --help names the option"));
    }
    let first = ask(prompt)?;
    if ask("The same again: ")? != first {
        return Err(Failure::new(Exit::Passphrase, "the two passphrases differ")
            .hint("nothing was changed; run the command again"));
    }
    Ok(Passphrase::new(first))
}

fn ask(prompt: &str) -> Outcome<String> {
    rpassword::prompt_password(prompt)
        .map_err(|error| Failure::new(Exit::Passphrase, "no passphrase was given").why(error))
}
