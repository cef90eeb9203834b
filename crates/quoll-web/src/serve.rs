//! Sockets in, bounded in number and time, and out again in order. Knows connections; what is said on them is the
//! business of `site`.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::site;
use crate::source::Source;
use crate::{limits, lists};

/// Serves the dashboard until `stop` is ready, then says farewell to open connections and streams for at most
/// [`FAREWELL`](limits::FAREWELL). Dropping the future cuts them.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the listener is not bound to a loopback address: there is no login yet, so
/// whoever reaches the socket sees everything. Whatever else the listener's own address lookup fails with.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>, stop: impl Future) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let text = format!("the dashboard has no login and listens on this machine only, not on {address}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (closing, closed) = watch::channel(false);
    let site = site::site(source, closed);
    tracing::info!(%address, "dashboard is served");
    host(listener, site, closing, stop).await;
    Ok(())
}

/// Serves the revocation lists of [`Source::revocation_list`], and nothing else, to everybody on any address, until `stop`
/// is ready.
///
/// # Errors
/// Whatever the listener's own address lookup fails with.
pub async fn serve_lists(
    listener: TcpListener,
    source: Arc<dyn Source>,
    stop: impl Future,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "revocation lists are served");
    let (closing, _) = watch::channel(false);
    host(listener, lists::site(source), closing, stop).await;
    Ok(())
}

async fn host(listener: TcpListener, site: axum::Router, closing: watch::Sender<bool>, stop: impl Future) {
    let closed = closing.subscribe();
    let site = TowerToHyperService::new(site);
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let arrival = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = arrival => match accepted {
                Ok((socket, _)) => {
                    let attended = attend(socket, site.clone(), closed.clone());
                    connections.spawn(async move {
                        attended.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a peer that left while queued: neither is a reason to stop.
                    tracing::warn!(%error, "dashboard cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    let all_left = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::FAREWELL, all_left).await.is_err() {
        tracing::debug!("dashboard connections cut after the farewell time");
    }
}

type Site = TowerToHyperService<axum::Router>;

async fn attend(socket: TcpStream, site: Site, mut closed: watch::Receiver<bool>) {
    let _: io::Result<()> = socket.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIME)
        .max_headers(limits::HEADER_FIELDS)
        .max_header_size(limits::HEADER_BYTES)
        .max_buf_size(2 * limits::HEADER_BYTES)
        .serve_connection(TokioIo::new(socket), site);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = site::closed(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = sleep(limits::CONNECTION_LIFE) => {
            connection.as_mut().graceful_shutdown();
            timeout(limits::FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "dashboard connection ended early");
    }
}
