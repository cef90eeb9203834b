//! Those who come to a site (`protocol http_api`): they are answered here and never reach a shard.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::net::TcpStream;

use super::{Arriving, Hall, Turned};
use crate::http::{self, Asked, HttpAnswer, HttpBody, Site};
use crate::limits::{ANSWER_PATIENCE, VISIT};

/// Bytes of a file in hand at a time.
const CHUNK: u64 = 16 * 1024;

impl Arriving {
    /// Answers until the peer leaves, or for as long as it may.
    pub(super) async fn visit(mut self, mut socket: TcpStream, site: Arc<dyn Site>) {
        let ended = tokio::time::timeout(VISIT, self.converse(&mut socket, &*site)).await;
        if let Ok(Err(Turned::NoProxy(error))) = &ended {
            tracing::debug!(peer = %self.peer, %error, "no PROXY header");
            return;
        }
        self.turn_away(&mut socket, &[]).await;
    }

    async fn converse(&mut self, socket: &mut TcpStream, site: &dyn Site) -> Result<(), Turned> {
        let hall = Arc::clone(&self.hall);
        let mut plain = Vec::new();
        heard(&hall, self.secure(socket, &mut plain, &AtomicBool::default())).await?;
        loop {
            let asked = heard(&hall, self.request(socket, &mut plain)).await?;
            let (answer, with_body, stays) = match asked {
                Asked::For(wish) => {
                    plain.drain(..wish.used);
                    (site.answer(&wish.request).await, !wish.is_head, wish.stays)
                }
                Asked::Refused(answer) => (answer, true, false),
                Asked::Incomplete => return Ok(()),
            };
            let given =
                tokio::time::timeout(ANSWER_PATIENCE, self.give(socket, answer, with_body, stays)).await;
            given.map_err(|_| Turned::TooSlow(ANSWER_PATIENCE))??;
            if !stays {
                return Ok(());
            }
        }
    }

    async fn request(&mut self, socket: &mut TcpStream, plain: &mut Vec<u8>) -> Result<Asked, Turned> {
        loop {
            match http::read(plain) {
                Asked::Incomplete => self.read_open(socket, plain).await?,
                asked => return Ok(asked),
            };
        }
    }

    async fn give(
        &mut self,
        socket: &mut TcpStream,
        answer: HttpAnswer,
        with_body: bool,
        stays: bool,
    ) -> Result<(), Turned> {
        let mut bytes = answer.head(stays);
        let file = match answer.body {
            _ if !with_body => None,
            HttpBody::Bytes(body) => {
                bytes.extend_from_slice(&body);
                None
            }
            HttpBody::File(file, length) => Some((file, length)),
        };
        self.write_plain(socket, &bytes).await?;
        let Some((mut file, mut left)) = file else { return Ok(()) };
        while left > 0 {
            let chunk;
            (file, chunk) = read_chunk(file, left.min(CHUNK)).await.map_err(Turned::Left)?;
            // A file that became shorter cannot be told of any more, but by the end of the connection.
            if chunk.is_empty() {
                return Err(Turned::Left(io::ErrorKind::UnexpectedEof.into()));
            }
            left = left.saturating_sub(chunk.len() as u64);
            self.write_plain(socket, &chunk).await?;
        }
        Ok(())
    }
}

/// Waits for what a visitor has to say; not for long while others wait for its place.
async fn heard<T>(hall: &Hall, words: impl Future<Output = Result<T, Turned>>) -> Result<T, Turned> {
    let (unheard, since) = (AtomicBool::new(false), Instant::now());
    tokio::select! {
        biased;
        came = tokio::time::timeout(hall.patience, words) => {
            came.unwrap_or(Err(Turned::TooSlow(hall.patience)))
        }
        () = hall.visitors.give_way(&unheard, since) => Err(Turned::GaveWay),
    }
}

/// Disks may take their time, and this thread has handshakes to do.
async fn read_chunk(mut file: File, most: u64) -> io::Result<(File, Vec<u8>)> {
    let read = tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::new();
        (&mut file).take(most).read_to_end(&mut chunk)?;
        Ok((file, chunk))
    });
    read.await.map_err(io::Error::other)?
}
