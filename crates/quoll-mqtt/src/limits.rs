//! The bounds of this crate, each with its reason.

/// The largest Remaining Length that four bytes can say (§1.5.5, §2.1.4).
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;
