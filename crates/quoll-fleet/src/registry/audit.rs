//! The audit trail: who did what to whom, when. Each row holds the SHA-256 of the row before it and of itself, so that
//! a changed, removed or swapped row shows.
//!
//! What it is not: proof against somebody who rewrites the whole chain. Keep the head's hash elsewhere
//! ([`AuditHead`]; `quoll audit verify` prints it) and that shows too.

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError};

/// One row of the trail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When, to the millisecond.
    pub at: OffsetDateTime,
    /// Who acted, as given to [`Registry::acting_as`].
    pub actor: String,
    /// What was done, e.g. `device.revoked`.
    pub verb: String,
    /// To whom: the name.
    pub subject: String,
    /// The particulars, as JSON.
    pub detail: String,
    /// Its SHA-256, over the previous one and all of the above.
    pub hash: [u8; 32],
}

/// The end of the trail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditHead {
    /// Number of rows.
    pub seq: u64,
    /// Hash of the last one; zeros for an empty trail.
    pub hash: [u8; 32],
}

/// What is wrong with the trail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A row's content is not what its hash was made over.
    #[error("audit row {seq} was changed after it was written")]
    Changed {
        /// The row.
        seq: u64,
    },
    /// A row is missing, or rows changed places.
    #[error("audit row {expected} is missing (the next one found is {found})")]
    Gap {
        /// Number that should be there.
        expected: u64,
        /// Number found in its place.
        found: u64,
    },
    /// Rows are missing at the end, or were put there by somebody else.
    #[error("the audit trail ends at row {found}, it should end at {expected}")]
    End {
        /// Number of the last row as noted.
        expected: u64,
        /// Number of the last row found.
        found: u64,
    },
    /// The trail could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl AuditError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            _ => Some(
                "somebody wrote to fleet.db by hand, or it is a restored mixture: compare it with a backup, and trust \
                 neither the inventory nor the trail until you know"
                    .into(),
            ),
        }
    }
}

impl Registry {
    /// Adds a row of the caller's own, e.g. `ca.created`. Verbs of the registry write theirs themselves.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn record(&self, verb: &str, subject: &str, detail: &serde_json::Value) -> Result<(), RegistryError> {
        self.write(|tx| self.append(tx, verb, subject, detail))
    }

    /// The last `count` rows, oldest first.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn audit_tail(&self, count: u32) -> Result<Vec<AuditEntry>, RegistryError> {
        self.read(|tx| {
            let mut statement = tx.prepare(
                "SELECT seq, at, actor, verb, subject, detail, previous, hash FROM \
                 (SELECT * FROM audit ORDER BY seq DESC LIMIT ?1) ORDER BY seq",
            )?;
            let mut rows = statement.query([count])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(Row::read(row)?.entry()?);
            }
            Ok(entries)
        })
    }

    /// Reads the whole trail and checks each link.
    ///
    /// # Errors
    /// The first broken link, or a registry that cannot be read.
    pub fn verify_audit(&self) -> Result<AuditHead, AuditError> {
        self.read(|tx| {
            let mut statement = tx.prepare(
                "SELECT seq, at, actor, verb, subject, detail, previous, hash FROM audit ORDER BY seq",
            )?;
            let mut rows = statement.query([])?;
            let mut last = AuditHead { seq: 0, hash: [0; 32] };
            while let Some(row) = rows.next()? {
                let row = Row::read(row)?;
                match row.follows(&last) {
                    Ok(head) => last = head,
                    Err(error) => return Ok(Err(error)),
                }
            }
            let head = head(tx)?;
            if head == last {
                return Ok(Ok(head));
            }
            Ok(Err(AuditError::End { expected: head.seq, found: last.seq }))
        })?
    }

    /// Adds a row, in the transaction of the change that it tells about.
    pub(super) fn append(
        &self,
        tx: &Transaction<'_>,
        verb: &str,
        subject: &str,
        detail: &serde_json::Value,
    ) -> Result<(), Fault> {
        let last = head(tx)?;
        let mut row = Row {
            seq: i64::try_from(last.seq + 1).unwrap_or(i64::MAX),
            at: i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000)
                .unwrap_or(i64::MAX),
            actor: self.actor.clone(),
            verb: verb.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_string(),
            previous: last.hash.to_vec(),
            hash: Vec::new(),
        };
        row.hash = row.digest().to_vec();
        tx.execute(
            "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![row.seq, row.at, row.actor, row.verb, row.subject, row.detail, row.previous, row.hash],
        )?;
        tx.execute("UPDATE audit_head SET seq = ?1, hash = ?2", params![row.seq, row.hash])?;
        Ok(())
    }
}

struct Row {
    seq: i64,
    at: i64,
    actor: String,
    verb: String,
    subject: String,
    detail: String,
    previous: Vec<u8>,
    hash: Vec<u8>,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            actor: row.get(2)?,
            verb: row.get(3)?,
            subject: row.get(4)?,
            detail: row.get(5)?,
            previous: row.get(6)?,
            hash: row.get(7)?,
        })
    }

    /// Each field with its length before it, so that no two rows give the same bytes.
    fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let (seq, at) = (self.seq.to_be_bytes(), self.at.to_be_bytes());
        let texts = [&self.actor, &self.verb, &self.subject, &self.detail].map(|text| text.as_bytes());
        for field in [self.previous.as_slice(), &seq, &at].into_iter().chain(texts) {
            context.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(field);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    fn number(&self) -> u64 {
        u64::try_from(self.seq).unwrap_or(0)
    }

    fn follows(&self, last: &AuditHead) -> Result<AuditHead, AuditError> {
        let (expected, seq) = (last.seq + 1, self.number());
        if seq != expected {
            return Err(AuditError::Gap { expected, found: seq });
        }
        let hash = self.digest();
        if self.previous != last.hash || self.hash != hash {
            return Err(AuditError::Changed { seq });
        }
        Ok(AuditHead { seq, hash })
    }

    fn entry(self) -> Result<AuditEntry, RegistryError> {
        let bad =
            |what: &str| RegistryError::Row { table: "audit", detail: format!("row {}: {what}", self.seq) };
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.at) * 1_000_000)
            .map_err(|_| bad("time"))?;
        let hash = self.hash.as_slice().try_into().map_err(|_| bad("hash"))?;
        let seq = self.number();
        Ok(AuditEntry {
            seq,
            at,
            actor: self.actor,
            verb: self.verb,
            subject: self.subject,
            detail: self.detail,
            hash,
        })
    }
}

fn head(tx: &Transaction<'_>) -> Result<AuditHead, Fault> {
    let row: Option<(i64, Vec<u8>)> = tx
        .query_row("SELECT seq, hash FROM audit_head", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let bad = |detail: &str| RegistryError::Row { table: "audit_head", detail: detail.into() };
    let (seq, hash) = row.ok_or_else(|| bad("the row is missing"))?;
    let seq = u64::try_from(seq).map_err(|_| bad("a negative number"))?;
    let hash = hash.as_slice().try_into().map_err(|_| bad("a hash of the wrong length"))?;
    Ok(AuditHead { seq, hash })
}
