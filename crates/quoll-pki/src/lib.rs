//! A private certificate authority whose truth is an Easy-RSA `pki/` folder.
//!
//! `easyrsa` and Quoll may take turns on the same folder: there is no second database. What this crate is not: it speaks
//! neither MQTT nor Tasmota, asks no clock (`now` is an argument) and decides nothing about who may connect.
//!
//! | to | read |
//! |---|---|
//! | open or create a folder, list, look up, revoke | [`Pki`] (`store/`) |
//! | issue, renew, publish the CRL | [`Authority`], from [`Pki::unlock`] |
//! | say what is wanted | [`IssueRequest`], [`Profile`] (a table), [`Subject`], [`AltNames`] |
//! | look at a certificate or key | [`Certificate`], [`PrivateKey`], [`Serial`] |
//! | know what went wrong and what to do | [`PkiError`] and its `hint()` |

mod authority;
mod builder;
mod certificate;
mod crl;
mod dates;
mod error;
mod key;
mod key_file;
pub mod limits;
mod name;
mod passphrase;
mod pem;
mod profile;
mod random;
mod request;
mod revocation;
mod serial;
mod store;
mod subject;

pub use crate::{
    authority::Authority,
    certificate::{Certificate, CertificateError},
    error::{Obstacle, PkiError},
    key::{KeyKind, PrivateKey},
    name::{CertName, CertNameError},
    passphrase::Passphrase,
    profile::Profile,
    request::{AltNames, IfTaken, IssueRequest, Issued, KeySource, KeyStorage, Renewed},
    revocation::{RevocationReason, RevocationReasonError, Revoked},
    serial::{Serial, SerialError},
    store::{
        NewCa, Pki,
        index::{EntryState, IndexEntry},
    },
    subject::{Organisation, Subject},
};
