//! `index.txt`, OpenSSL's list of every certificate of a CA, read strictly and written back byte for byte.
//!
//! A line has six fields between tabs: state (`V` `R` `E`), end, revocation (`date[,reason]`), serial number, file name
//! (`unknown`), subject in one-line form. Lines beginning with `#` are kept as they are.
//! What it is not: it opens no file.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;

use crate::{dates, revocation::RevocationReason, serial::Serial, subject};

const FIELDS: usize = 6;

/// One certificate as `index.txt` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Valid, revoked or marked expired.
    pub state: EntryState,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// Its serial number.
    pub serial: Serial,
    /// Subject in OpenSSL's one-line form: `/C=UK/CN=name`.
    pub subject: String,
}

/// The first field of a line. `V` says nothing of the date: Easy-RSA marks expiry only when told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryState {
    /// `V`
    Valid,
    /// `E`, set by `easyrsa update-db`.
    Expired,
    /// `R`
    Revoked {
        /// Since when.
        at: OffsetDateTime,
        /// Why.
        reason: RevocationReason,
    },
}

impl EntryState {
    /// Revoked, but only for a time.
    pub fn is_on_hold(&self) -> bool {
        matches!(self, Self::Revoked { reason: RevocationReason::CertificateHold, .. })
    }
}

impl IndexEntry {
    /// The common name in the subject, if it can be told.
    pub fn common_name(&self) -> Option<String> {
        subject::common_name_of(&self.subject)
    }

    /// True for a revoked certificate.
    pub fn is_revoked(&self) -> bool {
        matches!(self.state, EntryState::Revoked { .. })
    }

    /// Neither revoked nor past its end.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        !self.is_revoked() && now <= self.not_after
    }
}

/// Where and why a text is not an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IndexError {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in bytes.
    pub(crate) column: usize,
    pub(crate) problem: String,
}

/// A whole index: its lines, and what those with an entry say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    /// The content last seen in the file, to notice that somebody else wrote there.
    seen: Vec<u8>,
    lines: Vec<Line>,
    by_serial: HashMap<Serial, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    raw: Vec<u8>,
    entry: Option<IndexEntry>,
}

impl Index {
    /// Reads the content of `index.txt`.
    ///
    /// # Errors
    /// The first place that breaks the format. A last line without line end is one: OpenSSL ignores such a line and
    /// forgets it at the next write.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, IndexError> {
        let mut index = Self { seen: content.to_vec(), ..Self::default() };
        let mut rest = content;
        while !rest.is_empty() {
            let line = index.lines.len() + 1;
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let problem =
                    "the line is cut off: it has no line end, and OpenSSL ignores such a line".to_owned();
                return Err(IndexError { line, column: rest.len() + 1, problem });
            };
            let raw = &rest[..end];
            rest = &rest[end + 1..];
            let entry = match raw.first() {
                Some(b'#') => None,
                _ => Some(parse_line(raw).map_err(|(column, problem)| IndexError {
                    line,
                    column: column + 1,
                    problem,
                })?),
            };
            index.push_line(Line { raw: raw.to_vec(), entry }).map_err(|(column, problem)| IndexError {
                line,
                column: column + 1,
                problem,
            })?;
        }
        Ok(index)
    }

    /// The content to write.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for line in &self.lines {
            out.extend_from_slice(&line.raw);
            out.push(b'\n');
        }
        out
    }

    /// Whether the file still holds what was read from it, or written to it last.
    pub(crate) fn is_still(&self, content: &[u8]) -> bool {
        self.seen == content
    }

    /// Remembers what the file holds now.
    pub(crate) fn note_written(&mut self, content: Vec<u8>) {
        self.seen = content;
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &IndexEntry> {
        self.lines.iter().filter_map(|line| line.entry.as_ref())
    }

    pub(crate) fn get(&self, serial: &Serial) -> Option<&IndexEntry> {
        self.by_serial.get(serial).and_then(|line| self.lines[*line].entry.as_ref())
    }

    /// The serial number as its line writes it.
    pub(crate) fn spelling(&self, serial: &Serial) -> Option<String> {
        let line = self.by_serial.get(serial)?;
        let field = self.lines[*line].raw.split(|byte| *byte == b'\t').nth(3)?;
        Some(String::from_utf8_lossy(field).into_owned())
    }

    /// Serial numbers of all revoked certificates.
    pub(crate) fn revoked(&self) -> HashSet<&Serial> {
        self.entries().filter(|entry| entry.is_revoked()).map(|entry| &entry.serial).collect()
    }

    /// Adds a certificate at the end.
    pub(crate) fn push(&mut self, entry: IndexEntry) {
        let (state, revocation) = match &entry.state {
            EntryState::Valid => ("V", String::new()),
            EntryState::Expired => ("E", String::new()),
            EntryState::Revoked { at, reason } => ("R", revocation_field(*at, *reason)),
        };
        let (end, serial, subject) = (dates::to_index(entry.not_after), &entry.serial, &entry.subject);
        let raw = format!("{state}\t{end}\t{revocation}\t{serial}\tunknown\t{subject}").into_bytes();
        let pushed = self.push_line(Line { raw, entry: Some(entry) });
        debug_assert!(pushed.is_ok(), "a fresh serial number is in no line yet");
    }

    /// Turns the line of `serial` into `R`, leaving its other fields byte for byte. False if there is no such line.
    pub(crate) fn revoke(&mut self, serial: &Serial, at: OffsetDateTime, reason: RevocationReason) -> bool {
        let Some(line) = self.by_serial.get(serial).copied() else { return false };
        let Line { raw, entry: Some(entry) } = &mut self.lines[line] else { return false };
        let mut fields: Vec<&[u8]> = raw.split(|byte| *byte == b'\t').collect();
        let revocation = revocation_field(at, reason);
        fields[0] = b"R";
        fields[2] = revocation.as_bytes();
        *raw = fields.join(&b'\t');
        entry.state = EntryState::Revoked { at, reason };
        true
    }

    /// Turns the line of `serial` back into `V`, leaving its other fields byte for byte. False if there is no such line.
    pub(crate) fn release(&mut self, serial: &Serial) -> bool {
        let Some(line) = self.by_serial.get(serial).copied() else { return false };
        let Line { raw, entry: Some(entry) } = &mut self.lines[line] else { return false };
        let mut fields: Vec<&[u8]> = raw.split(|byte| *byte == b'\t').collect();
        fields[0] = b"V";
        fields[2] = b"";
        *raw = fields.join(&b'\t');
        entry.state = EntryState::Valid;
        true
    }

    fn push_line(&mut self, line: Line) -> Result<(), (usize, String)> {
        if let Some(entry) = &line.entry {
            if let Some(first) = self.by_serial.get(&entry.serial) {
                let column = column_of_field(&line.raw, 3);
                return Err((
                    column,
                    format!("serial number {} is already on line {}", entry.serial, first + 1),
                ));
            }
            self.by_serial.insert(entry.serial.clone(), self.lines.len());
        }
        self.lines.push(line);
        Ok(())
    }
}

/// Second and reason, both cut to what the format holds.
fn revocation_field(at: OffsetDateTime, reason: RevocationReason) -> String {
    format!("{},{reason}", dates::to_index(at))
}

fn column_of_field(raw: &[u8], field: usize) -> usize {
    raw.split(|byte| *byte == b'\t').take(field).map(|field| field.len() + 1).sum()
}

/// The entry of one line, or the offset of the byte that is wrong and why.
fn parse_line(raw: &[u8]) -> Result<IndexEntry, (usize, String)> {
    let fields: Vec<&[u8]> = raw.split(|byte| *byte == b'\t').collect();
    if fields.len() != FIELDS {
        return Err((raw.len(), format!("there are {} fields instead of {FIELDS}", fields.len())));
    }
    let wrong = |field: usize, problem: &str| (column_of_field(raw, field), problem.to_owned());
    let text =
        |field: usize| std::str::from_utf8(fields[field]).map_err(|_| wrong(field, "this is not text"));

    let state = parse_state(text(0)?, text(2)?).map_err(|(field, problem)| wrong(field, problem))?;
    let not_after = dates::from_index(text(1)?)
        .ok_or_else(|| wrong(1, "the end of validity is not a date (YYMMDDHHMMSSZ)"))?;
    let serial = text(3)?.parse::<Serial>().map_err(|error| wrong(3, &error.to_string()))?;
    if !fields[5].starts_with(b"/") {
        return Err(wrong(5, "the subject does not begin with /"));
    }
    let subject = String::from_utf8_lossy(fields[5]).trim_end_matches('\r').to_owned();
    Ok(IndexEntry { state, not_after, serial, subject })
}

fn parse_state(state: &str, revocation: &str) -> Result<EntryState, (usize, &'static str)> {
    match (state, revocation) {
        ("V", "") => Ok(EntryState::Valid),
        ("E", "") => Ok(EntryState::Expired),
        ("V" | "E", _) => Err((2, "a certificate that is not revoked has a revocation date")),
        ("R", revocation) => {
            let mut parts = revocation.split(',');
            let at = parts.next().and_then(dates::from_index);
            let at = at.ok_or((2, "the revocation date is not a date (YYMMDDHHMMSSZ)"))?;
            let reason = match parts.next() {
                None => RevocationReason::Unspecified,
                Some(reason) => {
                    RevocationReason::from_index(reason).ok_or((2, "the revocation reason is unknown"))?
                }
            };
            Ok(EntryState::Revoked { at, reason })
        }
        _ => Err((0, "the state is neither V, R nor E")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const GOOD: &str = "V\t311027123244Z\t\tE674\tunknown\t/CN=a\n\
        # a note\n\
        R\t311027123245Z\t261122123245Z,keyCompromise\tA56C\tunknown\t/C=UK/CN=lost\n\
        R\t311027123245Z\t261122123245Z\t01\tunknown\t/CN=old\n\
        E\t20510101000000Z\t\t02\tunknown\t/CN=late\n";

    #[test]
    fn a_good_index_is_understood_and_kept_byte_for_byte() {
        let index = Index::parse(GOOD.as_bytes()).unwrap();
        let entries: Vec<_> = index.entries().collect();
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[0].state, EntryState::Valid);
        let reason = RevocationReason::KeyCompromise;
        assert_eq!(entries[1].state, EntryState::Revoked { at: datetime!(2026-11-22 12:32:45 UTC), reason });
        assert_eq!(entries[1].common_name().as_deref(), Some("lost"));
        assert_eq!(entries[3].not_after, datetime!(2051-01-01 0:00 UTC));
        assert_eq!(index.revoked().len(), 2);
        assert_eq!(index.to_bytes(), GOOD.as_bytes());
    }

    #[test]
    fn a_revocation_changes_its_line_only() {
        let mut index = Index::parse(GOOD.as_bytes()).unwrap();
        let at = datetime!(2026-12-01 0:00 UTC);
        assert!(index.revoke(&"E674".parse().unwrap(), at, RevocationReason::Superseded));
        assert!(!index.revoke(&"FF".parse().unwrap(), at, RevocationReason::Superseded));
        let expected =
            GOOD.replacen("V\t311027123244Z\t\t", "R\t311027123244Z\t261201000000Z,superseded\t", 1);
        assert_eq!(index.to_bytes(), expected.as_bytes());
        assert!(Index::parse(expected.as_bytes()).unwrap().entries().eq(index.entries()));
        assert!(index.release(&"E674".parse().unwrap()));
        assert!(!index.release(&"FF".parse().unwrap()));
        assert_eq!(index.to_bytes(), GOOD.as_bytes());
        assert!(Index::parse(GOOD.as_bytes()).unwrap().entries().eq(index.entries()));
    }

    #[test]
    fn the_place_of_each_fault_is_told() {
        let good = "V\t311027123244Z\t\tE674\tunknown\t/CN=a\n";
        for (content, line, column, problem) in [
            (format!("{good}V\t3110"), 2, 7, "cut off"),
            (format!("{good}V\t311027123244Z\t\t01\n"), 2, 20, "4 fields instead of 6"),
            (format!("{good}\n"), 2, 1, "1 fields"),
            (good.replace('V', "X"), 1, 1, "neither V, R nor E"),
            (good.replace("3110", "3199"), 1, 3, "end of validity"),
            (good.replace("E674", "E6G4"), 1, 18, "position 2"),
            (good.replace("\t\tE", "\t261122123245Z\tE"), 1, 17, "not revoked has a revocation date"),
            (good.replace('V', "R"), 1, 17, "revocation date is not a date"),
            (
                good.replace("V\t", "R\t").replace("\t\t", "\t261122123245Z,bored\t"),
                1,
                17,
                "reason is unknown",
            ),
            (good.replace("/CN", "CN"), 1, 31, "does not begin with /"),
            (format!("{good}{good}"), 2, 18, "already on line 1"),
        ] {
            let error = Index::parse(content.as_bytes()).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{content:?}: {error:?}");
            assert!(error.problem.contains(problem), "{content:?}: {error:?}");
        }
    }

    fn entry() -> impl Strategy<Value = IndexEntry> {
        let date = || (0i64..4_000_000_000).prop_map(|seconds| dates::from_unix(seconds).unwrap());
        let revoked = (date(), 0usize..7)
            .prop_map(|(at, reason)| EntryState::Revoked { at, reason: RevocationReason::ALL[reason] });
        let state = prop_oneof![Just(EntryState::Valid), Just(EntryState::Expired), revoked];
        (state, date(), proptest::collection::vec(any::<u8>(), 1..=20), "/CN=[!-~]{0,20}").prop_map(
            |(state, not_after, serial, subject)| IndexEntry {
                state,
                not_after,
                serial: Serial::from_be_bytes(&serial).unwrap(),
                subject,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(entries in proptest::collection::vec(entry(), 0..8)) {
            let mut index = Index::default();
            for entry in entries {
                if index.get(&entry.serial).is_none() {
                    index.push(entry);
                }
            }
            let bytes = index.to_bytes();
            let again = Index::parse(&bytes).unwrap();
            prop_assert_eq!(again.to_bytes(), bytes);
            prop_assert!(again.entries().eq(index.entries()));
        }

        #[test]
        fn any_content_is_kept_byte_for_byte_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(index) = Index::parse(&content) {
                prop_assert_eq!(index.to_bytes(), content);
            }
        }

        #[test]
        fn damage_to_a_good_index_is_kept_or_refused(at in 0usize..150, byte in any::<u8>()) {
            let mut content = GOOD.as_bytes().to_vec();
            let at = at % content.len();
            content[at] = byte;
            if let Ok(index) = Index::parse(&content) {
                prop_assert_eq!(index.to_bytes(), content);
            }
        }
    }
}
