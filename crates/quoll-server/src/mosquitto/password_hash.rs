//! Hashes of passwords in Mosquitto's three forms.
//!
//! | form | what it is |
//! |---|---|
//! | `$6$SALT$HASH` | SHA-512 over password and salt, in one go; Mosquitto up to 1.6. Read, and written only on request |
//! | `$7$ITERATIONS$SALT$HASH` | PBKDF2-HMAC-SHA512 (RFC 8018 §5.2); Mosquitto since 2.0 |
//! | `$argon2id$v=19$m=..,t=..,p=..$SALT$HASH` | Argon2id (RFC 9106) as a PHC string; Mosquitto 2.1 where compiled in |
//!
//! To check one takes milliseconds on purpose: call [`PasswordHash::verify`] where that blocks nobody.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a new salt; all versions of Mosquitto read this length.
const SALT: usize = 12;
/// Bytes of SHA-512.
const HASH: usize = 64;
/// Iterations of a new `$7$`, ten times Mosquitto 2.1's: some 10 ms for a login, which a thousand devices that come back
/// together still can afford.
pub const ITERATIONS: u32 = 10_000;
/// More would be an attack by the file: minutes for one login.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Of a new Argon2id: memory in KiB, passes, lanes. Mosquitto 2.1's.
const ARGON2: (u32, u32, u32) = (47_104, 1, 1);
/// Bounds for Argon2id, as for the iterations: 256 MiB a login, for a second or so.
const MAX_ARGON2: (u32, u32, u32) = (256 * 1024, 64, 16);

/// The form of a new hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// `$7$` with so many iterations, 1 to 10,000,000.
    Pbkdf2(u32),
    /// `$6$`, for Mosquitto 1.6 and older. A stolen file is soon guessed.
    Sha512,
    /// `$argon2id$`.
    Argon2id,
}

impl Default for Scheme {
    fn default() -> Self {
        Self::Pbkdf2(ITERATIONS)
    }
}

/// The hash of a password.
#[derive(Clone, Eq, PartialEq)]
pub enum PasswordHash {
    /// `$6$`.
    Sha512 {
        /// Salt, 1 to 64 bytes.
        salt: Vec<u8>,
        /// Hash.
        hash: [u8; HASH],
    },
    /// `$7$`.
    Pbkdf2 {
        /// Iterations.
        iterations: NonZeroU32,
        /// Salt, 1 to 64 bytes.
        salt: Vec<u8>,
        /// Hash.
        hash: [u8; HASH],
    },
    /// `$argon2id$`.
    Argon2id {
        /// Memory, passes, lanes.
        params: Params,
        /// Salt, 8 to 64 bytes.
        salt: Vec<u8>,
        /// Hash, 4 to 64 bytes.
        hash: Vec<u8>,
    },
}

/// Why a text is no hash.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum HashError {
    /// None of the three forms; perhaps a password in the clear.
    #[error("this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?")]
    Form,
    /// Not base64, or of another length than it must have.
    #[error("the {part} is damaged")]
    Damaged {
        /// Salt or hash.
        part: &'static str,
    },
    /// Numbers that would take too long, or nothing at all.
    #[error("the cost is none that can be paid here")]
    Cost,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl PasswordHash {
    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// Where the scheme's numbers are out of bounds, or there are no random numbers.
    pub fn new(scheme: Scheme, password: &[u8]) -> Result<Self, HashError> {
        let mut salt = vec![0; SALT];
        rand::fill(&mut salt).map_err(|_| HashError::Random)?;
        match scheme {
            Scheme::Sha512 => {
                let hash = sha512(password, &salt);
                Ok(Self::Sha512 { salt, hash })
            }
            Scheme::Pbkdf2(iterations) => {
                let iterations = NonZeroU32::new(iterations).filter(|n| n.get() <= MAX_ITERATIONS);
                let iterations = iterations.ok_or(HashError::Cost)?;
                let mut hash = [0; HASH];
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password, &mut hash);
                Ok(Self::Pbkdf2 { iterations, salt, hash })
            }
            Scheme::Argon2id => {
                let params = params(ARGON2, HASH)?;
                let hash = argon2id(&params, &salt, password, HASH)?.to_vec();
                Ok(Self::Argon2id { params, salt, hash })
            }
        }
    }

    /// Reads a hash.
    ///
    /// # Errors
    /// Where it has none of the forms, or is damaged.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let mut parts = text.strip_prefix('$').ok_or(HashError::Form)?.split('$');
        let form = parts.next().ok_or(HashError::Form)?;
        let cost = match form {
            "6" => None,
            "7" => Some(parts.next().ok_or(HashError::Cost)?),
            "argon2id" => {
                if parts.next() != Some("v=19") {
                    return Err(HashError::Form);
                }
                Some(parts.next().ok_or(HashError::Cost)?)
            }
            _ => return Err(HashError::Form),
        };
        let salt = parts.next().ok_or(HashError::Damaged { part: "salt" })?;
        let hash = parts.next().ok_or(HashError::Damaged { part: "hash" })?;
        if parts.next().is_some() {
            return Err(HashError::Form);
        }
        match (form, cost) {
            ("argon2id", Some(cost)) => {
                let salt = decode(&STANDARD_NO_PAD, salt, 8..=64, "salt")?;
                let hash = decode(&STANDARD_NO_PAD, hash, 4..=64, "hash")?;
                Ok(Self::Argon2id { params: params(argon2_cost(cost)?, hash.len())?, salt, hash })
            }
            (_, cost) => {
                let salt = decode(&STANDARD, salt, 1..=64, "salt")?;
                let hash = decode(&STANDARD, hash, HASH..=HASH, "hash")?;
                let hash = hash.try_into().map_err(|_| HashError::Damaged { part: "hash" })?;
                let Some(cost) = cost else { return Ok(Self::Sha512 { salt, hash }) };
                let iterations: NonZeroU32 = cost.parse().map_err(|_| HashError::Cost)?;
                if iterations.get() > MAX_ITERATIONS {
                    return Err(HashError::Cost);
                }
                Ok(Self::Pbkdf2 { iterations, salt, hash })
            }
        }
    }

    /// Whether this is the password. Takes as long for a wrong one; blocks for milliseconds.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, hash } => {
                constant_time::verify_slices_are_equal(&sha512(password, salt), hash).is_ok()
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Self::Argon2id { params, salt, hash } => argon2id(params, salt, password, hash.len())
                .is_ok_and(|found| constant_time::verify_slices_are_equal(&found, hash).is_ok()),
        }
    }
}

/// The text that goes into the file.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha512 { salt, hash } => {
                write!(f, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Self::Argon2id { params, salt, hash } => write!(
                f,
                "$argon2id$v=19$m={},t={},p={}${}${}",
                params.m_cost(),
                params.t_cost(),
                params.p_cost(),
                STANDARD_NO_PAD.encode(salt),
                STANDARD_NO_PAD.encode(hash)
            ),
        }
    }
}

/// Hashes can be guessed from; they are shown to nobody.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha512 { .. } => "$6$(secret)",
            Self::Pbkdf2 { .. } => "$7$(secret)",
            Self::Argon2id { .. } => "$argon2id$(secret)",
        })
    }
}

fn sha512(password: &[u8], salt: &[u8]) -> [u8; HASH] {
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(password);
    context.update(salt);
    let mut hash = [0; HASH];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn argon2id(
    params: &Params,
    salt: &[u8],
    password: &[u8],
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, HashError> {
    let mut hash = Zeroizing::new(vec![0; length]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into(password, salt, &mut hash)
        .map_err(|_| HashError::Cost)?;
    Ok(hash)
}

fn params((memory, passes, lanes): (u32, u32, u32), length: usize) -> Result<Params, HashError> {
    let (max_memory, max_passes, max_lanes) = MAX_ARGON2;
    if memory > max_memory || passes > max_passes || lanes > max_lanes {
        return Err(HashError::Cost);
    }
    Params::new(memory, passes, lanes, Some(length)).map_err(|_| HashError::Cost)
}

/// `m=MEMORY,t=PASSES,p=LANES`.
fn argon2_cost(text: &str) -> Result<(u32, u32, u32), HashError> {
    let mut parts = text.split(',');
    let mut part = |name: &str| {
        let value = parts.next().and_then(|part| part.strip_prefix(name)).ok_or(HashError::Cost)?;
        value.parse().map_err(|_| HashError::Cost)
    };
    let cost = (part("m=")?, part("t=")?, part("p=")?);
    if parts.next().is_some() { Err(HashError::Cost) } else { Ok(cost) }
}

fn decode(
    engine: &impl base64::Engine,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    part: &'static str,
) -> Result<Vec<u8>, HashError> {
    let bytes = engine.decode(text).map_err(|_| HashError::Damaged { part })?;
    if length.contains(&bytes.len()) { Ok(bytes) } else { Err(HashError::Damaged { part }) }
}
