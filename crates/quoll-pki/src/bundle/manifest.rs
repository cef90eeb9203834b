//! `manifest.json`, the first member of every bundle: what it is, who it is for, and the SHA-256 of every other member.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::error::BundleError;
use crate::{certificate::Certificate, error::PkiError, random};

/// The format written, and the highest read.
pub(super) const FORMAT: u64 = 1;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format: u64,
    /// `request`, `answer` or `anchors`.
    pub kind: Kind,
    /// 32 random hex digits, which no two bundles share.
    pub id: String,
    /// When it was made, RFC 3339, UTC.
    pub created: String,
    /// A word for people: the server's name, or the CA's.
    pub name: String,
    /// What the kind has to say.
    pub content: Content,
    /// Every other member but `manifest.sig`.
    pub files: Vec<FileMark>,
}

/// The three kinds of bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `.quollreq`
    Request,
    /// `.quollcert`
    Answer,
    /// `.quollanchors`
    Anchors,
}

/// What each kind says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// What is asked of the CA.
    Request(Request),
    /// What the CA gives.
    Answer(Answer),
    /// What a firmware is to trust.
    Anchors(Anchors),
}

/// What is asked of the CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The CA that is asked, where the server knows one.
    pub ca: Option<CaMark>,
    /// Certificates wanted.
    pub wants: Vec<Want>,
    /// Certificates to be revoked.
    pub revoke: Vec<RevokeMark>,
}

/// What the CA gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The id of the request.
    pub request: String,
    /// SHA-256 of the request's manifest, hex.
    pub request_sha256: String,
    /// The CA that answers.
    pub ca: CaMark,
    /// The certificates.
    pub certificates: Vec<IssuedMark>,
}

/// What a firmware is to trust, and what it is told to connect to. All of it is public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// The CAs.
    pub anchors: Vec<AnchorMark>,
    /// The server, where there is one.
    pub server: Option<ServerMark>,
}

/// A CA, told apart by its key: a CA certificate that is extended keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaMark {
    /// Its common name.
    pub name: String,
    /// SHA-256 of its SubjectPublicKeyInfo, hex.
    pub key_sha256: String,
}

/// A certificate wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The common name, as in the signing request.
    pub name: String,
    /// `server`, `tasmota`, `client`, ...
    pub profile: String,
    /// The member with the signing request.
    pub file: String,
    /// Life in days; the profile's where there is none.
    pub days: Option<u32>,
    /// Whether it replaces a certificate of that name.
    pub renew: bool,
}

/// A revocation wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeMark {
    /// Serial number, hex.
    pub serial: String,
    /// The reason in Easy-RSA's spelling.
    pub reason: String,
}

/// A certificate given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedMark {
    /// The common name.
    pub name: String,
    /// Serial number, hex.
    pub serial: String,
    /// The member with the certificate.
    pub file: String,
}

/// A CA that firmware is to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorMark {
    /// Its common name.
    pub name: String,
    /// SHA-256 of the certificate, hex.
    pub sha256: String,
    /// The member with the certificate.
    pub file: String,
}

/// What devices connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerMark {
    /// The name or address that devices are told.
    pub host: String,
    /// The port of MQTT over TLS.
    pub port: u16,
    /// Names in its certificate.
    pub names: Vec<String>,
    /// Addresses in its certificate.
    pub addresses: Vec<String>,
    /// `MqttFingerprint` of its key, where devices can pin it.
    pub mqtt_fingerprint: Option<String>,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMark {
    /// Its path in the archive.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

impl Manifest {
    /// A new one, its files not yet listed.
    pub(super) fn new(name: &str, content: Content, now: OffsetDateTime) -> Result<Self, BundleError> {
        let mut id = [0; 16];
        random::fill(&mut id)?;
        Ok(Self {
            format: FORMAT,
            kind: content.kind(),
            id: hex(&id),
            created: stamp(now)?,
            name: name.to_owned(),
            content,
            files: Vec::new(),
        })
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let mut out = serde_json::to_vec_pretty(self)
            .map_err(|_| BundleError::from(PkiError::Crypto { act: "writing a manifest" }))?;
        out.push(b'\n');
        Ok(out)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let bad =
            |error: serde_json::Error| BundleError::NotABundle { problem: format!("manifest.json: {error}") };
        let version: Version = serde_json::from_slice(bytes).map_err(bad)?;
        if version.format != FORMAT {
            return Err(BundleError::Newer { found: version.format, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(bad)?;
        let wrong =
            |problem: &str| Err(BundleError::NotABundle { problem: format!("manifest.json: {problem}") });
        if manifest.kind != manifest.content.kind() {
            return wrong("its kind and its content disagree");
        }
        // It becomes a file name.
        if manifest.id.len() != 32 || !manifest.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return wrong("its id is not 32 hex digits");
        }
        Ok(manifest)
    }
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Self::Request(_) => Kind::Request,
            Self::Answer(_) => Kind::Answer,
            Self::Anchors(_) => Kind::Anchors,
        }
    }
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Request => "a request (.quollreq)",
            Self::Answer => "an answer (.quollcert)",
            Self::Anchors => "a set of trust anchors (.quollanchors)",
        }
    }
}

impl CaMark {
    pub(super) fn of(ca: &Certificate) -> Self {
        let name = ca.subject_cn().unwrap_or_default().to_owned();
        Self { name, key_sha256: sha256_hex(ca.public_key_der()) }
    }

    /// The key decides, not the name.
    pub(super) fn is(&self, ca: &Certificate) -> bool {
        self.key_sha256 == sha256_hex(ca.public_key_der())
    }

    pub(super) fn words(&self) -> String {
        format!("{:?}, key {}", self.name, self.key_sha256.get(..16).unwrap_or_default())
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339 in UTC, whole seconds.
pub(super) fn stamp(at: OffsetDateTime) -> Result<String, BundleError> {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&Rfc3339)
        .map_err(|_| PkiError::Crypto { act: "writing a date" }.into())
}

pub(super) fn from_stamp(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
