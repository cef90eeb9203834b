//! How the pages put things: times, numbers, foreign text, addresses.

use maud::{Markup, html};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::limits;

/// Text from outside, fit for one line: control characters (C0, C1, line ends) become visible, overlong text ends in an
/// ellipsis. Escaping is maud's; keeping its direction to itself is the `bdi` element's around it.
pub(super) fn tamed(text: &str) -> String {
    tamed_to(text, limits::SHOWN_CHARS)
}

/// The same with room for so many characters.
pub(super) fn tamed_to(text: &str, room: usize) -> String {
    let mut tamed: String = text
        .chars()
        .take(room)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(room).is_some() {
        tamed.push('…');
    }
    tamed
}

/// A text whose parts between backticks are shown as commands.
pub(super) fn with_commands(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split('`').enumerate() {
            @if i % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A phrase as a sentence: capital and full stop. Error texts have neither, by the house's habit.
pub(super) fn sentence(phrase: &str) -> String {
    let mut chars = phrase.chars();
    let Some(first) = chars.next() else { return String::new() };
    let stop = if phrase.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), chars.as_str())
}

/// A text as one segment of an address's path (RFC 3986 §3.3): all but unreserved characters percent-encoded, and so
/// fit for an `id` too.
pub(super) fn url_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(byte as char),
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// RFC 3339 text as a moment; `None` if it is not.
pub(super) fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// A time of day, in UTC.
pub(super) fn clock(moment: OffsetDateTime) -> String {
    let form = format_description!("[hour]:[minute]:[second] UTC");
    moment.to_offset(time::UtcOffset::UTC).format(&form).unwrap_or_default()
}

/// The day, in UTC.
pub(super) fn day(moment: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day]");
    moment.to_offset(time::UtcOffset::UTC).format(&form).unwrap_or_default()
}

/// Day and time, in UTC.
pub(super) fn date(moment: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    moment.to_offset(time::UtcOffset::UTC).format(&form).unwrap_or_default()
}

/// A moment as people say it, with the exact time behind it. What is not a time is shown as it came.
pub(super) fn when(text: &str, now: OffsetDateTime) -> Markup {
    match moment(text) {
        Some(moment) => html! {
            time datetime=(text) title=(date(moment)) data-relative { (distance((moment - now).whole_seconds())) }
        },
        None => html! { bdi { (tamed(text)) } },
    }
}

/// How far away a moment is, in the largest unit that still says enough. The page's script says it in the same words
/// (`tests/distances.json` holds both to it).
pub(super) fn distance(seconds: i64) -> String {
    let size = seconds.unsigned_abs();
    let amount = match size {
        0..60 => return if seconds > 0 { "in a moment".into() } else { "just now".into() },
        60..5_400 => format!("{} min", size / 60),
        5_400..172_800 => format!("{} h", size / 3_600),
        172_800..8_640_000 => format!("{} days", size / 86_400),
        8_640_000..94_672_800 => format!("{} months", size / 2_629_800),
        _ => format!("{} years", size / 31_557_600),
    };
    if seconds > 0 { format!("in {amount}") } else { format!("{amount} ago") }
}

/// A length of time, in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (mut rest, mut parts) = (seconds, Vec::new());
    for (size, unit) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{} {unit}", rest / size));
        } else if !parts.is_empty() {
            break;
        }
        rest %= size;
    }
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

/// A rate for a glance: one decimal while it is small.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// How a certificate's end should be marked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Validity {
    Fine,
    Soon,
    Over,
}

impl Validity {
    pub(super) fn of(expires: &str, now: OffsetDateTime) -> Self {
        match moment(expires) {
            Some(end) if end <= now => Self::Over,
            Some(end) if (end - now).whole_days() < limits::EXPIRY_NOTICE_DAYS => Self::Soon,
            _ => Self::Fine,
        }
    }

    pub(super) fn class(self) -> Option<&'static str> {
        match self {
            Self::Fine => None,
            Self::Soon => Some("soon"),
            Self::Over => Some("over"),
        }
    }
}

/// The end of a certificate; a near one stands out, a past one says so.
pub(super) fn expiry(expires: &str, now: OffsetDateTime) -> Markup {
    let validity = Validity::of(expires, now);
    html! {
        span class=[validity.class()] {
            @if validity == Validity::Over { "expired " }
            (when(expires, now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_said_in_the_largest_telling_unit() {
        let table: Vec<(i64, String)> =
            serde_json::from_str(include_str!("../../tests/distances.json")).unwrap();
        for (seconds, expected) in table {
            assert_eq!(distance(seconds), expected, "{seconds}");
        }
        assert_eq!(distance(i64::MIN), "292271023045 years ago");
    }

    #[test]
    fn durations_have_two_neighbouring_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_605, "1 h"),
            (273_600, "3 d 4 h"),
            (u64::MAX, "213503982334601 d 7 h"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_in_its_length() {
        assert_eq!(tamed("a\r\nb\u{85}\0"), "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(tamed(&"ä".repeat(500)).chars().count(), limits::SHOWN_CHARS + 1);
        assert_eq!(url_segment("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }

    #[test]
    fn an_expiry_is_marked_in_words() {
        let now = moment("2026-01-01T00:00:00Z").unwrap();
        for (expires, expected) in [
            ("2025-12-31T00:00:00Z", Validity::Over),
            ("2026-01-01T00:00:00Z", Validity::Over),
            ("2026-01-30T00:00:00Z", Validity::Soon),
            ("2026-02-01T00:00:00Z", Validity::Fine),
            ("rubbish", Validity::Fine),
        ] {
            assert_eq!(Validity::of(expires, now), expected, "{expires}");
        }
        assert!(expiry("2025-12-01T00:00:00Z", now).into_string().contains(">expired <"));
    }

    #[test]
    fn commands_stand_out_and_stay_text() {
        assert_eq!(with_commands("run `a <b>` now").into_string(), "run <code>a &lt;b&gt;</code> now");
    }
}
