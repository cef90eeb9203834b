//! Table-driven checks that report every wrong row, not only the first.

/// Collects what went wrong in the rows of a table.
#[derive(Debug, Default)]
pub struct Rows {
    wrong: Vec<String>,
    seen: usize,
}

impl Rows {
    /// A row is right when `good`; else `said` tells what was seen.
    pub fn check(&mut self, row: &str, good: bool, said: impl std::fmt::Debug) {
        self.seen += 1;
        if !good {
            self.wrong.push(format!("{row}: {said:?}"));
        }
    }

    /// A row is right when both are equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, row: &str, found: &T, expected: &T) {
        self.check(row, found == expected, format!("found {found:?}, expected {expected:?}"));
    }

    /// Ends the table.
    ///
    /// # Panics
    /// When a row was wrong, or when there was none.
    pub fn finish(self) {
        assert!(self.seen > 0, "a table without rows checks nothing");
        let Self { wrong, seen } = self;
        assert!(wrong.is_empty(), "{} of {seen} rows are wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    }
}
