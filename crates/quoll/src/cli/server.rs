//! `quoll server`: what devices compare the broker with.

use clap::{Args, Subcommand};
use quoll_tasmota::Fingerprint;
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs};
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
        }
    }
}

impl Show {
    fn show(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &self.server)?;
        let pki = workshop::open_pki(&settings)?;
        let certificate = workshop::server_certificate(&settings, &pki)?;
        let fingerprint = certificate.rsa_public_key().and_then(|(n, e)| Fingerprint::of_rsa(&n, &e).ok());
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
            ("mqtt_fingerprint", "MqttFingerprint", json!(fingerprint.map(|print| print.to_string()))),
        ];
        print_facts(&facts, common.output)
    }

    async fn renew(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &self.server)?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let name = workshop::server_name(&settings)?;
        let (authority, _) = workshop.authority()?;
        let renewed = authority
            .renew_server(&name, Some(&workshop::alt_names(&settings)), OffsetDateTime::now_utc())
            .map_err(trouble::pki)?;
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
