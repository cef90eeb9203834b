//! When a bridge tries again: a constant time, or longer each time with some chance in it, so that a hundred bridges do not
//! come back to a broker in one second.

use std::time::Duration;

use crate::mosquitto::bridge::Restart;

/// How long to wait before the next try.
#[derive(Debug)]
pub(super) struct Pace {
    rule: Restart,
    last: Option<Duration>,
}

impl Pace {
    pub(super) const fn new(rule: Restart) -> Self {
        Self { rule, last: None }
    }

    /// A connection lasted so long.
    pub(super) fn lasted(&mut self, time: Duration) {
        if let Restart::Backoff { stable, .. } = self.rule
            && time >= stable
        {
            self.last = None;
        }
    }

    /// The next wait; `chance` is 0.0 to 1.0. Mosquitto's "decorrelated jitter": between the base and three times the last
    /// wait, never above the cap.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        match self.rule {
            Restart::Constant(time) => time,
            Restart::Backoff { base, cap, .. } => {
                let most = self.last.unwrap_or(base) * 3;
                let wait = base + most.saturating_sub(base).mul_f64(chance.clamp(0.0, 1.0));
                let wait = wait.min(cap).max(base.min(cap));
                self.last = Some(wait);
                wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_constant_stays_what_it_is() {
        let mut pace = Pace::new(Restart::Constant(seconds(3)));
        assert_eq!([pace.next(0.0), pace.next(1.0), pace.next(1.0)], [seconds(3); 3]);
    }

    #[test]
    fn waits_grow_up_to_the_cap_and_begin_anew_after_a_stable_connection() {
        let rule = Restart::Backoff { base: seconds(5), cap: seconds(30), stable: seconds(60) };
        let mut pace = Pace::new(rule);
        assert_eq!(pace.next(0.0), seconds(5), "never below the base");
        assert_eq!(pace.next(1.0), seconds(15));
        assert_eq!(pace.next(1.0), seconds(30), "never above the cap");
        assert_eq!(pace.next(1.0), seconds(30));
        pace.lasted(seconds(59));
        assert_eq!(pace.next(1.0), seconds(30));
        pace.lasted(seconds(60));
        assert_eq!(pace.next(1.0), seconds(15));
    }

    #[test]
    fn chance_spreads_bridges_that_fail_together() {
        let waits = [0.1, 0.4, 0.9].map(|chance| {
            let mut pace =
                Pace::new(Restart::Backoff { base: seconds(5), cap: seconds(30), stable: seconds(0) });
            pace.next(chance)
        });
        assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
    }
}
