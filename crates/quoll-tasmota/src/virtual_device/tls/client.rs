//! The machine: bytes of the server in, bytes for the server out. RFC 5246 §7.3, as BearSSL's client walks it.
//!
//! No clock and no dice inside: the time is in the settings, the randomness is handed in but for the ephemeral key,
//! which aws-lc-rs makes. After an error the machine is dead; BearSSL sends no alert then, and so do we.

use aws_lc_rs::{
    agreement::{ECDH_P256, EphemeralPrivateKey, PrivateKey, UnparsedPublicKey, agree_ephemeral},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use zeroize::Zeroizing;

use super::{
    ClientAuth, TlsFailure, TlsSettings, Trust,
    chain::{self, Server, ServerKey},
    hello::{ECDHE_ECDSA_AES128_GCM, ServerHello, client_hello, server_hello},
    number,
    record::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, RecordReader, RecordWriter},
    schedule::{DirectionKey, Secrets},
    wire::{Reader, message, put_vector},
};

const HELLO_REQUEST: u8 = 0;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const FINISHED: u8 = 20;

const CLOSE_NOTIFY: u8 = 0;
const NO_RENEGOTIATION: u8 = 100;

/// Handshake bytes we keep for the transcript. A device streams them; a chain of several 6 KiB certificates is the
/// most anybody sends.
const TRANSCRIPT_BYTES: usize = 256 * 1024;

/// Longest signature of a ServerKeyExchange that BearSSL has room for: RSA-4096.
const SIGNATURE_BYTES: usize = 512;
/// Longest point: P-521.
const POINT_BYTES: usize = 133;

/// A TLS 1.2 client connection without a socket.
pub struct TlsClient {
    settings: TlsSettings,
    random: [u8; 32],
    reader: RecordReader,
    writer: RecordWriter,
    stage: Stage,
    transcript: Vec<u8>,
    /// Handshake bytes of a message that is not complete yet.
    unfinished: Vec<u8>,
    plaintext: Vec<u8>,
    summary: Summary,
    opened: bool,
}

/// What a finished handshake agreed on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// The cipher suite, 0xC02F or 0xC02B.
    pub suite: u16,
    /// Whether the server answered max_fragment_length.
    pub fragment_agreed: bool,
    /// Whether the server asked for a client certificate.
    pub certificate_asked: bool,
    /// Fingerprint of the server's key, in fingerprint mode.
    pub fingerprint: Option<[u8; 20]>,
}

/// What comes next, with what was learned so far.
enum Stage {
    Hello,
    Certificate(ServerHello),
    KeyExchange(ServerHello, Server),
    Done { point: Point, server_random: [u8; 32], asked: Option<bool> },
    ChangeCipher { secrets: Secrets, incoming: DirectionKey },
    Finished(Secrets),
    Open,
    Closed,
}

/// The server's ephemeral point.
type Point = Vec<u8>;

/// A certificate and the key that signs for it.
type Identity = (Vec<u8>, Zeroizing<[u8; 32]>);

impl TlsClient {
    /// Begins a handshake; the ClientHello is waiting in [`Self::output`]. The first four bytes of the random are
    /// sent as zero, as BearSSL does without a clock.
    #[must_use]
    pub fn new(settings: TlsSettings, mut random: [u8; 32]) -> Self {
        random[..4].fill(0);
        let mut client = Self {
            reader: RecordReader::new(settings.fragment),
            writer: RecordWriter::new(settings.fragment),
            stage: Stage::Hello,
            transcript: Vec::new(),
            unfinished: Vec::new(),
            plaintext: Vec::new(),
            summary: Summary::default(),
            opened: false,
            random,
            settings,
        };
        let hello = client_hello(&random, &client.settings.host, client.settings.fragment, client.ecdsa());
        client.send_handshake(&hello);
        client
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// The connection is over, with the number a device would log.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        self.reader.feed(bytes);
        while let Some((kind, content)) = self.reader.next()? {
            match kind {
                HANDSHAKE => self.handshake_bytes(&content)?,
                CHANGE_CIPHER_SPEC => self.change_cipher(&content)?,
                ALERT => self.alerts(&content)?,
                APPLICATION_DATA if matches!(self.stage, Stage::Open) => self.plaintext.extend(content),
                _ => return Err(number::UNEXPECTED),
            }
            if matches!(self.stage, Stage::Closed) {
                break;
            }
        }
        Ok(())
    }

    /// Bytes for the server.
    #[must_use]
    pub fn output(&mut self) -> Vec<u8> {
        self.writer.take()
    }

    /// Received application data.
    #[must_use]
    pub fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plaintext)
    }

    /// Sends application data. Before the handshake is done, and after the end, nothing happens.
    pub fn send(&mut self, data: &[u8]) {
        if self.is_open() {
            self.writer.write(APPLICATION_DATA, data);
        }
    }

    /// Says goodbye.
    pub fn close(&mut self) {
        if self.is_open() {
            self.writer.write(ALERT, &[1, CLOSE_NOTIFY]);
        }
        self.stage = Stage::Closed;
    }

    /// The handshake is done and nobody has closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// The handshake was done once, whatever came after it.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.opened
    }

    /// The server said goodbye, or we did.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// What was agreed on; complete once open.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// In fingerprint mode RSA is forced again at each connect. Facts §4.2.
    fn ecdsa(&self) -> bool {
        self.settings.ecdsa && matches!(self.settings.trust, Trust::Anchors(_))
    }

    fn send_handshake(&mut self, message: &[u8]) {
        self.transcript.extend_from_slice(message);
        self.writer.write(HANDSHAKE, message);
    }

    fn alerts(&mut self, content: &[u8]) -> Result<(), TlsFailure> {
        for alert in content.chunks(2) {
            match *alert {
                [1, CLOSE_NOTIFY] if !self.is_open() => return Err(TlsFailure::CLOSED),
                [1, CLOSE_NOTIFY] => self.stage = Stage::Closed,
                [1, _] => {}
                [2, description] => return Err(TlsFailure::Number(256 + i32::from(description))),
                _ => return Err(number::BAD_ALERT),
            }
        }
        Ok(())
    }

    fn change_cipher(&mut self, content: &[u8]) -> Result<(), TlsFailure> {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::ChangeCipher { secrets, incoming } if content == [1] && self.unfinished.is_empty() => {
                self.reader.encrypt(&incoming);
                self.stage = Stage::Finished(secrets);
                Ok(())
            }
            _ => Err(number::BAD_CCS),
        }
    }

    fn handshake_bytes(&mut self, content: &[u8]) -> Result<(), TlsFailure> {
        self.unfinished.extend_from_slice(content);
        if self.unfinished.len() + self.transcript.len() > TRANSCRIPT_BYTES {
            return Err(number::TOO_LARGE);
        }
        while let Some(&[kind, a, b, c]) = self.unfinished.first_chunk::<4>() {
            let length = 4 + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c);
            if self.unfinished.len() < length {
                break;
            }
            let rest = self.unfinished.split_off(length);
            let message = std::mem::replace(&mut self.unfinished, rest);
            self.message(kind, &message)?;
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, whole: &[u8]) -> Result<(), TlsFailure> {
        let body = &whole[4..];
        if kind == HELLO_REQUEST {
            // Not part of the transcript; renegotiation is refused. RFC 5746 §4.5.
            if self.is_open() {
                self.writer.write(ALERT, &[1, NO_RENEGOTIATION]);
            }
            return Ok(());
        }
        let before = self.transcript.len();
        self.transcript.extend_from_slice(whole);
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        self.stage = match (kind, stage) {
            (SERVER_HELLO, Stage::Hello) => {
                let hello = server_hello(body, self.settings.fragment, self.ecdsa())?;
                self.summary.suite = hello.suite;
                self.summary.fragment_agreed = hello.fragment_agreed;
                Stage::Certificate(hello)
            }
            (CERTIFICATE, Stage::Certificate(hello)) => {
                let server = self.certificates(body)?;
                self.summary.fingerprint = server.fingerprint;
                Stage::KeyExchange(hello, server)
            }
            (SERVER_KEY_EXCHANGE, Stage::KeyExchange(hello, server)) => {
                let point = self.key_exchange(body, &hello, &server.key)?;
                Stage::Done { point, server_random: hello.random, asked: None }
            }
            (CERTIFICATE_REQUEST, Stage::Done { point, server_random, asked: None }) => {
                self.summary.certificate_asked = true;
                Stage::Done { point, server_random, asked: Some(accepts_ecdsa(body)?) }
            }
            (SERVER_HELLO_DONE, Stage::Done { point, server_random, asked }) => {
                if !body.is_empty() {
                    return Err(number::BAD_HELLO_DONE);
                }
                self.flight(&point, server_random, asked)?
            }
            (FINISHED, Stage::Finished(secrets)) => {
                let hash = digest(&SHA256, &self.transcript[..before]);
                if body != secrets.finished("server finished", hash.as_ref()).as_slice() {
                    return Err(number::BAD_FINISHED);
                }
                self.transcript = Vec::new();
                self.opened = true;
                Stage::Open
            }
            _ => return Err(number::UNEXPECTED),
        };
        Ok(())
    }

    fn certificates(&self, body: &[u8]) -> Result<Server, TlsFailure> {
        let mut reader = Reader(body);
        let mut list = Reader(reader.vector(3)?);
        reader.end()?;
        let mut chain = Vec::new();
        while !list.is_empty() {
            chain.push(list.vector(3)?);
        }
        let mut settings = self.settings.clone();
        settings.ecdsa = self.ecdsa();
        chain::check(&chain, &settings)
    }

    /// RFC 8422 §5.4: curve, point, and a signature over both randoms and them.
    fn key_exchange(&self, body: &[u8], hello: &ServerHello, key: &ServerKey) -> Result<Point, TlsFailure> {
        let mut reader = Reader(body);
        if reader.take(3)? != [0x03, 0x00, 0x17] {
            return Err(number::INVALID_ALGORITHM);
        }
        let point = reader.vector(1)?.to_vec();
        let parameters = &body[..4 + point.len()];
        let algorithm = reader.take(2)?;
        let signature = reader.vector(2)?;
        reader.end()?;
        if point.len() > POINT_BYTES {
            return Err(number::INVALID_ALGORITHM);
        }
        if signature.len() > SIGNATURE_BYTES {
            return Err(number::LIMIT_EXCEEDED);
        }
        let is_ec = hello.suite == ECDHE_ECDSA_AES128_GCM;
        if algorithm != [0x04, if is_ec { 0x03 } else { 0x01 }] {
            return Err(number::INVALID_ALGORITHM);
        }
        if matches!(key, ServerKey::Ec(_)) != is_ec {
            return Err(number::WRONG_KEY_USAGE);
        }
        let signed = [&self.random[..], &hello.random, parameters].concat();
        if key.verify(&self.settings, &signed, signature) { Ok(point) } else { Err(number::BAD_SIGNATURE) }
    }

    /// Certificate (if asked), ClientKeyExchange, CertificateVerify (if a certificate went out), ChangeCipherSpec,
    /// Finished.
    fn flight(
        &mut self,
        point: &[u8],
        server_random: [u8; 32],
        asked: Option<bool>,
    ) -> Result<Stage, TlsFailure> {
        let identity = match asked {
            None => None,
            Some(acceptable) => {
                let identity = self.identity(acceptable)?;
                let mut list = Vec::new();
                if let Some((certificate, _)) = &identity {
                    put_vector(&mut list, 3, certificate);
                }
                let mut body = Vec::new();
                put_vector(&mut body, 3, &list);
                self.send_handshake(&message(CERTIFICATE, &body));
                identity
            }
        };
        let premaster = self.send_key_exchange(point)?;
        let secrets = Secrets::new(&premaster, self.random, server_random);
        if let Some((_, key)) = identity {
            self.send_certificate_verify(&key)?;
        }
        let (outgoing, incoming) = secrets.keys();
        self.writer.write(CHANGE_CIPHER_SPEC, &[1]);
        self.writer.encrypt(&outgoing);
        let hash = digest(&SHA256, &self.transcript);
        let finished = message(FINISHED, &secrets.finished("client finished", hash.as_ref()));
        self.send_handshake(&finished);
        Ok(Stage::ChangeCipher { secrets, incoming })
    }

    /// Certificate and key to answer with; none for an empty certificate message. Facts §3.4.
    fn identity(&self, acceptable: bool) -> Result<Option<Identity>, TlsFailure> {
        match &self.settings.client_auth {
            ClientAuth::Missing { crashes: true } if acceptable => Err(TlsFailure::Crash),
            ClientAuth::Stored { key, certificate } if acceptable => {
                Ok(Some((certificate.clone(), key.clone())))
            }
            _ => Ok(None),
        }
    }

    fn send_key_exchange(&mut self, point: &[u8]) -> Result<Zeroizing<Vec<u8>>, TlsFailure> {
        let random = SystemRandom::new();
        let own =
            EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(|_| number::INVALID_ALGORITHM)?;
        let public = own.compute_public_key().map_err(|_| number::INVALID_ALGORITHM)?;
        let mut body = Vec::new();
        put_vector(&mut body, 1, public.as_ref());
        self.send_handshake(&message(CLIENT_KEY_EXCHANGE, &body));
        let peer = UnparsedPublicKey::new(&ECDH_P256, point);
        let copy = |shared: &[u8]| Ok(Zeroizing::new(shared.to_vec()));
        agree_ephemeral(own, peer, number::INVALID_ALGORITHM, copy)
    }

    /// RFC 5246 §7.4.8: ECDSA with SHA-256 over all messages so far.
    fn send_certificate_verify(&mut self, key: &[u8; 32]) -> Result<(), TlsFailure> {
        let sign = || {
            let public = PrivateKey::from_private_key(&ECDH_P256, key).ok()?.compute_public_key().ok()?;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                key,
                public.as_ref(),
            );
            pair.ok()?.sign(&SystemRandom::new(), &self.transcript).ok()
        };
        // A stored key that is no scalar of the curve cannot sign.
        let signature = sign().ok_or(number::INVALID_ALGORITHM)?;
        let mut body = vec![0x04, 0x03];
        put_vector(&mut body, 2, signature.as_ref());
        self.send_handshake(&message(CERTIFICATE_VERIFY, &body));
        Ok(())
    }
}

/// Whether a CertificateRequest takes an ECDSA certificate with SHA-256; names of CAs are not looked at.
fn accepts_ecdsa(body: &[u8]) -> Result<bool, TlsFailure> {
    const ECDSA_SIGN: u8 = 64;
    let mut reader = Reader(body);
    let types = reader.vector(1)?;
    let algorithms = reader.vector(2)?;
    reader.vector(2)?;
    reader.end()?;
    let signs = algorithms.chunks_exact(2).any(|algorithm| algorithm == [0x04, 0x03]);
    Ok(types.contains(&ECDSA_SIGN) && signs)
}
