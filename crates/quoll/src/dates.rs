//! Dates as people and scripts read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339, in UTC.
pub(crate) fn stamp(at: OffsetDateTime) -> String {
    let whole = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// The day alone.
pub(crate) fn day(at: OffsetDateTime) -> String {
    stamp(at).chars().take(10).collect()
}
