//! Which file of an Easy-RSA folder lies where, in the words of Easy-RSA 3.1 and 3.2.
//! What it is not: it opens nothing.

use std::path::{Path, PathBuf};

use crate::{name::CertName, serial::Serial};

/// The paths of one folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// The folders a CA has from its first day.
pub(crate) const FOLDERS: [&str; 7] = [
    "private",
    "reqs",
    "issued",
    "certs_by_serial",
    "revoked/certs_by_serial",
    "revoked/private_by_serial",
    "revoked/reqs_by_serial",
];

/// A place that keeps certificates by name, with the places of their keys and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// `issued/`: the certificates in use.
    Issued,
    /// `renewed/issued/`: set aside by a renewal, valid until revoked.
    Renewed,
    /// `expired/`: set aside by `easyrsa expire` of 3.2; key and request stay where they were.
    Expired,
}

impl Shelf {
    pub(crate) const ALL: [Self; 3] = [Self::Issued, Self::Renewed, Self::Expired];
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(crate) fn ca_key(&self) -> PathBuf {
        self.dir.join("private/ca.key")
    }

    /// A CA certificate that a longer one with the same key took over from.
    pub(crate) fn earlier_ca(&self, what: &str) -> PathBuf {
        self.dir.join("renewed/ca").join(format!("{what}.crt"))
    }

    /// The CA's key newly encrypted, until it is proven to open.
    pub(crate) fn ca_key_proof(&self) -> PathBuf {
        self.dir.join("private/ca.key.quoll-proof")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index.txt")
    }

    /// Present while a certificate is being written down.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join(".quoll-issuing")
    }

    /// What is remembered of a request on its way between two machines: `requests` where it was made, `signed` where it
    /// was answered.
    pub(crate) fn bundle_states(&self, kind: &str) -> PathBuf {
        self.dir.join("quoll").join(kind)
    }

    /// What `index.txt` was before the last change, as OpenSSL keeps it.
    pub(crate) fn index_old(&self) -> PathBuf {
        self.dir.join("index.txt.old")
    }

    pub(crate) fn index_attributes(&self) -> PathBuf {
        self.dir.join("index.txt.attr")
    }

    /// OpenSSL's place for the next serial number; Easy-RSA overwrites it with a random one at each signing.
    pub(crate) fn serial(&self) -> PathBuf {
        self.dir.join("serial")
    }

    pub(crate) fn crl(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Easy-RSA 3.2 writes the CRL in DER as well.
    pub(crate) fn crl_der(&self) -> PathBuf {
        self.dir.join("crl.der")
    }

    /// OpenSSL's place for the next CRL number.
    pub(crate) fn crl_number(&self) -> PathBuf {
        self.dir.join("crlnumber")
    }

    pub(crate) fn issued(&self, name: &CertName) -> PathBuf {
        self.certificate(Shelf::Issued, name.as_str())
    }

    pub(crate) fn key(&self, name: &CertName) -> PathBuf {
        self.key_of(Shelf::Issued, name.as_str())
    }

    /// A server's new key until its certificate is in place.
    pub(crate) fn waiting_key(&self, name: &CertName) -> PathBuf {
        self.dir.join("private").join(format!("{name}.key.quoll-waiting"))
    }

    pub(crate) fn request(&self, name: &CertName) -> PathBuf {
        self.request_of(Shelf::Issued, name.as_str())
    }

    pub(crate) fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.dir.join(match shelf {
            Shelf::Issued => "issued",
            Shelf::Renewed => "renewed/issued",
            Shelf::Expired => "expired",
        })
    }

    pub(crate) fn certificate(&self, shelf: Shelf, stem: &str) -> PathBuf {
        self.shelf(shelf).join(format!("{stem}.crt"))
    }

    pub(crate) fn key_of(&self, shelf: Shelf, stem: &str) -> PathBuf {
        let folder = if shelf == Shelf::Renewed { "renewed/private" } else { "private" };
        self.dir.join(folder).join(format!("{stem}.key"))
    }

    pub(crate) fn request_of(&self, shelf: Shelf, stem: &str) -> PathBuf {
        let folder = if shelf == Shelf::Renewed { "renewed/reqs" } else { "reqs" };
        self.dir.join(folder).join(format!("{stem}.req"))
    }

    pub(crate) fn by_serial(&self, serial: &Serial) -> PathBuf {
        self.dir.join("certs_by_serial").join(format!("{serial}.pem"))
    }

    /// Where Easy-RSA 3.0.6 to 3.0.9 put a renewed certificate.
    pub(crate) fn renewed_by_serial(&self, serial: &Serial) -> PathBuf {
        self.dir.join("renewed/certs_by_serial").join(format!("{serial}.crt"))
    }

    pub(crate) fn revoked_certificate(&self, serial: &Serial) -> PathBuf {
        self.revoked("certs_by_serial", serial, "crt")
    }

    pub(crate) fn revoked_key(&self, serial: &Serial) -> PathBuf {
        self.revoked("private_by_serial", serial, "key")
    }

    pub(crate) fn revoked_request(&self, serial: &Serial) -> PathBuf {
        self.revoked("reqs_by_serial", serial, "req")
    }

    /// Files that hold certificate and key together for handing out; Easy-RSA removes them at revocation.
    pub(crate) fn inline(&self, stem: &str) -> [PathBuf; 3] {
        [format!("{stem}.creds"), format!("inline/{stem}.inline"), format!("inline/private/{stem}.inline")]
            .map(|file| self.dir.join(file))
    }

    /// Exports (`easyrsa export-p12` and so on) and where Easy-RSA moves them at revocation.
    pub(crate) fn exports(&self, stem: &str, serial: &Serial) -> Vec<(PathBuf, PathBuf)> {
        let mut out = Vec::new();
        for kind in ["p12", "p7b", "p8", "p1"] {
            for (folder, revoked) in [("issued", "certs_by_serial"), ("private", "private_by_serial")] {
                out.push((
                    self.dir.join(folder).join(format!("{stem}.{kind}")),
                    self.revoked(revoked, serial, kind),
                ));
            }
        }
        out
    }

    fn revoked(&self, folder: &str, serial: &Serial, kind: &str) -> PathBuf {
        self.dir.join("revoked").join(folder).join(format!("{serial}.{kind}"))
    }
}
