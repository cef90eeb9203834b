//! What devices meet in place of a good broker: real servers set up badly, real ones changed on their way, and scripted
//! ones for what no server does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::HOST;
use crate::office::Office;

/// `openssl s_server`, ended on drop.
pub(crate) struct OpenSsl(Child, pub(crate) u16);

impl OpenSsl {
    pub(crate) fn start(office: &Office, name: &str, key: &str, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", &office.path(&format!("{name}.crt"))]);
        command.args(["-key", &office.path(&format!("{key}.key"))]).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is needed: scripts/setup installs it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse::<SocketAddr>().ok());
        thread::spawn(move || lines.for_each(drop));
        Self(child, address.expect("s_server says where it accepts").port())
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Serves every connection on a thread of its own, until the test ends.
pub(crate) fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let each = Arc::new(each);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let each = Arc::clone(&each);
            thread::spawn(move || each(socket));
        }
    });
    port
}

/// Passes on what a real server says, changed.
pub(crate) fn between(server: u16, change: impl Fn(&mut Vec<u8>) -> bool + Send + Sync + 'static) -> u16 {
    serve(move |near| {
        let Ok(far) = TcpStream::connect((HOST, server)) else { return };
        let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        thread::spawn(move || {
            std::io::copy(&mut up_from, &mut up_to).ok();
            up_to.shutdown(Shutdown::Write).ok();
        });
        let (mut from, mut to) = (far, near);
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut bytes = buffer[..read].to_vec();
            let goes_on = change(&mut bytes);
            if to.write_all(&bytes).is_err() || !goes_on {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
    })
}

/// rustls without max_fragment_length, or with a demand for certificates.
pub(crate) fn rustls_server(office: &Office, name: &str, demands: Option<&str>, sends: usize) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let builder = match demands {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(office.der(ca))).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(office.path(&format!("{name}.key"))).unwrap();
    let config =
        Arc::new(builder.with_single_cert(vec![CertificateDer::from(office.der(name))], key).unwrap());
    serve(move |socket| {
        socket.set_read_timeout(Some(Duration::from_secs(20))).ok();
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                break;
            }
        }
        stream.write_all(&vec![0; sends]).and_then(|()| stream.flush()).ok();
        stream.sock.shutdown(Shutdown::Write).ok();
        stream.sock.read_to_end(&mut Vec::new()).ok();
    })
}

/// A plain MQTT broker that answers every CONNECT with this return code; to a ClientHello it says nothing at all.
pub(crate) fn plain_broker(code: Option<u8>) -> u16 {
    serve(move |mut socket| {
        let mut packet = [0; 512];
        let read = socket.read(&mut packet).unwrap_or(0);
        if read == 0 || packet[0] != 0x10 {
            return;
        }
        match code {
            Some(code) => drop(socket.write_all(&[0x20, 2, 0, code])),
            // Until the device has had enough.
            None => drop(socket.read(&mut packet)),
        }
    })
}

/// Debian's broker, ended on drop.
pub(crate) struct Mosquitto(Child, pub(crate) u16);

impl Mosquitto {
    pub(crate) fn start(office: &Office, name: &str, lines: &str) -> Self {
        let port = crate::support::free_port();
        let file = office.path(name);
        std::fs::write(&file, format!("listener {port} 127.0.0.1\n{lines}\n")).unwrap();
        let mut command = Command::new("mosquitto");
        command.args(["-c", &file]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("mosquitto is needed: scripts/setup installs it");
        crate::support::until(|| TcpStream::connect((HOST, port)).is_ok(), |open| *open);
        Self(child, port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
