//! What each kind of certificate is allowed to be: `profiles.toml` beside this file, and `pki/profiles/*.toml` of the
//! user's own (decision 12, spikes §1, facts §3.3). What it is not: code. A rule is changed by changing a line.

mod written;

use std::{fmt, path::Path, sync::LazyLock};

use time::Duration;
use x509_cert::{
    der::{asn1::ObjectIdentifier, flagset::FlagSet},
    ext::pkix::KeyUsages,
};

use crate::{
    error::PkiError,
    key::KeyKind,
    limits::{MAX_FILE, PROFILES_MAX},
    request::AltNames,
    store::{Pki, files},
};

/// The kinds of certificate the authority issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A broker: RSA-2048 by default, names and addresses in the SAN, serverAuth.
    Server,
    /// A Tasmota device: EC P-256 and the guide's four extensions, small enough for `TLSKey2`.
    Tasmota,
    /// Any other MQTT client (Home Assistant, a phone): clientAuth.
    Client,
    /// An authority under this one.
    SubCa,
    /// One of the user's own, from `pki/profiles/`.
    User(UserProfile),
}

/// A profile of the user's own.
#[derive(Clone, Copy)]
pub struct UserProfile(&'static Rules);

impl PartialEq for UserProfile {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for UserProfile {}

impl fmt::Debug for UserProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rules().name)
    }
}

/// A profile as understood.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The profile's name, which is also the file name of its twin in Easy-RSA's `x509-types/`.
    pub(crate) name: String,
    pub(crate) about: String,
    /// The key made when none is named.
    pub(crate) default_key: KeyKind,
    /// The kinds of key it may have.
    pub(crate) keys: Vec<KeyKind>,
    pub(crate) ca: bool,
    pub(crate) path_length: Option<u8>,
    pub(crate) constraints_critical: bool,
    pub(crate) usage: FlagSet<KeyUsages>,
    pub(crate) usage_critical: bool,
    pub(crate) extended_usage: Vec<ObjectIdentifier>,
    pub(crate) extended_usage_critical: bool,
    pub(crate) alt_names: AltNameRule,
    pub(crate) days: u32,
    /// How far before now it begins; `None` is the CA's own beginning.
    pub(crate) backdate: Option<Duration>,
    pub(crate) device: DeviceRole,
    /// DER bytes above which a certificate is warned about, and refused.
    pub(crate) size: Option<(usize, usize)>,
    /// Where the CA's revocation list is to be had (RFC 5280 §4.2.1.13).
    pub(crate) crl_url: Option<String>,
}

impl Rules {
    /// Whether a certificate may have alternative names.
    pub(crate) fn takes_alt_names(&self) -> bool {
        self.alt_names != AltNameRule::None
    }

    /// Whether a certificate for which `names` are wanted gets a SAN.
    pub(crate) fn wants_alt_names(&self, names: &AltNames) -> bool {
        match self.alt_names {
            AltNameRule::None => false,
            AltNameRule::Optional => !names.is_empty(),
            AltNameRule::Required => true,
        }
    }

    /// Whether the key may be of this kind; `None` is a kind that is not made here.
    ///
    /// # Errors
    /// Why not, as a phrase.
    pub(crate) fn check_key(&self, kind: Option<KeyKind>) -> Result<(), String> {
        if kind.is_some_and(|kind| self.keys.contains(&kind)) {
            return Ok(());
        }
        let kinds = self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(format!("a {} certificate has a key of kind {kinds}", self.name))
    }
}

/// Whether a certificate has a SAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AltNameRule {
    None,
    Optional,
    Required,
}

/// What a device has to do with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceRole {
    /// Nothing.
    None,
    /// It holds it.
    Identity,
    /// It checks it.
    Server,
}

struct BuiltIn {
    ca: Rules,
    sub_ca: Rules,
    server: Rules,
    client: Rules,
    tasmota: Rules,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let mut rules =
        written::built_in(include_str!("profiles.toml")).expect("profiles.toml is right; a test reads it");
    let mut take = |name: &str| rules.remove(name).expect("profiles.toml has this profile; a test reads it");
    BuiltIn {
        ca: take("ca"),
        sub_ca: take("subca"),
        server: take("server"),
        client: take("client"),
        tasmota: take("tasmota"),
    }
});

/// The rules of a CA's own certificate.
pub(crate) fn ca_rules() -> &'static Rules {
    &BUILT_IN.ca
}

impl Profile {
    /// The built-in profiles that [`crate::Authority::issue`] takes, in the order of the help.
    pub const BUILT_IN: [Self; 4] = [Self::Server, Self::Tasmota, Self::Client, Self::SubCa];

    pub(crate) fn rules(self) -> &'static Rules {
        match self {
            Self::Server => &BUILT_IN.server,
            Self::Tasmota => &BUILT_IN.tasmota,
            Self::Client => &BUILT_IN.client,
            Self::SubCa => &BUILT_IN.sub_ca,
            Self::User(user) => user.0,
        }
    }

    /// The kind of key made when the request names none.
    pub fn default_key(self) -> KeyKind {
        self.rules().default_key
    }

    /// The kinds of key it may have.
    pub fn keys(self) -> &'static [KeyKind] {
        &self.rules().keys
    }

    /// What it is for, as a phrase.
    pub fn about(self) -> &'static str {
        &self.rules().about
    }

    /// Days that its certificates live when the request does not say.
    pub fn days(self) -> u32 {
        self.rules().days
    }

    /// Whether its certificates may have alternative names.
    pub fn takes_alt_names(self) -> bool {
        self.rules().takes_alt_names()
    }

    /// A profile of the user's own, from the text of its file.
    ///
    /// # Errors
    /// A sentence saying what is wrong, with the line where the file cannot be read at all.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, String> {
        if Self::BUILT_IN.iter().any(|known| known.rules().name == name) || name == "ca" {
            return Err(format!("there is a built-in profile {name}; choose another file name"));
        }
        // A process reads a few profiles in its life; that they are never freed makes Profile a plain value.
        Ok(Self::User(UserProfile(Box::leak(Box::new(written::one(name, text)?)))))
    }
}

impl Pki {
    /// The profile of that name: a built-in one, or `profiles/NAME.toml` in this folder. `None` if there is none.
    ///
    /// # Errors
    /// [`PkiError::BadFile`] for a profile that cannot be used, [`PkiError::Io`].
    pub fn profile(&self, name: &str) -> Result<Option<Profile>, PkiError> {
        if let Some(known) = Profile::BUILT_IN.into_iter().find(|known| known.rules().name == name) {
            return Ok(Some(known));
        }
        // A name with a path in it would leave the folder.
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c)) {
            return Ok(None);
        }
        let path = self.dir().join("profiles").join(format!("{name}.toml"));
        match files::read_if_there(&path, MAX_FILE)? {
            Some(text) => read_profile(&path, name, &text).map(Some),
            None => Ok(None),
        }
    }

    /// Every profile: the built-in ones, then the user's own by name.
    ///
    /// # Errors
    /// As [`Pki::profile`].
    pub fn profiles(&self) -> Result<Vec<Profile>, PkiError> {
        let mut out = Profile::BUILT_IN.to_vec();
        let folder = self.dir().join("profiles");
        let mut names = match std::fs::read_dir(&folder) {
            Ok(listing) => listing
                .filter_map(|file| file.ok()?.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
                .take(PROFILES_MAX)
                .collect::<Vec<_>>(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(files::io("listing", &folder)(source)),
        };
        names.sort_unstable();
        for name in names {
            out.extend(self.profile(&name)?);
        }
        Ok(out)
    }
}

fn read_profile(path: &Path, name: &str, text: &[u8]) -> Result<Profile, PkiError> {
    let bad = |problem: String| PkiError::BadFile { path: path.to_owned(), problem };
    let text = std::str::from_utf8(text).map_err(|_| bad("it is not text".into()))?;
    Profile::from_toml(name, text).map_err(bad)
}
