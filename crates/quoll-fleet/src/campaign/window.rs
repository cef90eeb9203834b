//! The hours of the day in which devices may be restarted, in local time: `22:00-05:00`.

use std::fmt;
use std::str::FromStr;

const DAY: u16 = 24 * 60;

/// From a minute of the day to another, the second one excluded; over midnight where it is earlier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    from: u16,
    to: u16,
}

/// Why a text is no window.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WindowError {
    /// Not two times of the day.
    #[error("{0:?} is no time window: two times of the day, such as 22:00-05:00")]
    Syntax(String),
    /// From a time to the same: a day, or nothing.
    #[error("{0:?} begins when it ends")]
    Empty(String),
}

impl Window {
    /// Whether this minute of the day is inside.
    #[must_use]
    pub fn is_open(self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }

    /// Minutes from this minute of the day until it opens; 0 while it is open.
    #[must_use]
    pub fn opens_in(self, minute: u16) -> u16 {
        if self.is_open(minute) { 0 } else { (self.from + DAY - minute % DAY) % DAY }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let syntax = || WindowError::Syntax(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(syntax)?;
        let minute = |text: &str| -> Option<u16> {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str, most: u16| {
                let number = (text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit()))
                    .then(|| text.parse::<u16>().ok())??;
                (number < most).then_some(number)
            };
            Some(two(hour, 24)? * 60 + two(minute, 60)?)
        };
        let window = Self { from: minute(from).ok_or_else(syntax)?, to: minute(to).ok_or_else(syntax)? };
        if window.from == window.to { Err(WindowError::Empty(text.to_owned())) } else { Ok(window) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", time(self.from), time(self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_over_midnight() {
        let night: Window = "22:00-05:00".parse().unwrap();
        for (minute, opens_in) in [(22 * 60, 0), (0, 0), (299, 0), (300, 17 * 60), (12 * 60, 600), (1319, 1)]
        {
            assert_eq!(
                (night.is_open(minute), night.opens_in(minute)),
                (opens_in == 0, opens_in),
                "{minute}"
            );
        }
        let day: Window = "09:30-17:00".parse().unwrap();
        assert!(day.is_open(570) && !day.is_open(17 * 60) && day.opens_in(17 * 60) == 990);
        assert_eq!(day.to_string(), "09:30-17:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in
            ["", "22-05", "22:00", "24:00-05:00", "22:60-05:00", "2:00-05:00", "22:00-22:00", "+2:00-05:00"]
        {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
