//! The coat of [`TlsClient`]: a tokio socket, the handshake's ten seconds, and reading on after a failed write so that
//! a refusal's alert is not lost.

use std::{io, time::Duration};

use aws_lc_rs::rand;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{TlsClient, TlsFailure, TlsSettings, client::Summary};

const READ_BYTES: usize = 4096;

/// An open TLS connection of a virtual device.
pub struct TlsConnection {
    socket: TcpStream,
    client: TlsClient,
    /// Came in the same bytes as the end of the handshake; to be told by the next read.
    failure: Option<TlsFailure>,
}

impl TlsConnection {
    /// Runs the handshake, at most for `patience` (ten seconds on a device).
    ///
    /// # Errors
    /// With the number a device would log; 0 if the server closes without an alert.
    pub async fn open(
        socket: TcpStream,
        settings: TlsSettings,
        patience: Duration,
    ) -> Result<Self, TlsFailure> {
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| TlsFailure::Number(8))?;
        let mut connection = Self { socket, client: TlsClient::new(settings, random), failure: None };
        match timeout(patience, connection.handshake()).await {
            Ok(result) => result.map(|()| connection),
            Err(_) => Err(TlsFailure::HANDSHAKE_TIMEOUT),
        }
    }

    async fn handshake(&mut self) -> Result<(), TlsFailure> {
        while !self.client.has_opened() {
            // A failed write is no verdict yet: the alert that explains it may be waiting to be read.
            let _ = self.flush().await;
            match self.take().await {
                Ok(None) | Err(_) => return Err(TlsFailure::CLOSED),
                Ok(Some(Err(failure))) if self.client.has_opened() => self.failure = Some(failure),
                Ok(Some(result)) => result?,
            }
        }
        self.flush().await.map_err(|_| TlsFailure::CLOSED)
    }

    /// The next received bytes; empty at the end of the connection. Safe to cancel.
    ///
    /// # Errors
    /// The server broke the rules, or sent a record that is too long (6).
    pub async fn read(&mut self) -> Result<Vec<u8>, TlsFailure> {
        loop {
            let received = self.client.received();
            if !received.is_empty() || (self.client.is_closed() && self.failure.is_none()) {
                return Ok(received);
            }
            if let Some(failure) = self.failure {
                return Err(failure);
            }
            match self.take().await {
                Ok(None) | Err(_) => return Ok(Vec::new()),
                Ok(Some(result)) => self.failure = result.err(),
            }
        }
    }

    /// Hands what has come to the client; none at the end. The buffer is not part of the waiting task.
    async fn take(&mut self) -> io::Result<Option<Result<(), TlsFailure>>> {
        loop {
            self.socket.readable().await?;
            let mut buffer = [0; READ_BYTES];
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(bytes) => return Ok(Some(self.client.input(&buffer[..bytes]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The socket's.
    pub async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.client.send(data);
        self.flush().await
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        self.client.close();
        if self.flush().await.is_ok() {
            let _ = self.socket.shutdown().await;
        }
    }

    /// What the handshake agreed on.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.client.summary()
    }

    async fn flush(&mut self) -> io::Result<()> {
        let out = self.client.output();
        self.socket.write_all(&out).await
    }
}
