//! `quoll server`: what devices compare the broker with.

use clap::{Args, Subcommand};
use quoll_tasmota::Fingerprint;
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs, confirm};
use crate::audit::Audit;
use crate::failure::Outcome;
use crate::output::print_facts;
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// The server's certificate and address.
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Show name, addresses, dates and the fingerprint that devices can pin
    #[command(after_help = "Example:\n  quoll server show")]
    Show(Show),
    /// Renew the certificate with the same key, so that pinned fingerprints go on fitting
    #[command(after_help = "Example:\n  quoll server renew")]
    Renew(Show),
    /// Give the server a new key: every device that pinned the old one will refuse it
    #[command(
        after_help = "Example:\n  quoll server rekey --yes\n\nNothing ends by itself that makes this necessary: a renewal keeps the key. Where devices \
        pin it, go another way: quoll server key stage."
    )]
    Rekey(Rekey),
    /// A new key in steps that lose no device that pins the old one: stage, status, switch, finish, abort
    #[command(subcommand)]
    Key(super::server_key::Key),
}

/// Arguments of `quoll server rekey`.
#[derive(Args, Debug)]
pub(crate) struct Rekey {
    #[command(flatten)]
    server: ServerArgs,
    /// The kind of the new key; devices that pin it take rsa-2048 and no other
    #[arg(long, value_name = "KIND", default_value = "rsa-2048", value_parser = super::ca_issue::parse_kind)]
    key: quoll_pki::KeyKind,
    /// The devices that must be able to check it: esp8266, esp32, fingerprint, ecdsa (all have SetOption165 1), none
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["esp8266", "esp32", "fingerprint"])]
    devices: Vec<super::ca_issue::DeviceWord>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Arguments of both.
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    server: ServerArgs,
}

impl Server {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Show(show) => show.show(common),
            Self::Renew(show) => show.renew(common).await,
            Self::Rekey(rekey) => rekey.run(common).await,
            Self::Key(key) => key.run(common).await,
        }
    }
}

impl Show {
    fn show(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = workshop::serving(&common.settings(&home, &self.server)?)?;
        let pki = workshop::open_pki(&settings)?;
        let certificate = workshop::server_certificate(&settings, &pki)?;
        let addresses: Vec<_> = certificate.ip_addresses().iter().map(ToString::to_string).collect();
        let facts = [
            ("name", "Name", json!(certificate.subject_cn())),
            (
                "device_host",
                "Devices connect to",
                json!(format!("{}:{}", settings.host, settings.device_port())),
            ),
            ("dns_names", "Names in the certificate", json!(certificate.dns_names())),
            ("ip_addresses", "Addresses in the certificate", json!(addresses)),
            ("serial", "Serial number", json!(certificate.serial().to_string())),
            ("not_before", "Valid from", json!(dates::day(certificate.not_before()))),
            ("not_after", "Valid until", json!(dates::day(certificate.not_after()))),
            ("sha256", "SHA-256", json!(super::ca::hex(&certificate.fingerprint_sha256()))),
            ("mqtt_fingerprint", "MqttFingerprint", json!(fingerprint(&certificate))),
        ];
        print_facts(&facts, common.output)
    }

    async fn renew(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = workshop::serving(&common.settings(&home, &self.server)?)?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let name = workshop::server_name(&settings)?;
        let (authority, _) = workshop.authority()?;
        let audit = Audit::begin(&home, "server.renew", name.as_str(), &json!({}))?;
        let done = authority
            .renew_server(&name, Some(&workshop::alt_names(&settings)), OffsetDateTime::now_utc())
            .map_err(trouble::pki);
        let renewed =
            audit.end(done, |renewed| json!({ "serial": renewed.certificate.serial().to_string() }))?;
        for warning in &renewed.warnings {
            eprintln!("quoll: note: {warning}");
        }
        crate::bell::ring(&home).await?;
        let facts = [
            ("name", "Name", json!(name.as_str())),
            ("serial", "Serial number", json!(renewed.certificate.serial().to_string())),
            ("previous", "Replaces", json!(renewed.previous.to_string())),
            ("not_after", "Valid until", json!(dates::day(renewed.certificate.not_after()))),
        ];
        print_facts(&facts, common.output)
    }
}

impl Rekey {
    async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = workshop::serving(&common.settings(&home, &self.server)?)?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let name = workshop::server_name(&settings)?;
        let old = workshop::server_certificate(&settings, workshop.pki())?;
        confirm(
            self.yes,
            &format!(
                "Give {name} a new key? Every device that pinned its fingerprint will refuse it until it has the new one."
            ),
        )?;
        let (authority, _) = workshop.authority()?;
        let audit = Audit::begin(&home, "server.rekey", name.as_str(), &json!({ "key": self.key.word() }))?;
        let names = workshop::alt_names(&settings);
        let devices = super::ca_issue::devices(&self.devices);
        let now = OffsetDateTime::now_utc();
        let done =
            authority.rekey_server(&name, Some(&names), self.key, Some(devices), now).map_err(trouble::pki);
        let rekeyed =
            audit.end(done, |rekeyed| json!({ "serial": rekeyed.certificate.serial().to_string() }))?;
        for warning in &rekeyed.warnings {
            eprintln!("quoll: note: {warning}");
        }
        if let Some(new) = fingerprint(&rekeyed.certificate) {
            eprintln!(
                "quoll: note: a device that pinned the old key refuses the server until it has the new one: MqttFingerprint2 {new}"
            );
        }
        crate::bell::ring(&home).await?;
        let facts = [
            ("name", "Name", json!(name.as_str())),
            ("serial", "Serial number", json!(rekeyed.certificate.serial().to_string())),
            ("previous", "Replaces", json!(rekeyed.previous.to_string())),
            ("not_after", "Valid until", json!(dates::day(rekeyed.certificate.not_after()))),
            ("old_fingerprint", "MqttFingerprint was", json!(fingerprint(&old))),
            ("mqtt_fingerprint", "MqttFingerprint is", json!(fingerprint(&rekeyed.certificate))),
        ];
        print_facts(&facts, common.output)
    }
}

fn fingerprint(certificate: &quoll_pki::Certificate) -> Option<String> {
    let (n, e) = certificate.rsa_public_key()?;
    Fingerprint::of_rsa(&n, &e).ok().map(|print| print.to_string())
}
