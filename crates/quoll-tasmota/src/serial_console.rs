//! The serial console: the road that puts no key on the air. Facts §2.
//!
//! A device prints what it logs. A command shows up as `CMD: <line>`, its answer as `MQT: <topic> = <JSON>` while MQTT
//! is up and as `RSL: <name> = <JSON>` while it is not, between lines about other things. An answer belongs to a
//! command if it comes after its echo and has a field of its name. A Backlog is answered by the echo alone.
//!
//! The firmware raises the level of its serial log for each line that is typed, but `SerialLog 0` silences its own
//! answer, and the echo of a line goes to *all* logs whose level is 2 or more: who sends a key turns those down first
//! (`WebLog 1`).

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Deserializer, Map, Value};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    command::Command,
    console::{Console, ConsoleError},
    limits::{BODY_BYTES, SERIAL_ANSWER_PATIENCE, SERIAL_CHUNK, SERIAL_COMMAND_CHARS, SERIAL_PAUSE},
    reply::Reply,
    serial_port::SerialPort,
};

/// Lines of the log that are kept for [`SerialConsole::log_lines`].
const KEPT_LINES: usize = 100;

/// A device's console at the end of a cable.
pub struct SerialConsole {
    path: PathBuf,
    patience: Duration,
    line: Mutex<Line>,
}

struct Line {
    port: SerialPort,
    /// What came and is no whole line yet. May hold an echoed key.
    unfinished: Zeroizing<Vec<u8>>,
    log: VecDeque<String>,
}

impl SerialConsole {
    /// Opens a serial port, for us alone, at 115200 baud.
    ///
    /// # Errors
    /// [`ConsoleError::Port`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        let port = SerialPort::open(path)
            .map_err(|why| ConsoleError::Port { path: path.display().to_string(), why: why.to_string() })?;
        // Room from the start: a buffer that grows leaves copies behind.
        let unfinished = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        let line = Line { port, unfinished, log: VecDeque::new() };
        Ok(Self { path: path.to_owned(), patience: SERIAL_ANSWER_PATIENCE, line: Mutex::new(line) })
    }

    /// With another time to wait for an answer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The last lines that the device has logged, oldest first; those that were read while waiting for answers, and
    /// those that wait now. Echoes of commands are not among them.
    ///
    /// # Errors
    /// The line broke.
    pub async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        let mut line = self.line.lock().await;
        while let Ok(read) = timeout(SERIAL_PAUSE, line.next()).await {
            let text = read.map_err(|error| self.broken(&error))?;
            line.keep(&text);
        }
        Ok(line.log.iter().cloned().collect())
    }

    async fn exchange(&self, line: &mut Line, command: &Command) -> Result<Reply, ConsoleError> {
        // A line feed first ends whatever stands half typed on the device.
        let text = Zeroizing::new(format!("\n{}\n", command.text()));
        for chunk in text.as_bytes().chunks(SERIAL_CHUNK) {
            line.port.write_all(chunk).await.map_err(|error| self.broken(&error))?;
            sleep(SERIAL_PAUSE).await;
        }
        let mut echoed = false;
        loop {
            let text = line.next().await.map_err(|error| self.broken(&error))?;
            if let Some(echo) = after(&text, "CMD: ") {
                if echo.contains("buffer overrun") {
                    return Err(ConsoleError::TooLong {
                        chars: command.text().len(),
                        limit: SERIAL_COMMAND_CHARS,
                    });
                }
                echoed = echo == command.text();
                if echoed && command.keyword() == "Backlog" {
                    return Ok(Reply::empty());
                }
            } else if let Some(reply) = echoed.then(|| answer(&text, command.keyword())).flatten() {
                return Ok(reply);
            }
            line.keep(&text);
        }
    }

    fn broken(&self, error: &std::io::Error) -> ConsoleError {
        ConsoleError::Broken { address: self.address(), why: error.to_string() }
    }
}

#[async_trait]
impl Console for SerialConsole {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let chars = command.text().len();
        if chars > SERIAL_COMMAND_CHARS {
            return Err(ConsoleError::TooLong { chars, limit: SERIAL_COMMAND_CHARS });
        }
        if !command.text().is_ascii() {
            return Err(ConsoleError::NotAscii {
                address: self.address(),
                keyword: command.keyword().to_owned(),
            });
        }
        let mut line = self.line.lock().await;
        match timeout(self.patience, self.exchange(&mut line, command)).await {
            Ok(reply) => reply,
            Err(_) => Err(ConsoleError::Timeout {
                address: self.address(),
                seconds: self.patience.as_secs().max(1),
            }),
        }
    }

    fn address(&self) -> String {
        self.path.display().to_string()
    }
}

impl Line {
    /// The next line without its end; noise of the boot loader, which talks at another speed, is dropped.
    async fn next(&mut self) -> std::io::Result<Zeroizing<String>> {
        loop {
            if let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
                let whole = Zeroizing::new(self.unfinished[..end].to_vec());
                self.drop_front(end + 1);
                let printable = |c: &char| *c != '\u{FFFD}' && !c.is_control();
                return Ok(Zeroizing::new(
                    String::from_utf8_lossy(&whole).chars().filter(printable).collect(),
                ));
            }
            if self.unfinished.len() >= BODY_BYTES - 256 {
                self.unfinished.zeroize();
            }
            let mut buffer = Zeroizing::new([0; 256]);
            match self.port.read(&mut *buffer).await? {
                0 => return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the port is gone")),
                bytes => self.unfinished.extend_from_slice(&buffer[..bytes]),
            }
        }
    }

    fn drop_front(&mut self, bytes: usize) {
        let left = self.unfinished.len() - bytes;
        self.unfinished.copy_within(bytes.., 0);
        self.unfinished[left..].zeroize();
        self.unfinished.truncate(left);
    }

    /// Echoes may hold a key, refusals repeat the command.
    fn keep(&mut self, text: &str) {
        if text.is_empty() || after(text, "CMD: ").is_some() || text.contains("\"Input\"") {
            return;
        }
        if self.log.len() == KEPT_LINES {
            self.log.pop_front();
        }
        self.log.push_back(text.chars().take(400).collect());
    }
}

/// What stands behind a mark in a log line. The mark comes early: after the time, and on an ESP32 some numbers.
fn after<'t>(line: &'t str, mark: &str) -> Option<&'t str> {
    const EARLY: usize = 40;
    let at = line.find(mark).filter(|at| *at <= EARLY)?;
    Some(&line[at + mark.len()..])
}

/// The answer in a log line, if it is one to this command.
fn answer(line: &str, keyword: &str) -> Option<Reply> {
    let (topic, payload) = after(line, "MQT: ").or_else(|| after(line, "RSL: "))?.split_once(" = ")?;
    if topic.split('/').any(|level| level == "tele") {
        return None;
    }
    // A note such as "(retained)" may follow the object.
    let object = Deserializer::from_str(payload).into_iter::<Map<String, Value>>().next()?.ok()?;
    let name = keyword.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    let is_ours = |key: &String| key == "Command" || key.to_ascii_lowercase().starts_with(&name);
    if !object.keys().any(is_ours) {
        return None;
    }
    let text = Zeroizing::new(Value::Object(object).to_string());
    Reply::parse(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_between_other_lines() {
        for (line, keyword, found) in [
            (r#"10:00:01.250 RSL: RESULT = {"TLSKey1":32,"TLSKey2":-1}"#, "TLSKey", true),
            (r#"10:00:01.250-123/33 MQT: stat/tasmota_A1B2C3/STATUS6 = {"StatusMQT":{}}"#, "Status", true),
            (
                r#"10:00:01.250 MQT: stat/x/RESULT = {"Command":"Unknown","Input":"TLSKEY1 AAAA"}"#,
                "TLSKey1",
                true,
            ),
            (r#"10:00:01.250 MQT: stat/x/RESULT = {"SetOption103":"ON"} (retained)"#, "SetOption103", true),
            (r#"10:00:01.250 MQT: stat/x/RESULT = {"POWER":"ON"}"#, "MqttHost", false),
            (r#"10:00:01.250 MQT: tele/x/STATE = {"Time":"2026-01-01T00:00:00"}"#, "Time", false),
            ("10:00:01.250 MQT: Attempting connection...", "MqttHost", false),
            (r#"10:00:01.250 RSL: RESULT = {"TLSKey1":32,"TLS"#, "TLSKey", false),
            ("", "Status", false),
        ] {
            assert_eq!(answer(line, keyword).is_some(), found, "{line}");
        }
    }

    #[test]
    fn a_mark_counts_only_where_a_device_puts_it() {
        assert_eq!(after("10:00:01.250 CMD: Status 2", "CMD: "), Some("Status 2"));
        let late = format!("{} CMD: x", "y".repeat(60));
        assert_eq!(after(&late, "CMD: "), None);
    }
}
