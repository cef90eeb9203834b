//! Revoking a device or a client: the registry, the folder's index, the running node, and last the list for others.

use std::time::Instant;

use quoll_fleet::registry::{Owner, Registry, RegistryError};
use quoll_fleet::revoke::{self, Revocation, RevokeError};
use quoll_pki::{Pki, RevocationReason};
use serde_json::json;
use time::OffsetDateTime;

use crate::cli::device::RevokeArgs;
use crate::cli::{Common, ServerArgs};
use crate::config::Settings;
use crate::control::{self, Answer, Question};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::print_facts;
use crate::workshop::{self, Workshop};
use crate::{bell, trouble};

/// Revokes, and says what came of it. The caller has asked.
pub(crate) async fn revoke(common: &Common, owner: &Owner, how: &RevokeArgs) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let begun = Instant::now();
    let (done, ended) = shut_out(&home, &settings, &registry, owner, how.reason).await?;
    let took = begun.elapsed();
    let crl = write_lists(common, &settings, &registry)?;
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

/// In the registry, in the folders of both CAs during a rollover, and at the running node's door; how many connections
/// that ended. The lists for others are [`write_lists`]'s.
pub(crate) async fn shut_out(
    home: &Home,
    settings: &Settings,
    registry: &Registry,
    owner: &Owner,
    reason: RevocationReason,
) -> Outcome<(Revocation, Option<usize>)> {
    let folders = workshop::open_pki(settings).and_then(|pki| Ok((pki, workshop::next_pki(settings)?)));
    let (pki, next) = match folders {
        Ok(folders) => folders,
        Err(failure) => return Err(kept_out(home, owner.name(), failure).await),
    };
    let now = OffsetDateTime::now_utc();
    let mut done = match revoke::revoke(registry, &pki, owner, reason, now) {
        Err(error @ RevokeError::Registry(RegistryError::Unknown(_))) => return Err(failure(error)),
        Err(error @ RevokeError::Registry(_)) => {
            return Err(kept_out(home, owner.name(), failure(error)).await);
        }
        other => other,
    };
    let both = match (&mut done, &next) {
        // What this CA does not know, the next one may have issued.
        (Ok(done), Some(next)) => in_next(next, done, reason, now),
        _ => Ok(()),
    };
    // Whatever the folders said, the door is shut in the registry, and the node must hear of it.
    let ended = bell::ring(home).await;
    let done = done.map_err(failure)?;
    both?;
    Ok((done, ended?))
}

/// Nothing can be written, on a full disk or in a damaged folder. A running node can keep somebody out all the same, for as long as it
/// runs; what to tell then.
pub(crate) async fn kept_out(home: &Home, who: &str, failure: Failure) -> Failure {
    let question = Question::KeepOut { who: who.to_owned() };
    let Ok(Some(Answer::InForce { ended })) = control::ask(home, &question).await else { return failure };
    let connections = match ended {
        0 => "it was not connected".to_owned(),
        count => format!("connections ended: {count}"),
    };
    let what =
        format!("{who} is not revoked, but the running node keeps it out until it stops ({connections})");
    let first = failure.hint.map_or_else(String::new, |hint| format!(": {hint}"));
    Failure::new(Exit::Partial, what)
        .why(failure.what)
        .hint(format!("run the same command again before the node is started anew{first}"))
}

fn in_next(next: &Pki, done: &mut Revocation, reason: RevocationReason, now: OffsetDateTime) -> Outcome {
    for serial in std::mem::take(&mut done.unknown) {
        let revoked = match serial.parse() {
            Ok(number) => Pki::revoke_among([next], &number, reason, now).map_err(trouble::pki)?,
            Err(_) => None,
        };
        match revoked {
            Some(revoked) => done.already &= revoked.already,
            None => done.unknown.push(serial),
        }
    }
    Ok(())
}

/// Writes the revocation lists that are behind, of both CAs during a rollover, where that needs nobody's answer; how they
/// stand then. Quoll's broker needs none, so it is no failure where one must wait.
pub(crate) fn write_lists(common: &Common, settings: &Settings, registry: &Registry) -> Outcome<String> {
    let now = OffsetDateTime::now_utc();
    let mut written = false;
    let mut behind = Vec::new();
    for settings in in_force(settings)? {
        let pki = workshop::open_pki(&settings)?;
        if !pki.crl_is_behind(now).map_err(trouble::pki)? {
            continue;
        }
        match write_list(common, &settings, registry) {
            Ok(()) => written = true,
            Err(why) => behind.push(format!("behind ({why}); {}", next_step(&settings))),
        }
    }
    Ok(match (behind.is_empty(), written) {
        (true, true) => "written".into(),
        (true, false) => "up to date".into(),
        (false, _) => behind.join("; "),
    })
}

fn write_list(common: &Common, settings: &Settings, registry: &Registry) -> Result<(), String> {
    let source = common.home().map(|home| common.passphrase(&home).may_ask(false));
    let source = source.map_err(|failure| failure.what)?;
    if !source.has_file() {
        return Err("the CA is locked".into());
    }
    let written = Workshop::open(settings, source).and_then(|mut workshop| {
        let (authority, _) = workshop.authority()?;
        revoke::publish_crl(registry, &authority, OffsetDateTime::now_utc())
            .map_err(|error| Failure::new(Exit::Unusable, &error).maybe_hint(error.hint()))
    });
    written.map_err(|failure| failure.what)
}

/// Says which lists are behind after an act that voided a certificate, and what writes them.
pub(crate) fn tell_of_lists(settings: &Settings) {
    let now = OffsetDateTime::now_utc();
    for settings in in_force(settings).unwrap_or_default() {
        let Ok(pki) = workshop::open_pki(&settings) else { continue };
        // A list that was never published is nobody's business.
        let is_there = pki.published_crl().is_ok_and(|list| list.is_some());
        if is_there && pki.crl_is_behind(now).unwrap_or_default() {
            let ca = pki.ca().subject_cn().unwrap_or("without a name").to_owned();
            eprintln!("quoll: note: the revocation list of {ca} is behind; {}", next_step(&settings));
        }
    }
}

/// The settings with each CA's folder in force: two during a rollover.
fn in_force(settings: &Settings) -> Outcome<Vec<Settings>> {
    let issuing = workshop::issuing(settings)?;
    let one = issuing.pki == settings.pki;
    Ok(if one { vec![issuing] } else { vec![settings.clone(), issuing] })
}

fn next_step(settings: &Settings) -> String {
    match workshop::has_ca_key(settings) {
        true => "`quoll ca crl` writes it, for servers that read it".into(),
        false => format!(
            "its CA's key is not here: `quoll --pki {} request` asks for it, for servers that read it",
            settings.pki.display()
        ),
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
