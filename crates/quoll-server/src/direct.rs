//! A socket of tokio's as rustls wants it.

use std::io::{self, Read, Write};

use tokio::net::TcpStream;

/// Reads and writes that may say `WouldBlock`: whoever uses it waits for the socket himself.
pub(crate) struct Direct<'a>(pub(crate) &'a TcpStream);

impl Read for Direct<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
