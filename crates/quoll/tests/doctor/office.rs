//! Certificates, good and bad, made by openssl.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::support;

/// What makes a server's certificate one.
pub(crate) const SERVER: &str =
    "keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth";
/// The name that devices check.
pub(crate) const NAMED: &str = "subjectAltName=DNS:127.0.0.1";

/// The folder.
pub(crate) struct Office {
    dir: tempfile::TempDir,
}

impl Office {
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn openssl(&self, words: &[&str]) -> Vec<u8> {
        let output = support::tool("openssl", words);
        assert!(output.status.success(), "{words:?}: {}", support::complaint(&output));
        output.stdout
    }

    pub(crate) fn key(&self, name: &str, kind: &str) {
        let (algorithm, options): (&str, Vec<String>) = match kind {
            "EC" => ("EC", vec!["ec_paramgen_curve:P-256".into()]),
            // More primes are found sooner.
            bits if bits.parse::<u32>().unwrap() > 4000 => {
                ("RSA", vec![format!("rsa_keygen_bits:{bits}"), "rsa_keygen_primes:4".into()])
            }
            bits => ("RSA", vec![format!("rsa_keygen_bits:{bits}")]),
        };
        let path = self.path(&format!("{name}.key"));
        let mut words = vec!["genpkey", "-out", &path, "-algorithm", algorithm];
        options.iter().for_each(|option| words.extend(["-pkeyopt", option]));
        self.openssl(&words);
    }

    /// A new folder with the CA that devices trust, and one that nobody does.
    pub(crate) fn open() -> Self {
        let office = Self { dir: tempfile::tempdir().unwrap() };
        office.root("root", "2048");
        office.root("stranger", "2048");
        office.key("server", "2048");
        office.sign("server", "server", "root", &format!("{SERVER}\n{NAMED}"), &[]);
        office
    }

    pub(crate) fn root(&self, name: &str, kind: &str) {
        self.key(name, kind);
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
        let subject = format!("/CN={name}");
        let words = ["req", "-x509", "-new", "-sha256", "-days", "3650", "-subj", &subject, "-key", &key];
        let more = ["-out", &certificate, "-addext", "basicConstraints=critical,CA:TRUE"];
        self.openssl(&[&words[..], &more[..]].concat());
    }

    /// A certificate for a key that is there already.
    pub(crate) fn sign(&self, name: &str, key: &str, issuer: &str, extensions: &str, more: &[&str]) {
        self.sign_as(name, name, key, issuer, extensions, more);
    }

    /// The same with another common name than that of its file.
    pub(crate) fn sign_as(
        &self,
        name: &str,
        common_name: &str,
        key: &str,
        issuer: &str,
        extensions: &str,
        more: &[&str],
    ) {
        let (request, ending) = (self.path(&format!("{name}.csr")), self.path(&format!("{name}.ext")));
        let (key, certificate) = (self.path(&format!("{key}.key")), self.path(&format!("{name}.crt")));
        let (ca, ca_key) = (self.path(&format!("{issuer}.crt")), self.path(&format!("{issuer}.key")));
        std::fs::write(&ending, extensions).unwrap();
        self.openssl(&[
            "req",
            "-new",
            "-subj",
            &format!("/CN={common_name}"),
            "-key",
            &key,
            "-out",
            &request,
        ]);
        let words = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let rest = ["-extfile", &ending, "-out", &certificate];
        let defaults = ["-days", "3650", "-sha256"];
        let kind = if more.is_empty() { &defaults[..] } else { more };
        self.openssl(&[&words[..], &rest[..], kind].concat());
    }

    pub(crate) fn der(&self, name: &str) -> Vec<u8> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap().to_vec()
    }

    /// TLSKey1 and TLSKey2 as they are typed.
    pub(crate) fn tls_key(&self, key: &str, certificate: &str) -> Vec<String> {
        let sec1 = self.openssl(&["ec", "-in", &self.path(&format!("{key}.key")), "-outform", "DER"]);
        // SEC1: SEQUENCE, INTEGER 1, OCTET STRING of 32 bytes.
        vec![
            format!("TLSKey1 {}", base64(&sec1[7..39])),
            format!("TLSKey2 {}", base64(&self.der(certificate))),
        ]
    }
}

/// As TLSKey takes it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
