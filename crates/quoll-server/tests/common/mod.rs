//! What the tests of this crate share: a server on free ports, certificates made by OpenSSL, peers that speak MQTT over
//! real sockets of 127.0.0.1, and the programs of others.

// Each test file uses its own part of this.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports, clippy::unwrap_used)]

#[path = "../../../quoll-mqtt/tests/support/free_port.rs"]
mod free_port;
pub mod web;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(crate) use free_port::free_port;
use quoll_broker::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::*;
use quoll_mqtt::{
    DecodeContext, Decoded, Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName,
    decode, encode,
};
use quoll_server::tls::{ClientAuth, IdentityParts, LiveIdentity, TlsIdentity};
use quoll_server::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Nothing that is expected takes this long.
pub const LONG: Duration = Duration::from_secs(30);

/// Lets everybody in under the name of its certificate, or its user name; "evil" is refused, and "slow" waits for the
/// bolt.
pub struct Door {
    pub bolt: Arc<tokio::sync::Semaphore>,
}

#[async_trait::async_trait]
impl Doorkeeper for Door {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let username = facts.connect.username.as_deref().unwrap_or_default();
        match username {
            "evil" => return Verdict::Refuse(ReasonCode::NOT_AUTHORIZED),
            "slow" => drop(self.bolt.acquire().await),
            _ => {}
        }
        let certified = facts.certificate.and_then(|it| it.common_name.as_deref());
        let name = certified.unwrap_or(username).into();
        let identity = Identity { name, credential: facts.certificate.map(|it| it.credential) };
        static ALL: OnceLock<Arc<Grants>> = OnceLock::new();
        let grants = Arc::clone(ALL.get_or_init(|| Arc::new(Grants::all())));
        Verdict::Admit(Admission { identity, grants, client_id: None })
    }
}

pub struct Server {
    pub handle: Handle,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub live: LiveIdentity,
    pub bolt: Arc<tokio::sync::Semaphore>,
}

/// A server with a plain and a TLS listener that asks for certificates.
pub async fn serve(change: impl FnOnce(&mut Settings)) -> Server {
    serve_with(Box::new(MemoryJournal::default()), change).await
}

pub async fn serve_with(journal: Box<dyn journal::Journal>, change: impl FnOnce(&mut Settings)) -> Server {
    let live = LiveIdentity::new(pki().identity(ClientAuth::Required, &[]));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plain = Listener::new("plain", address, Transport::Tcp);
    let tls = Listener::new("tls", address, Transport::Tls(live.clone()));
    let mut settings = Settings::new(vec![plain, tls]);
    settings.shards = 1;
    change(&mut settings);
    let bolt = Arc::new(tokio::sync::Semaphore::new(0));
    let handle =
        start(settings, Arc::new(Door { bolt: Arc::clone(&bolt) }), journal).await.expect("it starts");
    let addresses = handle.addresses();
    Server { plain: addresses[0].1, tls: addresses[1].1, handle, live, bolt }
}

/// Two shards that clients are dealt to in turn.
pub fn two_shards(settings: &mut Settings) {
    settings.shards = 2;
    settings.placement = Placement::RoundRobin;
}

// --- programs of others ----------------------------------------------------------------------------------------------

/// Runs a program that this machine must have.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test and cannot be run: {error}"))
}

pub fn run_well(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The stand-in Tasmota device, built once.
pub fn bearssl_device() -> &'static Path {
    static DEVICE: OnceLock<PathBuf> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/tools/bearssl-device");
        let folder = scratch("bearssl-device");
        for file in ["Makefile", "bearssl-device.c"] {
            std::fs::copy(format!("{source}/{file}"), folder.join(file))
                .expect("the device's source is there");
        }
        run_well("make", &["-C", folder.to_str().unwrap()]);
        folder.join("bearssl-device")
    })
}

/// A folder of this test process.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

// --- certificates ----------------------------------------------------------------------------------------------------

pub struct Pki {
    pub folder: PathBuf,
}

/// A CA with RSA keys, a server certificate for localhost, devices "lamp", "plug" and "stray" with P-256 keys.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let pki = Pki { folder: scratch("pki") };
        let (key, certificate) = (pki.path("ca.key"), pki.path("ca.crt"));
        run_well(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-sha256",
                "-days",
                "30",
                "-subj",
                "/CN=Test CA",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        );
        pki.issue("server", &["rsa:2048"], "subjectAltName=DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1\n");
        for device in ["lamp", "plug", "stray"] {
            pki.issue(
                device,
                &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
                "keyUsage=critical,digitalSignature\n",
            );
        }
        pki
    })
}

impl Pki {
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).to_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str, algorithm: &[&str], extensions: &str) {
        let (key, request, certificate) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.csr")),
            self.path(&format!("{name}.crt")),
        );
        let subject = format!("/CN={name}");
        let mut arguments = vec!["req", "-newkey"];
        arguments.extend(algorithm);
        arguments.extend(["-nodes", "-sha256", "-subj", &subject, "-keyout", &key, "-out", &request]);
        run_well("openssl", &arguments);
        let file = self.path(&format!("{name}.ext"));
        std::fs::write(&file, extensions).unwrap();
        let (ca, ca_key) = (self.path("ca.crt"), self.path("ca.key"));
        run_well(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-sha256",
                "-days",
                "30",
                "-extfile",
                &file,
                "-out",
                &certificate,
            ],
        );
    }

    pub fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()
    }

    pub fn credential(&self, name: &str) -> [u8; 32] {
        tls::PeerCertificate::read(&self.certificate(name)).unwrap().credential
    }

    pub fn identity(&self, client_auth: ClientAuth, revoked: &[&str]) -> TlsIdentity {
        TlsIdentity::new(IdentityParts {
            chain: vec![self.certificate("server")],
            key: PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap(),
            client_roots: vec![self.certificate("ca")],
            revoked: revoked.iter().map(|name| self.credential(name)).collect::<HashSet<_>>(),
            client_auth,
        })
        .unwrap()
    }

    pub fn client_config(
        &self,
        name: Option<&str>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca")).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        match name {
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(vec![self.certificate(name)], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }
}

// --- peers -----------------------------------------------------------------------------------------------------------

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A client by hand.
pub struct Peer {
    pub stream: Box<dyn Stream>,
    pub version: ProtocolVersion,
    bytes: Vec<u8>,
}

pub fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.set_write_timeout(Some(LONG)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

pub fn dial_tls(
    address: SocketAddr,
    device: Option<&str>,
    version: &'static rustls::SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let config = Arc::new(pki().client_config(device, version));
    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, dial(address))
}

pub fn connect_packet(client_id: &str, version: ProtocolVersion) -> Connect {
    Connect {
        version,
        bridge: false,
        client_id: client_id.into(),
        clean_start: true,
        keep_alive: 60,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

pub fn bytes_of(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}

pub fn subscribe(filter: &str, qos: QoS) -> Packet {
    let filter = TopicFilter::parse(filter).unwrap();
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(77).unwrap(),
        subscriptions: vec![Subscription { filter, options }],
        properties: SubscribeProperties::default(),
    }))
}

pub fn publish(topic: &str, payload: impl Into<Vec<u8>>, delivery: Delivery) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery,
        topic: Some(TopicName::parse(topic).unwrap()),
        payload: bytes::Bytes::from(payload.into()),
        properties: None,
    })
}

impl Peer {
    pub fn over(stream: impl Stream + 'static, version: ProtocolVersion) -> Self {
        Self { stream: Box::new(stream), version, bytes: Vec::new() }
    }

    /// A connected client.
    pub fn connect(stream: impl Stream + 'static, client_id: &str, version: ProtocolVersion) -> Self {
        Self::connect_as(stream, connect_packet(client_id, version))
    }

    pub fn connect_as(stream: impl Stream + 'static, connect: Connect) -> Self {
        let mut peer = Self::over(stream, connect.version);
        peer.send(&Packet::Connect(Box::new(connect)));
        let answer = peer.receive();
        let Some(Packet::ConnAck(answer)) = &answer else { panic!("no CONNACK but {answer:?}") };
        assert_eq!(answer.reason, ReasonCode::SUCCESS);
        peer
    }

    pub fn plain(server: &Server, client_id: &str) -> Self {
        Self::connect(dial(server.plain), client_id, ProtocolVersion::V5)
    }

    pub fn secure(server: &Server, device: &str) -> Self {
        Self::connect(
            dial_tls(server.tls, Some(device), &rustls::version::TLS12),
            device,
            ProtocolVersion::V5,
        )
    }

    pub fn send(&mut self, packet: &Packet) {
        let bytes = bytes_of(packet, self.version);
        self.stream.write_all(&bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(&subscribe(filter, qos));
        assert!(matches!(self.receive(), Some(Packet::SubAck(_))));
    }

    /// The next packet, or `None` where the connection ended.
    pub fn receive(&mut self) -> Option<Packet> {
        let context =
            DecodeContext { version: Some(self.version), maximum_packet_size: u32::MAX, role: Role::Client };
        loop {
            if let Decoded::Packet(packet, used) = decode(&self.bytes, &context).unwrap() {
                self.bytes.drain(..used);
                return Some(packet);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => self.bytes.extend(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came within {LONG:?}")
                }
                Err(_) => return None,
            }
        }
    }

    pub fn receive_publish(&mut self) -> Publish {
        match self.receive() {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no PUBLISH but {other:?}"),
        }
    }

    /// Still there, and everything that was sent has been handled.
    pub fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert!(matches!(self.receive(), Some(Packet::PingResp)));
    }
}

/// Asks again and again until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
