//! Who was turned away lately, to show beside a certificate that did not come.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// More than a person reads; a scanner must not fill the memory.
const REMEMBERED: usize = 64;

/// Failed handshakes and refused clients, newest last.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<VecDeque<(Instant, String)>>);

impl Refusals {
    pub(crate) fn note(&self, peer: &impl Display, why: &dyn Display) {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() == REMEMBERED {
            lately.pop_front();
        }
        lately.push_back((Instant::now(), format!("{peer}: {why}")));
    }

    /// Those since a moment.
    pub(crate) fn since(&self, moment: Instant) -> Vec<String> {
        let lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lately.iter().filter(|(at, _)| *at >= moment).map(|(_, text)| text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_since_is_told_and_not_more_than_a_person_reads() {
        let refusals = Refusals::default();
        refusals.note(&"early", &"certificate revoked");
        let moment = Instant::now();
        for number in 0..REMEMBERED + 5 {
            refusals.note(&number, &"no certificate");
        }
        let told = refusals.since(moment);
        assert_eq!(told.len(), REMEMBERED);
        assert_eq!(told.last().unwrap(), &format!("{}: no certificate", REMEMBERED + 4));
        assert!(refusals.since(Instant::now()).is_empty());
    }
}
