//! Windows: what the owner of a fleet sees at a glance, as pages, as JSON, and live. Reads only; steers nothing.
//!
//! Knows how to show and how to speak HTTP to a browser on the same machine. Does not know where the facts come from:
//! the program hands in a [`Source`].
//!
//! ```text
//! source    what is shown, and who answers for it      view     the nouns on the pages and in the JSON
//! serve     sockets in, bounded; leaves in order       site     the tree of addresses
//! door      who may ask, and how answers are sealed    problem  what went wrong, RFC 9457
//! api       JSON                                       live     server-sent events, as JSON and as HTML
//! pages     HTML, readable without script              assets   style, script and picture, inside the binary
//! lists     revocation lists, for everybody
//! limits    every bound with its reason
//! ```

mod api;
mod assets;
mod door;
pub mod limits;
mod lists;
mod live;
mod pages;
mod problem;
mod serve;
mod site;
mod source;
pub mod view;

pub use serve::{serve, serve_lists};
pub use source::{Live, RevocationList, Source};
