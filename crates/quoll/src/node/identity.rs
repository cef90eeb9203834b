//! What the listeners show of themselves, and the marks of the files that it is made of.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use quoll_fleet::registry::Registry;
use quoll_pki::Pki;
use quoll_server::tls::{ClientAuth, IdentityParts, TlsIdentity};

use crate::config::Settings;
use crate::directory::Credential;
use crate::failure::{Exit, Failure, Outcome};
use crate::rollover::Folders;
use crate::{trouble, workshop};

/// The TLS identities of the listeners: for mutual TLS, and for pinned devices.
pub(super) fn identities(
    settings: &Settings,
    folders: &Folders,
    revoked: &HashSet<Credential>,
) -> Outcome<[TlsIdentity; 2]> {
    // Not so much as asked: firmware with the feature and no key stored can crash when it is (facts §3.4).
    Ok([
        identity(settings, folders, revoked, ClientAuth::Required)?,
        identity(settings, folders, &HashSet::new(), ClientAuth::None)?,
    ])
}

fn identity(
    settings: &Settings,
    folders: &Folders,
    revoked: &HashSet<Credential>,
    client_auth: ClientAuth,
) -> Outcome<TlsIdentity> {
    let pki = folders.serving();
    let name = workshop::server_name(settings)?;
    let certificate = workshop::server_certificate(settings, pki)?;
    let pem = pki.server_key_pem(&name).map_err(|error| {
        let failure = trouble::pki(error);
        let hint = failure.hint.as_ref().map(|hint| {
            format!("{hint}; where there is none, `quoll server rekey` makes another key, and says what devices need then")
        });
        failure.maybe_hint(hint)
    })?;
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Unusable, format!("the key of the server {name} cannot be used")).why(why)
    };
    let key = <rustls_pki_types::PrivateKeyDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
        pem.as_bytes(),
    )
    .map_err(|error| unusable(&error))?;
    let ca = |pki: &Pki| rustls_pki_types::CertificateDer::from(pki.ca().der().to_vec());
    TlsIdentity::new(IdentityParts {
        chain: vec![rustls_pki_types::CertificateDer::from(certificate.der().to_vec())],
        key,
        client_roots: folders.all().map(ca).collect(),
        revoked: revoked.clone(),
        client_auth,
    })
    .map_err(|error| unusable(&error).maybe_hint(error.hint()))
}

/// Marks of the files that a node lives by; other marks, other contents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stamps {
    pub(super) server: Vec<Option<(SystemTime, u64)>>,
    index: Vec<Option<(SystemTime, u64)>>,
    registry: Option<i64>,
}

impl Stamps {
    pub(super) fn take(settings: &Settings, registry: &Registry) -> Self {
        let stamp = |path: PathBuf| {
            let meta = path.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        let name = workshop::server_name(settings).map(|name| name.to_string()).unwrap_or_default();
        let folders = [settings.pki.clone(), quoll_pki::rollover::next_folder(&settings.pki)];
        let server = folders.iter().flat_map(|pki| {
            ["ca.crt".into(), format!("issued/{name}.crt"), format!("private/{name}.key")]
                .map(|it| pki.join(it))
        });
        Self {
            server: server.map(stamp).collect(),
            index: folders.iter().map(|pki| stamp(pki.join("index.txt"))).collect(),
            registry: registry.data_version().ok(),
        }
    }
}
