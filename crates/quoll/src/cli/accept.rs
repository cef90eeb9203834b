//! `quoll accept`: on the server's machine, the CA's answer is checked and put where it belongs.

use std::path::PathBuf;

use clap::Args;
use quoll_fleet::client::Role;
use quoll_fleet::device::DeviceName;
use quoll_fleet::registry::{Registry, RegistryError};
use quoll_pki::bundle::accept::{Acceptance, Accepted, AnswerBundle, CaChange};
use quoll_pki::{Pki, Profile};
use serde_json::json;
use time::OffsetDateTime;

use super::sign::{Compared, read};
use super::{Common, ServerArgs, client};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Format, Listing, print, print_facts};
use crate::{dates, trouble};

/// Certificates that a person is shown one by one; the rest is counted.
const SHOWN: usize = 30;

/// Arguments of `quoll accept`.
#[derive(Args, Debug)]
pub(crate) struct Accept {
    /// The answer, a .quollcert file
    file: PathBuf,
    #[command(flatten)]
    compared: Compared,
}

impl Accept {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let bad = |error| trouble::bundle_file(&self.file, error);
        let answer = AnswerBundle::read(&read(&self.file)?).map_err(bad)?;
        let now = OffsetDateTime::now_utc();
        let acceptance = Acceptance::prepare(&settings.pki, answer, now).map_err(bad)?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        for (name, profile, note) in acceptance.coming() {
            if profile == Profile::Client.to_string() {
                check_client(&home, &registry, name.as_str(), note)?;
            }
        }
        if acceptance.ca_change() == CaChange::First {
            let phrase = acceptance.ca_phrase();
            if common.is_for_people() {
                let name = acceptance.ca().subject_cn().unwrap_or("without a name");
                print(&format!(
                    "This machine does not know the CA yet.\n\nCA                 {name}\nThe CA's phrase    {phrase}\n\n"
                ))?;
            }
            self.compared.check(
                phrase,
                "Does `quoll ca sign` show the same phrase of the CA, and is it to be trusted?",
            )?;
        }
        let id = acceptance.id().to_owned();
        let file = self.file.display().to_string();
        let audit = Audit::begin(&home, "answer.accept", &id, &json!({ "file": file }))?;
        let done = acceptance.carry_out(now).map_err(bad).and_then(|done| {
            for accepted in &done.accepted {
                hand_over(&home, &settings, &registry, &done.pki, accepted)?;
            }
            acceptance.finish(now).map_err(bad)?;
            Ok(done)
        });
        let done = audit.end(
            done,
            |done| json!({ "certificates": done.accepted.len(), "revoked": done.revoked.len() }),
        )?;
        let ended = crate::bell::ring(&home).await?;

        if common.is_for_people() {
            list(&done.accepted).print(Format::Table)?;
            if done.accepted.len() > SHOWN {
                print(&format!("... and {} more\n", done.accepted.len() - SHOWN))?;
            }
        }
        let facts = [
            ("id", "Request", json!(id)),
            ("certificates", "Certificates", json!(done.accepted.len())),
            (
                "revoked",
                "Newly revoked",
                json!(done.revoked.iter().map(ToString::to_string).collect::<Vec<_>>()),
            ),
            ("crl_is_new", "Revocation list replaced", json!(done.crl_is_new)),
            ("ca", "CA", json!(done.pki.ca().subject_cn())),
            ("folder", "Folder", json!(done.pki.dir().display().to_string())),
            ("connections_ended", "Connections ended", json!(ended)),
        ];
        print_facts(&facts, common.output)
    }
}

/// Whatever could stop a client's certificate from being taken is said before anything is changed.
fn check_client(home: &Home, registry: &Registry, name: &str, note: Option<&str>) -> Outcome {
    let name = client::parse_name(name)?;
    let role = role_of(note)?;
    if let Some(known) = registry.client(&name).map_err(trouble::registry)? {
        client::refuse_other(&known, &role)?;
    }
    if let Ok(device) = DeviceName::parse(name.as_str())
        && let Some(device) = registry.device(&device).map_err(trouble::registry)?
        && device.state.is_present()
    {
        let owner = quoll_fleet::registry::Owner::Device(device.name);
        return Err(trouble::registry(RegistryError::NameTaken(owner)));
    }
    let folder = home.clients().join(name.as_str());
    if folder.exists() && !folder.is_dir() {
        return Err(
            Failure::new(Exit::Unusable, format!("{} is no folder", folder.display())).hint("move it away")
        );
    }
    Ok(())
}

/// What the registry and the client's folder are to have of a certificate.
fn hand_over(
    home: &Home,
    settings: &Settings,
    registry: &Registry,
    pki: &Pki,
    accepted: &Accepted,
) -> Outcome {
    let (certificate, serial) = (&accepted.certificate, accepted.certificate.serial().to_string());
    if accepted.profile == Profile::Client.to_string() {
        let name = client::parse_name(accepted.name.as_str())?;
        if registry.client(&name).map_err(trouble::registry)?.is_none() {
            registry.add_client(&name, &role_of(accepted.note.as_deref())?).map_err(trouble::registry)?;
        }
        registry
            .assign_client_certificate(&name, &serial, certificate.not_after())
            .map_err(trouble::registry)?;
        let empty = quoll_pki::Passphrase::new(String::new());
        let key = pki.private_key(&accepted.name, &empty).map_err(trouble::pki)?;
        let folder = home.clients().join(name.as_str());
        return client::write_bundle(&folder, settings, &name, certificate, &key);
    }
    // A device gets its certificate when it is added; one that is known gets its new one noted.
    if accepted.profile == Profile::Tasmota.to_string()
        && let Ok(name) = DeviceName::parse(accepted.name.as_str())
        && let Some(device) = registry.device(&name).map_err(trouble::registry)?
        && device.state.is_present()
    {
        registry.assign_certificate(&name, &serial, certificate.not_after()).map_err(trouble::registry)?;
    }
    Ok(())
}

fn role_of(note: Option<&str>) -> Outcome<Role> {
    let word = note.unwrap_or_default();
    Role::from_word(word).ok_or_else(|| {
        Failure::new(Exit::Unusable, format!("the request's record says the role {word:?}, which is none"))
            .hint("ask again: quoll request --client NAME")
    })
}

fn list(accepted: &[Accepted]) -> Listing {
    let columns = [
        ("name", "NAME"),
        ("profile", "PROFILE"),
        ("serial", "SERIAL NUMBER"),
        ("not_after", "VALID UNTIL"),
        ("replaces", "REPLACES"),
    ];
    let mut listing = Listing::new(&columns, "no certificates came");
    for one in accepted.iter().take(SHOWN) {
        listing.row(vec![
            json!(one.name.as_str()),
            json!(one.profile),
            json!(one.certificate.serial().to_string()),
            json!(dates::day(one.certificate.not_after())),
            json!(one.replaces.as_ref().map(ToString::to_string)),
        ]);
    }
    listing
}
