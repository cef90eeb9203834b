//! Easy-RSA's `vars`: what its owner has set as defaults for issuing. Read as text, never run.
//! What it is not: a shell. A value that needs one is named in [`Vars::notes`] and left alone.

use std::path::PathBuf;

use crate::{
    error::PkiError,
    key::KeyKind,
    limits::{DAYS_MAX, MAX_FILE},
    store::{Pki, files},
    subject::{Organisation, Subject},
};

/// The defaults found, as far as they concern issuing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vars {
    /// The file.
    pub path: PathBuf,
    /// `EASYRSA_DN org`: the subject has organisation fields.
    pub organisation: Option<Organisation>,
    /// `EASYRSA_ALGO` with `EASYRSA_CURVE` or `EASYRSA_KEY_SIZE`.
    pub key: Option<KeyKind>,
    /// `EASYRSA_CERT_EXPIRE`, in days.
    pub days: Option<u32>,
    /// `EASYRSA_CA_EXPIRE`, in days.
    pub ca_days: Option<u32>,
    /// `EASYRSA_CRL_DAYS`: for so many days a revocation list is good.
    pub crl_days: Option<u32>,
    /// `EASYRSA_REQ_CN`: the name of a CA to be made.
    pub common_name: Option<String>,
    /// What could not be followed, as sentences.
    pub notes: Vec<String>,
}

impl Vars {
    /// The subject of what is issued.
    pub fn subject(&self) -> Subject {
        self.organisation.clone().map_or(Subject::CnOnly, Subject::Org)
    }

    /// Reads the text of a `vars` file.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        let mut said = std::collections::HashMap::new();
        for line in text.lines().map(str::trim) {
            let Some(rest) = line.strip_prefix("set_var").filter(|rest| rest.starts_with([' ', '\t'])) else {
                continue;
            };
            let rest = rest.trim_start();
            let (name, value) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            match literal(value.trim()) {
                Some(value) => drop(said.insert(name.to_owned(), value)),
                None if KNOWN.contains(&name) => {
                    out.notes.push(format!("{name} is computed by a shell and is not followed"));
                }
                None => {}
            }
        }
        out.understand(&said);
        out
    }

    fn understand(&mut self, said: &std::collections::HashMap<String, String>) {
        let get = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
        if get("EASYRSA_DN") == "org" {
            let field = |name: &str| get(name).to_owned();
            self.organisation = Some(Organisation {
                country: field("EASYRSA_REQ_COUNTRY"),
                province: field("EASYRSA_REQ_PROVINCE"),
                city: field("EASYRSA_REQ_CITY"),
                organisation: field("EASYRSA_REQ_ORG"),
                unit: field("EASYRSA_REQ_OU"),
                email: field("EASYRSA_REQ_EMAIL"),
            });
        }
        let (algorithm, curve, size) = (get("EASYRSA_ALGO"), get("EASYRSA_CURVE"), get("EASYRSA_KEY_SIZE"));
        self.key = match (algorithm, curve, size) {
            ("", _, "") => None,
            ("" | "rsa", _, "" | "2048") => Some(KeyKind::Rsa2048),
            ("" | "rsa", _, "3072") => Some(KeyKind::Rsa3072),
            ("" | "rsa", _, "4096") => Some(KeyKind::Rsa4096),
            ("ec", "prime256v1" | "secp256r1", _) => Some(KeyKind::EcP256),
            // Easy-RSA's own default.
            ("ec", "" | "secp384r1", _) => Some(KeyKind::EcP384),
            ("ed", "ed25519", _) => Some(KeyKind::Ed25519),
            _ => {
                let (kind, of) = match algorithm {
                    "" | "rsa" => ("rsa", size),
                    other => (other, curve),
                };
                self.notes.push(format!("keys of kind {kind} {of} are not made here"));
                None
            }
        };
        let mut days = |name: &str| match get(name) {
            "" => None,
            text => {
                let days = text.parse().ok().filter(|days| (1..=DAYS_MAX).contains(days));
                if days.is_none() {
                    self.notes.push(format!("{name} is no number of days: {text:?}"));
                }
                days
            }
        };
        (self.days, self.ca_days) = (days("EASYRSA_CERT_EXPIRE"), days("EASYRSA_CA_EXPIRE"));
        self.crl_days = days("EASYRSA_CRL_DAYS");
        // Easy-RSA's own placeholder names nobody.
        self.common_name =
            Some(get("EASYRSA_REQ_CN").to_owned()).filter(|name| !matches!(name.as_str(), "" | "ChangeMe"));
        if !matches!(get("EASYRSA_DIGEST"), "" | "sha256") {
            let digest = get("EASYRSA_DIGEST");
            self.notes
                .push(format!("EASYRSA_DIGEST {digest} is not followed: devices check SHA-256 and no other"));
        }
    }
}

/// The settings that are followed.
const KNOWN: [&str; 15] = [
    "EASYRSA_DN",
    "EASYRSA_REQ_COUNTRY",
    "EASYRSA_REQ_PROVINCE",
    "EASYRSA_REQ_CITY",
    "EASYRSA_REQ_ORG",
    "EASYRSA_REQ_OU",
    "EASYRSA_REQ_EMAIL",
    "EASYRSA_ALGO",
    "EASYRSA_CURVE",
    "EASYRSA_KEY_SIZE",
    "EASYRSA_CERT_EXPIRE",
    "EASYRSA_CA_EXPIRE",
    "EASYRSA_CRL_DAYS",
    "EASYRSA_REQ_CN",
    "EASYRSA_DIGEST",
];

/// A word as a shell reads it, if that needs no shell.
fn literal(text: &str) -> Option<String> {
    let plain = |text: &str| (!text.contains(['$', '`', '\\'])).then(|| text.to_owned());
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.split_once('\'').map(|(inside, _)| inside.to_owned());
    }
    if let Some(rest) = text.strip_prefix('"') {
        return rest.split_once('"').and_then(|(inside, _)| plain(inside));
    }
    plain(text.split([' ', '\t', '#']).next().unwrap_or_default())
}

impl Pki {
    /// `vars` in this folder, or beside it where Easy-RSA 3.0 and 3.1 look. `None` if there is none.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn vars(&self) -> Result<Option<Vars>, PkiError> {
        Vars::find(self.dir())
    }
}

impl Vars {
    /// As [`Pki::vars`], for a folder in which a CA is yet to be made.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn find(dir: &std::path::Path) -> Result<Option<Self>, PkiError> {
        let beside = dir.parent().map(|parent| parent.join("vars"));
        for path in std::iter::once(dir.join("vars")).chain(beside) {
            if !path.is_file() {
                continue;
            }
            if let Some(text) = files::read_if_there(&path, MAX_FILE)? {
                let vars = Self::parse(&String::from_utf8_lossy(&text));
                return Ok(Some(Self { path, ..vars }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_guides_vars_are_understood() {
        let vars = Vars::parse(
            "# a comment\nset_var EASYRSA_DN \"org\"\nset_var EASYRSA_REQ_COUNTRY\t\"UK\"\nset_var EASYRSA_REQ_ORG 'my \
             $org'\nset_var EASYRSA_ALGO ec # later\nset_var EASYRSA_CURVE prime256v1\nset_var EASYRSA_CERT_EXPIRE 1800\n\
             set_var EASYRSA_CA_EXPIRE 3650\n#set_var EASYRSA_CERT_EXPIRE 1\nset_var EASYRSA_DIGEST \"sha512\"\n\
             set_var EASYRSA \"$PWD\"\nset_var EASYRSA_REQ_OU \"$USER\"\n",
        );
        let org = vars.organisation.clone().unwrap();
        assert_eq!(
            (org.country.as_str(), org.organisation.as_str(), org.unit.as_str()),
            ("UK", "my $org", "")
        );
        assert_eq!((vars.key, vars.days, vars.ca_days), (Some(KeyKind::EcP256), Some(1800), Some(3650)));
        assert_eq!(vars.notes.len(), 2, "{:?}", vars.notes);
        assert!(vars.notes[0].contains("EASYRSA_REQ_OU") && vars.notes[1].contains("sha512"));
    }

    #[test]
    fn what_is_not_said_is_not_invented() {
        assert_eq!(Vars::parse("set_var EASYRSA_DN cn_only\n"), Vars::default());
        for (algorithm, more, key) in [
            ("rsa", "set_var EASYRSA_KEY_SIZE 4096", Some(KeyKind::Rsa4096)),
            ("rsa", "set_var EASYRSA_KEY_SIZE 1024", None),
            ("ec", "", Some(KeyKind::EcP384)),
            ("ed", "set_var EASYRSA_CURVE ed25519", Some(KeyKind::Ed25519)),
            ("ed", "set_var EASYRSA_CURVE ed448", None),
        ] {
            let vars = Vars::parse(&format!("set_var EASYRSA_ALGO {algorithm}\n{more}\n"));
            assert_eq!(vars.key, key, "{algorithm} {more}");
            assert_eq!(vars.notes.is_empty(), key.is_some());
        }
        let odd = Vars::parse("set_var EASYRSA_KEY_SIZE 1024");
        assert_eq!(odd.notes, ["keys of kind rsa 1024 are not made here"]);
        assert_eq!(Vars::parse("set_var EASYRSA_CERT_EXPIRE 0").notes.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(set_var EASYRSA_[A-Z]{2,4} ?.{0,20}\n?){0,3}") {
            let _ = Vars::parse(&text);
        }
    }
}
