//! Whether a line of `#if` holds, as far as it can be known from one file.

/// What is known of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    Yes,
    No,
    /// It depends on what is defined elsewhere.
    Open,
}

impl Known {
    pub(super) fn of(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Open => Self::Open,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Open,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// Brackets within brackets that are followed; beyond, a condition is [`Known::Open`].
const DEPTH: usize = 16;

/// Works out `defined(X)`, `!`, `&&`, `||`, brackets and whole numbers; everything else is open.
pub(super) fn evaluate(expression: &str, is_defined: &dyn Fn(&str) -> Known) -> Known {
    let mut reader = Reader { rest: expression, is_defined };
    let value = reader.either(0);
    if reader.rest.trim_start().is_empty() { value } else { Known::Open }
}

struct Reader<'a> {
    rest: &'a str,
    is_defined: &'a dyn Fn(&str) -> Known,
}

impl<'a> Reader<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    fn either(&mut self, depth: usize) -> Known {
        let mut value = self.both(depth);
        while self.take("||") {
            value = value.or(self.both(depth));
        }
        value
    }

    fn both(&mut self, depth: usize) -> Known {
        let mut value = self.one(depth);
        while self.take("&&") {
            value = value.and(self.one(depth));
        }
        value
    }

    fn one(&mut self, depth: usize) -> Known {
        if depth > DEPTH {
            self.rest = "";
            return Known::Open;
        }
        if self.rest.trim_start().starts_with("!=") {
            return Known::Open;
        }
        if self.take("!") {
            return self.one(depth + 1).not();
        }
        if self.take("(") {
            let value = self.either(depth + 1);
            return if self.take(")") { value } else { Known::Open };
        }
        match self.word() {
            "defined" => {
                let bracket = self.take("(");
                let name = self.word();
                if name.is_empty() || (bracket && !self.take(")")) {
                    return Known::Open;
                }
                (self.is_defined)(name)
            }
            "" => Known::Open,
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                Known::of(number.bytes().any(|byte| byte != b'0'))
            }
            _ => Known::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_known_as_far_as_their_names_are() {
        let known = |name: &str| match name {
            "A" => Known::Yes,
            "B" => Known::No,
            _ => Known::Open,
        };
        for (text, value) in [
            ("defined(A)", Known::Yes),
            ("defined A && !defined(B)", Known::Yes),
            ("!defined(A) || defined(B)", Known::No),
            ("defined(C) && defined(B)", Known::No),
            ("defined(C) || defined(A)", Known::Yes),
            ("defined(C)", Known::Open),
            ("(defined(A) && (1))", Known::Yes),
            ("0", Known::No),
            ("!!0", Known::No),
            ("A", Known::Open),
            ("VERSION >= 3", Known::Open),
            ("1 == 2", Known::Open),
            ("defined(", Known::Open),
            ("", Known::Open),
        ] {
            assert_eq!(evaluate(text, &known), value, "{text}");
        }
        evaluate(&"(".repeat(100_000), &known);
        evaluate(&"!".repeat(100_000), &known);
    }
}
