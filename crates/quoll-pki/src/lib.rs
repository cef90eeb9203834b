//! A private certificate authority whose truth is an Easy-RSA `pki/` folder.
//!
//! `easyrsa` and Quoll may take turns on the same folder: there is no second database. What this crate is not: it speaks
//! neither MQTT nor Tasmota, asks no clock (`now` is an argument) and decides nothing about who may connect.
//!
//! | to | read |
//! |---|---|
//! | open or create a folder, list, look up, revoke | [`Pki`] (`store/`) |
//! | issue, renew, rekey, publish the CRL, make the CA last longer | [`Authority`], from [`Pki::unlock`]; `life/` |
//! | look at everything at once | [`Pki::check`]; who stumbles over what: [`fitness`] |
//! | sign requests from elsewhere, by the hundred | [`Authority::issue_batch`] |
//! | go from one CA to the next | [`rollover`] |
//! | carry requests and answers between machines | [`bundle`] |
//! | say what is wanted | [`IssueRequest`], [`Profile`] (`profile/profiles.toml`), [`Subject`], [`Vars`], [`AltNames`] |
//! | look at a certificate or key | [`Certificate`], [`PrivateKey`], [`Serial`] |
//! | know what went wrong and what to do | [`PkiError`] and its `hint()` |

mod authority;
mod batch;
mod builder;
pub mod bundle;
mod certificate;
mod check;
mod crl;
mod dates;
mod error;
pub mod fitness;
mod key;
mod key_file;
mod life;
pub mod limits;
mod name;
mod name_constraints;
mod passphrase;
mod pem;
mod pkcs12;
mod profile;
mod random;
mod request;
mod revocation;
pub mod rollover;
mod serial;
mod store;
mod subject;
mod vars;

pub use crate::{
    authority::Authority,
    batch::{BatchIssued, CHUNK, Wanted},
    certificate::{Certificate, CertificateError, PublicKeyKind, SignatureKind},
    check::{CertificateState, Chain, CheckedCertificate, FolderCheck, Problem},
    crl::{CrlStatus, PublishedCrl},
    error::{Obstacle, PkiError},
    key::{KeyKind, PrivateKey},
    key_file::KeyProtection,
    life::{ExtendedCa, Rekeyed, Renewal},
    name::{CertName, CertNameError},
    passphrase::Passphrase,
    pkcs12::Pkcs12Form,
    profile::{Profile, UserProfile},
    request::{AltNames, IfTaken, IssueRequest, Issued, KeySource, KeyStorage, Renewed},
    revocation::{Released, RevocationReason, RevocationReasonError, Revoked},
    serial::{Serial, SerialError},
    store::{
        NewCa, Pki,
        index::{EntryState, IndexEntry},
    },
    subject::{Organisation, Subject},
    vars::Vars,
};
