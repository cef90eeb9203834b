//! `quoll device remove`: out of the list, with its certificate.

use clap::Args;
use quoll_fleet::registry::{Owner, Registry};
use quoll_fleet::revoke::{self, RevocationReason, RevokeError};
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs, confirm};
use crate::enrolment::device_name;
use crate::failure::Outcome;
use crate::output::print_facts;
use crate::{bell, revocation, trouble, workshop};

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
        let owner = Owner::Device(name.clone());
        let has_one = !registry.certificates_of(&owner).map_err(trouble::registry)?.is_empty();
        // What is void in the registry stays out at our door, whatever the folder says; other servers read the folder.
        let revoked = if has_one {
            let settings = common.settings(&home, &ServerArgs::default())?;
            let pki = workshop::open_pki(&settings)?;
            let (now, reason) = (OffsetDateTime::now_utc(), RevocationReason::CessationOfOperation);
            match revoke::revoke(&registry, &pki, &owner, reason, now) {
                Ok(done) => done.serials,
                Err(error @ RevokeError::Registry(_)) => return Err(revocation::failure(error)),
                Err(error) => {
                    bell::ring(&home).await?;
                    return Err(revocation::failure(error));
                }
            }
        } else {
            Vec::new()
        };
        registry.remove_device(&name).map_err(trouble::registry)?;
        let ended = bell::ring(&home).await?;
        let facts = [
            ("removed", "Out of the list", json!(name.as_str())),
            ("serials", "Revoked certificates", json!(revoked)),
            ("connections_ended", "Connections ended", json!(ended)),
        ];
        print_facts(&facts, common.output)
    }
}
