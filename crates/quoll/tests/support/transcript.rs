//! What a page says that the program says, compared with what it does say.

/// Numbers, dates, ids and phrases differ from run to run; their shapes do not.
pub(crate) fn shape(text: &str) -> String {
    let varies = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = word.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z'));
        hex && word.len() >= 4 && (word.len() == 4 || word.contains(|c: char| c.is_ascii_digit()))
    };
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            if varies(word) { word.replace(|c: char| c.is_ascii_hexdigit(), "0") } else { word.to_owned() }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}
