//! A file's lines, and a line's words, cut as Mosquitto cuts them: at blanks, never at tabs; a `#` makes a comment only
//! as the first character.

use super::complaint::Fault;

/// The lines of a file that say something, with their numbers from 1; of one that is no UTF-8, only that.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = (u32, Result<&str, Fault>)> {
    file.split(|&byte| byte == b'\n').zip(1u32..).filter_map(|(line, number)| {
        let end = line.iter().rposition(|&byte| byte != b'\r').map_or(0, |last| last + 1);
        let line = &line[..end];
        if line.first() == Some(&b'#') || line.iter().all(|&byte| byte == b' ') {
            return None;
        }
        Some((number, std::str::from_utf8(line).map_err(|_| Fault::NotUtf8)))
    })
}

/// What is left of a line.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    line: &'a str,
    at: usize,
}

/// A part of a line and its column, from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) column: u32,
}

impl<'a> Words<'a> {
    pub(super) const fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    /// The next word; the one blank behind it is gone too.
    pub(super) fn word(&mut self) -> Option<Word<'a>> {
        let start = self.start()?;
        let stop = self.line[start..].find(' ').map_or(self.line.len(), |length| start + length);
        self.at = (stop + 1).min(self.line.len());
        Some(self.cut(start, stop))
    }

    /// What stands in quotes, where a quote comes next and is not closed at once; `Err` where it is never closed.
    pub(super) fn quoted(&mut self) -> Option<Result<Word<'a>, u32>> {
        let start = self.start()?;
        let inner = self.line[start..].strip_prefix('"').filter(|inner| !inner.starts_with('"'))?;
        let Some(length) = inner.find('"') else { return Some(Err(self.cut(start, start).column)) };
        self.at = start + 1 + length + 1;
        Some(Ok(self.cut(start + 1, start + 1 + length)))
    }

    /// All that is left, without white space around it.
    pub(super) fn rest(&mut self) -> Word<'a> {
        let white = |c: char| c.is_ascii_whitespace() || c == '\x0b';
        let left = self.left();
        let start = self.at + (left.len() - left.trim_start_matches(white).len());
        let stop = start + self.line[start..].trim_end_matches(white).len();
        self.at = self.line.len();
        self.cut(start, stop)
    }

    /// The column that comes next.
    pub(super) fn column(&self) -> u32 {
        self.cut(self.at, self.at).column
    }

    fn start(&self) -> Option<usize> {
        self.left().find(|c| c != ' ').map(|blanks| self.at + blanks)
    }

    fn left(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn cut(&self, start: usize, stop: usize) -> Word<'a> {
        let column = u32::try_from(self.line[..start].chars().count() + 1).unwrap_or(u32::MAX);
        Word { text: &self.line[start..stop], column }
    }
}
