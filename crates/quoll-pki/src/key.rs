//! Private keys: RSA and EC P-256, made and used by aws-lc-rs. What it is not: key files (see `key_file`).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
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
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// The kinds of key that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with 2048 bits: what every Tasmota can check, for CA and server keys. Takes up to a second to make.
    Rsa2048,
    /// EC P-256: the only kind a device can hold. A CA or server with it needs `SetOption165 1` (facts §3.3, §5.3).
    EcP256,
}

impl KeyKind {
    /// What a firmware needs to check a CA or server key of this kind; `None` if every firmware can (facts §3.3, §5.3).
    pub fn firmware_note(self) -> Option<&'static str> {
        match self {
            Self::Rsa2048 => None,
            Self::EcP256 => Some(
                "to trust an EC key of a CA or server, a device needs firmware 15.1 or later with ECDSA and SetOption165 1",
            ),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa2048 => "RSA-2048",
            Self::EcP256 => "EC P-256",
        })
    }
}

/// A private key. Clones share it; the memory is wiped when the last one goes.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

enum Inner {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
}

impl PrivateKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, PkiError> {
        let inner = match kind {
            KeyKind::Rsa2048 => rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map(Inner::Rsa),
            KeyKind::EcP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Inner::Ec),
        };
        inner.map(Self::from).map_err(|_| PkiError::Crypto { act: "making a key" })
    }

    /// From unencrypted PKCS#8 DER: RSA of 2048 to 8192 bits, or EC P-256.
    ///
    /// # Errors
    /// A sentence saying why not.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, String> {
        let rejected = match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der) {
            Ok(key) => return Ok(Inner::Ec(key).into()),
            Err(rejected) => rejected,
        };
        match rsa::KeyPair::from_pkcs8(der) {
            Ok(key) => Ok(Inner::Rsa(key).into()),
            Err(_) => Err(format!("it is neither RSA of 2048 to 8192 bits nor EC P-256 ({rejected})")),
        }
    }

    /// From the older DER forms OpenSSL 1 wrote: PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    pub(crate) fn from_traditional_der(der: &[u8]) -> Result<Self, String> {
        if let Ok(key) = rsa::KeyPair::from_der(der) {
            return Ok(Inner::Rsa(key).into());
        }
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(|key| Inner::Ec(key).into())
            .map_err(|rejected| format!("it is neither RSA of 2048 to 8192 bits nor EC P-256 ({rejected})"))
    }

    /// Which kind it is; `None` for an RSA key of another size, as an adopted CA may have.
    pub fn kind(&self) -> Option<KeyKind> {
        match &*self.0 {
            Inner::Rsa(key) => (key.public_modulus_len() == 256).then_some(KeyKind::Rsa2048),
            Inner::Ec(_) => Some(KeyKind::EcP256),
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
            Inner::Ec(key) => key.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
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
            Inner::Ec(key) => key.public_key().as_der(),
        };
        der.expect("a public key can be encoded").as_ref().to_vec()
    }

    /// Signs with SHA-256: PKCS#1 v1.5 for RSA, DER-encoded ECDSA for EC.
    fn sign_sha256(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match &*self.0 {
            Inner::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out)?;
                Ok(out)
            }
            Inner::Ec(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
        }
    }
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
        self.0.sign_sha256(message).map(SignatureOctets).map_err(|_| signature::Error::new())
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
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_survives_pkcs8() {
        for kind in [KeyKind::EcP256, KeyKind::Rsa2048] {
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
