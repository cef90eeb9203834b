//! Who comes in, as whom, and who is to hear of it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quoll_broker::access::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_fleet::registry::unlisted::Visit;
use quoll_mqtt::ReasonCode;
use quoll_server::{ConnectFacts, Doorkeeper, Verdict};
use time::OffsetDateTime;

use super::Node;
use super::identity::Stamps;
use crate::config::Unlisted;
use crate::directory::Bar;

/// A certificate that we do not know makes us read the directory anew, at most this often.
const REREAD_AT_MOST_EVERY: Duration = Duration::from_millis(250);

/// The doorkeeper. It does not keep the node alive.
pub(super) struct Door(pub(super) std::sync::Weak<Node>);

#[async_trait]
impl Doorkeeper for Door {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let Some(node) = self.0.upgrade() else { return Verdict::Refuse(ReasonCode::SERVER_SHUTTING_DOWN) };
        let mut judgement = node.judge(facts);
        if matches!(judgement, Judgement::Unknown(_)) {
            // It may have been added a moment ago.
            if node.is_reading_due(facts) {
                if let Err(failure) = node.reread().await {
                    tracing::error!("folder and registry could not be read: {}", failure.what);
                }
                judgement = node.judge(facts);
            }
        }
        if let Judgement::Unknown(outcome) = &judgement {
            node.note_stranger(facts, outcome.is_some());
        }
        if let Judgement::Bar(bar) = &judgement {
            match bar {
                Bar::Quarantine { name, reason } => tracing::warn!(
                    device = %name, peer = %facts.peer, reason, "refused: it is in quarantine (quoll device release {name})"
                ),
                Bar::Rejected => {
                    let name = facts.certificate.and_then(|certificate| certificate.common_name.as_deref());
                    tracing::warn!(name, peer = %facts.peer, "refused: its certificate was rejected");
                }
            }
        }
        let refusal = judgement.refusal();
        if refusal.is_some() || node.may_be_a_device(facts) {
            node.encounters.note_connect(facts, refusal);
        }
        match judgement {
            Judgement::Admit(identity, grants) | Judgement::Unknown(Some((identity, grants))) => {
                Verdict::Admit(Admission { identity, grants, client_id: None })
            }
            Judgement::Refuse | Judgement::Bar(_) | Judgement::Unknown(None) => {
                Verdict::Refuse(ReasonCode::NOT_AUTHORIZED)
            }
        }
    }
}

enum Judgement {
    Admit(Identity, Arc<Grants>),
    Refuse,
    /// A valid certificate that is to stay out.
    Bar(Bar),
    /// A certificate of our CA that is in no registry; what it gets if that stays so.
    Unknown(Option<(Identity, Arc<Grants>)>),
}

impl Judgement {
    /// Why it is not let in, for the doctor.
    fn refusal(&self) -> Option<(ReasonCode, &'static str)> {
        let why = match self {
            Self::Admit(..) | Self::Unknown(Some(_)) => return None,
            Self::Refuse => "it came without a certificate, or with a revoked one",
            Self::Bar(Bar::Quarantine { .. }) => "it is in quarantine",
            Self::Bar(Bar::Rejected) => "its certificate was rejected",
            Self::Unknown(None) => "nobody here has its certificate",
        };
        Some((ReasonCode::NOT_AUTHORIZED, why))
    }
}

impl Node {
    fn judge(&self, facts: &ConnectFacts<'_>) -> Judgement {
        let Some(certificate) = facts.certificate else {
            if facts.hello.is_some() {
                return self.judge_password(facts);
            }
            return if self.settings.allow_anonymous {
                Judgement::Admit(Identity { name: Arc::default(), credential: None }, Grants::everything())
            } else {
                Judgement::Refuse
            };
        };
        let directory = self.directory.load();
        if directory.revoked.contains(&certificate.credential) || self.is_kept_out(&certificate.credential) {
            return Judgement::Refuse;
        }
        if let Some(bar) = directory.bar(&certificate.credential) {
            return Judgement::Bar(bar.clone());
        }
        let identity = |name: &str| Identity { name: name.into(), credential: Some(certificate.credential) };
        if let Some(holder) = directory.holder(&certificate.credential) {
            return Judgement::Admit(identity(&holder.name), Arc::clone(&holder.grants));
        }
        match (&certificate.common_name, self.settings.unlisted) {
            (Some(name), Unlisted::Admit) => Judgement::Unknown(Some((identity(name), Grants::everything()))),
            _ => Judgement::Unknown(None),
        }
    }

    /// TLS and no certificate: a pinned device, by user and password. Never in clear, where anybody could hear it.
    fn judge_password(&self, facts: &ConnectFacts<'_>) -> Judgement {
        let (Some(user), Some(password)) = (&facts.connect.username, &facts.connect.password) else {
            return Judgement::Refuse;
        };
        let directory = self.directory.load();
        let Some(credential) = directory.password(user, password) else { return Judgement::Unknown(None) };
        if let Some(bar) = directory.bar(&credential) {
            return Judgement::Bar(bar.clone());
        }
        match directory.holder(&credential) {
            Some(holder) if !directory.revoked.contains(&credential) && !self.is_kept_out(&credential) => {
                let identity = Identity { name: Arc::clone(&holder.name), credential: Some(credential) };
                Judgement::Admit(identity, Arc::clone(&holder.grants))
            }
            _ => Judgement::Refuse,
        }
    }

    /// Whether the doctor may be asked about it one day. Who came in in clear under no device's client id is nobody to him,
    /// and on a broker with many other clients most are.
    fn may_be_a_device(&self, facts: &ConnectFacts<'_>) -> bool {
        facts.hello.is_some() || self.directory.load().is_client_id(&facts.connect.client_id)
    }

    /// Whether it is worth to read anew for somebody whom nobody knows: not again at once, and for a password, which
    /// anybody can send, only where something has changed.
    fn is_reading_due(&self, facts: &ConnectFacts<'_>) -> bool {
        let (at, stamps) = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        at.elapsed() >= REREAD_AT_MOST_EVERY
            && (facts.certificate.is_some() || Stamps::take(&self.settings, &self.registry) != stamps)
    }

    /// A valid certificate of our CA that nobody has: its owner is to hear of it.
    fn note_stranger(&self, facts: &ConnectFacts<'_>, admitted: bool) {
        let Some(certificate) = facts.certificate else { return };
        let name = certificate.common_name.as_deref().unwrap_or_default();
        let Some(serial) = self.serial_of(&certificate.credential) else {
            tracing::warn!(name, peer = %facts.peer, "a certificate of our CA that the pki folder does not know");
            return;
        };
        let visit = Visit {
            serial: serial.clone(),
            name: name.to_owned(),
            client_id: facts.connect.client_id.to_string(),
            address: facts.peer.to_string(),
            at: OffsetDateTime::now_utc(),
            times: 1,
        };
        if self.strangers.came(certificate.credential, visit, admitted) {
            if admitted {
                tracing::warn!(name, serial, peer = %facts.peer, "let in with all permissions: it is in no registry");
            } else {
                tracing::warn!(
                    name, serial, peer = %facts.peer, "refused: it is in no registry (quoll device accept {name})"
                );
            }
        }
    }
}
