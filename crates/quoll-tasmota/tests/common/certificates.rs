//! Certificates for tests, made by the openssl command.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Key {
    Rsa2048,
    Rsa4096,
    P256,
    P384,
}

/// A certificate with its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    pub(crate) fn der(&self) -> Vec<u8> {
        super::der(&fs::read_to_string(&self.certificate).unwrap())
    }

    /// The raw scalar of an EC key, from its SEC1 octet string.
    pub(crate) fn scalar(&self) -> [u8; 32] {
        let out = openssl(&["ec", "-in", text(&self.key), "-outform", "DER"]);
        // SEC1: SEQUENCE, INTEGER 1, OCTET STRING of 32 bytes.
        out[7..39].try_into().unwrap()
    }
}

/// A folder with certificates.
pub(crate) struct Office {
    dir: TempDir,
    next: Cell<u32>,
}

/// What a leaf is to look like.
pub(crate) struct Leaf<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: Key,
    pub(crate) issuer: &'a Identity,
    pub(crate) extensions: &'a str,
    pub(crate) digest: &'a str,
}

impl Office {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), next: Cell::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A self-signed CA.
    pub(crate) fn root(&self, name: &str, key: Key) -> Identity {
        let identity = self.identity(key);
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-sha256",
            "-days",
            "3650",
            "-subj",
            &format!("/O=Quoll test/CN={name}"),
            "-key",
            text(&identity.key),
            "-out",
            text(&identity.certificate),
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]);
        identity
    }

    /// Any certificate below a CA. Valid for ten years from now.
    pub(crate) fn leaf(&self, leaf: &Leaf<'_>) -> Identity {
        let identity = self.identity(leaf.key);
        let (request, extensions) = (self.file("csr"), self.file("ext"));
        fs::write(&extensions, leaf.extensions.replace(';', "\n")).unwrap();
        openssl(&[
            "req",
            "-new",
            "-subj",
            &format!("/CN={}", leaf.name),
            "-key",
            text(&identity.key),
            "-out",
            text(&request),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "3650",
            &format!("-{}", leaf.digest),
            "-in",
            text(&request),
            "-CA",
            text(&leaf.issuer.certificate),
            "-CAkey",
            text(&leaf.issuer.key),
            "-CAcreateserial",
            "-extfile",
            text(&extensions),
            "-out",
            text(&identity.certificate),
        ]);
        identity
    }

    /// A device certificate: CN only, the guide's reduced extensions.
    pub(crate) fn device(&self, name: &str, issuer: &Identity) -> Identity {
        let extensions = "basicConstraints=critical,CA:FALSE;keyUsage=critical,digitalSignature;\
                          subjectKeyIdentifier=hash;authorityKeyIdentifier=keyid";
        self.leaf(&Leaf { name, key: Key::P256, issuer, extensions, digest: "sha256" })
    }

    /// Several certificates in one file.
    pub(crate) fn bundle(&self, certificates: &[&Identity]) -> PathBuf {
        let path = self.file("bundle.pem");
        let all: String =
            certificates.iter().map(|one| fs::read_to_string(&one.certificate).unwrap()).collect();
        fs::write(&path, all).unwrap();
        path
    }

    fn identity(&self, kind: Key) -> Identity {
        let identity = Identity { certificate: self.file("crt"), key: self.file("key") };
        let options: &[&str] = match kind {
            Key::Rsa2048 => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Key::Rsa4096 => &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
            Key::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Key::P384 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        };
        openssl(&[&["genpkey", "-out", text(&identity.key), "-algorithm"], options].concat());
        identity
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.dir.path().join(format!("{}.{ending}", self.next.get()))
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl").args(arguments).output().expect("these tests need the openssl command");
    assert!(out.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}
