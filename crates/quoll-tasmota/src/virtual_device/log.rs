//! The device's log: what the web console shows, and what a serial line prints. Facts §7.4.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::{Machine, Now};

/// How long a log is kept, in characters: the device's ring buffer.
const LOG_CHARS: usize = 4000;
/// Lines waiting for the serial line; older ones are dropped.
const PRINTED: usize = 256;

/// The device's end of a serial line.
pub(super) struct Printer {
    /// The active level: at least 2 once somebody has typed, whatever SerialLog says.
    pub(super) level: u8,
    pub(super) lines: VecDeque<Zeroizing<String>>,
}

impl Machine {
    /// Attaches a serial line: from now on log lines wait for [`Self::take_printed`].
    pub fn attach_serial(&mut self) {
        self.printer = Some(Printer { level: self.settings.serial_log, lines: VecDeque::new() });
    }

    /// Takes the lines that wait for the serial line.
    pub fn take_printed(&mut self) -> Vec<Zeroizing<String>> {
        self.printer.as_mut().map(|printer| printer.lines.drain(..).collect()).unwrap_or_default()
    }

    /// Logs a Referer that was not let in.
    pub fn note_referer(&mut self, referer: &str, now: Now) {
        self.note(2, now, &format!("HTP: Referer '{referer}' denied. Use 'SO128 1' for HTTP API commands"));
    }

    /// The web log in the form of `/cs?c2=<from>`. Facts §7.4.
    #[must_use]
    pub fn log(&self, from: u32) -> String {
        let lines: Vec<&str> =
            self.log.iter().filter(|(index, _)| *index >= from).map(|(_, line)| line.as_str()).collect();
        format!("{}}}10}}1{}}}1", self.next_log, lines.join("\n"))
    }

    /// Writes a line to the web log, if the level is kept: 1 error, 2 info, 3 debug.
    pub(super) fn note(&mut self, level: u8, now: Now, text: &str) {
        let printed = self.printer.as_ref().is_some_and(|printer| level <= printer.level);
        if level > self.settings.web_log && !printed {
            return;
        }
        let of_day = self.clock(now) % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let line = format!("{hour:02}:{minute:02}:{second:02}.{:03} {text}", now.up.subsec_millis());
        if printed && let Some(printer) = &mut self.printer {
            if printer.lines.len() == PRINTED {
                printer.lines.pop_front();
            }
            printer.lines.push_back(Zeroizing::new(line.clone()));
        }
        if level > self.settings.web_log {
            return;
        }
        self.log.push_back((self.next_log, line));
        self.next_log += 1;
        let mut chars: usize = self.log.iter().map(|(_, line)| line.len() + 1).sum();
        while chars > LOG_CHARS {
            let Some((_, dropped)) = self.log.pop_front() else { break };
            chars -= dropped.len() + 1;
        }
    }
}
