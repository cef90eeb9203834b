//! A bare broker: everybody may do everything, nothing is kept unless `--journal` says where. For load tests and for
//! trying things out.
//!
//! ```text
//! cargo run -p quoll-server --release --example bare -- --port 1883 [--ws-port 8080] \
//!     [--tls-port 8883 --cert server.crt --key server.key [--client-ca ca.crt]] [--shards N] [--inflight N] [--round-robin] [--log] \
//!     [--journal broker.db [--durability power|process|none]]
//! ```

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quoll_broker::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_server::journal::Journal;
use quoll_server::tls::{ClientAuth, IdentityParts, LiveIdentity, TlsIdentity};
use quoll_server::{
    ConnectFacts, Doorkeeper, Durability, Listener, MemoryJournal, Placement, Settings, SqliteJournal,
    Transport, Verdict, WebSocketSettings, start,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Lets everybody in.
struct OpenDoor(Arc<Grants>);

#[async_trait::async_trait]
impl Doorkeeper for OpenDoor {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let name = facts.certificate.and_then(|it| it.common_name.as_deref()).unwrap_or_default();
        let credential = facts.certificate.map(|it| it.credential);
        let identity = Identity { name: name.into(), credential };
        Verdict::Admit(Admission { identity, grants: Arc::clone(&self.0), client_id: None })
    }
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let options = options()?;
    if options.contains_key("log") {
        tracing_subscriber::fmt().init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &HashMap<String, String>) -> Result<(), Failure> {
    let address =
        |port: &str| -> Result<SocketAddr, Failure> { Ok((Ipv4Addr::LOCALHOST, port.parse()?).into()) };
    let mut listeners = Vec::new();
    if let Some(port) = options.get("port") {
        listeners.push(Listener::new("plain", address(port)?, Transport::Tcp));
    }
    if let Some(port) = options.get("tls-port") {
        let live = LiveIdentity::new(identity(options)?);
        listeners.push(Listener::new("tls", address(port)?, Transport::Tls(live)));
    }
    if let Some(port) = options.get("ws-port") {
        let websocket = Some(WebSocketSettings::default());
        let listener = Listener::new("websocket", address(port)?, Transport::Tcp);
        listeners.push(Listener { websocket, ..listener });
    }
    let mut settings = Settings::new(listeners);
    settings.shards = options.get("shards").map_or(Ok(1), |text| text.parse())?;
    settings.rules.max_queued_messages = 0;
    if let Some(inflight) = options.get("inflight") {
        settings.rules.max_inflight_messages = inflight.parse()?;
    }
    if options.contains_key("round-robin") {
        settings.placement = Placement::RoundRobin;
    }
    let door = Arc::new(OpenDoor(Arc::new(Grants::all())));
    let handle = start(settings, door, journal(options)?).await?;
    for (name, address) in handle.addresses() {
        println!("{name} on {address}");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    handle.stop(Duration::from_secs(2)).await;
    Ok(())
}

fn journal(options: &HashMap<String, String>) -> Result<Box<dyn Journal>, Failure> {
    let Some(path) = options.get("journal") else { return Ok(Box::new(MemoryJournal::default())) };
    let durability = match options.get("durability").map(String::as_str) {
        None | Some("power") => Durability::Power,
        Some("process") => Durability::Process,
        Some("none") => Durability::None,
        Some(other) => return Err(format!("{other} is no durability").into()),
    };
    let opened = SqliteJournal::open(std::path::Path::new(path), durability);
    Ok(Box::new(opened.map_err(|error| format!("{error}; {}", error.hint().unwrap_or_default()))?))
}

fn identity(options: &HashMap<String, String>) -> Result<TlsIdentity, Failure> {
    let named = |option: &str| options.get(option).ok_or_else(|| format!("--{option} is missing"));
    let client_roots = match options.get("client-ca") {
        Some(path) => CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let client_auth = if client_roots.is_empty() { ClientAuth::None } else { ClientAuth::Required };
    Ok(TlsIdentity::new(IdentityParts {
        chain: CertificateDer::pem_file_iter(named("cert")?)?.collect::<Result<_, _>>()?,
        key: PrivateKeyDer::from_pem_file(named("key")?)?,
        client_roots,
        revoked: HashSet::new(),
        client_auth,
    })?)
}

/// `--name value` pairs; `--log` and `--round-robin` stand alone.
fn options() -> Result<HashMap<String, String>, Failure> {
    let mut found = HashMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or_else(|| format!("{word} is no option"))?.to_owned();
        let alone = matches!(name.as_str(), "log" | "round-robin");
        let value = if alone {
            String::new()
        } else {
            words.next().ok_or_else(|| format!("{word} wants a value"))?
        };
        found.insert(name, value);
    }
    Ok(found)
}
