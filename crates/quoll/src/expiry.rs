//! What ends when, as a calendar (iCalendar, RFC 5545) and as metrics (Prometheus' text format, for node_exporter's textfile
//! collector). Pure: no clock, no disk.

use std::fmt::Write as _;

use time::{Duration, OffsetDateTime, UtcOffset};

use crate::dates;

/// Days before an end on which a calendar reminds.
const REMIND_DAYS: [u8; 2] = [30, 7];
/// Octets of a line of iCalendar (RFC 5545 §3.1).
const LINE_OCTETS: usize = 75;

/// Something that ends.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) serial: Option<String>,
    pub(crate) at: OffsetDateTime,
}

/// What it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Ca,
    Crl,
    Server,
    Device,
    Client,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Crl => "crl",
            Self::Server => "server",
            Self::Device => "device",
            Self::Client => "client",
        }
    }
}

impl Ending {
    /// The command that is due.
    pub(crate) fn next(&self) -> String {
        match self.kind {
            Kind::Ca => "quoll ca renew".into(),
            Kind::Crl => "quoll ca crl".into(),
            Kind::Server => "quoll server renew".into(),
            Kind::Device | Kind::Client => format!("quoll ca renew {}", self.name),
        }
    }

    fn summary(&self) -> String {
        match self.kind {
            Kind::Ca => format!("The CA {} ends", self.name),
            Kind::Crl => "The revocation list ends".into(),
            kind => format!("The certificate of the {} {} ends", kind.word(), self.name),
        }
    }
}

/// A calendar with one day for each end, and reminders before it.
pub(crate) fn calendar(endings: &[Ending], now: OffsetDateTime) -> String {
    let mut out = String::new();
    line(&mut out, "BEGIN:VCALENDAR");
    line(&mut out, "VERSION:2.0");
    line(&mut out, "PRODID:-//Quoll//Certificates//EN");
    line(&mut out, "METHOD:PUBLISH");
    for ending in endings {
        let (day, next_day) = (compact_day(ending.at), compact_day(ending.at.saturating_add(Duration::DAY)));
        line(&mut out, "BEGIN:VEVENT");
        // The same end has the same name in every export, so that a calendar replaces it.
        let id = ending.serial.as_deref().unwrap_or("list").to_ascii_lowercase();
        line(&mut out, &format!("UID:{}-{id}-{day}@quoll", ending.kind.word()));
        line(&mut out, &format!("DTSTAMP:{}", compact_stamp(now)));
        line(&mut out, &format!("DTSTART;VALUE=DATE:{day}"));
        line(&mut out, &format!("DTEND;VALUE=DATE:{next_day}"));
        line(&mut out, &format!("SUMMARY:{}", escape(&ending.summary())));
        let serial =
            ending.serial.as_ref().map(|serial| format!("\nSerial number {serial}")).unwrap_or_default();
        let text = format!("At {}.{serial}\nBefore that: {}", dates::stamp(ending.at), ending.next());
        line(&mut out, &format!("DESCRIPTION:{}", escape(&text)));
        line(&mut out, "TRANSP:TRANSPARENT");
        for days in REMIND_DAYS {
            line(&mut out, "BEGIN:VALARM");
            line(&mut out, "ACTION:DISPLAY");
            line(&mut out, &format!("TRIGGER:-P{days}D"));
            line(&mut out, &format!("DESCRIPTION:{}", escape(&ending.summary())));
            line(&mut out, "END:VALARM");
        }
        line(&mut out, "END:VEVENT");
    }
    line(&mut out, "END:VCALENDAR");
    out
}

/// One gauge for each end, in seconds since 1970: alert on `quoll_expiry_seconds - time() < 30 * 86400`.
pub(crate) fn metrics(endings: &[Ending]) -> String {
    let mut out = String::from(
        "# HELP quoll_expiry_seconds When the CA, its revocation list or a certificate in use ends, in seconds since 1970.\n\
         # TYPE quoll_expiry_seconds gauge\n",
    );
    for ending in endings {
        let (kind, name) = (ending.kind.word(), label(&ending.name));
        let serial = ending.serial.as_deref().unwrap_or_default();
        let at = ending.at.unix_timestamp();
        let _ =
            writeln!(out, "quoll_expiry_seconds{{kind=\"{kind}\",name=\"{name}\",serial=\"{serial}\"}} {at}");
    }
    out
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// RFC 5545 §3.3.11.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(';', "\\;").replace(',', "\\,").replace('\n', "\\n")
}

/// Lines end in CR LF and go on after a space (RFC 5545 §3.1).
fn line(out: &mut String, text: &str) {
    let mut octets = 0;
    for letter in text.chars() {
        if octets + letter.len_utf8() > LINE_OCTETS {
            out.push_str("\r\n ");
            octets = 1;
        }
        out.push(letter);
        octets += letter.len_utf8();
    }
    out.push_str("\r\n");
}

fn compact_day(at: OffsetDateTime) -> String {
    let date = at.to_offset(UtcOffset::UTC).date();
    format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
}

fn compact_stamp(at: OffsetDateTime) -> String {
    let time = at.to_offset(UtcOffset::UTC).time();
    format!("{}T{:02}{:02}{:02}Z", compact_day(at), time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn endings() -> Vec<Ending> {
        vec![
            Ending {
                kind: Kind::Device,
                name: "küche, \"links\"; oben und noch viel länger als eine Zeile sein darf".into(),
                serial: Some("4F00".into()),
                at: datetime!(2031-10-27 12:32:44 UTC),
            },
            Ending {
                kind: Kind::Crl,
                name: "crl.pem".into(),
                serial: None,
                at: datetime!(2027-05-21 0:00 UTC),
            },
        ]
    }

    #[test]
    fn a_calendar_has_short_lines_escapes_and_lasting_names() {
        let text = calendar(&endings(), datetime!(2026-11-22 16:00 UTC));
        assert!(text.split_terminator("\r\n").all(|line| line.len() <= LINE_OCTETS && !line.contains('\n')));
        let unfolded = text.replace("\r\n ", "");
        for expected in [
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n",
            "UID:device-4f00-20311027@quoll\r\n",
            "UID:crl-list-20270521@quoll\r\n",
            "DTSTAMP:20261122T160000Z\r\nDTSTART;VALUE=DATE:20311027\r\nDTEND;VALUE=DATE:20311028\r\n",
            "küche\\, \"links\"\\; oben",
            "At 2031-10-27T12:32:44Z.\\nSerial number 4F00\\nBefore that: quoll ca renew",
            "TRIGGER:-P30D\r\n",
            "END:VCALENDAR\r\n",
        ] {
            assert!(unfolded.contains(expected), "{expected}: {unfolded}");
        }
        assert_eq!(unfolded.matches("BEGIN:VEVENT").count(), 2);
    }

    #[test]
    fn metrics_are_what_prometheus_reads() {
        let text = metrics(&endings());
        assert!(text.contains("# TYPE quoll_expiry_seconds gauge\n"));
        assert!(text.contains("name=\"küche, \\\"links\\\"; oben"), "{text}");
        assert!(text.contains("{kind=\"crl\",name=\"crl.pem\",serial=\"\"} 1810857600\n"), "{text}");
    }
}
