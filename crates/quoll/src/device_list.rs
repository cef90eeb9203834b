//! A list of devices in a CSV file: a heading line, then `address`, and where known `name` and `mac`. All bad rows are
//! named at once, and no row is used where one is bad.

use std::collections::BTreeMap;
use std::path::Path;

use quoll_fleet::device::{Address, DeviceName};
use quoll_tasmota::Mac;

use crate::failure::{Exit, Failure, Outcome, io_failure};

/// Largest file that is read: some 100,000 rows.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Most rows.
const ROWS: usize = 10_000;
/// Bad rows that are named one by one.
const NAMED: usize = 50;

/// A row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    /// Its line in the file, from 1.
    pub(crate) line: u64,
    pub(crate) address: Address,
    pub(crate) name: Option<DeviceName>,
    pub(crate) mac: Option<Mac>,
}

/// Reads the whole file.
pub(crate) fn read(file: &Path) -> Outcome<Vec<Row>> {
    let meta = std::fs::metadata(file).map_err(|error| io_failure("read", file, &error))?;
    let unusable = |why: String| {
        Failure::new(Exit::Unusable, format!("{} cannot be used; nothing was done", file.display()))
            .why(why)
            .hint("the first line names the columns: address, and optionally name and mac")
    };
    if meta.len() > FILE_BYTES {
        return Err(unusable(format!("it has {} bytes, {FILE_BYTES} at most", meta.len())));
    }
    let bytes = std::fs::read(file).map_err(|error| io_failure("read", file, &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("line {line} has characters that are no UTF-8"))
            .hint("save the list as CSV in UTF-8")
    })?;
    parse(text).map_err(|bad| {
        let more = bad.len().saturating_sub(NAMED);
        let mut why = bad.into_iter().take(NAMED).collect::<Vec<_>>().join("\n       ");
        if more > 0 {
            why.push_str(&format!("\n       and {more} more"));
        }
        unusable(why)
    })
}

/// The rows, or everything that is wrong.
fn parse(text: &str) -> Result<Vec<Row>, Vec<String>> {
    // The reader counts a line of \r\n when it is past it: the numbers of all rows would be one too low.
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n");
    // Where a comma is the decimal point, spreadsheets separate by semicolons.
    let heading = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let delimiter = if heading.contains(';') && !heading.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let headings = reader.headers().map_err(|error| vec![cells(&error)])?.clone();
    let mut bad = Vec::new();
    let mut columns = BTreeMap::new();
    for (index, heading) in headings.iter().enumerate() {
        let heading = heading.to_ascii_lowercase();
        if !matches!(heading.as_str(), "address" | "name" | "mac") {
            bad.push(format!("line 1: there is no column {heading:?}"));
        } else if columns.insert(heading.clone(), index).is_some() {
            bad.push(format!("line 1: the column {heading} stands there twice"));
        }
    }
    if !columns.contains_key("address") {
        bad.push("line 1: there is no column address".into());
    }
    if !bad.is_empty() {
        return Err(bad);
    }
    let (mut rows, mut seen): (Vec<Row>, BTreeMap<String, u64>) = (Vec::new(), BTreeMap::new());
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                bad.push(cells(&error));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |name: &str| {
            columns.get(name).and_then(|index| record.get(*index)).filter(|text| !text.is_empty())
        };
        // Column by its number and name, as a spreadsheet shows it.
        let mut wrong = |column: &str, why: String| {
            let number = columns.get(column).map_or(0, |index| index + 1);
            bad.push(format!("line {line}, column {number} ({column}): {why}"));
        };
        let address = match cell("address").map(Address::parse) {
            Some(Ok(address)) => Some(address),
            Some(Err(error)) => {
                wrong("address", error.to_string());
                None
            }
            None => {
                wrong("address", "no address".into());
                None
            }
        };
        let name = cell("name")
            .and_then(|text| DeviceName::parse(text).map_err(|error| wrong("name", error.to_string())).ok());
        let mac = cell("mac")
            .and_then(|text| text.parse::<Mac>().map_err(|error| wrong("mac", error.to_string())).ok());
        let keys = [
            address.as_ref().map(|address| ("address", format!("address {address}"))),
            name.as_ref().map(|name| ("name", format!("name {}", name.as_str().to_ascii_lowercase()))),
            mac.map(|mac| ("mac", format!("MAC {mac}"))),
        ];
        for (column, key) in keys.into_iter().flatten() {
            match seen.get(&key) {
                Some(first) => wrong(column, format!("{key} stands in line {first} already")),
                None => {
                    seen.insert(key, line);
                }
            }
        }
        if rows.len() == ROWS {
            bad.push(format!("line {line}: more than {ROWS} rows"));
            break;
        }
        if let Some(address) = address {
            rows.push(Row { line, address, name, mac });
        }
    }
    if bad.is_empty() { Ok(rows) } else { Err(bad) }
}

/// What is wrong with a row's cells.
fn cells(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(at), expected_len, len } => format!(
            "line {}: it has {len} cells, the heading {expected_len}; is a separator missing, or a quote not closed?",
            at.line()
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_its_columns_in_any_order() {
        let rows = parse(
            "\u{FEFF}Name, MAC ,address\n# the house\nkitchen,a0b1c2d3e4f5,192.168.1.40\n,,plug.lan:8080\n",
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].name.as_ref().unwrap().as_str(), "kitchen");
        assert_eq!(rows[0].mac.unwrap().to_string(), "A0:B1:C2:D3:E4:F5");
        assert_eq!((rows[1].address.to_string(), rows[1].line), ("plug.lan:8080".into(), 4));
    }

    #[test]
    fn every_bad_row_is_named() {
        let text = "address,name,mac\n\
                    192.168.1.40,kitchen,A0B1C2D3E4F5\n\
                    http://x,ok,\n\
                    192.168.1.41,sp ace,zz\n\
                    ,garage,\n\
                    192.168.1.40,Kitchen,a0:b1:c2:d3:e4:f5\n\
                    192.168.1.42\n";
        let bad = parse(text).unwrap_err();
        let lines: Vec<&str> = bad.iter().filter_map(|why| why.split(':').next()).collect();
        let (address, name, mac) = ("column 1 (address)", "column 2 (name)", "column 3 (mac)");
        let places = [(3, address), (4, name), (4, mac), (5, address), (6, address), (6, name), (6, mac)];
        let places = places.map(|(line, column)| format!("line {line}, {column}"));
        assert_eq!(lines[..7], places, "{bad:#?}");
        assert!(bad.iter().any(|why| why.contains("stands in line 2 already")), "{bad:#?}");
        assert_eq!(bad.len(), 8, "{bad:#?}");
    }

    #[test]
    fn a_spreadsheets_own_ways_are_understood_or_told() {
        let rows = parse("name;address\r\nkitchen;192.168.1.40\r\n").unwrap();
        assert_eq!((rows[0].name.as_ref().unwrap().as_str(), rows[0].line), ("kitchen", 2));
        let bad = parse("name,address\nok,192.168.1.40\n\"open,192.168.1.41\n").unwrap_err();
        assert!(bad[0].starts_with("line 3: it has 1 cells, the heading 2"), "{bad:?}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.csv");
        std::fs::write(&file, b"address,name\n192.168.1.40,ok\n192.168.1.41,k\xfcche\n").unwrap();
        let failure = read(&file).unwrap_err();
        let said = format!("{failure:?}");
        assert!(
            said.contains("line 3 has characters that are no UTF-8") && said.contains("UTF-8\""),
            "{said}"
        );
    }

    #[test]
    fn a_heading_must_be_understood() {
        for (text, why) in [
            ("", "no column address"),
            ("192.168.1.40,kitchen\n", "no column"),
            ("address,colour\n", "colour"),
            ("address,address\n", "twice"),
        ] {
            let bad = parse(text).unwrap_err();
            assert!(bad.iter().any(|line| line.contains(why)), "{text:?}: {bad:?}");
        }
    }
}
