//! Listeners: `listener` blocks, the default listener, and the two of a broker that has none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use quoll_mqtt::{QoS, TopicName};

use super::complaint::{Complaint, Fault, Matter, Place, Remark};
use super::plugins::{DynamicSecurityFile, Plugin, PluginKind};
use super::said::Said;
use super::tls::Tls;
use super::value::Value;

/// The port of the default listener.
pub(super) const DEFAULT_PORT: u16 = 1883;

/// A listener, as understood.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerConfiguration {
    /// Its line; `None` for the two of a broker without any.
    pub place: Option<Place>,
    /// Where it listens.
    pub socket: Socket,
    /// What is spoken (`protocol`).
    pub protocol: Protocol,
    /// TLS; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Who may come in, and where its rights are written.
    pub security: Security,
    /// What of the client certificate is the user name; the password is then not asked.
    pub certificate_name: Option<CertificateName>,
    /// Whether the user name takes the place of the client id (`use_username_as_clientid`).
    pub username_as_client_id: bool,
    /// Connections at a time; `None`: no limit (`max_connections`).
    pub max_connections: Option<u32>,
    /// The highest level (`max_qos`).
    pub max_qos: QoS,
    /// Topic aliases a 5.0 client may make (`max_topic_alias`).
    pub max_topic_alias: u16,
    /// Topic aliases made towards a 5.0 client (`max_topic_alias_broker`).
    pub max_topic_alias_broker: u16,
    /// Versions that are let in (`accept_protocol_versions`).
    pub versions: Versions,
    /// What stands in front of all topics of its clients (`mount_point`).
    pub mount_point: Option<TopicName>,
    /// Values of Origin that WebSocket clients may have; all if empty (`websockets_origin`).
    pub origins: Vec<String>,
    /// PROXY protocol in front of each connection (`enable_proxy_protocol`).
    pub proxy: Option<Proxy>,
    /// The folder of files that a listener with `protocol http_api` serves (`http_dir`).
    pub http_dir: Option<PathBuf>,
}

/// Where a listener listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Socket {
    /// TCP.
    Tcp {
        /// Port, not 0.
        port: u16,
        /// Address or host name, not resolved; `None`: all addresses.
        host: Option<String>,
        /// Only this family of addresses (`socket_domain`).
        domain: Option<Domain>,
        /// Only this network interface (`bind_interface`); goes before the host.
        interface: Option<String>,
    },
    /// A UNIX socket (`listener 0 PATH`).
    Unix(PathBuf),
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Domain {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// MQTT.
    Mqtt,
    /// MQTT over WebSockets.
    WebSockets,
    /// Mosquitto's JSON about itself.
    HttpApi,
}

/// What of a client certificate is the user name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateName {
    /// The common name (`use_identity_as_username`).
    CommonName,
    /// The whole subject, as RFC 2253 writes it (`use_subject_as_username`).
    Subject,
}

/// Versions of MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// 3.1.
    pub v31: bool,
    /// 3.1.1.
    pub v311: bool,
    /// 5.0.
    pub v5: bool,
}

/// PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// 1 or 2.
    pub version: u8,
    /// Whether the client's leg must have been TLS, version 2 (`proxy_protocol_v2_require_tls`).
    pub require_tls: bool,
}

/// Who may come in, and where its rights are written: resolved for one listener.
///
/// Mosquitto asks in this order: a user name from the certificate is enough. Else with password files, a user name must be
/// in one with this password. Without any, and for clients without user name, `allow_anonymous` decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Security {
    /// Whether clients come in that no password was asked of.
    pub allow_anonymous: bool,
    /// Files of users and passwords, by option and by plugin.
    pub password_files: Vec<PathBuf>,
    /// Files of topic permissions, by option and by plugin. Without any, and without dynamic security, all is allowed.
    pub acl_files: Vec<PathBuf>,
    /// Files of the dynamic security plugin.
    pub dynamic_security: Vec<DynamicSecurityFile>,
    /// Whether clients may leave their client id empty.
    pub allow_zero_length_clientid: bool,
    /// What client ids made here begin with.
    pub auto_id_prefix: String,
}

/// A block as read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) port: u16,
    pub(super) host: Option<String>,
    pub(super) said: Said,
}

/// What a listener's security comes from besides its own lines.
pub(super) struct Surrounding<'a> {
    pub(super) global: &'a Said,
    pub(super) per_listener: bool,
    pub(super) plugins: &'a [Plugin],
}

impl Draft {
    pub(super) fn understand(
        &self,
        index: usize,
        surrounding: &Surrounding<'_>,
        complaints: &mut Vec<Complaint>,
    ) -> ListenerConfiguration {
        let said = &self.said;
        let tls = Tls::understand(said, complaints);
        let proxy = said.number("enable_proxy_protocol").map(|version| Proxy {
            version,
            require_tls: said.flag("proxy_protocol_v2_require_tls").unwrap_or(false),
        });
        self.check_proxy(proxy, complaints);
        let certificate_name = self.certificate_name(tls.is_some() || proxy.is_some(), complaints);
        let usual = Versions { v31: true, v311: true, v5: true };
        ListenerConfiguration {
            place: Some(self.place.clone()),
            socket: self.socket(),
            protocol: match said.text("protocol") {
                Some("websockets") => Protocol::WebSockets,
                Some("http_api") => Protocol::HttpApi,
                _ => Protocol::Mqtt,
            },
            tls,
            security: security(said, Some(index), surrounding),
            certificate_name,
            username_as_client_id: said.flag("use_username_as_clientid").unwrap_or(false),
            max_connections: said.limit("max_connections"),
            max_qos: said.number("max_qos").and_then(QoS::from_bits).unwrap_or(QoS::ExactlyOnce),
            max_topic_alias: said.number("max_topic_alias").unwrap_or(10),
            max_topic_alias_broker: said.number("max_topic_alias_broker").unwrap_or(10),
            versions: match said.value("accept_protocol_versions") {
                Some(Value::Versions(versions)) => *versions,
                _ => usual,
            },
            mount_point: self.mount_point(complaints),
            origins: said.all("websockets_origin").iter().filter_map(text).collect(),
            proxy,
            http_dir: self.http_dir(complaints),
        }
    }

    /// The files of a site; a listener that speaks MQTT over WebSocket has none, as with Mosquitto's own WebSockets.
    fn http_dir(&self, complaints: &mut Vec<Complaint>) -> Option<PathBuf> {
        let folder = self.said.path("http_dir")?;
        if self.said.text("protocol") == Some("http_api") {
            return Some(folder);
        }
        if let Some(place) = self.said.place("http_dir") {
            let why = "files are served by listeners with 'protocol http_api'";
            let matter = Matter::Remark(Remark::Ignored { option: "http_dir".to_owned(), why });
            complaints.push(Complaint { place: place.clone(), matter });
        }
        None
    }

    fn socket(&self) -> Socket {
        if let (0, Some(path)) = (self.port, &self.host) {
            return Socket::Unix(path.into());
        }
        let said = &self.said;
        Socket::Tcp {
            port: said.number("port").unwrap_or(self.port),
            host: self.host.clone().or_else(|| said.text("bind_address").map(str::to_owned)),
            domain: match said.text("socket_domain") {
                Some("ipv4") => Some(Domain::Ipv4),
                Some("ipv6") => Some(Domain::Ipv6),
                _ => None,
            },
            interface: said.text("bind_interface").map(str::to_owned),
        }
    }

    fn mount_point(&self, complaints: &mut Vec<Complaint>) -> Option<TopicName> {
        let topic = TopicName::parse(self.said.text("mount_point")?);
        if let (Err(_), Some(place)) = (&topic, self.said.place("mount_point")) {
            let fault = Fault::Form { option: "mount_point", rule: "is no topic: it may have no wildcard" };
            complaints.push(Complaint { place: place.clone(), matter: Matter::Fault(fault) });
        }
        topic.ok()
    }

    fn certificate_name(
        &self,
        certificates: bool,
        complaints: &mut Vec<Complaint>,
    ) -> Option<CertificateName> {
        let common = self.said.flag("use_identity_as_username").unwrap_or(false);
        let subject = self.said.flag("use_subject_as_username").unwrap_or(false);
        if certificates {
            let subject = subject.then_some(CertificateName::Subject);
            return if common { Some(CertificateName::CommonName) } else { subject };
        }
        for (set, name) in [(common, "use_identity_as_username"), (subject, "use_subject_as_username")] {
            if let Some(place) = self.said.place(name).filter(|_| set) {
                let why = "the listener has no TLS without certfile and keyfile";
                let matter = Matter::Remark(Remark::Ignored { option: name.to_owned(), why });
                complaints.push(Complaint { place: place.clone(), matter });
            }
        }
        None
    }

    fn check_proxy(&self, proxy: Option<Proxy>, complaints: &mut Vec<Complaint>) {
        if proxy.is_none_or(|proxy| proxy.version != 2) {
            return;
        }
        let set = |name| self.said.value(name).is_some_and(|value| *value != Value::Flag(false));
        for option in ["use_subject_as_username", "certfile", "keyfile"] {
            if let Some(place) = self.said.place(option).filter(|_| set(option)) {
                let fault = Fault::Together { option, other: "'enable_proxy_protocol 2'" };
                complaints.push(Complaint { place: place.clone(), matter: Matter::Fault(fault) });
            }
        }
    }
}

/// The two listeners of a broker without any: this machine only, anonymous clients let in unless forbidden.
pub(super) fn local_only(surrounding: &Surrounding<'_>) -> Vec<ListenerConfiguration> {
    let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut security = security(&Said::default(), None, surrounding);
    security.allow_anonymous = surrounding.global.flag("allow_anonymous").unwrap_or(true);
    hosts
        .map(|host| ListenerConfiguration {
            place: None,
            socket: Socket::Tcp {
                port: DEFAULT_PORT,
                host: Some(host.to_string()),
                domain: None,
                interface: None,
            },
            protocol: Protocol::Mqtt,
            tls: None,
            security: security.clone(),
            certificate_name: None,
            username_as_client_id: false,
            max_connections: None,
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            versions: Versions { v31: true, v311: true, v5: true },
            mount_point: None,
            origins: Vec::new(),
            proxy: None,
            http_dir: None,
        })
        .into()
}

fn security(own: &Said, index: Option<usize>, surrounding: &Surrounding<'_>) -> Security {
    let Surrounding { global, per_listener, plugins } = surrounding;
    // `listener_allow_anonymous` and `listener_auto_id_prefix` are in `own` under the plain names in either mode.
    let common = if *per_listener { own } else { global };
    let mut security = Security {
        allow_anonymous: own
            .flag("allow_anonymous")
            .or_else(|| common.flag("allow_anonymous"))
            .unwrap_or(false),
        password_files: common.path("password_file").into_iter().collect(),
        acl_files: common.path("acl_file").into_iter().collect(),
        dynamic_security: Vec::new(),
        allow_zero_length_clientid: common.flag("allow_zero_length_clientid").unwrap_or(true),
        auto_id_prefix: own
            .text("auto_id_prefix")
            .or_else(|| common.text("auto_id_prefix"))
            .unwrap_or("auto-")
            .to_owned(),
    };
    for plugin in plugins.iter().filter(|plugin| plugin.serves(index)) {
        match &plugin.kind {
            PluginKind::PasswordFile(file) => put(&mut security.password_files, file),
            PluginKind::AclFile(file) => put(&mut security.acl_files, file),
            PluginKind::DynamicSecurity(file) => put(&mut security.dynamic_security, file),
        }
    }
    security
}

fn put<T: Clone + PartialEq>(files: &mut Vec<T>, file: &T) {
    if !files.contains(file) {
        files.push(file.clone());
    }
}

fn text(statement: &super::said::Statement) -> Option<String> {
    match &statement.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
