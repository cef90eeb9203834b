//! The serial line of a virtual device: a pseudo-terminal at which it reads commands and prints its log.
//!
//! Bytes that cannot be printed are dropped, a line ends with a line feed, more than 799 characters are an overrun.
//! Facts §2. It keeps its line while it restarts, and hears nothing then.

use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use zeroize::{Zeroize, Zeroizing};

use super::run::Shared;
use crate::{limits::SERIAL_COMMAND_CHARS, serial_port::SerialPort};

/// Both ends of the line.
pub(super) struct Line {
    port: SerialPort,
    /// Held open; see [`SerialPort::pair`].
    _near: OwnedFd,
}

impl Line {
    pub(super) fn open() -> io::Result<(Self, PathBuf)> {
        let (port, path, near) = SerialPort::pair()?;
        Ok((Self { port, _near: near }, path))
    }
}

/// Reads and prints until the line breaks.
pub(super) async fn serve(device: Arc<Shared>, line: Line) {
    let mut typed = Zeroizing::new(String::with_capacity(SERIAL_COMMAND_CHARS + 2));
    let mut buffer = Zeroizing::new([0; 256]);
    loop {
        tokio::select! {
            read = line.port.read(&mut *buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(bytes) => buffer[..bytes].iter().for_each(|&byte| hear(&device, &mut typed, byte)),
            },
            () = device.printer.notified() => {}
        }
        let lines = device.with(|machine, _| machine.take_printed()).unwrap_or_default();
        for text in lines {
            let text = Zeroizing::new(format!("{}\r\n", *text));
            if line.port.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn hear(device: &Shared, typed: &mut Zeroizing<String>, byte: u8) {
    match byte {
        b'\n' => {
            device.act(|machine, now| machine.serial_line(typed, now));
            typed.zeroize();
        }
        // One more than fits is kept, so that the machine sees the overrun.
        b' '..=b'~' if typed.len() <= SERIAL_COMMAND_CHARS => typed.push(char::from(byte)),
        _ => {}
    }
}
