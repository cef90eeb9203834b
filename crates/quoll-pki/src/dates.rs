//! Dates in the three spellings met here: DER times, `index.txt` fields and [`OffsetDateTime`]. All are UTC, whole seconds.

use std::time::Duration;

use time::{Date, Month, OffsetDateTime, Time};
use x509_cert::{
    der::asn1::{GeneralizedTime, UtcTime},
    time::Time as DerTime,
};

use crate::error::PkiError;

/// Years from 2050 on need GeneralizedTime (RFC 5280 §4.1.2.5).
const FIRST_GENERALIZED_YEAR: i32 = 2050;

/// From Unix seconds; `None` outside of the calendar we handle (year 9999).
pub(crate) fn from_unix(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// UTCTime before 2050, GeneralizedTime from then on, fractions of seconds cut.
///
/// # Errors
/// A date before 1970, which the DER types do not take.
pub(crate) fn to_der(date: OffsetDateTime) -> Result<DerTime, PkiError> {
    let failed = PkiError::Crypto { act: "encoding a date" };
    let Ok(seconds) = u64::try_from(date.unix_timestamp()) else { return Err(failed) };
    let since = Duration::from_secs(seconds);
    let time = if date.to_offset(time::UtcOffset::UTC).year() < FIRST_GENERALIZED_YEAR {
        UtcTime::from_unix_duration(since).map(DerTime::from)
    } else {
        GeneralizedTime::from_unix_duration(since).map(DerTime::from)
    };
    time.map_err(|_| failed)
}

/// `YYMMDDHHMMSSZ` before 2050, `YYYYMMDDHHMMSSZ` from then on, as OpenSSL writes `index.txt`.
pub(crate) fn to_index(date: OffsetDateTime) -> String {
    let date = date.to_offset(time::UtcOffset::UTC);
    let year = match date.year() {
        year @ 1950..FIRST_GENERALIZED_YEAR => format!("{:02}", year % 100),
        year => format!("{year:04}"),
    };
    let (month, day, hour, minute, second) =
        (u8::from(date.month()), date.day(), date.hour(), date.minute(), date.second());
    format!("{year}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
}

/// Reads what [`to_index`] writes; two-digit years from 50 on are 19xx (X.690 §11.8, RFC 5280 §4.1.2.5.1).
pub(crate) fn from_index(text: &str) -> Option<OffsetDateTime> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match digits.len() {
        12 => {
            let year: i32 = digits[..2].parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, &digits[2..])
        }
        14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    Some(date.with_time(Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?).assume_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_year_2050_changes_the_spelling() {
        for (date, text) in [
            (datetime!(2031-10-27 12:32:44 UTC), "311027123244Z"),
            (datetime!(2049-12-31 23:59:59 UTC), "491231235959Z"),
            (datetime!(2050-01-01 0:00 UTC), "20500101000000Z"),
            (datetime!(1975-01-01 0:00 UTC), "750101000000Z"),
        ] {
            assert_eq!(to_index(date), text);
            assert_eq!(from_index(text), Some(date));
        }
        assert!(matches!(to_der(datetime!(2049-12-31 0:00 UTC)).unwrap(), DerTime::UtcTime(_)));
        assert!(matches!(to_der(datetime!(2050-01-01 0:00 UTC)).unwrap(), DerTime::GeneralTime(_)));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in
            ["", "Z", "311027123244", "31102712324Z", "311327123244Z", "310230000000Z", "31102712324éZ"]
        {
            assert_eq!(from_index(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_date_survives(seconds in 0i64..253_402_300_799) {
            let date = from_unix(seconds).unwrap();
            prop_assert_eq!(from_index(&to_index(date)), Some(date));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = from_index(&text);
        }
    }
}
