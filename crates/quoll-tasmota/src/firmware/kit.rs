//! The kit: what is to be compiled in, checked against what a chip and a version can do before anything is written.

use super::{
    Chip, Release,
    anchor::{AnchorKey, Curve, TrustAnchor, bits},
    headers, section,
};
use crate::Fingerprint;

/// Most CAs in one firmware. Two are what a rollover needs; each costs up to 700 bytes of flash.
pub const ANCHORS_MAX: usize = 8;

/// Bits of RSA that a device without `USE_4K_RSA` calculates with, and with it. Facts §3.3.
const RSA_BITS: usize = 2048;
const RSA_BITS_4K: usize = 4096;

/// How devices know the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// By the CA that signed its certificate (`SetOption132 0`). The certificate may be renewed, and its key changed.
    Ca,
    /// By the fingerprint of its RSA key (`SetOption132 1`). The key must stay.
    Fingerprint,
}

/// What is to be compiled in.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The chip.
    pub chip: Chip,
    /// The version of Tasmota that is compiled.
    pub release: Release,
    /// How devices know the server.
    pub trust: Trust,
    /// CAs. With [`Trust::Fingerprint`] they may be empty; what is there is compiled in for later use.
    pub anchors: Vec<TrustAnchor>,
    /// Fingerprints of the server's key, now and next: one or two with [`Trust::Fingerprint`].
    pub fingerprints: Vec<Fingerprint>,
    /// What devices connect to. Without it the firmware's default stays, and it is set on each device.
    pub host: Option<String>,
    /// The port of MQTT over TLS.
    pub port: u16,
    /// An ESP8266 is built with `-DUSE_4K_RSA`, at the price of memory.
    pub rsa_4096: bool,
}

/// The texts of a kit.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `local_ca_data.h`, where there are CAs.
    pub data: Option<String>,
    /// `local_ca_descriptor.h`, where there are CAs.
    pub descriptor: Option<String>,
    /// The lines for `user_config_override.h`, for [`merge`](super::merge).
    pub override_section: String,
    /// The lines for `platformio_override.ini`, for [`merge`](super::merge).
    pub platformio_section: String,
    /// The environment that they define: `pio run -e` this.
    pub environment: &'static str,
    /// What the person who compiles must know.
    pub notes: Vec<String>,
}

/// Why such a firmware would not work.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// Trust by CA without a CA.
    #[error("there is no CA to trust")]
    NoAnchor,
    /// Over [`ANCHORS_MAX`].
    #[error("{count} CAs are too many, {ANCHORS_MAX} fit")]
    TooManyAnchors {
        /// How many were given.
        count: usize,
    },
    /// A curve that devices do not calculate on.
    #[error("no Tasmota can check signatures of {name}: its key is on {curve}, and devices know P-256 alone")]
    Curve {
        /// The CA.
        name: String,
        /// The curve's name.
        curve: &'static str,
    },
    /// An EC CA for a version without ECDSA.
    #[error("Tasmota {release} cannot check signatures of {name}: EC CAs are understood from {since} on")]
    EcTooEarly {
        /// The CA.
        name: String,
        /// The version asked for.
        release: Release,
        /// [`Release::ECDSA`].
        since: Release,
    },
    /// RSA over 2048 bits on an ESP8266 without `USE_4K_RSA`.
    #[error(
        "an ESP8266 cannot check signatures of {name}: its key has {bits} bits, and 2048 are compiled in unless \
         Tasmota is built with -DUSE_4K_RSA"
    )]
    NeedsFourK {
        /// The CA.
        name: String,
        /// Bits of the key.
        bits: usize,
    },
    /// RSA over 4096 bits.
    #[error(
        "no Tasmota can check signatures of {name}: its key has {bits} bits, and devices calculate with 4096"
    )]
    RsaTooLong {
        /// The CA.
        name: String,
        /// Bits of the key.
        bits: usize,
    },
    /// RSA below 2048 bits: not worth trusting.
    #[error("{name} is not worth trusting: its RSA key has {bits} bits, which can be broken")]
    RsaTooShort {
        /// The CA.
        name: String,
        /// Bits of the key.
        bits: usize,
    },
    /// A version without `INCLUDE_LOCAL_CERT`.
    #[error(
        "Tasmota {release} takes no CA of one's own without changes to its source: INCLUDE_LOCAL_CERT came with {since}"
    )]
    NoLocalCert {
        /// The version asked for.
        release: Release,
        /// [`Release::LOCAL_CERT`].
        since: Release,
    },
    /// A version without `MQTT_TLS_FINGERPRINT`.
    #[error(
        "Tasmota {release} cannot be told to compare fingerprints: MQTT_TLS_FINGERPRINT came with {since}"
    )]
    NoFingerprintMode {
        /// The version asked for.
        release: Release,
        /// [`Release::RUNTIME_MODE`].
        since: Release,
    },
    /// Trust by fingerprint without one.
    #[error("there is no fingerprint to trust")]
    NoFingerprint,
    /// A device has two slots.
    #[error("{count} fingerprints are too many: a device has two slots")]
    TooManyFingerprints {
        /// How many were given.
        count: usize,
    },
    /// A host that cannot stand in a C string, or that no device resolves.
    #[error("devices cannot be told to connect to {host:?}: {why}")]
    Host {
        /// The host as given.
        host: String,
        /// Why.
        why: &'static str,
    },
    /// Port 0.
    #[error("0 is no port to connect to")]
    Port,
}

impl KitError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoAnchor => "name its certificate with --ca, or make a CA: quoll ca init".into(),
            Self::TooManyAnchors { .. } => "leave out those that no longer sign anything".into(),
            Self::Curve { .. } | Self::RsaTooLong { .. } | Self::RsaTooShort { .. } => {
                "make a CA with an RSA key of 2048 bits (quoll ca init), or one on P-256".into()
            }
            Self::EcTooEarly { since, .. } => {
                format!("compile {since} or later, such as 15.3, or use a CA with an RSA key of 2048 bits")
            }
            Self::NeedsFourK { .. } => {
                "use a CA with an RSA key of 2048 bits; or say --rsa-4096, which sets the flag and costs the device \
                 memory in each handshake"
                    .into()
            }
            Self::NoLocalCert { since, .. } => {
                format!("compile {since} or later, such as 15.3; or pin the server's key: --trust fingerprint")
            }
            Self::NoFingerprintMode { since, .. } => format!("compile {since} or later, such as 15.3"),
            Self::NoFingerprint => {
                "say it with --fingerprint (quoll server show prints it); the server's key must be RSA".into()
            }
            Self::TooManyFingerprints { .. } => "give that of the key in use, and that of the next one".into(),
            Self::Host { .. } => "use an address, or a name that the router's DNS knows".into(),
            Self::Port => "MQTT over TLS is on 8883 unless the server was told otherwise".into(),
        })
    }
}

impl Kit {
    /// Checks it, and writes its texts. The same kit gives the same texts.
    ///
    /// # Errors
    /// The first reason why devices with this firmware would not connect.
    pub fn sources(mut self) -> Result<Sources, KitError> {
        self.check()?;
        let mut kept: Vec<TrustAnchor> = Vec::new();
        for anchor in std::mem::take(&mut self.anchors) {
            // A CA certificate that was extended is the same anchor.
            if !kept.iter().any(|other| other.dn() == anchor.dn() && other.key() == anchor.key()) {
                kept.push(anchor);
            }
        }
        self.anchors = kept;
        let has_anchors = !self.anchors.is_empty();
        Ok(Sources {
            data: has_anchors.then(|| headers::data(&self.anchors)),
            descriptor: has_anchors.then(|| headers::descriptor(&self.anchors)),
            override_section: section::override_header(&self),
            platformio_section: section::platformio(&self),
            environment: section::environment(self.chip),
            notes: self.notes(),
        })
    }

    /// True where a CA's key is on a curve.
    pub(super) fn has_ec_anchor(&self) -> bool {
        self.anchors.iter().any(TrustAnchor::is_ec)
    }

    /// True where RSA over 2048 bits has to be switched on; an ESP32 has it.
    pub(super) fn needs_four_k(&self) -> bool {
        self.chip == Chip::Esp8266 && self.rsa_4096
    }

    fn check(&self) -> Result<(), KitError> {
        let release = self.release;
        if release < Release::RUNTIME_MODE {
            return Err(match self.trust {
                Trust::Ca => KitError::NoLocalCert { release, since: Release::LOCAL_CERT },
                Trust::Fingerprint => KitError::NoFingerprintMode { release, since: Release::RUNTIME_MODE },
            });
        }
        match self.trust {
            Trust::Ca if self.anchors.is_empty() => return Err(KitError::NoAnchor),
            Trust::Fingerprint if self.fingerprints.is_empty() => return Err(KitError::NoFingerprint),
            _ => {}
        }
        if self.fingerprints.len() > 2 {
            return Err(KitError::TooManyFingerprints { count: self.fingerprints.len() });
        }
        if self.anchors.len() > ANCHORS_MAX {
            return Err(KitError::TooManyAnchors { count: self.anchors.len() });
        }
        if !self.anchors.is_empty() && release < Release::LOCAL_CERT {
            return Err(KitError::NoLocalCert { release, since: Release::LOCAL_CERT });
        }
        self.anchors.iter().try_for_each(|anchor| self.check_anchor(anchor))?;
        if self.port == 0 {
            return Err(KitError::Port);
        }
        self.host.as_deref().map_or(Ok(()), check_host)
    }

    /// Facts §5.3.
    fn check_anchor(&self, anchor: &TrustAnchor) -> Result<(), KitError> {
        let name = || anchor.name().to_owned();
        match anchor.key() {
            AnchorKey::Ec { curve: Curve::P256, .. } if self.release < Release::ECDSA => {
                Err(KitError::EcTooEarly { name: name(), release: self.release, since: Release::ECDSA })
            }
            AnchorKey::Ec { curve: Curve::P256, .. } => Ok(()),
            AnchorKey::Ec { curve, .. } => Err(KitError::Curve { name: name(), curve: curve.name() }),
            AnchorKey::Rsa { n, .. } => match bits(n) {
                bits if bits < RSA_BITS => Err(KitError::RsaTooShort { name: name(), bits }),
                RSA_BITS => Ok(()),
                bits if bits > RSA_BITS_4K => Err(KitError::RsaTooLong { name: name(), bits }),
                bits if self.chip == Chip::Esp8266 && !self.rsa_4096 => {
                    Err(KitError::NeedsFourK { name: name(), bits })
                }
                _ => Ok(()),
            },
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "host, port, TLS and fingerprints are defaults: a device that has settings keeps its own until `Reset 5`, \
             or until quoll device add sets them"
                .to_owned(),
        ];
        let mut note = |when: bool, text: &str| {
            if when {
                notes.push(text.to_owned());
            }
        };
        note(
            self.release > Release::NEWEST_KNOWN,
            "this version is newer than any that quoll was checked against; it is taken to be like 15.3",
        );
        note(
            self.chip == Chip::Esp8266,
            "with 1 MB of flash a build with TLS does not fit beside the running one: send tasmota-minimal.bin.gz \
             first, then this one as .bin.gz",
        );
        note(
            self.trust == Trust::Ca,
            "devices compare dates with their clock: they need a time server that they can reach (NtpServer1)",
        );
        note(
            self.trust == Trust::Ca && self.has_ec_anchor(),
            "an EC CA works with SetOption165 1 alone: a device that has settings needs it set, and a restart",
        );
        note(
            self.trust == Trust::Fingerprint,
            "the server must keep this RSA key; its certificate may be renewed with it",
        );
        note(
            self.anchors.len() > 1,
            "devices trust each of the CAs: take the old one out when the rollover is done",
        );
        note(
            self.release < Release::CLIENT_CERT,
            "with a key of their own, devices of this version send no user and password; and they connect only while \
             MqttPassword is not empty",
        );
        notes
    }
}

/// Facts §7.6: mDNS is in no released image; what stands in a C string may not end it.
fn check_host(host: &str) -> Result<(), KitError> {
    let wrong = |why| Err(KitError::Host { host: host.chars().take(80).collect(), why });
    if host.is_empty() || host.len() > crate::limits::TEXT_CHARS {
        return wrong("it has no characters, or over 100");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_')) {
        return wrong("it is neither an address nor a host name");
    }
    if host.to_ascii_lowercase().trim_end_matches('.').ends_with(".local") {
        return wrong("names under .local are mDNS names, which Tasmota does not resolve");
    }
    Ok(())
}
