//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a password is proven without being told, and the server proves that it knows it.
//!
//! Records stand in a file beside the password file, `FILE.scram`, which Mosquitto never sees: `user:RECORD:BINDING`, the record
//! in the form of RFC 5803. The binding is a digest of the user's hash in the password file: a record whose password was
//! changed since, by whatever tool, counts for nothing. No channel binding; names and passwords are taken as they are, without
//! SASLprep, which leaves ASCII as it is.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use super::password_hash::{HashError, PasswordHash};

/// The method's name in MQTT.
pub const METHOD: &str = "SCRAM-SHA-256";
/// Iterations of a new record: RFC 7677 wants at least 4,096; the client pays for them.
pub const ITERATIONS: u32 = 10_000;
/// More would be an attack by the file, on clients.
const MAX_ITERATIONS: u32 = 1_000_000;
/// Bytes of a message of the exchange; names and nonces fit.
const MAX_MESSAGE: usize = 8 * 1024;
/// Bytes of a file: some 100,000 records.
pub const MAX_FILE: usize = 32 << 20;
const SALT: usize = 16;
const KEY: usize = 32;
/// Bytes of chance in our half of the nonce.
const NONCE: usize = 18;

/// What proves a password, without it.
#[derive(Clone, Eq, PartialEq)]
pub struct ScramRecord {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY],
    server_key: [u8; KEY],
}

/// Chance from which records are made up for users that there are not.
#[derive(Clone)]
pub struct Secret([u8; KEY]);

/// Records by user name, with their bindings.
#[derive(Clone, Debug, Default)]
pub struct ScramFile(HashMap<String, (ScramRecord, [u8; KEY])>);

/// Why a file is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line}: this is no record of the form user:SCRAM-SHA-256$ITERATIONS:SALT$KEY:KEY:BINDING")]
pub struct ScramFileError {
    /// Line, from 1.
    pub line: usize,
}

/// Why an exchange ends. The peer is told no more than that it does.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ScramError {
    /// Not a message of RFC 5802, or one that asks for what there is not.
    #[error("this is no message of SCRAM-SHA-256, or it asks for a channel binding or an extension")]
    Message,
    /// Wrong user or password.
    #[error("the proof is wrong")]
    Proof,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Secret {
    /// A new one. Without chance all are the same: then somebody may learn which users there are.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; KEY];
        let _ = rand::fill(&mut bytes);
        Self(bytes)
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl ScramRecord {
    /// A record of a password, with a new salt. Takes milliseconds.
    ///
    /// # Errors
    /// Where there are no random numbers.
    pub fn new(password: &[u8]) -> Result<Self, HashError> {
        let mut salt = vec![0; SALT];
        rand::fill(&mut salt).map_err(|_| HashError::Random)?;
        let iterations = NonZeroU32::new(ITERATIONS).ok_or(HashError::Cost)?;
        Ok(Self::derive(password, salt, iterations))
    }

    fn derive(password: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0; KEY]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted[..]);
        let client_key = Zeroizing::new(sign(&salted[..], b"Client Key"));
        let stored_key = sha256(&client_key[..]);
        Self { iterations, salt, stored_key, server_key: sign(&salted[..], b"Server Key") }
    }

    /// Reads a record in the form of RFC 5803.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (cost.split_once(':')?, keys.split_once(':')?);
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| (1..=64).contains(&salt.len()))?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let record = Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? };
        (iterations.get() <= MAX_ITERATIONS).then_some(record)
    }
}

/// In the form of RFC 5803.
impl fmt::Display for ScramRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, stored) = (STANDARD.encode(&self.salt), STANDARD.encode(self.stored_key));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{}", self.iterations, STANDARD.encode(self.server_key))
    }
}

/// Records can be guessed from; they are shown to nobody.
impl fmt::Debug for ScramRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SCRAM-SHA-256$(secret)")
    }
}

impl ScramFile {
    /// Reads a file's content.
    ///
    /// # Errors
    /// The first line that is no record.
    pub fn parse(content: &[u8]) -> Result<Self, ScramFileError> {
        let mut records = HashMap::new();
        for (line, text) in (1..).zip(content.split(|byte| *byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() || text.first() == Some(&b'#') {
                continue;
            }
            let parts = std::str::from_utf8(text).ok().and_then(|text| {
                let (name, rest) = text.split_once(':')?;
                let (record, binding) = rest.rsplit_once(':')?;
                let binding = STANDARD.decode(binding).ok()?.try_into().ok()?;
                Some((name.to_owned(), (ScramRecord::parse(record)?, binding)))
            });
            let (name, record) = parts.ok_or(ScramFileError { line })?;
            records.insert(name, record);
        }
        Ok(Self(records))
    }

    /// The record of a user whose hash in the password file is this one.
    #[must_use]
    pub fn record(&self, name: &str, hash: &PasswordHash) -> Option<&ScramRecord> {
        let (record, binding) = self.0.get(name)?;
        constant_time::verify_slices_are_equal(binding, &binding_of(hash)).is_ok().then_some(record)
    }

    /// Gives a user a record that belongs to this hash in the password file.
    pub fn set(&mut self, name: &str, record: ScramRecord, hash: &PasswordHash) {
        self.0.insert(name.to_owned(), (record, binding_of(hash)));
    }

    /// Takes a user's record out; false if there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Whether a user has a record, whatever it belongs to.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file's content, by name.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort();
        let mut text = Zeroizing::new(String::new());
        for name in names {
            if let Some((record, binding)) = self.0.get(name) {
                text.push_str(&format!("{name}:{record}:{}\n", STANDARD.encode(binding)));
            }
        }
        text
    }
}

/// Where the records of a password file are.
#[must_use]
pub fn beside(password_file: &Path) -> PathBuf {
    let mut name = password_file.as_os_str().to_owned();
    name.push(".scram");
    name.into()
}

fn binding_of(hash: &PasswordHash) -> [u8; KEY] {
    sha256(Zeroizing::new(hash.to_string()).as_bytes())
}

/// The server's side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    client_first_bare: String,
    server_first: String,
    header: String,
    nonce: String,
    record: ScramRecord,
    is_known: bool,
    name: String,
}

impl Exchange {
    /// Takes the client's first message; answers the server's first. `record_of` knows users; `secret` makes up a record for
    /// those that it does not know, always the same for a name, so that answers tell nothing.
    ///
    /// # Errors
    /// Where it is none.
    pub fn begin(
        message: &[u8],
        secret: &Secret,
        record_of: impl FnOnce(&str) -> Option<ScramRecord>,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let mut chance = [0; NONCE];
        rand::fill(&mut chance).map_err(|_| ScramError::Random)?;
        Self::with_nonce(message, secret, record_of, &STANDARD.encode(chance))
    }

    fn with_nonce(
        message: &[u8],
        secret: &Secret,
        record_of: impl FnOnce(&str) -> Option<ScramRecord>,
        own_nonce: &str,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let text = text(message)?;
        // n: no channel binding; y: the client knows some, and thinks that we do not. Both are so.
        let rest = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,")).ok_or(ScramError::Message)?;
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Message)?;
        let mut fields = bare.split(',');
        let name = fields.next().and_then(|field| field.strip_prefix("n=")).and_then(unescaped);
        let name = name.filter(|name| !name.is_empty()).ok_or(ScramError::Message)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).filter(|nonce| is_nonce(nonce));
        let nonce = nonce.ok_or(ScramError::Message)?;
        // To be somebody else than one's name says is not given to anybody.
        if !authorization.is_empty()
            && authorization.strip_prefix("a=").and_then(unescaped).as_ref() != Some(&name)
        {
            return Err(ScramError::Message);
        }
        let known = record_of(&name);
        let is_known = known.is_some();
        let record = known.unwrap_or_else(|| nobodys(secret, &name));
        let nonce = format!("{nonce}{own_nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&record.salt), record.iterations);
        let header = text[..text.len() - bare.len()].to_owned();
        let answer = server_first.clone().into_bytes();
        let bare = bare.to_owned();
        let exchange = Self { client_first_bare: bare, server_first, header, nonce, record, is_known, name };
        Ok((exchange, answer))
    }

    /// Takes the client's final message; answers who it is and the server's final message.
    ///
    /// # Errors
    /// Where it is none, or the proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<(String, Vec<u8>), ScramError> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Message)?;
        let proof: [u8; KEY] =
            STANDARD.decode(proof).ok().and_then(|it| it.try_into().ok()).ok_or(ScramError::Message)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let is_ours = binding == Some(STANDARD.encode(&self.header).as_str())
            && nonce == Some(self.nonce.as_str())
            && !fields.any(|field| field.starts_with("m="));
        if !is_ours {
            return Err(ScramError::Message);
        }
        let said = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let mut client_key = Zeroizing::new(sign(&self.record.stored_key, said.as_bytes()));
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let is_right =
            constant_time::verify_slices_are_equal(&sha256(&client_key[..]), &self.record.stored_key);
        if is_right.is_err() || !self.is_known {
            return Err(ScramError::Proof);
        }
        let signature = sign(&self.record.server_key, said.as_bytes());
        Ok((self.name, format!("v={}", STANDARD.encode(signature)).into_bytes()))
    }
}

/// The client's side: its final message to this first message of the server's, and the server's final message to expect.
/// `None` where the server's is none, goes on with another nonce, or wants more work than an honest one.
#[must_use]
pub fn client_final(password: &[u8], client_first: &str, server_first: &str) -> Option<(String, String)> {
    let bare = client_first.splitn(3, ',').nth(2)?;
    let header = &client_first[..client_first.len() - bare.len()];
    let own_nonce = bare.split(',').find_map(|field| field.strip_prefix("r="))?;
    let mut fields = server_first.split(',');
    let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| nonce.starts_with(own_nonce))?;
    let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let iterations: NonZeroU32 = fields.next()?.strip_prefix("i=")?.parse().ok()?;
    if iterations.get() > MAX_ITERATIONS {
        return None;
    }
    let mut salted = Zeroizing::new([0; KEY]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted[..]);
    let client_key = Zeroizing::new(sign(&salted[..], b"Client Key"));
    let without_proof = format!("c={},r={nonce}", STANDARD.encode(header));
    let said = format!("{bare},{server_first},{without_proof}");
    let mut proof = sign(&sha256(&client_key[..]), said.as_bytes());
    proof.iter_mut().zip(client_key.iter()).for_each(|(byte, key)| *byte ^= key);
    let answer = sign(&sign(&salted[..], b"Server Key"), said.as_bytes());
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    Some((last, format!("v={}", STANDARD.encode(answer))))
}

/// A record that no password fits.
fn nobodys(Secret(secret): &Secret, name: &str) -> ScramRecord {
    let made_up = sign(secret, name.as_bytes());
    let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let (stored_key, server_key) = (sign(&made_up, b"stored"), sign(&made_up, b"server"));
    ScramRecord { iterations, salt: made_up[..SALT].to_vec(), stored_key, server_key }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Message)?;
    if text.len() <= MAX_MESSAGE && !text.contains('\0') { Ok(text) } else { Err(ScramError::Message) }
}

/// A name whose commas and equal signs were written otherwise (RFC 5802 §5.1).
fn unescaped(name: &str) -> Option<String> {
    let rest = name.replace("=2C", "\u{0}").replace("=3D", "\u{1}");
    (!rest.contains('=')).then(|| rest.replace('\u{0}', ",").replace('\u{1}', "="))
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.len() <= 256 && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

fn sign(key: &[u8], message: &[u8]) -> [u8; KEY] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn sha256(message: &[u8]) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::password_hash::Scheme;
    use super::*;

    const SECRET: Secret = Secret([7; KEY]);

    /// RFC 7677 §3.
    fn example() -> (Exchange, Vec<u8>) {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let record = ScramRecord::derive(b"pencil", salt, NonZeroU32::new(4096).unwrap());
        let read = ScramRecord::parse(&record.to_string()).unwrap();
        assert_eq!(read, record);
        Exchange::with_nonce(
            b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            &SECRET,
            |name| (name == "user").then_some(record),
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
        .unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_comes_out_as_it_stands_there() {
        let (exchange, first) = example();
        let expected =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(String::from_utf8(first).unwrap(), expected);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let ours = client_final(b"pencil", "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", expected).unwrap();
        assert_eq!(ours, (last.to_owned(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned()));
        let (name, answer) = exchange.finish(last.as_bytes()).unwrap();
        assert_eq!(name, "user");
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let zeros = format!("p={}", STANDARD.encode([0; KEY]));
        let table = [
            (format!("c=biws,{nonce},{zeros}"), ScramError::Proof),
            (format!("c=biws,{nonce}x,{proof}"), ScramError::Message),
            (format!("c=eSws,{nonce},{proof}"), ScramError::Message),
            (format!("c=biws,{nonce},m=x,{proof}"), ScramError::Message),
            (format!("c=biws,{nonce},p=short"), ScramError::Message),
            (format!("c=biws,{nonce}"), ScramError::Message),
            (String::new(), ScramError::Message),
        ];
        for (message, expected) in table {
            assert_eq!(example().0.finish(message.as_bytes()).unwrap_err(), expected, "{message}");
        }
        for message in [
            "",
            "n",
            "n,,",
            "p=tls-unique,,n=user,r=x",
            "n,,n=,r=x",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,m=x,n=user,r=x",
            "n,,n=us=er,r=x",
            "n,a=other,n=user,r=x",
            "n,,n=user,r=a b",
        ] {
            let begun = Exchange::begin(message.as_bytes(), &SECRET, |_| None);
            assert_eq!(begun.map(|_| ()).unwrap_err(), ScramError::Message, "{message}");
        }
    }

    #[test]
    fn who_is_not_known_is_asked_as_if_he_were_and_refused() {
        let first = |name: &str| {
            let message = format!("n,,n={name},r=x");
            let (exchange, first) = Exchange::begin(message.as_bytes(), &SECRET, |_| None).unwrap();
            (exchange, String::from_utf8(first).unwrap().split_once(",s=").unwrap().1.to_owned())
        };
        assert_eq!(first("nobody").1, first("nobody").1);
        assert_ne!(first("nobody").1, first("other").1);
        let exchange = first("nobody").0;
        let last = format!("c=biws,r={},p={}", exchange.nonce, STANDARD.encode([0; KEY]));
        assert_eq!(exchange.finish(last.as_bytes()).unwrap_err(), ScramError::Proof);
    }

    #[test]
    fn a_record_counts_while_the_password_is_the_one_that_it_was_made_with() {
        let hash = |password: &[u8]| PasswordHash::new(Scheme::Sha512, password).unwrap();
        let (old, new) = (hash(b"old"), hash(b"new"));
        let mut file = ScramFile::default();
        file.set("ann", ScramRecord::new(b"old").unwrap(), &old);
        let file = ScramFile::parse(file.to_text().as_bytes()).unwrap();
        assert!(file.record("ann", &old).is_some() && file.record("ann", &new).is_none());
        assert!(file.record("bob", &old).is_none());
        assert_eq!(ScramFile::parse(b"# x\n\nann:what").unwrap_err(), ScramFileError { line: 3 });
        assert!(!format!("{file:?}").contains('='), "nothing of it is shown");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(first in any::<Vec<u8>>(), text in "[ny],(a=x)?,n=[a-z=,]{0,5},r=[!-~]{0,5}(,.*)?", last in ".{0,60}") {
            for message in [&first[..], text.as_bytes()] {
                if let Ok((exchange, _)) = Exchange::begin(message, &SECRET, |_| None) {
                    prop_assert!(exchange.finish(last.as_bytes()).is_err());
                }
            }
            let _ = ScramFile::parse(&first);
            let _ = ScramFile::parse(last.as_bytes());
        }
    }
}
