//! What there is in this broker, for those who ask over HTTP or on `$CONTROL/broker/v1` (`enable_control_api`): listeners and
//! plugins. In the words of Mosquitto's control API.

use quoll_server::Place;
use quoll_server::mosquitto::control_request::Request;
use quoll_server::mosquitto::dynamic_security::TOPIC as DYNAMIC_SECURITY;
use quoll_server::mosquitto::listener::Protocol;
use quoll_server::mosquitto::plugins::PluginKind;
use quoll_server::mosquitto::{Configuration, ListenerConfiguration};
use serde_json::{Value, json};

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
    Request::parse(payload).answer(MAX_COMMANDS, |name, _| {
        if name.eq_ignore_ascii_case("listListeners") {
            Ok(Some((name, listeners.clone())))
        } else if name.eq_ignore_ascii_case("listPlugins") {
            Ok(Some((name, json!({ "plugins": plugins(configuration) }))))
        } else {
            Err("Unknown command")
        }
    })
}
