//! `quoll device find`: which devices are there, what each can become, and which of them we know.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use quoll_fleet::device::{Address, Device as Entry, DeviceName};
use quoll_fleet::registry::Registry;
use quoll_tasmota::Mac;
use quoll_tasmota::discover::{Finding, Range, Rung, Visit, sweep, visit};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::Common;
use crate::announcements::{self, Source};
use crate::device_list;
use crate::enrolment::read_password;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Listing};
use crate::trouble;

/// Devices asked at the same time, those of a list or of a broker's announcements.
const AT_ONCE: usize = 32;

/// `quoll device find`.
#[derive(Args, Debug)]
pub(crate) struct Find {
    #[command(flatten)]
    places: Places,
}

/// Where devices are looked for.
#[derive(Args, Debug)]
pub(crate) struct Places {
    /// Ask every address of a private range, /22 at most (may be repeated)
    #[arg(long, value_name = "NETWORK/PREFIX")]
    range: Vec<String>,
    /// Where web consoles are
    #[arg(long, value_name = "PORT", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Ask the devices of a CSV file with the columns address, name, mac
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Ask the devices that have announced themselves on an existing broker (plain MQTT)
    #[arg(long, value_name = "HOST:PORT")]
    mqtt: Option<String>,
    /// A user name for that broker
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    user: Option<String>,
    /// A file with the password for that broker on its first line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Do not ask announced devices themselves; list what they announced
    #[arg(long, requires = "mqtt")]
    announced_only: bool,
    /// A file with a web password on its first line, for devices that want one
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
}

/// Somebody to be asked.
struct Suspect {
    finding: Finding,
    asks: bool,
}

impl Find {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let known = known(common)?;
        let found = self.places.look().await?.found;
        listing(&found, &known, common.output).print(common.output)
    }
}

/// What was found.
pub(crate) struct Looked {
    /// The devices, by MAC; those whose MAC nobody knows last.
    pub(crate) found: Vec<Finding>,
    /// What a list calls the device at an address.
    pub(crate) names: BTreeMap<String, DeviceName>,
}

impl Places {
    /// Asks all of them. Two devices that would be in each other's way are named on standard error.
    pub(crate) async fn look(&self) -> Outcome<Looked> {
        // All that was given is read before anybody is asked.
        let ranges = self.ranges()?;
        let rows = self.csv.as_deref().map(device_list::read).transpose()?.unwrap_or_default();
        let password = self.web_password_file.as_deref().map(read_password).transpose()?;
        let source = self.source()?;
        if ranges.is_empty() && rows.is_empty() && source.is_none() {
            return Err(Failure::new(Exit::Usage, "there is nowhere to look")
                .hint("give --range 192.168.1.0/24, --csv FILE or --mqtt HOST:PORT"));
        }
        let mut suspects: Vec<Suspect> = rows
            .iter()
            .map(|row| {
                let name = row.name.as_ref().map(|name| name.as_str().to_owned());
                Suspect { finding: Finding { name, ..at(row, self.port) }, asks: true }
            })
            .collect();
        if let Some(source) = &source {
            let read = announcements::read(source, self.port).await?;
            for odd in &read.odd {
                eprintln!("quoll: note: {odd}");
            }
            suspects.extend(read.devices.into_iter().map(|finding| self.announced(finding)));
        }
        let mut found = Vec::new();
        for range in ranges {
            let swept = sweep(range, self.port, password.as_ref()).await;
            eprintln!(
                "quoll: {range}: {} addresses asked, {} devices, {} others",
                swept.asked,
                swept.found.len(),
                swept.strangers
            );
            found.extend(swept.found);
        }
        found.extend(ask(suspects, password).await);
        let mut found = merged(found);
        found.sort_by_key(|finding| (finding.mac.is_none(), finding.mac));
        self.say_doubles(&found);
        let named = |row: &device_list::Row| Some((at(row, self.port).address()?, row.name.clone()?));
        Ok(Looked { found, names: rows.iter().filter_map(named).collect() })
    }

    fn ranges(&self) -> Outcome<Vec<Range>> {
        let read = |text: &String| {
            text.parse().map_err(|error: quoll_tasmota::discover::RangeError| {
                Failure::new(Exit::Usage, format!("--range {text}: {error}")).maybe_hint(error.hint())
            })
        };
        self.range.iter().map(read).collect()
    }

    fn source(&self) -> Outcome<Option<Source>> {
        let Some(text) = &self.mqtt else { return Ok(None) };
        let address = Address::parse(text).map_err(|error| {
            Failure::new(Exit::Usage, format!("--mqtt {text}: {error}")).maybe_hint(error.hint())
        })?;
        Ok(Some(Source {
            host: address.host().trim_matches(['[', ']']).to_owned(),
            port: address.port().unwrap_or(1883),
            user: self.user.clone(),
            password: self.password_file.as_deref().map(read_password).transpose()?,
        }))
    }

    /// An announcement is somebody's word: only private addresses are followed.
    fn announced(&self, mut finding: Finding) -> Suspect {
        let is_private = |host: &String| match host.parse() {
            Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback(),
            _ => false,
        };
        let asks = !self.announced_only && finding.host.as_ref().is_some_and(is_private);
        if !asks && !self.announced_only {
            finding.problem = Some("it announces no private IPv4 address, and was not asked".into());
        }
        Suspect { finding, asks }
    }

    /// Two devices with one topic, or one client id, speak for each other.
    fn say_doubles(&self, found: &[Finding]) {
        for (what, of) in [
            ("topic", (|finding: &Finding| finding.topic.clone()) as fn(&Finding) -> Option<String>),
            ("MQTT client id", |finding: &Finding| finding.client.clone()),
        ] {
            let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for finding in found {
                if let Some(value) = of(finding) {
                    owners.entry(value).or_default().push(who(finding));
                }
            }
            for (value, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
                eprintln!("quoll: note: {} have the same {what} {value:?}", owners.join(", "));
            }
        }
    }
}

/// What a row of a list says of where a device is.
fn at(row: &device_list::Row, port: u16) -> Finding {
    let host = row.address.host().trim_matches(['[', ']']).to_owned();
    Finding { host: Some(host), port: row.address.port().unwrap_or(port), mac: row.mac, ..Finding::default() }
}

fn who(finding: &Finding) -> String {
    finding.address().or_else(|| finding.mac.map(|mac| mac.to_string())).unwrap_or_default()
}

/// The registry by MAC; empty where there is none yet.
fn known(common: &Common) -> Outcome<BTreeMap<Mac, Entry>> {
    let home = common.home()?;
    if !home.fleet_db().exists() {
        return Ok(BTreeMap::new());
    }
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let devices = registry.devices().map_err(trouble::registry)?;
    Ok(devices.into_iter().map(|device| (device.mac, device)).collect())
}

async fn ask(suspects: Vec<Suspect>, password: Option<Zeroizing<String>>) -> Vec<Finding> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let password = password.map(Arc::new);
    let mut visits = JoinSet::new();
    for (index, Suspect { finding, asks }) in suspects.into_iter().enumerate() {
        let (places, password) = (Arc::clone(&places), password.clone());
        visits.spawn(async move {
            let _place = places.acquire_owned().await;
            (index, if asks { asked(finding, password.as_deref()).await } else { finding })
        });
    }
    let mut found = visits.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, finding)| finding).collect()
}

async fn asked(finding: Finding, password: Option<&Zeroizing<String>>) -> Finding {
    let Some(host) = finding.host.clone() else { return finding };
    match visit(&host, finding.port, password).await {
        Visit::Device(seen) => {
            let mut seen = *seen;
            // A name in a list is what its owner calls it; a MAC that is another one is another device.
            let other = seen.mac.zip(finding.mac).filter(|(seen, said)| seen != said);
            if let Some((seen, said)) = other {
                let problem = Some(format!("the device {seen} answers there now, not {said}"));
                return Finding { problem, ..finding };
            }
            seen.name = finding.name.clone().or(seen.name);
            seen.fill_from(finding);
            seen
        }
        Visit::Nobody(why) => Finding { problem: Some(format!("nobody answers there: {why}")), ..finding },
        Visit::Stranger(why) => Finding { problem: Some(why), ..finding },
    }
}

/// One of each MAC. A device whose MAC nobody knows is told by its address.
fn merged(found: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in found {
        let same = |other: &&mut Finding| match (other.mac, finding.mac) {
            (Some(one), Some(two)) => one == two,
            _ => other.host.is_some() && (&other.host, other.port) == (&finding.host, finding.port),
        };
        match all.iter_mut().find(same) {
            // What was asked beats what was announced, whichever came first.
            Some(other) if other.ability.is_none() && finding.ability.is_some() => {
                let announced = std::mem::replace(other, finding);
                other.fill_from(announced);
            }
            Some(other) => other.fill_from(finding),
            None => all.push(finding),
        }
    }
    all
}

fn listing(found: &[Finding], known: &BTreeMap<Mac, Entry>, format: Format) -> Listing {
    let for_people = format == Format::Table;
    let mut columns = vec![
        ("mac", "MAC"),
        ("address", "ADDRESS"),
        ("name", "NAME"),
        ("firmware", "FIRMWARE"),
        ("chip", "CHIP"),
        ("heap_kib", "HEAP"),
        ("rssi_percent", "RSSI"),
        ("mqtt_host", "BROKER"),
        ("rung", "RUNG"),
        ("state", "STATE"),
    ];
    if for_people {
        columns.push(("next", "NEXT"));
    } else {
        columns.extend([
            ("device", "DEVICE"),
            ("topic", "TOPIC"),
            ("client_id", "CLIENT ID"),
            ("clock_off_seconds", "CLOCK"),
            ("pinned_takes", "PINNED TAKES"),
            ("mutual_takes", "MUTUAL TAKES"),
            ("restarts_without_broker", "RESTARTS WITHOUT BROKER"),
            ("problem", "PROBLEM"),
        ]);
    }
    let mut listing = Listing::new(&columns, "no devices found");
    for finding in found {
        let entry = finding.mac.and_then(|mac| known.get(&mac));
        let broker = finding.broker.as_ref().map(|(host, port)| match host.as_str() {
            "" => "none".to_owned(),
            host => format!("{host}:{port}"),
        });
        let state = match entry {
            Some(entry) if for_people => format!("{} ({})", entry.state, entry.name),
            Some(entry) => entry.state.to_string(),
            None => "new".into(),
        };
        let mut row = vec![
            json!(finding.mac.map(|mac| mac.to_string())),
            json!(finding.address()),
            json!(finding.name),
            json!(finding.firmware),
            json!(finding.chip),
            json!(finding.heap),
            json!(finding.rssi),
            json!(broker),
            json!(finding.rung().map(|rung| rung.to_string())),
            json!(state),
        ];
        if for_people {
            row.push(json!(next(finding, entry)));
        } else {
            row.extend([
                json!(entry.map(|entry| entry.name.as_str())),
                json!(finding.topic),
                json!(finding.client),
                json!(finding.clock_off),
                json!(finding.takes(Rung::Pinned)),
                json!(finding.takes(Rung::Mutual)),
                json!(finding.crashes_without_broker),
                finding.problem.as_ref().map_or(Value::Null, |problem| json!(problem)),
            ]);
        }
        listing.row(row);
    }
    listing
}

/// The next act, for a person.
fn next(finding: &Finding, entry: Option<&Entry>) -> String {
    if let Some(problem) = &finding.problem {
        return problem.clone();
    }
    match (finding.rung(), finding.address()) {
        (Some(Rung::Mutual), _)
            if entry.is_some_and(|entry| entry.rung == quoll_fleet::device::Rung::Mutual) =>
        {
            String::new()
        }
        (Some(Rung::Mutual), Some(at)) => {
            let name = entry.map_or_else(|| "NAME".to_owned(), |entry| entry.name.to_string());
            format!("quoll device add {name} --at {at}")
        }
        (Some(Rung::Pinned), _) => format!("pinned takes {}", finding.takes(Rung::Pinned)),
        (Some(Rung::Plain), _) => format!("pinned takes {}", finding.takes(Rung::Pinned)),
        _ => finding.takes(Rung::Mutual),
    }
}

#[cfg(test)]
mod tests {
    use quoll_tasmota::discover::Ability;

    use super::*;

    #[test]
    fn one_device_from_two_sources_is_one() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let announced = Finding {
            mac: Some(mac),
            host: Some("10.0.0.9".into()),
            port: 80,
            topic: Some("lamp".into()),
            ..Finding::default()
        };
        let swept = Finding {
            mac: Some(mac),
            host: Some("10.0.0.7".into()),
            port: 80,
            ability: Some(Ability::NoTls),
            ..Finding::default()
        };
        for order in [[announced.clone(), swept.clone()], [swept.clone(), announced]] {
            let one = merged(order.to_vec());
            assert_eq!(one.len(), 1);
            assert_eq!((one[0].host.as_deref(), one[0].topic.as_deref()), (Some("10.0.0.7"), Some("lamp")));
        }
        let unknown = Finding { mac: None, problem: Some("locked".into()), ..swept.clone() };
        assert_eq!(merged(vec![swept, unknown]).len(), 1);
    }
}
