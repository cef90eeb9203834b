//! The doctor: why a device is not online, what that follows from, what to do. Pure: evidence in, verdict out.
//!
//! | room | what is in it |
//! |---|---|
//! | [`evidence`] | what is known: device, wire, certificates, network |
//! | [`log`] | a device's web log, read |
//! | [`rules`] | what causes there are, by rank; the table of docs/doctor.md |
//! | [`verdict`] | the first that applies, and what else does |
//!
//! What it is not: it asks nobody and changes nothing.

pub mod evidence;
pub mod log;
pub mod rules;
pub mod verdict;

pub use evidence::Evidence;
pub use verdict::{Finding, Health, Repair, Verdict, diagnose};

#[cfg(test)]
mod tests;
