//! TLS servers for tests: `openssl s_server`, and rustls on a thread.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::certificates::{Identity, text};

/// A running `openssl s_server`, ended on drop.
pub(crate) struct OpenSsl {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl OpenSsl {
    /// TLS 1.2 with a certificate (and what else to send with it) and further options.
    pub(crate) fn start(identity: &Identity, chain: Option<&Path>, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-tls1_2"]);
        command.args(["-cert", text(&identity.certificate), "-key", text(&identity.key)]);
        if let Some(chain) = chain {
            command.args(["-cert_chain", text(chain)]);
        }
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("these tests need the openssl command");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok());
        // Whatever else it prints has to be read, or it would block.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("s_server says where it accepts") }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a rustls server is to do.
#[derive(Default)]
pub(crate) struct Rustls {
    pub(crate) max_fragment_size: Option<usize>,
    /// Demands a client certificate from this CA.
    pub(crate) client_ca: Option<CertificateDer<'static>>,
    /// Sent as application data after the handshake, in one write.
    pub(crate) send: usize,
}

impl Rustls {
    /// Serves one connection on a thread of its own.
    pub(crate) fn start(&self, certificates: &Path, key: &Path) -> SocketAddr {
        let config = Arc::new(self.config(certificates, key));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, send) = (listener.local_addr().unwrap(), self.send);
        thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            serve(socket, config, send);
        });
        address
    }

    pub(crate) fn config(&self, certificates: &Path, key: &Path) -> ServerConfig {
        let chain = CertificateDer::pem_file_iter(certificates).unwrap().map(|one| one.unwrap()).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.max_fragment_size = self.max_fragment_size;
        config
    }
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>, send: usize) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
    while stream.conn.is_handshaking() {
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            // The alert is out; wait for the peer to go, so that a reset does not overtake it.
            let _ = stream.sock.shutdown(std::net::Shutdown::Write);
            let _ = stream.sock.read_to_end(&mut Vec::new());
            return;
        }
    }
    let _ = stream.write_all(&vec![b'x'; send]);
    stream.conn.send_close_notify();
    let _ = stream.flush();
    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    let _ = stream.sock.read_to_end(&mut Vec::new());
}
