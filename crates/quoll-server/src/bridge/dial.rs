//! Calling another broker: name, socket with its options, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::wire::Wire;
use crate::mosquitto::BridgeConfiguration;
use crate::mosquitto::bridge::BridgeAddress;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// The name says nothing to the system.
    #[error("{host}: {source}")]
    Name { host: String, source: io::Error },
    /// No TCP connection.
    #[error("{address}: {source}")]
    Socket { address: SocketAddr, source: io::Error },
    /// The host is no name that a certificate can prove.
    #[error("{host:?} is no host name that a certificate can prove")]
    HostName { host: String },
    /// TLS was not agreed on.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The socket broke in the middle of the TLS handshake.
    #[error("TLS: the connection broke: {0}")]
    Broke(io::Error),
}

impl DialError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        use rustls::{AlertDescription, CertificateError, Error};
        match self {
            Self::Tls(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Some("its certificate is of none of the CAs in bridge_cafile or bridge_capath")
            }
            Self::Tls(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Some("its certificate is for another name than the one in address"),
            Self::Tls(Error::AlertReceived(
                AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
            )) => Some("it may want a certificate: bridge_certfile and bridge_keyfile"),
            Self::Tls(Error::AlertReceived(_)) => {
                Some("it does not accept the certificate in bridge_certfile; its log says more")
            }
            Self::Tls(Error::InvalidMessage(_)) => Some("there may be no TLS at that port"),
            Self::Broke(_) => Some("there may be no TLS at that port, or the certificate is not accepted"),
            _ => None,
        }
    }
}

/// Connects to the first address of a host that answers, TLS included where it is wanted.
pub(super) async fn dial(
    address: &BridgeAddress,
    bridge: &BridgeConfiguration,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Wire, DialError> {
    let name = |source| DialError::Name { host: address.host.clone(), source };
    let mut failed = name(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for peer in lookup_host((address.host.as_str(), address.port)).await.map_err(name)? {
        match connect(peer, bridge).await {
            Ok(socket) => return secure(socket, address, tls).await,
            Err(source) => failed = DialError::Socket { address: peer, source },
        }
    }
    Err(failed)
}

async fn connect(peer: SocketAddr, bridge: &BridgeConfiguration) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(own) = &bridge.bind_address {
        socket.bind(own_address(own, peer).await?)?;
    }
    tune(&SockRef::from(&socket), bridge)?;
    let socket = socket.connect(peer).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// `bridge_bind_address`: an address of this machine, of the peer's family.
async fn own_address(text: &str, peer: SocketAddr) -> io::Result<SocketAddr> {
    if let Ok(own) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(own, 0));
    }
    let mut found = lookup_host((text, 0)).await?;
    let missing = || io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{text:?} has no such address"));
    found.find(|own| own.is_ipv4() == peer.is_ipv4()).ok_or_else(missing)
}

fn tune(socket: &SockRef<'_>, bridge: &BridgeConfiguration) -> io::Result<()> {
    if let Some(wanted) = bridge.tcp_keepalive {
        let keepalive = TcpKeepalive::new().with_time(wanted.idle).with_interval(wanted.interval);
        #[cfg(not(target_os = "openbsd"))]
        let keepalive = keepalive.with_retries(wanted.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(timeout) = bridge.tcp_user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

async fn secure(
    socket: TcpStream,
    address: &BridgeAddress,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Wire, DialError> {
    let Some(config) = tls else { return Ok(Wire::new(socket, None)) };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| DialError::HostName { host: address.host.clone() })?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(DialError::Tls)?;
    let mut wire = Wire::new(socket, Some(Box::new(connection)));
    match wire.handshake().await {
        Ok(Ok(())) => Ok(wire),
        Ok(Err(error)) => Err(DialError::Tls(error)),
        Err(error) => Err(DialError::Broke(error)),
    }
}

/// Whether something listens there.
pub(super) async fn is_there(address: &BridgeAddress, bridge: &BridgeConfiguration) -> bool {
    let Ok(peers) = lookup_host((address.host.as_str(), address.port)).await else { return false };
    for peer in peers {
        if connect(peer, bridge).await.is_ok() {
            return true;
        }
    }
    false
}
