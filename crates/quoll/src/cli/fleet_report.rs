//! `quoll fleet report`: what became of each device, and what to do next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use quoll_fleet::campaign::{Campaign, Candidate, Outcome as Fate, Record};
use quoll_fleet::device::{Device, DeviceState, Mac};
use quoll_fleet::registry::Registry;
use serde_json::{Value, json};

use super::Common;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::{Home, write_whole};
use crate::output::{Format, Listing};
use crate::{dates, trouble};

const COLUMNS: [(&str, &str); 10] = [
    ("name", "DEVICE"),
    ("mac", "MAC"),
    ("address", "ADDRESS"),
    ("rung", "RUNG"),
    ("state", "STATE"),
    ("outcome", "OUTCOME"),
    ("attempts", "TRIES"),
    ("what", "WHAT HAPPENED"),
    ("next", "NEXT"),
    ("at", "WHEN"),
];

/// `quoll fleet report`.
#[derive(Args, Debug)]
pub(crate) struct Report {
    /// The number of a run [default: the last one]
    #[arg(long, value_name = "N")]
    run: Option<i64>,
    /// Write a page to this file, for a browser; it needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Report {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let Some(file) = &self.html else {
            return listing(&home, self.run, common.output)?.print(common.output);
        };
        let (campaign, rows) = rows(&home, self.run)?;
        write_whole(file, page(campaign.as_ref(), &rows).as_bytes(), 0o644, true)?;
        eprintln!("quoll: {} devices in {}", rows.len(), file.display());
        Ok(())
    }
}

/// The report as a listing.
pub(super) fn listing(home: &Home, run: Option<i64>, format: Format) -> Outcome<Listing> {
    let (_, rows) = rows(home, run)?;
    // A person's table has no room for all of it.
    let shown: Vec<usize> = match format {
        Format::Table => vec![0, 3, 4, 5, 7, 8],
        _ => (0..COLUMNS.len()).collect(),
    };
    let columns: Vec<_> = shown.iter().map(|at| COLUMNS[*at]).collect();
    let mut listing = Listing::new(&columns, "no devices yet; find some with: quoll fleet scan");
    for row in rows {
        listing.row(shown.iter().map(|at| row[*at].clone()).collect());
    }
    Ok(listing)
}

/// The run, and a row for each device that we know of in any way.
fn rows(home: &Home, run: Option<i64>) -> Outcome<(Option<Campaign>, Vec<Vec<Value>>)> {
    if !home.fleet_db().exists() {
        return Ok((None, Vec::new()));
    }
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let campaign = registry.campaign(run).map_err(trouble::registry)?;
    if let (Some(number), None) = (run, &campaign) {
        return Err(Failure::new(Exit::NotFound, format!("there was no run {number}"))
            .hint("quoll fleet report, without --run, shows the last one"));
    }
    let (campaign, records) = campaign.map_or((None, Vec::new()), |(one, records)| (Some(one), records));
    let records: BTreeMap<Mac, Record> = records.into_iter().map(|record| (record.mac, record)).collect();
    let devices = registry.devices().map_err(trouble::registry)?;
    let devices: BTreeMap<Mac, Device> = devices.into_iter().map(|device| (device.mac, device)).collect();
    let found = registry.candidates().map_err(trouble::registry)?;
    let found: BTreeMap<Mac, Candidate> = found.into_iter().map(|one| (one.mac, one)).collect();
    let macs: BTreeSet<Mac> = records.keys().chain(devices.keys()).chain(found.keys()).copied().collect();
    let mut rows: Vec<Vec<Value>> =
        macs.into_iter().map(|mac| row(mac, devices.get(&mac), records.get(&mac), found.get(&mac))).collect();
    rows.sort_by_key(|row| row[0].as_str().unwrap_or_default().to_ascii_lowercase());
    Ok((campaign, rows))
}

fn row(mac: Mac, device: Option<&Device>, record: Option<&Record>, found: Option<&Candidate>) -> Vec<Value> {
    let name = device
        .map(|device| device.name.to_string())
        .or_else(|| record.map(|record| record.name.clone()))
        .or_else(|| found.and_then(|found| found.found.name.clone().or_else(|| found.found.topic.clone())));
    let address = device
        .map(|device| device.address.to_string())
        .or_else(|| record.map(|record| record.address.clone()))
        .or_else(|| found.and_then(|found| found.found.address.clone()));
    let what = record.map(|record| record.what.clone()).filter(|what| !what.is_empty());
    let what = what.or_else(|| device.and_then(|device| device.problem.clone()));
    vec![
        json!(name),
        json!(mac.to_string()),
        json!(address),
        json!(device.map_or("plain", |device| device.rung.as_str())),
        json!(device.map_or("found", |device| device.state.as_str())),
        json!(record.map(|record| record.outcome.as_str())),
        json!(record.map(|record| record.attempts)),
        json!(what),
        json!(next(device, record)),
        json!(record.map(|record| dates::stamp(record.at))),
    ]
}

/// The next act: what the run said, unless things have changed since.
fn next(device: Option<&Device>, record: Option<&Record>) -> String {
    let state = device.map(|device| device.state);
    match (state, record) {
        (Some(DeviceState::Proven), _) => String::new(),
        (Some(DeviceState::Revoked), _) => "quoll device remove it, if it is to come back".into(),
        (_, Some(record)) if record.outcome == Fate::UnderWay => {
            "run the same quoll fleet provision again: it goes on with it".into()
        }
        (_, Some(record)) if !record.next.is_empty() => record.next.clone(),
        (Some(DeviceState::Switched | DeviceState::KeyPushed), _) => {
            "quoll fleet provision: it is on its way, and gone on with".into()
        }
        _ => "quoll fleet plan".into(),
    }
}

/// A page that needs nothing else: no script, no font, no other host.
fn page(campaign: Option<&Campaign>, rows: &[Vec<Value>]) -> String {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    };
    let heading = campaign.map_or_else(
        || "No run yet".to_owned(),
        |run| {
            let ended =
                run.ended.map_or_else(|| "not ended".to_owned(), |at| format!("ended {}", dates::stamp(at)));
            let why = run.why.as_deref().map(|why| format!(": {}", escaped(why))).unwrap_or_default();
            format!("Run {}, begun {}, {ended}{why}", run.id, dates::stamp(run.began))
        },
    );
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row[5].as_str().unwrap_or("not in this run").to_owned()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let head: String = COLUMNS.iter().map(|(_, heading)| format!("<th>{heading}</th>")).collect();
    let body: String = rows
        .iter()
        .map(|row| {
            let cells: String = row.iter().map(|value| format!("<td>{}</td>", text(value))).collect();
            format!("<tr class=\"{}\">{cells}</tr>\n", text(&row[5]))
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Quoll: devices</title>\n<style>\n\
         body {{ font: 14px/1.4 sans-serif; margin: 2em; }}\n\
         table {{ border-collapse: collapse; }}\n\
         th, td {{ text-align: left; vertical-align: top; padding: 4px 10px; border-bottom: 1px solid #ccc; }}\n\
         tr.proven td {{ background: #eefbee; }}\n\
         tr.rolled-back td, tr.failed td, tr.held td {{ background: #fff8e6; }}\n\
         tr.unclear td, tr.under-way td {{ background: #fdecec; }}\n\
         </style>\n</head>\n<body>\n<h1>Devices</h1>\n<p>{heading}</p>\n<p>{} devices: {}</p>\n\
         <table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</body>\n</html>\n",
        rows.len(),
        counts.join(", ")
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_calls_itself_does_not_become_part_of_the_page() {
        let row = |name: &str| {
            let mut row = vec![Value::Null; COLUMNS.len()];
            row[0] = json!(name);
            row[5] = json!("proven");
            row
        };
        let page = page(None, &[row("<script>alert(1)</script>"), row("a & \"b\"")]);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("a &amp; &quot;b&quot;") && page.contains("2 devices: 2 proven"), "{page}");
    }
}
