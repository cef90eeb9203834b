//! `quoll request`: on the server's machine, keys are made and a file for the CA's machine is written.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use quoll_fleet::registry::Registry;
use quoll_pki::bundle::ask::{self, Wish};
use quoll_pki::{CertName, Profile, RevocationReason, Serial};
use serde_json::json;
use time::OffsetDateTime;

use super::client::{self, Word};
use super::sign::progress;
use super::{Common, ServerArgs};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::output::{print, print_facts};
use crate::{trouble, workshop};

/// Largest list of device names read, in bytes: 10,000 names of 64 characters, with room for other columns.
const LIST_MAX: u64 = 16 << 20;

/// Arguments of `quoll request`.
#[derive(Args, Debug)]
pub(crate) struct Request {
    /// Ask for the server's certificate (also where nothing else is said); a renewal keeps its key
    #[arg(long)]
    server: bool,
    /// The name or address that devices are told to connect to
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Ask for a client's certificate (may be repeated)
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// What the clients may do
    #[arg(long, value_enum, default_value_t = Word::Everything)]
    role: Word,
    /// Ask for a device's certificate (may be repeated)
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// Ask for the certificates of these devices: a name on each line, or a CSV with a column "name"
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Renew clients and devices that have a certificate, with the key they have
    #[arg(long)]
    renew: bool,
    /// Days that the certificates are to be valid [default: the profile's]
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Ask that this certificate be revoked (may be repeated); what was revoked here goes along by itself
    #[arg(long, value_name = "SERIAL[=REASON]")]
    revoke: Vec<String>,
    /// Ask for no certificate: only hand over revocations, and get a fresh revocation list
    #[arg(long, conflicts_with_all = ["server", "client", "device", "devices"])]
    revocations: bool,
    /// The file to write [default: HOST.quollreq, here]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Request {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        home.ensure()?;
        let server = ServerArgs { host: self.host.clone(), ..ServerArgs::default() };
        let settings = common.settings(&home, &server)?;
        refuse_ca(&settings)?;
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(default_name(&settings)));
        refuse_there(&out)?;
        let revoke = self.revoke.iter().map(|text| revocation(text)).collect::<Outcome<Vec<_>>>()?;
        let wishes = self.wishes(&home, &settings)?;

        let detail = json!({ "certificates": wishes.len() });
        let audit = Audit::begin(&home, "request.make", &settings.host, &detail)?;
        let bar = progress(wishes.len(), "keys");
        let now = OffsetDateTime::now_utc();
        let asked = ask::ask(&settings.pki, &settings.host, &wishes, &revoke, now, |made| {
            bar.set_position(made as u64);
        });
        bar.finish_and_clear();
        let done = asked.map_err(trouble::bundle).and_then(|asked| {
            settings.write_first(&home)?;
            write_whole(&out, &asked.bytes, 0o644, false)?;
            Ok(asked)
        });
        let asked = audit.end(done, |asked| json!({ "id": asked.id, "revocations": asked.revoke.len() }))?;

        let names: Vec<_> = wishes.iter().take(20).map(|wish| wish.name.as_str()).collect();
        let facts = [
            ("file", "Written", json!(out.display().to_string())),
            ("id", "Request", json!(asked.id)),
            ("certificates", "Certificates", json!(wishes.len())),
            ("names", "For", json!(names)),
            ("keys_made", "Keys made", json!(asked.keys_made)),
            ("revocations", "Revocations", json!(asked.revoke.len())),
            ("phrase", "Comparison phrase", json!(asked.phrase.to_string())),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            let file = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            print(&format!(
                "\nNo private key is in it. Carry it to the CA's machine, and compare the phrase there:\n  \
                 quoll ca sign {file}\n"
            ))?;
        }
        Ok(())
    }

    fn wishes(&self, home: &Home, settings: &Settings) -> Outcome<Vec<Wish>> {
        let named = !(self.client.is_empty() && self.device.is_empty() && self.devices.is_none());
        let mut wishes = Vec::new();
        if self.server || !(named || self.revocations || !self.revoke.is_empty()) {
            let mut wish = Wish::new(Profile::Server, workshop::server_name(settings)?);
            wish.alt_names = workshop::alt_names(settings);
            wish.renew = true;
            wishes.push(wish);
        }
        if !self.client.is_empty() {
            let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
            let role = self.role.role();
            for name in &self.client {
                let name = client::parse_name(name)?;
                if let Some(known) = registry.client(&name).map_err(trouble::registry)? {
                    client::refuse_other(&known, &role)?;
                }
                let mut wish = Wish::new(Profile::Client, cert_name(name.as_str())?);
                wish.note = Some(role.as_str().to_owned());
                wishes.push(wish);
            }
        }
        let mut devices = self.device.clone();
        if let Some(file) = &self.devices {
            devices.extend(read_names(file)?);
        }
        for name in &devices {
            let name = crate::enrolment::device_name(name)?;
            wishes.push(Wish::new(Profile::Tasmota, cert_name(name.as_str())?));
        }
        for wish in &mut wishes {
            wish.days = self.days;
            wish.renew |= self.renew;
        }
        Ok(wishes)
    }
}

/// Where the CA's key is, there is nobody to ask.
fn refuse_ca(settings: &Settings) -> Outcome {
    if workshop::has_ca_key(settings) {
        return Err(Failure::new(Exit::Usage, "the CA is on this machine, there is no other to ask")
            .why(format!("{} has its key", settings.pki.display()))
            .hint("use quoll client add, quoll device add or quoll server renew; --home and --pki choose the folder"));
    }
    Ok(())
}

/// A file that is there is not written over.
pub(super) fn refuse_there(file: &Path) -> Outcome {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(Exit::Unusable, format!("{} is there already", file.display()))
            .hint("move it away, or choose another place with --out"));
    }
    Ok(())
}

fn default_name(settings: &Settings) -> String {
    format!("{}.quollreq", settings.host.replace(':', "-"))
}

fn cert_name(text: &str) -> Outcome<CertName> {
    CertName::parse(text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{text} cannot be a common name")).why(error))
}

fn revocation(text: &str) -> Outcome<(Serial, RevocationReason)> {
    let bad = |why: String| {
        Failure::new(Exit::Usage, format!("{text:?} is no revocation"))
            .why(why)
            .hint("write SERIAL or SERIAL=REASON, for example 5A01=keyCompromise")
    };
    let (serial, reason) = text.split_once('=').unwrap_or((text, "unspecified"));
    let serial = serial.parse::<Serial>().map_err(|error| bad(error.to_string()))?;
    Ok((serial, reason.parse::<RevocationReason>().map_err(|error| bad(error.to_string()))?))
}

/// The names in a list or a CSV, in its order. Empty lines and lines beginning with `#` do not count.
fn read_names(file: &Path) -> Outcome<Vec<String>> {
    let unusable = |why: String| {
        Failure::new(Exit::Unusable, format!("cannot take device names from {}", file.display()))
            .why(why)
            .hint("write one name on each line, or a CSV whose first line has a column \"name\"")
    };
    let length = fs::metadata(file).map_err(|error| io_failure("read", file, &error))?.len();
    if length > LIST_MAX {
        return Err(unusable(format!("it is larger than {LIST_MAX} bytes")));
    }
    let text = fs::read(file).map_err(|error| io_failure("read", file, &error))?;
    let text = String::from_utf8(text).map_err(|_| unusable("it is not text (UTF-8)".into()))?;
    names_in(&text).map_err(unusable)
}

fn names_in(text: &str) -> Result<Vec<String>, String> {
    // The reader counts a line of \r\n when it is past it.
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut column = None;
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let Some(column) = column else {
            let heading = record.iter().position(|field| field.eq_ignore_ascii_case("name"));
            column = Some(heading.unwrap_or(0));
            if heading.is_none() {
                push(&mut names, &mut seen, record.get(0), line)?;
            }
            continue;
        };
        push(&mut names, &mut seen, record.get(column), line)?;
    }
    if names.is_empty() { Err("there is no name in it".into()) } else { Ok(names) }
}

fn push(
    names: &mut Vec<String>,
    seen: &mut HashSet<String>,
    field: Option<&str>,
    line: u64,
) -> Result<(), String> {
    let name =
        field.filter(|name| !name.is_empty()).ok_or_else(|| format!("line {line}: there is no name"))?;
    quoll_fleet::device::DeviceName::parse(name)
        .map_err(|error| format!("line {line}: {name:?}: {error}"))?;
    if !seen.insert(name.to_lowercase()) {
        return Err(format!("line {line}: {name} is there twice"));
    }
    names.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_a_list_and_from_a_csv() {
        for text in [
            "kitchen\nhall\n",
            "# ours\n\n  kitchen  \r\nhall",
            "\u{feff}Name,room\nkitchen,\"a, b\"\nhall,\n",
            "mac,name\n00:11,kitchen\n00:12,hall\n",
        ] {
            assert_eq!(names_in(text).unwrap(), ["kitchen", "hall"], "{text:?}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, told) in [
            ("kitchen\nkit chen\n", "line 2"),
            ("kitchen\nhall\nKitchen\n", "line 3: Kitchen is there twice"),
            ("name,x\nkitchen\n,y\n", "line 3: there is no name"),
            ("", "no name in it"),
            ("# nothing\n", "no name in it"),
            ("name\n", "no name in it"),
        ] {
            let error = names_in(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_revocation_is_a_serial_number_and_perhaps_a_reason() {
        let (serial, reason) = revocation("5a01=keyCompromise").unwrap();
        assert_eq!((serial.to_string().as_str(), reason), ("5A01", RevocationReason::KeyCompromise));
        assert_eq!(revocation("01").unwrap().1, RevocationReason::Unspecified);
        assert!(revocation("xyz").is_err() && revocation("01=stolen").is_err());
    }

    #[test]
    fn lines_are_counted_as_an_editor_counts_them() {
        for text in ["kitchen\nhall\nsp ace\n", "kitchen\r\nhall\r\nsp ace\r\n"] {
            let why = names_in(text).unwrap_err();
            assert!(why.starts_with("line 3:"), "{text:?}: {why}");
        }
    }
}
