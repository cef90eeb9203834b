//! Certificates, requests and CRLs put together with the `x509-cert` builder and signed by aws-lc-rs.
//! What it is not: it touches no file and knows no folder.

use aws_lc_rs::digest;
use time::OffsetDateTime;
use x509_cert::{
    Certificate as BuiltCertificate,
    builder::{Builder, CertificateBuilder, profile::BuilderProfile},
    certificate::TbsCertificate,
    der::{
        Decode, Encode,
        asn1::{Ia5String, OctetString},
        oid::AssociatedOid,
    },
    ext::{
        Extension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage,
            SubjectAltName, SubjectKeyIdentifier,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
    name::Name,
    request::RequestBuilder,
    serial_number::SerialNumber,
    spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef},
    time::Validity,
};

use crate::{
    certificate::Certificate,
    dates,
    error::PkiError,
    key::{BuilderSigner, PrivateKey, SignatureOctets},
    profile::{Rules, ca_rules},
    request::AltNames,
    serial::Serial,
};

/// Characters of an address that stands in every certificate.
const URL_MAX: usize = 255;

/// Everything that goes into one certificate.
pub(crate) struct Plan<'a> {
    pub(crate) serial: &'a Serial,
    pub(crate) subject: Name,
    pub(crate) public_key_der: &'a [u8],
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) extensions: Vec<Extension>,
}

/// A certificate under `ca`.
///
/// # Errors
/// The builder or the signature failed, or the issuer's name did not survive byte for byte.
pub(crate) fn certificate(
    plan: Plan<'_>,
    ca: &Certificate,
    ca_key: &PrivateKey,
) -> Result<Certificate, PkiError> {
    let issuer = Name::from_der(ca.subject_der()).map_err(failed("reading the CA's name"))?;
    let certificate = build(plan, issuer, ca_key)?;
    // Devices and OpenSSL compare names by their bytes (spikes D6); a CA named in unusual DER must not go unnoticed.
    if certificate.issuer_der() == ca.subject_der() {
        Ok(certificate)
    } else {
        Err(PkiError::Crypto { act: "copying the CA's name byte for byte" })
    }
}

/// A CA's own certificate.
///
/// # Errors
/// The builder or the signature failed.
pub(crate) fn self_signed(plan: Plan<'_>, key: &PrivateKey) -> Result<Certificate, PkiError> {
    let issuer = plan.subject.clone();
    build(plan, issuer, key)
}

/// A PKCS#10 request as it lies in `reqs/`, in DER.
///
/// # Errors
/// The builder or the signature failed.
pub(crate) fn request(
    subject: Name,
    key: &PrivateKey,
    alt_names: Option<Extension>,
) -> Result<Vec<u8>, PkiError> {
    const ACT: &str = "building a request";
    let mut builder = RequestBuilder::new(subject).map_err(failed(ACT))?;
    if let Some(extension) = alt_names {
        builder.add_extension(extension).map_err(failed(ACT))?;
    }
    let built = builder.build::<_, SignatureOctets>(&BuilderSigner(key)).map_err(failed(ACT))?;
    built.to_der().map_err(failed(ACT))
}

/// The extensions of a leaf, in the order Easy-RSA has them.
///
/// # Errors
/// An encoding failed.
pub(crate) fn leaf_extensions(
    rules: &Rules,
    public_key_der: &[u8],
    ca: &Certificate,
    alt_names: Option<Extension>,
) -> Result<Vec<Extension>, PkiError> {
    let constraints = BasicConstraints { ca: rules.ca, path_len_constraint: rules.path_length };
    let mut out = vec![
        extension(&constraints, rules.constraints_critical)?,
        subject_key_id(public_key_der)?,
        authority_key_id(ca)?,
    ];
    if !rules.extended_usage.is_empty() {
        let usages = ExtendedKeyUsage(rules.extended_usage.clone());
        out.push(extension(&usages, rules.extended_usage_critical)?);
    }
    if !rules.usage.is_empty() {
        out.push(extension(&KeyUsage(rules.usage), rules.usage_critical)?);
    }
    out.extend(alt_names);
    Ok(out)
}

/// The extensions of a CA that signs itself, by the profile `ca`. `key_id` is the name that an earlier certificate of
/// this key had, which what it issued refers to.
///
/// # Errors
/// An encoding failed.
pub(crate) fn ca_extensions(
    public_key_der: &[u8],
    earlier_key_id: Option<&[u8]>,
    earlier_path_length: Option<u32>,
) -> Result<Vec<Extension>, PkiError> {
    let rules = ca_rules();
    // More than an octet holds is no limit.
    let path_length = earlier_path_length.and_then(|length| u8::try_from(length).ok());
    let key_id =
        earlier_key_id.map_or_else(|| key_id(public_key_der).map(|id| id.to_vec()), |id| Ok(id.to_vec()))?;
    let own = OctetString::new(key_id.as_slice()).map_err(failed("encoding a key identifier"))?;
    Ok(vec![
        extension(&SubjectKeyIdentifier(own), false)?,
        extension(&authority(&key_id)?, false)?,
        extension(
            &BasicConstraints { ca: rules.ca, path_len_constraint: path_length.or(rules.path_length) },
            rules.constraints_critical,
        )?,
        extension(&KeyUsage(rules.usage), rules.usage_critical)?,
    ])
}

/// SAN: each host name, each address as text, each address as address (spikes D4).
///
/// # Errors
/// An encoding failed.
pub(crate) fn alt_names(names: &AltNames, common_name: &str) -> Result<Extension, PkiError> {
    const ACT: &str = "encoding alternative names";
    let mut entries = Vec::new();
    for dns in names.dns_entries(common_name) {
        entries.push(GeneralName::DnsName(Ia5String::new(&dns).map_err(failed(ACT))?));
    }
    entries.extend(names.ip_entries(common_name).into_iter().map(GeneralName::from));
    extension(&SubjectAltName(entries), false)
}

/// Where the revocation list is to be had: one `http://` address (RFC 5280 §4.2.1.13). Not critical, as it says there.
///
/// # Errors
/// [`PkiError::BadRequest`] for anything else.
pub(crate) fn crl_points(url: &str) -> Result<Extension, PkiError> {
    const ACT: &str = "encoding the revocation list's address";
    let rest = url.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if rest.is_none() || url.len() > URL_MAX || !url.bytes().all(|octet| octet.is_ascii_graphic()) {
        let problem = format!(
            "{url:?} is no address of a revocation list: it begins with http://, has a host, no spaces, and at most {URL_MAX} \
             characters"
        );
        return Err(PkiError::BadRequest { name: "the revocation list".into(), problem });
    }
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(url).map_err(failed(ACT))?);
    let point = DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![name])),
        reasons: None,
        crl_issuer: None,
    };
    extension(&CrlDistributionPoints(vec![point]), false)
}

/// AKI with the CA's key identifier alone: in a device's certificate every byte counts.
pub(crate) fn authority_key_id(ca: &Certificate) -> Result<Extension, PkiError> {
    let id = match ca.subject_key_id() {
        Some(id) => id.to_vec(),
        None => key_id(ca.public_key_der())?.to_vec(),
    };
    extension(&authority(&id)?, false)
}

/// An extension with its criticality said, not implied.
pub(crate) fn extension<T: AssociatedOid + Encode>(value: &T, critical: bool) -> Result<Extension, PkiError> {
    const ACT: &str = "encoding an extension";
    let der = value.to_der().map_err(failed(ACT))?;
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(der).map_err(failed(ACT))? })
}

/// Our serial number in the builder's type. By way of DER, because an adopted tree may hold 20 octets with the top bit
/// set, which the builder's own constructor refuses.
pub(crate) fn serial_number(serial: &Serial) -> Result<SerialNumber, PkiError> {
    let octets = serial.as_bytes();
    let sign = usize::from(octets[0] & 0x80 != 0);
    let mut der =
        vec![0x02, u8::try_from(octets.len() + sign).expect("a serial number has at most 20 octets")];
    der.extend(std::iter::repeat_n(0, sign));
    der.extend_from_slice(octets);
    SerialNumber::from_der(&der).map_err(failed("encoding a serial number"))
}

/// Turns any library error into "`act` failed".
pub(crate) fn failed<E>(act: &'static str) -> impl Fn(E) -> PkiError {
    move |_| PkiError::Crypto { act }
}

fn build(plan: Plan<'_>, issuer: Name, key: &PrivateKey) -> Result<Certificate, PkiError> {
    const ACT: &str = "building a certificate";
    let public_key = SubjectPublicKeyInfo::from_der(plan.public_key_der).map_err(failed(ACT))?;
    let validity = Validity::new(dates::to_der(plan.not_before)?, dates::to_der(plan.not_after)?);
    let serial = serial_number(plan.serial)?;
    let profile = Said { issuer, subject: plan.subject, extensions: plan.extensions };
    let builder = CertificateBuilder::new(profile, serial, validity, public_key).map_err(failed(ACT))?;
    let built: BuiltCertificate =
        builder.build::<_, SignatureOctets>(&BuilderSigner(key)).map_err(failed(ACT))?;
    let der = built.to_der().map_err(failed(ACT))?;
    Certificate::from_der(&der).map_err(failed("reading back the certificate just built"))
}

/// A builder profile that adds nothing of its own.
struct Said {
    issuer: Name,
    subject: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Said {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _subject_key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

fn subject_key_id(public_key_der: &[u8]) -> Result<Extension, PkiError> {
    let id = OctetString::new(key_id(public_key_der)?).map_err(failed("encoding a key identifier"))?;
    extension(&SubjectKeyIdentifier(id), false)
}

fn authority(key_id: &[u8]) -> Result<AuthorityKeyIdentifier, PkiError> {
    let id = OctetString::new(key_id).map_err(failed("encoding a key identifier"))?;
    Ok(AuthorityKeyIdentifier { key_identifier: Some(id), ..Default::default() })
}

/// SHA-1 over the bits of the public key (RFC 5280 §4.2.1.2 method 1), as OpenSSL's `hash`; a name, not a protection.
fn key_id(public_key_der: &[u8]) -> Result<[u8; 20], PkiError> {
    const ACT: &str = "computing a key identifier";
    let info = SubjectPublicKeyInfoRef::from_der(public_key_der).map_err(failed(ACT))?;
    let mut out = [0; 20];
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, info.subject_public_key.raw_bytes());
    out.copy_from_slice(hash.as_ref());
    Ok(out)
}
