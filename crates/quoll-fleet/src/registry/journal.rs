//! The provisioning journal: each step of an enrolment, noted before it is taken and after.
//!
//! After a kill the last row says what may or may not have happened. Never holds a key.

use rusqlite::params;
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError, from_seconds, seconds};
use crate::device::{DeviceName, words};
use crate::limits::PROBLEM_MAX;
use crate::step::Step;

/// How far a step got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// About to be taken.
    Begun,
    /// Taken.
    Done,
    /// Not needed this time.
    Skipped,
    /// Tried in vain.
    Failed,
}

words!(Progress { Begun = "begun", Done = "done", Skipped = "skipped", Failed = "failed" });

/// One row of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalEntry {
    /// Its number; grows over all devices.
    pub seq: u64,
    /// Which attempt: the same for all steps of one run.
    pub run: String,
    /// The step.
    pub step: Step,
    /// How far it got.
    pub progress: Progress,
    /// When.
    pub at: OffsetDateTime,
    /// Particulars: a length, a cause.
    pub detail: String,
}

impl Registry {
    /// Notes a step.
    ///
    /// # Errors
    /// Where the registry cannot be written; then the step must not be taken.
    pub fn note_step(
        &self,
        device: &DeviceName,
        run: &str,
        step: Step,
        progress: Progress,
        detail: &str,
    ) -> Result<(), RegistryError> {
        let detail: String = detail.chars().take(PROBLEM_MAX).collect();
        self.write(|tx| {
            tx.execute(
                "INSERT INTO provisioning (device, run, step, state, at, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    device.as_str(),
                    run,
                    step.as_str(),
                    progress.as_str(),
                    seconds(OffsetDateTime::now_utc()),
                    detail
                ],
            )?;
            Ok(())
        })
    }

    /// The steps of a device, oldest first, the last `count` of them.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn steps(&self, device: &DeviceName, count: u32) -> Result<Vec<JournalEntry>, RegistryError> {
        self.read(|tx| {
            let mut statement = tx.prepare(
                "SELECT * FROM (SELECT seq, run, step, state, at, detail FROM provisioning WHERE device = ?1 \
                 ORDER BY seq DESC LIMIT ?2) ORDER BY seq",
            )?;
            let mut rows = statement.query(params![device.as_str(), count])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                let (seq, step, progress): (i64, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
                let bad = || {
                    let detail = format!("{seq}: step {step:?}, state {progress:?}");
                    Fault::from(RegistryError::Row { table: "provisioning", detail })
                };
                entries.push(JournalEntry {
                    seq: u64::try_from(seq).map_err(|_| bad())?,
                    run: row.get(1)?,
                    step: Step::from_word(&step).ok_or_else(bad)?,
                    progress: Progress::from_word(&progress).ok_or_else(bad)?,
                    at: from_seconds("provisioning", row.get(4)?)?,
                    detail: row.get(5)?,
                });
            }
            Ok(entries)
        })
    }

    /// Whether we ever began this step on the device since it was registered: then what it left behind is ours. Told by the
    /// rows' order, since clocks jump.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn ever_began(&self, device: &DeviceName, step: Step) -> Result<bool, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT count(*) FROM provisioning JOIN devices ON devices.name = provisioning.device \
                       WHERE provisioning.device = ?1 AND step = ?2 AND \
                       CASE WHEN journal_from IS NULL THEN at >= first_seen ELSE seq > journal_from END";
            let count: i64 = tx.query_row(sql, params![device.as_str(), step.as_str()], |row| row.get(0))?;
            Ok(count > 0)
        })
    }
}
