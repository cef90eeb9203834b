//! TLS of a listener, as Mosquitto's options say it: files, who must show what, and which suites.

use std::path::PathBuf;

use rustls::CipherSuite;

use super::complaint::{Complaint, Fault, Matter, Place, Remark};
use super::said::Said;

/// TLS of a listener, as understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// The server's certificate and chain, PEM (`certfile`).
    pub certificate: PathBuf,
    /// Its key, PEM (`keyfile`).
    pub key: PathBuf,
    /// Who vouches for clients (`cafile`, `capath`).
    pub roots: Roots,
    /// Whether clients must show a certificate (`require_certificate`). Without roots no client can.
    pub require_certificate: bool,
    /// Revocation lists, PEM (`crlfile`); only where a certificate is required.
    pub revoked: Option<PathBuf>,
    /// Whether expired and not yet valid client certificates are let in (`disable_client_cert_date_checks`).
    pub ignore_dates: bool,
    /// The lowest version (`tls_version`).
    pub minimum: MinimumVersion,
    /// Suites for TLS 1.2, in the order of preference; `None`: all there are (`ciphers`).
    pub suites_12: Option<Vec<CipherSuite>>,
    /// Suites for TLS 1.3 likewise (`ciphers_tls1.3`).
    pub suites_13: Option<Vec<CipherSuite>>,
}

/// Certificates of CAs, PEM.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roots {
    /// In a file.
    pub file: Option<PathBuf>,
    /// In the files of a folder, named by the hash of their subject as `openssl rehash` does.
    pub folder: Option<PathBuf>,
}

impl Roots {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.file.is_none() && self.folder.is_none()
    }
}

/// The lowest version of TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MinimumVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl MinimumVersion {
    pub(super) fn understand(said: &Said, name: &str, complaints: &mut Vec<Complaint>) -> Self {
        match said.text(name) {
            Some("tlsv1.3") => Self::Tls13,
            Some("tlsv1.1") => {
                remark(
                    complaints,
                    said.place(name),
                    Remark::Note("TLS 1.1 is not spoken here; 1.2 is the lowest"),
                );
                Self::Tls12
            }
            _ => Self::Tls12,
        }
    }
}

/// Options that mean nothing on a listener without TLS; Mosquitto passes over them in silence.
const WITHOUT_TLS: &[&str] =
    &["crlfile", "disable_client_cert_date_checks", "tls_version", "ciphers", "ciphers_tls1.3"];

impl Tls {
    /// The listener's TLS; `None` without it, or after a fault.
    pub(super) fn understand(said: &Said, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let what = || "this listener".to_owned();
        for (one, other) in
            [("certfile", "keyfile"), ("keyfile", "certfile"), ("cafile", "certfile"), ("capath", "certfile")]
        {
            if let Some(place) = said.place(one).filter(|_| said.value(other).is_none()) {
                let matter = Matter::Fault(Fault::Missing { what: what(), option: other });
                complaints.push(Complaint { place: place.clone(), matter });
                return None;
            }
        }
        let Some((certificate, key)) = said.path("certfile").zip(said.path("keyfile")) else {
            let why = "the listener has no TLS without certfile and keyfile";
            for name in WITHOUT_TLS {
                ignored(complaints, said.place(name), name, why);
            }
            if said.flag("require_certificate") == Some(true) {
                ignored(complaints, said.place("require_certificate"), "require_certificate", why);
            }
            return None;
        };
        let roots = Roots { file: said.path("cafile"), folder: said.path("capath") };
        let require_certificate = said.flag("require_certificate").unwrap_or(false);
        if require_certificate && roots.is_empty() {
            let note = "without cafile or capath no client certificate is ever accepted";
            remark(complaints, said.place("require_certificate"), Remark::Note(note));
        }
        let revoked = said.path("crlfile").filter(|_| require_certificate);
        if revoked.is_none() {
            ignored(
                complaints,
                said.place("crlfile"),
                "crlfile",
                "it is only looked at with 'require_certificate true'",
            );
        }
        let ignore_dates = said.flag("disable_client_cert_date_checks").unwrap_or(false);
        Some(Self {
            certificate,
            key,
            roots,
            require_certificate,
            revoked,
            ignore_dates,
            minimum: MinimumVersion::understand(said, "tls_version", complaints),
            suites_12: suites(said, "ciphers", SUITES_12, complaints),
            suites_13: suites(said, "ciphers_tls1.3", SUITES_13, complaints),
        })
    }
}

type Names = &'static [(&'static str, CipherSuite)];

/// OpenSSL's names of the suites of TLS 1.2 that there are here (RFC 5289, RFC 7905).
const SUITES_12: Names = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The same for TLS 1.3 (RFC 8446 §B.4).
const SUITES_13: Names = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// The suites of a list. Those without equivalent are left out with a remark; a list of only such means all there are,
/// which are none weaker: all have forward secrecy and authenticated encryption.
fn suites(
    said: &Said,
    option: &'static str,
    names: Names,
    complaints: &mut Vec<Complaint>,
) -> Option<Vec<CipherSuite>> {
    let mut suites = Vec::new();
    let mut unknown = Vec::new();
    for word in said.text(option)?.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        match names.iter().find(|(name, _)| *name == word) {
            Some((_, suite)) if suites.contains(suite) => {}
            Some((_, suite)) => suites.push(*suite),
            None => unknown.push(word),
        }
    }
    if !unknown.is_empty() {
        remark(complaints, said.place(option), Remark::Ciphers { option, names: unknown.join(", ") });
    }
    if suites.is_empty() { None } else { Some(suites) }
}

fn ignored(complaints: &mut Vec<Complaint>, place: Option<&Place>, option: &str, why: &'static str) {
    remark(complaints, place, Remark::Ignored { option: option.to_owned(), why });
}

fn remark(complaints: &mut Vec<Complaint>, place: Option<&Place>, remark: Remark) {
    if let Some(place) = place {
        complaints.push(Complaint { place: place.clone(), matter: Matter::Remark(remark) });
    }
}
