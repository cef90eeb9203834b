//! TLS for small devices: who we are, who they are, and records of a size that they can take.
//!
//! | room | what is in it |
//! |---|---|
//! | [`identity`] | chain, key, client roots, revoked set: one value, swapped whole |
//! | [`hello`] | what a ClientHello says, above all the record size that the peer can take |
//! | [`peer`] | what we learned about the peer's certificate |
//! | [`presented`] | the certificate of a handshake that failed over it |
//! | `verifier` | is this client certificate good: WebPKI first, then the revoked set |
//! | `record` | bytes of a socket to plaintext and back, through rustls' unbuffered API |
//!
//! TLS 1.2 and 1.3, AEAD suites alone, aws-lc-rs. No resumption and no tickets: a resumed session would skip the client
//! certificate. Extended master secret is not required: BearSSL, and so every Tasmota, does not offer it (facts: §3.1).

pub mod hello;
pub mod identity;
pub mod peer;
pub mod presented;
pub(crate) mod record;
pub(crate) mod verifier;

pub use hello::HelloFacts;
pub use identity::{ClientAuth, IdentityError, IdentityParts, LiveIdentity, TlsIdentity, TlsPolicy};
pub use peer::{PeerCertificate, credential};
pub use presented::PresentedCertificate;
