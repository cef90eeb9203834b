//! A Tasmota without hardware: for tests of enrolment, for `quoll up --virtual`, for loads of thousands of devices.
//!
//! It answers commands with the quirks of the real firmware, forgets what a real one forgets, checks the broker's
//! certificate by the same rules, and fails with the same numbers. It is a model of Tasmota 15.3 written from the
//! fact sheet, not a port; what it does not model answers `Unknown`.
//!
//! | room | what is in it |
//! |---|---|
//! | [`machine`] | the device, pure: its life, its restarts, what is due and when |
//! | [`session`], `commands`, `report` | its side of MQTT, its commands, its JSON pages |
//! | `line`, `log` | a console line and its answers; the web log and the serial line |
//! | [`Faults`] | what can be wrong with it |
//! | [`flash`], [`key_store`] | what survives a restart; the quirks of TLSKey's storage |
//! | [`tls`] | its TLS client |
//! | `memory_console` | its console without a socket, for tests of enrolment |
//! | [`run`], `web`, `serial`, `link` | the coat on tokio: its life, its two consoles, its connection to the broker |
//! | [`Tally`] | what happened to many of them together |

pub mod flash;
pub mod key_store;
pub mod machine;
mod memory_console;
pub mod run;
pub mod session;
pub mod tls;

mod commands;
mod faults;
mod line;
mod link;
mod log;
mod report;
mod serial;
mod tally;
mod web;

pub use faults::{ClockFault, Faults};
pub use flash::Flash;
pub use line::merged;
pub use machine::{Answer, Machine, Now};
pub use memory_console::MemoryConsole;
pub use run::{DeviceState, RunningDevice, VirtualDevice, Wiring};
pub use tally::{Count, Tally};

use std::fmt;

use crate::mac::Mac;

/// The two families of chips.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Chip {
    /// Record buffers of 1 KiB, RSA up to 2048 bits.
    Esp8266,
    /// Record buffers of 2 KiB, RSA up to 4096 bits.
    Esp32,
}

/// What was compiled in. Facts §1.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Firmware {
    /// A released image: TLS without client certificates on an ESP32, no TLS on an ESP8266.
    Stock,
    /// A build with `USE_MQTT_TLS`.
    TlsOnly,
    /// A build with `USE_MQTT_CLIENT_CERT` too; the only one that has `TLSKey`.
    ClientCert,
}

/// One virtual device, as it leaves the factory.
#[derive(Clone)]
pub struct VirtualProfile {
    /// The chip.
    pub chip: Chip,
    /// The build.
    pub firmware: Firmware,
    /// Release number, e.g. `15.3.0`.
    pub version: String,
    /// Its MAC; default topic and client id come from its last three bytes.
    pub mac: Mac,
    /// Topic; empty for `tasmota_XXXXXX`.
    pub topic: String,
    /// CA certificates (DER) compiled in as trust anchors. Without any, CA mode trusts nobody (62).
    pub anchors: Vec<Vec<u8>>,
    /// The web password set on it; empty for none.
    pub web_password: String,
    /// A broker it already talks to: host and port. Empty host for none.
    pub broker: (String, u16),
    /// Seconds between tele messages; 0 for none. A real device starts with 300.
    pub tele_period: u16,
    /// Factor for every pause of the device (restart 2 s, boot 5 s, retry 10 s …): 1.0 as a real one, 0.01 in tests.
    /// The TelePeriod and the patience with a handshake are not scaled.
    pub pace: f64,
    /// Whether a handshake without a stored key, when the server asks for one, crashes it. Facts §0.10.
    pub crashes_without_key: bool,
    /// What goes wrong with it.
    pub faults: Faults,
}

impl VirtualProfile {
    /// A healthy device as it leaves the factory, in real time.
    #[must_use]
    pub fn new(chip: Chip, firmware: Firmware, mac: Mac) -> Self {
        Self {
            chip,
            firmware,
            mac,
            version: "15.3.0".into(),
            topic: String::new(),
            anchors: Vec::new(),
            web_password: String::new(),
            broker: (String::new(), 1883),
            tele_period: 300,
            pace: 1.0,
            crashes_without_key: true,
            faults: Faults::default(),
        }
    }

    /// Whether MQTT over TLS is compiled in.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.firmware != Firmware::Stock || self.chip == Chip::Esp32
    }

    /// Whether `TLSKey` is compiled in.
    #[must_use]
    pub fn has_tls_key(&self) -> bool {
        self.firmware == Firmware::ClientCert
    }
}

/// Without the password.
impl fmt::Debug for VirtualProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chip, firmware, version, mac, topic, .. } = self;
        write!(f, "VirtualProfile({chip:?}, {firmware:?}, {version}, {mac}, {topic:?})")
    }
}
