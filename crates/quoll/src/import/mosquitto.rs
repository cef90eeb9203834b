//! A mosquitto.conf, read as Mosquitto reads it: which of its listeners Quoll's node takes over, whose rights it knows, and
//! what it does not take.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use quoll_pki::{Certificate, Pki};
use quoll_server::mosquitto::listener::{CertificateName, Protocol, Socket};
use quoll_server::mosquitto::{Configuration, Disk, ListenerConfiguration, Surroundings, read};

use super::Fate;
use crate::failure::{Exit, Failure, Outcome, io_failure};

/// What is read of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Listeners with mutual TLS.
    pub(crate) mqtts: Vec<SocketAddr>,
    /// Plain listeners that let anybody in.
    pub(crate) mqtt: Vec<SocketAddr>,
    /// The text of the `acl_file` of the listeners with mutual TLS; `None` where everybody may do everything.
    pub(crate) acl: Option<String>,
    /// Certificates that the listeners show.
    pub(crate) certificates: Vec<Certificate>,
    /// Where keys lie.
    pub(crate) keys: Vec<PathBuf>,
    /// What becomes of what.
    pub(crate) fates: Vec<Fate>,
}

/// Reads `mosquitto.conf` in this folder, or this file, and everything that it includes.
pub(crate) fn look(path: &Path, pki: &Pki) -> Outcome<Taken> {
    let file = if path.is_dir() { path.join("mosquitto.conf") } else { path.to_owned() };
    if !file.is_file() {
        return Err(Failure::new(Exit::NotFound, format!("there is no {}", file.display()))
            .why("nothing was changed")
            .hint("name the folder or file of Mosquitto's configuration"));
    }
    let surroundings = Surroundings {
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        persistence_location: None,
    };
    let configuration = read(&file, &Disk, &surroundings).map_err(|complaints| {
        let faults: Vec<_> =
            complaints.iter().filter(|it| !it.is_warning()).map(ToString::to_string).collect();
        Failure::new(Exit::Unusable, format!("{} cannot be understood", file.display()))
            .why(faults.join("\n  "))
            .hint("Mosquitto would not start with it either; nothing was changed")
    })?;
    let mut taken = Taken::default();
    for listener in &configuration.listeners {
        taken.listener(listener, pki)?;
    }
    taken.rest(&configuration);
    Ok(taken)
}

impl Taken {
    fn listener(&mut self, listener: &ListenerConfiguration, pki: &Pki) -> Outcome {
        let from = listener.place.as_ref().map_or_else(|| "by default".into(), ToString::to_string);
        let (what, address) = match &listener.socket {
            Socket::Tcp { port, host, .. } => {
                let ip = match host {
                    None => Some(everywhere()),
                    Some(host) if host == "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                    Some(host) => host.parse().ok(),
                };
                let kind = if listener.tls.is_some() { "TLS" } else { "plain" };
                (format!("listener {port} ({kind})"), ip.map(|ip| SocketAddr::new(ip, *port)))
            }
            Socket::Unix(path) => (format!("listener {}", path.display()), None),
        };
        let leave = |this: &mut Self, why: &str| {
            this.fates.push(Fate::left(&what, &from, why));
            Ok(())
        };
        let Some(address) = address else {
            return leave(
                self,
                "not taken over: Quoll's node listens on addresses; quoll broker -c reads it as it is",
            );
        };
        if listener.protocol != Protocol::Mqtt {
            return leave(
                self,
                "not taken over: Quoll's node speaks no WebSockets; quoll broker -c reads it as it is",
            );
        }
        let security = &listener.security;
        let Some(tls) = &listener.tls else {
            let is_open = security.acl_files.is_empty() && security.dynamic_security.is_empty();
            if security.allow_anonymous && security.password_files.is_empty() && is_open {
                self.mqtt.push(address);
                self.fates.push(Fate::taken(
                    &what,
                    &from,
                    format!("[listen] mqtt {address}, anybody let in"),
                ));
                return Ok(());
            }
            return leave(
                self,
                "not taken over: Quoll knows no passwords and rights of plain clients; quoll client add NAME gives each user a certificate",
            );
        };
        self.certificates.extend(shown(&tls.certificate));
        self.keys.push(tls.key.clone());
        if !tls.require_certificate {
            return leave(
                self,
                "not taken over: it asks for no certificate; devices that pin the server's key: [listen] pinned of quoll.toml",
            );
        }
        self.mqtts.push(address);
        self.fates.push(Fate::taken(&what, &from, format!("[listen] mqtts {address}, certificate required")));
        if listener.certificate_name != Some(CertificateName::CommonName) {
            self.fates.push(Fate::taken(
                "user names",
                &from,
                "the certificate's common name says who comes, whatever user name is sent",
            ));
        }
        if let Some(roots) = tls.roots.file.as_ref().filter(|file| !has(file, pki.ca())) {
            let path = roots.display().to_string();
            self.fates.push(Fate::left(
                "cafile",
                path,
                "other CAs in it are not taken over: Quoll lets in its own CA's certificates",
            ));
        }
        if let Some(list) = &tls.revoked {
            let path = list.display().to_string();
            self.fates.push(Fate::taken(
                "crlfile",
                path,
                "index.txt says who is revoked; the list is not needed",
            ));
        }
        for file in &security.acl_files {
            let text = fs::read_to_string(file).map_err(|error| io_failure("read", file, &error))?;
            let path = file.display().to_string();
            self.fates.push(Fate::taken("acl_file", path, "lists of the clients that have certificates"));
            self.acl.get_or_insert_default().push_str(&text);
        }
        for file in &security.dynamic_security {
            let path = file.path.display().to_string();
            self.fates.push(Fate::left(
                "dynamic security",
                path,
                "not taken over: quoll acl, or quoll broker -c",
            ));
            self.acl.get_or_insert_default();
        }
        for file in &security.password_files {
            let path = file.display().to_string();
            self.fates.push(Fate::left("password_file", path, "not needed: a certificate is the way in"));
        }
        Ok(())
    }

    fn rest(&mut self, configuration: &Configuration) {
        for bridge in &configuration.bridges {
            let why = "not taken over: quoll broker -c runs it beside the node, on its own port";
            self.fates.push(Fate::left(format!("bridge {}", bridge.name), bridge.place.to_string(), why));
        }
        for plugin in &configuration.plugins {
            self.fates.push(Fate::left(
                "plugin",
                plugin.place.to_string(),
                "not taken over itself; its files are named above",
            ));
        }
        match &configuration.global.persistence {
            Some(persistence) => {
                let path = persistence.file.display().to_string();
                let why = "not read: devices say their retained messages again when they connect; from now on broker.db";
                self.fates.push(Fate::left("persistence", path, why));
            }
            None => self.fates.push(Fate::taken(
                "persistence",
                "none",
                "broker.db keeps sessions and retained messages",
            )),
        }
    }
}

/// Every address of this machine, of both kinds where it has both, as Mosquitto listens.
fn everywhere() -> IpAddr {
    let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match TcpListener::bind((both, 0)) {
        Ok(_) => both,
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

fn shown(path: &Path) -> Option<Certificate> {
    Certificate::from_pem(&fs::read(path).ok()?).ok()
}

fn has(file: &Path, ca: &Certificate) -> bool {
    // One certificate, and it is ours.
    fs::read(file).ok().is_some_and(|content| {
        let count = content.windows(27).filter(|window| *window == b"-----BEGIN CERTIFICATE-----").count();
        count == 1
            && Certificate::from_pem(&content)
                .is_ok_and(|there| there.public_key_der() == ca.public_key_der())
    })
}
