//! Three machines: the server asks (`NAME.quollreq`), the CA's machine without a network answers (`NAME.quollcert`), the
//! server accepts; and what a compiling machine needs (`NAME.quollanchors`). Each file is a plain tar whose first member
//! is `manifest.json`, which names every other member with its SHA-256.
//!
//! No private key can be in one: what is packed is a [`archive::Member`], and that is a request, a certificate, a CRL or a
//! list, never bytes of the caller's.
//!
//! | to | read |
//! |---|---|
//! | make keys and ask | [`ask`] |
//! | sign what was asked | [`sign`] |
//! | take the answer in | [`accept`] |
//! | hand out trust anchors | [`anchors`] |
//! | know what is in the files | [`manifest`], [`archive`], [`Phrase`], [`SigningRequest`] |
//! | know what went wrong | [`BundleError`] |
//!
//! What it is not: a channel. Nothing here is secret; whoever carries the files can read them, and a change shows.

pub mod accept;
pub mod anchors;
mod archive;
pub mod ask;
mod books;
mod clock;
mod error;
pub mod manifest;
mod phrase;
pub mod sign;
mod signing_request;
pub(crate) mod verify;

pub(crate) use self::verify::made_kind;
pub use self::{
    error::BundleError,
    phrase::{Phrase, PhraseError},
    signing_request::SigningRequest,
};

/// Most bytes of a bundle file: 10,000 certificates with a revocation list take half of it.
pub const BUNDLE_MAX: u64 = 64 << 20;
/// Most wants in one request: ten times the largest fleet this was made for.
pub const WANTS_MAX: usize = 10_000;
