//! `quoll ca renew`, `revoke` and `unhold`: the later life of the CA and of what it issued.

use clap::Args;
use quoll_fleet::registry::{Owner, Registry, RegistryError};
use quoll_pki::{AltNames, CertName, Certificate, Pki, Renewal, RevocationReason, Serial};
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs, confirm};
use crate::audit::Audit;
use crate::bell;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::print_facts;
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// Arguments of `quoll ca renew`.
#[derive(Args, Debug)]
pub(crate) struct Renew {
    /// The certificate to renew, with the key it has; without a name, the CA itself
    name: Option<String>,
    /// Life in days from now [default: the profile's; 20 years for the CA]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Host names instead of those it has (may be repeated)
    #[arg(long, value_name = "NAME", requires = "name")]
    dns: Vec<String>,
    /// Addresses instead of those it has (may be repeated)
    #[arg(long, value_name = "ADDRESS", requires = "name")]
    ip: Vec<std::net::IpAddr>,
    /// The profile [default: the one it looks like]
    #[arg(long, value_name = "PROFILE", requires = "name")]
    profile: Option<String>,
}

/// Arguments of `quoll ca revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Its name, or its serial number
    certificate: String,
    /// Why: keyCompromise, superseded, cessationOfOperation, affiliationChanged, CACompromise, unspecified; certificateHold
    /// can be lifted again
    #[arg(long, default_value = "unspecified", value_parser = super::device::parse_reason)]
    reason: RevocationReason,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Arguments of `quoll ca unhold`.
#[derive(Args, Debug)]
pub(crate) struct Unhold {
    /// Its name, or its serial number
    certificate: String,
}

impl Renew {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        match &self.name {
            Some(name) => self.certificate(common, &home, &settings, &mut workshop, name).await,
            None => self.ca(common, &home, &mut workshop).await,
        }
    }

    async fn certificate(
        &self,
        common: &Common,
        home: &Home,
        settings: &Settings,
        workshop: &mut Workshop,
        name: &str,
    ) -> Outcome {
        let name = cert_name(name)?;
        let profile = self.profile.as_deref().map(|word| super::ca_issue::profile(workshop.pki(), word));
        let names = AltNames { dns: self.dns.clone(), ip: self.ip.clone() };
        let renewal = Renewal {
            alt_names: (!names.is_empty()).then_some(names),
            days: self.days,
            profile: profile.transpose()?,
        };
        let (authority, _) = workshop.authority()?;
        let audit = Audit::begin(home, "ca.renew", name.as_str(), &json!({ "days": self.days }))?;
        let done = authority.renew(&name, &renewal, OffsetDateTime::now_utc()).map_err(trouble::pki);
        let renewed =
            audit.end(done, |renewed| json!({ "serial": renewed.certificate.serial().to_string() }))?;
        for warning in &renewed.warnings {
            eprintln!("quoll: note: {warning}");
        }
        record(home, settings, &renewed.previous, &renewed.certificate)?;
        bell::ring(home).await?;
        let facts = [
            ("name", "Name", json!(name.as_str())),
            ("serial", "Serial number", json!(renewed.certificate.serial().to_string())),
            ("previous", "Replaces", json!(renewed.previous.to_string())),
            ("not_after", "Valid until", json!(dates::day(renewed.certificate.not_after()))),
            ("key", "Key", json!("the same as before")),
        ];
        print_facts(&facts, common.output)
    }

    async fn ca(&self, common: &Common, home: &Home, workshop: &mut Workshop) -> Outcome {
        let ca = workshop.pki().ca().subject_cn().unwrap_or("without a name").to_owned();
        let (authority, _) = workshop.authority()?;
        let audit = Audit::begin(home, "ca.extend", &ca, &json!({ "days": self.days }))?;
        let done = authority.extend_ca(self.days, OffsetDateTime::now_utc()).map_err(trouble::pki);
        let extended =
            audit.end(done, |extended| json!({ "until": dates::stamp(extended.certificate.not_after()) }))?;
        bell::ring(home).await?;
        let facts = [
            ("ca", "CA", json!(ca)),
            ("previous_end", "Was valid until", json!(dates::day(extended.previous_end))),
            ("not_after", "Valid until", json!(dates::day(extended.certificate.not_after()))),
            ("serial", "Serial number", json!(extended.certificate.serial().to_string())),
            ("same_serial", "Same serial number", json!(extended.same_serial)),
            ("kept", "The old one", json!(extended.kept.display().to_string())),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            eprintln!(
                "quoll: note: key and name are the same, so devices need nothing new; give the new ca.crt to clients that \
                 have the old one before that ends"
            );
        }
        Ok(())
    }
}

impl Revoke {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let (settings, pki, serial) = find_in_both(settings, &self.certificate, |entry| !entry.is_revoked())?;
        let subject = self.certificate.as_str();
        match self.reason {
            RevocationReason::CertificateHold => {}
            _ => confirm(
                self.yes,
                &format!("Revoke {subject} (serial number {serial})? This cannot be undone."),
            )?,
        }
        let detail = json!({ "serial": serial.to_string(), "reason": self.reason.to_string() });
        let audit = Audit::begin(&home, "ca.revoke", subject, &detail)?;
        let now = OffsetDateTime::now_utc();
        let done = pki.revoke(&serial, self.reason, now).map_err(trouble::pki);
        let revoked = audit.end(done, |revoked| json!({ "already": revoked.already }))?;
        if self.reason != RevocationReason::CertificateHold {
            void(&home, &serial, self.reason)?;
        }
        let ended = bell::ring(&home).await?;
        let facts = [
            ("revoked", "Revoked", json!(revoked.common_name)),
            ("serial", "Serial number", json!(serial.to_string())),
            ("reason", "Reason", json!(revoked.reason.to_string())),
            ("since", "Since", json!(dates::stamp(revoked.at))),
            ("already", "Was revoked before", json!(revoked.already)),
            ("connections_ended", "Connections ended", json!(ended)),
            ("crl", "Revocation list", json!(crl(common, &home, &settings, &pki, now)?)),
        ];
        print_facts(&facts, common.output)
    }
}

impl Unhold {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let (settings, pki, serial) =
            find_in_both(settings, &self.certificate, |entry| entry.state.is_on_hold())?;
        let detail = json!({ "serial": serial.to_string() });
        let audit = Audit::begin(&home, "ca.unhold", &self.certificate, &detail)?;
        let now = OffsetDateTime::now_utc();
        let done = pki.release(&serial, now).map_err(trouble::pki);
        let released = audit.end(done, |released| json!({ "already": released.already }))?;
        bell::ring(&home).await?;
        let facts = [
            ("released", "Released", json!(released.common_name)),
            ("serial", "Serial number", json!(serial.to_string())),
            ("already", "Was not on hold", json!(released.already)),
            ("crl", "Revocation list", json!(crl(common, &home, &settings, &pki, now)?)),
        ];
        print_facts(&facts, common.output)
    }
}

/// The registry follows: the certificate is void there, too, and an owner whose last one it was is shut out.
fn void(home: &Home, serial: &Serial, reason: RevocationReason) -> Outcome {
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let Some(known) = registry.certificate(&serial.to_string()).map_err(trouble::registry)? else {
        return Ok(());
    };
    registry.void_certificate(&known.serial, &reason.to_string()).map_err(trouble::registry)?;
    let owner = known.owner;
    let others = registry.certificates_of(&owner).map_err(trouble::registry)?;
    if others.iter().any(|other| !other.revoked) {
        eprintln!("quoll: note: {owner} has another certificate, which stays good");
        return Ok(());
    }
    match registry.shut_out(&owner, &reason.to_string()) {
        Ok(_) => eprintln!("quoll: note: it was the certificate of the {owner}, which is revoked with it"),
        // A device or client that is gone has nothing more to lose.
        Err(RegistryError::Unknown(_) | RegistryError::Transition { .. }) => {}
        Err(error) => return Err(trouble::registry(error)),
    }
    Ok(())
}

/// The registry follows a renewal by hand: the new certificate is the same one's, and goes into a client's files.
fn record(home: &Home, settings: &Settings, previous: &Serial, certificate: &Certificate) -> Outcome {
    if !home.fleet_db().exists() {
        return Ok(());
    }
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    let Some(known) = registry.certificate(&previous.to_string()).map_err(trouble::registry)? else {
        return Ok(());
    };
    let (serial, until) = (certificate.serial().to_string(), certificate.not_after());
    match &known.owner {
        Owner::Device(name) => {
            registry.assign_certificate(name, &serial, until).map_err(trouble::registry)?;
            eprintln!(
                "quoll: note: the device {name} has the old certificate until it is given the new one: \
                 quoll device add {name} --at ADDRESS --replace-key"
            );
        }
        Owner::Client(name) => {
            registry.assign_client_certificate(name, &serial, until).map_err(trouble::registry)?;
            super::client::refresh_files(home, settings, name, certificate)?;
        }
    }
    Ok(())
}

/// The certificate meant, in the CA's folder or in that of the CA that is being introduced.
fn find_in_both(
    settings: Settings,
    text: &str,
    wanted: impl Fn(&quoll_pki::IndexEntry) -> bool,
) -> Outcome<(Settings, Pki, Serial)> {
    let issuing = workshop::issuing(&settings)?;
    if issuing.pki != settings.pki {
        let next = workshop::open_pki(&issuing)?;
        let entries = next.entries().map_err(trouble::pki)?;
        if let Ok(serial) = find(&next, text, &wanted)
            && entries.iter().any(|entry| entry.serial == serial && wanted(entry))
        {
            return Ok((issuing, next, serial));
        }
    }
    let pki = workshop::open_pki(&settings)?;
    let serial = find(&pki, text, wanted)?;
    Ok((settings, pki, serial))
}

/// Writes the revocation list where that needs nobody's answer, and says how it stands.
fn crl(
    common: &Common,
    home: &Home,
    settings: &Settings,
    pki: &Pki,
    now: OffsetDateTime,
) -> Outcome<&'static str> {
    if !pki.crl_is_behind(now).map_err(trouble::pki)? {
        return Ok("up to date");
    }
    let behind = "behind; `quoll ca crl` writes it, for servers that read it";
    let source = common.passphrase(home).may_ask(false);
    if !source.has_file() {
        return Ok(behind);
    }
    match Workshop::open(settings, source).and_then(|mut workshop| workshop.publish_crl()) {
        Ok(()) => Ok("written"),
        Err(_) => Ok(behind),
    }
}

pub(super) fn cert_name(text: &str) -> Outcome<CertName> {
    CertName::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{text:?} cannot be the name of a certificate")).why(error)
    })
}

/// The certificate meant: by its name, the newest that `wanted` says yes to first; else by its serial number.
pub(super) fn find(
    pki: &Pki,
    text: &str,
    wanted: impl Fn(&quoll_pki::IndexEntry) -> bool,
) -> Outcome<Serial> {
    let entries = pki.entries().map_err(trouble::pki)?;
    let named: Vec<_> = entries.iter().filter(|entry| entry.common_name().as_deref() == Some(text)).collect();
    let in_use = match CertName::parse(text) {
        Ok(name) => pki.certificate(&name).map_err(trouble::pki)?.map(|certificate| certificate.serial()),
        Err(_) => None,
    };
    let in_use = named.iter().find(|entry| in_use.as_ref() == Some(&entry.serial) && wanted(entry));
    let best = in_use.or_else(|| named.iter().rev().find(|entry| wanted(entry))).or_else(|| named.last());
    if let Some(entry) = best {
        return Ok(entry.serial.clone());
    }
    let serial = text.parse::<Serial>().ok();
    serial.filter(|serial| entries.iter().any(|entry| entry.serial == *serial)).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no certificate {text}"))
            .hint("quoll ca check lists them all")
    })
}
