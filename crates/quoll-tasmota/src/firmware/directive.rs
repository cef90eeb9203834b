//! The preprocessor's lines of a C header, with where they stand: comments removed, continued lines joined.
//!
//! What it is not: a preprocessor. It expands and includes nothing.

/// A line that begins with `#`.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    /// Where the `#` stands, from 1.
    pub(super) line: usize,
    pub(super) column: usize,
    /// Where its line begins in the file, in bytes.
    pub(super) line_start: usize,
    pub(super) kind: Kind,
}

/// What it says.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Define {
        name: Word,
        value: Word,
    },
    Undef {
        name: Word,
    },
    /// `#ifdef` or, with `wanted` false, `#ifndef`.
    IfDefined {
        name: String,
        wanted: bool,
    },
    If {
        condition: String,
    },
    ElseIf {
        condition: String,
    },
    Else,
    EndIf,
    Other,
}

/// A piece of a directive, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong with the text as such.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// `/*` without `*/`.
    OpenComment,
    /// `//` with a backslash at its end takes the next line along.
    ContinuedComment,
    /// `#endif`, `#else` or `#elif` without `#if`.
    NothingToEnd,
    /// `#if` without `#endif`.
    NeverEnds,
}

/// A text, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    pub(super) directives: Vec<Directive>,
    /// Flaws with line and column, in the order they were found.
    pub(super) flaws: Vec<(Flaw, usize, usize)>,
}

/// Reads a text. Any bytes will do.
pub(super) fn scan(text: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut reader = Reader { text, at: 0, line: 1, column: 1, line_start: 0 };
    loop {
        let start = reader.line_start;
        let (pieces, more) = logical_line(&mut reader, &mut scan.flaws);
        if let Some(directive) = directive(&pieces, start) {
            scan.directives.push(directive);
        }
        if !more {
            break;
        }
    }
    balance(&mut scan);
    scan
}

#[derive(Clone, Copy)]
struct Piece {
    byte: u8,
    line: usize,
    column: usize,
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    column: usize,
    line_start: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<Piece> {
        let byte = self.peek(0)?;
        let piece = Piece { byte, line: self.line, column: self.column };
        self.at += 1;
        if byte == b'\n' {
            (self.line, self.column, self.line_start) = (self.line + 1, 1, self.at);
        } else if byte & 0xC0 != 0x80 {
            // Continuation bytes of UTF-8 take no column.
            self.column += 1;
        }
        Some(piece)
    }

    /// Takes a backslash at the end of a line, with the line end.
    fn take_splice(&mut self) -> bool {
        let length = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some(b'\\'), Some(b'\n'), _) => 2,
            (Some(b'\\'), Some(b'\r'), Some(b'\n')) => 3,
            _ => return false,
        };
        for _ in 0..length {
            self.next();
        }
        true
    }
}

/// A line with its continuations and without comments; whether anything follows it.
fn logical_line(reader: &mut Reader<'_>, flaws: &mut Vec<(Flaw, usize, usize)>) -> (Vec<Piece>, bool) {
    let mut pieces = Vec::new();
    let mut quote = None;
    loop {
        if reader.take_splice() {
            continue;
        }
        let Some(piece) = reader.next() else { return (pieces, false) };
        match (piece.byte, quote) {
            (b'\n', _) => return (pieces, true),
            (b'\\', Some(_)) => {
                pieces.push(piece);
                if reader.peek(0).is_some_and(|byte| byte != b'\n') {
                    pieces.extend(reader.next());
                }
                continue;
            }
            (byte, Some(mark)) if byte == mark => quote = None,
            (b'"' | b'\'', None) => quote = Some(piece.byte),
            (b'/', None) if reader.peek(0) == Some(b'/') => {
                line_comment(reader, flaws, piece);
                continue;
            }
            (b'/', None) if reader.peek(0) == Some(b'*') => {
                block_comment(reader, flaws, piece);
                pieces.push(Piece { byte: b' ', ..piece });
                continue;
            }
            _ => {}
        }
        pieces.push(piece);
    }
}

/// Up to the line end, which stays.
fn line_comment(reader: &mut Reader<'_>, flaws: &mut Vec<(Flaw, usize, usize)>, start: Piece) {
    while let Some(byte) = reader.peek(0) {
        if reader.take_splice() {
            flaws.push((Flaw::ContinuedComment, start.line, start.column));
            continue;
        }
        if byte == b'\n' {
            return;
        }
        reader.next();
    }
}

fn block_comment(reader: &mut Reader<'_>, flaws: &mut Vec<(Flaw, usize, usize)>, start: Piece) {
    reader.next();
    while let Some(piece) = reader.next() {
        if piece.byte == b'*' && reader.peek(0) == Some(b'/') {
            reader.next();
            return;
        }
    }
    flaws.push((Flaw::OpenComment, start.line, start.column));
}

fn directive(pieces: &[Piece], line_start: usize) -> Option<Directive> {
    let rest = trim(pieces);
    let (hash, rest) = rest.split_first()?;
    if hash.byte != b'#' {
        return None;
    }
    let (verb, rest) = word(rest);
    let kind = match verb.text.as_str() {
        "define" => {
            let (name, rest) = word(rest);
            let value = whole(rest, &name);
            Kind::Define { name, value }
        }
        "undef" => Kind::Undef { name: word(rest).0 },
        "ifdef" | "ifndef" => Kind::IfDefined { name: word(rest).0.text, wanted: verb.text == "ifdef" },
        "if" => Kind::If { condition: whole(rest, &verb).text },
        "elif" => Kind::ElseIf { condition: whole(rest, &verb).text },
        "else" => Kind::Else,
        "endif" => Kind::EndIf,
        _ => Kind::Other,
    };
    Some(Directive { line: hash.line, column: hash.column, line_start, kind })
}

fn trim(pieces: &[Piece]) -> &[Piece] {
    let is_blank = |piece: &Piece| piece.byte.is_ascii_whitespace();
    let start = pieces.iter().position(|piece| !is_blank(piece)).unwrap_or(pieces.len());
    let end = pieces.iter().rposition(|piece| !is_blank(piece)).map_or(start, |last| last + 1);
    &pieces[start..end]
}

fn word(pieces: &[Piece]) -> (Word, &[Piece]) {
    let pieces = trim(pieces);
    let is_name = |piece: &Piece| piece.byte.is_ascii_alphanumeric() || piece.byte == b'_';
    let end = pieces.iter().position(|piece| !is_name(piece)).unwrap_or(pieces.len());
    let (name, rest) = pieces.split_at(end);
    let (line, column) = name.first().map_or((0, 0), |first| (first.line, first.column));
    (Word { text: text(name), line, column }, rest)
}

/// All that is left; where nothing is, it stands behind what was before.
fn whole(pieces: &[Piece], before: &Word) -> Word {
    let pieces = trim(pieces);
    let place = pieces.first().map_or((before.line, before.column), |first| (first.line, first.column));
    Word { text: text(pieces), line: place.0, column: place.1 }
}

fn text(pieces: &[Piece]) -> String {
    let bytes: Vec<u8> = pieces.iter().map(|piece| piece.byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn balance(scan: &mut Scan) {
    let mut open = Vec::new();
    for directive in &scan.directives {
        let place = (directive.line, directive.column);
        match directive.kind {
            Kind::IfDefined { .. } | Kind::If { .. } => open.push(place),
            Kind::EndIf if open.pop().is_none() => scan.flaws.push((Flaw::NothingToEnd, place.0, place.1)),
            Kind::Else | Kind::ElseIf { .. } if open.is_empty() => {
                scan.flaws.push((Flaw::NothingToEnd, place.0, place.1));
            }
            _ => {}
        }
    }
    scan.flaws.extend(open.into_iter().map(|(line, column)| (Flaw::NeverEnds, line, column)));
}
