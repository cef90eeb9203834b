//! Revoking a device or a client: the registry, the folder's index, the running node, and last the list for others.

use std::time::Instant;

use quoll_fleet::registry::{Owner, Registry, RegistryError};
use quoll_fleet::revoke::{self, RevokeError};
use serde_json::json;
use time::OffsetDateTime;

use crate::cli::device::RevokeArgs;
use crate::cli::{Common, ServerArgs};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::print_facts;
use crate::workshop::{self, Workshop};
use crate::{bell, trouble};

/// Revokes, and says what came of it. The caller has asked.
pub(crate) async fn revoke(common: &Common, owner: &Owner, how: &RevokeArgs) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let pki = workshop::open_pki(&settings)?;
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let begun = Instant::now();
    let now = OffsetDateTime::now_utc();
    let next = workshop::next_pki(&settings)?;
    let mut done = revoke::revoke(&registry, &pki, owner, how.reason, now);
    if let (Ok(done), Some(next)) = (&mut done, &next) {
        // What this CA does not know, the next one may have issued.
        in_next(next, done, how.reason, now)?;
    }
    if matches!(&done, Err(RevokeError::Registry(_))) {
        return done.map(|_| ()).map_err(failure);
    }
    // Whatever the folder said, the door is shut in the registry, and the node must hear of it.
    let ended = bell::ring(&home).await;
    let took = begun.elapsed();
    let done = done.map_err(failure)?;
    let ended = ended?;
    let mut crl =
        if done.crl_is_behind { publish(common, &settings, &registry) } else { "up to date".into() };
    if let Some(next) = next
        && next.crl_is_behind(now).map_err(trouble::pki)?
    {
        crl = publish(common, &workshop::issuing(&settings)?, &registry);
    }
    let live = match ended {
        None => "no node is running; it will be refused when one starts".to_owned(),
        Some(0) => format!("it was not connected; refused from now on ({} ms)", took.as_millis()),
        Some(count) => format!("{count} ended, refused from now on ({} ms)", took.as_millis()),
    };
    let facts = [
        ("revoked", "Revoked", json!(owner.name())),
        ("reason", "Reason", json!(how.reason.to_string())),
        ("serials", "Certificates", json!(done.serials)),
        ("connections_ended", "Connections", if common.is_for_people() { json!(live) } else { json!(ended) }),
        ("crl", "Revocation list", json!(crl)),
        ("already", "Was revoked before", json!(done.already)),
    ];
    print_facts(&facts, common.output)
}

fn in_next(
    next: &quoll_pki::Pki,
    done: &mut revoke::Revocation,
    reason: quoll_pki::RevocationReason,
    now: OffsetDateTime,
) -> Outcome {
    let mut unknown = Vec::new();
    for serial in std::mem::take(&mut done.unknown) {
        let known = match serial.parse() {
            Ok(number) => next.revoke(&number, reason, now),
            Err(_) => {
                unknown.push(serial);
                continue;
            }
        };
        match known {
            Ok(revoked) => done.already &= revoked.already,
            Err(quoll_pki::PkiError::UnknownSerial { .. }) => unknown.push(serial),
            Err(error) => return Err(trouble::pki(error)),
        }
    }
    done.unknown = unknown;
    Ok(())
}

/// Writes the revocation list where that needs nobody's answer. Quoll's broker does not need it, so it is no failure
/// where it must wait.
fn publish(common: &Common, settings: &crate::config::Settings, registry: &Registry) -> String {
    let behind = |why: &str| format!("behind ({why}); `quoll ca crl` writes it, for servers that read it");
    let Ok(home) = common.home() else { return behind("no home") };
    let source = common.passphrase(&home).may_ask(false);
    if !source.has_file() {
        return behind("the CA is locked");
    }
    let written = Workshop::open(settings, source).and_then(|mut workshop| {
        let (authority, _) = workshop.authority()?;
        revoke::publish_crl(registry, &authority, OffsetDateTime::now_utc())
            .map_err(|error| Failure::new(Exit::Unusable, &error).maybe_hint(error.hint()))
    });
    match written {
        Ok(()) => "written".into(),
        Err(failure) => behind(&failure.what),
    }
}

pub(crate) fn failure(error: RevokeError) -> Failure {
    let exit = match &error {
        RevokeError::Registry(RegistryError::Unknown(_)) => Exit::NotFound,
        RevokeError::Registry(_) => Exit::Unusable,
        RevokeError::Pki { .. } => Exit::Partial,
        _ => Exit::System,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}
