//! What is asked of the authority, and what it gives. Checked whole before anything is changed.

use std::net::IpAddr;

use crate::{
    certificate::Certificate,
    error::PkiError,
    fitness::Devices,
    key::{KeyKind, PrivateKey},
    limits::{ALT_NAMES_MAX, DAYS_MAX},
    name::CertName,
    passphrase::Passphrase,
    profile::Profile,
    serial::Serial,
    subject::Subject,
};

/// A certificate wanted. [`IssueRequest::new`] fills in the profile's defaults.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// Which row of the table applies.
    pub profile: Profile,
    /// Common name and file name.
    pub name: CertName,
    /// Host names and addresses, for profiles that take them ([`Profile::takes_alt_names`]). The name itself is always
    /// added first.
    pub alt_names: AltNames,
    /// What the subject says besides the common name.
    pub subject: Subject,
    /// Where the key comes from.
    pub key: KeySource,
    /// Life in days from now; the profile's default when `None`. Always cut at the CA's end.
    pub days: Option<u32>,
    /// What becomes of the key in `private/`.
    pub store_key: KeyStorage,
    /// What to do when the name has a valid certificate.
    pub if_taken: IfTaken,
    /// The devices that must be able to check a server's certificate: what they could not is refused. With `None` it is
    /// only warned about.
    pub devices: Option<Devices>,
}

/// Names of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AltNames {
    /// Host names, ASCII; a wildcard `*.` first label is allowed.
    pub dns: Vec<String>,
    /// Addresses. Each is written as iPAddress and as dNSName text (facts: a device looks only at dNSName).
    pub ip: Vec<IpAddr>,
}

/// Where the key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A fresh one.
    Generate(KeyKind),
    /// One that exists.
    Existing(PrivateKey),
}

/// What becomes of the private key in the folder.
#[derive(Debug, Clone)]
pub enum KeyStorage {
    /// `private/NAME.key`, encrypted: it can be pushed to the device again.
    Encrypted(Passphrase),
    /// `private/NAME.key`, plain PKCS#8 with mode 0600: a broker starts unattended.
    Plain,
    /// Not written.
    Discard,
}

/// What to do when `issued/NAME.crt` is a valid certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfTaken {
    /// [`PkiError::NameTaken`].
    #[default]
    Refuse,
    /// Issue; the old files move to `renewed/` as with `easyrsa renew`. The old certificate stays valid until it is
    /// revoked by its serial number: first the device gets the new one, then the old one goes.
    Supersede,
}

/// A certificate issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Its private key.
    pub key: PrivateKey,
    /// Things to tell the user, as sentences.
    pub warnings: Vec<String>,
}

/// A server certificate renewed with its old key.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The new certificate.
    pub certificate: Certificate,
    /// Serial number of the one it replaces; that one stays valid until its end or its revocation.
    pub previous: Serial,
    /// Things to tell the user, as sentences.
    pub warnings: Vec<String>,
}

impl IssueRequest {
    /// A request with the profile's key kind and life, common name only, refusing a taken name.
    pub fn new(profile: Profile, name: CertName, store_key: KeyStorage) -> Self {
        Self {
            profile,
            name,
            alt_names: AltNames::default(),
            subject: Subject::CnOnly,
            key: KeySource::Generate(profile.default_key()),
            days: None,
            store_key,
            if_taken: IfTaken::Refuse,
            devices: None,
        }
    }

    /// Everything that can be refused without looking at the folder.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`], [`PkiError::UnusablePassphrase`].
    pub(crate) fn check(&self) -> Result<(), PkiError> {
        let rules = self.profile.rules();
        let refuse = |problem: String| Err(PkiError::BadRequest { name: self.name.to_string(), problem });
        let kind = match &self.key {
            KeySource::Generate(kind) => Some(*kind),
            KeySource::Existing(key) => key.kind(),
        };
        // A key of no kind that is made here is RSA of another size; what goes with RSA goes with it.
        let other_rsa = kind.is_none() && rules.keys.contains(&KeyKind::Rsa2048);
        if !other_rsa && let Err(problem) = rules.check_key(kind) {
            return refuse(problem);
        }
        if !rules.takes_alt_names() && !self.alt_names.is_empty() {
            return refuse(format!("a {} certificate has no alternative names", rules.name));
        }
        if let Some(days) = self.days
            && !(1..=DAYS_MAX).contains(&days)
        {
            return refuse(format!("its life is 1 to {DAYS_MAX} days, not {days}"));
        }
        if let KeyStorage::Encrypted(pass) = &self.store_key {
            pass.check_for_new_key()?;
        }
        self.alt_names.check(self.name.as_str())
    }
}

impl AltNames {
    /// True when there is neither a host name nor an address.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ip.is_empty()
    }

    /// dNSName entries for a server called `name`: the name, the host names, each address as text; none twice.
    pub(crate) fn dns_entries(&self, name: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        // A name outside ASCII cannot be a dNSName (RFC 5280 §4.2.1.6); it stays in the subject.
        let name = Some(name.to_owned()).filter(|name| is_dns_text(name));
        for entry in
            name.into_iter().chain(self.dns.iter().cloned()).chain(self.ip.iter().map(IpAddr::to_string))
        {
            if !out.iter().any(|there| there.eq_ignore_ascii_case(&entry)) {
                out.push(entry);
            }
        }
        out
    }

    /// iPAddress entries for a server called `name`: the addresses, and the name if it is one; none twice.
    pub(crate) fn ip_entries(&self, name: &str) -> Vec<IpAddr> {
        let mut out: Vec<IpAddr> = Vec::new();
        for ip in name.parse().ok().into_iter().chain(self.ip.iter().copied()) {
            if !out.contains(&ip) {
                out.push(ip);
            }
        }
        out
    }

    pub(crate) fn check(&self, name: &str) -> Result<(), PkiError> {
        let refuse = |problem: String| Err(PkiError::BadRequest { name: name.to_owned(), problem });
        if self.dns.len() + self.ip.len() > ALT_NAMES_MAX {
            return refuse(format!("it has more than {ALT_NAMES_MAX} alternative names"));
        }
        match self.dns.iter().find(|dns| !is_dns_text(dns)) {
            Some(bad) => {
                refuse(format!("{bad:?} is not a host name (letters, digits, - _ . and a first label *)"))
            }
            None => Ok(()),
        }
    }
}

/// What may stand in a dNSName: RFC 1034 preferred syntax, `_` tolerated, a wildcard first label, or an address as text.
fn is_dns_text(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let labels = text.strip_prefix("*.").unwrap_or(text);
    !labels.is_empty()
        && text.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_also_a_dns_text_once() {
        let names = AltNames {
            dns: vec!["broker.lan".into(), "BROKER".into()],
            ip: vec!["192.168.1.10".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        assert_eq!(names.dns_entries("broker"), ["broker", "broker.lan", "192.168.1.10", "fd00::1"]);
        assert_eq!(names.dns_entries("192.168.1.10")[0], "192.168.1.10");
        assert_eq!(AltNames::default().ip_entries("10.0.0.1"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(AltNames::default().dns_entries("küche"), [""; 0]);
    }

    #[test]
    fn requests_that_contradict_their_profile_are_refused() {
        let name = || CertName::parse("x").unwrap();
        let told = |change: &dyn Fn(&mut IssueRequest)| {
            let mut request = IssueRequest::new(Profile::Tasmota, name(), KeyStorage::Discard);
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert!(told(&|r| r.key = KeySource::Generate(KeyKind::Rsa2048)).contains("EC P-256"));
        assert!(told(&|r| r.alt_names.dns.push("a".into())).contains("no alternative names"));
        assert!(told(&|r| r.days = Some(0)).contains("1 to 36525 days"));
        assert!(told(&|r| r.days = Some(u32::MAX)).contains("1 to 36525 days"));
        assert!(told(&|r| r.store_key = KeyStorage::Encrypted(Passphrase::new("abc"))).contains("4 to 1023"));
        let mut server = IssueRequest::new(Profile::Server, name(), KeyStorage::Plain);
        for bad in ["", "a b", "a..b", "ü.lan", "a/b", "*"] {
            server.alt_names.dns = vec![bad.into()];
            assert!(server.check().is_err(), "{bad:?}");
        }
        server.alt_names.dns = vec!["*.lan".into(), "a_b.lan".into(), "10.0.0.1".into(), "fd00::1".into()];
        server.check().unwrap();
        server.alt_names.dns = vec!["a".into(); 65];
        assert!(server.check().is_err());
    }
}
