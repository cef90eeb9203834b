//! The doorkeeper of a broker alone: who a client is by its certificate or its password, and what it may do.
//!
//! All doors are one value, swapped whole. An answer that was worked out at an old door while the doors were swapped is
//! worked out again.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_mqtt::ReasonCode;
use quoll_server::mosquitto::listener::CertificateName;
use quoll_server::mosquitto::scram::Secret;
use quoll_server::mosquitto::tls_files::TlsFiles;
use quoll_server::mosquitto::{Door, ListenerConfiguration, Visitor};
use quoll_server::{Authenticator, ConnectFacts, Doorkeeper, EmptyClientId, Verdict};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::scram;
use super::source::State;

/// The doors of all listeners, by the names of their sockets.
pub(crate) type Doors = HashMap<String, Arc<DoorOf>>;

/// A listener's door and what decides beside it.
#[derive(Clone, Debug)]
pub(crate) struct DoorOf {
    pub(crate) door: Door,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) certificate_name: Option<CertificateName>,
    /// What client identifiers have to begin with (`clientid_prefixes`).
    pub(super) client_id_prefix: Option<Arc<str>>,
}

impl DoorOf {
    pub(crate) fn new(
        listener: &ListenerConfiguration,
        client_id_prefix: Option<&str>,
        door: Door,
        tls: Option<TlsFiles>,
    ) -> Self {
        let client_id_prefix = client_id_prefix.map(Arc::from);
        Self { door, tls, certificate_name: listener.certificate_name, client_id_prefix }
    }

    /// Whether a client may have this identifier.
    pub(super) fn takes_client_id(&self, client_id: &str) -> bool {
        self.client_id_prefix.as_deref().is_none_or(|prefix| client_id.starts_with(prefix))
    }

    /// Whether this client's identifier may be its own. Of those that are made here the beginning is known.
    fn takes(&self, facts: &ConnectFacts<'_>) -> bool {
        match (facts.connect.client_id.as_str(), &facts.terms.empty_client_id) {
            ("", Some(EmptyClientId::Given(made))) => self.takes_client_id(made),
            (client_id, _) => self.takes_client_id(client_id),
        }
    }

    /// Whether somebody is let in. A password takes a processor for milliseconds: `hashing` says how many at a time.
    pub(super) async fn lets_in(self: &Arc<Self>, claim: Claim, hashing: &Semaphore) -> bool {
        let has_to_be_hashed = !claim.certified && claim.password.is_some();
        let door = Arc::clone(self);
        let decide = move || {
            door.door.admits(&Visitor {
                username: claim.username.as_deref(),
                client_id: &claim.client_id,
                password: claim.password.as_ref().map(|password| password.as_slice()),
                certified: claim.certified,
            })
        };
        if !has_to_be_hashed {
            return decide();
        }
        let Ok(_turn) = hashing.acquire().await else { return false };
        tokio::task::spawn_blocking(decide).await.unwrap_or(false)
    }

    /// Who it says it is, and whether a certificate says so; or why it cannot come in.
    fn name(&self, facts: &ConnectFacts<'_>) -> Result<(Option<String>, bool), ReasonCode> {
        let Some(kind) = self.certificate_name else { return Ok((facts.connect.username.clone(), false)) };
        if let Some(proxied) = facts.proxied {
            let name = proxied.tls.as_ref().and_then(|tls| tls.proven_name());
            let name = name.ok_or(ReasonCode::BAD_USER_NAME_OR_PASSWORD)?;
            return Ok((Some(name.to_owned()), true));
        }
        let certificate = facts.certificate.ok_or(ReasonCode::BAD_USER_NAME_OR_PASSWORD)?;
        let name = match kind {
            CertificateName::CommonName => certificate.common_name.clone(),
            CertificateName::Subject => Some(certificate.subject.clone()),
        };
        let name = name.filter(|name| !name.is_empty()).ok_or(ReasonCode::BAD_USER_NAME_OR_PASSWORD)?;
        Ok((Some(name), true))
    }
}

/// Whom somebody says to be.
pub(super) struct Claim {
    pub(super) username: Option<String>,
    pub(super) client_id: String,
    pub(super) password: Option<Zeroizing<Vec<u8>>>,
    /// Whether a certificate says so.
    pub(super) certified: bool,
}

/// The doorkeeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) doors: Arc<ArcSwap<Doors>>,
    secret: Secret,
    /// Passwords under examination: each takes a processor for milliseconds.
    hashing: Semaphore,
}

impl Keeper {
    pub(crate) fn new(state: &State) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let doors = Arc::new(ArcSwap::from_pointee(state.doors.clone()));
        Self { doors, secret: Secret::new(), hashing: Semaphore::new(processors) }
    }

    /// Uses other doors from now on.
    pub(crate) fn replace(&self, doors: Doors) {
        self.doors.store(Arc::new(doors));
    }

    async fn ask(&self, door: &Arc<DoorOf>, facts: &ConnectFacts<'_>) -> Result<Admission, ReasonCode> {
        if !door.takes(facts) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        let (username, certified) = door.name(facts)?;
        // The server gives one without identifier a new one, and one who is to be called by his name that name.
        let client_id = &facts.connect.client_id;
        let named = username.as_ref().filter(|_| facts.terms.username_as_client_id).unwrap_or(client_id);
        let password = facts.connect.password.as_ref().map(|password| Zeroizing::new(password.to_vec()));
        let claim = Claim { username: username.clone(), client_id: named.clone(), password, certified };
        if !door.lets_in(claim, &self.hashing).await {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        let identity = Identity {
            name: username.as_deref().map_or_else(Arc::default, Arc::from),
            credential: facts.certificate.map(|certificate| certificate.credential),
        };
        let grants = door.door.grants(username.as_deref(), named);
        Ok(Admission { identity, grants, client_id: None })
    }
}

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        loop {
            let doors = self.doors.load_full();
            let Some(door) = doors.get(facts.listener) else {
                return Verdict::Refuse(ReasonCode::NOT_AUTHORIZED);
            };
            let answer = self.ask(door, facts).await;
            if Arc::ptr_eq(&doors, &self.doors.load()) {
                return answer.map_or_else(Verdict::Refuse, Verdict::Admit);
            }
        }
    }

    fn begin(&self, facts: &ConnectFacts<'_>, method: &str) -> Option<Authenticator> {
        scram::begin(&self.doors, &self.secret, facts, method)
    }
}
