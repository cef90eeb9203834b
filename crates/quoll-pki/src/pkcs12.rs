//! PKCS#12 files (RFC 7292) for phones, browsers and Java: key, certificate and CA under one passphrase. Written only.
//! What it is not: a reader; what is imported comes as PEM.

use aws_lc_rs::{digest, hmac};
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use x509_cert::der::{Encode, asn1::ObjectIdentifier};
use zeroize::Zeroizing;

use crate::{
    certificate::Certificate, error::PkiError, key::PrivateKey, limits::PKCS12_ITERATIONS,
    passphrase::Passphrase, random,
};

/// How a PKCS#12 file is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pkcs12Form {
    /// PBES2 with AES-256-CBC and HMAC-SHA256, as OpenSSL 3 writes it: Android 12, Windows 10, Java 8u301 and later.
    Aes256,
    /// 3DES and HMAC-SHA1, as OpenSSL's `-legacy`: iOS, macOS and older phones take no other. Its secret is the
    /// passphrase, so let that be long, and delete the file when the phone has it.
    TripleDes,
}

const ACT: &str = "writing a PKCS#12 file";
const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
const CERTIFICATE_BAG: &str = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE: &str = "1.2.840.113549.1.9.22.1";
const FRIENDLY_NAME: &str = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
const PBE_3DES: &str = "1.2.840.113549.1.12.1.3";
const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";

impl PrivateKey {
    /// Key, certificate and its CAs as one PKCS#12 file. `name` is what a phone shows.
    ///
    /// # Errors
    /// [`PkiError::UnusablePassphrase`]; [`PkiError::Crypto`].
    pub fn to_pkcs12(
        &self,
        name: &str,
        certificate: &Certificate,
        cas: &[&Certificate],
        pass: &Passphrase,
        form: Pkcs12Form,
    ) -> Result<Vec<u8>, PkiError> {
        pass.check_for_new_key()?;
        let writer = Writer { pass, password: bmp_password(pass)?, form };
        let key_id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
        let own = set(&[
            seq(&[oid(FRIENDLY_NAME)?, set(&[tlv(0x1e, &bmp(name))])]),
            seq(&[oid(LOCAL_KEY_ID)?, set(&[tlv(0x04, key_id.as_ref())])]),
        ]);
        let mut certificates = vec![certificate_bag(certificate, Some(&own))?];
        for ca in cas {
            certificates.push(certificate_bag(ca, None)?);
        }
        let (algorithm, sealed) = writer.seal(&self.pkcs8_der())?;
        let shrouded = seq(&[algorithm, tlv(0x04, &sealed)]);
        let key_bag = seq(&[oid(KEY_BAG)?, explicit(&shrouded), own]);

        let (algorithm, sealed) = writer.seal(&seq(&certificates))?;
        let content = seq(&[oid(DATA)?, algorithm, tlv(0x80, &sealed)]);
        let encrypted = seq(&[oid(ENCRYPTED_DATA)?, explicit(&seq(&[integer(0), content]))]);
        let safe = seq(&[encrypted, data(&seq(&[key_bag]))?]);
        Ok(seq(&[integer(3), data(&safe)?, writer.mac(&safe)?]))
    }
}

struct Writer<'a> {
    pass: &'a Passphrase,
    /// UTF-16, big-endian, with a terminator (RFC 7292 §B.1).
    password: Zeroizing<Vec<u8>>,
    form: Pkcs12Form,
}

impl Writer<'_> {
    /// The AlgorithmIdentifier and the encrypted octets.
    fn seal(&self, plain: &[u8]) -> Result<(Vec<u8>, Vec<u8>), PkiError> {
        let failed = || PkiError::Crypto { act: ACT };
        match self.form {
            Pkcs12Form::Aes256 => {
                let (mut salt, mut iv) = ([0; 16], [0; 16]);
                random::fill(&mut salt)?;
                random::fill(&mut iv)?;
                let scheme: EncryptionScheme =
                    pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PKCS12_ITERATIONS, &salt, iv)
                        .map_err(|_| failed())?
                        .into();
                let sealed = scheme.encrypt(self.pass.as_bytes(), plain).map_err(|_| failed())?;
                Ok((scheme.to_der().map_err(|_| failed())?, sealed))
            }
            Pkcs12Form::TripleDes => {
                let mut salt = [0; 16];
                random::fill(&mut salt)?;
                let key = derive(Hash::Sha1, 1, &self.password, &salt, 24);
                let iv = derive(Hash::Sha1, 2, &self.password, &salt, 8);
                let cipher =
                    cbc::Encryptor::<des::TdesEde3>::new_from_slices(&key, &iv).map_err(|_| failed())?;
                let sealed = cipher.encrypt_padded_vec::<Pkcs7>(plain);
                let parameters = seq(&[tlv(0x04, &salt), integer(PKCS12_ITERATIONS)]);
                Ok((seq(&[oid(PBE_3DES)?, parameters]), sealed))
            }
        }
    }

    /// MacData over the whole (RFC 7292 §4).
    fn mac(&self, safe: &[u8]) -> Result<Vec<u8>, PkiError> {
        let (hash, name, algorithm) = match self.form {
            Pkcs12Form::Aes256 => (Hash::Sha256, SHA256, hmac::HMAC_SHA256),
            Pkcs12Form::TripleDes => (Hash::Sha1, SHA1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        };
        let mut salt = [0; 16];
        random::fill(&mut salt)?;
        let key = derive(hash, 3, &self.password, &salt, hash.octets());
        let tag = hmac::sign(&hmac::Key::new(algorithm, &key), safe);
        let info = seq(&[seq(&[oid(name)?, tlv(0x05, &[])]), tlv(0x04, tag.as_ref())]);
        Ok(seq(&[info, tlv(0x04, &salt), integer(PKCS12_ITERATIONS)]))
    }
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn of(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let mut context = digest::Context::new(match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        });
        parts.iter().for_each(|part| context.update(part));
        Zeroizing::new(context.finish().as_ref().to_vec())
    }
}

/// The key derivation of PKCS#12 (RFC 7292 §B.2); `purpose` 1 is a key, 2 an IV, 3 a MAC key. Both hashes have blocks of 64.
fn derive(hash: Hash, purpose: u8, password: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    const BLOCK: usize = 64;
    let stretched = |text: &[u8]| {
        let whole = text.len().div_ceil(BLOCK) * BLOCK;
        text.iter().copied().cycle().take(whole).collect::<Vec<_>>()
    };
    let mut input = Zeroizing::new(stretched(salt));
    input.extend(Zeroizing::new(stretched(password)).iter());
    let mut out = Zeroizing::new(Vec::with_capacity(length + hash.octets()));
    while out.len() < length {
        let mut block = hash.of(&[&[purpose; BLOCK], &input]);
        for _ in 1..PKCS12_ITERATIONS {
            block = hash.of(&[&block]);
        }
        out.extend_from_slice(&block);
        let filled: Zeroizing<Vec<u8>> = Zeroizing::new(block.iter().copied().cycle().take(BLOCK).collect());
        for chunk in input.chunks_exact_mut(BLOCK) {
            add_with_one(chunk, &filled);
        }
    }
    out.truncate(length);
    out
}

/// `chunk + addend + 1` as big-endian numbers, carry out of the top dropped.
fn add_with_one(chunk: &mut [u8], addend: &[u8]) {
    let mut carry = 1_u16;
    for (octet, add) in chunk.iter_mut().zip(addend).rev() {
        let sum = u16::from(*octet) + u16::from(*add) + carry;
        let [high, low] = sum.to_be_bytes();
        *octet = low;
        carry = u16::from(high);
    }
}

fn bmp(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn bmp_password(pass: &Passphrase) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    let text = std::str::from_utf8(pass.as_bytes()).map_err(|_| PkiError::UnusablePassphrase)?;
    let mut out = Zeroizing::new(bmp(text));
    out.extend([0, 0]);
    Ok(out)
}

fn certificate_bag(certificate: &Certificate, attributes: Option<&Vec<u8>>) -> Result<Vec<u8>, PkiError> {
    let value = seq(&[oid(X509_CERTIFICATE)?, explicit(&tlv(0x04, certificate.der()))]);
    let mut parts = vec![oid(CERTIFICATE_BAG)?, explicit(&value)];
    parts.extend(attributes.cloned());
    Ok(seq(&parts))
}

/// ContentInfo of type data.
fn data(content: &[u8]) -> Result<Vec<u8>, PkiError> {
    Ok(seq(&[oid(DATA)?, explicit(&tlv(0x04, content))]))
}

fn oid(text: &str) -> Result<Vec<u8>, PkiError> {
    let failed = |_| PkiError::Crypto { act: ACT };
    ObjectIdentifier::new(text).map_err(|_| PkiError::Crypto { act: ACT })?.to_der().map_err(failed)
}

fn integer(value: u32) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let zeros = octets.iter().take_while(|octet| **octet == 0).count().min(3);
    let mut content = octets[zeros..].to_vec();
    if content[0] & 0x80 != 0 {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

fn explicit(content: &[u8]) -> Vec<u8> {
    tlv(0xa0, content)
}

fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A SET OF in the order of DER: by the encodings of its members.
fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    tlv(0x31, &parts.concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        _ => {
            let octets = content.len().to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            let digits = &octets[zeros..];
            out.push(0x80 | u8::try_from(digits.len()).expect("a length has at most 8 octets"));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
    out
}
