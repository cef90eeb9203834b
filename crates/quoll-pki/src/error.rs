//! What can go wrong, cut by whose fault it is, with the facts a person needs and, where there is one, the next step.

use std::{io, path::PathBuf};

use time::OffsetDateTime;

use crate::{
    limits::{DEVICE_DER_MAX, PASSPHRASE_MAX, PASSPHRASE_MIN},
    name::{CertName, CertNameError},
    serial::{Serial, SerialError},
};

/// Any failure of this crate. `Display` says what failed, on what and why; [`PkiError::hint`] what to do next.
/// No variant ever carries a passphrase or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    // The disk.
    /// The operating system refused to read or write.
    #[error("{act} {} failed: {source}", path.display())]
    Io {
        /// What was tried: "reading", "writing", ...
        act: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is larger than any real one of its kind.
    #[error("{} is larger than {limit} bytes and was not read", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },

    // The folder.
    /// The folder lacks something every Easy-RSA CA has.
    #[error("{} is not a complete PKI folder: {missing} is missing", dir.display())]
    NotAPki {
        /// The folder.
        dir: PathBuf,
        /// What is missing, relative to the folder.
        missing: String,
        /// A folder nearby that is one.
        nearby: Option<PathBuf>,
    },
    /// A new CA was asked for in a folder that has other things in it.
    #[error("{} is not empty ({found} is there); a new CA needs a folder of its own", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// One of the things found.
        found: String,
    },
    /// A new CA was asked for where there is one.
    #[error("{} already holds a CA", dir.display())]
    AlreadyACa {
        /// The folder.
        dir: PathBuf,
    },
    /// `index.txt` breaks OpenSSL's format.
    #[error("{}, line {line}, column {column}: {problem}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Another program wrote the file between our reading and our writing.
    #[error("{} was changed by another program at the same moment", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
    },
    /// A certificate, CRL or request file cannot be understood.
    #[error("{} cannot be used: {problem}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is not ours to overwrite stands where one has to go.
    #[error("{} is in the way: {what}", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        what: Obstacle,
    },

    // Keys and passphrases.
    /// The passphrase does not open the key. Nothing was changed.
    #[error("the passphrase does not open {}", path.display())]
    WrongPassphrase {
        /// The key file.
        path: PathBuf,
    },
    /// The key is encrypted where a plain one is needed.
    #[error("the key {} is encrypted", path.display())]
    Encrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is in a format that is not read.
    #[error("the key {} is in a format that is not supported: {format}", path.display())]
    UnsupportedKey {
        /// The key file.
        path: PathBuf,
        /// Which format it is.
        format: String,
        /// The openssl command that converts it, if there is one.
        convert: Option<String>,
    },
    /// A good key, of a kind that is not used here.
    #[error("the key {} is {kind}; RSA of 2048 to 8192 bits, EC P-256, EC P-384 and Ed25519 are used", path.display())]
    OtherKind {
        /// The key file.
        path: PathBuf,
        /// Which kind, in words.
        kind: String,
    },
    /// The key file cannot be read as a key.
    #[error("the key {} cannot be used: {problem}", path.display())]
    BadKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A key does not belong to its certificate.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// A passphrase that OpenSSL could not be given.
    #[error("a passphrase has {PASSPHRASE_MIN} to {PASSPHRASE_MAX} bytes and no line break")]
    UnusablePassphrase,
    /// The passphrase file can be read by others.
    #[error("the passphrase file {} can be read by others (mode {mode:o})", path.display())]
    OpenPassphraseFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    // The request.
    /// A text is no certificate name.
    #[error(transparent)]
    Name(#[from] CertNameError),
    /// A text is no serial number.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// The request contradicts its profile or a standard.
    #[error("the request for {name} cannot be granted: {problem}")]
    BadRequest {
        /// The common name asked for.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A valid certificate of that name exists.
    #[error("{name} already has a certificate (serial {serial}, valid until {})", not_after.date())]
    NameTaken {
        /// The name.
        name: CertName,
        /// The certificate's serial number.
        serial: Serial,
        /// Its end.
        not_after: OffsetDateTime,
    },
    /// The device certificate would not fit the device.
    #[error("the certificate of {name} would have {size} bytes; a device takes {DEVICE_DER_MAX} at most")]
    TooLarge {
        /// The name.
        name: CertName,
        /// DER bytes it would have.
        size: usize,
    },
    /// Devices that are in use could not live with the certificate.
    #[error("the certificate of {name} would not do for these devices: {}", misfits.join("; "))]
    UnfitForDevices {
        /// The name.
        name: CertName,
        /// Who stumbles over what.
        misfits: Vec<String>,
    },
    /// The CA's own certificate, or that of a CA above it, limits the names it may certify (RFC 5280 §4.2.1.10).
    #[error("the CA may not certify {name}: {}", names.join("; "))]
    NamesNotAllowed {
        /// The name.
        name: CertName,
        /// What lies outside, as phrases.
        names: Vec<String>,
    },
    /// No certificate of that name in `issued/`.
    #[error("there is no certificate named {name}")]
    UnknownName {
        /// The name.
        name: CertName,
    },
    /// No line with that serial number in `index.txt`.
    #[error("there is no certificate with serial number {serial} in index.txt")]
    UnknownSerial {
        /// The serial number.
        serial: Serial,
    },
    /// keyUsage of the CA's own certificate lacks what is asked: nobody would accept the signature (RFC 5280 §4.2.1.3,
    /// §6.1.4 (n), §6.3.3 (f)).
    #[error("the CA's own certificate does not let it sign {what}")]
    CaMayNot {
        /// Certificates, or revocation lists.
        what: &'static str,
    },
    /// The CA's own certificate is over.
    #[error("the CA certificate ended on {}", not_after.date())]
    CaExpired {
        /// Its end.
        not_after: OffsetDateTime,
    },
    /// The clock is before this program was written, so it is wrong.
    #[error("it is {} by the clock, which cannot be", now.date())]
    ClockUnset {
        /// The clock.
        now: OffsetDateTime,
    },
    /// The clock is before the CA's beginning, so the clock is wrong.
    #[error("it is {} by the clock, before the CA certificate began ({})", now.date(), not_before.date())]
    ClockBeforeCa {
        /// The time given.
        now: OffsetDateTime,
        /// The CA's beginning.
        not_before: OffsetDateTime,
    },

    // Ours.
    /// The crypto library or the encoder refused; nothing a user did.
    #[error("{act} failed")]
    Crypto {
        /// What was tried.
        act: &'static str,
    },
}

/// What a file that is in the way seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A signing request of `easyrsa gen-req` or `import-req`.
    #[error("a request that waits to be signed")]
    Request,
    /// A private key on its own.
    #[error("a key that no certificate or request belongs to")]
    Key,
    /// Issued by somebody else.
    #[error("a certificate of another CA")]
    Foreign,
    /// Issued by this CA, but not in its list.
    #[error("a certificate of this CA that index.txt does not know")]
    Unlisted,
    /// A file with other content than the one to be moved there.
    #[error("another file under the same serial number")]
    Other,
}

/// The way out of a key that no conversion makes usable.
pub(crate) fn other_kind(path: &std::path::Path) -> String {
    if path.ends_with("private/ca.key") {
        "nothing was changed: openssl and Easy-RSA go on with this CA; devices could not check such a key, so make another CA for \
         them: quoll --pki NEW-FOLDER ca init"
            .into()
    } else {
        "nothing was changed: give it a key of another kind; quoll server rekey makes one for the server, quoll ca issue NAME \
         --supersede for anything else"
            .into()
    }
}

impl PkiError {
    /// What the system says, where it is the one who refuses.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// What the user can do about it, as one sentence, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAPki { nearby: Some(nearby), .. } => Some(format!("did you mean {}?", nearby.display())),
            Self::NotAPki { missing, .. } if missing == "ca.crt" => Some(
                "point to the pki folder of Easy-RSA, or create a CA; if a creation was interrupted, run it again".into(),
            ),
            Self::NotAPki { .. } => Some("restore the folder from a backup before going on".into()),
            Self::NotEmpty { .. } => Some("choose an empty or new folder".into()),
            Self::AlreadyACa { .. } => Some("open it instead".into()),
            Self::Index { path, .. } => Some(format!(
                "compare with {}.old and put the line right; a cut last line can be completed from certs_by_serial/",
                path.display()
            )),
            Self::ChangedMeanwhile { .. } => Some("do the same again; nothing of either was lost".into()),
            Self::InTheWay { path, what } => Some(match what {
                Obstacle::Request | Obstacle::Key => {
                    format!("sign it with easyrsa sign-req if it is wanted, or move {} away", path.display())
                }
                Obstacle::Unlisted => "restore the index.txt that knows it, and revoke it there if it is not wanted".into(),
                Obstacle::Foreign | Obstacle::Other => format!("look at {} and move it away", path.display()),
            }),
            Self::Encrypted { path } => Some(format!(
                "decrypt it once for the unattended start: openssl pkey -in {0} -out {0}.plain, then put that in its place",
                path.display()
            )),
            Self::OtherKind { path, .. } => Some(other_kind(path)),
            Self::UnsupportedKey { convert, .. } => convert.as_ref().map(|command| format!("convert it: {command}")),
            Self::UnusablePassphrase => Some("choose a longer passphrase, for example four words".into()),
            Self::OpenPassphraseFile { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::NameTaken { .. } => {
                Some("renew it, revoke it first, or ask to supersede it and revoke the old one later".into())
            }
            Self::TooLarge { .. } => {
                Some("use a shorter name and the common name only, without organisation fields".into())
            }
            Self::UnfitForDevices { .. } => Some(
                "take an RSA-2048 key under an RSA-2048 CA, which every device can check, or say which devices there are"
                    .into(),
            ),
            Self::NamesNotAllowed { .. } => Some(
                "OpenSSL and rustls would refuse it; openssl x509 -noout -ext nameConstraints -in ca.crt shows what is allowed"
                    .into(),
            ),
            Self::KeyMismatch { certificate, .. } => Some(format!(
                "restore both from one backup; where {} has several certificates, the key's own must be the first",
                certificate.display()
            )),
            Self::UnknownSerial { .. } => Some("list the certificates to see the serial numbers".into()),
            Self::CaExpired { .. } => Some(
                "make it last longer, with the same key and name: quoll ca renew (devices need nothing new)".into(),
            ),
            Self::CaMayNot { .. } => {
                Some("write it anew, with the same key and name: quoll ca renew (devices need nothing new)".into())
            }
            Self::ClockBeforeCa { .. } | Self::ClockUnset { .. } => Some("set the clock of this machine".into()),
            _ => None,
        }
    }
}
