//! The TLS client of a virtual device: a small TLS 1.2 machine that behaves like Tasmota's BearSSL.
//!
//! **For simulation only.** It exists because rustls, rightly, cannot do what a device does: send
//! max_fragment_length, drop a record that is one byte too long for its buffer, check certificates by BearSSL's rules,
//! match names as it does, and fail with BearSSL's error numbers. Nothing of the product's own connections uses it. All
//! cryptography is aws-lc-rs; only the order of messages and the rules are ours. Facts §3, §4.
//!
//! | room | what is in it |
//! |---|---|
//! | [`client`] | the machine: bytes in, bytes out |
//! | [`hello`] | ClientHello and ServerHello (RFC 5246 §7.4.1) |
//! | [`record`] | records, AES-128-GCM (RFC 5288) and the buffer limits |
//! | [`schedule`] | PRF, master secret, keys (RFC 5246 §5, §6.3, §8.1) |
//! | [`chain`] | the server's certificates: anchors, names, dates, numbers |
//! | [`connection`] | the coat over a tokio socket |

pub mod chain;
pub mod client;
pub mod connection;
mod hello;
mod record;
mod schedule;
mod wire;

use std::sync::Arc;

pub use chain::Anchor;
pub use client::TlsClient;
pub use connection::TlsConnection;
use zeroize::Zeroizing;

/// Everything a device knows when it begins a handshake.
#[derive(Clone)]
pub struct TlsSettings {
    /// MqttHost: sent as server name, also when it is an address, and matched against the certificate.
    pub host: String,
    /// By chip and build.
    pub fragment: MaxFragment,
    /// SetOption165: also ECDSA. Without effect in fingerprint mode.
    pub ecdsa: bool,
    /// Whether RSA beyond 2048 bits can be computed (ESP32, or USE_4K_RSA).
    pub rsa_4096: bool,
    /// How the server is recognised.
    pub trust: Trust,
    /// The device's clock, UTC seconds since 1970.
    pub now: u64,
    /// Key and certificate of the device.
    pub client_auth: ClientAuth,
}

/// What the device asks of the server's record size, and the size of its own buffers. RFC 6066 §4, facts §3.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum MaxFragment {
    /// ESP8266.
    Bytes1024 = 2,
    /// ESP32.
    Bytes2048 = 3,
    /// ESP32 built with larger MQTT packets.
    Bytes4096 = 4,
}

impl MaxFragment {
    /// Plaintext bytes of a record that is agreed on.
    #[must_use]
    pub fn bytes(self) -> usize {
        256 << (self as u8)
    }

    /// Longest encrypted record payload (nonce, text and tag) that fits the buffer: its size plus 325 bytes of
    /// overhead, less the record header. 1344 and 2368 for the two stock sizes.
    #[must_use]
    pub fn longest_payload(self) -> usize {
        self.bytes() + 325 - 5
    }
}

/// How a device recognises its server.
#[derive(Clone)]
pub enum Trust {
    /// SetOption132 0: a chain to one of the compiled anchors, name and dates checked.
    Anchors(Arc<[Anchor]>),
    /// SetOption132 1: the fingerprint of the key in either slot; a slot of all 00 or all FF accepts anyone.
    Fingerprints([[u8; 20]; 2]),
}

/// What the device can say when the server asks who it is.
#[derive(Clone)]
pub enum ClientAuth {
    /// Firmware without client certificates: an empty certificate message.
    NotCompiled,
    /// Compiled, but nothing stored: a null key, and an uninitialised word decides about a crash. Facts §3.4.
    Missing {
        /// Whether the word has one of the bits that lead to the crash.
        crashes: bool,
    },
    /// Key and certificate as stored; nobody has checked that they belong together.
    Stored {
        /// The 32 bytes of TLSKey1.
        key: Zeroizing<[u8; 32]>,
        /// The bytes of TLSKey2.
        certificate: Vec<u8>,
    },
}

/// How a handshake or connection ends badly.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TlsFailure {
    /// With the number a device logs as `TLS connection error: N`, see [`crate::tls_error`].
    #[error("TLS connection error: {0}")]
    Number(i32),
    /// With a null key dereferenced: the device restarts. Facts §0.10.
    #[error("the device dereferenced its missing key and restarts")]
    Crash,
}

impl TlsFailure {
    /// The link was closed without an alert.
    pub const CLOSED: Self = Self::Number(0);
    /// No completion in ten seconds.
    pub const HANDSHAKE_TIMEOUT: Self = Self::Number(-1005);
}

/// BearSSL's numbers, under BearSSL's names (`BR_ERR_…`), and Tasmota's one of its own.
pub(crate) mod number {
    use super::TlsFailure::{self, Number};

    pub(crate) const FINGERPRINT_MISMATCH: TlsFailure = Number(1);
    pub(crate) const UNSUPPORTED_VERSION: TlsFailure = Number(3);
    pub(crate) const BAD_VERSION: TlsFailure = Number(4);
    pub(crate) const BAD_LENGTH: TlsFailure = Number(5);
    pub(crate) const TOO_LARGE: TlsFailure = Number(6);
    pub(crate) const BAD_MAC: TlsFailure = Number(7);
    pub(crate) const UNKNOWN_TYPE: TlsFailure = Number(9);
    pub(crate) const UNEXPECTED: TlsFailure = Number(10);
    pub(crate) const BAD_CCS: TlsFailure = Number(12);
    pub(crate) const BAD_ALERT: TlsFailure = Number(13);
    pub(crate) const BAD_HANDSHAKE: TlsFailure = Number(14);
    pub(crate) const OVERSIZED_ID: TlsFailure = Number(15);
    pub(crate) const BAD_CIPHER_SUITE: TlsFailure = Number(16);
    pub(crate) const BAD_COMPRESSION: TlsFailure = Number(17);
    pub(crate) const BAD_FRAGLEN: TlsFailure = Number(18);
    pub(crate) const BAD_SECRENEG: TlsFailure = Number(19);
    pub(crate) const EXTRA_EXTENSION: TlsFailure = Number(20);
    pub(crate) const BAD_SNI: TlsFailure = Number(21);
    pub(crate) const BAD_HELLO_DONE: TlsFailure = Number(22);
    pub(crate) const LIMIT_EXCEEDED: TlsFailure = Number(23);
    pub(crate) const BAD_FINISHED: TlsFailure = Number(24);
    pub(crate) const INVALID_ALGORITHM: TlsFailure = Number(26);
    pub(crate) const BAD_SIGNATURE: TlsFailure = Number(27);
    pub(crate) const WRONG_KEY_USAGE: TlsFailure = Number(28);
    pub(crate) const X509_INVALID_VALUE: TlsFailure = Number(33);
    pub(crate) const X509_EMPTY_CHAIN: TlsFailure = Number(35);
    pub(crate) const X509_UNSUPPORTED: TlsFailure = Number(49);
    pub(crate) const X509_LIMIT_EXCEEDED: TlsFailure = Number(50);
    pub(crate) const X509_BAD_SIGNATURE: TlsFailure = Number(52);
    pub(crate) const X509_EXPIRED: TlsFailure = Number(54);
    pub(crate) const X509_DN_MISMATCH: TlsFailure = Number(55);
    pub(crate) const X509_BAD_SERVER_NAME: TlsFailure = Number(56);
    pub(crate) const X509_CRITICAL_EXTENSION: TlsFailure = Number(57);
    pub(crate) const X509_NOT_CA: TlsFailure = Number(58);
    pub(crate) const X509_FORBIDDEN_KEY_USAGE: TlsFailure = Number(59);
    pub(crate) const X509_WEAK_PUBLIC_KEY: TlsFailure = Number(60);
    pub(crate) const X509_NOT_TRUSTED: TlsFailure = Number(62);
}
