//! Listeners as the server wants them.

use std::net::IpAddr;

use quoll_broker::ShardSettings;
use quoll_server::mosquitto::listener::{self, Domain, Protocol, Socket};
use quoll_server::mosquitto::{Configuration, ListenerConfiguration};
use quoll_server::tls::LiveIdentity;
use quoll_server::{
    EmptyClientId, Family, Listener, Place, ProxyProtocol, Terms, Transport, Versions, WebSocketSettings,
};

use super::doors::DoorOf;

/// What should be known about a site that everybody may read.
pub(super) fn open_site(listener: &ListenerConfiguration) -> Option<String> {
    let place = listener.place.as_ref().filter(|_| listener.protocol == Protocol::HttpApi)?;
    let security = &listener.security;
    let asks = !security.password_files.is_empty() || !security.dynamic_security.is_empty();
    let is_near = match &listener.socket {
        Socket::Unix(_) => true,
        Socket::Tcp { host, .. } => host.as_deref().is_some_and(|host| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }),
    };
    (!asks && !is_near).then(|| {
        format!(
            "{place}: everybody who reaches this port can read the broker's figures and the files of http_dir, as with \
             Mosquitto; bind it to 127.0.0.1 or give it a password_file"
        )
    })
}

/// The rules' settings: of what listeners set for themselves, the widest; their terms narrow it.
pub(super) fn rules(configuration: &Configuration) -> ShardSettings {
    let mut rules = configuration.global.rules.clone();
    let all = &configuration.listeners;
    rules.max_qos = all.iter().map(|it| it.max_qos).max().unwrap_or(rules.max_qos);
    rules.max_topic_alias = all.iter().map(|it| it.max_topic_alias).max().unwrap_or_default();
    rules.max_topic_alias_broker = all.iter().map(|it| it.max_topic_alias_broker).max().unwrap_or_default();
    rules.allow_zero_length_clientid = all.iter().any(|it| it.security.allow_zero_length_clientid);
    rules
}

/// A listener's places: of one that was not configured, one for each port of the command line.
pub(super) fn places(listener: &ListenerConfiguration, ports: &[u16]) -> Vec<Place> {
    let (port, host, domain, interface) = match &listener.socket {
        Socket::Unix(path) => return vec![Place::Unix(path.clone())],
        Socket::Tcp { port, host, domain, interface } => (port, host, domain, interface),
    };
    let own = [*port];
    let ports = if listener.place.is_none() && !ports.is_empty() { ports } else { &own };
    let family = domain.map(|domain| match domain {
        Domain::Ipv4 => Family::Ipv4,
        Domain::Ipv6 => Family::Ipv6,
    });
    let place =
        |port: &u16| Place::Host { port: *port, host: host.clone(), family, interface: interface.clone() };
    ports.iter().map(place).collect()
}

/// A listener as the server wants it.
pub(super) fn listener(
    name: &str,
    place: Place,
    of: &ListenerConfiguration,
    door: &DoorOf,
    rules: &ShardSettings,
) -> Listener {
    let transport = door
        .tls
        .as_ref()
        .map_or(Transport::Tcp, |tls| Transport::Tls(LiveIdentity::new(tls.identity.clone())));
    let websocket = WebSocketSettings { origins: of.origins.clone(), ..WebSocketSettings::default() };
    let security = &of.security;
    let empty = if security.allow_zero_length_clientid {
        EmptyClientId::Given(security.auto_id_prefix.as_str().into())
    } else {
        EmptyClientId::Refused
    };
    let listener::Versions { v31, v311, v5 } = of.versions;
    Listener {
        websocket: (of.protocol == Protocol::WebSockets).then_some(websocket),
        proxy: of.proxy.map(|proxy| match proxy.version {
            1 => ProxyProtocol::V1,
            _ => ProxyProtocol::V2 { require_tls: proxy.require_tls },
        }),
        max_connections: of.max_connections.map(|most| most as usize),
        terms: Terms {
            versions: Versions { v31, v311, v5 },
            max_qos: of.max_qos,
            // What the rules say anyway need not be looked for in each packet.
            max_topic_alias: Some(of.max_topic_alias).filter(|most| *most < rules.max_topic_alias),
            max_topic_alias_broker: Some(of.max_topic_alias_broker),
            mount_point: of.mount_point.clone(),
            allow_anonymous: Some(security.allow_anonymous),
            username_as_client_id: of.username_as_client_id,
            empty_client_id: Some(empty),
            ..Terms::default()
        },
        ..Listener::new(name, place, transport)
    }
}
