//! A profile as written in TOML, and its way to the rules that are meant. Refuses what no certificate or no device could be.

use std::collections::BTreeMap;

use serde::Deserialize;
use time::Duration;
use x509_cert::{
    der::{asn1::ObjectIdentifier, flagset::FlagSet},
    ext::pkix::KeyUsages,
};

use super::{AltNameRule, DeviceRole, Rules};
use crate::{
    key::KeyKind,
    limits::{CERTIFICATE_DAYS, DAYS_MAX, DEVICE_DER_MAX},
};

/// The keys of a profile. What is left out is as in `client`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Written {
    about: String,
    key: String,
    keys: Vec<String>,
    ca: bool,
    path_length: Option<u8>,
    basic_constraints_critical: bool,
    key_usage: Vec<String>,
    key_usage_critical: bool,
    extended_key_usage: Vec<String>,
    extended_key_usage_critical: bool,
    alt_names: String,
    days: u32,
    begins: String,
    begins_days_ago: u32,
    device: String,
    warn_above: Option<usize>,
    refuse_above: Option<usize>,
    crl_url: Option<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            about: String::new(),
            key: "ec-p256".into(),
            keys: KeyKind::ALL.map(|kind| kind.word().to_owned()).to_vec(),
            ca: false,
            path_length: None,
            basic_constraints_critical: false,
            key_usage: vec!["digitalSignature".into()],
            key_usage_critical: false,
            extended_key_usage: vec!["clientAuth".into()],
            extended_key_usage_critical: false,
            alt_names: "none".into(),
            days: CERTIFICATE_DAYS,
            begins: "now".into(),
            begins_days_ago: 1,
            device: "none".into(),
            warn_above: None,
            refuse_above: None,
            crl_url: None,
        }
    }
}

/// The built-in profiles by name.
pub(super) fn built_in(text: &str) -> Result<BTreeMap<String, Rules>, String> {
    let tables: BTreeMap<String, Written> = toml::from_str(text).map_err(|error| error.to_string())?;
    tables.into_iter().map(|(name, written)| Ok((name.clone(), understand(&name, written)?))).collect()
}

/// One profile, from a file of its own.
pub(super) fn one(name: &str, text: &str) -> Result<Rules, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    if written.about.is_empty() {
        return Err("it says nothing in `about`: what is it for?".into());
    }
    understand(name, written)
}

const USAGES: [(&str, KeyUsages); 9] = [
    ("digitalSignature", KeyUsages::DigitalSignature),
    ("nonRepudiation", KeyUsages::NonRepudiation),
    ("keyEncipherment", KeyUsages::KeyEncipherment),
    ("dataEncipherment", KeyUsages::DataEncipherment),
    ("keyAgreement", KeyUsages::KeyAgreement),
    ("keyCertSign", KeyUsages::KeyCertSign),
    ("cRLSign", KeyUsages::CRLSign),
    ("encipherOnly", KeyUsages::EncipherOnly),
    ("decipherOnly", KeyUsages::DecipherOnly),
];

/// RFC 5280 §4.2.1.12.
const EXTENDED_USAGES: [(&str, &str); 6] = [
    ("serverAuth", "1.3.6.1.5.5.7.3.1"),
    ("clientAuth", "1.3.6.1.5.5.7.3.2"),
    ("codeSigning", "1.3.6.1.5.5.7.3.3"),
    ("emailProtection", "1.3.6.1.5.5.7.3.4"),
    ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
];

fn understand(name: &str, written: Written) -> Result<Rules, String> {
    let keys = written.keys.iter().map(|word| key(word)).collect::<Result<Vec<_>, _>>()?;
    let default_key = key(&written.key)?;
    if !keys.contains(&default_key) {
        return Err(format!("`key` is {default_key}, which is not among `keys`"));
    }
    let mut usage = FlagSet::<KeyUsages>::default();
    for word in &written.key_usage {
        usage |= choose("key-usage", word, &USAGES)?;
    }
    let extended_usage =
        written.extended_key_usage.iter().map(|word| extended(word)).collect::<Result<Vec<_>, _>>()?;
    let rules = Rules {
        name: name.to_owned(),
        about: written.about,
        default_key,
        keys,
        ca: written.ca,
        path_length: written.path_length,
        constraints_critical: written.basic_constraints_critical,
        usage,
        usage_critical: written.key_usage_critical,
        extended_usage,
        extended_usage_critical: written.extended_key_usage_critical,
        alt_names: choose(
            "alt-names",
            &written.alt_names,
            &[
                ("none", AltNameRule::None),
                ("optional", AltNameRule::Optional),
                ("required", AltNameRule::Required),
            ],
        )?,
        days: written.days,
        backdate: match choose("begins", &written.begins, &[("now", true), ("with-the-ca", false)])? {
            true => Some(Duration::days(written.begins_days_ago.into())),
            false => None,
        },
        device: choose(
            "device",
            &written.device,
            &[("none", DeviceRole::None), ("identity", DeviceRole::Identity), ("server", DeviceRole::Server)],
        )?,
        size: match (written.warn_above, written.refuse_above) {
            (None, None) => None,
            (many, most) => {
                let most = most.unwrap_or(DEVICE_DER_MAX);
                Some((many.unwrap_or(most), most))
            }
        },
        crl_url: written.crl_url,
    };
    check(&rules)?;
    Ok(rules)
}

fn check(rules: &Rules) -> Result<(), String> {
    let signs = rules.usage.contains(KeyUsages::DigitalSignature);
    let refuse = |problem: &str| Err(problem.to_owned());
    if !(1..=DAYS_MAX).contains(&rules.days) {
        return Err(format!("`days` is 1 to {DAYS_MAX}, not {}", rules.days));
    }
    if rules.ca != rules.usage.contains(KeyUsages::KeyCertSign) {
        return refuse(
            "keyCertSign belongs in `key-usage` if `ca` is true, and only then (RFC 5280 4.2.1.3)",
        );
    }
    if let Some(url) = &rules.crl_url {
        if rules.device == DeviceRole::Identity {
            return refuse("`crl-url` has no room in a device's certificate, and no device looks at it");
        }
        crate::builder::crl_points(url).map_err(|error| error.to_string())?;
    }
    if rules.path_length.is_some() && !rules.ca {
        return refuse("`path-length` is for a CA (RFC 5280 4.2.1.9)");
    }
    match rules.device {
        DeviceRole::None => Ok(()),
        _ if rules.ca => refuse("a device neither holds a CA's certificate nor is sent one"),
        DeviceRole::Identity if rules.keys != [KeyKind::EcP256] => {
            refuse("a device holds an EC P-256 key and no other: keys = [\"ec-p256\"]")
        }
        DeviceRole::Identity if rules.size.is_none_or(|(_, most)| most > DEVICE_DER_MAX) => {
            Err(format!("a device takes {DEVICE_DER_MAX} bytes: set `refuse-above` to no more"))
        }
        DeviceRole::Server if rules.alt_names != AltNameRule::Required => {
            refuse("what a device checks needs its names as dNSName: alt-names = \"required\"")
        }
        DeviceRole::Server if rules.extended_usage_critical => {
            refuse("a device refuses a critical extendedKeyUsage (error 57)")
        }
        _ if !signs && !rules.usage.is_empty() => {
            refuse("TLS needs digitalSignature in `key-usage` (a device answers error 28)")
        }
        _ => Ok(()),
    }
}

fn key(word: &str) -> Result<KeyKind, String> {
    KeyKind::from_word(word).ok_or_else(|| {
        let known = KeyKind::ALL.map(KeyKind::word).join(", ");
        format!("{word:?} is no kind of key; there are {known}")
    })
}

fn extended(word: &str) -> Result<ObjectIdentifier, String> {
    let known = EXTENDED_USAGES.iter().find(|(known, _)| *known == word).map(|(_, oid)| *oid);
    ObjectIdentifier::new(known.unwrap_or(word)).map_err(|_| {
        let known = EXTENDED_USAGES.map(|(known, _)| known).join(", ");
        format!("{word:?} in `extended-key-usage` is neither an OID nor one of {known}")
    })
}

fn choose<T: Copy>(key: &str, word: &str, choices: &[(&str, T)]) -> Result<T, String> {
    match choices.iter().find(|(known, _)| *known == word) {
        Some((_, meant)) => Ok(*meant),
        None => {
            let known = choices.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            Err(format!("`{key}` is one of {known}, not {word:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_right_and_what_client_says_is_what_is_left_out() {
        let profiles = built_in(include_str!("profiles.toml")).unwrap();
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["ca", "client", "server", "subca", "tasmota"]);
        let left_out =
            understand("client", Written { about: profiles["client"].about.clone(), ..Written::default() });
        assert_eq!(format!("{:?}", left_out.unwrap()), format!("{:?}", profiles["client"]));
        let tasmota = &profiles["tasmota"];
        assert_eq!(tasmota.size, Some((crate::limits::DEVICE_DER_WARN, DEVICE_DER_MAX)));
        assert_eq!(profiles["ca"].days, crate::limits::CA_DAYS);
    }

    #[test]
    fn a_profile_that_cannot_be_is_refused_with_its_reason() {
        for (text, expected) in [
            ("", "`about`"),
            ("about = 'x'\nkey = 'dsa'", "no kind of key"),
            ("about = 'x'\nkeys = ['rsa-2048']", "not among `keys`"),
            ("about = 'x'\ncolour = 'red'", "line 2"),
            ("about = 'x'\nkey-usage = ['signing']", "`key-usage` is one of"),
            ("about = 'x'\nextended-key-usage = ['mqtt']", "neither an OID"),
            ("about = 'x'\ndays = 0", "`days` is 1 to"),
            ("about = 'x'\nca = true", "keyCertSign belongs"),
            ("about = 'x'\nkey-usage = ['keyCertSign']", "keyCertSign belongs"),
            ("about = 'x'\npath-length = 1", "`path-length` is for a CA"),
            ("about = 'x'\ndevice = 'identity'", "EC P-256 key and no other"),
            ("about = 'x'\ndevice = 'identity'\nkeys = ['ec-p256']", "takes 891 bytes"),
            ("about = 'x'\ndevice = 'server'", "dNSName"),
            (
                "about = 'x'\ndevice = 'server'\nalt-names = 'required'\nextended-key-usage-critical = true",
                "error 57",
            ),
            (
                "about = 'x'\ndevice = 'server'\nalt-names = 'required'\nkey-usage = ['keyAgreement']",
                "error 28",
            ),
        ] {
            let told = one("mine", text).err().unwrap_or_default();
            assert!(told.contains(expected), "{text}: {told}");
        }
        let mine = one("mine", "about = 'A gate'\nextended-key-usage = ['1.2.3.4']\ndays = 90").unwrap();
        assert_eq!((mine.days, mine.extended_usage.len()), (90, 1));
    }
}
