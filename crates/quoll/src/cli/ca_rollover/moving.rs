//! What goes from the old CA to the next one, for the key that it has: clients, other servers, the server of this home, which
//! can come back.

use std::path::PathBuf;

use quoll_fleet::registry::Owner;
use quoll_pki::{Pki, RevocationReason};
use serde_json::json;
use time::OffsetDateTime;

use super::super::ca_life::cert_name;
use super::super::{Common, ServerArgs};
use super::{Move, Server, Site, name_of, named};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Listing, print, print_facts};
use crate::workshop::{self, Workshop};
use crate::{bell, dates, revocation, trouble};

impl Move {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let site = Site::open(common, &ServerArgs::default())?;
        let next = site.next()?;
        let mut names = self.names.clone();
        if self.clients {
            let clients = site.registry.clients().map_err(trouble::registry)?.into_iter();
            names.extend(
                clients.filter(|it| !it.revoked && it.serial.is_some()).map(|it| it.name.to_string()),
            );
        }
        let server = workshop::server_name(&site.settings)?;
        for name in &names {
            if server.as_str().eq_ignore_ascii_case(name) {
                return Err(Failure::new(Exit::Usage, format!("{name} is the server of this home"))
                    .hint("quoll ca rollover server, when everybody trusts the next CA"));
            }
            if let Ok(Owner::Device(name)) = site.owner(name) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{name} is a device, which must be given its certificate"),
                )
                .hint(format!("quoll device add {name} --at ADDRESS --replace-key")));
            }
        }
        let mut bench = Workshop::open(&site.settings, common.passphrase(&site.home))?
            .at(&Settings { pki: next.dir().to_owned(), ..site.settings.clone() })?;
        let (authority, _) = bench.authority()?;
        let mut listing = Listing::new(
            &[
                ("name", "NAME"),
                ("serial", "SERIAL NUMBER"),
                ("not_after", "VALID UNTIL"),
                ("files", "FILES"),
            ],
            "nothing to move: they have certificates of the next CA",
        );
        for text in &names {
            let name = cert_name(text)?;
            let is_there =
                |pki: &Pki| pki.certificate(&name).map(|there| there.is_some()).map_err(trouble::pki);
            if !is_there(&site.folders.current)? && is_there(next)? {
                // It came after the start.
                continue;
            }
            let audit = Audit::begin(&site.home, "ca.rollover.move", text, &json!({}))?;
            let now = OffsetDateTime::now_utc();
            let done = authority.take_over(&site.folders.current, &name, now).map_err(trouble::pki);
            let moved = audit.end(done, |it| json!({ "serial": it.certificate.serial().to_string() }))?;
            for warning in &moved.warnings {
                eprintln!("quoll: note: {name}: {warning}");
            }
            let mut folder = None;
            if let Ok(Owner::Client(client)) = site.owner(text) {
                let serial = moved.certificate.serial().to_string();
                site.registry
                    .assign_client_certificate(&client, &serial, moved.certificate.not_after())
                    .map_err(trouble::registry)?;
                folder = super::super::client::refresh_files(
                    &site.home,
                    &site.settings,
                    &client,
                    &moved.certificate,
                )?;
            }
            listing.row(vec![
                json!(text),
                json!(moved.certificate.serial().to_string()),
                json!(dates::day(moved.certificate.not_after())),
                json!(folder.as_ref().map(|it: &PathBuf| it.display().to_string())),
            ]);
        }
        bell::ring(&site.home).await?;
        listing.print(common.output)
    }
}

impl Server {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let site = Site::open(common, &self.server)?;
        let next = site.next()?;
        let name = workshop::server_name(&site.settings)?;
        if self.back {
            return self.back(common, &site, next).await;
        }
        let standing = site.standing()?;
        let ignorant: Vec<_> = standing.ignorant().map(|row| row.name.as_str()).collect();
        if !ignorant.is_empty() && !self.force && !site.folders.serves_next {
            return Err(Failure::new(
                Exit::Unusable,
                format!(
                    "{} would lose the server: they are not known to trust {}",
                    named(&ignorant),
                    name_of(next)
                ),
            )
            .why("nothing was changed")
            .hint("quoll ca rollover status says what each needs; --force does it all the same"));
        }
        let mut bench = Workshop::open(&site.settings, common.passphrase(&site.home))?
            .at(&Settings { pki: next.dir().to_owned(), ..site.settings.clone() })?;
        let (authority, _) = bench.authority()?;
        let audit =
            Audit::begin(&site.home, "ca.rollover.server", name.as_str(), &json!({ "force": self.force }))?;
        let now = OffsetDateTime::now_utc();
        let done = authority.take_over(&site.folders.current, &name, now).map_err(trouble::pki);
        let moved = audit.end(done, |it| json!({ "serial": it.certificate.serial().to_string() }))?;
        for warning in &moved.warnings {
            eprintln!("quoll: note: {warning}");
        }
        bell::ring(&site.home).await?;
        let facts = [
            ("name", "Server", json!(name.as_str())),
            ("issuer", "Certificate by", json!(name_of(next))),
            ("serial", "Serial number", json!(moved.certificate.serial().to_string())),
            ("not_after", "Valid until", json!(dates::day(moved.certificate.not_after()))),
            ("key", "Key", json!("the same as before")),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            print(
                "\nConnections go on; each new one proves that who comes trusts the new CA. `quoll ca rollover status` has who came.\n\
                 Other servers: quoll mosquitto refresh. If something cannot connect: quoll ca rollover server --back\n",
            )?;
        }
        Ok(())
    }

    async fn back(&self, common: &Common, site: &Site, next: &Pki) -> Outcome {
        let name = workshop::server_name(&site.settings)?;
        let certificate = next.certificate(&name).map_err(trouble::pki)?;
        let audit = Audit::begin(&site.home, "ca.rollover.server-back", name.as_str(), &json!({}))?;
        let now = OffsetDateTime::now_utc();
        let done = certificate
            .as_ref()
            .map(|it| next.revoke(&it.serial(), RevocationReason::Superseded, now).map_err(trouble::pki))
            .transpose();
        audit.end(done, |done| json!({ "changed": done.is_some() }))?;
        bell::ring(&site.home).await?;
        // Servers that read the next CA's list are told, too: its certificate of the server is void.
        let crl = revocation::write_lists(common, &site.settings, &site.registry)?;
        let facts = [
            ("name", "Server", json!(name.as_str())),
            ("issuer", "Certificate by", json!(name_of(&site.folders.current))),
            ("changed", "Changed", json!(certificate.is_some())),
            ("crl", "Revocation list", json!(crl)),
        ];
        print_facts(&facts, common.output)
    }
}
