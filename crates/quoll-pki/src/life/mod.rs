//! The later life of certificates: renewed with the key they have, rekeyed, and the CA's own made to last longer.
//! What it is not: revocation, which needs no CA key and is [`Pki::revoke`].

mod ca;
mod rekey;

use time::OffsetDateTime;
use x509_cert::{der::Decode, name::Name};

pub use self::{ca::ExtendedCa, rekey::Rekeyed};
use crate::{
    authority::{Authority, fresh_serial},
    builder::{self, Plan, failed},
    certificate::Certificate,
    check::profile_of,
    error::PkiError,
    limits::DAYS_MAX,
    name::CertName,
    profile::Profile,
    request::{AltNames, Renewed},
    store::{Pki, index::Index, journal::Unfinished},
};

/// How a certificate is renewed. By default everything stays as it is but serial number and dates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewal {
    /// Names instead of those it has; only for profiles that take them.
    pub alt_names: Option<AltNames>,
    /// Life in days from now; the profile's when `None`. Always cut at the CA's end.
    pub days: Option<u32>,
    /// The profile; the one that the certificate looks like when `None`.
    pub profile: Option<Profile>,
}

impl Authority {
    /// Renews a certificate with the key it has, whatever that is and even if its file is encrypted. The old one is kept
    /// in `renewed/` and stays valid until revoked or over. Easy-RSA's own `renew` makes a new key, and fails on types of
    /// the user's own.
    ///
    /// # Errors
    /// [`PkiError::UnknownName`], [`PkiError::BadRequest`] if it is revoked or unknown to `index.txt` or of no profile, and
    /// as [`Authority::issue`].
    pub fn renew(
        &self,
        name: &CertName,
        renewal: &Renewal,
        now: OffsetDateTime,
    ) -> Result<Renewed, PkiError> {
        self.check_may_sign(now)?;
        let refuse = |problem: String| PkiError::BadRequest { name: name.to_string(), problem };
        if let Some(days) = renewal.days
            && !(1..=DAYS_MAX).contains(&days)
        {
            return Err(refuse(format!("its life is 1 to {DAYS_MAX} days, not {days}")));
        }
        let mut warnings = Vec::new();
        let _lock = self.pki().lock()?;
        let mut index = self.pki().read_index()?;
        self.pki().recover(&mut index, now)?;
        let old = self.pki().renewable(name, &index)?;
        let rules = match renewal.profile.or_else(|| looks_like(&old)) {
            Some(profile) => profile.rules(),
            None => return Err(refuse("it is of no known profile; say which".into())),
        };
        if !rules.takes_alt_names() && renewal.alt_names.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(refuse(format!("a {} certificate has no alternative names", rules.name)));
        }
        let names = match &renewal.alt_names {
            Some(names) => names.clone(),
            None => names_of(&old, rules.takes_alt_names(), &mut warnings),
        };
        names.check(name.as_str())?;
        let alt_names = match rules.wants_alt_names(&names) {
            true => Some(builder::alt_names(&names, name.as_str())?),
            false => None,
        };
        let (not_before, not_after) = self.validity(rules, renewal.days, now, &mut warnings);
        let plan = Plan {
            serial: &fresh_serial(&index)?,
            subject: Name::from_der(old.subject_der())
                .map_err(failed("reading the old certificate's subject"))?,
            public_key_der: old.public_key_der(),
            not_before,
            not_after,
            extensions: self.leaf_extensions(rules, old.public_key_der(), alt_names)?,
        };
        let certificate = builder::certificate(plan, self.pki().ca(), self.key())?;
        self.check_made(rules, name, &certificate, &mut warnings)?;
        self.pki().set_aside(name, &old)?;
        self.pki().begin(name, &certificate.serial(), Unfinished::Keep)?;
        self.write_certificate(name, &certificate)?;
        self.pki().complete(&mut index, &certificate)?;
        Ok(Renewed { certificate, previous: old.serial(), warnings })
    }

    /// [`Authority::renew`] for a server (decision 13: fingerprints are over the key, so this cannot lock a device out).
    /// `alt_names` replaces the names; with `None` they are kept.
    ///
    /// # Errors
    /// [`PkiError::UnknownName`], [`PkiError::BadRequest`] if it is not a server's, and as [`Authority::issue`].
    pub fn renew_server(
        &self,
        name: &CertName,
        alt_names: Option<&AltNames>,
        now: OffsetDateTime,
    ) -> Result<Renewed, PkiError> {
        self.check_is_server(name)?;
        let renewal =
            Renewal { alt_names: alt_names.cloned(), profile: Some(Profile::Server), ..Renewal::default() };
        self.renew(name, &renewal, now)
    }

    fn check_is_server(&self, name: &CertName) -> Result<(), PkiError> {
        let there =
            self.pki().certificate(name)?.ok_or_else(|| PkiError::UnknownName { name: name.clone() })?;
        self.pki().refuse_foreign(name, &there)?;
        if there.is_for_server() {
            return Ok(());
        }
        let problem = "its certificate is not a server's (extendedKeyUsage lacks serverAuth)".to_owned();
        Err(PkiError::BadRequest { name: name.to_string(), problem })
    }
}

impl Pki {
    /// The profile that a certificate looks like; `None` if it is none of the built-in ones.
    pub fn profile_of(certificate: &Certificate) -> Option<Profile> {
        looks_like(certificate)
    }

    /// The certificate in use under `name`, if it may have a successor.
    pub(crate) fn renewable(&self, name: &CertName, index: &Index) -> Result<Certificate, PkiError> {
        let old = self.certificate(name)?.ok_or_else(|| PkiError::UnknownName { name: name.clone() })?;
        let refuse =
            |problem: &str| Err(PkiError::BadRequest { name: name.to_string(), problem: problem.to_owned() });
        self.refuse_foreign(name, &old)?;
        match index.get(&old.serial()) {
            None => refuse("index.txt does not know its certificate"),
            Some(entry) if entry.is_revoked() => refuse("it is revoked; issue a new one"),
            Some(_) => Ok(old),
        }
    }
}

pub(crate) fn looks_like(certificate: &Certificate) -> Option<Profile> {
    let word = profile_of(certificate);
    Profile::BUILT_IN.into_iter().find(|profile| profile.rules().name == word)
}

/// The names of a certificate, brought to our form: a SAN with every address as text too.
pub(crate) fn names_of(old: &Certificate, wanted: bool, warnings: &mut Vec<String>) -> AltNames {
    let is_address = |text: &&String| text.parse::<std::net::IpAddr>().is_ok();
    let mut ip = old.ip_addresses().to_vec();
    ip.extend(
        old.dns_names().iter().filter(is_address).filter_map(|text| text.parse::<std::net::IpAddr>().ok()),
    );
    let dns = old.dns_names().iter().filter(|text| !is_address(text)).cloned().collect();
    let names = AltNames { dns, ip };
    let dropped = old.dns_names().len() + old.ip_addresses().len() + old.other_alt_names();
    if !wanted {
        if dropped > 0 {
            warnings.push(format!("its {dropped} alternative names were left out; its profile has none"));
        }
        return AltNames::default();
    }
    if names.is_empty() {
        warnings.push("the old certificate had no subjectAltName; the new one has its name there".into());
    }
    if old.other_alt_names() > 0 {
        warnings.push(format!(
            "{} alternative names that are neither host nor address were left out",
            old.other_alt_names()
        ));
    }
    names
}
