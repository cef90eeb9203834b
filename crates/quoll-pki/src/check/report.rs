//! What a check says, in types and in words. What it is not: the looking.

use std::fmt;

use time::OffsetDateTime;

use crate::{fitness::Misfit, key_file::KeyProtection, revocation::RevocationReason, serial::Serial};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderCheck {
    /// The CA first, then the certificates in the order of `index.txt`, then those it does not know.
    pub certificates: Vec<CheckedCertificate>,
    /// What concerns the folder as a whole: files that cannot be read, the revocation list.
    pub problems: Vec<Problem>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, as a sentence.
    pub what: String,
    /// What to do about it, if there is something.
    pub next: Option<String>,
}

/// One certificate, looked at from all sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCertificate {
    /// Its common name, or what `index.txt` says it is.
    pub name: Option<String>,
    /// Its serial number.
    pub serial: Serial,
    /// Whether it is good now.
    pub state: CertificateState,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// Where its file is, relative to the folder; `None` if it is nowhere.
    pub file: Option<String>,
    /// How its key file is protected; `None` if there is no key file.
    pub key: Option<KeyProtection>,
    /// Which profile it looks like: `ca`, `subca`, `server`, `client`, `tasmota`, `other`.
    pub profile: Option<&'static str>,
    /// Why devices could not live with it in that role. Empty if all can; `None` where it has no role with devices.
    pub misfits: Option<Vec<Misfit>>,
    /// Whether the CA signed it.
    pub chain: Chain,
    /// What is wrong with it or with what is said of it.
    pub problems: Vec<Problem>,
}

/// Whether a certificate is good, by `index.txt` and the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// Good.
    Valid,
    /// Its time has not come.
    NotYetValid,
    /// Its time is over.
    Expired,
    /// Taken back for this reason.
    Revoked(RevocationReason),
    /// `index.txt` does not know it.
    Unlisted,
}

/// Whether a certificate comes from this CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Signed by the CA's key.
    Signed,
    /// Named after the CA, but not signed by its key.
    BadSignature,
    /// Issued under another name.
    Foreign,
    /// Signed with something that cannot be checked here.
    Unchecked,
    /// There is no file to check.
    NoFile,
}

impl fmt::Display for CertificateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::NotYetValid => f.write_str("not yet valid"),
            Self::Expired => f.write_str("expired"),
            Self::Revoked(RevocationReason::CertificateHold) => f.write_str("on hold"),
            Self::Revoked(reason) => write!(f, "revoked ({reason})"),
            Self::Unlisted => f.write_str("unlisted"),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed => "ok",
            Self::BadSignature => "bad signature",
            Self::Foreign => "another CA",
            Self::Unchecked => "unchecked",
            Self::NoFile => "",
        })
    }
}

impl FolderCheck {
    /// Every problem, those of certificates with their names.
    pub fn all_problems(&self) -> impl Iterator<Item = (Option<&CheckedCertificate>, &Problem)> {
        let of_certificates = self.certificates.iter().flat_map(|certificate| {
            certificate.problems.iter().map(move |problem| (Some(certificate), problem))
        });
        self.problems.iter().map(|problem| (None, problem)).chain(of_certificates)
    }
}
