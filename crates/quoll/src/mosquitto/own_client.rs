//! Quoll's own client at Mosquitto's door, where `mosquitto_pub` is not installed. It looks at the CA and the dates of the
//! server's certificate, not at its name, as the other does with `--insecure`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quoll_mqtt::client::{ClientOptions, Message};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicName};
use quoll_server::client::{Client, Target};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::proof::Identity;
use crate::failure::{Exit, Failure, Outcome, io_failure};

/// What is published; no message of anybody's has it.
const TOPIC: &str = "quoll/proof";

/// A visit, on a thread of its own with a runtime of its own: the caller may be in one. `None` where the client was let in.
pub(crate) fn visit(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Outcome<Option<String>> {
    let config = config(ca, identity)?;
    let target = Target { host: address.ip().to_string(), port: address.port(), tls: Some(config) };
    let failed = |why: String| Failure::new(Exit::System, "a client of the proof cannot be run").why(why);
    let visiting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let visit = async { tokio::time::timeout(super::proof::PATIENCE, knock(&target)).await };
        Ok::<_, std::io::Error>(runtime.block_on(visit))
    });
    let visited = visiting.join().map_err(|_| failed("its thread ended".into()))?;
    match visited.map_err(|error| failed(error.to_string()))? {
        Ok(complaint) => Ok(complaint),
        Err(_) => Ok(Some("it was kept waiting".into())),
    }
}

async fn knock(target: &Target) -> Option<String> {
    let topic = TopicName::parse(TOPIC).expect("it is a topic");
    let message = Message { qos: QoS::AtLeastOnce, ..Message::new(topic, Vec::new()) };
    let options = ClientOptions::new(ProtocolVersion::V311, "quoll-proof");
    let (mut client, _) = match Client::connect(target, options).await {
        Ok(connected) => connected,
        Err(error) => return Some(error.to_string()),
    };
    let taken = client.publish(&message).await;
    client.disconnect(ReasonCode::SUCCESS).await.ok();
    match taken {
        Ok(reason) if !reason.is_failure() => None,
        Ok(reason) => Some(format!("its message was refused: {reason}")),
        Err(error) => Some(error.to_string()),
    }
}

fn config(ca: &Path, identity: Option<&Identity>) -> Outcome<Arc<ClientConfig>> {
    let unusable = |path: &Path, why: &dyn std::fmt::Display| {
        Failure::new(Exit::Unusable, format!("{} cannot be used", path.display())).why(why)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unusable(ca, &error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(ca, &error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(ca, &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(rules)));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let text = fs::read(&identity.key).map_err(|error| io_failure("read", &identity.key, &error))?;
            let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(text))
                .map_err(|error| unusable(&identity.key, &error))?;
            builder
                .with_client_auth_cert(certificates(&identity.certificate)?, key)
                .map_err(|error| unusable(&identity.key, &error))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let text = fs::read(path).map_err(|error| io_failure("read", path, &error))?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|error| {
        Failure::new(Exit::Unusable, format!("{} cannot be used", path.display())).why(error)
    })
}

/// All of WebPKI's rules but the name, which is looked at last.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
