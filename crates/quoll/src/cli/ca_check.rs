//! `quoll ca check` and `quoll ca reencrypt`: what there is to say about a folder, and its weakest spot mended.

use std::path::PathBuf;

use clap::Args;
use quoll_pki::{CheckedCertificate, FolderCheck, KeyProtection, Passphrase, Problem};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Common, ServerArgs};
use crate::audit::Audit;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Listing, print, print_facts};
use crate::passphrase;
use crate::{dates, trouble, workshop};

/// Arguments of `quoll ca check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// End with exit code 3 where there is a problem
    #[arg(long)]
    strict: bool,
}

/// Arguments of `quoll ca reencrypt`.
#[derive(Args, Debug)]
pub(crate) struct Reencrypt {
    /// A file with the passphrase the key shall have from now on [default: the one it has]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Ask for the passphrase the key shall have from now on
    #[arg(long, conflicts_with = "new_passphrase_file")]
    ask_new: bool,
}

const COLUMNS: [(&str, &str); 10] = [
    ("name", "NAME"),
    ("serial", "SERIAL"),
    ("state", "STATE"),
    ("expires", "UNTIL"),
    ("key", "KEY FILE"),
    ("profile", "PROFILE"),
    ("fit", "DEVICES"),
    ("chain", "CHAIN"),
    ("file", "FILE"),
    ("problems", "PROBLEMS"),
];

impl Check {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let pki = workshop::open_pki(&settings)?;
        let check = pki.check(OffsetDateTime::now_utc()).map_err(trouble::pki)?;
        match common.output {
            Format::Table => print(&for_people(&check)?)?,
            format => for_scripts(&check).print(format)?,
        }
        let count = check.all_problems().count();
        if self.strict && count > 0 {
            return Err(Failure::new(Exit::Unusable, format!("{count} problems in {}", pki.dir().display()))
                .hint("each is named above, with its next step"));
        }
        Ok(())
    }
}

fn for_people(check: &FolderCheck) -> Outcome<String> {
    let columns: Vec<_> =
        COLUMNS.into_iter().filter(|(key, _)| !matches!(*key, "file" | "problems")).collect();
    let mut listing = Listing::new(&columns, "no certificates");
    for row in &check.certificates {
        let mut values = values(row, true);
        values.truncate(columns.len());
        listing.row(values);
    }
    let mut text = listing.render(Format::Table)?;
    let problems: Vec<_> = check.all_problems().collect();
    if problems.is_empty() {
        text.push_str("\nNo problems found.\n");
        return Ok(text);
    }
    text.push_str(&format!("\n{} problems:\n", problems.len()));
    for (certificate, problem) in problems {
        let whose = match certificate {
            Some(row) if row.file.as_deref() == Some("ca.crt") => String::new(),
            Some(row) => format!("{} ({}): ", row.name.as_deref().unwrap_or("without a name"), row.serial),
            None => String::new(),
        };
        text.push_str(&format!("\n! {whose}{}\n", problem.what));
        if let Some(next) = &problem.next {
            text.push_str(&format!("  next: {next}\n"));
        }
    }
    Ok(text)
}

/// What concerns the folder as a whole is a last row without serial number, file `.`.
fn for_scripts(check: &FolderCheck) -> Listing {
    let mut listing = Listing::new(&COLUMNS, "");
    for row in &check.certificates {
        listing.row(values(row, false));
    }
    if !check.problems.is_empty() {
        let mut row = vec![Value::Null; COLUMNS.len()];
        row[COLUMNS.len() - 2] = json!(".");
        row[COLUMNS.len() - 1] = problems(&check.problems);
        listing.row(row);
    }
    listing
}

fn values(row: &CheckedCertificate, short: bool) -> Vec<Value> {
    let serial = row.serial.to_string();
    let shown = if short { format!("{}…", serial.chars().take(8).collect::<String>()) } else { serial };
    let day = if short { dates::day(row.not_after) } else { dates::stamp(row.not_after) };
    let key = row.key.as_ref().map(|key| match key {
        KeyProtection::Encrypted { cipher, .. } if short => (*cipher).to_owned(),
        KeyProtection::Unsupported { .. } | KeyProtection::Unusable(_) if short => "unusable".into(),
        other => other.to_string(),
    });
    let fit = match &row.misfits {
        None => Value::Null,
        Some(misfits) if misfits.is_empty() => json!("all"),
        Some(misfits) => json!(misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    vec![
        json!(row.name),
        json!(shown),
        json!(row.state.to_string()),
        json!(day),
        json!(key),
        json!(row.profile),
        fit,
        json!(row.chain.to_string()),
        json!(row.file),
        problems(&row.problems),
    ]
}

fn problems(problems: &[Problem]) -> Value {
    let sentence = |problem: &Problem| match &problem.next {
        Some(next) => format!("{} -> {next}", problem.what),
        None => problem.what.clone(),
    };
    problems.iter().map(sentence).collect::<Vec<_>>().into()
}

impl Reencrypt {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let pki = workshop::open_pki(&settings)?;
        let ca = pki.ca().subject_cn().unwrap_or("without a name").to_owned();
        let before = pki.ca_key_protection().map_err(trouble::pki)?;
        let plain = before == Some(KeyProtection::Plain);
        let new = self.new_passphrase(plain)?;
        let old = match (&new, plain) {
            (Some(new), true) => new.clone(),
            _ => common.passphrase(&home).of_existing(&ca)?,
        };
        // Proven before anything is written, the audit trail included.
        pki.unlock(&old).map_err(trouble::pki)?;
        let changed = new.is_some();
        let new = new.unwrap_or_else(|| old.clone());
        let audit = Audit::begin(&home, "ca.reencrypt", &ca, &json!({ "new_passphrase": changed }))?;
        let done = pki.reencrypt_ca_key(&old, &new).map_err(trouble::pki);
        let before = audit.end(done, |before| json!({ "before": before.to_string() }))?;
        let now = pki.ca_key_protection().map_err(trouble::pki)?;
        if changed
            && home.passphrase_file().exists()
            && self.new_passphrase_file != Some(home.passphrase_file())
        {
            eprintln!(
                "quoll: note: {} still holds the old passphrase; put the new one there, or remove the file",
                home.passphrase_file().display()
            );
        }
        let facts = [
            ("key", "Key", json!(pki.dir().join("private/ca.key").display().to_string())),
            ("before", "Was", json!(before.to_string())),
            ("now", "Is now", json!(now.map(|now| now.to_string()))),
            ("new_passphrase", "New passphrase", json!(changed)),
        ];
        print_facts(&facts, common.output)
    }

    fn new_passphrase(&self, plain: bool) -> Outcome<Option<Passphrase>> {
        if let Some(file) = &self.new_passphrase_file {
            return passphrase::read(file).map(Some);
        }
        if self.ask_new || plain {
            return passphrase::ask_twice("New passphrase of the CA: ").map(Some);
        }
        Ok(None)
    }
}
