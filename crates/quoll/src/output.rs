//! The voice: listings as a table for people, JSON and CSV for scripts.

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure, Outcome};

/// How a listing is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
    /// A calendar; `quoll ca expiring` alone writes one.
    Ics,
    /// Metrics; `quoll ca expiring` alone writes them.
    Prometheus,
}

/// A listing: columns with a key for scripts and a heading for people, and rows of JSON values.
pub(crate) struct Listing {
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<Vec<Value>>,
    /// What to say to a person where there are no rows.
    empty: &'static str,
}

impl Listing {
    pub(crate) fn new(columns: &[(&'static str, &'static str)], empty: &'static str) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), empty }
    }

    pub(crate) fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values);
    }

    /// The listing as text, ending in a line end.
    pub(crate) fn render(&self, format: Format) -> Outcome<String> {
        match format {
            Format::Table if self.rows.is_empty() => Ok(format!("{}\n", self.empty)),
            Format::Table => Ok(format!("{}\n", self.table())),
            Format::Json => {
                let rows = self.rows.iter().map(|row| {
                    let pairs = self.columns.iter().zip(row);
                    Value::Object(pairs.map(|((key, _), value)| ((*key).to_owned(), value.clone())).collect())
                });
                Ok(format!("{:#}\n", Value::Array(rows.collect())))
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                let failed = |error| Failure::new(Exit::System, "cannot write CSV").why(error);
                writer.write_record(self.columns.iter().map(|(key, _)| key)).map_err(failed)?;
                for row in &self.rows {
                    writer.write_record(row.iter().map(cell)).map_err(failed)?;
                }
                let bytes = writer
                    .into_inner()
                    .map_err(|error| Failure::new(Exit::System, "cannot write CSV").why(error.error()))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Format::Ics | Format::Prometheus => Err(only_for_dates()),
        }
    }

    /// Writes it to standard output.
    pub(crate) fn print(&self, format: Format) -> Outcome {
        print(&self.render(format)?)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.columns.iter().map(|(_, heading)| *heading));
        for row in &self.rows {
            table.add_row(row.iter().map(|value| shown(&plain(value))));
        }
        table
    }
}

/// Facts about one thing: an object for scripts, aligned lines for people.
pub(crate) fn print_facts(facts: &[(&'static str, &'static str, Value)], format: Format) -> Outcome {
    match format {
        Format::Json => {
            let object: Map<String, Value> =
                facts.iter().map(|(key, _, value)| ((*key).to_owned(), value.clone())).collect();
            print(&format!("{:#}\n", Value::Object(object)))
        }
        Format::Csv => {
            let columns: Vec<_> = facts.iter().map(|(key, heading, _)| (*key, *heading)).collect();
            let mut listing = Listing::new(&columns, "");
            listing.row(facts.iter().map(|(_, _, value)| value.clone()).collect());
            listing.print(Format::Csv)
        }
        Format::Ics | Format::Prometheus => Err(only_for_dates()),
        Format::Table => {
            let width = facts.iter().map(|(_, heading, _)| heading.len()).max().unwrap_or(0);
            let lines = facts.iter().map(|(_, heading, value)| match value {
                Value::Array(items) => {
                    let items: Vec<_> = items.iter().map(|item| shown(&plain(item))).collect();
                    format!("{heading:<width$}  {}\n", items.join(&format!("\n{:<width$}  ", "")))
                }
                other => format!("{heading:<width$}  {}\n", shown(&plain(other))),
            });
            print(&lines.collect::<String>())
        }
    }
}

fn only_for_dates() -> Failure {
    Failure::new(Exit::Usage, "this is no list of dates, so it is neither a calendar nor metrics")
        .hint("use --output table, json or csv here; ics and prometheus are for `quoll ca expiring`")
}

/// A value as a person or a spreadsheet reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A text for a terminal. What a device says of itself may hold control characters, which would move the cursor, colour
/// what follows, or set the window's title; a line end stays one.
pub(crate) fn shown(text: &str) -> String {
    let is_order = |c: char| c.is_control() && c != '\n';
    match text.contains(is_order) {
        true => text.chars().map(|c| if is_order(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        false => text.to_owned(),
    }
}

/// A value for a spreadsheet, where a text that begins like a formula would be one: it gets an apostrophe in front.
fn cell(value: &Value) -> String {
    let text = plain(value);
    match value.is_string() && text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text,
    }
}

/// Writes to standard output. A reader that has gone away (`quoll … | head`) is no failure.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::System, "cannot write to standard output").why(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listing_says_the_same_in_three_forms() {
        let mut listing =
            Listing::new(&[("name", "NAME"), ("online", "ONLINE"), ("serial", "SERIAL")], "none");
        listing.row(vec![json!("kitchen"), json!(true), Value::Null]);
        listing.row(vec![json!("a,\"b\""), json!(false), json!("4F")]);
        let parsed: Value = serde_json::from_str(&listing.render(Format::Json).unwrap()).unwrap();
        assert_eq!(parsed[0], json!({"name": "kitchen", "online": true, "serial": null}));
        let csv = listing.render(Format::Csv).unwrap();
        assert_eq!(csv, "name,online,serial\nkitchen,yes,\n\"a,\"\"b\"\"\",no,4F\n");
        let table = listing.render(Format::Table).unwrap();
        assert!(table.contains("NAME") && table.contains("kitchen") && table.contains("4F"), "{table}");
    }

    #[test]
    fn what_a_device_calls_itself_is_no_formula_and_gives_the_terminal_no_orders() {
        let mut listing = Listing::new(&[("name", "NAME"), ("rssi", "RSSI")], "none");
        listing.row(vec![json!("=HYPERLINK(\"http://x\")"), json!(-71)]);
        listing.row(vec![json!("a\u{1b}]0;title\u{7}b\u{9b}2J"), json!("@x")]);
        let csv = listing.render(Format::Csv).unwrap();
        assert!(csv.contains("\"'=HYPERLINK(\"\"http://x\"\")\",-71\n") && csv.contains(",'@x\n"), "{csv:?}");
        let table = listing.render(Format::Table).unwrap();
        assert!(
            table.contains("]0;title") && !table.contains(|c: char| c.is_control() && c != '\n'),
            "{table:?}"
        );
        let json: Value = serde_json::from_str(&listing.render(Format::Json).unwrap()).unwrap();
        assert_eq!((&json[0]["rssi"], &json[1]["rssi"]), (&json!(-71), &json!("@x")));
    }

    #[test]
    fn an_empty_listing_is_still_an_array_for_scripts() {
        let listing = Listing::new(&[("name", "NAME")], "no devices yet");
        assert_eq!(listing.render(Format::Json).unwrap(), "[]\n");
        assert_eq!(listing.render(Format::Csv).unwrap(), "name\n");
        assert_eq!(listing.render(Format::Table).unwrap(), "no devices yet\n");
    }
}
