//! The one source of randomness: aws-lc-rs' generator, seeded by the operating system.

use aws_lc_rs::rand;

use crate::error::PkiError;

/// Fills `octets` with unpredictable bytes.
///
/// # Errors
/// [`PkiError::Crypto`] when the system gives no entropy.
pub(crate) fn fill(octets: &mut [u8]) -> Result<(), PkiError> {
    rand::fill(octets).map_err(|_| PkiError::Crypto { act: "drawing random bytes" })
}
