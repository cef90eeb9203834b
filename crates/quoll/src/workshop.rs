//! The bench where certificates are signed: the folder opened or made, the CA unlocked when it is first needed.
//!
//! Used by commands and by the signing process. The broker's process never has one (docs/architecture.md, decision 14).

use std::path::PathBuf;
use std::sync::Arc;

use quoll_pki::{
    AltNames, Authority, CertName, Certificate, IssueRequest, KeyKind, KeyStorage, NewCa, Passphrase, Pki,
    Profile, Vars, rollover,
};
use time::OffsetDateTime;

use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::passphrase::PassphraseSource;
use crate::trouble;

/// The common name of a CA that we make. Short, because it is in every certificate, and devices have little room.
const CA_NAME: &str = "Quoll CA";

/// An opened folder and, once somebody had to sign, the unlocked CA.
pub(crate) struct Workshop {
    settings: Settings,
    source: PassphraseSource,
    pki: Pki,
    unlocked: Option<Unlocked>,
}

struct Unlocked {
    authority: Arc<Authority>,
    passphrase: Passphrase,
}

/// What opening the workshop made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// A CA.
    pub(crate) ca: bool,
    /// A passphrase, kept here.
    pub(crate) passphrase_in: Option<PathBuf>,
}

impl Workshop {
    /// Opens the folder of the settings; it must be there.
    pub(crate) fn open(settings: &Settings, source: PassphraseSource) -> Outcome<Self> {
        let pki = open_pki(settings)?;
        Ok(Self { settings: settings.clone(), source, pki, unlocked: None })
    }

    /// Opens the folder, or makes a CA in it where it is not there or its making was interrupted.
    pub(crate) fn open_or_create(
        settings: &Settings,
        source: PassphraseSource,
        kind: Option<KeyKind>,
    ) -> Outcome<(Self, Made)> {
        refuse_waiting(settings)?;
        if is_made(settings) {
            return Ok((Self::open(settings, source)?, Made::default()));
        }
        let chosen = source.of_new()?;
        let new = new_ca(settings, kind)?;
        let now = OffsetDateTime::now_utc();
        let pki = Pki::create(&settings.pki, &new, &chosen.passphrase, now).map_err(trouble::pki)?;
        let authority = Arc::new(unlock(settings, &pki, &chosen.passphrase)?);
        // An empty list, for servers that will not start without one.
        authority.publish_crl(now).map_err(trouble::pki)?;
        let unlocked = Some(Unlocked { authority, passphrase: chosen.passphrase });
        let made = Made { ca: true, passphrase_in: chosen.made_in };
        Ok((Self { settings: settings.clone(), source, pki, unlocked }, made))
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The CA, asking for its passphrase the first time.
    pub(crate) fn authority(&mut self) -> Outcome<(Arc<Authority>, &Passphrase)> {
        if self.unlocked.is_none() {
            if !has_ca_key(&self.settings) {
                return Err(no_ca_key(&self.settings));
            }
            let name = self.pki.ca().subject_cn().unwrap_or("without a name").to_owned();
            let passphrase = self.source.of_existing(&name)?;
            let authority = Arc::new(unlock(&self.settings, &self.pki, &passphrase)?);
            self.unlocked = Some(Unlocked { authority, passphrase });
        }
        let unlocked = self.unlocked.as_ref().expect("it was just set");
        Ok((Arc::clone(&unlocked.authority), &unlocked.passphrase))
    }

    /// The bench of another folder, opened by the same passphrase.
    pub(crate) fn at(&self, settings: &Settings) -> Outcome<Self> {
        Self::open(settings, self.source.clone())
    }

    /// Issues the server's certificate where there is none. Says whether it did.
    pub(crate) fn ensure_server(&mut self) -> Outcome<bool> {
        let name = server_name(&self.settings)?;
        if self.pki.certificate(&name).map_err(trouble::pki)?.is_some() {
            return Ok(false);
        }
        let mut request = IssueRequest::new(Profile::Server, name, KeyStorage::Plain);
        request.alt_names = alt_names(&self.settings);
        if let Some(vars) = self.pki.vars().map_err(trouble::pki)? {
            request.subject = vars.subject();
            request.days = vars.days;
        }
        let (authority, _) = self.authority()?;
        authority.issue(&request, OffsetDateTime::now_utc()).map_err(trouble::pki)?;
        Ok(true)
    }

    /// Publishes the revocation list if it is behind and the CA is, or can be, unlocked without asking anybody.
    pub(crate) fn publish_crl(&mut self) -> Outcome {
        let (authority, _) = self.authority()?;
        authority.publish_crl(OffsetDateTime::now_utc()).map_err(trouble::pki)
    }
}

/// The CA to be made, as Easy-RSA's `vars` wants it where there is one: name, subject, life. Its kind of key is followed
/// where every device can check it.
fn new_ca(settings: &Settings, kind: Option<KeyKind>) -> Outcome<NewCa> {
    let vars = Vars::find(&settings.pki).map_err(trouble::pki)?.unwrap_or_default();
    for note in &vars.notes {
        eprintln!("quoll: note: {}: {note}", vars.path.display());
    }
    let mut new = NewCa::new(vars.common_name.unwrap_or_else(|| CA_NAME.to_owned()));
    match (kind, vars.key) {
        (Some(kind), _) | (None, Some(kind @ (KeyKind::Rsa2048 | KeyKind::EcP256))) => new.key = kind,
        (None, Some(kind)) => eprintln!(
            "quoll: note: {}: the CA's key is {}, not {kind}, which not every device checks",
            vars.path.display(),
            new.key,
        ),
        (None, None) => {}
    }
    new.days = vars.ca_days.unwrap_or(new.days);
    new.organisation = vars.organisation;
    Ok(new)
}

/// The CA, as the settings want its certificates: where its revocation list is to be had goes into them.
fn unlock(settings: &Settings, pki: &Pki, passphrase: &Passphrase) -> Outcome<Authority> {
    let url = settings.crl_url.as_ref().map(|url| format!("{url}/{}.crl", pki.ca().anchor_id()));
    pki.unlock(passphrase).and_then(|authority| authority.naming_crl(url)).map_err(trouble::pki)
}

/// The CA of these settings, if this passphrase opens it. Nobody is asked: a CA and the one after it have the same.
pub(crate) fn opened_by(settings: &Settings, passphrase: &Passphrase) -> Outcome<Option<Arc<Authority>>> {
    let pki = open_pki(settings)?;
    Ok(unlock(settings, &pki, passphrase).ok().map(Arc::new))
}

/// The names that the settings want in the server's certificate.
pub(crate) fn alt_names(settings: &Settings) -> AltNames {
    AltNames { dns: settings.names.clone(), ip: settings.addresses.clone() }
}

/// Whether the folder has a CA.
pub(crate) fn is_made(settings: &Settings) -> bool {
    settings.pki.join("ca.crt").exists()
}

/// Whether the CA's own key is in the folder; where it is on another machine, everything but signing works.
pub(crate) fn has_ca_key(settings: &Settings) -> bool {
    settings.pki.join("private/ca.key").exists()
}

fn no_ca_key(settings: &Settings) -> Failure {
    // Easy-RSA 2 had everything in one folder.
    let beside = settings.pki.join("ca.key");
    if beside.exists() {
        let private = settings.pki.join("private");
        return Failure::new(Exit::Unusable, "the CA's key is not where Easy-RSA 3 has it")
            .why(format!("{} is there, as Easy-RSA 2 kept it", beside.display()))
            .hint(format!(
                "mkdir -m 700 {} && mv {} {}; or take the folder over with Easy-RSA 3: easyrsa upgrade pki",
                private.display(),
                beside.display(),
                private.display()
            ));
    }
    Failure::new(Exit::Unusable, "the CA's key is not on this machine")
        .why(format!("there is no {}", settings.pki.join("private/ca.key").display()))
        .hint("ask the machine that has it: quoll request, there quoll ca sign, here quoll accept")
}

/// Where the end of a rollover was interrupted in the one moment without a folder, no other CA is made there.
fn refuse_half_done(settings: &Settings) -> Outcome {
    if settings.pki.exists() || !rollover::is_half_done(&settings.pki) {
        return Ok(());
    }
    Err(Failure::new(Exit::Unusable, "the change to the new CA was interrupted")
        .why(format!("{} is on its way to its place", rollover::next_folder(&settings.pki).display()))
        .hint("finish it: quoll ca rollover finish"))
}

/// A folder that waits for its CA's answer does not get a CA of its own.
fn refuse_waiting(settings: &Settings) -> Outcome {
    refuse_half_done(settings)?;
    if is_made(settings) || !settings.pki.join("quoll/requests").exists() {
        return Ok(());
    }
    Err(Failure::new(Exit::Unusable, "this machine waits for the answer of its CA")
        .why(format!("a request was made in {}, and no answer accepted yet", settings.pki.display()))
        .hint("take it in: quoll accept FILE; or choose another folder with --home for a CA of its own"))
}

/// The folder of the CA that is being introduced, where one is (docs/ca.md, "Rolling over to a new CA").
pub(crate) fn next_pki(settings: &Settings) -> Outcome<Option<Pki>> {
    rollover::successor(&settings.pki).map_err(trouble::pki)
}

/// The settings with the folder of the CA that issues to devices and clients: the next one's during a rollover, because
/// the node takes certificates of both.
pub(crate) fn issuing(settings: &Settings) -> Outcome<Settings> {
    let pki = next_pki(settings)?.map_or_else(|| settings.pki.clone(), |next| next.dir().to_owned());
    Ok(Settings { pki, ..settings.clone() })
}

/// The settings with the folder whose certificate the server shows: the next CA's once it has one for the server.
pub(crate) fn serving(settings: &Settings) -> Outcome<Settings> {
    let mut serving = settings.clone();
    if let Some(next) = next_pki(settings)?
        && next.certificate(&server_name(settings)?).map_err(trouble::pki)?.is_some()
    {
        serving.pki = next.dir().to_owned();
    }
    Ok(serving)
}

/// The CAs that whoever connects must trust: the one that vouches for the server first. Two during a rollover, also when
/// the settings name the next CA's folder.
pub(crate) fn anchors(settings: &Settings) -> Outcome<Vec<Certificate>> {
    Ok(anchor_folders(settings)?.iter().map(|pki| pki.ca().clone()).collect())
}

/// [`anchors`], each with the CAs above it: what OpenSSL's clients need of one that another CA signed.
pub(crate) fn anchor_chains(settings: &Settings) -> Outcome<Vec<Certificate>> {
    let chains = anchor_folders(settings)?.iter().map(Pki::ca_chain).collect::<Result<Vec<_>, _>>();
    Ok(chains.map_err(trouble::pki)?.concat())
}

/// [`anchor_chains`] in one file.
pub(crate) fn anchors_pem(settings: &Settings) -> Outcome<String> {
    Ok(anchor_chains(settings)?.iter().map(Certificate::pem).collect())
}

fn anchor_folders(settings: &Settings) -> Outcome<Vec<Pki>> {
    let current = rollover::predecessor_folder(&settings.pki).filter(|pki| pki.join("ca.crt").exists());
    let settings = match current {
        Some(pki) => Settings { pki, ..settings.clone() },
        None => settings.clone(),
    };
    let mut folders = vec![open_pki(&settings)?];
    if let Some(next) = next_pki(&settings)? {
        folders.push(next);
        if serving(&settings)?.pki != settings.pki {
            folders.reverse();
        }
    }
    Ok(folders)
}

/// Opens the folder of the settings to read.
pub(crate) fn open_pki(settings: &Settings) -> Outcome<Pki> {
    if !settings.pki.exists() {
        refuse_half_done(settings)?;
        return Err(Failure::new(Exit::Unusable, format!("there is no CA in {}", settings.pki.display()))
            .hint("make one with `quoll ca init`, or point at one with --pki"));
    }
    Pki::open(&settings.pki).map_err(trouble::pki)
}

/// The name of the server's certificate: the first name, or the first address where there is no name.
pub(crate) fn server_name(settings: &Settings) -> Outcome<CertName> {
    let text = settings
        .names
        .first()
        .cloned()
        .or_else(|| settings.addresses.first().map(ToString::to_string))
        .unwrap_or_else(|| settings.host.clone());
    CertName::parse(&text).map_err(|error| {
        Failure::new(Exit::Unusable, format!("{text:?} cannot be the name of the server's certificate"))
            .why(error)
            .hint("put another name first in [server] names of quoll.toml")
    })
}

/// The server's certificate in this folder; there must be one.
pub(crate) fn server_certificate(settings: &Settings, pki: &Pki) -> Outcome<Certificate> {
    let name = server_name(settings)?;
    pki.certificate(&name).map_err(trouble::pki)?.ok_or_else(|| {
        Failure::new(Exit::Unusable, format!("there is no certificate for the server {name}"))
            .hint("`quoll up` makes one")
    })
}
