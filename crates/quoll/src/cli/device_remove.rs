//! `quoll device remove`: out of the list, with its certificate.

use clap::Args;
use quoll_fleet::enrol::{EnrolError, lock};
use quoll_fleet::registry::{Owner, Registry};
use quoll_fleet::revoke::RevocationReason;
use serde_json::json;

use super::{Common, ServerArgs, confirm};
use crate::enrolment::{self, device_name};
use crate::failure::Outcome;
use crate::output::print_facts;
use crate::{bell, revocation, trouble};

/// `quoll device remove`.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// The device's name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Remove {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let device = super::device::find(common, &device_name(&self.name)?)?;
        let name = device.name;
        let question = match device.serial {
            Some(_) if device.state.admits() => format!(
                "Take {name} out of the list? Its certificate is revoked, it is cut off at once, and this cannot be undone."
            ),
            _ => format!("Take {name} out of the list?"),
        };
        confirm(self.yes, &question)?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        // A run that is under way would lose its way back: what the device was set to before is forgotten here.
        let _lock = lock(&registry, &name).map_err(|error| {
            let instead =
                format!("wait until it is done; to shut it out at once: quoll device revoke {name}");
            let hint = matches!(error, EnrolError::Busy { .. }).then_some(instead);
            enrolment::failure(error).maybe_hint(hint)
        })?;
        let owner = Owner::Device(name.clone());
        let has_one = !registry.certificates_of(&owner).map_err(trouble::registry)?.is_empty();
        // What is void in the registry stays out at our door, whatever the folder says; other servers read the folder.
        let (mut revoked, mut crl) = (Vec::new(), None);
        let mut ended = None;
        if has_one {
            let settings = common.settings(&home, &ServerArgs::default())?;
            let reason = RevocationReason::CessationOfOperation;
            let (done, live) = revocation::shut_out(&home, &settings, &registry, &owner, reason).await?;
            crl = Some(revocation::write_lists(common, &settings, &registry)?);
            (revoked, ended) = (done.serials, live);
        }
        registry.remove_device(&name).map_err(trouble::registry)?;
        let again = bell::ring(&home).await?;
        let ended = ended.map_or(again, |before| Some(before + again.unwrap_or_default()));
        let facts = [
            ("removed", "Out of the list", json!(name.as_str())),
            ("serials", "Revoked certificates", json!(revoked)),
            ("connections_ended", "Connections ended", json!(ended)),
            ("crl", "Revocation list", json!(crl)),
        ];
        print_facts(&facts, common.output)
    }
}
