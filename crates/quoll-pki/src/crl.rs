//! The certificate revocation list (RFC 5280 §5): built from `index.txt`, and read back.
//! What it is not: the way a revocation takes effect in the broker; that reads `index.txt`. The CRL is for everybody else.

use std::collections::HashSet;

use time::{Duration, OffsetDateTime};
use x509_cert::{
    crl::{CertificateList, RevokedCert, TbsCertList},
    der::{Decode, Encode, asn1::BitString},
    ext::pkix::{CrlNumber, CrlReason},
    name::Name,
    spki::DynSignatureAlgorithmIdentifier,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::{
    builder::{self, failed},
    certificate::Certificate,
    dates,
    error::PkiError,
    key::{BuilderSigner, PrivateKey, SignatureOctets},
    limits::CRL_DAYS,
    pem,
    revocation::RevocationReason,
    serial::Serial,
    store::index::{EntryState, Index},
};
use signature::Signer;
use x509_cert::spki::SignatureBitStringEncoding;

/// What is asked of a CRL in `crl.pem`.
pub(crate) struct Crl {
    pub(crate) issuer_der: Vec<u8>,
    pub(crate) serials: HashSet<Serial>,
    pub(crate) number: Option<u128>,
    pub(crate) this_update: Option<OffsetDateTime>,
    pub(crate) next_update: Option<OffsetDateTime>,
}

impl Crl {
    /// # Errors
    /// What is wrong with it, as a phrase.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, String> {
        let block = pem::find(text, |label| label == "X509 CRL")?;
        let (_, parsed) =
            CertificateRevocationList::from_der(&block.der).map_err(|_| "it is not a CRL".to_owned())?;
        let serials =
            parsed.iter_revoked_certificates().map(|entry| Serial::from_der_integer(entry.raw_serial()));
        let number = parsed.crl_number().map(|number| number.to_bytes_be());
        Ok(Self {
            issuer_der: parsed.issuer().as_raw().to_vec(),
            serials: serials.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            number: number
                .filter(|octets| octets.len() <= 16)
                .map(|octets| octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet))),
            this_update: dates::from_unix(parsed.last_update().timestamp()),
            next_update: parsed.next_update().and_then(|next| dates::from_unix(next.timestamp())),
        })
    }
}

/// The revocation list as it is to be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCrl {
    /// DER: what is served over HTTP (RFC 5280 §4.2.1.13, RFC 2585 §4.2).
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Option<OffsetDateTime>,
    /// Until when it is good.
    pub next_update: Option<OffsetDateTime>,
}

impl PublishedCrl {
    /// As PEM, like `crl.pem`.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("X509 CRL", &self.der).as_str().to_owned()
    }

    /// Tells this list from every other one: 32 hex digits of its SHA-256.
    #[must_use]
    pub fn tag(&self) -> String {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        hash.as_ref()[..16].iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// How `crl.pem` stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlStatus {
    /// Its number (RFC 5280 §5.2.3); Easy-RSA's have none.
    pub number: Option<u128>,
    /// When it was made.
    pub this_update: Option<OffsetDateTime>,
    /// Until when it is good. Past that, Mosquitto and others refuse everybody.
    pub next_update: Option<OffsetDateTime>,
    /// Certificates in it.
    pub revoked: usize,
    /// Why it has to be written anew, as sentences. Empty if it is good for [`crate::limits::CRL_WARN`] or longer.
    pub problems: Vec<String>,
}

/// A CRL of everything `index` says is revoked, in DER; good for so many days, else [`CRL_DAYS`].
///
/// # Errors
/// An encoding or the signature failed.
pub(crate) fn build(
    index: &Index,
    number: u128,
    ca: &Certificate,
    key: &PrivateKey,
    days: Option<u32>,
    now: OffsetDateTime,
) -> Result<Vec<u8>, PkiError> {
    const ACT: &str = "building the CRL";
    let signer = BuilderSigner(key);
    let algorithm = signer.signature_algorithm_identifier().map_err(failed(ACT))?;
    let revoked: Vec<RevokedCert> = index
        .entries()
        .filter_map(|entry| match entry.state {
            EntryState::Revoked { at, reason } => Some(revoked_entry(&entry.serial, at, reason)),
            _ => None,
        })
        .collect::<Result<_, _>>()?;
    let tbs_cert_list = TbsCertList {
        version: x509_cert::Version::V2,
        signature: algorithm.clone(),
        issuer: Name::from_der(ca.subject_der()).map_err(failed(ACT))?,
        this_update: dates::to_der(now)?,
        next_update: Some(dates::to_der(
            now.saturating_add(Duration::days(days.unwrap_or(CRL_DAYS).into())),
        )?),
        // RFC 5280 §5.1.2.6: absent, not empty.
        revoked_certificates: (!revoked.is_empty()).then_some(revoked),
        crl_extensions: Some(vec![
            builder::authority_key_id(ca)?,
            builder::extension(&CrlNumber::try_from(number).map_err(failed(ACT))?, false)?,
        ]),
    };
    let signature: SignatureOctets =
        signer.try_sign(&tbs_cert_list.to_der().map_err(failed(ACT))?).map_err(failed(ACT))?;
    let signature: BitString = signature.to_bitstring().map_err(failed(ACT))?;
    let list = CertificateList { tbs_cert_list, signature_algorithm: algorithm, signature };
    list.to_der().map_err(failed(ACT))
}

fn revoked_entry(
    serial: &Serial,
    at: OffsetDateTime,
    reason: RevocationReason,
) -> Result<RevokedCert, PkiError> {
    // RFC 5280 §5.3.1: the reason "unspecified" is said by saying nothing.
    let reason = match reason {
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(CrlReason::KeyCompromise),
        RevocationReason::CaCompromise => Some(CrlReason::CaCompromise),
        RevocationReason::AffiliationChanged => Some(CrlReason::AffiliationChanged),
        RevocationReason::Superseded => Some(CrlReason::Superseded),
        RevocationReason::CessationOfOperation => Some(CrlReason::CessationOfOperation),
        RevocationReason::CertificateHold => Some(CrlReason::CertificateHold),
    };
    let extensions = reason.map(|reason| builder::extension(&reason, false)).transpose()?;
    Ok(RevokedCert {
        serial_number: builder::serial_number(serial)?,
        revocation_date: dates::to_der(at)?,
        crl_entry_extensions: extensions.map(|reason| vec![reason]),
    })
}
