//! What a `user_config_override.h` leaves defined, as far as one file can say.

use std::collections::BTreeMap;

use super::super::{
    Chip, Release,
    condition::{Known, evaluate},
    directive::{Directive, Flaw, Kind, Word, scan},
};
use super::Target;

/// A define in force.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) value: Word,
    pub(super) line: usize,
    pub(super) column: usize,
    /// Tasmota's own value is in the way: the file did not undefine it first.
    pub(super) over_default: bool,
    /// No condition that depends on other files is around it.
    certain: bool,
}

/// A file, read for one target.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) defined: BTreeMap<String, Definition>,
    /// Where something was undefined last.
    pub(super) undefined: BTreeMap<String, (usize, usize)>,
    /// Defines that a condition leaves out, with the line of the condition.
    pub(super) skipped: Vec<(Definition, usize)>,
    /// Defines of one name with two values: the first, the second.
    pub(super) twice: Vec<(Definition, Definition)>,
    pub(super) flaws: Vec<(Flaw, usize, usize)>,
    known: BTreeMap<String, Known>,
}

struct Frame {
    line: usize,
    around: Known,
    taken: Known,
    active: Known,
}

/// What Tasmota's own `my_user_config.h` defines before it includes the override.
const DEFAULTS: &[(&str, Release)] = &[
    ("MQTT_HOST", Release::new([0; 4])),
    ("MQTT_PORT", Release::new([0; 4])),
    ("MQTT_USER", Release::new([0; 4])),
    ("MQTT_PASS", Release::new([0; 4])),
    ("MQTT_FINGERPRINT1", Release::new([0; 4])),
    ("MQTT_FINGERPRINT2", Release::new([0; 4])),
    ("MQTT_TLS_ENABLED", Release::new([0; 4])),
    ("MQTT_TLS_FINGERPRINT", Release::RUNTIME_MODE),
    ("MQTT_TLS_ECDSA", Release::ECDSA),
];

/// What it leaves undefined; a chip's own build may define it later, which a file cannot see.
const ABSENT: &[&str] = &[
    "USE_MQTT_TLS",
    "USE_MQTT_TLS_CA_CERT",
    "USE_MQTT_TLS_FORCE_EC_CIPHER",
    "USE_MQTT_AWS_IOT",
    "USE_MQTT_AWS_IOT_LIGHT",
    "USE_MQTT_CLIENT_CERT",
    "INCLUDE_LOCAL_CERT",
    "OMIT_LETS_ENCRYPT_CERT",
    "OMIT_AWS_CERT",
    "USE_DISCOVERY",
];

impl Reading {
    pub(super) fn of(text: &[u8], target: Target) -> Self {
        let scan = scan(text);
        let mut reading = Self { flaws: scan.flaws, ..Self::default() };
        let mut frames: Vec<Frame> = Vec::new();
        for (at, directive) in scan.directives.iter().enumerate() {
            let next = scan.directives.get(at + 1);
            reading.step(directive, next, &mut frames, target);
        }
        reading
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.defined.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Definition> {
        self.defined.get(name)
    }

    fn step(
        &mut self,
        directive: &Directive,
        next: Option<&Directive>,
        frames: &mut Vec<Frame>,
        target: Target,
    ) {
        let active = frames.last().map_or(Known::Yes, |frame| frame.active);
        match &directive.kind {
            Kind::IfDefined { name, wanted } => {
                let mut value = self.is_defined(name, target);
                // An include guard, or a default of the file's own.
                let guards = matches!(next.map(|next| &next.kind), Some(Kind::Define { name: it, .. }) if it.text == *name);
                if value == Known::Open && guards && !wanted {
                    value = Known::No;
                }
                let value = if *wanted { value } else { value.not() };
                frames.push(Frame::new(directive.line, active, value));
            }
            Kind::If { condition } => {
                let value = evaluate(condition, &|name| self.is_defined(name, target));
                frames.push(Frame::new(directive.line, active, value));
            }
            Kind::ElseIf { condition } => {
                let value = evaluate(condition, &|name| self.is_defined(name, target));
                if let Some(frame) = frames.last_mut() {
                    frame.turn(value);
                }
            }
            Kind::Else => {
                if let Some(frame) = frames.last_mut() {
                    frame.turn(Known::Yes);
                }
            }
            Kind::EndIf => drop(frames.pop()),
            Kind::Define { name, value } => {
                let around = (active == Known::No)
                    .then(|| frames.iter().rev().find(|frame| frame.active == Known::No))
                    .flatten();
                let definition = Definition {
                    name: name.text.clone(),
                    value: value.clone(),
                    line: directive.line,
                    column: name.column.max(1),
                    over_default: false,
                    certain: active == Known::Yes,
                };
                match around {
                    Some(frame) => self.skipped.push((definition, frame.line)),
                    None => self.define(definition, target),
                }
            }
            Kind::Undef { name } if active != Known::No => {
                self.undefined.insert(name.text.clone(), (directive.line, directive.column));
                if active == Known::Yes {
                    self.defined.remove(&name.text);
                    self.known.insert(name.text.clone(), Known::No);
                } else {
                    self.known.insert(name.text.clone(), Known::Open);
                }
            }
            Kind::Undef { .. } | Kind::Other => {}
        }
    }

    fn define(&mut self, mut definition: Definition, target: Target) {
        let name = definition.name.clone();
        let before = self.is_defined(&name, target);
        let earlier = self.defined.get(&name).filter(|earlier| earlier.certain && before == Known::Yes);
        match earlier {
            Some(earlier) if definition.certain && earlier.value.text != definition.value.text => {
                self.twice.push((earlier.clone(), definition.clone()));
            }
            Some(_) => {}
            None => {
                definition.over_default =
                    before == Known::Yes && definition.certain && !self.known.contains_key(&name);
            }
        }
        let after = if definition.certain || before == Known::Yes { Known::Yes } else { Known::Open };
        self.known.insert(name.clone(), after);
        self.undefined.remove(&name);
        self.defined.insert(name, definition);
    }

    fn is_defined(&self, name: &str, target: Target) -> Known {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        match (name, target.chip) {
            ("ESP8266", Some(chip)) => Known::of(chip == Chip::Esp8266),
            ("ESP32", Some(chip)) => Known::of(chip == Chip::Esp32),
            _ if DEFAULTS.iter().any(|row| row.0 == name && row.1 <= target.release) => Known::Yes,
            _ if ABSENT.contains(&name) => Known::No,
            _ => Known::Open,
        }
    }
}

impl Frame {
    fn new(line: usize, around: Known, value: Known) -> Self {
        Self { line, around, taken: value, active: around.and(value) }
    }

    fn turn(&mut self, value: Known) {
        self.active = self.around.and(self.taken.not()).and(value);
        self.taken = self.taken.or(value);
    }
}
