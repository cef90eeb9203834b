//! `quoll ca check`: every certificate of the folder with what there is to say about it, and where `index.txt` and the
//! files contradict each other. Needs no passphrase, changes nothing.
//! What it is not: a repair. Each problem names its next step instead.

mod report;
mod shelves;

use std::collections::HashMap;

use time::OffsetDateTime;

pub use self::report::{CertificateState, Chain, CheckedCertificate, FolderCheck, Problem};
use self::shelves::{Found, Shelves};
use crate::{
    certificate::Certificate,
    error::PkiError,
    fitness,
    key_file::{self, KeyProtection, Look},
    limits::SHORT_LIFE,
    name_constraints,
    serial::Serial,
    store::{
        Pki,
        index::{EntryState, Index, IndexEntry},
    },
    subject,
};

/// What the CA's own certificate forbids although it is its business.
fn limits_of(ca: &Certificate) -> Vec<Problem> {
    let mut out = Vec::new();
    let known = &ca.extensions;
    let anew = "quoll ca renew (same key and name: devices need nothing new)";
    if let Some((certificates, lists)) = known.may_sign {
        if !certificates {
            out.push(problem(
                "the CA's certificate does not let it sign certificates: nobody accepts them",
                anew,
            ));
        }
        if !lists {
            let what =
                "the CA's certificate does not let it sign revocation lists: who reads one refuses everybody";
            out.push(problem(what, anew));
        }
    }
    if known.extended_usage.is_some() && !(ca.is_for_client() && ca.is_for_server()) {
        let what = "the CA's certificate has an extendedKeyUsage that lacks serverAuth or clientAuth: OpenSSL refuses \
                    such certificates of it";
        out.push(problem(what, anew));
    }
    if known.constrains_names && name_constraints::limits_subjects(ca) {
        out.push(problem(
            "the CA's certificate limits the subjects of what it signs: OpenSSL goes by that, but rustls, and with it Quoll's \
             broker, refuses every certificate of such a CA",
            "use this CA with Mosquitto only, or move to a CA without that limit: quoll ca rollover",
        ));
    }
    out
}

fn problem(what: impl Into<String>, next: impl Into<String>) -> Problem {
    Problem { what: what.into(), next: Some(next.into()) }
}

impl Pki {
    /// Looks at everything in the folder. A locked CA is enough.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`]; a single unreadable file is a problem in the result, not an error.
    pub fn check(&self, now: OffsetDateTime) -> Result<FolderCheck, PkiError> {
        let index = self.read_index()?;
        let shelves = Shelves::read(self)?;
        let mut out =
            FolderCheck { certificates: vec![self.check_ca(now)?], problems: shelves.problems.clone() };
        for entry in index.entries() {
            let mut row = self.check_entry(entry, &shelves, now)?;
            row.problems.extend(misspelled(&index, &entry.serial));
            out.certificates.push(row);
        }
        for (serial, found) in shelves.unlisted(&index) {
            out.certificates.push(self.check_unlisted(serial, found, now)?);
        }
        note_duplicates(&mut out.certificates, &index, &shelves);
        if let Some(status) = self.crl_status(now)? {
            out.problems.extend(status.problems.into_iter().map(|what| problem(what, "quoll ca crl")));
        } else if index.entries().any(IndexEntry::is_revoked) {
            out.problems
                .push(problem("there is no revocation list, yet certificates are revoked", "quoll ca crl"));
        }
        Ok(out)
    }

    fn check_ca(&self, now: OffsetDateTime) -> Result<CheckedCertificate, PkiError> {
        let ca = self.ca();
        let key = key_file::look(&self.layout.ca_key())?;
        let mut problems = Vec::new();
        match &key {
            None => {}
            Some(Look { protection, public_key_der }) => {
                if let Some(weakness) = protection.weakness() {
                    problems.push(problem(
                        format!("the CA's key is badly kept: {weakness}"),
                        "quoll ca reencrypt",
                    ));
                }
                match protection {
                    KeyProtection::Plain => problems.push(problem(
                        "the CA's key is not encrypted: who reads it is the CA",
                        "quoll ca reencrypt",
                    )),
                    KeyProtection::Unsupported { format, convert } => problems.push(Problem {
                        what: format!("the CA's key is in a format that is not read: {format}"),
                        next: convert.clone(),
                    }),
                    KeyProtection::Unusable(why) => problems.push(problem(
                        format!("the CA's key file is unusable: {why}"),
                        "restore it from a backup",
                    )),
                    KeyProtection::Encrypted { .. } => {}
                }
                if public_key_der.as_ref().is_some_and(|key| key != ca.public_key_der()) {
                    problems.push(problem(
                        "the CA's key is not its certificate's",
                        "restore ca.crt and ca.key together",
                    ));
                }
            }
        }
        problems.extend(limits_of(ca));
        let top = self.ca_chain()?.pop();
        if top.is_some_and(|top| top.issuer_der() != top.subject_der()) {
            let what = "another CA signed this one, and ca.crt does not have it: OpenSSL's clients and Mosquitto refuse \
                        what ends here";
            problems.push(problem(
                what,
                "append the certificates of the CAs above to ca.crt, below the CA's own",
            ));
        }
        if now < ca.not_before() {
            let what = format!(
                "the CA's certificate begins on {}, after the clock of this machine",
                ca.not_before().date()
            );
            problems.push(problem(what, "set the clock"));
        }
        let left = ca.not_after() - now;
        if left < SHORT_LIFE {
            problems.push(problem(
                format!("the CA's certificate ends on {}, and with it every other", ca.not_after().date()),
                "quoll ca renew (same key and name: devices need nothing new)",
            ));
        }
        let self_signed = ca.issuer_der() == ca.subject_der();
        Ok(CheckedCertificate {
            name: ca.subject_cn().map(str::to_owned),
            serial: ca.serial(),
            state: state_by_clock(ca, now),
            not_after: ca.not_after(),
            file: Some("ca.crt".into()),
            key: key.map(|look| look.protection),
            profile: Some(if self_signed { "ca" } else { "subca" }),
            misfits: Some(fitness::as_anchor(ca)),
            chain: if self_signed { chain(ca, ca) } else { Chain::Foreign },
            problems,
        })
    }

    fn check_entry(
        &self,
        entry: &IndexEntry,
        shelves: &Shelves,
        now: OffsetDateTime,
    ) -> Result<CheckedCertificate, PkiError> {
        let found = shelves.of(&entry.serial);
        let state = match &entry.state {
            EntryState::Revoked { reason, .. } => CertificateState::Revoked(*reason),
            _ if now > entry.not_after => CertificateState::Expired,
            _ => {
                found.first().map_or(CertificateState::Valid, |found| state_by_clock(&found.certificate, now))
            }
        };
        let mut row = match found.first() {
            Some(first) => self.look_at(first, state)?,
            None => CheckedCertificate {
                name: None,
                serial: entry.serial.clone(),
                state,
                not_after: entry.not_after,
                file: None,
                key: None,
                profile: None,
                misfits: None,
                chain: Chain::NoFile,
                problems: vec![Problem {
                    what: "index.txt has it, but there is no file of it".into(),
                    next: Some(format!(
                        "restore certs_by_serial/{}.pem from a backup, or revoke it",
                        entry.serial
                    )),
                }],
            },
        };
        row.name = entry.common_name().or(row.name);
        row.problems.extend(contradictions(entry, found));
        Ok(row)
    }

    fn check_unlisted(
        &self,
        serial: &Serial,
        found: &[Found],
        now: OffsetDateTime,
    ) -> Result<CheckedCertificate, PkiError> {
        let first = found.first().expect("a serial number is only known from a file");
        let mut row = self.look_at(first, CertificateState::Unlisted)?;
        if self.is_unfinished(serial)? {
            let next = "run that command again; or quoll ca crl, which puts it in order, too";
            row.problems.push(problem("it was being written down when the command was interrupted", next));
            return Ok(row);
        }
        let next = match row.chain {
            Chain::Foreign => format!("if it does not belong here, move {} away", first.path),
            _ if now > row.not_after => "it is over; nothing need be done".into(),
            _ => format!(
                "restore the index.txt that knows it; if there is none, add this line to it (fields are separated by \
                 tabs), then revoke {serial} if it is not wanted: {}",
                line_of(&first.certificate).unwrap_or_default()
            ),
        };
        row.problems
            .push(problem("index.txt does not know it, so it can be neither listed nor revoked", next));
        Ok(row)
    }

    /// What the certificate itself and its key say.
    fn look_at(&self, found: &Found, state: CertificateState) -> Result<CheckedCertificate, PkiError> {
        let certificate = &found.certificate;
        let chain = chain(certificate, self.ca());
        let role = profile_of(certificate);
        let mut problems = Vec::new();
        if chain == Chain::BadSignature {
            problems.push(problem(
                "it bears the CA's name, but not its signature",
                format!("move {} away and find out who made it", found.path),
            ));
        }
        let alive = matches!(state, CertificateState::Valid | CertificateState::NotYetValid);
        if alive && chain == Chain::Signed && certificate.not_after() > self.ca().not_after() {
            problems.push(problem(
                format!("it outlives its CA, which ends on {}", self.ca().not_after().date()),
                "quoll ca renew",
            ));
        }
        if alive && chain == Chain::Signed {
            for ca in self.ca_chain()? {
                problems.extend(name_constraints::outside(certificate, &ca).into_iter().map(|what| {
                    problem(
                        format!("{what}: OpenSSL and rustls refuse it"),
                        "issue one anew, with names that the CA may certify",
                    )
                }));
            }
        }
        if alive && role == "server" && !certificate.extensions.has_alt_names {
            problems.push(problem(
                "it has no subjectAltName: Python, rustls and browsers refuse it",
                format!("quoll ca renew {}", certificate.subject_cn().unwrap_or("NAME")),
            ));
        }
        let key = self.key_of(found, &mut problems)?;
        Ok(CheckedCertificate {
            name: certificate.subject_cn().map(str::to_owned).or_else(|| found.stem.clone()),
            serial: certificate.serial(),
            state,
            not_after: certificate.not_after(),
            file: Some(found.path.clone()),
            key,
            profile: Some(role),
            misfits: match role {
                "server" => Some(fitness::as_server(certificate, self.ca())),
                "tasmota" => Some(fitness::as_identity(certificate)),
                _ => None,
            },
            chain,
            problems,
        })
    }

    fn key_of(&self, found: &Found, problems: &mut Vec<Problem>) -> Result<Option<KeyProtection>, PkiError> {
        for (key_path, request_path) in found.keys(&self.layout) {
            let Some(Look { protection, public_key_der }) = key_file::look(&key_path)? else { continue };
            let public_key = match public_key_der {
                Some(key) => Some(key),
                None => self.requested_key(&request_path)?,
            };
            let path = key_path.strip_prefix(self.dir()).unwrap_or(&key_path).display().to_string();
            match public_key {
                Some(key) if key == found.certificate.public_key_der() => {}
                // On a shelf of the past, a file of that name may be of another time.
                Some(_) if !found.in_use() => continue,
                Some(_) => problems.push(problem(
                    format!("{path} is not its key"),
                    "restore the right key from a backup, or issue a new certificate",
                )),
                None => {}
            }
            match &protection {
                KeyProtection::Unsupported { format, convert } => problems.push(Problem {
                    what: format!("{path} is in a format that is not read: {format}"),
                    next: convert.clone(),
                }),
                KeyProtection::Unusable(why) => {
                    problems.push(problem(format!("{path} is unusable: {why}"), "restore it from a backup"));
                }
                _ => {}
            }
            return Ok(Some(protection));
        }
        Ok(None)
    }
}

/// Where the line of `index.txt` and the files say different things.
fn contradictions(entry: &IndexEntry, found: &[Found]) -> Vec<Problem> {
    let mut out = Vec::new();
    let serial = &entry.serial;
    let any = |place: &str| found.iter().find(|found| found.path.starts_with(place));
    if entry.is_revoked() {
        if let Some(left) = any("issued/") {
            out.push(problem(
                format!("index.txt says revoked, but {} is still there", left.path),
                format!("quoll ca revoke {serial} finishes the revocation"),
            ));
        }
    } else {
        if let Some(moved) = any("expired/")
            && any("issued/").is_none()
        {
            out.push(problem(
                format!(
                    "it lies in {}, moved there by easyrsa expire, yet index.txt says it is not over: servers let it in",
                    moved.path
                ),
                format!("quoll ca revoke {serial} if it is out of use"),
            ));
        }
        if let Some(moved) = any("revoked/") {
            out.push(problem(
                format!("it lies in {}, yet index.txt says it is not revoked: servers let it in", moved.path),
                format!("quoll ca revoke {serial}"),
            ));
        }
    }
    let Some(first) = found.first() else { return out };
    if first.certificate.not_after() != entry.not_after {
        out.push(problem(
            format!(
                "index.txt says that it ends on {}, its file says {}",
                entry.not_after.date(),
                first.certificate.not_after().date()
            ),
            "the file is right; correct the line",
        ));
    }
    if subject::one_line(first.certificate.subject_der()).is_ok_and(|line| line != entry.subject) {
        out.push(problem(
            format!("index.txt calls it {}, its file says otherwise", entry.subject),
            "the file is right; correct the line",
        ));
    }
    if let Some(other) = found.iter().find(|other| other.certificate != first.certificate) {
        out.push(problem(
            format!("{} and {} have the same serial number and differ", first.path, other.path),
            "keep the one that is in use, and move the other away",
        ));
    }
    out
}

/// What Quoll understands of a serial number and OpenSSL does not (seen with OpenSSL 3.0: an odd number of digits stops every
/// act of `openssl ca`; small letters hide the line from `-revoke`).
fn misspelled(index: &Index, serial: &Serial) -> Option<Problem> {
    let written = index.spelling(serial)?;
    let bare = |text: &str| text.trim_start_matches('0').to_owned();
    let what = if written.len() % 2 == 1 {
        format!(
            "index.txt writes its serial number {written}, with an odd number of digits: OpenSSL, and Easy-RSA with it, refuse \
             every act on this folder (bad serial number length)"
        )
    } else if bare(&written) == bare(&serial.to_string()) {
        return None;
    } else {
        format!(
            "index.txt writes its serial number {written}: Easy-RSA does not find it there, and would revoke it in a second line"
        )
    };
    Some(problem(what, format!("write {serial} in that line, and nothing else anew")))
}

/// Names and keys that are there twice, among certificates that would be let in.
fn note_duplicates(rows: &mut [CheckedCertificate], index: &Index, shelves: &Shelves) {
    let alive = |row: &CheckedCertificate| {
        row.state == CertificateState::Valid && row.file.as_deref() != Some("ca.crt")
    };
    let mut names: HashMap<String, Vec<usize>> = HashMap::new();
    let mut keys: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| alive(row)) {
        if let Some(name) = &row.name {
            names.entry(name.clone()).or_default().push(at);
        }
        if let Some(found) = shelves.of(&row.serial).first() {
            keys.entry(found.certificate.public_key_der().to_vec()).or_default().push(at);
        }
    }
    for same in names.values().filter(|same| same.len() > 1) {
        let newest = *same.last().expect("there are several");
        for &at in &same[..same.len() - 1] {
            let (serial, other) = (rows[at].serial.clone(), rows[newest].serial.clone());
            if index.get(&serial).is_some() {
                rows[at].problems.push(problem(
                    format!("a newer one of this name ({other}) is in use, and this one is let in, too"),
                    format!("quoll ca revoke {serial} --reason superseded, once the newer one works"),
                ));
            }
        }
    }
    for same in keys.values().filter(|same| same.len() > 1) {
        for &at in same {
            let stranger = same.iter().find(|&&other| rows[other].name != rows[at].name);
            if let Some(&other) = stranger {
                let name = rows[other].name.clone().unwrap_or_default();
                rows[at].problems.push(problem(
                    format!("it has the same key as {name}: whoever is one can be the other"),
                    "issue new certificates with keys of their own",
                ));
            }
        }
    }
}

fn line_of(certificate: &Certificate) -> Option<String> {
    let entry = Pki::entry_of(certificate, EntryState::Valid).ok()?;
    let mut index = Index::default();
    index.push(entry);
    Some(String::from_utf8_lossy(&index.to_bytes()).trim_end().to_owned())
}

fn state_by_clock(certificate: &Certificate, now: OffsetDateTime) -> CertificateState {
    if now < certificate.not_before() {
        CertificateState::NotYetValid
    } else if now > certificate.not_after() {
        CertificateState::Expired
    } else {
        CertificateState::Valid
    }
}

fn chain(certificate: &Certificate, ca: &Certificate) -> Chain {
    if certificate.issuer_der() != ca.subject_der() {
        return Chain::Foreign;
    }
    match certificate.is_signed_by(ca) {
        Some(true) => Chain::Signed,
        Some(false) => Chain::BadSignature,
        None => Chain::Unchecked,
    }
}

/// Every certificate that has a file in the folder.
pub(crate) fn certificates(pki: &Pki) -> Result<Vec<Certificate>, PkiError> {
    Shelves::read(pki)?.into_certificates()
}

/// Which profile a certificate looks like.
pub(crate) fn profile_of(certificate: &Certificate) -> &'static str {
    match certificate {
        it if it.is_ca() => "subca",
        it if it.is_for_server() => "server",
        it if it.is_for_client() => "client",
        it if it.extensions.extended_usage.is_none() => "tasmota",
        _ => "other",
    }
}
