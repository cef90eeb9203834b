//! A device's private key and certificate in the form of the console commands TLSKey1 and TLSKey2.
//!
//! TLSKey1 takes the raw 32-byte scalar of a P-256 key, TLSKey2 one DER certificate, both in base64. A device checks
//! next to nothing (facts §1.2): a certificate that is garbage, too long or belongs to another key is stored with a
//! reply of success. So everything is checked here, before anything is sent. Making keys and certificates is not this
//! file's business.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey};
use zeroize::Zeroizing;

use crate::limits::{
    CERTIFICATE_MAX_HTTP, CERTIFICATE_MAX_SERIAL, CERTIFICATE_MAX_STORE, CERTIFICATE_MIN, KEY_BYTES,
    MQTT_PACKET_BYTES,
};

/// A private key ready for TLSKey1. Zeroised on drop; has no `Display`, and its `Debug` hides it.
#[derive(Clone)]
pub struct TlsKey1 {
    scalar: Zeroizing<[u8; KEY_BYTES]>,
    public: Vec<u8>,
}

impl TlsKey1 {
    /// From the raw scalar, big-endian and padded to 32 bytes (about one key in 256 begins with a zero byte).
    ///
    /// # Errors
    /// The number is zero or not below the order of P-256.
    pub fn new(scalar: &[u8; KEY_BYTES]) -> Result<Self, TlsKeyError> {
        let key =
            PrivateKey::from_private_key(&ECDH_P256, scalar).map_err(|_| TlsKeyError::NotAP256Scalar)?;
        let public = key.compute_public_key().map_err(|_| TlsKeyError::NotAP256Scalar)?;
        Ok(Self { scalar: Zeroizing::new(*scalar), public: public.as_ref().to_vec() })
    }

    /// The 44 characters of base64, padding included.
    #[must_use]
    pub fn base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.scalar))
    }

    /// The public key that belongs to it: uncompressed point, 65 bytes.
    #[must_use]
    pub fn public_point(&self) -> &[u8] {
        &self.public
    }
}

impl fmt::Debug for TlsKey1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey1(****)")
    }
}

/// A device certificate ready for TLSKey2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsKey2 {
    der: Vec<u8>,
    public: Vec<u8>,
}

impl TlsKey2 {
    /// From the DER of one certificate that is to travel by `road`.
    ///
    /// # Errors
    /// Not a certificate, not for a P-256 key, too short to be stored, too long for the road or for the store.
    pub fn new(der: &[u8], road: Road) -> Result<Self, TlsKeyError> {
        let bytes = der.len();
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| TlsKeyError::NotACertificate { bytes })?;
        if !rest.is_empty() {
            return Err(TlsKeyError::NotACertificate { bytes });
        }
        let public = match certificate.public_key().parsed() {
            Ok(PublicKey::EC(point)) if point.data().len() == 65 => point.data().to_vec(),
            _ => return Err(TlsKeyError::NotP256Certificate),
        };
        if bytes < CERTIFICATE_MIN {
            return Err(TlsKeyError::TooShort { bytes });
        }
        let limit = road.certificate_limit();
        if bytes > limit {
            return Err(TlsKeyError::TooLong { bytes, limit, road });
        }
        Ok(Self { der: der.to_vec(), public })
    }

    /// Refuses a certificate that was made for another key; a device would store it and fail in each handshake.
    ///
    /// # Errors
    /// The public keys differ.
    pub fn belongs_to(&self, key: &TlsKey1) -> Result<(), TlsKeyError> {
        if self.public == key.public { Ok(()) } else { Err(TlsKeyError::Mismatch) }
    }

    /// The certificate in base64, padded.
    #[must_use]
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// The certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What the device must report once both are stored. A length that differs means the text was damaged on its
    /// way (a `+` that became a blank, facts §0.5).
    #[must_use]
    pub fn expected(&self) -> Stored {
        Stored { key: Some(KEY_BYTES), certificate: Some(self.der.len()) }
    }
}

/// What a device says it has stored: `{"TLSKey1":32,"TLSKey2":441}`, `None` for -1.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stored {
    /// Bytes of the private key: 32 or none.
    pub key: Option<usize>,
    /// Bytes of the certificate's DER.
    pub certificate: Option<usize>,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key, self.certificate) {
            (None, None) => f.write_str("no key, no certificate"),
            (Some(key), None) => write!(f, "a key of {key} bytes, no certificate"),
            (None, Some(certificate)) => write!(f, "no key, a certificate of {certificate} bytes"),
            (Some(key), Some(certificate)) => {
                write!(f, "a key of {key} bytes and a certificate of {certificate} bytes")
            }
        }
    }
}

/// How a certificate reaches the device: each road has its own limit. Facts §2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Road {
    /// The HTTP console, 1199 characters.
    Http,
    /// The serial console, 799 characters.
    Serial,
    /// A `cmnd/…/TLSKey2` message; the topic's length counts.
    Mqtt {
        /// Characters of the whole topic, command name included.
        topic_chars: usize,
    },
    /// No road in particular: only the device's store is the limit.
    Store,
}

impl Road {
    /// Most bytes of DER that fit.
    #[must_use]
    pub fn certificate_limit(self) -> usize {
        match self {
            Self::Http => CERTIFICATE_MAX_HTTP,
            Self::Serial => CERTIFICATE_MAX_SERIAL,
            // Fixed header of three bytes and the topic's own two-byte length; then whole base64 quads.
            Self::Mqtt { topic_chars } => {
                (MQTT_PACKET_BYTES.saturating_sub(5 + topic_chars) / 4 * 3).min(CERTIFICATE_MAX_STORE)
            }
            Self::Store => CERTIFICATE_MAX_STORE,
        }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("the HTTP console"),
            Self::Serial => f.write_str("the serial console"),
            Self::Mqtt { topic_chars } => {
                write!(f, "an MQTT command with a topic of {topic_chars} characters")
            }
            Self::Store => f.write_str("the device's store"),
        }
    }
}

/// Why a key or certificate cannot go to a device.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsKeyError {
    /// Zero, or the order of the curve and above.
    #[error("the private key is not a P-256 scalar")]
    NotAP256Scalar,
    /// Not DER of one certificate.
    #[error("these {bytes} bytes are not one DER certificate")]
    NotACertificate {
        /// How many bytes were offered.
        bytes: usize,
    },
    /// A device can only use P-256.
    #[error("the certificate is not for a P-256 key, the only kind a device can use")]
    NotP256Certificate,
    /// The device answers Error below 257 bytes.
    #[error("the certificate has {bytes} bytes, devices store none below 257")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// More than the road or the store takes.
    #[error("the certificate has {bytes} bytes, {road} takes {limit} at most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit that was passed.
        limit: usize,
        /// Where the limit comes from.
        road: Road,
    },
    /// Another key's certificate.
    #[error("the certificate was made for another private key")]
    Mismatch,
}

impl TlsKeyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooLong { .. } => {
                "issue it with the tasmota profile: CN only, no extra extensions, and a short CA name (or a P-256 CA, \
                 which saves about 190 bytes)"
                    .into()
            }
            Self::TooShort { .. } => "this is not a certificate of the tasmota profile; issue a new one".into(),
            Self::NotP256Certificate | Self::NotAP256Scalar => "make an EC P-256 key for the device".into(),
            Self::Mismatch => "send the key and the certificate of the same issue".into(),
            Self::NotACertificate { .. } => return None,
        })
    }
}
