//! Where a device's key and certificate come from.
//! What it is not: a CA. [`PkiIssuer`] asks one; a signing helper in another process can be asked the same way.

use std::fmt;

use async_trait::async_trait;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::device::DeviceName;

/// A device's key and certificate, on their way to it. `Debug` hides the key.
#[derive(Clone)]
pub struct DeviceCredential {
    /// The private key: P-256 scalar, big-endian, padded.
    pub scalar: Zeroizing<[u8; 32]>,
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// Its serial number, upper-case hex as in Easy-RSA's `index.txt`.
    pub serial: String,
    /// End of its validity.
    pub not_after: OffsetDateTime,
}

impl fmt::Debug for DeviceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCredential")
            .field("serial", &self.serial)
            .field("certificate", &format_args!("{} bytes", self.certificate_der.len()))
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Somebody who issues device certificates.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// Makes a key and a certificate with this common name, profile `tasmota`. What it returns is on disk already:
    /// after a kill [`Self::existing`] finds it.
    ///
    /// # Errors
    /// See [`IssueError`]; no certificate was issued then.
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError>;

    /// The certificate of this name that is valid and not revoked, with its key. `None` if there is no such
    /// certificate.
    ///
    /// # Errors
    /// [`IssueError::KeyMissing`] when there is one but its key is nowhere, [`IssueError::NameInUse`] when it is not
    /// a device's.
    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError>;
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The CA's key is encrypted and nobody gave its passphrase.
    #[error("the CA's key is locked")]
    Locked,
    /// There is a valid certificate of this name, but no private key for it.
    #[error("certificate {serial} was issued for {name}, but its private key is not in the pki folder")]
    KeyMissing {
        /// The device.
        name: DeviceName,
        /// The certificate.
        serial: String,
        /// Length of its DER.
        certificate_bytes: usize,
        /// End of its validity.
        not_after: OffsetDateTime,
    },
    /// There is a valid certificate of this name that no device can use: a server's, or an RSA one.
    #[error("the pki folder has a certificate named {name} that is not a device's: {why}")]
    NameInUse {
        /// The name.
        name: DeviceName,
        /// What is wrong with it.
        why: String,
    },
    /// The pki folder or the CA did not do it.
    #[error("no certificate for {name}: {why}")]
    Pki {
        /// The device.
        name: DeviceName,
        /// What the pki says.
        why: String,
        /// What it says to do.
        hint: Option<String>,
    },
}

impl IssueError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked => {
                Some("unlock it with the CA's passphrase, then run the same command again".into())
            }
            Self::KeyMissing { name, .. } => Some(format!(
                "quoll device revoke {name} --reason superseded, then quoll device remove {name}, then add it again"
            )),
            Self::NameInUse { .. } => Some("choose another name for the device".into()),
            Self::Pki { hint, .. } => hint.clone(),
        }
    }
}
