//! The network from here: the name, the port, and a handshake as the device does it, with its own ClientHello, clock and
//! rules. The device's key stays where it is: a broker that asks for a certificate gets none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quoll_fleet::doctor::evidence::{CertificateFacts, DeviceSide, NetworkSide, Rehearsal, Target};
use quoll_pki::Certificate;
use quoll_tasmota::virtual_device::tls::{
    Anchor, ClientAuth, MaxFragment, TlsClient, TlsFailure, TlsSettings, Trust,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Practice;
use crate::control::{self, Question};

/// For the name.
const RESOLVE: Duration = Duration::from_secs(5);
/// For the connection; an ESP32 gives it three seconds.
const CONNECT: Duration = Duration::from_secs(3);
/// For the handshake; a device gives it ten.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most bytes that are read of a server's flight.
const FLIGHT: usize = 64 * 1024;
/// Addresses of a name that are told.
const ADDRESSES: usize = 8;
/// Certificates of a chain that are told.
const CHAIN: usize = 8;

/// Looks at the broker that the device uses; at ours where the device does not say.
pub(crate) async fn look(practice: &Practice, said: &DeviceSide, target: &Target) -> NetworkSide {
    let host = said.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| target.host.clone());
    let port = said.port.filter(|port| *port > 0).unwrap_or(target.port);
    let mut side = NetworkSide { host: host.clone(), port, ..NetworkSide::default() };
    let addresses: Vec<SocketAddr> =
        match timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), port))).await {
            Ok(Ok(found)) => found.take(ADDRESSES).collect(),
            Ok(Err(error)) => {
                side.unresolved = Some(error.to_string());
                return side;
            }
            Err(_) => {
                side.unresolved = Some(format!("no answer within {} s", RESOLVE.as_secs()));
                return side;
            }
        };
    side.addresses = addresses.iter().map(SocketAddr::ip).collect();
    let socket = match timeout(CONNECT, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            side.open = Some(false);
            side.closed = Some(error.to_string());
            return side;
        }
        Err(_) => {
            side.open = Some(false);
            side.closed = Some(format!("no answer within {} s", CONNECT.as_secs()));
            return side;
        }
    };
    side.open = Some(true);
    // Where TLS is off there is still the question whether the port wants it.
    if let Ok(peer) = socket.local_addr()
        && practice.node.silence.is_none()
    {
        // The node is not to take this connection for the device's.
        let _ = control::ask(&practice.home, &Question::Disregard { peer }).await;
    }
    side.rehearsal = Some(rehearse(socket, settings(practice, said, target, &host), practice).await);
    side
}

fn settings(practice: &Practice, said: &DeviceSide, target: &Target, host: &str) -> TlsSettings {
    let now = said.clock.unwrap_or_else(|| OffsetDateTime::now_utc().unix_timestamp());
    let slots = match (said.fingerprint_mode, said.slots) {
        (Some(true), [Some(first), Some(second)]) => Some([first, second]),
        _ => None,
    };
    let anchors = practice.folder.ca().and_then(|ca| Anchor::from_der(ca.der()));
    TlsSettings {
        host: host.to_owned(),
        fragment: if said.is_esp32 { MaxFragment::Bytes2048 } else { MaxFragment::Bytes1024 },
        ecdsa: said.ecdsa.unwrap_or(target.ec_ca || target.ec_server),
        rsa_4096: said.is_esp32,
        trust: match slots {
            Some(slots) => Trust::Fingerprints(slots),
            None => Trust::Anchors(anchors.into_iter().collect()),
        },
        now: u64::try_from(now).unwrap_or(0),
        client_auth: ClientAuth::NotCompiled,
    }
}

async fn rehearse(mut socket: TcpStream, settings: TlsSettings, practice: &Practice) -> Rehearsal {
    let mut random = [0; 32];
    // Of no secret: any bytes that differ from one run to the next.
    let seed = OffsetDateTime::now_utc().unix_timestamp_nanos().to_be_bytes();
    random[16..].copy_from_slice(&seed);
    let mut client = TlsClient::new(settings, random);
    let mut flight = Vec::new();
    let end = Instant::now() + HANDSHAKE;
    let mut tried = Rehearsal::default();
    let mut failure = None;
    loop {
        if socket.write_all(&client.output()).await.is_err() && flight.is_empty() {
            tried.is_tls = Some(false);
            break;
        }
        if client.has_opened() {
            tried.opened = true;
            break;
        }
        let mut buffer = [0; 4096];
        let patience = practice.patience.min(end.saturating_duration_since(Instant::now()));
        match timeout(patience, socket.read(&mut buffer)).await {
            Err(_) => {
                failure = Some(TlsFailure::HANDSHAKE_TIMEOUT);
                break;
            }
            Ok(Err(_) | Ok(0)) => {
                failure = Some(TlsFailure::CLOSED);
                if flight.is_empty() {
                    tried.is_tls = Some(false);
                }
                break;
            }
            Ok(Ok(read)) => {
                flight.extend_from_slice(&buffer[..read]);
                if let Err(broken) = client.input(&buffer[..read]) {
                    failure = Some(broken);
                    break;
                }
                if flight.len() > FLIGHT {
                    break;
                }
            }
        }
    }
    if !flight.is_empty() {
        tried.is_tls = Some(matches!(flight.as_slice(), [20..=23, 3, ..]));
    }
    read_flight(&flight, &mut tried, practice);
    tried.number = match failure {
        // What it says to one without a certificate is no news about the device, which may have one. What the device has
        // to say about the server's is.
        Some(TlsFailure::Number(number)) if tried.asks_certificate && !(1..256).contains(&number) => None,
        Some(TlsFailure::Number(number)) => Some(number),
        Some(TlsFailure::Crash) | None => None,
    };
    tried
}

/// What a server's flight says in the clear: RFC 5246 §7.4.
fn read_flight(flight: &[u8], tried: &mut Rehearsal, practice: &Practice) {
    const HANDSHAKE_RECORD: u8 = 22;
    let mut messages = Vec::new();
    let mut rest = flight;
    while let [HANDSHAKE_RECORD, 3, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((fragment, after)) = after.split_at_checked(length) else { break };
        messages.extend_from_slice(fragment);
        rest = after;
    }
    let mut rest = messages.as_slice();
    while let [kind, a, b, c, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((body, after)) = after.split_at_checked(length) else { break };
        match kind {
            2 => server_hello(body, tried),
            11 => tried.chain = chain(body, practice),
            13 => tried.asks_certificate = true,
            _ => {}
        }
        rest = after;
    }
}

fn server_hello(body: &[u8], tried: &mut Rehearsal) {
    let Some((&session, rest)) = body.get(34..).and_then(<[u8]>::split_first) else { return };
    let Some(rest) = rest.get(usize::from(session)..) else { return };
    let [high, low, _compression, rest @ ..] = rest else { return };
    tried.suite = Some(u16::from_be_bytes([*high, *low]));
    tried.fragment_agreed = Some(false);
    let mut extensions = rest.get(2..).unwrap_or_default();
    while let [high, low, size_high, size_low, after @ ..] = extensions {
        if u16::from_be_bytes([*high, *low]) == 1 {
            tried.fragment_agreed = Some(true);
        }
        let size = usize::from(u16::from_be_bytes([*size_high, *size_low]));
        extensions = after.get(size..).unwrap_or_default();
    }
}

fn chain(body: &[u8], practice: &Practice) -> Vec<CertificateFacts> {
    let mut rest = body.get(3..).unwrap_or_default();
    let mut chain = Vec::new();
    while let [a, b, c, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((der, after)) = after.split_at_checked(length) else { break };
        if let Ok(certificate) = Certificate::from_der(der)
            && chain.len() < CHAIN
        {
            chain.push(practice.folder.served(&certificate));
        }
        rest = after;
    }
    chain
}
