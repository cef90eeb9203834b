//! A section of ours in a file of somebody's: between two lines that are clearly ours, and nothing else is touched.

use super::directive::{Flaw, Kind, scan};

/// How lines of a file are commented, and with that what kind of file it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comment {
    /// `//`, a C header.
    Slashes,
    /// `;`, an INI file.
    Semicolon,
}

const BEGIN: &str = ">>> quoll firmware >>>";
const END: &str = "<<< quoll firmware <<<";

/// The include guard of a `user_config_override.h`, as Tasmota's sample has it.
const GUARD: &str = "_USER_CONFIG_OVERRIDE_H_";

/// Why a section cannot be put into a file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MergeError {
    /// The lines around our section are no longer a pair.
    #[error("line {line}: the lines that mark quoll's section are no longer a pair")]
    Marks {
        /// The line that lacks its other.
        line: usize,
    },
    /// `#if` and `#endif` do not match, so nobody can say what is compiled.
    #[error("line {line}: {what}")]
    Unbalanced {
        /// The line.
        line: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Where the section is, a condition or a comment hides it.
    #[error("line {line}: quoll's section would be inside the condition or comment that begins there")]
    Hidden {
        /// Where the condition begins.
        line: usize,
    },
}

impl MergeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Marks { .. } => {
                "delete the line, and what is left of the section; then run it again".into()
            }
            Self::Unbalanced { .. } => {
                "mend the file; quoll firmware lint lists all that is wrong in it".into()
            }
            Self::Hidden { .. } => {
                "move the two lines that mark the section out of it, with what is between".into()
            }
        })
    }
}

impl Comment {
    fn sign(self) -> &'static str {
        match self {
            Self::Slashes => "//",
            Self::Semicolon => ";",
        }
    }
}

/// Whether a file has a section of ours.
#[must_use]
pub fn begins_a_section(content: &[u8], comment: Comment) -> bool {
    lines(content).any(|(_, line)| is_mark(line, comment, BEGIN))
}

/// Puts the section into the file: in the place of the one that is there, else before the `#endif` of the include
/// guard, else at the end. Everything else stays, byte for byte; line ends are those of the file. Without a file, the
/// whole file.
///
/// # Errors
/// The file is such that the section would not be compiled, or a second run would not find it again.
pub fn merge(existing: Option<&[u8]>, section: &str, comment: Comment) -> Result<Vec<u8>, MergeError> {
    let sign = comment.sign();
    let ours = format!(
        "{sign} {BEGIN} what is between this line and the last is written anew, the rest of the file is yours\n\
         {section}{sign} {END}\n"
    );
    let Some(existing) = existing.filter(|content| !content.trim_ascii().is_empty()) else {
        return Ok(match comment {
            Comment::Slashes => format!("#ifndef {GUARD}\n#define {GUARD}\n\n{ours}\n#endif  // {GUARD}\n"),
            Comment::Semicolon => ours,
        }
        .into_bytes());
    };
    let ours = if uses_crlf(existing) { ours.replace('\n', "\r\n") } else { ours };
    let (from, to) = place(existing, comment)?;
    let mut merged = existing[..from].to_vec();
    let begins_a_line = from == 0 || existing[from - 1] == b'\n';
    if !begins_a_line {
        merged.extend_from_slice(if uses_crlf(existing) { b"\r\n" } else { b"\n" });
    }
    merged.extend_from_slice(ours.as_bytes());
    merged.extend_from_slice(&existing[to..]);
    if comment == Comment::Slashes {
        refuse_hidden(&merged)?;
    }
    Ok(merged)
}

/// The bytes that the section takes the place of.
fn place(existing: &[u8], comment: Comment) -> Result<(usize, usize), MergeError> {
    let mut begin = None;
    let mut found = None;
    for (number, (start, line)) in lines(existing).enumerate() {
        let broken = Err(MergeError::Marks { line: number + 1 });
        if is_mark(line, comment, BEGIN) {
            if begin.is_some() || found.is_some() {
                return broken;
            }
            begin = Some((start, number + 1));
        } else if is_mark(line, comment, END) {
            let Some((from, _)) = begin.take() else { return broken };
            found = Some((from, start + line.len()));
        }
    }
    match (begin, found) {
        (Some((_, line)), _) => Err(MergeError::Marks { line }),
        (None, Some(found)) => Ok(found),
        (None, None) if comment == Comment::Slashes => {
            let at = end_of_guard(existing).unwrap_or(existing.len());
            Ok((at, at))
        }
        (None, None) => Ok((existing.len(), existing.len())),
    }
}

/// Where the `#endif` of the include guard begins, where the file has one.
fn end_of_guard(existing: &[u8]) -> Option<usize> {
    let scan = scan(existing);
    let guard = guard(&scan.directives)?;
    let last = scan.directives.last()?;
    (guard && scan.flaws.is_empty()).then_some(last.line_start)
}

/// Whether the whole file is in an include guard: `#ifndef X`, `#define X`, and its `#endif` as the last directive.
fn guard(directives: &[super::directive::Directive]) -> Option<bool> {
    let (first, rest) = directives.split_first()?;
    let Kind::IfDefined { name, wanted: false } = &first.kind else { return None };
    let Kind::Define { name: defined, .. } = &rest.first()?.kind else { return None };
    if defined.text != *name {
        return None;
    }
    let mut depth = 1_usize;
    for (at, directive) in rest.iter().enumerate() {
        match directive.kind {
            Kind::IfDefined { .. } | Kind::If { .. } => depth += 1,
            Kind::EndIf => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1 == rest.len());
        }
    }
    None
}

/// The section must be compiled whenever the file is.
fn refuse_hidden(merged: &[u8]) -> Result<(), MergeError> {
    let scan = scan(merged);
    if let Some((flaw, line, _)) = scan.flaws.iter().find(|flaw| flaw.0 != Flaw::ContinuedComment) {
        return Err(MergeError::Unbalanced { line: *line, what: flaw.what() });
    }
    let section = lines(merged).position(|(_, line)| is_mark(line, Comment::Slashes, BEGIN)).unwrap_or(0) + 1;
    let end = lines(merged).position(|(_, line)| is_mark(line, Comment::Slashes, END)).unwrap_or(0) + 1;
    if !scan.directives.iter().any(|directive| directive.line > section && directive.line < end) {
        return Err(MergeError::Hidden { line: section });
    }
    let mut open = Vec::new();
    for directive in scan.directives.iter().take_while(|directive| directive.line < section) {
        match directive.kind {
            Kind::IfDefined { .. } | Kind::If { .. } => open.push(directive.line),
            Kind::EndIf => drop(open.pop()),
            _ => {}
        }
    }
    let guarded = usize::from(guard(&scan.directives) == Some(true));
    open.get(guarded).map_or(Ok(()), |line| Err(MergeError::Hidden { line: *line }))
}

impl Flaw {
    /// It, in words.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::OpenComment => "a comment begins here that does not end",
            Self::ContinuedComment => {
                "a backslash at the end of this comment makes the next line a part of it"
            }
            Self::NothingToEnd => "there is no #if that this could end or turn",
            Self::NeverEnds => "there is no #endif for this #if",
        }
    }
}

fn lines(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    content.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line)
    })
}

fn is_mark(line: &[u8], comment: Comment, mark: &str) -> bool {
    let line = line.trim_ascii();
    let rest = line.strip_prefix(comment.sign().as_bytes()).map(<[u8]>::trim_ascii_start);
    rest.is_some_and(|rest| rest.starts_with(mark.as_bytes()))
}

fn uses_crlf(content: &[u8]) -> bool {
    content.iter().position(|byte| *byte == b'\n').is_some_and(|at| at > 0 && content[at - 1] == b'\r')
}
