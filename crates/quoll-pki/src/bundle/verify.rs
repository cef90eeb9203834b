//! Whether a signature is who it says: of a request by its own key, of certificates, CRL and manifest by the CA's.
//! What it is not: path building; there is one CA and nothing between it and a leaf.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::{
    der_parser::{Oid, asn1_rs::oid},
    prelude::{CertificateRevocationList, FromDer, SubjectPublicKeyInfo, X509Certificate},
};

use crate::{
    certificate::{Certificate, PublicKeyKind},
    key::KeyKind,
};

const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const ED: Oid<'static> = oid!(1.3.101.112);
const RSA_SHA256: Oid<'static> = oid!(1.2.840.113549.1.1.11);
const RSA_SHA384: Oid<'static> = oid!(1.2.840.113549.1.1.12);
const RSA_SHA512: Oid<'static> = oid!(1.2.840.113549.1.1.13);
const ECDSA_SHA256: Oid<'static> = oid!(1.2.840.10045.4.3.2);
const ECDSA_SHA384: Oid<'static> = oid!(1.2.840.10045.4.3.3);

/// The same among the kinds that are made here, if it is one.
pub(crate) fn made_kind(key: PublicKeyKind) -> Option<KeyKind> {
    match key {
        PublicKeyKind::Rsa(2048) => Some(KeyKind::Rsa2048),
        PublicKeyKind::Rsa(3072) => Some(KeyKind::Rsa3072),
        PublicKeyKind::Rsa(4096) => Some(KeyKind::Rsa4096),
        PublicKeyKind::EcP256 => Some(KeyKind::EcP256),
        PublicKeyKind::EcP384 => Some(KeyKind::EcP384),
        PublicKeyKind::Ed25519 => Some(KeyKind::Ed25519),
        PublicKeyKind::Rsa(_) | PublicKeyKind::OtherEc | PublicKeyKind::Unknown => None,
    }
}

/// Which kind a SubjectPublicKeyInfo holds; `None` for those that nobody here can use.
pub(crate) fn kind_of(public_key_der: &[u8]) -> Option<PublicKeyKind> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public_key_der).ok()?;
    kind(&info)
}

/// The signature over `message` by the key in `public_key_der`, with the algorithm of a certificate, CRL or request.
pub(crate) fn holds(public_key_der: &[u8], algorithm: &Oid<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(public_key_der) else { return false };
    let checker: &'static dyn VerificationAlgorithm = match kind(&info) {
        Some(PublicKeyKind::Rsa(_)) if *algorithm == RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
        Some(PublicKeyKind::Rsa(_)) if *algorithm == RSA_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
        Some(PublicKeyKind::Rsa(_)) if *algorithm == RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
        Some(PublicKeyKind::EcP256) if *algorithm == ECDSA_SHA256 => &ECDSA_P256_SHA256_ASN1,
        Some(PublicKeyKind::EcP256) if *algorithm == ECDSA_SHA384 => &ECDSA_P256_SHA384_ASN1,
        Some(PublicKeyKind::EcP384) if *algorithm == ECDSA_SHA256 => &ECDSA_P384_SHA256_ASN1,
        Some(PublicKeyKind::EcP384) if *algorithm == ECDSA_SHA384 => &ECDSA_P384_SHA384_ASN1,
        Some(PublicKeyKind::Ed25519) if *algorithm == ED => &ED25519,
        _ => return false,
    };
    UnparsedPublicKey::new(checker, &info.subject_public_key.data).verify(message, signature).is_ok()
}

/// A detached signature as [`crate::PrivateKey`] makes it: `openssl dgst -sha256 -verify` checks it for RSA and P-256 (P-384
/// signs with SHA-384, Ed25519 is for `openssl pkeyutl -rawin`).
pub(crate) fn detached_holds(public_key_der: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm = match kind_of(public_key_der) {
        Some(PublicKeyKind::Rsa(_)) => RSA_SHA256,
        Some(PublicKeyKind::EcP256) => ECDSA_SHA256,
        Some(PublicKeyKind::EcP384) => ECDSA_SHA384,
        Some(PublicKeyKind::Ed25519) => ED,
        _ => return false,
    };
    holds(public_key_der, &algorithm, message, signature)
}

/// Issued by `ca`: the name byte for byte, and the signature.
pub(crate) fn is_issued_by(certificate: &Certificate, ca: &Certificate) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate.der()) else { return false };
    certificate.issuer_der() == ca.subject_der()
        && holds(
            ca.public_key_der(),
            &parsed.signature_algorithm.algorithm,
            parsed.tbs_certificate.as_ref(),
            &parsed.signature_value.data,
        )
}

/// A CRL of `ca`, in DER: the name byte for byte, and the signature.
pub(crate) fn is_crl_of(crl_der: &[u8], ca: &Certificate) -> bool {
    let Ok((rest, parsed)) = CertificateRevocationList::from_der(crl_der) else { return false };
    rest.is_empty()
        && parsed.issuer().as_raw() == ca.subject_der()
        && holds(
            ca.public_key_der(),
            &parsed.signature_algorithm.algorithm,
            parsed.tbs_cert_list.as_ref(),
            &parsed.signature_value.data,
        )
}

fn kind(info: &SubjectPublicKeyInfo<'_>) -> Option<PublicKeyKind> {
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == RSA {
        let x509_parser::public_key::PublicKey::RSA(rsa) = info.parsed().ok()? else { return None };
        let bits = rsa.modulus.iter().skip_while(|octet| **octet == 0).count() * 8;
        return Some(PublicKeyKind::Rsa(bits));
    }
    if *algorithm == ED {
        return Some(PublicKeyKind::Ed25519);
    }
    if *algorithm != EC {
        return None;
    }
    let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
    [(P256, PublicKeyKind::EcP256), (P384, PublicKeyKind::EcP384)]
        .into_iter()
        .find_map(|(oid, kind)| (curve == oid).then_some(kind))
}
