//! TLS towards another broker: whom a bridge trusts, what it shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::mosquitto::Files;
use crate::mosquitto::bridge::BridgeTls;
use crate::mosquitto::tls::MinimumVersion;
use crate::mosquitto::tls_files::{self, TlsFileError};

/// Where systems keep the CAs that they trust: Debian, Alpine; Fedora; SUSE; FreeBSD; macOS and OpenBSD.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/ssl/cert.pem",
];

/// Reads the files and makes the client's side of TLS.
///
/// # Errors
/// The first file that cannot be used.
pub fn client_config(tls: &BridgeTls, files: &dyn Files) -> Result<Arc<ClientConfig>, TlsFileError> {
    let read = |path: &Path| tls_files::content_of(path, files);
    let mut roots = RootCertStore::empty();
    let mut sources = Vec::new();
    if let Some(path) = &tls.roots.file {
        sources.push(path.clone());
    }
    if let Some(folder) = &tls.roots.folder {
        sources.extend(tls_files::hashed(folder)?);
    }
    for path in &sources {
        for certificate in tls_files::certificates(path, &read(path)?)? {
            let added = roots.add(certificate);
            added.map_err(|error| tls_files::unusable(path, format!("a CA cannot be used: {error}")))?;
        }
    }
    if tls.system_roots {
        let path = system_roots();
        // A bundle of many: one that cannot be understood is passed over, as OpenSSL does.
        let text = read(&path)?;
        for certificate in CertificateDer::pem_slice_iter(&text).flatten() {
            let _ = roots.add(certificate);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let at = sources.first().cloned().unwrap_or_else(system_roots);
    let verifier = Verifier::new(roots, &provider, tls.insecure);
    let verifier = verifier.map_err(|what| tls_files::unusable(&at, what))?;
    let versions: &[&SupportedProtocolVersion] = match tls.minimum {
        MinimumVersion::Tls13 => &[&rustls::version::TLS13],
        MinimumVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| tls_files::unusable(&at, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = tls_files::certificates(certificate, &read(certificate)?)?;
            let own = tls_files::key(key, &read(key)?)?;
            builder.with_client_auth_cert(chain, own).map_err(|error| {
                tls_files::unusable(certificate, format!("it does not go with {}: {error}", key.display()))
            })?
        }
    };
    config.alpn_protocols = tls.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // A resumed session would not look at the other broker's certificate again.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn system_roots() -> PathBuf {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = || SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(known).unwrap_or_else(|| SYSTEM_ROOTS[0].into())
}

/// WebPKI's rules, but for the name where the operator says so, or an old certificate says it in an old way.
#[derive(Debug)]
struct Verifier {
    rules: Arc<WebPkiServerVerifier>,
    any_name: bool,
}

impl Verifier {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>, any_name: bool) -> Result<Self, String> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let rules = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { rules, any_name })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.rules.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last: everything else was found in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name || is_named_the_old_way(end_entity, &server_name.to_str()) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

/// What Mosquitto takes beside what WebPKI does: the common name of a certificate without alternative names, and an address
/// that stands among the DNS names.
fn is_named_the_old_way(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => {
            let is_it = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(name) if *name == host);
            names.value.general_names.iter().any(is_it)
        }
        Ok(None) => {
            let mut common = certificate.subject().iter_common_name();
            common.any(|name| name.as_str().is_ok_and(|name| name.eq_ignore_ascii_case(host)))
        }
        Err(_) => false,
    }
}
