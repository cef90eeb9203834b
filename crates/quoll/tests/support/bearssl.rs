//! A client on the BearSSL library, set up as Tasmota sets it up, and the keys that it is given.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use quoll_pki::{CertName, Passphrase, Pki};
use quoll_tasmota::{Road, TlsKey1, TlsKey2};

use super::{Home, complaint, shared, tool};

/// Builds the device once.
pub(crate) fn device() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bearssl-device");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["Makefile", "bearssl-device.c"] {
            std::fs::copy(shared("tools/bearssl-device").join(name), folder.join(name)).unwrap();
        }
        let made = tool("make", &["-C", &folder.display().to_string()]);
        assert!(made.status.success(), "libbearssl-dev is needed (scripts/setup): {}", complaint(&made));
        folder.join("bearssl-device")
    })
}

/// The two console lines of a virtual device's credentials, as a person would paste them.
pub(crate) fn tls_keys(home: &Home, folder: &str, name: &str) -> PathBuf {
    let pki = Pki::open(&home.path(folder)).unwrap();
    let passphrase = Passphrase::from_file(&home.path("ca-passphrase")).unwrap();
    let name = CertName::parse(name).unwrap();
    let key = pki.private_key(&name, &passphrase).unwrap();
    let certificate = pki.certificate(&name).unwrap().unwrap();
    let scalar = key.ec_scalar().unwrap();
    let key = TlsKey1::new(&scalar).unwrap();
    let certificate = TlsKey2::new(certificate.der(), Road::Http).unwrap();
    let path = home.path(&format!("{folder}-{name}.tlskeys"));
    std::fs::write(&path, format!("TLSKey1 {}\nTLSKey2 {}\n", key.base64().as_str(), certificate.base64()))
        .unwrap();
    path
}
