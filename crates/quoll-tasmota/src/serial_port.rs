//! A serial line as bytes: a tty in raw mode at 115200 baud, 8N1, or one end of a pseudo-terminal. Bytes in, bytes out.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{ControlModes, OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr},
};
use tokio::io::unix::AsyncFd;

/// Every Tasmota's serial console, unless its owner changed `Baudrate`.
const BAUD: u32 = 115_200;

/// An open line. Dropping it closes it.
pub(crate) struct SerialPort {
    fd: AsyncFd<OwnedFd>,
}

impl SerialPort {
    /// Opens a tty for us alone and sets it up. Whatever waited in it is thrown away.
    ///
    /// # Errors
    /// Not there, not ours, in use, or no tty.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let mut modes = tcgetattr(&fd)?;
        modes.make_raw();
        modes.set_speed(BAUD)?;
        modes.control_modes |= ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL;
        // Hanging up at the end would pull the lines that reset an ESP8266 board.
        modes.control_modes -=
            ControlModes::CSTOPB | ControlModes::PARENB | ControlModes::CRTSCTS | ControlModes::HUPCL;
        tcsetattr(&fd, OptionalActions::Now, &modes)?;
        tcflush(&fd, QueueSelector::IOFlush)?;
        // Another program on the line would eat half of the answers.
        rustix::termios::ioctl_tiocexcl(&fd)?;
        Self::watch(fd)
    }

    /// A pseudo-terminal: the far end of it, its path, and the near end held open so that the far end does not hang up
    /// whenever a program closes the path.
    pub(crate) fn pair() -> io::Result<(Self, PathBuf, OwnedFd)> {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&far)?;
        unlockpt(&far)?;
        let name = ptsname(&far, Vec::new())?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let near = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut modes = tcgetattr(&near)?;
        modes.make_raw();
        tcsetattr(&near, OptionalActions::Now, &modes)?;
        let flags = rustix::fs::fcntl_getfl(&far)?;
        rustix::fs::fcntl_setfl(&far, flags | OFlags::NONBLOCK)?;
        Ok((Self::watch(far)?, path, near))
    }

    #[allow(
        deprecated,
        reason = "sound for an OwnedFd, which stays what it is; the replacement is an unsafe function"
    )]
    fn watch(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: AsyncFd::new(fd)? })
    }

    /// Reads what is there; waits where there is nothing. 0 at the end. Safe to cancel.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.fd.readable().await?;
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.fd.writable().await?;
            match rustix::io::write(&self.fd, bytes) {
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                written => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }
}
