//! `quoll.toml`: as typed by a person ([`ConfigFile`]), and as understood ([`Settings`]).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::machine;

/// MQTT over TLS (IANA `secure-mqtt`).
pub(crate) const MQTTS_PORT: u16 = 8883;

/// MQTT over TLS for pinned devices, which show no certificate.
pub(crate) const PINNED_PORT: u16 = 8884;

/// The file as typed. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    pki: Option<PathBuf>,
    server: ServerTable,
    listen: ListenTable,
    broker: BrokerTable,
    ca: CaTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServerTable {
    names: Option<Vec<String>>,
    addresses: Option<Vec<IpAddr>>,
    host: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListenTable {
    mqtts: Option<Vec<SocketAddr>>,
    pinned: Option<Vec<SocketAddr>>,
    mqtt: Option<Vec<SocketAddr>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaTable {
    crl_listen: Option<Vec<SocketAddr>>,
    crl_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BrokerTable {
    shards: Option<usize>,
    unlisted_certificates: Option<Unlisted>,
    allow_anonymous: Option<bool>,
    durability: Option<Durability>,
}

/// What an acknowledgement to a client waits for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// The disk has it.
    #[default]
    Power,
    /// The system has it, so that only the machine's end can lose it.
    Process,
    /// Nothing.
    None,
}

impl From<Durability> for quoll_server::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Power => Self::Power,
            Durability::Process => Self::Process,
            Durability::None => Self::None,
        }
    }
}

/// What happens to a certificate of our CA that is in no registry, such as one that Easy-RSA issued.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unlisted {
    /// Let in under its common name, as Mosquitto does, and shown by `quoll device pending`.
    #[default]
    Admit,
    /// Refused until somebody accepts it, and shown by `quoll device pending`.
    Pending,
    /// Refused until it is added.
    Refuse,
}

/// The settings in force: nothing is left open.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The Easy-RSA folder.
    pub(crate) pki: PathBuf,
    /// Host names in the server's certificate; the first is its common name.
    pub(crate) names: Vec<String>,
    /// Addresses in the server's certificate.
    pub(crate) addresses: Vec<IpAddr>,
    /// What devices are told to connect to: one of `names` or `addresses`.
    pub(crate) host: String,
    /// Listeners for MQTT over mutual TLS.
    pub(crate) mqtts: Vec<SocketAddr>,
    /// Listeners for pinned devices: TLS, no client certificate asked for, user and password.
    pub(crate) pinned: Vec<SocketAddr>,
    /// Listeners for plain MQTT; none unless asked for.
    pub(crate) mqtt: Vec<SocketAddr>,
    /// Shard threads; 0 for one a core.
    pub(crate) shards: usize,
    /// See [`Unlisted`].
    pub(crate) unlisted: Unlisted,
    /// Whether plain listeners let anybody in.
    pub(crate) allow_anonymous: bool,
    /// See [`Durability`].
    pub(crate) durability: Durability,
    /// Where the revocation list is served over HTTP, to everybody.
    pub(crate) crl_listen: Vec<SocketAddr>,
    /// The address of that door, as it is to stand in certificates; no slash at the end.
    pub(crate) crl_url: Option<String>,
}

/// What the command line says that goes before the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) pki: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) mqtts: Vec<SocketAddr>,
    pub(crate) pinned: Vec<SocketAddr>,
    pub(crate) mqtt: Vec<SocketAddr>,
    pub(crate) allow_anonymous: bool,
    pub(crate) shards: Option<usize>,
}

impl Settings {
    /// Reads `quoll.toml`, if there is one, fills in what it leaves open, and checks the whole.
    pub(crate) fn load(home: &Home, overrides: &Overrides) -> Outcome<Self> {
        let path = home.config();
        let file = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str::<ConfigFile>(&text).map_err(|error| {
                Failure::new(Exit::Unusable, format!("{} cannot be understood", path.display()))
                    .why(error.to_string().trim_end())
                    .hint("docs/configuration.md lists every key; nothing was changed")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ConfigFile::default(),
            Err(error) => return Err(io_failure("read", &path, &error)),
        };
        Self::understand(home, file, overrides)
    }

    fn understand(home: &Home, file: ConfigFile, overrides: &Overrides) -> Outcome<Self> {
        let machine = machine::look();
        let mut names = file.server.names.unwrap_or(machine.names);
        let mut addresses = file.server.addresses.unwrap_or(machine.addresses);
        // Somebody who chose listeners chooses this one, too; nobody's second port is taken without a word.
        let chosen = !overrides.mqtts.is_empty() || file.listen.mqtts.is_some();
        let pinned = pick(&overrides.pinned, file.listen.pinned, || match chosen {
            true => Vec::new(),
            false => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, PINNED_PORT))],
        });
        let mqtts = pick(&overrides.mqtts, file.listen.mqtts, || {
            vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, MQTTS_PORT))]
        });
        // A listener on one address alone is reached at that address.
        let only = mqtts.first().map(SocketAddr::ip).filter(|address| !address.is_unspecified());
        let host = overrides
            .host
            .clone()
            .or(file.server.host)
            .unwrap_or_else(|| only.map_or(machine.host, |address| address.to_string()));
        check_host(&host)?;
        match host.parse::<IpAddr>() {
            Ok(address) if !addresses.contains(&address) => addresses.insert(0, address),
            Err(_) if !names.iter().any(|name| name.eq_ignore_ascii_case(&host)) => {
                names.insert(0, host.clone())
            }
            _ => {}
        }
        let pki =
            overrides.pki.clone().or(file.pki).map_or_else(|| home.default_pki(), |pki| home.dir().join(pki));
        let settings = Self {
            pki,
            names,
            addresses,
            host,
            mqtts,
            pinned,
            mqtt: pick(&overrides.mqtt, file.listen.mqtt, Vec::new),
            shards: overrides.shards.or(file.broker.shards).unwrap_or(0),
            unlisted: file.broker.unlisted_certificates.unwrap_or_default(),
            allow_anonymous: overrides.allow_anonymous || file.broker.allow_anonymous.unwrap_or(false),
            durability: file.broker.durability.unwrap_or_default(),
            crl_listen: file.ca.crl_listen.unwrap_or_default(),
            crl_url: file.ca.crl_url.map(|url| url.trim_end_matches('/').to_owned()),
        };
        if settings.names.is_empty() && settings.addresses.is_empty() {
            return Err(Failure::new(Exit::Unusable, "the server has neither a name nor an address")
                .hint("put one into [server] names or addresses of quoll.toml"));
        }
        if settings.mqtts.is_empty() && settings.mqtt.is_empty() {
            return Err(Failure::new(Exit::Unusable, "there is no listener")
                .hint("put one into [listen] mqtts of quoll.toml, for example [\"0.0.0.0:8883\"]"));
        }
        Ok(settings)
    }

    /// The port that devices are told.
    pub(crate) fn device_port(&self) -> u16 {
        self.mqtts.first().map_or(MQTTS_PORT, SocketAddr::port)
    }

    /// The port that pinned devices are told, if there is one.
    pub(crate) fn pinned_port(&self) -> Option<u16> {
        self.pinned.first().map(SocketAddr::port)
    }

    /// Writes a `quoll.toml` that says what was found out, where there is none.
    pub(crate) fn write_first(&self, home: &Home) -> Outcome<bool> {
        let path = home.config();
        if path.exists() {
            return Ok(false);
        }
        // Letting anybody in is said anew each time, or written by a person.
        Self { allow_anonymous: false, ..self.clone() }.write_for(home, &path)?;
        Ok(true)
    }

    /// Writes what `home` is to have as its `quoll.toml` to `path`, where nothing is yet.
    pub(crate) fn write_for(&self, home: &Home, path: &std::path::Path) -> Outcome {
        write_whole(path, self.as_toml(home).as_bytes(), 0o644, false)
    }

    fn as_toml(&self, home: &Home) -> String {
        let list =
            |items: Vec<String>| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        let pki = self.pki.strip_prefix(home.dir()).unwrap_or(&self.pki).display().to_string();
        let mqtt = if self.mqtt.is_empty() {
            "# mqtt = [\"127.0.0.1:1883\"]   # plain MQTT, for this machine's own programs".to_owned()
        } else {
            format!("mqtt = [{}]", list(self.mqtt.iter().map(ToString::to_string).collect()))
        };
        let pinned = if self.pinned.is_empty() {
            "# pinned = [\"0.0.0.0:8884\"]   # TLS and a password, for devices that cannot have a certificate"
                .to_owned()
        } else {
            format!(
                "# TLS and a password, for devices that cannot have a certificate.\npinned = [{}]",
                list(self.pinned.iter().map(ToString::to_string).collect())
            )
        };
        format!(
            "# Written by quoll from what it found on this machine. Every key is explained in docs/configuration.md.\n\
             \n\
             # The Easy-RSA folder, from here.\n\
             pki = {pki:?}\n\
             \n\
             [server]\n\
             # In the server's certificate. Devices compare what they were told with these, as text.\n\
             names = [{names}]\n\
             addresses = [{addresses}]\n\
             # What devices are told to connect to: one of the above.\n\
             host = {host:?}\n\
             \n\
             [listen]\n\
             mqtts = [{mqtts}]\n\
             {pinned}\n\
             {mqtt}\n\
             \n\
             [broker]\n\
             # A certificate of this CA that is not in the registry: \"admit\" under its common name with all permissions,\n\
             # \"pending\" until `quoll device accept`, or \"refuse\".\n\
             unlisted_certificates = \"{unlisted}\"\n{anonymous}",
            names = list(self.names.clone()),
            addresses = list(self.addresses.iter().map(ToString::to_string).collect()),
            host = self.host,
            mqtts = list(self.mqtts.iter().map(ToString::to_string).collect()),
            anonymous = match self.allow_anonymous && !self.mqtt.is_empty() {
                true =>
                    "# The plain listeners let anybody in, with all permissions.\nallow_anonymous = true\n",
                false => "",
            },
            unlisted = match self.unlisted {
                Unlisted::Admit => "admit",
                Unlisted::Pending => "pending",
                Unlisted::Refuse => "refuse",
            },
        )
    }
}

fn pick<T: Clone>(given: &[T], file: Option<Vec<T>>, default: impl FnOnce() -> Vec<T>) -> Vec<T> {
    if given.is_empty() { file.unwrap_or_else(default) } else { given.to_vec() }
}

/// Refuses what a device could not resolve or would not compare well (facts: names are compared as text, SNI).
fn check_host(host: &str) -> Outcome {
    let wrong = |why: &str| {
        Err(Failure::new(Exit::Unusable, format!("devices cannot be told to connect to {host:?}"))
            .why(why)
            .hint(format!(
                "use this machine's address or a name that your router's DNS knows, for example --host {}",
                machine::look().host
            )))
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => wrong("0.0.0.0 is no address to connect to"),
            IpAddr::V6(address) if address.is_unspecified() => wrong("[::] is no address to connect to"),
            _ => Ok(()),
        };
    }
    if host.to_ascii_lowercase().trim_end_matches('.').ends_with(".local") {
        return wrong("names under .local are mDNS names, which Tasmota does not resolve");
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 64 {
        return wrong("it has over 64 characters");
    }
    if !host.split('.').all(label) {
        return wrong("it is neither an address nor a host name (letters, digits, hyphens and dots)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(dir.path().to_owned())).unwrap();
        (dir, home)
    }

    #[test]
    fn what_quoll_writes_first_it_reads_back_as_the_same() {
        let (_dir, home) = home();
        let first = Settings::load(&home, &Overrides::default()).unwrap();
        assert!(first.write_first(&home).unwrap());
        assert!(!first.write_first(&home).unwrap(), "a second time nothing is written");
        let second = Settings::load(&home, &Overrides::default()).unwrap();
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    #[test]
    fn a_wrong_line_is_named_with_line_and_column() {
        for (text, line) in [
            ("[listen]\nmqtts = [\"nonsense\"]\n", "line 2"),
            ("pki = 7\n", "line 1"),
            ("[server]\nname = [\"typo\"]\n", "line 2"),
            ("[broker\n", "line 1"),
            ("[broker]\ndurability = \"always\"\n", "line 2"),
        ] {
            let (_dir, home) = home();
            fs::write(home.config(), text).unwrap();
            let failure = Settings::load(&home, &Overrides::default()).unwrap_err();
            assert_eq!(failure.exit, Exit::Unusable, "{text}");
            let why = failure.why.unwrap();
            assert!(why.contains(line) && why.contains("column"), "{text}: {why}");
        }
    }

    #[test]
    fn hosts_that_devices_cannot_use_are_refused_with_a_next_step() {
        for host in
            ["broker.local", "Broker.LOCAL.", "0.0.0.0", "::", "a b", "", "-x.home", "under_score", "x/y"]
        {
            let failure = check_host(host).unwrap_err();
            assert_eq!(failure.exit, Exit::Unusable, "{host}");
            assert!(failure.hint.unwrap().contains("--host"), "{host}");
        }
        for host in ["192.0.2.7", "broker", "mqtt.myorg.com", "fd00::7"] {
            check_host(host).unwrap();
        }
    }

    #[test]
    fn a_given_host_gets_into_the_certificate() {
        let (_dir, home) = home();
        let overrides = Overrides { host: Some("mqtt.example.org".into()), ..Overrides::default() };
        assert_eq!(Settings::load(&home, &overrides).unwrap().names[0], "mqtt.example.org");
        let overrides = Overrides { host: Some("192.0.2.7".into()), ..Overrides::default() };
        assert_eq!(Settings::load(&home, &overrides).unwrap().addresses[0].to_string(), "192.0.2.7");
    }
}
