//! What SQLite does not say about its write-ahead log: that a part of it was lost.
//!
//! The log is read up to the first frame that is not right, and what is behind it is ignored without a word: after a
//! power cut that is the transaction that was being written, which promised nothing yet. A bit that fell over on the
//! disk looks the same, and takes with it whatever was committed later. What tells them apart is that later
//! transactions are there, which begin only once those before are safe.
//!
//! This looks, and changes nothing. The format is that of <https://www.sqlite.org/fileformat2.html#walformat>.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The first four bytes; the last bit says in which byte order sums are made.
const MAGIC: u32 = 0x377f_0682;

/// The largest page that SQLite has.
const MAX_PAGE: usize = 65_536;

/// What a look at a log found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// There is none, or it is empty.
    Nothing,
    /// All of it can be read.
    Whole,
    /// Its last transaction did not come to its end: nobody was promised it, unless the disk lost what it had.
    Unfinished {
        /// Where, in bytes.
        at: u64,
    },
    /// What was written once cannot be read.
    Damaged {
        /// Where it begins, in bytes.
        at: u64,
        /// Transactions from there on, as far as they can be counted.
        lost: u64,
    },
}

/// The log that belongs to a database.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push("-wal");
    name.into()
}

/// Looks at a log.
///
/// # Errors
/// It is there and cannot be read.
pub(super) fn look(log: &Path) -> io::Result<Look> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Nothing),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let mut header = [0; HEADER];
    let Some(_) = fill(&mut file, &mut header)? else { return Ok(Look::Nothing) };
    let magic = number(&header, 0);
    let little = magic & 1 == 0;
    let page = number(&header, 8) as usize;
    let mut sum = Sum { little, value: (0, 0) };
    sum.add(&header[..24]);
    let is_ours = magic & !1 == MAGIC && (512..=MAX_PAGE).contains(&page) && page.is_power_of_two();
    if !is_ours || !sum.is(&header[24..]) {
        // Zeros are what a power cut leaves of a log that was just begun.
        let blank = header.iter().all(|byte| *byte == 0);
        return Ok(if blank { Look::Nothing } else { Look::Damaged { at: 0, lost: 0 } });
    }
    let salt = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut at, mut broken, mut lost) = (HEADER as u64, None, 0);
    while fill(&mut file, &mut frame)?.is_some() {
        let of_this_log = frame[8..16] == *salt;
        if broken.is_none() {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
            if !of_this_log || !sum.is(&frame[16..24]) {
                broken = Some(at);
            }
        }
        // Frames with another salt are those of an earlier round, which are in the database.
        if broken.is_some() && of_this_log && number(&frame, 4) != 0 {
            lost += 1;
        }
        at += frame.len() as u64;
    }
    Ok(match (broken, lost) {
        (None, _) | (Some(_), 0) => Look::Whole,
        (Some(at), 1) => Look::Unfinished { at },
        (Some(at), lost) => Look::Damaged { at, lost },
    })
}

/// Fills the buffer; `None` if the file ends before.
fn fill(file: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<Option<()>> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number at a place; the headers' are big-endian always.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// The sum over all that was written since the log's beginning.
struct Sum {
    little: bool,
    value: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut one, mut two) = self.value;
        let (pairs, _) = bytes.as_chunks::<8>();
        for pair in pairs {
            let [a, b, c, d, e, f, g, h] = *pair;
            let (first, second) = ([a, b, c, d], [e, f, g, h]);
            let read = if self.little { u32::from_le_bytes } else { u32::from_be_bytes };
            one = one.wrapping_add(read(first)).wrapping_add(two);
            two = two.wrapping_add(read(second)).wrapping_add(one);
        }
        self.value = (one, two);
    }

    fn is(&self, written: &[u8]) -> bool {
        (number(written, 0), number(written, 4)) == self.value
    }
}
