//! Which CAs a device or client is known to trust: what a change of the CA waits for. A CA is named by the mark of its
//! name and key (`Certificate::anchor_id` of quoll-pki), so a renewal of the CA's certificate changes nothing here.
//! What it is not: a list of who has a certificate of which CA. The pki folders say that.

use rusqlite::{Row, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Owner, Registry, RegistryError, certificates, from_seconds, seconds};
use crate::client::ClientName;
use crate::device::{DeviceName, words};

/// The mark that stands for every CA: the holder compares the server's key and looks at no CA (facts §4).
pub const PINS_THE_KEY: &str = "pin";

/// How it is known.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Evidence {
    /// The owner said so: a device was flashed with firmware that has it, a client was given the file.
    Said,
    /// It connected while the server showed a certificate of that CA.
    Seen,
}

words!(Evidence { Said = "said", Seen = "seen" });

/// That somebody trusts a CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownAnchor {
    /// Who.
    pub owner: Owner,
    /// The CA's mark, or [`PINS_THE_KEY`].
    pub anchor: String,
    /// How that is known.
    pub evidence: Evidence,
    /// Since when.
    pub since: OffsetDateTime,
}

impl Registry {
    /// Notes that `owner` trusts this CA. What was seen is not made less by what is said. Whether it is news.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] where there is no such owner.
    pub fn note_anchor(
        &self,
        owner: &Owner,
        anchor: &str,
        evidence: Evidence,
    ) -> Result<bool, RegistryError> {
        self.write(|tx| {
            self.require_owner(tx, owner)?;
            let sql = "INSERT INTO anchors (owner_kind, owner, anchor, evidence, since) VALUES (?1, ?2, ?3, ?4, ?5) \
                       ON CONFLICT DO UPDATE SET evidence = excluded.evidence, since = excluded.since \
                       WHERE evidence = 'said' AND excluded.evidence = 'seen'";
            let now = seconds(OffsetDateTime::now_utc());
            let kind = certificates::kind(owner);
            let changed = tx.execute(sql, params![kind, owner.name(), anchor, evidence.as_str(), now])? > 0;
            if changed {
                let detail = json!({ "anchor": anchor, "evidence": evidence.as_str() });
                self.append(tx, "anchor.known", owner.name(), &detail)?;
            }
            Ok(changed)
        })
    }

    /// Takes that back. Whether it was there.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_anchor(&self, owner: &Owner, anchor: &str) -> Result<bool, RegistryError> {
        self.write(|tx| {
            let sql = "DELETE FROM anchors WHERE owner_kind = ?1 AND owner = ?2 AND anchor = ?3";
            let gone = tx.execute(sql, params![certificates::kind(owner), owner.name(), anchor])? > 0;
            if gone {
                self.append(tx, "anchor.forgotten", owner.name(), &json!({ "anchor": anchor }))?;
            }
            Ok(gone)
        })
    }

    /// Everything that is known of who trusts which CA, by owner.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn anchors(&self) -> Result<Vec<KnownAnchor>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT owner_kind, owner, anchor, evidence, since FROM anchors ORDER BY owner, anchor";
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
    }

    fn require_owner(&self, tx: &rusqlite::Transaction<'_>, owner: &Owner) -> Result<(), Fault> {
        let table = match owner {
            Owner::Device(_) => "devices",
            Owner::Client(_) => "clients",
        };
        let sql = format!("SELECT count(*) FROM {table} WHERE name = ?1 AND state <> 'removed'");
        let count: i64 = tx.query_row(&sql, [owner.name()], |row| row.get(0))?;
        if count == 0 { Err(RegistryError::Unknown(owner.clone()).into()) } else { Ok(()) }
    }
}

fn read(row: &Row<'_>) -> Result<KnownAnchor, Fault> {
    let (kind, name, evidence): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
    let bad =
        |what: &str| RegistryError::Row { table: "anchors", detail: format!("{kind} {name:?}: {what}") };
    let owner = match kind.as_str() {
        certificates::DEVICE => Owner::Device(DeviceName::parse(&name).map_err(|_| bad("name"))?),
        certificates::CLIENT => Owner::Client(ClientName::parse(&name).map_err(|_| bad("name"))?),
        _ => return Err(bad("kind").into()),
    };
    Ok(KnownAnchor {
        owner,
        anchor: row.get(2)?,
        evidence: Evidence::from_word(&evidence).ok_or_else(|| bad("evidence"))?,
        since: from_seconds("anchors", row.get(4)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Role;

    #[test]
    fn what_was_seen_outweighs_what_was_said_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("fleet.db")).unwrap();
        let owner = Owner::Client(ClientName::parse("hass").unwrap());
        let unknown = registry.note_anchor(&owner, "a", Evidence::Said).unwrap_err();
        assert!(matches!(unknown, RegistryError::Unknown(_)), "{unknown}");
        registry.add_client(&ClientName::parse("hass").unwrap(), &Role::Everything).unwrap();
        assert!(registry.note_anchor(&owner, "a", Evidence::Said).unwrap());
        assert!(!registry.note_anchor(&owner, "a", Evidence::Said).unwrap(), "no news");
        assert!(registry.note_anchor(&owner, "a", Evidence::Seen).unwrap());
        assert!(!registry.note_anchor(&owner, "a", Evidence::Said).unwrap(), "it was seen");
        let known = registry.anchors().unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!((known[0].evidence, known[0].anchor.as_str()), (Evidence::Seen, "a"));
        assert!(registry.forget_anchor(&owner, "a").unwrap());
        assert!(!registry.forget_anchor(&owner, "a").unwrap());
        assert!(registry.anchors().unwrap().is_empty());
        registry.verify_audit().unwrap();
    }
}
