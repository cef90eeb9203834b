//! The dialect of a Tasmota device, and a device that speaks it.
//!
//! | room | what is in it |
//! |---|---|
//! | [`command`], [`setting`] | console commands as values; the table of settings and SetOptions |
//! | [`reply`], [`status`] | JSON answers, tolerant of what we do not know, strict about what we rely on; the status pages |
//! | [`tls_key`] | private key and certificate in the form of TLSKey1 and TLSKey2 |
//! | [`fingerprint`] | the fingerprint of a server's key, as MqttFingerprint wants it |
//! | [`firmware`] | what a Tasmota with our CA is compiled from; what is wrong in a `user_config_override.h` |
//! | [`topics`], [`mac`] | the topics of one device |
//! | [`console`], [`http_console`], [`serial_console`] | asking a device; the roads over HTTP and over a cable |
//! | [`discover`] | finding devices: a range of addresses, retained discovery messages; what each can become |
//! | [`tls_error`] | the error numbers of a device's log, with cause and fix |
//! | [`virtual_device`] | a Tasmota without hardware: its quirks, its flash, its TLS client, its HTTP and MQTT |
//! | [`limits`] | every bound, with its reason |
//!
//! Knows no CA, no registry of devices, no MQTT session. The firmware described is Tasmota 15.3.

pub mod command;
pub mod console;
pub mod discover;
pub mod fingerprint;
pub mod firmware;
pub mod http_console;
pub mod limits;
pub mod mac;
pub mod reply;
pub mod serial_console;
mod serial_port;
pub mod setting;
pub mod status;
pub mod tls_error;
pub mod tls_key;
pub mod topics;
pub mod virtual_device;

pub use command::{Command, CommandError, FingerprintSlot, StatusPage};
pub use console::{Console, ConsoleError};
pub use fingerprint::{Fingerprint, FingerprintError, Slot};
pub use http_console::{HttpConsole, LogPage};
pub use mac::Mac;
pub use reply::{Refusal, Reply, ReplyError};
pub use serial_console::SerialConsole;
pub use setting::{SetOption, Setting};
pub use tls_key::{Road, Stored, TlsKey1, TlsKey2, TlsKeyError};
pub use topics::Topics;
