//! What a page says that the program says, compared with what it does say.

/// Length of `2026-11-22`.
const DATE: usize = 10;

fn is_date(text: &str) -> bool {
    let digits = |byte: &u8| byte.is_ascii_digit();
    let parts: Vec<_> = text.split('-').map(str::as_bytes).collect();
    parts.iter().map(|part| part.len()).eq([4, 2, 2]) && parts.iter().all(|part| part.iter().all(digits))
}

/// Numbers, dates (in file names too), ids and phrases differ from run to run; their shapes do not.
pub(crate) fn shape(text: &str) -> String {
    let varies = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = word.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z'));
        hex && word.len() >= 4 && (word.len() == 4 || word.contains(|c: char| c.is_ascii_digit()))
    };
    let lines = text.lines().map(|line| {
        let words =
            line.split(' ').map(|word| match word.split_at_checked(word.len().saturating_sub(DATE)) {
                _ if varies(word) => word.replace(|c: char| c.is_ascii_hexdigit(), "0"),
                Some((name, end)) if is_date(end) => format!("{name}0000-00-00"),
                _ => word.to_owned(),
            });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}
