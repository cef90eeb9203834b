//! `quoll ca expiring`: what ends soon, as a table, for scripts, for a calendar and for a monitoring system.

use clap::Args;
use quoll_pki::Pki;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{Common, ServerArgs};
use crate::expiry::{self, Ending, Kind};
use crate::failure::Outcome;
use crate::output::{Format, Listing, print};
use crate::{dates, trouble, workshop};

/// Days that a listing looks ahead.
const DAYS: u32 = 90;

/// Arguments of `quoll ca expiring`.
#[derive(Args, Debug)]
pub(crate) struct Expiring {
    /// Look so many days ahead [default: 90; everything for ics and prometheus]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
}

impl Expiring {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let pki = workshop::open_pki(&settings)?;
        let now = OffsetDateTime::now_utc();
        let everything = matches!(common.output, Format::Ics | Format::Prometheus);
        let days = self.days.or_else(|| (!everything).then_some(DAYS));
        let horizon = days.map(|days| now.saturating_add(Duration::days(days.into())));
        let mut all = endings(&pki, now)?;
        if let Some(next) = workshop::next_pki(&settings)? {
            all.extend(endings(&next, now)?);
            all.sort_by_key(|ending| ending.at);
        }
        let endings: Vec<_> =
            all.into_iter().filter(|ending| horizon.is_none_or(|horizon| ending.at <= horizon)).collect();
        match common.output {
            Format::Ics => print(&expiry::calendar(&endings, now)),
            Format::Prometheus => print(&expiry::metrics(&endings)),
            format => listing(&endings, now).print(format),
        }
    }
}

fn listing(endings: &[Ending], now: OffsetDateTime) -> Listing {
    let columns = [
        ("name", "NAME"),
        ("kind", "KIND"),
        ("serial", "SERIAL"),
        ("expires", "UNTIL"),
        ("days_left", "DAYS LEFT"),
        ("next", "NEXT STEP"),
    ];
    let mut listing = Listing::new(&columns, "nothing ends in that time");
    for ending in endings {
        listing.row(vec![
            json!(ending.name),
            json!(ending.kind.word()),
            json!(ending.serial),
            json!(dates::stamp(ending.at)),
            json!((ending.at - now).whole_days()),
            json!(ending.next()),
        ]);
    }
    listing
}

/// Everything that has an end, the nearest first: the CA, the revocation list, and of each name the certificate that is
/// in use. What is revoked or has a successor is nobody's concern any more.
fn endings(pki: &Pki, now: OffsetDateTime) -> Outcome<Vec<Ending>> {
    let ca = pki.ca();
    let mut out = vec![Ending {
        kind: Kind::Ca,
        name: ca.subject_cn().unwrap_or("CA").to_owned(),
        serial: Some(ca.serial().to_string()),
        at: ca.not_after(),
    }];
    let crl = pki.crl_status(now).map_err(trouble::pki)?;
    if let Some(at) = crl.and_then(|crl| crl.next_update) {
        out.push(Ending { kind: Kind::Crl, name: "crl.pem".into(), serial: None, at });
    }
    for row in pki.check(now).map_err(trouble::pki)?.certificates {
        let in_use = row.file.as_deref().is_some_and(|file| file.starts_with("issued/"));
        if !in_use || matches!(row.state, quoll_pki::CertificateState::Revoked(_)) {
            continue;
        }
        let kind = match row.profile {
            Some("server") => Kind::Server,
            Some("tasmota") => Kind::Device,
            _ => Kind::Client,
        };
        let name = row.name.unwrap_or_else(|| row.serial.to_string());
        out.push(Ending { kind, name, serial: Some(row.serial.to_string()), at: row.not_after });
    }
    out.sort_by_key(|ending| ending.at);
    Ok(out)
}
