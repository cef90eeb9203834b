//! The live identity of a TLS listener: chain, key, client roots, revoked set. One value, swapped whole.
//!
//! A swap affects handshakes from then on; connections that are up go on with the keys they have. Ending those whose
//! certificate is revoked is [`crate::Handle::expel`]'s work.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite};
use thiserror::Error;

use super::verifier::RevocationAware;

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// They must: alert 116 otherwise.
    Required,
    /// They may; one that is shown must be good.
    Optional,
    /// They are not asked.
    None,
}

/// What an identity is made of.
pub struct IdentityParts {
    /// The server's certificate, then its intermediates, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server certificate's key.
    pub key: PrivateKeyDer<'static>,
    /// CAs whose client certificates are taken.
    pub client_roots: Vec<CertificateDer<'static>>,
    /// Credentials that are revoked: see [`super::credential`].
    pub revoked: HashSet<[u8; 32]>,
    /// Whether clients must show a certificate.
    pub client_auth: ClientAuth,
}

impl fmt::Debug for IdentityParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityParts")
            .field("chain", &self.chain.len())
            .field("client_roots", &self.client_roots.len())
            .field("revoked", &self.revoked.len())
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

/// What of TLS is spoken; all there is by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsPolicy {
    /// TLS 1.3 alone.
    pub only_13: bool,
    /// Suites for TLS 1.2, in the order of preference; `None`: all there are.
    pub suites_12: Option<Vec<CipherSuite>>,
    /// Suites for TLS 1.3 likewise.
    pub suites_13: Option<Vec<CipherSuite>>,
    /// Client certificates are taken though they have run out, or are not valid yet
    /// (`disable_client_cert_date_checks`). All else about them is checked.
    pub ignore_client_dates: bool,
}

impl TlsPolicy {
    fn choose(&self, all: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
        let of = |is_13: bool, wanted: Option<&Vec<CipherSuite>>| -> Vec<SupportedCipherSuite> {
            let mine = all.iter().filter(|suite| suite.tls13().is_some() == is_13).copied();
            let Some(wanted) = wanted else { return mine.collect() };
            let mine: Vec<_> = mine.collect();
            let find = |name: &CipherSuite| mine.iter().find(|suite| suite.suite() == *name).copied();
            wanted.iter().filter_map(find).collect()
        };
        let mut chosen = of(true, self.suites_13.as_ref());
        chosen.extend(of(false, self.suites_12.as_ref()));
        chosen
    }
}

/// An identity, ready for handshakes. Immutable; cheap to clone.
#[derive(Clone)]
pub struct TlsIdentity {
    /// For no limit on record sizes, then 512, 1024, 2048, 4096.
    configs: [Arc<ServerConfig>; 5],
    revoked: Arc<HashSet<[u8; 32]>>,
}

impl TlsIdentity {
    /// Checks the parts and makes an identity of them.
    ///
    /// # Errors
    /// Where the key is not the certificate's, a certificate cannot be used, or clients must show certificates and there
    /// is no root to check them with.
    pub fn new(parts: IdentityParts) -> Result<Self, IdentityError> {
        Self::with_policy(parts, &TlsPolicy::default())
    }

    /// The same, speaking only some of TLS.
    ///
    /// # Errors
    /// As [`TlsIdentity::new`].
    pub fn with_policy(parts: IdentityParts, policy: &TlsPolicy) -> Result<Self, IdentityError> {
        if parts.chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = policy.choose(&provider.cipher_suites);
        let provider = Arc::new(provider);
        let both = [&rustls::version::TLS12, &rustls::version::TLS13];
        let versions = if policy.only_13 { &both[1..] } else { &both[..] };
        let revoked = Arc::new(parts.revoked);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(IdentityError::Key)?;
        let builder = if parts.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let inner = inner_verifier(&parts.client_roots, parts.client_auth, provider)?;
            let revoked = Arc::clone(&revoked);
            let verifier = RevocationAware::new(inner, revoked, policy.ignore_client_dates);
            builder.with_client_cert_verifier(Arc::new(verifier))
        };
        let mut config = builder.with_single_cert(parts.chain, parts.key).map_err(IdentityError::Key)?;
        // A resumed session would skip the client certificate check (`spikes.md` D8); devices never resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let limited = |limit: usize| {
            let mut config = config.clone();
            // rustls counts the record's header of 5 bytes (`spikes.md` D2).
            config.max_fragment_size = Some(limit + 5);
            Arc::new(config)
        };
        let configs = [Arc::new(config.clone()), limited(512), limited(1024), limited(2048), limited(4096)];
        Ok(Self { configs, revoked })
    }

    /// Whether this credential is revoked.
    #[must_use]
    pub fn is_revoked(&self, credential: &[u8; 32]) -> bool {
        self.revoked.contains(credential)
    }

    /// The configuration for a peer that takes records of this many bytes of plaintext.
    pub(crate) fn config_for(&self, max_fragment_length: Option<u16>) -> Arc<ServerConfig> {
        let place = match max_fragment_length {
            Some(512) => 1,
            Some(1024) => 2,
            Some(2048) => 3,
            Some(4096) => 4,
            _ => 0,
        };
        Arc::clone(&self.configs[place])
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("revoked", &self.revoked.len()).finish_non_exhaustive()
    }
}

fn inner_verifier(
    roots: &[CertificateDer<'static>],
    client_auth: ClientAuth,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
    let mut store = RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        store.add(root.clone()).map_err(|source| IdentityError::Root { index, source })?;
    }
    if store.is_empty() {
        return Err(IdentityError::NoRoots);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    let builder = if client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|_| IdentityError::NoRoots)
}

/// The identity that a listener uses now. Clones share it: what one replaces, all see.
#[derive(Clone, Debug)]
pub struct LiveIdentity(Arc<ArcSwap<TlsIdentity>>);

impl LiveIdentity {
    /// Starts with this one.
    #[must_use]
    pub fn new(identity: TlsIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity)))
    }

    /// Uses another from now on, for handshakes that have not begun.
    pub fn replace(&self, identity: TlsIdentity) {
        self.0.store(Arc::new(identity));
    }

    /// The one in use.
    #[must_use]
    pub fn current(&self) -> Arc<TlsIdentity> {
        self.0.load_full()
    }

    /// Whether the identity in use says that this credential is revoked.
    #[must_use]
    pub fn is_revoked(&self, credential: &[u8; 32]) -> bool {
        self.0.load().is_revoked(credential)
    }
}

/// Why parts do not make an identity. The operator's fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The chain is empty.
    #[error("no server certificate")]
    NoCertificate,
    /// Certificate and key do not fit, or one cannot be used.
    #[error("server certificate or key cannot be used: {0}")]
    Key(#[source] rustls::Error),
    /// A client CA cannot be used.
    #[error("client CA number {} cannot be used: {source}", index + 1)]
    Root {
        /// Its place in the list, counted from 0.
        index: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Clients are to show certificates, and there is no CA to check them with.
    #[error("clients are asked for certificates, but there is no CA to check them with")]
    NoRoots,
}

impl IdentityError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Key(rustls::Error::InconsistentKeys(_)) => Some(
                "the key belongs to another certificate: use the one made with the certificate's request"
                    .into(),
            ),
            Self::Key(rustls::Error::InvalidCertificate(_)) => {
                Some("an X.509 version 1 certificate cannot be used: issue it again, with extensions".into())
            }
            Self::NoRoots => Some("name the CA that issued the device certificates".into()),
            _ => None,
        }
    }
}
