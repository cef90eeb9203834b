//! The TLS files of a listener, read and made an identity: chain, key, CAs, revocation lists.
//!
//! Where OpenSSL, and so Mosquitto, refuses every client because a revocation list has run out or a CA has none, the lists
//! are obeyed as they are here, and the operator is told: a date that passed at night must not stop a site.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::Files;
use super::tls::{MinimumVersion, Tls};
use crate::tls::{ClientAuth, IdentityError, IdentityParts, TlsIdentity, TlsPolicy, credential};

/// Bytes of a file: a list of a million revoked certificates has 40 MB.
pub const MAX_FILE: usize = 64 << 20;
/// Files of a `capath`.
pub const MAX_CAS: usize = 1_000;

/// What the files of a listener make.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The identity, ready for handshakes.
    pub identity: TlsIdentity,
    /// CAs that vouch for clients, DER; empty where clients are not asked for a certificate.
    pub roots: HashSet<Vec<u8>>,
    /// Credentials that are revoked: see [`credential`].
    pub revoked: HashSet<[u8; 32]>,
    /// What should be known about the files.
    pub warnings: Vec<String>,
}

/// Why the files cannot be used. Nothing of a key is ever in here.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key is encrypted, and there is nobody to ask.
    #[error("{}: the key is encrypted, and a broker has nobody to ask for its passphrase", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Each is good, and they do not fit.
    #[error("{} and {}: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
}

impl TlsFileError {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the account that the broker runs as must be able to read it".into())
            }
            Self::Encrypted { path } => Some(format!(
                "write it without: openssl pkey -in {0} -out {0}.plain, and name that file, mode 0600",
                path.display()
            )),
            Self::Identity { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Reads them.
///
/// # Errors
/// The first file that cannot be used.
pub fn open(tls: &Tls, files: &dyn Files) -> Result<TlsFiles, TlsFileError> {
    let read = |path: &Path| content_of(path, files);
    let mut warnings = Vec::new();
    let chain = certificates(&tls.certificate, &read(&tls.certificate)?)?;
    let key = key(&tls.key, &read(&tls.key)?)?;
    // Without `require_certificate` clients are not asked for one, as Mosquitto does it.
    let mut roots = Vec::new();
    if tls.require_certificate {
        if let Some(path) = &tls.roots.file {
            roots.extend(certificates(path, &read(path)?)?);
        }
        if let Some(folder) = &tls.roots.folder {
            for path in hashed(folder)? {
                roots.extend(certificates(&path, &read(&path)?)?);
            }
        }
    }
    let revoked = match &tls.revoked {
        Some(path) => revoked(path, &read(path)?, &roots, &mut warnings)?,
        None => HashSet::new(),
    };
    let client_auth = if tls.require_certificate { ClientAuth::Required } else { ClientAuth::None };
    let known = roots.iter().map(|root| root.to_vec()).collect();
    let policy = TlsPolicy {
        only_13: tls.minimum == MinimumVersion::Tls13,
        suites_12: tls.suites_12.clone(),
        suites_13: tls.suites_13.clone(),
        ignore_client_dates: tls.ignore_dates,
    };
    let parts = IdentityParts { chain, key, client_roots: roots, revoked: revoked.clone(), client_auth };
    let identity = TlsIdentity::with_policy(parts, &policy).map_err(|source| TlsFileError::Identity {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        source,
    })?;
    Ok(TlsFiles { identity, roots: known, revoked, warnings })
}

/// A file, whole.
pub(crate) fn content_of(path: &Path, files: &dyn Files) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let content = files.read(path, MAX_FILE).map(Zeroizing::new);
    content.map_err(|source| TlsFileError::Unreadable { path: path.to_owned(), source })
}

/// A file that is not what it should be.
pub(crate) fn unusable(path: &Path, what: impl Into<String>) -> TlsFileError {
    TlsFileError::Content { path: path.to_owned(), what: what.into() }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| unusable(path, error.to_string()))?;
    if all.is_empty() {
        return Err(unusable(path, "there is no certificate in it (BEGIN CERTIFICATE)"));
    }
    for (number, certificate) in all.iter().enumerate() {
        X509Certificate::from_der(certificate)
            .map_err(|_| unusable(path, format!("certificate number {} is damaged", number + 1)))?;
    }
    Ok(all)
}

/// The private key of a PEM file.
pub(crate) fn key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let has = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsFileError::Encrypted { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => unusable(path, "there is no private key in it (BEGIN PRIVATE KEY)"),
        other => unusable(path, other.to_string()),
    })
}

/// The files of a folder that have the name of a hash and a number, as `openssl rehash` gives them.
pub(crate) fn hashed(folder: &Path) -> Result<Vec<PathBuf>, TlsFileError> {
    let unreadable = |source| TlsFileError::Unreadable { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let is_hash = name.to_str().and_then(|name| name.split_once('.')).is_some_and(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_hash {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        return Err(unusable(
            folder,
            "there is no file named by the hash of a CA in it; run: openssl rehash",
        ));
    }
    if found.len() > MAX_CAS {
        return Err(unusable(folder, format!("more than {MAX_CAS} CAs")));
    }
    found.sort();
    Ok(found)
}

/// The credentials that the lists of a file revoke.
fn revoked(
    path: &Path,
    text: &[u8],
    roots: &[CertificateDer<'static>],
    warnings: &mut Vec<String>,
) -> Result<HashSet<[u8; 32]>, TlsFileError> {
    let lists: Result<Vec<_>, pem::Error> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    let lists = lists.map_err(|error| unusable(path, error.to_string()))?;
    if lists.is_empty() {
        return Err(unusable(path, "there is no revocation list in it (BEGIN X509 CRL)"));
    }
    let cas: Vec<_> = roots.iter().filter_map(|root| X509Certificate::from_der(root).ok()).collect();
    let mut revoked = HashSet::new();
    let mut issuers = HashSet::new();
    for (number, der) in lists.iter().enumerate() {
        let number = number + 1;
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| unusable(path, format!("revocation list number {number} is damaged")))?;
        let issuer = list.issuer();
        let mut named = cas.iter().filter(|(_, ca)| ca.subject().as_raw() == issuer.as_raw()).peekable();
        if named.peek().is_none() {
            warnings.push(format!(
                "{}: the revocation list of {issuer} is of none of the CAs; it is obeyed, its signature is not checked",
                path.display()
            ));
        } else if !named.any(|(_, ca)| is_signed_by(&list, ca)) {
            return Err(unusable(path, format!("the revocation list of {issuer} is not signed by that CA")));
        }
        if list.next_update().is_some_and(|until| until.timestamp() < now()) {
            warnings.push(format!(
                "{}: the revocation list of {issuer} ran out on {}; it is still obeyed, but newer revocations may be missing: \
                 write it anew (easyrsa gen-crl)",
                path.display(),
                list.next_update().map(|until| until.to_string()).unwrap_or_default()
            ));
        }
        issuers.insert(issuer.as_raw().to_vec());
        let serials = list.iter_revoked_certificates().map(|entry| entry.raw_serial());
        revoked.extend(serials.map(|serial| credential(issuer.as_raw(), serial)));
    }
    for (_, ca) in cas.iter().filter(|(_, ca)| !issuers.contains(ca.subject().as_raw())) {
        warnings.push(format!("{} has no revocation list of {}", path.display(), ca.subject()));
    }
    Ok(revoked)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// RFC 5280 §5.1.1.3. Which curve an ECDSA key is on is found out by trying.
fn is_signed_by(list: &CertificateRevocationList<'_>, ca: &X509Certificate<'_>) -> bool {
    let algorithms: &[&dyn VerificationAlgorithm] = match list
        .signature_algorithm
        .algorithm
        .to_id_string()
        .as_str()
    {
        "1.2.840.113549.1.1.5" => &[&signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY],
        "1.2.840.113549.1.1.11" => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        "1.2.840.113549.1.1.12" => &[&signature::RSA_PKCS1_2048_8192_SHA384],
        "1.2.840.113549.1.1.13" => &[&signature::RSA_PKCS1_2048_8192_SHA512],
        "1.2.840.10045.4.3.2" => &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
        "1.2.840.10045.4.3.3" => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P256_SHA384_ASN1],
        "1.2.840.10045.4.3.4" => &[&signature::ECDSA_P521_SHA512_ASN1],
        "1.3.101.112" => &[&signature::ED25519],
        _ => &[],
    };
    let key = &ca.public_key().subject_public_key.data;
    let (content, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    algorithms
        .iter()
        .any(|algorithm| UnparsedPublicKey::new(*algorithm, key).verify(content, signature).is_ok())
}
