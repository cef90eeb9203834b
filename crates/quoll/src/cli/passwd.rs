//! `quoll passwd`: password files of Mosquitto, as mosquitto_passwd makes them. Passwords never stand on a command line.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use quoll_server::mosquitto::password_file::{PasswordError, PasswordText};
use quoll_server::mosquitto::password_hash::{ITERATIONS, Scheme};
use quoll_server::mosquitto::replace_file;
use quoll_server::mosquitto::scram::{self, ScramFile, ScramRecord};
use zeroize::Zeroizing;

use super::confirm;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::output::print;

/// MQTT's bound: a password's length has two bytes.
const MAX_PASSWORD: usize = 65_535;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  quoll passwd -c /etc/mosquitto/passwords kitchen     asks for the password\n  \
    quoll passwd --password-file kitchen.txt passwords kitchen\n  quoll passwd -D passwords kitchen\n\n\
    A running broker reads the file anew on SIGHUP. Files of mosquitto_passwd are understood, and\n\
    Mosquitto 1.6 and newer understands files written here (argon2id: 2.1 where it was built with it)."
)]
pub(crate) struct Passwd {
    /// Begin a new file
    #[arg(short = 'c', conflicts_with_all = ["delete", "upgrade"])]
    create: bool,
    /// Take the user out
    #[arg(short = 'D', conflicts_with = "upgrade")]
    delete: bool,
    /// Hash the passwords that stand in the file in the clear
    #[arg(short = 'U', conflicts_with = "user")]
    upgrade: bool,
    /// How new hashes are made
    #[arg(short = 'H', long = "hash", value_enum, default_value_t = Hash::Sha512Pbkdf2)]
    hash: Hash,
    /// Iterations of sha512-pbkdf2: more make guessing and each login slower
    #[arg(short = 'I', long, value_name = "N", default_value_t = ITERATIONS, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    iterations: u32,
    /// mosquitto_passwd's password on the command line, refused here
    #[arg(short = 'b', hide = true)]
    batch: bool,
    /// Keep a record for SCRAM-SHA-256 too, in FILE.scram beside the password file: clients of MQTT 5 can prove the password
    /// without sending it
    #[arg(long, conflicts_with_all = ["delete", "upgrade"])]
    scram: bool,
    /// Take the password from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
    /// Take the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Do not ask before an existing file is begun anew
    #[arg(long)]
    yes: bool,
    /// The password file
    file: PathBuf,
    /// The user name
    #[arg(required_unless_present = "upgrade")]
    user: Option<String>,
    /// Only to be told that it does not belong here
    #[arg(hide = true, value_name = "PASSWORD")]
    password: Option<String>,
}

/// A kind of hash, by mosquitto_passwd's names.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hash {
    Sha512,
    #[value(name = "sha512-pbkdf2")]
    Sha512Pbkdf2,
    Argon2id,
}

impl Passwd {
    pub(crate) fn run(&self) -> Outcome {
        if self.batch || self.password.is_some() {
            return Err(Failure::new(Exit::Usage, "a password on the command line is not taken")
                .why("everybody on this machine can read it in the list of processes, and the shell keeps it")
                .hint("leave it out to be asked, or give --password-file FILE or --password-stdin"));
        }
        let scheme = match self.hash {
            Hash::Sha512 => Scheme::Sha512,
            Hash::Sha512Pbkdf2 => Scheme::Pbkdf2(self.iterations),
            Hash::Argon2id => Scheme::Argon2id,
        };
        let file = &self.file;
        let Some(user) = &self.user else {
            let mut text = PasswordText::load(file).map_err(failure)?;
            let count = text.upgrade(scheme).map_err(failure)?;
            if count > 0 {
                text.save(file).map_err(failure)?;
            }
            return print(&format!("{}: {count} passwords hashed\n", file.display()));
        };
        if self.delete {
            let mut text = PasswordText::load(file).map_err(failure)?;
            if !text.delete(user) {
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("there is no user {user:?} in {}", file.display()),
                ));
            }
            text.save(file).map_err(failure)?;
            self.keep_record(user, None, &text)?;
            return print(&format!("{}: {user} was taken out\n", file.display()));
        }
        let mut text = if self.create {
            if file.exists() {
                confirm(self.yes, &format!("{} exists. Begin it anew, without its users?", file.display()))?;
            }
            PasswordText::empty()
        } else {
            PasswordText::load(file).map_err(failure)?
        };
        // A name that cannot be is refused before somebody types a password twice.
        text.clone().set(user, b"x", Scheme::Sha512).map_err(failure)?;
        let password = self.password(user)?;
        let is_new = text.set(user, &password, scheme).map_err(failure)?;
        text.save(file).map_err(failure)?;
        self.keep_record(user, Some(&password), &text)?;
        let what = if is_new { "was added" } else { "has a new password" };
        print(&format!("{}: {user} {what}\n", file.display()))
    }

    /// The record for SCRAM where one is wanted or there: it goes with the password, and counts for nothing without.
    fn keep_record(&self, user: &str, password: Option<&[u8]>, text: &PasswordText) -> Outcome {
        let path = scram::beside(&self.file);
        let mut records = match std::fs::read(&path).map(Zeroizing::new) {
            Ok(content) => ScramFile::parse(&content).map_err(|error| {
                let what = format!("{} cannot be used: {error}", path.display());
                Failure::new(Exit::Unusable, what)
                    .hint("the password file is changed already; take the line out and repeat")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ScramFile::default(),
            Err(error) => return Err(io_failure("read", &path, &error)),
        };
        if self.create {
            records = ScramFile::default();
        }
        match password.zip(text.hash_of(user)) {
            Some((password, hash)) if self.scram || records.has(user) => {
                let record = ScramRecord::new(password).map_err(|error| failure(error.into()))?;
                records.set(user, record, &hash);
            }
            _ if !(records.remove(user) || self.create && path.exists()) => return Ok(()),
            _ => {}
        }
        replace_file(&path, records.to_text().as_bytes()).map_err(|error| io_failure("write", &path, &error))
    }

    fn password(&self, user: &str) -> Outcome<Zeroizing<Vec<u8>>> {
        let password = if let Some(path) = &self.password_file {
            let file = std::fs::File::open(path).map_err(|error| io_failure("read", path, &error))?;
            first_line(file, path)?
        } else if self.password_stdin {
            first_line(std::io::stdin(), Path::new("standard input"))?
        } else if std::io::stdin().is_terminal() {
            let ask = |prompt: &str| {
                rpassword::prompt_password(prompt)
                    .map(Zeroizing::new)
                    .map_err(|error| Failure::new(Exit::Passphrase, "no password was given").why(error))
            };
            let first = ask(&format!("Password of {user}: "))?;
            if *ask("The same again: ")? != *first {
                return Err(Failure::new(Exit::Passphrase, "the two passwords differ")
                    .hint("nothing was changed; run the command again"));
            }
            Zeroizing::new(first.as_bytes().to_vec())
        } else {
            return Err(Failure::new(Exit::Passphrase, format!("a password for {user} is needed"))
                .why("there is no terminal to ask on")
                .hint("give --password-file FILE or --password-stdin"));
        };
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(Failure::new(
                Exit::Passphrase,
                format!("a password has 1 to {MAX_PASSWORD} bytes, this one {}", password.len()),
            )
            .hint("nothing was changed"));
        }
        Ok(password)
    }
}

fn first_line(from: impl std::io::Read, name: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    let mut reader = std::io::BufReader::new(from).take(MAX_PASSWORD as u64 + 3);
    reader.read_until(b'\n', &mut line).map_err(|error| io_failure("read", name, &error))?;
    for end in *b"\n\r" {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    Ok(line)
}

fn failure(error: PasswordError) -> Failure {
    let exit = match &error {
        PasswordError::Name => Exit::Usage,
        PasswordError::File { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => Exit::Unusable,
        _ => Exit::System,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}
