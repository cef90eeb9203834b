//! What happened to many devices together: how many are online, how often they came and went, which numbers they logged.
//! One of these is shared by a whole simulated fleet; a device alone has [`super::DeviceState`].

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counters of a fleet, since it was switched on.
#[derive(Debug, Default)]
pub struct Tally {
    online: AtomicU64,
    connects: AtomicU64,
    reconnects: AtomicU64,
    losses: AtomicU64,
    crashes: AtomicU64,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    tls: BTreeMap<i32, u64>,
    codes: BTreeMap<i32, u64>,
}

/// A reading of a [`Tally`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Connected at this moment.
    pub online: u64,
    /// CONNACKs with code 0 so far.
    pub connects: u64,
    /// Those of devices that had been online before.
    pub reconnects: u64,
    /// Connections that ended, whoever ended them.
    pub losses: u64,
    /// Times a device crashed over its connection and restarted.
    pub crashes: u64,
    /// `TLS connection error: N`, by number. See [`crate::tls_error`].
    pub tls_errors: BTreeMap<i32, u64>,
    /// `Connect failed …, rc N` without a TLS error, by code. Facts §7.4.
    pub return_codes: BTreeMap<i32, u64>,
}

impl Tally {
    /// The counters now.
    #[must_use]
    pub fn count(&self) -> Count {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        Count {
            online: self.online.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            losses: self.losses.load(Ordering::Relaxed),
            crashes: self.crashes.load(Ordering::Relaxed),
            tls_errors: failures.tls.clone(),
            return_codes: failures.codes.clone(),
        }
    }

    /// A device is online until the value is dropped.
    pub(super) fn online(&self, again: bool) -> Online<'_> {
        self.reconnects.fetch_add(u64::from(again), Ordering::Relaxed);
        self.online.fetch_add(1, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
        Online(self)
    }

    pub(super) fn tls_error(&self, number: i32) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.tls.entry(number).or_default() += 1;
    }

    pub(super) fn return_code(&self, code: i32) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.codes.entry(code).or_default() += 1;
    }

    pub(super) fn crash(&self) {
        self.crashes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a device off however its connection ends, also when its task is cut short.
pub(super) struct Online<'a>(&'a Tally);

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.online.fetch_sub(1, Ordering::Relaxed);
        self.0.losses.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_online_until_its_connection_ends() {
        let tally = Tally::default();
        let first = tally.online(false);
        let second = tally.online(true);
        drop(first);
        tally.tls_error(296);
        tally.tls_error(296);
        tally.return_code(-2);
        let count = tally.count();
        assert_eq!((count.online, count.connects, count.reconnects, count.losses), (1, 2, 1, 1));
        assert_eq!(count.tls_errors.get(&296), Some(&2));
        assert_eq!(count.return_codes.get(&-2), Some(&1));
        drop(second);
        assert_eq!(tally.count().online, 0);
    }
}
