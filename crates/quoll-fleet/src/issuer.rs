//! Where a device's key and certificate come from.
//! What it is not: a CA. [`PkiIssuer`] asks one; a process of its own that signs can be asked the same way.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use quoll_pki::{
    Authority, CertName, Certificate, IfTaken, IssueRequest, KeyStorage, Passphrase, Pki, PkiError,
    PrivateKey, Profile, RevocationReason, Serial,
};
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

/// Somebody who also gives a device that has a certificate a new one, and keeps the old one's key until it is not needed.
#[async_trait]
pub trait Reissuer: Issuer {
    /// Makes a new key and certificate for a name that may have one. The old certificate stays valid, and its key at hand
    /// ([`Self::held`]), until it is retired. What it returns is on disk already.
    ///
    /// # Errors
    /// See [`IssueError`]; no certificate was issued then.
    async fn reissue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError>;

    /// The certificate of this serial number with its key: the one in use, or the one before it. `None` where the key is
    /// not at hand.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    async fn held(&self, name: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError>;

    /// Voids a certificate in the pki folder, reason superseded, and writes the revocation list where the CA can sign it.
    /// One that is void, or unknown there, is no error.
    ///
    /// # Errors
    /// Where the folder cannot be written; the same call finishes that later.
    async fn retire(&self, name: &DeviceName, serial: &str) -> Result<(), IssueError>;
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
    /// The registry voided it (its device was removed), and the pki folder still has it valid.
    #[error("certificate {serial} of {name} is void in the registry, but not revoked in the pki folder")]
    Void {
        /// The device.
        name: DeviceName,
        /// The certificate.
        serial: String,
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
            Self::KeyMissing { name, serial, .. } => Some(format!(
                "quoll device repair {name} gives it a new one over this; where it is not in the list: quoll ca revoke \
                 {serial}, then the same command again"
            )),
            Self::NameInUse { .. } => Some("choose another name for the device".into()),
            Self::Void { serial, .. } => Some(format!("revoke it there too: quoll ca revoke {serial}")),
            Self::Pki { hint, .. } => hint.clone(),
        }
    }
}

/// Another CA whose certificates devices may have: the one before, during a change of the CA.
#[derive(Debug)]
pub struct OtherCa {
    /// Its folder.
    pub pki: Pki,
    /// Opened, where that was possible: its revocation list follows what is voided. Else that waits for `quoll ca crl`.
    pub authority: Option<Arc<Authority>>,
}

/// Issues from the pki folder. Signing and key encryption take up to a second and run beside the async runtime.
pub struct PkiIssuer {
    pki: Pki,
    others: Vec<OtherCa>,
    authority: Option<Arc<Authority>>,
    storage: KeyStorage,
}

impl PkiIssuer {
    /// With the CA unlocked. `storage` says what becomes of a device's key in `private/`; with
    /// [`KeyStorage::Discard`] an enrolment that is killed before the key is on the device cannot be continued.
    #[must_use]
    pub fn new(authority: Arc<Authority>, storage: KeyStorage) -> Self {
        Self { pki: authority.pki().clone(), others: Vec::new(), authority: Some(authority), storage }
    }

    /// Without the CA's key: an enrolment whose certificate exists can be continued, no new one can be issued.
    #[must_use]
    pub fn locked(pki: Pki, storage: KeyStorage) -> Self {
        Self { pki, others: Vec::new(), authority: None, storage }
    }

    /// Looks for older keys and certificates in their folders, too: during a change of the CA a device's old certificate
    /// is the old CA's.
    #[must_use]
    pub fn also_from(mut self, others: Vec<OtherCa>) -> Self {
        self.others = others;
        self
    }

    fn passphrase(&self) -> Passphrase {
        match &self.storage {
            KeyStorage::Encrypted(pass) => pass.clone(),
            KeyStorage::Plain | KeyStorage::Discard => Passphrase::new(String::new()),
        }
    }

    async fn issue_if(&self, name: &DeviceName, if_taken: IfTaken) -> Result<DeviceCredential, IssueError> {
        let authority = self.authority.clone().ok_or(IssueError::Locked)?;
        let (device, storage) = (name.clone(), self.storage.clone());
        Self::beside(name, move || {
            let request = IssueRequest {
                if_taken,
                ..IssueRequest::new(Profile::Tasmota, cert_name(&device)?, storage)
            };
            let issued =
                authority.issue(&request, OffsetDateTime::now_utc()).map_err(|error| pki(&device, &error))?;
            // Whoever asks for one over an old one voids that when the new one was seen.
            let is_known = |warning: &str| {
                if_taken == IfTaken::Supersede && warning.contains("stays valid until revoked")
            };
            for warning in issued.warnings.iter().filter(|warning| !is_known(warning)) {
                tracing::warn!(%device, "{warning}");
            }
            credential(&device, &issued.certificate, &issued.key)
        })
        .await
    }

    async fn beside<T: Send + 'static>(
        name: &DeviceName,
        work: impl FnOnce() -> Result<T, IssueError> + Send + 'static,
    ) -> Result<T, IssueError> {
        let died = |error: tokio::task::JoinError| IssueError::Pki {
            name: name.clone(),
            why: format!("the work was broken off: {error}"),
            hint: None,
        };
        tokio::task::spawn_blocking(work).await.map_err(died)?
    }
}

#[async_trait]
impl Issuer for PkiIssuer {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.issue_if(name, IfTaken::Refuse).await
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        let (folder, device, pass) = (self.pki.clone(), name.clone(), self.passphrase());
        Self::beside(name, move || {
            let cert_name = cert_name(&device)?;
            let failed = |error: PkiError| pki(&device, &error);
            let Some(certificate) = folder.certificate(&cert_name).map_err(failed)? else { return Ok(None) };
            let (serial, now) = (certificate.serial(), OffsetDateTime::now_utc());
            let entries = folder.entries().map_err(failed)?;
            // A file without a line is a leftover of an issue that was killed; issuing again cleans it up.
            if !entries.iter().any(|entry| entry.serial == serial && entry.is_valid_at(now)) {
                return Ok(None);
            }
            if certificate.is_for_server() || certificate.is_ca() || !certificate.has_ec_key() {
                let why = format!("certificate {serial} is for a server, or its key is not EC");
                return Err(IssueError::NameInUse { name: device, why });
            }
            let missing = IssueError::KeyMissing {
                name: device.clone(),
                serial: serial.to_string(),
                certificate_bytes: certificate.der().len(),
                not_after: certificate.not_after(),
            };
            match folder.private_key(&cert_name, &pass) {
                Ok(key) if key.public_key_der() == certificate.public_key_der() => {
                    credential(&device, &certificate, &key).map(Some)
                }
                Ok(_) => Err(missing),
                Err(PkiError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Err(missing)
                }
                Err(error) => Err(pki(&device, &error)),
            }
        })
        .await
    }
}

#[async_trait]
impl Reissuer for PkiIssuer {
    async fn reissue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.issue_if(name, IfTaken::Supersede).await
    }

    async fn held(&self, name: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError> {
        let others = self.others.iter().map(|other| &other.pki);
        let folders: Vec<Pki> = std::iter::once(&self.pki).chain(others).cloned().collect();
        let (device, serial, pass) = (name.clone(), serial.to_owned(), self.passphrase());
        Self::beside(name, move || {
            let cert_name = cert_name(&device)?;
            let Ok(serial) = serial.parse::<Serial>() else { return Ok(None) };
            for folder in &folders {
                let found = folder.certificate_by_serial(&serial).map_err(|error| pki(&device, &error))?;
                let Some(certificate) = found else { continue };
                let keys = [folder.private_key(&cert_name, &pass), folder.superseded_key(&cert_name, &pass)];
                // A key of another passphrase, or none: then the way back is closed, and nothing else.
                let fits = |key: &PrivateKey| key.public_key_der() == certificate.public_key_der();
                if let Some(key) = keys.into_iter().flatten().find(fits) {
                    return credential(&device, &certificate, &key).map(Some);
                }
            }
            Ok(None)
        })
        .await
    }

    async fn retire(&self, name: &DeviceName, serial: &str) -> Result<(), IssueError> {
        let others = self.others.iter().map(|other| (other.pki.clone(), other.authority.clone()));
        let own = (self.pki.clone(), self.authority.clone());
        let folders: Vec<_> = std::iter::once(own).chain(others).collect();
        let (device, serial) = (name.clone(), serial.to_owned());
        Self::beside(name, move || {
            let Ok(serial) = serial.parse::<Serial>() else { return Ok(()) };
            let now = OffsetDateTime::now_utc();
            for (folder, authority) in &folders {
                match folder.revoke(&serial, RevocationReason::Superseded, now) {
                    // The list follows where its key is at hand; else it is behind until it is written.
                    Ok(revoked) => {
                        let failed = |error: PkiError| pki(&device, &error);
                        if revoked.already && !folder.crl_is_behind(now).map_err(failed)? {
                            return Ok(());
                        }
                        let published =
                            authority.as_ref().map_or(Ok(()), |authority| authority.publish_crl(now));
                        return published.map_err(|error| pki(&device, &error));
                    }
                    Err(PkiError::UnknownSerial { .. }) => {}
                    Err(error) => return Err(pki(&device, &error)),
                }
            }
            Ok(())
        })
        .await
    }
}

/// Every device name is a certificate name; should that ever change, this says so.
fn cert_name(name: &DeviceName) -> Result<CertName, IssueError> {
    CertName::parse(name.as_str()).map_err(|error| IssueError::Pki {
        name: name.clone(),
        why: error.to_string(),
        hint: None,
    })
}

fn credential(
    name: &DeviceName,
    certificate: &Certificate,
    key: &PrivateKey,
) -> Result<DeviceCredential, IssueError> {
    let not_p256 = || IssueError::NameInUse { name: name.clone(), why: "its key is not EC P-256".into() };
    Ok(DeviceCredential {
        scalar: key.ec_scalar().ok_or_else(not_p256)?,
        certificate_der: certificate.der().to_vec(),
        serial: certificate.serial().to_string(),
        not_after: certificate.not_after(),
    })
}

fn pki(name: &DeviceName, error: &PkiError) -> IssueError {
    IssueError::Pki { name: name.clone(), why: error.to_string(), hint: error.hint() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_name_is_a_certificate_name() {
        for name in ["x", "kitchen-plug", "tasmota_A1B2C3", "plug.kitchen.home", "0", &"x".repeat(64)] {
            let device = DeviceName::parse(name).unwrap();
            assert_eq!(cert_name(&device).unwrap().as_str(), name);
        }
    }
}
