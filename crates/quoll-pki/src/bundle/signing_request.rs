//! A PKCS#10 signing request (RFC 2986) that was looked at whole: its signature is its own key's, its name can be a
//! certificate's, and it asks for nothing that we would not understand.
//! What it is not: a key. There is no way to make one from, or get from one, anything private.

use std::net::IpAddr;

use x509_cert::{
    der::{Decode, Encode},
    name::Name,
    request::CertReq,
};
use x509_parser::{
    cri_attributes::ParsedCriAttribute,
    der_parser::oid,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509CertificationRequest},
};

use super::{error::BundleError, verify};
use crate::{
    builder::{self, failed},
    certificate::{Certificate, PublicKeyKind},
    error::PkiError,
    key::PrivateKey,
    name::CertName,
    pem,
    request::AltNames,
};

/// A signing request, parsed and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    der: Vec<u8>,
    name: CertName,
    subject_der: Vec<u8>,
    public_key_der: Vec<u8>,
    key: PublicKeyKind,
    alt_names: AltNames,
}

impl SigningRequest {
    /// From the first `CERTIFICATE REQUEST` block of a PEM text.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let block = pem::find(text, |label| label.ends_with("CERTIFICATE REQUEST"))?;
        Self::from_der(&block.der)
    }

    /// From DER.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let Ok((rest, parsed)) = X509CertificationRequest::from_der(der) else {
            return Err("it is not a signing request (PKCS#10)".into());
        };
        if !rest.is_empty() {
            return Err("there are bytes after the signing request".into());
        }
        // The reader above takes other tags around what is signed; the same bytes have one meaning only.
        let strict = CertReq::from_der(der).and_then(|strict| strict.to_der());
        if strict.ok().as_deref() != Some(der) || parsed.signature_value.unused_bits != 0 {
            return Err("it is not a signing request (PKCS#10)".into());
        }
        let info = &parsed.certification_request_info;
        let public_key_der = info.subject_pki.raw.to_vec();
        let Some(key) = verify::kind_of(&public_key_der) else {
            return Err("its key is neither RSA, EC P-256, EC P-384 nor Ed25519".into());
        };
        if !verify::holds(
            &public_key_der,
            &parsed.signature_algorithm.algorithm,
            info.raw,
            &parsed.signature_value.data,
        ) {
            return Err("its signature is not its own key's".into());
        }
        let mut names = info.subject.iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err("its subject has not exactly one common name".into());
        };
        let name = name.as_str().map_err(|_| "its common name is not text".to_owned())?;
        Ok(Self {
            name: CertName::parse(name).map_err(|error| error.to_string())?,
            subject_der: info.subject.as_raw().to_vec(),
            alt_names: alt_names(&parsed)?,
            der: der.to_vec(),
            public_key_der,
            key,
        })
    }

    /// A request by `key`.
    ///
    /// # Errors
    /// The builder or the signature failed.
    pub(super) fn build(
        subject: Name,
        key: &PrivateKey,
        alt_names: Option<(&AltNames, &CertName)>,
    ) -> Result<Self, BundleError> {
        let alt_names =
            alt_names.map(|(names, name)| builder::alt_names(names, name.as_str())).transpose()?;
        let der = builder::request(subject, key, alt_names)?;
        Ok(Self::from_der(&der).map_err(failed("reading back the request just built"))?)
    }

    /// The DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// One PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.der).to_string()
    }

    /// The common name.
    #[must_use]
    pub fn name(&self) -> &CertName {
        &self.name
    }

    /// The host names and addresses asked for; an address given as text too is in both.
    #[must_use]
    pub fn alt_names(&self) -> &AltNames {
        &self.alt_names
    }

    /// The key's kind in words, for example `EC P-256`.
    #[must_use]
    pub fn key_words(&self) -> String {
        self.key.to_string()
    }

    /// SubjectPublicKeyInfo DER.
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    pub(crate) fn key(&self) -> PublicKeyKind {
        self.key
    }

    pub(crate) fn subject(&self) -> Result<Name, PkiError> {
        Name::from_der(&self.subject_der).map_err(failed("reading the request's subject"))
    }

    /// Whether the certificate is of this key and this subject.
    pub(super) fn is_for(&self, certificate: &Certificate) -> bool {
        certificate.public_key_der() == self.public_key_der && certificate.subject_der() == self.subject_der
    }
}

/// The names of the request's SAN. Other kinds of name are refused: a certificate without them would not be what was
/// asked for. Other extensions are the profile's business and not looked at, as with `easyrsa sign-req`.
fn alt_names(parsed: &X509CertificationRequest<'_>) -> Result<AltNames, String> {
    let mut out = AltNames::default();
    for attribute in parsed.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else { continue };
        for extension in &wanted.extensions {
            let names = match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => names,
                // Left out, the certificate would not be what was asked for.
                _ if extension.oid == oid!(2.5.29.17) => {
                    return Err("the alternative names that it asks for cannot be read".into());
                }
                _ => continue,
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(text) => match text.parse::<IpAddr>() {
                        Ok(ip) if out.ip.contains(&ip) => {}
                        Ok(ip) => out.ip.push(ip),
                        Err(_) => out.dns.push((*text).to_owned()),
                    },
                    GeneralName::IPAddress(octets) => {
                        let ip = <[u8; 4]>::try_from(*octets)
                            .map(IpAddr::from)
                            .or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from))
                            .map_err(|_| "it asks for an address of a wrong length".to_owned())?;
                        if !out.ip.contains(&ip) {
                            out.ip.push(ip);
                        }
                    }
                    _ => return Err("it asks for alternative names other than hosts and addresses".into()),
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{KeyKind, Subject};

    fn request() -> SigningRequest {
        let key = PrivateKey::generate(KeyKind::EcP256).unwrap();
        let names = AltNames {
            dns: vec!["b.lan".into()],
            ip: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let name = CertName::parse("broker").unwrap();
        SigningRequest::build(Subject::CnOnly.to_name("broker").unwrap(), &key, Some((&names, &name)))
            .unwrap()
    }

    #[test]
    fn what_is_asked_for_is_read_back() {
        let request = request();
        assert_eq!(request.name().as_str(), "broker");
        assert_eq!(request.alt_names().dns, ["broker", "b.lan"]);
        assert_eq!(request.alt_names().ip.len(), 2);
        assert_eq!(request.key_words(), "EC P-256");
        assert_eq!(SigningRequest::from_pem(request.pem().as_bytes()).unwrap(), request);
    }

    #[test]
    fn names_that_cannot_be_read_are_not_left_out_in_silence() {
        use x509_cert::{
            der::asn1::{ObjectIdentifier, OctetString},
            ext::Extension,
        };
        let key = PrivateKey::generate(KeyKind::EcP256).unwrap();
        for content in [&[0x05, 0x00][..], &[0x30, 0x03, 0x82, 0x09, b'a'], &[]] {
            let names = Extension {
                extn_id: ObjectIdentifier::new_unwrap("2.5.29.17"),
                critical: false,
                extn_value: OctetString::new(content).unwrap(),
            };
            let subject = Subject::CnOnly.to_name("broker").unwrap();
            let der = builder::request(subject, &key, Some(names)).unwrap();
            let refused = SigningRequest::from_der(&der).unwrap_err();
            assert!(refused.contains("alternative names"), "{content:?}: {refused}");
        }
    }

    #[test]
    fn a_changed_bit_is_refused_wherever_it_is() {
        let good = request().der().to_vec();
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut der = good.clone();
            der[at] ^= 1 << bit;
            assert!(SigningRequest::from_der(&der).is_err(), "bit {bit} of byte {at} of {}", good.len());
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in 0usize..1000, change in 1u8..) {
            let mut der = request().der().to_vec();
            let at = at % der.len();
            der[at] ^= change;
            prop_assert!(SigningRequest::from_der(&der).is_err());
        }

        #[test]
        fn garbage_never_panics(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SigningRequest::from_der(&der).is_err());
            prop_assert!(SigningRequest::from_pem(&der).is_err());
        }
    }
}
