//! The server's own part of a change of its key: the new key made and kept, given to the server, taken back.

use quoll_fleet::registry::server_key::{KeyStage, ServerKeyChange, SlotStage};
use quoll_pki::{KeyKind, Passphrase, PrivateKey};
use quoll_tasmota::Fingerprint;
use serde_json::json;
use time::OffsetDateTime;

use super::desk::Desk;
use crate::audit::Audit;
use crate::cli::Common;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;
use crate::workshop::{self, Workshop};
use crate::{bell, trouble};

impl Desk {
    /// Makes the key. The file comes before the row: a row without its key would tell devices of nothing.
    pub(super) fn begin(&self) -> Outcome {
        let old = self.shown()?;
        let path = self.key_file();
        let print = |key: &PrivateKey| {
            fingerprint_of(key)
                .map_err(|why| Failure::new(Exit::Unusable, "the new key has no fingerprint").why(why))
        };
        // Where it is there already, a run stopped before its first row; the key that the server shows is no new one.
        let left = match path.exists() {
            true => Some(print(&PrivateKey::from_plain_file(&path).map_err(trouble::pki)?)?),
            false => None,
        };
        let new = match left.filter(|left| *left != old) {
            Some(new) => new,
            None => {
                let key = PrivateKey::generate(KeyKind::Rsa2048).map_err(trouble::pki)?;
                write_whole(&path, key.pkcs8_pem().as_bytes(), 0o600, true)?;
                print(&key)?
            }
        };
        self.registry.begin_server_key(&new.to_string(), &old.to_string()).map_err(trouble::registry)?;
        Ok(())
    }

    /// Key and certificate, in the folder and live.
    pub(super) async fn give(&self, common: &Common, change: &ServerKeyChange) -> Outcome {
        if self.shown()?.to_string() != change.fingerprint {
            let key = self.new_key(change)?;
            self.registry.advance_server_key(KeyStage::Switching).map_err(trouble::registry)?;
            exchange(common, self, key)?;
        }
        bell::ring(&self.home).await?;
        self.registry.advance_server_key(KeyStage::Switched).map_err(trouble::registry)
    }

    /// The server's old key again: every device still takes it.
    pub(super) async fn give_back(&self, common: &Common, change: &ServerKeyChange) -> Outcome {
        if self.shown()?.to_string() != change.previous {
            let name = workshop::server_name(&self.settings)?;
            let pki = workshop::open_pki(&self.settings)?;
            let key = pki.superseded_key(&name, &Passphrase::new("")).map_err(trouble::pki)?;
            let print = fingerprint_of(&key)
                .map_err(|why| Failure::new(Exit::Unusable, "the old key has no fingerprint").why(why))?;
            if print.to_string() != change.previous {
                return Err(Failure::new(
                    Exit::Unusable,
                    "the server's old key is not in the pki folder any more",
                )
                .why(format!("renewed/private has {print}"))
                .hint("go on instead: quoll server key switch"));
            }
            self.registry.advance_server_key(KeyStage::Switching).map_err(trouble::registry)?;
            exchange(common, self, key)?;
        }
        bell::ring(&self.home).await?;
        for (device, slot) in self.pinned()? {
            if slot.is_some_and(|slot| slot.stage == SlotStage::Proven) {
                self.registry.advance_slots(&device.name, SlotStage::Staged).map_err(trouble::registry)?;
            }
        }
        self.registry.advance_server_key(KeyStage::Staging).map_err(trouble::registry)
    }

    /// The file goes before the row: a row without it can be ended by the same command, a file without its row would be
    /// taken for the next key.
    pub(super) fn end(&self, word: &str) -> Outcome {
        let path = self.key_file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_failure("remove", &path, &error));
            }
            _ => {}
        }
        self.registry.end_server_key(word).map_err(trouble::registry)
    }
}

/// The server gets this key, and a certificate for it.
fn exchange(common: &Common, desk: &Desk, key: PrivateKey) -> Outcome {
    let mut workshop = Workshop::open(&desk.settings, common.passphrase(&desk.home))?;
    let name = workshop::server_name(&desk.settings)?;
    let names = workshop::alt_names(&desk.settings);
    let (authority, _) = workshop.authority()?;
    let audit = Audit::begin(&desk.home, "server.rekey", name.as_str(), &json!({ "staged": true }))?;
    let done = authority
        .rekey_server_with(
            &name,
            Some(&names),
            key,
            Some(quoll_pki::fitness::Devices::ANY),
            OffsetDateTime::now_utc(),
        )
        .map_err(trouble::pki);
    let rekeyed = audit.end(done, |rekeyed| json!({ "serial": rekeyed.certificate.serial().to_string() }))?;
    for warning in &rekeyed.warnings {
        eprintln!("quoll: note: {warning}");
    }
    Ok(())
}

pub(super) fn fingerprint_of(key: &PrivateKey) -> Result<Fingerprint, String> {
    let (n, e) = key.rsa_public_key().ok_or("it is no RSA key, and a device can pin no other")?;
    Fingerprint::of_rsa(&n, &e).map_err(|error| error.to_string())
}
