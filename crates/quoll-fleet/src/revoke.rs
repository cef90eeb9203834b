//! The way out: the registry first, so that nobody is admitted even if all else fails; then the pki folder's index;
//! the CRL when somebody can unlock the CA.
//!
//! Doing it twice finishes what the first time left and changes nothing else. Closing live connections is the
//! broker's business: it is told the serial numbers of [`Revocation::serials`].

use quoll_pki::{Authority, Pki, PkiError, Serial};
pub use quoll_pki::{RevocationReason, RevocationReasonError};
use time::OffsetDateTime;

use crate::registry::{Owner, Registry, RegistryError};

/// What a revocation did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// Who is out.
    pub owner: Owner,
    /// Every certificate of theirs that is void, upper-case hex: what the bell tells the broker, which closes their
    /// connections.
    pub serials: Vec<String>,
    /// Those of them that the pki folder does not have: somebody else's CA, or an index that was replaced.
    pub unknown: Vec<String>,
    /// Whether all of them had been revoked in the pki folder before.
    pub already: bool,
    /// Whether `crl.pem` has to be published for others than our broker: see [`publish_crl`].
    pub crl_is_behind: bool,
}

/// Why a revocation is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// Nothing was done.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The door is shut: the registry admits nobody with these certificates. The pki folder does not say so yet.
    #[error("{owner} is shut out, but not revoked in the pki folder: {source}")]
    Pki {
        /// Who is out.
        owner: Owner,
        /// Their void certificates; the broker must be told all the same.
        serials: Vec<String>,
        /// What the pki says.
        source: Box<PkiError>,
    },
}

impl RevokeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Pki { source, .. } => {
                let again = "then run the same command again";
                Some(
                    source.hint().map_or_else(
                        || format!("mend the folder, {again}"),
                        |hint| format!("{hint}; {again}"),
                    ),
                )
            }
        }
    }

    /// The certificates that the broker must be told about, although something failed.
    #[must_use]
    pub fn serials(&self) -> &[String] {
        match self {
            Self::Registry(_) => &[],
            Self::Pki { serials, .. } => serials,
        }
    }
}

/// Revokes a device or a client with all its certificates. Needs no CA key. The first reason given stands.
///
/// # Errors
/// [`RevokeError::Registry`] when nothing was done, [`RevokeError::Pki`] when the door is shut and the index is not
/// written; the same call finishes that later.
pub fn revoke(
    registry: &Registry,
    pki: &Pki,
    owner: &Owner,
    reason: RevocationReason,
    now: OffsetDateTime,
) -> Result<Revocation, RevokeError> {
    let serials = registry.shut_out(owner, &reason.to_string())?;
    let failed = |source| RevokeError::Pki {
        owner: owner.clone(),
        serials: serials.clone(),
        source: Box::new(source),
    };
    let (mut unknown, mut already) = (Vec::new(), true);
    for serial in &serials {
        let noted = registry.certificate(serial)?.and_then(|certificate| certificate.reason);
        let reason = noted.and_then(|noted| noted.parse().ok()).unwrap_or(reason);
        let Ok(number) = serial.parse::<Serial>() else {
            unknown.push(serial.clone());
            continue;
        };
        match pki.revoke(&number, reason, now) {
            Ok(revoked) => already &= revoked.already,
            Err(PkiError::UnknownSerial { .. }) => unknown.push(serial.clone()),
            Err(error) => return Err(failed(error)),
        }
    }
    let crl_is_behind = pki.crl_is_behind(now).map_err(failed)?;
    Ok(Revocation { owner: owner.clone(), serials: serials.clone(), unknown, already, crl_is_behind })
}

/// Publishes the CRL with everything revoked so far, and notes it in the audit trail. Our own broker does not need it.
///
/// # Errors
/// See [`PublishError`].
pub fn publish_crl(
    registry: &Registry,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<(), PublishError> {
    authority.publish_crl(now)?;
    let revoked = authority.pki().revoked_serials()?.len();
    registry.record("crl.published", "ca", &serde_json::json!({ "revoked": revoked }))?;
    Ok(())
}

impl From<PkiError> for PublishError {
    fn from(error: PkiError) -> Self {
        Self::Pki(Box::new(error))
    }
}

/// Why a CRL is not published, or not noted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not published.
    #[error("{0}")]
    Pki(#[source] Box<PkiError>),
    /// Published, but not noted in the audit trail.
    #[error("the CRL is published, but the audit trail could not be written: {0}")]
    Registry(#[from] RegistryError),
}

impl PublishError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pki(error) => error.hint(),
            Self::Registry(error) => error.hint(),
        }
    }
}
