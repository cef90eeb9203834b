//! Time as the rules know it: milliseconds since the Unix epoch, computed from the `now` that comes with each input.
//!
//! Facts in the journal outlive the process, so they cannot name an [`Instant`]. The [`Anchor`] says once which
//! instant was which wall-clock time; after that only the monotonic clock counts, and a clock that is set back while
//! we run harms nobody.

use std::time::{Duration, Instant};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(pub u64);

impl Moment {
    /// This much later; the end of time where the sum is too large.
    #[must_use]
    pub const fn after_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds as u64 * 1000))
    }

    /// This much later, in milliseconds.
    #[must_use]
    pub const fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Whole seconds from `now` to this moment, rounded up; 0 where it has passed.
    #[must_use]
    pub fn seconds_left(self, now: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(now.0).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

/// Which instant was which wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// The instant.
    pub instant: Instant,
    /// The same point in time.
    pub moment: Moment,
}

impl Anchor {
    /// The wall-clock time of an instant. One before the anchor counts as the anchor.
    #[must_use]
    pub fn moment(&self, now: Instant) -> Moment {
        let since = now.saturating_duration_since(self.instant);
        self.moment.after_millis(since.as_secs() * 1000 + u64::from(since.subsec_millis()))
    }

    /// The instant of a wall-clock time, the anchor itself for an earlier one, or `None` where the platform's
    /// clock cannot say it.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Option<Instant> {
        self.instant.checked_add(Duration::from_millis(moment.0.saturating_sub(self.moment.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_back_from_its_instant_at_or_before_the_millisecond() {
        let anchor = Anchor { instant: Instant::now(), moment: Moment(1_800_000_000_000) };
        for millis in [0, 1, 999, 1000, 86_400_000] {
            let moment = anchor.moment.after_millis(millis);
            let instant = anchor.instant(moment).unwrap();
            assert_eq!(anchor.moment(instant), moment, "{millis}");
        }
    }

    #[test]
    fn seconds_left_round_up_so_that_a_message_does_not_die_early() {
        let table = [(1000, 0, 1), (1001, 0, 2), (999, 0, 1), (0, 5, 0), (5000, 4999, 1)];
        for (due, now, expected) in table {
            assert_eq!(Moment(due).seconds_left(Moment(now)), expected, "{due} at {now}");
        }
    }
}
