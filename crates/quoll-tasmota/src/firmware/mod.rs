//! What a Tasmota that trusts our CA, or our server's key, is compiled from.
//!
//! No released image knows a private CA or has client certificates (facts §0.1, §0.2), so somebody has to compile. This
//! room writes the files for that and reads those that are there.
//!
//! | to | read |
//! |---|---|
//! | turn a CA's certificate into what BearSSL compiles in | [`TrustAnchor`] |
//! | know what a version of Tasmota can do | [`Release`] |
//! | have the files written, or the reasons why not | [`Kit`], [`Sources`], [`KitError`] |
//! | put a section into a file that is somebody's, and touch nothing else of it | [`merge`] |
//! | hear what is wrong in a `user_config_override.h` | [`lint()`], [`Finding`] |
//!
//! Pure: texts in, texts out. It opens no file and compiles nothing.

mod anchor;
mod condition;
mod directive;
mod headers;
mod kit;
pub mod lint;
mod marked;
mod release;
mod section;

pub use self::{
    anchor::{AnchorError, AnchorKey, Curve, TrustAnchor},
    headers::{HEADER_MARK, is_our_header},
    kit::{ANCHORS_MAX, Kit, KitError, Sources, Trust},
    lint::{Finding, Level, Target, lint},
    marked::{Comment, MergeError, begins_a_section, merge},
    release::{Release, ReleaseError, source_version},
};
pub use crate::virtual_device::Chip;
