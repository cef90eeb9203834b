//! Key files: PEM to [`PrivateKey`] and back, encrypted (PKCS#8 with PBES2, RFC 8018) or plain.
//! What it is not: it never weakens what it writes, and it does not read formats older than PBES2 with SHA-2.

use std::{fmt, path::Path};

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    pkcs5::{EncryptionScheme, pbes2},
};
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::{
    error::{PkiError, other_kind},
    key::PrivateKey,
    limits::{
        KDF_ITERATIONS, KDF_ITERATIONS_WEAK, MAX_FILE, MAX_KDF_ITERATIONS, MAX_SCRYPT_LANES,
        MAX_SCRYPT_MEMORY,
    },
    passphrase::Passphrase,
    pem, random,
    store::files,
};

/// Reads a key file. `pass` is asked only if the file is encrypted.
///
/// # Errors
/// [`PkiError::Encrypted`] when it is encrypted and there is no passphrase, [`PkiError::WrongPassphrase`],
/// [`PkiError::UnsupportedKey`] with the converting command, [`PkiError::BadKey`].
pub(crate) fn read(path: &Path, pass: Option<&Passphrase>) -> Result<PrivateKey, PkiError> {
    let text = Zeroizing::new(files::read(path, MAX_FILE)?);
    let bad = |problem: String| PkiError::BadKey { path: path.to_owned(), problem };
    let block = pem::find(&text, |label| label.ends_with("PRIVATE KEY")).map_err(bad)?;
    if block.old_encryption {
        return Err(unsupported(path, "OpenSSL's old PEM encryption (Proc-Type: 4,ENCRYPTED)"));
    }
    match block.label.as_str() {
        "PRIVATE KEY" => {
            PrivateKey::from_pkcs8_der(&block.der).map_err(|problem| unread(path, &block.der, problem))
        }
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
            PrivateKey::from_traditional_der(&block.der).map_err(|problem| unread(path, &block.der, problem))
        }
        "ENCRYPTED PRIVATE KEY" => match pass {
            Some(pass) => decrypt(path, &block.der, pass),
            None => Err(PkiError::Encrypted { path: path.to_owned() }),
        },
        other => Err(unsupported(path, &format!("PEM label {other:?}"))),
    }
}

/// How a key file is protected, as far as can be told without its passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyProtection {
    /// Not at all.
    Plain,
    /// PBES2.
    Encrypted {
        /// `AES-256-CBC`, `3DES-CBC` and so on.
        cipher: &'static str,
        /// `PBKDF2-SHA256`, `scrypt` and so on.
        derivation: &'static str,
        /// PBKDF2 rounds; `None` for scrypt.
        rounds: Option<u32>,
    },
    /// In a format that is not read, with the openssl command that converts it where there is one.
    Unsupported {
        /// Which format.
        format: String,
        /// The command.
        convert: Option<String>,
    },
    /// No key at all, or a damaged one.
    Unusable(String),
}

impl KeyProtection {
    /// Why the key is worth encrypting anew, or `None` if it is well kept.
    pub fn weakness(&self) -> Option<String> {
        match self {
            Self::Encrypted { cipher: cipher @ ("3DES-CBC" | "DES-CBC"), .. } => {
                Some(format!("it is encrypted with {cipher} (CVE-2024-13454)"))
            }
            Self::Encrypted { rounds: Some(rounds), .. } if *rounds < KDF_ITERATIONS_WEAK => {
                Some(format!("its passphrase is protected by {rounds} rounds only"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for KeyProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Encrypted { cipher, derivation, rounds: Some(rounds) } => {
                write!(f, "{cipher}, {derivation}, {rounds} rounds")
            }
            Self::Encrypted { cipher, derivation, rounds: None } => write!(f, "{cipher}, {derivation}"),
            Self::Unsupported { format, .. } => write!(f, "not supported: {format}"),
            Self::Unusable(problem) => write!(f, "unusable: {problem}"),
        }
    }
}

/// What can be told of a key file without opening it.
pub(crate) struct Look {
    pub(crate) protection: KeyProtection,
    /// Where the file is plain.
    pub(crate) public_key_der: Option<Vec<u8>>,
}

/// Looks at a key file without opening its key. `None` if there is no file.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn look(path: &Path) -> Result<Option<Look>, PkiError> {
    if !path.exists() {
        return Ok(None);
    }
    let closed = |protection| Some(Look { protection, public_key_der: None });
    Ok(match read(path, None) {
        Ok(key) => {
            Some(Look { protection: KeyProtection::Plain, public_key_der: Some(key.public_key_der()) })
        }
        Err(PkiError::Encrypted { .. }) => closed(protection(path)?),
        Err(PkiError::UnsupportedKey { format, convert, .. }) => {
            closed(KeyProtection::Unsupported { format, convert })
        }
        Err(PkiError::OtherKind { kind, .. }) => {
            closed(KeyProtection::Unsupported { format: kind, convert: Some(other_kind(path)) })
        }
        Err(PkiError::BadKey { problem, .. }) => closed(KeyProtection::Unusable(problem)),
        Err(other) => return Err(other),
    })
}

fn protection(path: &Path) -> Result<KeyProtection, PkiError> {
    let text = files::read(path, MAX_FILE)?;
    let unusable = |problem: String| Ok(KeyProtection::Unusable(problem));
    let block = match pem::find(&text, |label| label == "ENCRYPTED PRIVATE KEY") {
        Ok(block) => block,
        Err(problem) => return unusable(problem),
    };
    let Ok(info) = EncryptedPrivateKeyInfoRef::from_der(&block.der) else {
        return unusable("an encryption older than PBES2, or damaged".into());
    };
    if let Err(PkiError::UnsupportedKey { format, convert, .. }) =
        check_scheme(path, &info.encryption_algorithm)
    {
        return Ok(KeyProtection::Unsupported { format, convert });
    }
    let EncryptionScheme::Pbes2(pbes2) = &info.encryption_algorithm else {
        return unusable("an encryption older than PBES2".into());
    };
    let cipher = match pbes2.encryption {
        pbes2::EncryptionScheme::Aes128Cbc { .. } => "AES-128-CBC",
        pbes2::EncryptionScheme::Aes192Cbc { .. } => "AES-192-CBC",
        pbes2::EncryptionScheme::Aes256Cbc { .. } => "AES-256-CBC",
        pbes2::EncryptionScheme::Aes128Gcm { .. } => "AES-128-GCM",
        pbes2::EncryptionScheme::Aes256Gcm { .. } => "AES-256-GCM",
        pbes2::EncryptionScheme::DesEde3Cbc { .. } => "3DES-CBC",
        _ => "an unknown cipher",
    };
    let (derivation, rounds) = match &pbes2.kdf {
        pbes2::Kdf::Pbkdf2(params) => {
            let hash = match params.prf {
                pbes2::Pbkdf2Prf::HmacWithSha1 => "PBKDF2-SHA1",
                pbes2::Pbkdf2Prf::HmacWithSha224 => "PBKDF2-SHA224",
                pbes2::Pbkdf2Prf::HmacWithSha256 => "PBKDF2-SHA256",
                pbes2::Pbkdf2Prf::HmacWithSha384 => "PBKDF2-SHA384",
                pbes2::Pbkdf2Prf::HmacWithSha512 => "PBKDF2-SHA512",
                _ => "PBKDF2 with another hash",
            };
            (hash, Some(params.iteration_count))
        }
        _ => ("scrypt", None),
    };
    Ok(KeyProtection::Encrypted { cipher, derivation, rounds })
}

/// `key` as an `ENCRYPTED PRIVATE KEY`: PBES2, PBKDF2-HMAC-SHA256 with [`KDF_ITERATIONS`] rounds, AES-256-CBC.
///
/// # Errors
/// [`PkiError::UnusablePassphrase`], or no randomness.
pub(crate) fn encrypt(key: &PrivateKey, pass: &Passphrase) -> Result<Zeroizing<String>, PkiError> {
    pass.check_for_new_key()?;
    let failed = || PkiError::Crypto { act: "encrypting a key" };
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random::fill(&mut salt)?;
    random::fill(&mut iv)?;
    let scheme = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(KDF_ITERATIONS, &salt, iv)
        .map_err(|_| failed())?;
    let der = key.pkcs8_der();
    let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| failed())?;
    let encrypted = info.encrypt_with_params(scheme, pass.as_bytes()).map_err(|_| failed())?;
    Ok(pem::encode("ENCRYPTED PRIVATE KEY", encrypted.as_bytes()))
}

fn decrypt(path: &Path, der: &[u8], pass: &Passphrase) -> Result<PrivateKey, PkiError> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der)
        .map_err(|_| unsupported(path, "an encryption older than PBES2, or damaged"))?;
    check_scheme(path, &info.encryption_algorithm)?;
    let wrong = || PkiError::WrongPassphrase { path: path.to_owned() };
    // About one wrong passphrase in 256 leaves plausible padding; then the content is no PKCS#8.
    let plain = info.decrypt(pass.as_bytes()).map_err(|_| wrong())?;
    PrivateKeyInfoRef::from_der(plain.as_bytes()).map_err(|_| wrong())?;
    PrivateKey::from_pkcs8_der(plain.as_bytes()).map_err(|problem| unread(path, plain.as_bytes(), problem))
}

/// A key that is whole is not called damaged.
fn unread(path: &Path, der: &[u8], problem: String) -> PkiError {
    let path = path.to_owned();
    match PrivateKey::foreign_kind(der) {
        Some(kind) => PkiError::OtherKind { path, kind },
        None => PkiError::BadKey { path, problem },
    }
}

/// Refuses what cannot be opened, and what would take minutes or the machine's memory to try.
fn check_scheme(path: &Path, scheme: &EncryptionScheme) -> Result<(), PkiError> {
    let EncryptionScheme::Pbes2(pbes2) = scheme else {
        return Err(unsupported(path, "PBES1 encryption (PKCS#5 v1.5)"));
    };
    match &pbes2.kdf {
        pbes2::Kdf::Pbkdf2(params) if params.prf == pbes2::Pbkdf2Prf::HmacWithSha1 => {
            Err(unsupported(path, "PBKDF2 with HMAC-SHA1, as OpenSSL 1.0 wrote"))
        }
        pbes2::Kdf::Pbkdf2(params) if params.iteration_count > MAX_KDF_ITERATIONS => {
            Err(unsupported(path, &format!("PBKDF2 with {} rounds", params.iteration_count)))
        }
        pbes2::Kdf::Scrypt(params) => {
            let memory = 128 * u64::from(params.block_size);
            let memory = memory.saturating_mul(params.cost_parameter);
            // RFC 7914 §6: N is a power of two above 1; the library would panic on 0.
            if params.cost_parameter < 2 || !params.cost_parameter.is_power_of_two() {
                return Err(unsupported(path, "scrypt with an invalid cost"));
            }
            if memory > MAX_SCRYPT_MEMORY || params.parallelization > MAX_SCRYPT_LANES {
                return Err(unsupported(path, &format!("scrypt that needs {} MiB of memory", memory >> 20)));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn unsupported(path: &Path, format: &str) -> PkiError {
    let file = path.display();
    PkiError::UnsupportedKey {
        path: path.to_owned(),
        format: format.to_owned(),
        convert: Some(format!(
            "openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter {KDF_ITERATIONS} -in {file} -out {file}.new \
             (single DES also needs: -provider legacy -provider default)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{Kdf, Parameters, Pbkdf2Params};
    use proptest::prelude::*;
    use x509_cert::der::{Encode, asn1::OctetStringRef};

    use super::*;

    fn told(parameters: Parameters) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.key");
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: parameters.into(),
            encrypted_data: OctetStringRef::new(&[0; 64]).unwrap(),
        };
        std::fs::write(&path, &*pem::encode("ENCRYPTED PRIVATE KEY", &info.to_der().unwrap())).unwrap();
        read(&path, Some(&Passphrase::new("test"))).unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_would_freeze_the_program_is_refused_unopened() {
        let slow = Parameters::generate_pbkdf2_sha256_aes256cbc(90_000_000, &[1; 8], [0; 16]).unwrap();
        assert!(told(slow.clone()).contains("PBKDF2 with 90000000 rounds"));
        let Kdf::Pbkdf2(Pbkdf2Params { salt, .. }) = &slow.kdf else { unreachable!("made so above") };
        for (cost_parameter, block_size, parallelization, expected) in [
            (1 << 40, 8, 1, "scrypt that needs"),
            (u64::MAX, u16::MAX, 1, "invalid cost"),
            (1 << 63, u16::MAX, 1, "scrypt that needs"),
            (1 << 14, 8, 9999, "scrypt that needs"),
            (0, 8, 1, "invalid cost"),
            (3, 8, 1, "invalid cost"),
        ] {
            let scrypt = pbes2::ScryptParams {
                salt: *salt,
                cost_parameter,
                block_size,
                parallelization,
                key_length: None,
            };
            let told = told(Parameters { kdf: scrypt.into(), encryption: slow.encryption });
            assert!(told.contains(expected), "{cost_parameter}: {told}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_key_file_never_panics(at in 0usize..200, byte in any::<u8>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.key");
            let scheme = Parameters::generate_pbkdf2_sha256_aes256cbc(1000, &[1; 8], [0; 16]).unwrap();
            let info = EncryptedPrivateKeyInfoRef {
                encryption_algorithm: scheme.into(),
                encrypted_data: OctetStringRef::new(&[0; 64]).unwrap(),
            };
            let mut der = info.to_der().unwrap();
            let at = at % der.len();
            der[at] = byte;
            std::fs::write(&path, &*pem::encode("ENCRYPTED PRIVATE KEY", &der)).unwrap();
            prop_assert!(read(&path, Some(&Passphrase::new("test"))).is_err());
        }
    }
}
