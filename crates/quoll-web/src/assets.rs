//! Style, script and picture, inside the binary. A name carries a hash of its content, so that a browser may keep it
//! for a year and still sees every change at once.

use axum::http::Uri;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::site::Name;

/// A file that is served as it stands.
pub(crate) struct Asset {
    stem: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: &'static str,
    hash: u64,
}

pub(crate) const STYLE: Asset =
    Asset::new("quoll", "css", "text/css; charset=utf-8", include_str!("../assets/quoll.css"));
pub(crate) const SCRIPT: Asset =
    Asset::new("live", "js", "text/javascript; charset=utf-8", include_str!("../assets/live.js"));
pub(crate) const FAVICON: Asset =
    Asset::new("quoll", "svg", "image/svg+xml", include_str!("../assets/quoll.svg"));

/// `/assets/NAME`; a name with another version's hash is not found.
pub(crate) async fn asset(uri: Uri, Name(name): Name) -> Response {
    for asset in [&STYLE, &SCRIPT, &FAVICON] {
        if asset.file_name() == name {
            let headers = [
                (header::CONTENT_TYPE, asset.media_type),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            return (headers, asset.content).into_response();
        }
    }
    Problem::NoSuchPlace(uri.path().to_owned()).into_response_at(uri.path())
}

impl Asset {
    const fn new(
        stem: &'static str,
        extension: &'static str,
        media_type: &'static str,
        content: &'static str,
    ) -> Self {
        Self { stem, extension, media_type, content, hash: fnv1a(content.as_bytes()) }
    }

    /// Where it is served.
    pub(crate) fn path(&self) -> String {
        format!("/assets/{}", self.file_name())
    }

    fn file_name(&self) -> String {
        format!("{}-{:016x}.{}", self.stem, self.hash, self.extension)
    }
}

/// FNV-1a, 64 bits: tells versions of our own files apart; guards against nobody.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
