//! What the files said, before it is understood: values by name, each with its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::complaint::Place;
use super::value::{Secret, Value};

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The lines that belong to one owner: the broker, a listener, a bridge.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(BTreeMap<&'static str, Vec<Statement>>);

/// Why the questions below can be sure of an answer's form.
const TABLE: &str = "the table gives this option another form of value";

impl Said {
    /// Adds a line to those of its name.
    pub(super) fn add(&mut self, name: &'static str, statement: Statement) {
        self.0.entry(name).or_default().push(statement);
    }

    /// Puts a line in the place of those of its name.
    pub(super) fn put(&mut self, name: &'static str, statement: Statement) {
        self.0.insert(name, vec![statement]);
    }

    /// All lines of a name, in their order.
    pub(super) fn all(&self, name: &str) -> &[Statement] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where a name was said last.
    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.last(name).map(|statement| &statement.place)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.last(name).map(|statement| &statement.value)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| match value {
            Value::Flag(flag) => *flag,
            _ => unreachable!("{TABLE}: {name}"),
        })
    }

    /// A number of this width; the table's bounds see to it that it fits.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.value(name).and_then(|value| match value {
            Value::Number(number) => T::try_from(*number).ok(),
            _ => unreachable!("{TABLE}: {name}"),
        })
    }

    /// A limit, of which 0 and below mean that there is none.
    pub(super) fn limit(&self, name: &str) -> Option<u32> {
        self.number(name).filter(|limit| *limit > 0)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| match value {
            Value::Text(text) => text.as_str(),
            Value::Word(word) => word,
            _ => unreachable!("{TABLE}: {name}"),
        })
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.value(name).map(|value| match value {
            Value::Secret(secret) => secret.clone(),
            _ => unreachable!("{TABLE}: {name}"),
        })
    }

    fn last(&self, name: &str) -> Option<&Statement> {
        self.0.get(name).and_then(|statements| statements.last())
    }
}
