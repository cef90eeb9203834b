//! Whether a Tasmota device could live with a certificate, and if not, why: the measured refusals of BearSSL as the
//! firmware builds it (facts §3.3, §3.4, §4.2, §5.3). What it is not: a TLS stack; it knows the rules, it verifies nothing.

use std::{fmt, net::IpAddr};

use crate::{
    certificate::{Certificate, PublicKeyKind, SignatureKind},
    limits::{DEVICE_DER_MAX, DEVICE_DER_MIN},
};

/// Who stumbles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// Every device.
    EveryDevice,
    /// Devices that check the server's certificate against a CA (`SetOption132 0`).
    CaMode,
    /// An ESP8266 that checks against a CA.
    Esp8266,
    /// Devices that check against a CA and have ECDSA switched off, as they have by default (`SetOption165 0`).
    WithoutEcdsa,
    /// Devices that pin the server's key (`SetOption132 1`).
    Fingerprint,
    /// Brokers, which would not let a device in with it.
    Brokers,
}

/// One reason why a certificate does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Who stumbles.
    pub who: Who,
    /// Over what, as a phrase.
    pub why: String,
}

/// The devices that a server's certificate must suit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Devices {
    /// ESP8266 that check against a CA.
    pub esp8266: bool,
    /// ESP32 that check against a CA.
    pub esp32: bool,
    /// Devices of any chip that pin the server's key.
    pub fingerprint: bool,
    /// Every device that checks against a CA has `SetOption165 1`, and firmware 15.1 or later.
    pub ecdsa: bool,
}

impl Devices {
    /// Any device, with its settings as they come.
    pub const ANY: Self = Self { esp8266: true, esp32: true, fingerprint: true, ecdsa: false };

    /// Whether one of them is among `who`.
    pub fn include(self, who: Who) -> bool {
        let ca_mode = self.esp8266 || self.esp32;
        match who {
            Who::EveryDevice | Who::Brokers => ca_mode || self.fingerprint,
            Who::CaMode => ca_mode,
            Who::Esp8266 => self.esp8266,
            Who::WithoutEcdsa => ca_mode && !self.ecdsa,
            Who::Fingerprint => self.fingerprint,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EveryDevice => "no device",
            Self::CaMode => "no device that checks the CA",
            Self::Esp8266 => "no ESP8266 that checks the CA",
            Self::WithoutEcdsa => "no device without SetOption165 1",
            Self::Fingerprint => "no device with a pinned fingerprint",
            Self::Brokers => "no strict broker",
        })
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.why)
    }
}

fn misfit(who: Who, why: impl Into<String>) -> Misfit {
    Misfit { who, why: why.into() }
}

/// Whether devices can check `server` when `ca` issued it. Empty if all of them can.
pub fn as_server(server: &Certificate, ca: &Certificate) -> Vec<Misfit> {
    let mut out = Vec::new();
    match server.key_kind() {
        PublicKeyKind::Rsa(bits) => out.extend(rsa_size("its key", bits)),
        PublicKeyKind::EcP256 => {
            out.push(misfit(Who::WithoutEcdsa, "its key is EC (error 296)"));
            out.push(misfit(Who::Fingerprint, "its key is EC; fingerprints are of RSA keys (error 296)"));
        }
        other => out.push(misfit(Who::EveryDevice, format!("its key is {other} (error 296)"))),
    }
    match server.signature_kind() {
        SignatureKind::Rsa("SHA-256") => {}
        SignatureKind::Ecdsa("SHA-256") if ca.key_kind() == PublicKeyKind::EcP256 => {
            out.push(misfit(Who::WithoutEcdsa, "it is signed with ECDSA (error 62)"));
        }
        other => out.push(misfit(Who::CaMode, format!("it is signed with {other} (error 49 or 62)"))),
    }
    if let PublicKeyKind::Rsa(bits) = ca.key_kind() {
        out.extend(rsa_size("its CA's key", bits));
    }
    out.extend(extensions(server));
    out
}

/// Facts §3.3: 2048 bits on an ESP8266, 4096 on an ESP32.
fn rsa_size(what: &str, bits: usize) -> Option<Misfit> {
    match bits {
        ..=2048 => None,
        2049..=4096 => Some(misfit(
            Who::Esp8266,
            format!(
                "{what} is RSA-{bits}, more than 2048 bits (error 27 or 62; needs a build with USE_4K_RSA)"
            ),
        )),
        _ => Some(misfit(Who::CaMode, format!("{what} is RSA-{bits}, more than 4096 bits"))),
    }
}

fn extensions(server: &Certificate) -> Vec<Misfit> {
    let mut out = Vec::new();
    let found = &server.extensions;
    if found.extended_usage == Some(true) {
        out.push(misfit(Who::CaMode, "its extendedKeyUsage is critical (error 57)"));
    }
    for oid in &found.foreign_critical {
        out.push(misfit(Who::CaMode, format!("its extension {oid} is critical (error 57)")));
    }
    if found.digital_signature == Some(false) {
        out.push(misfit(Who::CaMode, "its keyUsage lacks digitalSignature (error 28)"));
    }
    // Devices compare dNSName entries as text, and the common name only where there is no SAN at all (error 56).
    let dns = server.dns_names();
    for ip in server.ip_addresses().iter().filter(|ip| !dns.contains(&ip.to_string())) {
        out.push(misfit(Who::CaMode, format!("{ip} is an iPAddress and no dNSName (error 56)")));
    }
    if let Some(name) = server.subject_cn()
        && found.has_alt_names
        && server.ip_addresses().is_empty()
        && name.parse::<IpAddr>().is_ok()
        && !dns.iter().any(|dns| dns == name)
    {
        out.push(misfit(
            Who::CaMode,
            format!("{name} is not among its names; with a SAN its CN does not count (error 56)"),
        ));
    }
    out
}

/// Whether a device can hold `certificate` and be let in with it. Empty if so (facts §3.4; spikes, client certificates).
pub fn as_identity(certificate: &Certificate) -> Vec<Misfit> {
    let mut out = Vec::new();
    if certificate.key_kind() != PublicKeyKind::EcP256 {
        let kind = certificate.key_kind();
        out.push(misfit(Who::EveryDevice, format!("its key is {kind}; a device holds EC P-256")));
    }
    let size = certificate.der().len();
    if size > DEVICE_DER_MAX {
        out.push(misfit(
            Who::EveryDevice,
            format!("it has {size} bytes; TLSKey2 takes {DEVICE_DER_MAX} at most"),
        ));
    }
    if size < DEVICE_DER_MIN {
        out.push(misfit(
            Who::EveryDevice,
            format!("it has {size} bytes; TLSKey2 takes {DEVICE_DER_MIN} at least"),
        ));
    }
    if certificate.extensions.digital_signature == Some(false) {
        out.push(misfit(Who::Brokers, "its keyUsage lacks digitalSignature"));
    }
    if certificate.extensions.extended_usage.is_some() && !certificate.is_for_client() {
        out.push(misfit(Who::Brokers, "its extendedKeyUsage lacks clientAuth"));
    }
    if certificate.is_ca() {
        out.push(misfit(Who::Brokers, "it is a CA's (basicConstraints CA:TRUE)"));
    }
    if certificate.version() < 3 {
        out.push(misfit(Who::Brokers, "it is of X.509 version 1"));
    }
    out
}

/// Whether devices can have `ca` compiled in and check what it signs. Empty if all of them can.
pub fn as_anchor(ca: &Certificate) -> Vec<Misfit> {
    match ca.key_kind() {
        PublicKeyKind::Rsa(bits) => rsa_size("its key", bits).into_iter().collect(),
        PublicKeyKind::EcP256 => vec![misfit(Who::WithoutEcdsa, "its key is EC (error 62)")],
        other => vec![misfit(Who::CaMode, format!("its key is {other} (error 62)"))],
    }
}
