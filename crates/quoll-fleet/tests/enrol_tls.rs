//! The whole way with nothing faked: an Easy-RSA folder issues, the device stores over HTTP, connects with mutual TLS
//! to a real server, and that server's word is the proof. Then the way out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quoll_fleet::access_list::{Refusal, Verdict, admit};
use quoll_fleet::device::DeviceState;
use quoll_fleet::enrol::{
    BrokerTarget, CaKind, Cause, EnrolError, EnrolRequest, Enrolment, Patience, Stands, http_console,
};
use quoll_fleet::issuer::{Issuer, PkiIssuer};
use quoll_fleet::presence::PresenceBoard;
use quoll_fleet::registry::{Owner, Registry};
use quoll_fleet::revoke::{RevocationReason, publish_crl, revoke};
use quoll_fleet::step::Silent;
use quoll_fleet::witness::Sighting;
use quoll_pki::{AltNames, Authority, Certificate, IssueRequest, KeyKind, KeyStorage, Profile};
use quoll_tasmota::virtual_device::{RunningDevice, VirtualProfile};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use time::OffsetDateTime;

/// A door that asks for a certificate of this CA, says CONNACK to any CONNECT and puts who came on the board.
struct Door {
    address: SocketAddr,
    board: Arc<PresenceBoard>,
}

fn door(authority: &Authority) -> Door {
    let request = IssueRequest {
        alt_names: AltNames { dns: vec![], ip: vec!["127.0.0.1".parse().unwrap()] },
        ..IssueRequest::new(Profile::Server, "hub".parse().unwrap(), KeyStorage::Discard)
    };
    let server = authority.issue(&request, OffsetDateTime::now_utc()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.pki().ca().der().to_vec())).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let key = PrivateKeyDer::from_pem_slice(server.key.pkcs8_pem().as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![CertificateDer::from(server.certificate.der().to_vec())], key)
        .unwrap();
    config.max_fragment_size = Some(1024);
    let (config, board) = (Arc::new(config), Arc::new(PresenceBoard::new()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = board.clone();
    // Ends with the test's process; each connection is bounded by its read timeout.
    std::thread::spawn(move || {
        let number = AtomicU64::new(0);
        for socket in listener.incoming().flatten() {
            let (config, board) = (config.clone(), shared.clone());
            let connection = number.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || serve(connection, socket, config, &board));
        }
    });
    Door { address, board }
}

fn serve(connection: u64, socket: TcpStream, config: Arc<ServerConfig>, board: &PresenceBoard) -> Option<()> {
    let address = socket.peer_addr().ok()?.to_string();
    socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut stream = StreamOwned::new(ServerConnection::new(config).ok()?, socket);
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).ok()?;
    // CONNECT 3.1.1: fixed header, length (one or two bytes), protocol name and level, flags, keep alive, client id.
    let start = buffer[..read].windows(4).position(|window| window == b"MQTT")? + 8;
    let length = usize::from(u16::from_be_bytes([buffer[start], buffer[start + 1]]));
    let client_id = String::from_utf8_lossy(&buffer[start + 2..start + 2 + length]).into_owned();
    let peer = stream.conn.peer_certificates()?.first()?.clone();
    let serial = Certificate::from_der(&peer).ok()?.serial().to_string();
    stream.write_all(&[0x20, 2, 0, 0]).ok()?;
    board.connected(connection, &serial, Sighting { client_id, address, at: OffsetDateTime::now_utc() });
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    board.disconnected(connection, OffsetDateTime::now_utc());
    Some(())
}

struct Home {
    _folder: tempfile::TempDir,
    authority: Arc<Authority>,
    registry: Registry,
    door: Door,
    broker: BrokerTarget,
}

impl Home {
    fn new(kind: KeyKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(theatre::authority(folder.path(), kind));
        let registry = Registry::open(&folder.path().join("fleet.db")).unwrap().acting_as("test");
        let door = door(&authority);
        let (host, port) = (door.address.ip().to_string(), door.address.port());
        let ca_kind = if kind == KeyKind::EcP256 { CaKind::Ec } else { CaKind::Rsa };
        let broker = BrokerTarget { host, port, ca_kind, server_fingerprint: [0xAB; 20], pinned_port: None };
        Self { _folder: folder, authority, registry, door, broker }
    }

    fn issuer(&self) -> PkiIssuer {
        PkiIssuer::new(self.authority.clone(), KeyStorage::Plain)
    }

    fn enrolment<'a>(&'a self, issuer: &'a PkiIssuer) -> Enrolment<'a> {
        let patience = Patience { broker: Some(Duration::from_secs(2)), ..theatre::patience() };
        let (registry, witness, broker) = (&self.registry, &*self.door.board, &self.broker);
        Enrolment { registry, issuer, witness, reporter: &Silent, broker, patience }
    }

    async fn device(&self, anchors: Vec<Vec<u8>>) -> (Arc<RunningDevice>, EnrolRequest) {
        let device = theatre::start(VirtualProfile { anchors, pace: 0.01, ..theatre::profile() }).await;
        let address = device.http_addr().to_string().parse().unwrap();
        (device, EnrolRequest::new("kitchen-plug".parse().unwrap(), address))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_bare_device_to_mutual_tls_and_out_again() {
    for kind in [KeyKind::Rsa2048, KeyKind::EcP256] {
        let home = Home::new(kind);
        let issuer = home.issuer();
        let (device, request) = home.device(vec![home.authority.pki().ca().der().to_vec()]).await;
        let console = http_console(&request.address, None);
        // As if an earlier run had been killed right after the certificate was issued.
        let issued = issuer.issue(&request.name).await.unwrap();
        let enrolled =
            home.enrolment(&issuer).run(&request, &console).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(enrolled.device.state, DeviceState::Proven, "{kind}");
        assert_eq!(
            enrolled.device.serial,
            Some(issued.serial.clone()),
            "{kind}: a second certificate was issued"
        );
        assert_eq!(enrolled.sighting.client_id, "DVES_D3E4F5", "{kind}");
        let seen = home.door.board.of(&issued.serial).unwrap();
        assert!(seen.is_online(), "{kind}");
        assert_eq!(home.door.board.flush(&home.registry).unwrap(), 1, "{kind}");
        assert_eq!(home.door.board.flush(&home.registry).unwrap(), 0, "{kind}");

        let owner = Owner::Device(request.name.clone());
        let Verdict::Admit { owner: admitted, access } = admit(&home.registry, &issued.serial).unwrap()
        else {
            panic!("{kind}: not admitted");
        };
        assert_eq!(admitted, owner);
        let subscribed: Vec<String> = device_subscriptions(&device);
        assert!(subscribed.iter().all(|filter| access.subscribe.contains(filter)), "{kind}: {access:?}");

        let (pki, now) = (home.authority.pki(), OffsetDateTime::now_utc());
        let out = revoke(&home.registry, pki, &owner, RevocationReason::KeyCompromise, now).unwrap();
        assert_eq!(
            (&out.serials, out.already, out.crl_is_behind),
            (&vec![issued.serial.clone()], false, true)
        );
        let verdict = admit(&home.registry, &issued.serial.to_ascii_lowercase()).unwrap();
        assert_eq!(verdict, Verdict::Refuse(Refusal::Revoked(owner.clone())), "{kind}");
        publish_crl(&home.registry, &home.authority, now).unwrap();
        let again = revoke(&home.registry, pki, &owner, RevocationReason::Superseded, now).unwrap();
        assert_eq!(
            (&again.serials, again.already, again.crl_is_behind),
            (&out.serials, true, false),
            "{kind}"
        );
        let entry = pki.entries().unwrap().into_iter().find(|entry| entry.is_revoked()).unwrap();
        assert_eq!(entry.serial.to_string(), issued.serial);
        let error = home.enrolment(&issuer).run(&request, &console).await.unwrap_err();
        assert!(matches!(error, EnrolError::Revoked { .. }), "{kind}: {error:?}");
        home.registry.verify_audit().unwrap();
    }
}

fn device_subscriptions(device: &RunningDevice) -> Vec<String> {
    let topic = device.state().topic;
    vec![format!("cmnd/{topic}/#"), "cmnd/tasmotas/#".into(), "cmnd/DVES_D3E4F5_fb/#".into()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_does_not_trust_us_says_so_and_goes_home() {
    let home = Home::new(KeyKind::Rsa2048);
    let stranger = tempfile::tempdir().unwrap();
    let stranger = theatre::authority(stranger.path(), KeyKind::Rsa2048);
    let issuer = home.issuer();
    let (device, request) = home.device(vec![stranger.pki().ca().der().to_vec()]).await;
    let mut enrolment = home.enrolment(&issuer);
    enrolment.patience.proof = Duration::from_secs(5);
    let error = enrolment.run(&request, &http_console(&request.address, None)).await.unwrap_err();
    let EnrolError::NotProven { cause: Cause::Tls { number: 62, .. }, stands, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(stands, &Stands::RolledBack);
    assert!(error.hint().unwrap().contains("compile the CA"), "{error}");
    assert_eq!(device.state().broker.0, theatre::OLD_HOST);
    assert_eq!(home.registry.device(&request.name).unwrap().unwrap().state, DeviceState::RolledBack);
}

#[tokio::test]
async fn the_pki_folder_says_whose_a_name_is() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(theatre::authority(folder.path(), KeyKind::EcP256));
    let now = OffsetDateTime::now_utc();
    let issuer = PkiIssuer::new(authority.clone(), KeyStorage::Plain);
    assert!(issuer.existing(&"plug".parse().unwrap()).await.unwrap().is_none());
    let made = issuer.issue(&"plug".parse().unwrap()).await.unwrap();
    let found = issuer.existing(&"plug".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(
        (&found.serial, &found.certificate_der, *found.scalar),
        (&made.serial, &made.certificate_der, *made.scalar)
    );

    let server = IssueRequest::new(Profile::Server, "hub".parse().unwrap(), KeyStorage::Discard);
    authority.issue(&server, now).unwrap();
    let error = issuer.existing(&"hub".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, quoll_fleet::issuer::IssueError::NameInUse { .. }), "{error:?}");

    let forgetful = PkiIssuer::new(authority.clone(), KeyStorage::Discard);
    let lost = forgetful.issue(&"lamp".parse().unwrap()).await.unwrap();
    let error = forgetful.existing(&"lamp".parse().unwrap()).await.unwrap_err();
    let quoll_fleet::issuer::IssueError::KeyMissing { serial, certificate_bytes, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((serial, *certificate_bytes), (&lost.serial, lost.certificate_der.len()));

    let locked = PkiIssuer::locked(authority.pki().clone(), KeyStorage::Plain);
    let error = locked.issue(&"new".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, quoll_fleet::issuer::IssueError::Locked), "{error:?}");
    assert!(locked.existing(&"plug".parse().unwrap()).await.unwrap().is_some());

    authority.pki().revoke(&made.serial.parse().unwrap(), RevocationReason::Superseded, now).unwrap();
    assert!(
        issuer.existing(&"plug".parse().unwrap()).await.unwrap().is_none(),
        "a revoked one is not offered"
    );
}

#[test]
fn a_revocation_that_the_folder_cannot_note_still_shuts_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let authority = theatre::authority(folder.path(), KeyKind::EcP256);
    let registry = Registry::open(&folder.path().join("fleet.db")).unwrap();
    let name: quoll_fleet::client::ClientName = "alice".parse().unwrap();
    registry.add_client(&name, &quoll_fleet::client::Role::Everything).unwrap();
    let request = IssueRequest::new(Profile::Client, "alice".parse().unwrap(), KeyStorage::Discard);
    let now = OffsetDateTime::now_utc();
    let serial = authority.issue(&request, now).unwrap().certificate.serial().to_string();
    registry.assign_client_certificate(&name, &serial, now + time::Duration::DAY).unwrap();
    assert!(matches!(admit(&registry, &serial).unwrap(), Verdict::Admit { .. }));

    let index = authority.pki().dir().join("index.txt");
    let sound = std::fs::read(&index).unwrap();
    std::fs::write(&index, "this is no index\n").unwrap();
    let owner = Owner::Client(name);
    let error = revoke(&registry, authority.pki(), &owner, RevocationReason::KeyCompromise, now).unwrap_err();
    assert_eq!(error.serials(), std::slice::from_ref(&serial));
    assert!(error.hint().unwrap().contains("again"));
    assert_eq!(admit(&registry, &serial).unwrap(), Verdict::Refuse(Refusal::Revoked(owner.clone())));

    std::fs::write(&index, sound).unwrap();
    // The second time with another reason: the first one stands.
    revoke(&registry, authority.pki(), &owner, RevocationReason::Superseded, now).unwrap();
    let entries = authority.pki().entries().unwrap();
    let entry = entries.iter().find(|entry| entry.serial.to_string() == serial).unwrap();
    let quoll_pki::EntryState::Revoked { reason, .. } = &entry.state else { panic!("{entry:?}") };
    assert_eq!(*reason, RevocationReason::KeyCompromise);
}
