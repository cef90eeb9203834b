//! A CA as the firmware holds it: its name and its key, nothing else of the certificate. Facts §5.2.
//!
//! Dates, key usage and constraints of the CA's certificate are not compiled in, so a device does not check them: a CA
//! certificate that is extended with the same name and key needs no new firmware.

use x509_parser::{
    certificate::X509Certificate, oid_registry as oids, prelude::FromDer, public_key::PublicKey,
};

/// Characters of a CA's name that messages and comments repeat.
const NAME_SHOWN: usize = 64;

/// A trust anchor: what `br_x509_trust_anchor` is filled with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustAnchor {
    name: String,
    dn: Vec<u8>,
    key: AnchorKey,
}

/// The key of an anchor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnchorKey {
    /// RSA: modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
    },
    /// An elliptic curve, the point uncompressed: 04, X, Y.
    Ec {
        /// The curve.
        curve: Curve,
        /// The point.
        q: Vec<u8>,
    },
}

/// Curves that BearSSL has a number for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// secp256r1, the only one that a device calculates on.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// BearSSL's name for it.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::P256 => "BR_EC_secp256r1",
            Self::P384 => "BR_EC_secp384r1",
            Self::P521 => "BR_EC_secp521r1",
        }
    }

    /// The name that people use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    fn point_bytes(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }
}

/// Why a certificate is no anchor for any device.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnchorError {
    /// Not DER, or not a certificate.
    #[error("it is not an X.509 certificate")]
    NotACertificate,
    /// The certificate of a server, client or device.
    #[error("{name} is not a CA: its certificate does not say CA:TRUE in basicConstraints")]
    NotACa {
        /// The subject's common name.
        name: String,
    },
    /// BearSSL has no way to hold the key.
    #[error("the key of {name} is neither RSA nor on a NIST curve")]
    Key {
        /// The subject's common name.
        name: String,
    },
}

impl AnchorError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotACertificate => "give a CA certificate in PEM or DER, such as pki/ca.crt".into(),
            Self::NotACa { .. } => {
                "give the certificate of the CA that signed it (pki/ca.crt); to trust one server \
                                    alone use --trust fingerprint, which survives its renewal"
                    .into()
            }
            Self::Key { .. } => "make a CA with an RSA key of 2048 bits: quoll ca init".into(),
        })
    }
}

impl TrustAnchor {
    /// From a CA's certificate, DER.
    ///
    /// # Errors
    /// Not a certificate, not a CA, or a key that BearSSL cannot hold. Whether a device can use it is
    /// [`Kit::sources`](super::Kit::sources)'s question.
    pub fn from_certificate(der: &[u8]) -> Result<Self, AnchorError> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(AnchorError::NotACertificate);
        };
        let name = shown_name(&certificate);
        let is_ca = matches!(certificate.basic_constraints(), Ok(Some(it)) if it.value.ca);
        if !is_ca {
            return Err(AnchorError::NotACa { name });
        }
        let Some(key) = key(&certificate) else { return Err(AnchorError::Key { name }) };
        Ok(Self { name, dn: certificate.subject().as_raw().to_vec(), key })
    }

    /// Its common name, or its whole name, in printable ASCII and at most 64 characters: for comments and messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subject's Name, DER, with its outer tag and length.
    #[must_use]
    pub fn dn(&self) -> &[u8] {
        &self.dn
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &AnchorKey {
        &self.key
    }

    /// The kind of its key, for people: `RSA 2048` or `EC P-256`.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.key {
            AnchorKey::Rsa { n, .. } => format!("RSA {}", bits(n)),
            AnchorKey::Ec { curve, .. } => format!("EC {}", curve.name()),
        }
    }

    /// True for a key on a curve.
    #[must_use]
    pub fn is_ec(&self) -> bool {
        matches!(self.key, AnchorKey::Ec { .. })
    }
}

/// Bits of a big-endian number without leading zeros.
pub(super) fn bits(n: &[u8]) -> usize {
    n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize)
}

fn key(certificate: &X509Certificate<'_>) -> Option<AnchorKey> {
    let info = certificate.public_key();
    match info.parsed().ok()? {
        PublicKey::RSA(key) => {
            let (n, e) = (trimmed(key.modulus), trimmed(key.exponent));
            (!n.is_empty() && !e.is_empty()).then_some(AnchorKey::Rsa { n, e })
        }
        PublicKey::EC(point) => {
            let named = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let curve = [
                (oids::OID_EC_P256, Curve::P256),
                (oids::OID_NIST_EC_P384, Curve::P384),
                (oids::OID_NIST_EC_P521, Curve::P521),
            ]
            .into_iter()
            .find_map(|(oid, curve)| (oid == named).then_some(curve))?;
            let q = point.data().to_vec();
            (q.len() == curve.point_bytes() && q[0] == 4).then_some(AnchorKey::Ec { curve, q })
        }
        _ => None,
    }
}

fn trimmed(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// A name may hold anything; a comment in C must not end in a backslash, nor hold a line end.
fn shown_name(certificate: &X509Certificate<'_>) -> String {
    let subject = certificate.subject();
    let common = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let whole = common.map_or_else(|| subject.to_string(), str::to_owned);
    let plain = |c: char| if (c.is_ascii_graphic() || c == ' ') && c != '\\' { c } else { '.' };
    let shown: String = whole.chars().take(NAME_SHOWN).map(plain).collect();
    if shown.trim().is_empty() { "a CA without a name".into() } else { shown }
}
