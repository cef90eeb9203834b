//! Private keys: RSA, EC P-256 and P-384, Ed25519, made and used by aws-lc-rs. What it is not: key files (see `key_file`).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    },
};
use signature::{Keypair, Signer};
use x509_cert::{
    der::{
        self, Decode, Document,
        asn1::{BitString, Null},
    },
    spki::{
        AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey, ObjectIdentifier,
        SignatureBitStringEncoding,
    },
};
use zeroize::Zeroizing;

use crate::{error::PkiError, pem};

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The kinds of key that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with 2048 bits: what every Tasmota can check, for CA and server keys. Takes up to a second to make.
    Rsa2048,
    /// RSA with 3072 bits. An ESP8266 cannot check it.
    Rsa3072,
    /// RSA with 4096 bits. An ESP8266 cannot check it. Takes several seconds to make.
    Rsa4096,
    /// EC P-256: the only kind a device can hold. A CA or server with it needs `SetOption165 1` (facts §3.3, §5.3).
    EcP256,
    /// EC P-384, for peers that are no devices. What it signs, it signs with SHA-384.
    EcP384,
    /// Ed25519, for peers that are no devices.
    Ed25519,
}

impl KeyKind {
    /// What a firmware needs to check a CA or server key of this kind; `None` if every firmware can (facts §3.3, §5.3).
    pub fn firmware_note(self) -> Option<&'static str> {
        match self {
            Self::Rsa2048 => None,
            Self::Rsa3072 | Self::Rsa4096 => {
                Some("an ESP8266 cannot check an RSA key of more than 2048 bits; an ESP32 can")
            }
            Self::EcP256 => Some(
                "to trust an EC key of a CA or server, a device needs firmware 15.1 or later with ECDSA and SetOption165 1",
            ),
            Self::EcP384 | Self::Ed25519 => Some("no device can check a key of this kind"),
        }
    }

    /// Every kind, in the order of the help.
    pub const ALL: [Self; 6] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::EcP256, Self::EcP384, Self::Ed25519];

    /// The word for it in profiles and on the command line: `rsa-2048`, `ec-p256` and so on.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Ed25519 => "ed25519",
        }
    }

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
            Self::EcP256 => "EC P-256",
            Self::EcP384 => "EC P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A private key. Clones share it; the memory is wiped when the last one goes.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

enum Inner {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    EcP384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What is said of a key that is none of ours.
const NO_KIND_OF_OURS: &str = "it is neither RSA of 2048 to 8192 bits nor EC P-256, EC P-384 or Ed25519";

/// A curve, and what a key on it becomes.
type Curve = (&'static EcdsaSigningAlgorithm, fn(EcdsaKeyPair) -> Inner);

const CURVES: [Curve; 2] =
    [(&ECDSA_P256_SHA256_ASN1_SIGNING, Inner::Ec), (&ECDSA_P384_SHA384_ASN1_SIGNING, Inner::EcP384)];

impl PrivateKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, PkiError> {
        let inner = match kind {
            KeyKind::Rsa2048 => rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map(Inner::Rsa),
            KeyKind::Rsa3072 => rsa::KeyPair::generate(rsa::KeySize::Rsa3072).map(Inner::Rsa),
            KeyKind::Rsa4096 => rsa::KeyPair::generate(rsa::KeySize::Rsa4096).map(Inner::Rsa),
            KeyKind::EcP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Inner::Ec),
            KeyKind::EcP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Inner::EcP384),
            KeyKind::Ed25519 => Ed25519KeyPair::generate().map(Inner::Ed25519),
        };
        inner.map(Self::from).map_err(|_| PkiError::Crypto { act: "making a key" })
    }

    /// The key in a file that needs no passphrase, in any of the formats that are read.
    ///
    /// # Errors
    /// [`PkiError::Encrypted`], [`PkiError::UnsupportedKey`] with the converting command, [`PkiError::BadKey`],
    /// [`PkiError::Io`].
    pub fn from_plain_file(path: &std::path::Path) -> Result<Self, PkiError> {
        crate::key_file::read(path, None)
    }

    /// From unencrypted PKCS#8 DER: RSA of 2048 to 8192 bits, EC P-256 or P-384, or Ed25519.
    ///
    /// # Errors
    /// A sentence saying why not.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, String> {
        for (curve, inner) in CURVES {
            if let Ok(key) = EcdsaKeyPair::from_pkcs8(curve, der) {
                return Ok(inner(key).into());
            }
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Inner::Ed25519(key).into());
        }
        match rsa::KeyPair::from_pkcs8(der) {
            Ok(key) => Ok(Inner::Rsa(key).into()),
            Err(rejected) => Err(format!("{NO_KIND_OF_OURS} ({rejected})")),
        }
    }

    /// From the older DER forms OpenSSL 1 wrote: PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    pub(crate) fn from_traditional_der(der: &[u8]) -> Result<Self, String> {
        if let Ok(key) = rsa::KeyPair::from_der(der) {
            return Ok(Inner::Rsa(key).into());
        }
        for (curve, inner) in CURVES {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) {
                return Ok(inner(key).into());
            }
        }
        Err(NO_KIND_OF_OURS.to_owned())
    }

    /// What key this is, in words, where it is whole and of no kind that is read: PKCS#8 (RFC 5958) or SEC1 (RFC 5915).
    pub(crate) fn foreign_kind(der: &[u8]) -> Option<String> {
        if let Ok(info) = pkcs8::PrivateKeyInfoRef::from_der(der) {
            let curve = || info.algorithm.parameters_oid().ok();
            return Some(match info.algorithm.oid.to_string().as_str() {
                "1.2.840.113549.1.1.1" => rsa_of_odd_size(info.private_key.as_bytes())?,
                "1.2.840.113549.1.1.10" => "an RSA-PSS key".into(),
                "1.2.840.10040.4.1" => "a DSA key".into(),
                "1.3.101.113" => "an Ed448 key".into(),
                "1.2.840.10045.2.1" => on_curve(curve()?)?,
                other => format!("a key of the kind {other}"),
            });
        }
        let curve = sec1_curve(der).and_then(on_curve);
        curve.or_else(|| rsa_of_odd_size(der))
    }

    /// Which kind it is; `None` for an RSA key of another size, as an adopted CA may have.
    pub fn kind(&self) -> Option<KeyKind> {
        match &*self.0 {
            Inner::Rsa(key) => match key.public_modulus_len() {
                256 => Some(KeyKind::Rsa2048),
                384 => Some(KeyKind::Rsa3072),
                512 => Some(KeyKind::Rsa4096),
                _ => None,
            },
            Inner::Ec(_) => Some(KeyKind::EcP256),
            Inner::EcP384(_) => Some(KeyKind::EcP384),
            Inner::Ed25519(_) => Some(KeyKind::Ed25519),
        }
    }

    /// The private scalar of an EC key: always 32 bytes, padded at the left (facts: TLSKey1 takes exactly 32).
    pub fn ec_scalar(&self) -> Option<Zeroizing<[u8; 32]>> {
        let Inner::Ec(key) = &*self.0 else { return None };
        let scalar: EcPrivateKeyBin<'_> = key.private_key().as_be_bytes().ok()?;
        let mut out = Zeroizing::new([0; 32]);
        let start = 32usize.checked_sub(scalar.as_ref().len())?;
        out[start..].copy_from_slice(scalar.as_ref());
        Some(out)
    }

    /// Unencrypted PKCS#8 (version 1) DER.
    pub fn pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let der = match &*self.0 {
            Inner::Rsa(key) => AsDer::<Pkcs8V1Der<'_>>::as_der(key).map(|der| der.as_ref().to_vec()),
            Inner::Ec(key) | Inner::EcP384(key) => key.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Inner::Ed25519(key) => key.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        Zeroizing::new(der.expect("a key that was parsed or made can be encoded"))
    }

    /// Unencrypted PKCS#8 PEM (`PRIVATE KEY`).
    pub fn pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.pkcs8_der())
    }

    /// The public key as SubjectPublicKeyInfo DER (RFC 5280 §4.1.2.7).
    pub fn public_key_der(&self) -> Vec<u8> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &*self.0 {
            Inner::Rsa(key) => key.public_key().as_der(),
            Inner::Ec(key) | Inner::EcP384(key) => key.public_key().as_der(),
            Inner::Ed25519(key) => key.public_key().as_der(),
        };
        der.expect("a public key can be encoded").as_ref().to_vec()
    }

    /// Modulus and exponent of an RSA key, big-endian without leading zeros: what a device's fingerprint is over.
    pub fn rsa_public_key(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};
        let der = self.public_key_der();
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).ok()?;
        let bare = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Some((bare(key.modulus), bare(key.exponent))),
            _ => None,
        }
    }

    /// Signs as X.509 has it: RSA PKCS#1 v1.5 and ECDSA on P-256 with SHA-256, on P-384 with SHA-384; Ed25519.
    fn sign_for_x509(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match &*self.0 {
            Inner::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out)?;
                Ok(out)
            }
            Inner::Ec(key) | Inner::EcP384(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
            Inner::Ed25519(key) => Ok(key.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

/// `None` for the curves that are read.
fn on_curve(curve: ObjectIdentifier) -> Option<String> {
    Some(match curve.to_string().as_str() {
        "1.2.840.10045.3.1.7" | "1.3.132.0.34" => return None,
        "1.3.132.0.35" => "an EC key on P-521".into(),
        "1.3.132.0.10" => "an EC key on secp256k1".into(),
        other => format!("an EC key on the curve {other}"),
    })
}

/// The curve that an `EC PRIVATE KEY` names.
fn sec1_curve(der: &[u8]) -> Option<ObjectIdentifier> {
    use x509_parser::der_parser::{asn1_rs::FromDer, ber::BerObjectContent, der};
    let (_, key) = der::parse_der(der).ok()?;
    let named = key.as_sequence().ok()?.iter().find(|part| part.header.raw_tag() == Some(&[0xa0]))?;
    let BerObjectContent::Unknown(any) = &named.content else { return None };
    let (_, oid) = x509_parser::der_parser::asn1_rs::Oid::from_der(any.data).ok()?;
    ObjectIdentifier::new(&oid.to_id_string()).ok()
}

/// A PKCS#1 key of a size that is not read.
fn rsa_of_odd_size(der: &[u8]) -> Option<String> {
    let (_, key) = x509_parser::der_parser::der::parse_der(der).ok()?;
    let modulus = key.as_sequence().ok()?.get(1)?.as_slice().ok()?;
    let bits = modulus.iter().skip_while(|octet| **octet == 0).count() * 8;
    (!(2048..=8192).contains(&bits)).then(|| format!("an RSA key of {bits} bits"))
}

impl From<Inner> for PrivateKey {
    fn from(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "PrivateKey({kind})"),
            None => f.write_str("PrivateKey(RSA)"),
        }
    }
}

/// A key in the role the certificate builder asks for.
pub(crate) struct BuilderSigner<'a>(pub(crate) &'a PrivateKey);

/// Signature octets, as they go into the BIT STRING.
pub(crate) struct SignatureOctets(Vec<u8>);

/// SubjectPublicKeyInfo DER.
#[derive(Clone)]
pub(crate) struct PublicKeyInfo(Vec<u8>);

impl Signer<SignatureOctets> for BuilderSigner<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<SignatureOctets, signature::Error> {
        self.0.sign_for_x509(message).map(SignatureOctets).map_err(|_| signature::Error::new())
    }
}

impl SignatureBitStringEncoding for SignatureOctets {
    fn to_bitstring(&self) -> der::Result<BitString> {
        BitString::from_bytes(&self.0)
    }
}

impl Keypair for BuilderSigner<'_> {
    type VerifyingKey = PublicKeyInfo;

    fn verifying_key(&self) -> PublicKeyInfo {
        PublicKeyInfo(self.0.public_key_der())
    }
}

impl EncodePublicKey for PublicKeyInfo {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::from_der(&self.0)?)
    }
}

impl DynSignatureAlgorithmIdentifier for BuilderSigner<'_> {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifierOwned> {
        Ok(match &*self.0.0 {
            // RFC 4055 §5: the parameters of RSA are NULL; RFC 5758 §3.2: those of ECDSA are absent.
            Inner::Rsa(_) => AlgorithmIdentifierOwned { oid: SHA256_WITH_RSA, parameters: Some(Null.into()) },
            Inner::Ec(_) => AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None },
            Inner::EcP384(_) => AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA384, parameters: None },
            // RFC 8410 §3: no parameters.
            Inner::Ed25519(_) => AlgorithmIdentifierOwned { oid: ED25519, parameters: None },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_survives_pkcs8() {
        for kind in [KeyKind::EcP256, KeyKind::Rsa2048, KeyKind::EcP384, KeyKind::Ed25519] {
            assert_eq!(KeyKind::from_word(kind.word()), Some(kind));
            let key = PrivateKey::generate(kind).unwrap();
            let again = PrivateKey::from_pkcs8_der(&key.pkcs8_der()).unwrap();
            assert_eq!(again.kind(), Some(kind));
            assert_eq!(again.public_key_der(), key.public_key_der());
            assert_eq!(again.ec_scalar(), key.ec_scalar());
            assert_eq!(key.ec_scalar().is_some(), kind == KeyKind::EcP256);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_key(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(PrivateKey::from_pkcs8_der(&der).is_err());
            prop_assert!(PrivateKey::from_traditional_der(&der).is_err());
        }
    }
}
