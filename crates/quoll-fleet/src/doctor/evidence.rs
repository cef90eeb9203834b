//! What is known when a device is judged, from four sides: the device itself, the wire as the broker saw it, the
//! certificates, the network. Every side may be silent, and then says why.
//!
//! Values alone: who collects them is the program. Times are seconds since 1970 in UTC. Everything can be written as
//! JSON; nothing here is a secret.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::log::LogReading;

/// Everything that is known about one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// Its name.
    pub name: String,
    /// When this was collected.
    pub now: i64,
    /// What the registry has.
    pub registered: Registered,
    /// What devices of this house are told to connect to.
    pub target: Target,
    /// What the device says.
    pub device: DeviceSide,
    /// What the broker saw.
    pub wire: WireSide,
    /// What the certificates say.
    pub pki: PkiSide,
    /// What the network says, from this machine.
    pub network: NetworkSide,
}

/// The registry's entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Registered {
    /// `plain`, `pinned` or `mutual`.
    pub rung: String,
    /// Where in its life it is, as the registry writes it.
    pub state: String,
    /// Its owner's reason, where it is in quarantine.
    pub quarantine: Option<String>,
    /// Serial number of its certificate.
    pub serial: Option<String>,
    /// End of its validity.
    pub expires: Option<i64>,
    /// Its web console.
    pub address: String,
    /// Its MAC.
    pub mac: String,
    /// Its MQTT client id.
    pub client_id: String,
    /// When it was last seen.
    pub last_seen: Option<i64>,
    /// Its topic.
    pub topic: String,
    /// Other devices that have the topic which this one uses now.
    pub topic_of: Vec<String>,
    /// Other devices whose client id this one uses now.
    pub client_id_of: Vec<String>,
}

/// Our broker, as devices are to reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port for TLS.
    pub port: u16,
    /// The fingerprint of the server's RSA key; none for another kind of key.
    pub fingerprint: Option<[u8; 20]>,
    /// Whether the CA's key is EC.
    pub ec_ca: bool,
    /// Whether the server's key is EC.
    pub ec_server: bool,
}

/// Why a device's console does not answer as one should.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SilenceKind {
    /// Nobody at the address.
    Unreachable,
    /// Connected, and no answer in time.
    Hangs,
    /// It wants a web password, or another one.
    Password,
    /// It does not like our Referer (SetOption128 0).
    Referer,
    /// Somebody else answers.
    NotTasmota,
    /// Another device answers.
    OtherDevice,
    /// Its web server is in user mode.
    UserMode,
    /// The answers make no sense.
    Senseless,
}

/// A console that does not answer as one should.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Silence {
    /// What kind.
    pub kind: SilenceKind,
    /// In words.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What its TLS can do (facts §7.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsAbility {
    /// No TLS.
    None,
    /// TLS without client certificates.
    Server,
    /// With TLSKey.
    Client,
}

/// What the device says. Whatever it did not say is empty, and named in `missing`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceSide {
    /// Where it was asked.
    pub address: String,
    /// Why it could not be asked, or not to the end.
    pub silence: Option<Silence>,
    /// Questions without an answer that makes sense.
    pub missing: Vec<String>,
    /// Firmware as it writes it.
    pub firmware: Option<String>,
    /// The numbers in it.
    pub release: Option<[u16; 4]>,
    /// Chip as it writes it.
    pub chip: Option<String>,
    /// Whether that is of the ESP32 family.
    pub is_esp32: bool,
    /// Whether the release crashes when its TLS broker refuses the connection.
    pub crashes_without_broker: bool,
    /// Its MAC.
    pub mac: Option<String>,
    /// Free heap in KiB.
    pub heap: Option<u64>,
    /// Quality of its Wi-Fi in per cent.
    pub rssi: Option<i64>,
    /// Its clock.
    pub clock: Option<i64>,
    /// SetOption3.
    pub mqtt_on: Option<bool>,
    /// MqttHost.
    pub host: Option<String>,
    /// MqttPort.
    pub port: Option<u16>,
    /// MqttClient.
    pub client: Option<String>,
    /// MqttUser.
    pub user: Option<String>,
    /// MQTT connections since boot.
    pub mqtt_count: Option<u64>,
    /// Seconds since its boot.
    pub uptime: Option<i64>,
    /// Boots so far.
    pub boots: Option<u64>,
    /// Why it restarted last, as it writes it.
    pub restart_reason: Option<String>,
    /// Whether TLS was on at boot.
    pub tls_at_boot: Option<bool>,
    /// Topic.
    pub topic: Option<String>,
    /// What its TLS can do.
    pub ability: Option<TlsAbility>,
    /// Length of TLSKey1 and TLSKey2, -1 for none; only where it has TLSKey.
    pub stored: Option<(i64, i64)>,
    /// SetOption103: TLS.
    pub tls: Option<bool>,
    /// SetOption132: fingerprint mode.
    pub fingerprint_mode: Option<bool>,
    /// SetOption165: ECDSA too.
    pub ecdsa: Option<bool>,
    /// MqttFingerprint1 and 2.
    pub slots: [Option<[u8; 20]>; 2],
    /// What its web log says.
    pub log: Option<LogReading>,
}

/// How surely an encounter was this device's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// It came from an address that several devices are known by.
    SharedAddress,
    /// It came from the address that the registry has.
    Address,
    /// The neighbour table has this device's MAC for the address.
    Mac,
    /// It gave the device's client id.
    ClientId,
    /// It showed the device's certificate.
    Certificate,
}

/// How an encounter at the broker's door ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// No TLS connection, or no CONNECT.
    Failed,
    /// CONNECT was refused.
    Refused,
    /// It was let in.
    Admitted,
}

/// How far it came; see the broker's own words for the steps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Connected, nothing readable.
    Socket,
    /// Its ClientHello was read.
    Hello,
    /// Our certificate was sent.
    Answered,
    /// Its answer to the request for a certificate was read.
    Certificate,
    /// TLS was open.
    Secured,
    /// Its CONNECT was read.
    Connect,
}

impl Step {
    /// In words, after "came as far as".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Socket => "the socket",
            Self::Hello => "its ClientHello",
            Self::Answered => "the broker's certificate",
            Self::Certificate => "the request for its certificate",
            Self::Secured => "an open TLS connection",
            Self::Connect => "its CONNECT",
        }
    }
}

/// What a ClientHello said.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Hello {
    /// Protocol versions, 0x0303 for TLS 1.2.
    pub versions: Vec<u16>,
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Record size that was asked for.
    pub max_fragment_length: Option<u16>,
    /// The name it believes to talk to.
    pub server_name: Option<String>,
}

impl Hello {
    /// In a line: `TLS 1.2, suites c02f, records of 1024 bytes, for "hub.lan"`.
    #[must_use]
    pub fn words(&self) -> String {
        let version = match self.versions.iter().max() {
            Some(0x0304) => "TLS 1.3".to_owned(),
            Some(0x0303) => "TLS 1.2".to_owned(),
            Some(0x0302) => "TLS 1.1".to_owned(),
            Some(0x0301) => "TLS 1.0".to_owned(),
            Some(other) => format!("version {other:04x}"),
            None => "no version".to_owned(),
        };
        let suites: Vec<String> = self.suites.iter().take(4).map(|suite| format!("{suite:04x}")).collect();
        let more = if self.suites.len() > 4 { ", …" } else { "" };
        let records = match self.max_fragment_length {
            Some(bytes) => format!("records of {bytes} bytes"),
            None => "records of any size".to_owned(),
        };
        let name = self.server_name.as_ref().map(|name| format!(", for {name:?}")).unwrap_or_default();
        format!("{version}, suites {}{more}, {records}{name}", suites.join(" "))
    }
}

/// A certificate somebody showed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Shown {
    /// Subject, RFC 2253.
    pub subject: String,
    /// Issuer, RFC 2253; empty where the broker did not keep it.
    pub issuer: String,
    /// Serial number in hex.
    pub serial: String,
    /// First moment of its validity.
    pub not_before: i64,
    /// Last moment of its validity.
    pub not_after: i64,
}

/// One arrival at the broker's door.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Encounter {
    /// When.
    pub at: i64,
    /// From where.
    pub peer: String,
    /// At which listener.
    pub listener: String,
    /// Whether that listener speaks TLS.
    pub secure: bool,
    /// How surely it was this device.
    pub known_by: Attribution,
    /// How it ended.
    pub ending: Ending,
    /// How far it came.
    pub reached: Step,
    /// The broker's words.
    pub reason: String,
    /// The alert: sent by the broker (true) or by the device, and its number.
    pub alert: Option<(bool, u8)>,
    /// The ClientHello.
    pub hello: Option<Hello>,
    /// The certificate that it showed.
    pub certificate: Option<Shown>,
    /// The client id of its CONNECT.
    pub client_id: Option<String>,
    /// The user name of its CONNECT.
    pub username: Option<String>,
    /// The return code of CONNACK.
    pub code: Option<u8>,
    /// How a connection that was admitted ended, where it did.
    pub departure: Option<String>,
}

impl Encounter {
    /// The largest plaintext of a record that the broker sends it.
    #[must_use]
    pub fn record_size(&self) -> Option<u16> {
        let hello = self.hello.as_ref().filter(|_| self.secure)?;
        Some(hello.max_fragment_length.unwrap_or(16_384))
    }

    /// The number that a device logs after this, where the broker's alert tells it.
    #[must_use]
    pub fn number(&self) -> Option<i32> {
        match self.alert {
            Some((true, alert)) if self.ending == Ending::Failed => Some(256 + i32::from(alert)),
            _ => None,
        }
    }
}

/// What the broker saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WireSide {
    /// Why nobody saw anything: no node runs, or it does not answer.
    pub silence: Option<String>,
    /// The node's listeners.
    pub listeners: Vec<String>,
    /// The connection that it has now: client id and address.
    pub online: Option<(String, String)>,
    /// What the broker saw of it, oldest first.
    pub encounters: Vec<Encounter>,
    /// Other devices that the same address belongs to.
    pub shared_with: Vec<String>,
    /// Who has a connection under this device's client id now, where it is another: name or address.
    pub rival: Option<String>,
}

/// What a certificate says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CertificateFacts {
    /// Common name.
    pub subject: String,
    /// The issuer's common name, where it is known.
    pub issuer: String,
    /// Serial number in hex.
    pub serial: String,
    /// First moment of its validity.
    pub not_before: i64,
    /// Last moment of its validity.
    pub not_after: i64,
    /// Bytes of its DER.
    pub size: usize,
    /// Its key: `RSA-2048`, `EC P-256`.
    pub key: String,
    /// Bits of an RSA key.
    pub rsa_bits: Option<usize>,
    /// How it is signed.
    pub signature: String,
    /// Its dNSNames.
    pub names: Vec<String>,
    /// Fingerprint of its RSA key.
    pub fingerprint: Option<[u8; 20]>,
    /// What devices stumble over, in words.
    pub misfits: Vec<String>,
}

/// What the certificates say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PkiSide {
    /// Why the folder could not be read.
    pub silence: Option<String>,
    /// The CA.
    pub ca: Option<CertificateFacts>,
    /// The broker's own.
    pub server: Option<CertificateFacts>,
    /// The device's.
    pub device: Option<CertificateFacts>,
    /// Whether the device's is revoked.
    pub revoked: bool,
    /// What is wrong with the revocation list.
    pub crl: Vec<String>,
}

/// What the network says, from this machine, about the host and port that the device uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NetworkSide {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the name resolves to here.
    pub addresses: Vec<IpAddr>,
    /// Why it does not.
    pub unresolved: Option<String>,
    /// Whether the port accepts connections; none where there was no address to try.
    pub open: Option<bool>,
    /// Why not.
    pub closed: Option<String>,
    /// A handshake from here with the device's settings; none where the port is closed.
    pub rehearsal: Option<Rehearsal>,
}

/// A handshake from this machine, as the device does it: its ClientHello, its clock, its rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rehearsal {
    /// The number that the device would log; none where TLS opened.
    pub number: Option<i32>,
    /// Whether TLS opened.
    pub opened: bool,
    /// Whether the bytes that came were TLS at all; none where none came.
    pub is_tls: Option<bool>,
    /// The cipher suite that the server chose.
    pub suite: Option<u16>,
    /// Whether it agreed to the record size.
    pub fragment_agreed: Option<bool>,
    /// Whether it asked for a client certificate.
    pub asks_certificate: bool,
    /// The certificates that it sent.
    pub chain: Vec<CertificateFacts>,
}
