//! HTTP for listeners that serve a site in MQTT's place (`protocol http_api`): a request in, an answer out. No socket in
//! here, and nothing of what there is to see: that is a [`Site`].
//!
//! GET and HEAD alone, without bodies; everything is bounded. Connections are served in `arrivals`.

use std::fmt;
use std::fs::File;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::limits::{HTTP_HEADERS, MAX_HTTP_REQUEST};
use crate::upgrade::words;

/// What a listener shows to browsers and scripts.
#[async_trait]
pub trait Site: fmt::Debug + Send + Sync {
    /// Answers a request.
    async fn answer(&self, request: &HttpRequest) -> HttpAnswer;
}

/// A request.
#[derive(Debug)]
pub struct HttpRequest {
    /// The path, percent-decoded, without the query; begins with `/` and has no control characters.
    pub path: String,
    /// User name and password (RFC 7617), where they were sent.
    pub credentials: Option<Credentials>,
}

/// A user name and a password.
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Status and its words: `404 Not Found`.
    pub status: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Further headers, each with its line end.
    pub headers: &'static str,
    /// What it shows.
    pub body: HttpBody,
}

/// What an answer shows.
#[derive(Debug)]
pub enum HttpBody {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of a file, from its start.
    File(File, u64),
}

impl HttpAnswer {
    /// An answer in words.
    #[must_use]
    pub fn text(status: &'static str, words: &str) -> Self {
        let body = HttpBody::Bytes(format!("{words}\n").into_bytes());
        Self { status, content_type: "text/plain; charset=utf-8", headers: "", body }
    }

    /// Everything before the body. `stays`: whether further requests may come on this connection.
    pub(crate) fn head(&self, stays: bool) -> Vec<u8> {
        let length = match &self.body {
            HttpBody::Bytes(bytes) => bytes.len() as u64,
            HttpBody::File(_, length) => *length,
        };
        let Self { status, content_type, headers, .. } = self;
        let connection = if stays { "keep-alive" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}\
             X-Content-Type-Options: nosniff\r\nConnection: {connection}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// What became of the bytes that came.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The request is not there whole.
    Incomplete,
    /// A request.
    For(Wish),
    /// What cannot be answered; the connection ends with this.
    Refused(HttpAnswer),
}

/// A request, and what else has to be known of it.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) request: HttpRequest,
    /// HEAD: the answer without its body.
    pub(crate) is_head: bool,
    /// Whether the connection may go on.
    pub(crate) stays: bool,
    /// Bytes of it.
    pub(crate) used: usize,
}

/// Reads the request at the front of `input`.
pub(crate) fn read(input: &[u8]) -> Asked {
    let refused = |status, words| Asked::Refused(HttpAnswer::text(status, words));
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(input) {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HTTP_REQUEST => used,
        Ok(httparse::Status::Partial) if input.len() < MAX_HTTP_REQUEST => return Asked::Incomplete,
        Err(httparse::Error::TooManyHeaders) | Ok(_) => {
            return refused("431 Request Header Fields Too Large", "the request is too long");
        }
        Err(_) => return refused("400 Bad Request", "this is no HTTP request"),
    };
    let all = |name: &'static str| {
        let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| std::str::from_utf8(header.value).unwrap_or("\u{FFFD}").trim())
    };
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => {
            let mut answer = HttpAnswer::text("405 Method Not Allowed", "there is nothing to change here");
            answer.headers = "Allow: GET, HEAD\r\n";
            return Asked::Refused(answer);
        }
    };
    // What a body is would have to be agreed on with every proxy on the way (RFC 9112 §11.2).
    if all("Transfer-Encoding").next().is_some() || all("Content-Length").any(|length| length != "0") {
        return refused("400 Bad Request", "a request without a body is expected");
    }
    let is_1_1 = request.version == Some(1);
    if is_1_1 && all("Host").count() != 1 {
        return refused("400 Bad Request", "the request needs exactly one Host");
    }
    let Some(path) = request.path.and_then(path) else {
        return refused("400 Bad Request", "this is no path");
    };
    let closes = words(request.headers, "Connection").any(|word| word.eq_ignore_ascii_case("close"));
    let credentials = all("Authorization").next().and_then(credentials);
    Asked::For(Wish { request: HttpRequest { path, credentials }, is_head, stays: is_1_1 && !closes, used })
}

/// The path of a request's target, decoded (RFC 3986 §2.1).
fn path(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?;
    if !path.starts_with('/') {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().filter(|path| !path.contains(char::is_control))
}

/// `Basic` and user name and password in Base64 (RFC 7617 §2).
fn credentials(header: &str) -> Option<Credentials> {
    let (scheme, code) = header.split_once(' ')?;
    let plain = Zeroizing::new(BASE64.decode(code.trim()).ok()?);
    let colon =
        plain.iter().position(|byte| *byte == b':').filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let username = String::from_utf8(plain[..colon].to_vec()).ok()?;
    Some(Credentials { username, password: Zeroizing::new(plain[colon + 1..].to_vec()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str) -> Asked {
        read(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_with_its_path_decoded_and_its_query_left() {
        let text =
            "GET /a%20b/%C3%BC.html?x=/y HTTP/1.1\r\nHost: h\r\nAuthorization: basic YW5uOnA6cQ==\r\n\r\nGET";
        for cut in 0..text.len() - "GET".len() {
            assert!(matches!(asked(&text[..cut]), Asked::Incomplete), "cut at {cut}");
        }
        let Asked::For(wish) = asked(text) else { panic!("not read") };
        assert_eq!((wish.request.path.as_str(), wish.used), ("/a b/ü.html", text.len() - 3));
        assert!(wish.stays && !wish.is_head);
        let credentials = wish.request.credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_slice()), ("ann", &b"p:q"[..]));
        assert!(!format!("{credentials:?}").contains("p:q"));
        for (text, stays) in [
            ("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", false),
            ("HEAD / HTTP/1.0\r\n\r\n", false),
            ("HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", true),
        ] {
            let Asked::For(wish) = asked(text) else { panic!("{text}") };
            assert!(wish.is_head && wish.stays == stays && wish.request.credentials.is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_question_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MAX_HTTP_REQUEST));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HTTP_HEADERS + 1));
        for (text, status) in [
            ("\x16\x03\x01\x02\x00", "400"),
            ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
            ("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
            ("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
            ("GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
            ("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
            (&long, "431"),
            (&many, "431"),
        ] {
            let Asked::Refused(answer) = asked(text) else { panic!("{text:?}") };
            assert!(answer.status.starts_with(status), "{text:?}: {}", answer.status);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for front in ["", "GET /", "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic "] {
                let input = [front.as_bytes(), &bytes].concat();
                if let Asked::For(wish) = read(&input) {
                    prop_assert!(wish.used <= input.len() && wish.request.path.starts_with('/'));
                }
            }
        }
    }
}
