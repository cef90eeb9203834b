//! The numbers of this crate, each with its reason. What it is not: configuration; nothing here is meant to be tuned per site.

use time::Duration;

/// Largest certificate or key file read, in bytes. Text dump included, real ones stay under 20 kB.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// Largest `index.txt` or CRL read, in bytes: about 400,000 certificates.
pub(crate) const MAX_INDEX: u64 = 64 << 20;
/// Largest PEM body decoded, in bytes of base64.
pub(crate) const MAX_PEM: usize = 64 << 20;

/// Device certificates above this many DER bytes cannot be sent by `TLSKey2` over HTTP (facts: TLSKey input limits).
pub const DEVICE_DER_MAX: usize = 891;
/// Device certificates below this many DER bytes are taken for garbage by `TLSKey2` (facts: TLSKey input limits).
pub const DEVICE_DER_MIN: usize = 257;
/// Device certificates above this many DER bytes are close to the limit; the next longer name may not fit.
pub const DEVICE_DER_WARN: usize = 850;

/// PBKDF2-HMAC-SHA256 rounds for the keys we encrypt (OWASP's figure of 2023).
pub const KDF_ITERATIONS: u32 = 600_000;
/// Rounds of key derivation in a PKCS#12 file; a phone opens it once, and some are slow.
pub(crate) const PKCS12_ITERATIONS: u32 = 100_000;
/// More PBKDF2 rounds than this in a foreign key would freeze the program for minutes.
pub(crate) const MAX_KDF_ITERATIONS: u32 = 20_000_000;
/// More scrypt memory than this in a foreign key would be an attack on the machine, bytes.
pub(crate) const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
/// Parallel scrypt lanes accepted in a foreign key.
pub(crate) const MAX_SCRYPT_LANES: u16 = 16;

/// OpenSSL refuses to ask for a passphrase shorter than this, so Easy-RSA could not open the key interactively.
pub const PASSPHRASE_MIN: usize = 4;
/// OpenSSL's `-passin` reads no more than this many bytes.
pub const PASSPHRASE_MAX: usize = 1023;

/// X.520 `ub-common-name`, in characters.
pub const COMMON_NAME_MAX: usize = 64;
/// RFC 5280 §4.1.2.2: a serial number has at most 20 octets.
pub const SERIAL_MAX: usize = 20;
/// Profiles of the user's own that are read from one folder.
pub(crate) const PROFILES_MAX: usize = 100;
/// Names in one certificate; far above need, below what bursts a handshake.
pub const ALT_NAMES_MAX: usize = 64;

/// Life of a new CA: 20 years, because every device must be visited to change it. Days.
pub const CA_DAYS: u32 = 7305;
/// Life of server, device and client certificates: 10 years, always cut at the CA's end. Days.
pub const CERTIFICATE_DAYS: u32 = 3652;
/// Longest life that can be asked for, in days (100 years); keeps date arithmetic inside its range.
pub const DAYS_MAX: u32 = 36_525;
/// `nextUpdate` of a CRL lies this many days ahead, as Easy-RSA has it.
pub const CRL_DAYS: u32 = 180;

/// A new CA's `notBefore` lies this far back, and its servers' with it: a device that boots without NTP believes
/// the clock of its last settings save (spikes §1 "What else breaks certificates").
pub(crate) const CA_BACKDATE: Duration = Duration::days(365);
/// A certificate whose life the CA's end cuts below this is worth a warning.
pub(crate) const SHORT_LIFE: Duration = Duration::days(365);
/// A key that is opened by fewer PBKDF2 rounds than this is worth encrypting anew: Easy-RSA's 2048 are tried by the
/// million a second.
pub const KDF_ITERATIONS_WEAK: u32 = 100_000;
/// Before this, no clock is right: a machine without a battery begins in 1970 or 2000, and a CA made then would be over, or
/// its list, as soon as the clock is set. 2024-01-01, in Unix seconds.
pub(crate) const CLOCK_EARLIEST: i64 = 1_704_067_200;
/// A CRL that begins further ahead than this was written by a clock that was wrong; less is two clocks that differ.
pub(crate) const CRL_AHEAD: Duration = Duration::days(1);
/// A CRL whose `nextUpdate` is nearer than this is worth a warning: past it, many servers refuse everybody.
pub const CRL_WARN: Duration = Duration::days(30);
