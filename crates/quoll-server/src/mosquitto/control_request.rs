//! Messages to `$CONTROL/…` as Mosquitto's plugins read and answer them: a list of commands in JSON, a list of answers.
//!
//! The names of commands and fields are taken in any letter case. What the commands are is no matter here.

use serde_json::{Map, Value, json};

/// What the answers are about whose commands could not be told apart.
const NO_NAME: &str = "Unknown command";

/// A message, taken apart.
#[derive(Debug)]
pub struct Request {
    /// The commands, or why there are none.
    commands: Result<Vec<Value>, &'static str>,
}

/// What a command is answered with: its proper name and data where something was asked; or why it is not obeyed.
pub type Answer<'a> = Result<Option<(&'a str, Value)>, &'static str>;

impl Request {
    /// Takes a payload apart. What stands behind the JSON is not looked at.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let value = serde_json::Deserializer::from_slice(payload).into_iter::<Value>().next();
        let Some(Ok(mut value)) = value else { return Self { commands: Err("Payload not valid JSON") } };
        let fields = value.as_object_mut();
        let key = fields
            .as_ref()
            .and_then(|it| it.keys().find(|key| key.eq_ignore_ascii_case("commands")).cloned());
        match key.and_then(|key| fields?.remove(&key)) {
            Some(Value::Array(commands)) => Self { commands: Ok(commands) },
            _ => Self { commands: Err("Invalid/missing commands") },
        }
    }

    /// Whether one of its commands has one of these names.
    #[must_use]
    pub fn has_any(&self, names: &[&str]) -> bool {
        let is_one = |command: &Value| {
            let name =
                command.as_object().and_then(|fields| field(fields, "command")).and_then(Value::as_str);
            name.is_some_and(|name| names.iter().any(|it| it.eq_ignore_ascii_case(name)))
        };
        self.commands.as_ref().is_ok_and(|commands| commands.iter().any(is_one))
    }

    /// Answers the commands one after the other, `most` of them. One that is not obeyed is told so, and the next ones are looked
    /// at all the same, but for those behind something that is no command.
    pub fn answer<'a>(
        &'a self,
        most: usize,
        mut obey: impl FnMut(&'a str, &'a Map<String, Value>) -> Answer<'a>,
    ) -> Value {
        let mut responses = Vec::new();
        match &self.commands {
            Err(why) => responses.push(json!({ "command": NO_NAME, "error": why })),
            Ok(commands) => {
                for (number, command) in commands.iter().enumerate() {
                    let read =
                        if number < most { read(command) } else { Err((NO_NAME, "Too many commands")) };
                    let (name, fields, correlation) = match read {
                        Ok(read) => read,
                        Err((name, why)) => {
                            responses.push(json!({ "command": name, "error": why }));
                            break;
                        }
                    };
                    let mut response = match obey(name, fields) {
                        Err(why) => json!({ "command": name, "error": why }),
                        Ok(None) => json!({ "command": name }),
                        Ok(Some((name, data))) => json!({ "command": name, "data": data }),
                    };
                    if let Some(correlation) = correlation {
                        response["correlationData"] = correlation.into();
                    }
                    responses.push(response);
                }
            }
        }
        json!({ "responses": responses })
    }
}

/// A command's name, its fields, and what its answer is to carry; or what it is instead, and why nothing behind it is looked at.
type Command<'a> = (&'a str, &'a Map<String, Value>, Option<&'a str>);

fn read(command: &Value) -> Result<Command<'_>, (&str, &'static str)> {
    let fields = command.as_object().ok_or((NO_NAME, "Command not an object"))?;
    let name = field(fields, "command").and_then(Value::as_str).ok_or((NO_NAME, "Missing command"))?;
    match field(fields, "correlationData") {
        None => Ok((name, fields, None)),
        Some(Value::String(text)) => Ok((name, fields, Some(text))),
        Some(_) => Err((name, "Invalid correlationData data type.")),
    }
}

/// A field, in any letter case.
pub(super) fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
