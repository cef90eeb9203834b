//! The HTTP server of a virtual device: `/cm`, `/cs`, `/`. Facts §7.1, §7.4.
//!
//! Written on the bare socket, because a device does things no HTTP library offers: it closes without an answer when it
//! dislikes a Referer, and is simply gone while it restarts. One request per connection.

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{Machine, Now, line::merged, run::Shared};
use crate::limits::COMMAND_CHARS;

/// Longest request head we read: a command of 1199 characters, each percent-encoded, and some headers.
const HEAD_BYTES: usize = 16 * 1024;
/// Time a client may take to send its request.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a hanging device holds a connection; longer than anybody waits.
const HANG: Duration = Duration::from_secs(60);

const WARNING_COMMAND: &str = r#"{"WARNING":"Enter command cmnd="}"#;
const WARNING_PASSWORD: &str = r#"{"WARNING":"Need user=<username>&password=<password>"}"#;
const MAIN_PAGE: &str =
    "<!DOCTYPE html><html lang=\"en\"><head><title>Tasmota</title></head><body>Tasmota</body></html>";

/// What to do with a request.
enum Verdict {
    Send { status: &'static str, kind: &'static str, body: Zeroizing<String>, server: String },
    CloseSilently,
    Hang,
}

/// Reads one request and answers it. While the device is down, or its web server off, the connection is reset.
pub(super) async fn serve(socket: &mut TcpStream, device: &Shared) {
    if !device.has_network() || device.with(|machine, _| machine.web_server() > 0) != Some(true) {
        let _ = socket.set_zero_linger();
        return;
    }
    let Ok(Some(head)) = timeout(HEAD_PATIENCE, read_head(socket)).await else { return };
    let verdict = device.act(|machine, now| answer(&head, machine, now));
    let Some(verdict) = verdict else {
        let _ = socket.set_zero_linger();
        return;
    };
    match verdict {
        Verdict::Send { status, kind, body, server } => {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nServer: {server}\r\nCache-Control: no-cache\r\n\
                 Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            );
            let chunk =
                if body.is_empty() { String::new() } else { format!("{:x}\r\n{}\r\n", body.len(), *body) };
            let whole = Zeroizing::new(format!("{head}{chunk}0\r\n\r\n"));
            let _ = socket.write_all(whole.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
        Verdict::CloseSilently => {
            let _ = socket.shutdown().await;
        }
        Verdict::Hang => {
            let _ = timeout(HANG, socket.read(&mut [0; 1])).await;
        }
    }
}

async fn read_head(socket: &mut TcpStream) -> Option<Zeroizing<String>> {
    let mut head = Zeroizing::new(Vec::with_capacity(2048));
    let mut buffer = Zeroizing::new([0; 2048]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let bytes = socket.read(&mut *buffer).await.ok()?;
        if bytes == 0 || head.len() + bytes > HEAD_BYTES {
            return None;
        }
        head.extend_from_slice(&buffer[..bytes]);
    }
    String::from_utf8(head.to_vec()).ok().map(Zeroizing::new)
}

fn answer(head: &str, machine: &mut Machine, now: Now) -> Verdict {
    let mut lines = head.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let header = |name: &str| {
        let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let faults = machine.faults().clone();
    if faults.hangs {
        return Verdict::Hang;
    }
    if let Some(server) = faults.impostor {
        return Verdict::Send {
            status: "200 OK",
            kind: "text/html",
            body: page("<html>router</html>"),
            server,
        };
    }
    let send = |status, kind, body: &str| Verdict::Send {
        status,
        kind,
        body: page(body),
        server: machine.server_header(),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_api = path == "/cm" || path == "/cs";
    if !is_api && path != "/" {
        return send("404 Not Found", "text/plain", "File Not Found");
    }
    if !is_authorized(machine.web_password(), header("authorization"), (path == "/cm").then_some(query)) {
        let body = if path == "/cm" { WARNING_PASSWORD } else { "" };
        return send("401 Unauthorized", "application/json", body);
    }
    if is_api && !machine.accepts_referer(header("referer")) {
        let referer: String = header("referer").unwrap_or_default().chars().take(40).collect();
        machine.note_referer(&referer, now);
        return Verdict::CloseSilently;
    }
    if path == "/" || machine.web_server() == 1 {
        return send("200 OK", "text/html", MAIN_PAGE);
    }
    if path == "/cs" {
        if let Some(line) =
            argument(query, "c1").filter(|line| !line.is_empty() && line.len() <= COMMAND_CHARS)
        {
            machine.command(&line, now);
        }
        let from = argument(query, "c2").and_then(|index| index.parse().ok()).unwrap_or(0);
        let log = machine.log(from);
        return Verdict::Send {
            status: "200 OK",
            kind: "text/plain",
            body: page(&log),
            server: machine.server_header(),
        };
    }
    match argument(query, "cmnd").filter(|line| !line.is_empty() && line.len() <= COMMAND_CHARS) {
        None => send("200 OK", "application/json", WARNING_COMMAND),
        Some(line) => {
            let body = Zeroizing::new(merged(&machine.command(&line, now)));
            let server = machine.server_header();
            Verdict::Send { status: "200 OK", kind: "application/json", body, server }
        }
    }
}

fn page(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.into())
}

/// HTTP Basic first, then the arguments (on `/cm` only).
fn is_authorized(password: &str, basic: Option<&str>, query: Option<&str>) -> bool {
    if password.is_empty() {
        return true;
    }
    let expected = Zeroizing::new(format!("admin:{password}"));
    let by_header = basic.and_then(|value| value.strip_prefix("Basic ")).is_some_and(|value| {
        STANDARD.decode(value).is_ok_and(|pair| Zeroizing::new(pair).as_slice() == expected.as_bytes())
    });
    let by_arguments = || {
        let query = query?;
        let (user, given) = (argument(query, "user")?, argument(query, "password")?);
        Some(user.as_str() == "admin" && given.as_str() == password)
    };
    by_header || by_arguments().unwrap_or(false)
}

/// One argument, decoded as the firmware's web server does: `%XX`, and `+` for a blank. Facts §0.5.
fn argument(query: &str, name: &str) -> Option<Zeroizing<String>> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [a, b, after @ ..]) => {
                let digit = |c: &u8| char::from(*c).to_digit(16);
                match (digit(a), digit(b)) {
                    (Some(a), Some(b)) => {
                        bytes.push(u8::try_from(a * 16 + b).unwrap_or(b'?'));
                        rest = after;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            (other, _) => bytes.push(*other),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(Zeroizing::new(match text {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_plus_becomes_a_blank_and_an_encoded_one_stays() {
        let of = |query| argument(query, "cmnd").map(|text| text.to_string());
        assert_eq!(of("cmnd=a+b"), Some("a b".into()));
        assert_eq!(of("x=1&cmnd=a%2Bb%3d%20%"), Some("a+b= %".into()));
        assert_eq!(of("cmnd=%zz%C3%A9"), Some("%zzé".into()));
        assert_eq!(of("other=a"), None);
    }
}
