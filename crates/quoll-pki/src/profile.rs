//! What each kind of certificate is allowed to be, as a table (decision 12, spikes §1, facts §3.3).
//! What it is not: code. A rule is changed by changing a row.

use std::fmt;

use time::Duration;
use x509_cert::{
    der::asn1::ObjectIdentifier,
    ext::pkix::{KeyUsage, KeyUsages},
};

use crate::{
    key::KeyKind,
    limits::{BACKDATE, CERTIFICATE_DAYS, DEVICE_DER_MAX, DEVICE_DER_WARN},
};

/// The kinds of certificate the authority issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// A broker: RSA-2048 by default, names and addresses in the SAN, serverAuth.
    Server,
    /// A Tasmota device: EC P-256 and the guide's four extensions, small enough for `TLSKey2`.
    Tasmota,
    /// Any other MQTT client (Home Assistant, a phone): clientAuth.
    Client,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rules().name)
    }
}

/// One row of the table.
pub(crate) struct Rules {
    /// The profile's name, which is also the file name of its twin in Easy-RSA's `x509-types/`.
    pub(crate) name: &'static str,
    /// The key made when none is named.
    pub(crate) default_key: KeyKind,
    /// The only kind of key it may have, if there is one.
    pub(crate) only_key: Option<KeyKind>,
    pub(crate) constraints_critical: bool,
    pub(crate) usage: fn() -> KeyUsage,
    pub(crate) usage_critical: bool,
    /// Never critical: BearSSL refuses a critical extendedKeyUsage (facts §3.3, error 57).
    pub(crate) extended_usage: Option<ObjectIdentifier>,
    /// Whether it has, and must have, a SAN.
    pub(crate) alt_names: bool,
    pub(crate) days: u32,
    /// How far before now it begins; `None` is the CA's own beginning.
    pub(crate) backdate: Option<Duration>,
    /// DER bytes above which a certificate is warned about, and refused.
    pub(crate) size: Option<(usize, usize)>,
}

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

static SERVER: Rules = Rules {
    name: "server",
    default_key: KeyKind::Rsa2048,
    only_key: None,
    constraints_critical: false,
    usage: || KeyUsage(KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment),
    usage_critical: false,
    extended_usage: Some(SERVER_AUTH),
    alt_names: true,
    days: CERTIFICATE_DAYS,
    backdate: None,
    size: None,
};

static TASMOTA: Rules = Rules {
    name: "tasmota",
    default_key: KeyKind::EcP256,
    only_key: Some(KeyKind::EcP256),
    constraints_critical: true,
    usage: || KeyUsage(KeyUsages::DigitalSignature.into()),
    usage_critical: true,
    extended_usage: None,
    alt_names: false,
    days: CERTIFICATE_DAYS,
    backdate: Some(BACKDATE),
    size: Some((DEVICE_DER_WARN, DEVICE_DER_MAX)),
};

static CLIENT: Rules = Rules {
    name: "client",
    default_key: KeyKind::EcP256,
    only_key: None,
    constraints_critical: false,
    usage: || KeyUsage(KeyUsages::DigitalSignature.into()),
    usage_critical: false,
    extended_usage: Some(CLIENT_AUTH),
    alt_names: false,
    days: CERTIFICATE_DAYS,
    backdate: Some(BACKDATE),
    size: None,
};

impl Profile {
    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Self::Server => &SERVER,
            Self::Tasmota => &TASMOTA,
            Self::Client => &CLIENT,
        }
    }

    /// The kind of key made when the request names none.
    pub fn default_key(self) -> KeyKind {
        self.rules().default_key
    }
}
