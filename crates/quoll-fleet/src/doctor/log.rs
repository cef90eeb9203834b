//! What a device's web log says about its connection: the last attempt, and what came of it. Facts §7.4.

use quoll_tasmota::tls_error;
use serde::Serialize;

/// Lines kept as evidence.
const LINES: usize = 6;

/// A web log, read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LogReading {
    /// The number of the last TLS error that no connection came after; or of one that ends every connection.
    pub number: Option<i32>,
    /// The return code of the last failed attempt that no connection came after.
    pub code: Option<i32>,
    /// Whether its last word is that it is connected.
    pub connected: bool,
    /// Connections that ended while this log was kept.
    pub lost: usize,
    /// It uses a port that is known for TLS without TLS.
    pub plain_on_tls_port: bool,
    /// The fingerprint that it has learned while this log was kept, as it wrote it.
    pub learned: Option<String>,
    /// The lines that say so, oldest first.
    pub lines: Vec<String>,
}

impl LogReading {
    /// Reads the lines of a log, oldest first.
    #[must_use]
    pub fn of(lines: &[String]) -> Self {
        let mut read = Self::default();
        let mut after_connected = None;
        for line in lines {
            let Some((_, text)) = line.split_once("MQT: ") else { continue };
            if let Some(number) = tls_error::number_in(line) {
                // An error of an open connection comes back with the next one.
                if read.connected {
                    after_connected = Some(number);
                }
                read.number = Some(number);
            } else if let Some(code) = return_code(text) {
                read.code = Some(code);
                read.connected = false;
            } else if text.starts_with("TLS connected") {
                // Whatever goes wrong now is not what went wrong then.
                read.number = after_connected;
                read.code = None;
            } else if text == "Connected" {
                read.connected = true;
                read.number = after_connected;
                read.code = None;
            } else if text.starts_with("Disconnected") {
                read.connected = false;
                read.lost += 1;
            } else if text.starts_with("Warning non-TLS") {
                read.plain_on_tls_port = true;
            } else if let Some(learned) = text.strip_prefix("Fingerprint learned: ") {
                read.learned = Some(learned.chars().take(59).collect());
            } else if !text.starts_with("Attempting") {
                continue;
            }
            if read.lines.len() == LINES {
                read.lines.remove(0);
            }
            read.lines.push(text.chars().filter(|c| !c.is_control()).take(200).collect());
        }
        read
    }
}

/// `Connect failed to hub.lan:8883, rc -2. Retry in 10 sec`
fn return_code(text: &str) -> Option<i32> {
    let (_, rest) = text.strip_prefix("Connect failed to ")?.rsplit_once(", rc ")?;
    rest.split(['.', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> LogReading {
        LogReading::of(&lines.iter().map(|line| format!("10:00:03.123 {line}")).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_attempt_counts() {
        let failed = ["MQT: Attempting connection...", "MQT: TLS connection error: 56"];
        let code = "MQT: Connect failed to hub.lan:8883, rc -2. Retry in 10 sec";
        let log = read(&[failed[0], failed[1], code]);
        assert_eq!((log.number, log.code, log.connected), (Some(56), Some(-2), false));
        let log =
            read(&[failed[0], failed[1], code, failed[0], "MQT: TLS connected in 300 ms", "MQT: Connected"]);
        assert_eq!((log.number, log.code, log.connected), (None, None, true));
    }

    #[test]
    fn an_error_that_ends_every_connection_is_not_forgotten_with_the_next_one() {
        let round = ["MQT: Connected", "MQT: TLS connection error: 6", "MQT: Disconnected"];
        let log = read(&[round[0], round[1], round[2], round[0]]);
        assert_eq!((log.number, log.connected, log.lost), (Some(6), true, 1));
    }

    #[test]
    fn a_handshake_that_went_well_is_the_end_of_an_older_error() {
        let log = read(&[
            "MQT: TLS connection error: 54",
            "MQT: Connect failed to hub.lan:8883, rc -2. Retry in 10 sec",
            "MQT: TLS connected in 300 ms",
            "MQT: Connect failed to hub.lan:8883, rc 5. Retry in 20 sec",
        ]);
        assert_eq!((log.number, log.code, log.connected), (None, Some(5), false));
    }

    #[test]
    fn other_lines_and_nonsense_say_nothing() {
        let log = read(&[
            "RSL: RESULT = {\"a\":1}",
            "MQT: stat/x/RESULT = {}",
            "",
            "MQT: Connect failed to , rc x",
        ]);
        assert_eq!(log, LogReading::default());
        assert!(read(&["MQT: Warning non-TLS connection on TLS port 8883"]).plain_on_tls_port);
    }
}
