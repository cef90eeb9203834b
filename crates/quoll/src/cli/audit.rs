//! `quoll audit`: who did what to whom, and whether somebody tampered with that record.

use clap::{Args, Subcommand};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::audit::AuditError;
use serde_json::{Value, json};

use super::Common;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Listing, print_facts};
use crate::{dates, trouble};

/// Digits of a hash in the table for people; scripts get all of them.
const HASH_SHOWN: usize = 12;

/// The audit trail.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Show the last acts: when, who, what, to whom
    #[command(after_help = "Example:\n  quoll audit show --last 50 --output csv")]
    Show(Show),
    /// Check every link of the trail; print the hash of its head, to be kept elsewhere
    #[command(
        after_help = "Example:\n  quoll audit verify\n  quoll audit verify --noted 5b1c…e0\n\nEach row holds the hash of the one before it, so a \
        changed, missing or swapped row shows. Who rewrites the whole trail shows only against a head that was noted \
        elsewhere: --noted. Exit code 3 where somebody tampered."
    )]
    Verify(Verify),
}

/// Arguments of `quoll audit show`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// How many, counted from the end
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
}

/// Arguments of `quoll audit verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A head's hash that was noted before: the trail must have had it as its head
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    noted: Option<[u8; 32]>,
}

impl Audit {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Show(show) => show.run(common),
            Self::Verify(verify) => verify.run(common),
        }
    }
}

impl Show {
    fn run(&self, common: &Common) -> Outcome {
        let entries = open(common)?.audit_tail(self.last).map_err(trouble::registry)?;
        let columns = [
            ("seq", "ROW"),
            ("at", "WHEN"),
            ("actor", "WHO"),
            ("verb", "WHAT"),
            ("subject", "TO WHOM"),
            ("detail", "PARTICULARS"),
            ("hash", "HASH"),
        ];
        let mut listing = Listing::new(&columns, "nothing was done yet");
        for entry in entries {
            let mut hash = hex(&entry.hash);
            if common.is_for_people() {
                hash.truncate(HASH_SHOWN);
            }
            listing.row(vec![
                json!(entry.seq),
                json!(dates::stamp(entry.at)),
                json!(plain(&entry.actor)),
                json!(plain(&entry.verb)),
                json!(plain(&entry.subject)),
                json!(plain(&entry.detail)),
                json!(hash),
            ]);
        }
        listing.print(common.output)
    }
}

impl Verify {
    fn run(&self, common: &Common) -> Outcome {
        let registry = open(common)?;
        let head = registry.verify_audit().map_err(|error| match error {
            AuditError::Registry(error) => trouble::registry(error),
            error => {
                let hint = error.hint();
                Failure::new(Exit::Unusable, "somebody tampered with the audit trail")
                    .why(error)
                    .maybe_hint(hint)
            }
        })?;
        if let Some(noted) = self.noted {
            let entries = registry.audit_tail(u32::MAX).map_err(trouble::registry)?;
            if !entries.iter().any(|entry| entry.hash == noted) {
                return Err(Failure::new(Exit::Unusable, "somebody tampered with the audit trail")
                    .why(format!("its links are whole, but it never had the head {}", hex(&noted)))
                    .hint("the trail was rewritten, or it is another installation's: compare fleet.db with a backup"));
            }
        }
        let facts = [
            ("intact", "Intact", Value::Bool(true)),
            ("rows", "Rows", json!(head.seq)),
            ("head", "Head", json!(hex(&head.hash))),
        ];
        print_facts(&facts, common.output)
    }
}

/// The trail of this home; none is made by looking at it.
fn open(common: &Common) -> Outcome<Registry> {
    let path = common.home()?.fleet_db();
    if !path.exists() {
        return Err(Failure::new(Exit::NotFound, format!("there is no {}", path.display()))
            .hint("nothing was done in this home yet; choose another one with --home"));
    }
    Registry::open(&path).map_err(trouble::registry)
}

/// A row that somebody wrote by hand may hold anything; a terminal is not to obey it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hash(text: &str) -> Result<[u8; 32], String> {
    let text = text.trim();
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        let pair = digits.then(|| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).flatten();
        *byte = pair.ok_or("a head's hash has 64 hex digits, as quoll audit verify prints it")?;
    }
    Ok(hash)
}
