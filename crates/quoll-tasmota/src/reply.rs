//! A device's JSON answers: tolerant of fields we do not know, strict about those we rely on.
//!
//! A device repeats a failing command in its answer (`Input`), which may hold a private key: it is thrown away while
//! reading and is in no error or debug text. The status pages are in [`crate::status`]. Facts §1.2, §1.4, §1.5.

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::{
    command::FingerprintSlot,
    fingerprint::Slot,
    limits::BODY_BYTES,
    setting::{SetOption, Setting},
    tls_key::Stored,
};

/// One answer: a JSON object, several command's answers possibly merged in it.
#[derive(Clone, PartialEq)]
pub struct Reply {
    fields: Map<String, Value>,
}

/// The device did not do what it was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// `{"Command":"Unknown"}`: this firmware has no such command.
    Unknown,
    /// `{"Command":"Error"}`: it has, but refuses this value.
    Error,
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Errors
    /// Too long, not JSON, or JSON but no object.
    pub fn parse(body: &[u8]) -> Result<Self, ReplyError> {
        if body.len() > BODY_BYTES {
            return Err(ReplyError::TooLong { bytes: body.len(), limit: BODY_BYTES });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(mut fields)) => {
                if let Some(Value::String(echo)) = fields.get_mut("Input") {
                    echo.zeroize();
                }
                fields.remove("Input");
                Ok(Self { fields })
            }
            Ok(_) => Err(ReplyError::NotAnObject),
            Err(error) => Err(ReplyError::NotJson { line: error.line(), column: error.column() }),
        }
    }

    /// The answer to a Backlog on a road that has none of its own.
    #[must_use]
    pub fn empty() -> Self {
        Self { fields: Map::new() }
    }

    /// The answer of a firmware that has no such command; for a road that withholds one.
    #[must_use]
    pub fn unknown() -> Self {
        Self { fields: [("Command".to_owned(), Value::from("Unknown"))].into_iter().collect() }
    }

    /// Whether the command was refused; the first question to any answer.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.fields.get("Command").and_then(Value::as_str) {
            Some("Unknown") => Some(Refusal::Unknown),
            Some("Error") => Some(Refusal::Error),
            _ => None,
        }
    }

    /// `{"WARNING": …}`: the console did not take the command at all.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.fields.get("WARNING").and_then(Value::as_str)
    }

    /// `{}`: a Backlog was accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The answer to any TLSKey command.
    ///
    /// # Errors
    /// Refused, or lengths missing or senseless.
    pub fn tls_key(&self) -> Result<Stored, ReplyError> {
        let length = |field| match self.top(field)?.as_i64() {
            Some(-1) => Ok(None),
            Some(bytes @ 0..=4096) => Ok(usize::try_from(bytes).ok()),
            _ => Err(ReplyError::Shape { field, expected: "a length or -1" }),
        };
        Ok(Stored { key: length("TLSKey1")?, certificate: length("TLSKey2")? })
    }

    /// The answer to [`crate::command::Command::mqtt_tls`], which firmware with TLS alone has, as a probe for that. Whether
    /// it is on is SetOption103's to say: the word for that may be the owner's own.
    ///
    /// # Errors
    /// [`ReplyError::Unknown`] means: no TLS in this firmware.
    pub fn knows_mqtt_tls(&self) -> Result<(), ReplyError> {
        self.top("MqttTLS").map(drop)
    }

    /// The same with its value: whether SetOption103 is on.
    ///
    /// # Errors
    /// As [`Self::knows_mqtt_tls`], and neither ON nor OFF.
    pub fn mqtt_tls(&self) -> Result<bool, ReplyError> {
        match self.top("MqttTLS")?.as_str() {
            Some("ON") => Ok(true),
            Some("OFF") => Ok(false),
            _ => Err(ReplyError::Shape { field: "MqttTLS", expected: "ON or OFF" }),
        }
    }

    /// The answer to a SetOption, asked or set.
    ///
    /// # Errors
    /// Refused, or neither ON nor OFF.
    pub fn option(&self, option: SetOption) -> Result<bool, ReplyError> {
        self.option_in(option, ["OFF", "ON"])
    }

    /// As [`Self::option`], of a device with its own words for off and on (`StateText1`, `StateText2`).
    ///
    /// # Errors
    /// Refused, or neither of the two, or both are one.
    pub fn option_in(&self, option: SetOption, words: [&str; 2]) -> Result<bool, ReplyError> {
        let told = self.named(&option.name(), "SetOption")?.as_str();
        match words.map(|word| told == Some(word)) {
            [true, false] => Ok(false),
            [false, true] => Ok(true),
            _ => Err(ReplyError::Shape { field: "SetOption", expected: "StateText1 or StateText2" }),
        }
    }

    /// The answer to a setting, asked or set, as text (numbers are written out).
    ///
    /// # Errors
    /// Refused, missing, or neither text nor number.
    pub fn setting(&self, setting: Setting) -> Result<String, ReplyError> {
        match self.named(setting.name(), setting.name())? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            // Log levels answer {"WebLog":{"WebLog":2,"Active":2}} when a lower level is active for a while.
            Value::Object(inner) => match inner.get(setting.name()) {
                Some(Value::Number(number)) => Ok(number.to_string()),
                _ => Err(ReplyError::Shape { field: setting.name(), expected: "a text or number" }),
            },
            _ => Err(ReplyError::Shape { field: setting.name(), expected: "a text or number" }),
        }
    }

    /// The answer to a fingerprint slot, asked or set. Compare it with what was sent: the device refuses nothing.
    ///
    /// # Errors
    /// Refused, or not twenty hex bytes.
    pub fn fingerprint(&self, slot: FingerprintSlot) -> Result<Slot, ReplyError> {
        let field = match slot {
            FingerprintSlot::One => "MqttFingerprint1",
            FingerprintSlot::Two => "MqttFingerprint2",
        };
        let text = self.top(field)?.as_str().unwrap_or_default();
        Slot::parse(text).map_err(|_| ReplyError::Shape { field, expected: "20 hex bytes" })
    }

    /// A field of the answer, for display.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    pub(crate) fn top(&self, field: &'static str) -> Result<&Value, ReplyError> {
        self.named(field, field)
    }

    fn named(&self, name: &str, field: &'static str) -> Result<&Value, ReplyError> {
        match self.refusal() {
            Some(Refusal::Unknown) => return Err(ReplyError::Unknown),
            Some(Refusal::Error) => return Err(ReplyError::Refused),
            None => {}
        }
        if self.warning().is_some() {
            return Err(ReplyError::NotTaken);
        }
        // Devices write their own capitals; older releases wrote some names differently.
        let found = self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).ok_or(ReplyError::Missing { field })
    }
}

/// Field names only: values may be anything.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        write!(f, "Reply({})", names.join(", "))
    }
}

/// Why an answer is not what the command should have brought.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The firmware has no such command.
    #[error("the device does not know this command")]
    Unknown,
    /// The device refused the value.
    #[error("the device refused the command")]
    Refused,
    /// The console saw an empty or over-long command.
    #[error("the device's console did not take the command (empty or too long)")]
    NotTaken,
    /// A field we need.
    #[error("the answer has no {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field of another kind than it should be.
    #[error("{field} in the answer is not {expected}")]
    Shape {
        /// Its name.
        field: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Not JSON.
    #[error("the answer is not JSON (line {line}, column {column})")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON, but a list or a number.
    #[error("the answer is JSON but not an object")]
    NotAnObject,
    /// More than any answer has.
    #[error("the answer has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Bytes seen.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(json: &str) -> Reply {
        Reply::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn an_echoed_key_is_in_no_text_of_ours() {
        let answer = reply(r#"{"Command":"Error","Input":"TLSKEY1 P3hUuwv+wF5moAQuOj27"}"#);
        let error = answer.tls_key().unwrap_err();
        assert_eq!(error, ReplyError::Refused);
        assert!(!format!("{answer:?} {error} {error:?}").contains("P3hU"));
        assert!(answer.field("Input").is_none());
    }

    #[test]
    fn lengths_of_a_tls_key_are_read() {
        let cases = [
            (r#"{"TLSKey1":-1,"TLSKey2":-1}"#, Ok(Stored::default())),
            (r#"{"TLSKey1":32,"TLSKey2":441}"#, Ok(Stored { key: Some(32), certificate: Some(441) })),
            (r#"{"TLSKey1":32}"#, Err(ReplyError::Missing { field: "TLSKey2" })),
            (
                r#"{"TLSKey1":"32","TLSKey2":1}"#,
                Err(ReplyError::Shape { field: "TLSKey1", expected: "a length or -1" }),
            ),
            (r#"{"Command":"Unknown","Input":"TLSKEY"}"#, Err(ReplyError::Unknown)),
            (r#"{"WARNING":"Enter command cmnd="}"#, Err(ReplyError::NotTaken)),
        ];
        for (json, expected) in cases {
            assert_eq!(reply(json).tls_key(), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(answer) = Reply::parse(&bytes) {
                let _ = (answer.tls_key(), answer.network(), answer.firmware(), answer.clock(), answer.mqtt());
            }
        }
    }
}
