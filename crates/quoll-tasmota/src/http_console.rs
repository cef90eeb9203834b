//! The HTTP console: `GET /cm?cmnd=…`, and the web log `GET /cs?c2=…`. Facts §7.1, §7.4.
//!
//! One request per connection, plain HTTP (devices have no other). Everything but unreserved characters is
//! percent-encoded: a bare `+` would arrive as a blank and damage a certificate without an error (facts §0.5). Before
//! each secret command the device is asked a harmless question: nothing secret goes to something that does not call
//! itself Tasmota, even if an address changed hands in between. No URL, command or body is ever logged or put into an error. (The HTTP library's own copy of a
//! request target is the one piece of memory that is freed without being zeroised.)

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{AUTHORIZATION, HOST, HeaderValue, REFERER, SERVER},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use zeroize::Zeroizing;

use crate::{
    command::{Command, StatusPage},
    console::{Console, ConsoleError},
    limits::{ANSWER_PATIENCE, BODY_BYTES, COMMAND_CHARS, CONNECT_PATIENCE},
    reply::{Reply, ReplyError},
};

/// A device's HTTP console.
pub struct HttpConsole {
    host: String,
    port: u16,
    password: Option<Zeroizing<String>>,
    connect_patience: Duration,
    answer_patience: Duration,
}

/// A piece of a device's web log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogPage {
    /// To be passed to the next [`HttpConsole::log`].
    pub next: u32,
    /// The lines, oldest first.
    pub lines: Vec<String>,
}

impl HttpConsole {
    /// A device at a host name or IP address (no brackets around IPv6) and port, usually 80.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            password: None,
            connect_patience: CONNECT_PATIENCE,
            answer_patience: ANSWER_PATIENCE,
        }
    }

    /// With the device's web password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(Zeroizing::new(password.into()));
        self
    }

    /// With other times to wait: for the connection, and for the whole answer.
    #[must_use]
    pub fn with_patience(mut self, connect: Duration, answer: Duration) -> Self {
        self.connect_patience = connect;
        self.answer_patience = answer;
        self
    }

    /// The web log from an index on; 0 for everything the device still has (some 4 KiB).
    ///
    /// # Errors
    /// As [`Console::ask`].
    pub async fn log(&self, from: u32) -> Result<LogPage, ConsoleError> {
        let body = self.fetch(&Zeroizing::new(format!("/cs?c2={from}"))).await?;
        let text = String::from_utf8_lossy(&body);
        // <next>}1<flag>}1<lines>}1, and JSON in the lines may hold a }1 of its own.
        let mut parts = text.splitn(3, "}1");
        let next = parts.next().and_then(|index| index.trim().parse().ok());
        let Some(next) = next else {
            return Err(self.malformed(ReplyError::Shape { field: "log", expected: "an index and lines" }));
        };
        let lines = parts.nth(1).unwrap_or_default();
        let lines = lines.strip_suffix("}1").unwrap_or(lines).lines().map(str::trim_end);
        Ok(LogPage { next, lines: lines.filter(|line| !line.is_empty()).map(str::to_owned).collect() })
    }

    async fn ask_checked(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let chars = command.text().len();
        if chars > COMMAND_CHARS {
            return Err(ConsoleError::TooLong { chars, limit: COMMAND_CHARS });
        }
        let mut target = Zeroizing::new(String::with_capacity(16 + 3 * chars));
        target.push_str("/cm?cmnd=");
        percent_encode(command.text(), &mut target);
        let body = self.fetch(&target).await?;
        let reply = Reply::parse(&body).map_err(|why| self.malformed(why))?;
        match reply.warning() {
            Some(text) if text.starts_with("Need user") => Err(self.unauthorized()),
            Some(_) => Err(ConsoleError::EmptyCommand { address: self.address() }),
            None => Ok(reply),
        }
    }

    async fn fetch(&self, target: &Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>, ConsoleError> {
        match timeout(self.answer_patience, self.fetch_patiently(target)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.timeout(self.answer_patience)),
        }
    }

    async fn fetch_patiently(&self, target: &Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>, ConsoleError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let socket = match timeout(self.connect_patience, connecting).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                return Err(ConsoleError::Unreachable { address: self.address(), why: error.to_string() });
            }
            Err(_) => return Err(self.timeout(self.connect_patience)),
        };
        let handshake = hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        let request = self.request(target)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.without_answer(&error))?;
            self.read(response).await
        };
        // The connection has to be driven while the exchange waits for it; its own error shows up in the exchange.
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    fn request(&self, target: &Zeroizing<String>) -> Result<Request<Empty<Bytes>>, ConsoleError> {
        let host = self.host_header();
        let request =
            Request::get(target.as_str()).header(HOST, &host).header(REFERER, format!("http://{host}/"));
        let request = match &self.password {
            Some(password) => {
                let pair = Zeroizing::new(format!("admin:{}", **password));
                let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
                let mut value = HeaderValue::from_str(&basic).map_err(|_| self.unauthorized())?;
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            None => request,
        };
        request.body(Empty::new()).map_err(|_| ConsoleError::Unreachable {
            address: self.address(),
            why: "the host name is not one".into(),
        })
    }

    async fn read(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Zeroizing<Vec<u8>>, ConsoleError> {
        let server = response.headers().get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !server.starts_with("Tasmota/") {
            let seen = match server {
                "" => format!("HTTP status {} and no Server header", response.status().as_u16()),
                other => format!("it calls itself {:?}", other.chars().take(60).collect::<String>()),
            };
            return Err(ConsoleError::NotTasmota { address: self.address(), seen });
        }
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.unauthorized());
        }
        let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
        let body = match body {
            Ok(body) => Zeroizing::new(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(self.malformed(ReplyError::TooLong { bytes: BODY_BYTES + 1, limit: BODY_BYTES }));
            }
            Err(_) => {
                let why = "the answer is incomplete".into();
                return Err(ConsoleError::Broken { address: self.address(), why });
            }
        };
        if status != StatusCode::OK {
            let seen = format!("HTTP status {}", status.as_u16());
            return Err(ConsoleError::NotTasmota { address: self.address(), seen });
        }
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
            return Err(ConsoleError::UserMode { address: self.address() });
        }
        Ok(body)
    }

    /// Connected, request sent, nothing came back: that is how a device says no to a Referer.
    fn without_answer(&self, error: &hyper::Error) -> ConsoleError {
        if error.is_incomplete_message() {
            return ConsoleError::RefererDenied { address: self.address() };
        }
        if error.is_parse() {
            let seen = "its answer is not HTTP".into();
            return ConsoleError::NotTasmota { address: self.address(), seen };
        }
        self.broken(error)
    }

    fn broken(&self, error: &hyper::Error) -> ConsoleError {
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        ConsoleError::Broken { address: self.address(), why }
    }

    fn timeout(&self, after: Duration) -> ConsoleError {
        ConsoleError::Timeout { address: self.address(), seconds: after.as_secs().max(1) }
    }

    fn unauthorized(&self) -> ConsoleError {
        ConsoleError::Unauthorized { address: self.address(), sent: self.password.is_some() }
    }

    fn malformed(&self, why: ReplyError) -> ConsoleError {
        ConsoleError::Malformed { address: self.address(), why }
    }

    /// A device compares the Referer with its bare address, so port 80 is left out.
    fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

#[async_trait]
impl Console for HttpConsole {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        if command.is_secret() {
            self.ask_checked(&Command::status(StatusPage::Firmware)).await?;
        }
        self.ask_checked(command).await
    }

    fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// Everything but RFC 3986's unreserved characters, so that `+ / = ; & # %` and blanks all arrive as they are.
fn percent_encode(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_travel_bare() {
        let mut text = String::new();
        percent_encode("TLSKey1 a+b/c=;&#%~é", &mut text);
        assert_eq!(text, "TLSKey1%20a%2Bb%2Fc%3D%3B%26%23%25~%C3%A9");
    }
}
