//! What there is in this broker, for those who ask over HTTP or on `$CONTROL/broker/v1` (`enable_control_api`): listeners and
//! plugins. In the words of Mosquitto's control API.

use quoll_server::Place;
use quoll_server::mosquitto::dynamic_security::TOPIC as DYNAMIC_SECURITY;
use quoll_server::mosquitto::listener::Protocol;
use quoll_server::mosquitto::plugins::PluginKind;
use quoll_server::mosquitto::{Configuration, ListenerConfiguration};
use serde_json::{Map, Value, json};

/// Where commands are published.
pub(super) const TOPIC: &str = "$CONTROL/broker/v1";
/// Where answers are.
pub(super) const RESPONSE_TOPIC: &str = "$CONTROL/broker/v1/response";

/// Commands of one message; each answer has the whole list in it.
const MAX_COMMANDS: usize = 100;

/// A listener at one of its places.
pub(super) fn listener(of: &ListenerConfiguration, place: &Place) -> Value {
    let protocol = match of.protocol {
        Protocol::Mqtt => "mqtt",
        Protocol::WebSockets => "mqtt+websockets",
        Protocol::HttpApi => "http_api",
    };
    let certificates = of.tls.as_ref().is_some_and(|tls| tls.require_certificate);
    let mut said = json!({
        "port": 0,
        "protocol": protocol,
        "tls": of.tls.is_some(),
        "require-certificate": certificates,
        "allow-anonymous": of.security.allow_anonymous,
    });
    match place {
        Place::Tcp(address) => said["port"] = address.port().into(),
        Place::Host { port, host, interface, .. } => {
            said["port"] = (*port).into();
            if let Some(host) = host {
                said["bind-address"] = host.as_str().into();
            }
            if let Some(interface) = interface {
                said["bind-interface"] = interface.as_str().into();
            }
        }
        Place::Unix(path) => said["socket-path"] = path.to_string_lossy().into(),
    }
    said
}

/// The plugins, by the names that Mosquitto's own say of themselves, each once.
fn plugins(configuration: &Configuration) -> Vec<Value> {
    let mut names: Vec<(&str, &[&str])> = configuration
        .plugins
        .iter()
        .map(|plugin| match plugin.kind {
            PluginKind::DynamicSecurity(_) => ("dynamic-security", &[DYNAMIC_SECURITY][..]),
            PluginKind::PasswordFile(_) => ("password-file", &[][..]),
            PluginKind::AclFile(_) => ("acl-file", &[][..]),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let each = names.into_iter().map(|(name, endpoints)| {
        let mut plugin = json!({ "name": name });
        if !endpoints.is_empty() {
            plugin["control-endpoints"] = endpoints.into();
        }
        plugin
    });
    each.collect()
}

/// Answers a message with commands.
pub(super) fn answer(payload: &[u8], configuration: &Configuration, listeners: &Value) -> Value {
    // What stands behind the JSON is not looked at, as with dynamic security.
    let value = serde_json::Deserializer::from_slice(payload).into_iter::<Value>().next();
    let unknown = |error: &str| json!({ "responses": [{ "command": "Unknown command", "error": error }] });
    let Some(Ok(value)) = value else { return unknown("Payload not valid JSON") };
    let Some(commands) = value.as_object().and_then(|it| field(it, "commands")).and_then(Value::as_array)
    else {
        return unknown("Invalid/missing commands");
    };
    let mut responses = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        if number == MAX_COMMANDS {
            responses.push(json!({ "command": "Unknown command", "error": "Too many commands" }));
            break;
        }
        let Some(command) = command.as_object() else {
            responses.push(json!({ "command": "Unknown command", "error": "Command not an object" }));
            break;
        };
        let Some(name) = field(command, "command").and_then(Value::as_str) else {
            responses.push(json!({ "command": "Unknown command", "error": "Missing command" }));
            break;
        };
        let correlation = field(command, "correlationData");
        if correlation.is_some_and(|data| !data.is_string()) {
            responses.push(json!({ "command": name, "error": "Invalid correlationData data type." }));
            break;
        }
        let mut response = json!({ "command": name });
        if name.eq_ignore_ascii_case("listListeners") {
            response["data"] = listeners.clone();
        } else if name.eq_ignore_ascii_case("listPlugins") {
            response["data"] = json!({ "plugins": plugins(configuration) });
        } else {
            response["error"] = "Unknown command".into();
        }
        if let Some(correlation) = correlation {
            response["correlationData"] = correlation.clone();
        }
        responses.push(response);
    }
    json!({ "responses": responses })
}

/// A field, in any letter case.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
