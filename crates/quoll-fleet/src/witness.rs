//! The eye at the broker's door: only a broker that saw a certificate proves that a device works.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::enrol::Patience;

/// What the broker saw of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// MQTT client identifier of the connection.
    pub client_id: String,
    /// The peer's network address.
    pub address: String,
    /// When it was admitted.
    pub at: OffsetDateTime,
}

/// Somebody who knows which certificates are connected to the broker.
#[async_trait]
pub trait Witness: Send + Sync {
    /// Returns once a connection with this certificate was admitted; at once if there is one now.
    ///
    /// # Errors
    /// [`WitnessError::NotSeen`] after `within`, [`WitnessError::NoBroker`] as soon as it is clear that nobody can
    /// tell.
    async fn wait_for(&self, certificate_serial: &str, within: Duration) -> Result<Sighting, WitnessError>;

    /// Whether there is a broker to see anything, asked before a device is pointed at it.
    ///
    /// # Errors
    /// [`WitnessError::NoBroker`].
    async fn ready(&self) -> Result<(), WitnessError> {
        Ok(())
    }
}

/// What it sees of a certificate or a password at this moment.
pub(crate) async fn seen_now(witness: &dyn Witness, patience: Patience, id: &str) -> Option<Sighting> {
    timeout(patience.ask, witness.wait_for(id, Duration::ZERO)).await.ok()?.ok()
}

/// Waits for a sighting that is not the stale one: a device that used this certificate before may still be connected from
/// before its restart. A broker that is away for a while is waited for, too.
///
/// # Errors
/// [`WitnessError`]; not seen after [`Patience::proof`].
pub(crate) async fn see(
    witness: &dyn Witness,
    patience: Patience,
    id: &str,
    stale: Option<&Sighting>,
) -> Result<Sighting, WitnessError> {
    let (within, pause) = (patience.proof, patience.poll);
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // The witness bounds itself; the second bound is for one that does not.
        let waiting = timeout(left + pause, witness.wait_for(id, left));
        let not_seen = || WitnessError::NotSeen { serial: id.to_owned(), within, refused: None };
        let error = match waiting.await.unwrap_or_else(|_| Err(not_seen())) {
            Ok(sighting) if stale != Some(&sighting) => return Ok(sighting),
            Ok(_) => not_seen(),
            // It restarts: the device comes when it is back.
            Err(error @ WitnessError::NoBroker { .. }) => error,
            Err(error) => return Err(error),
        };
        if Instant::now() >= until {
            return Err(error);
        }
        sleep(pause.min(left)).await;
    }
}

/// Why a certificate was not seen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The broker runs, and nobody came with it.
    #[error("the broker did not see certificate {serial} within {} s", within.as_secs())]
    NotSeen {
        /// The serial number.
        serial: String,
        /// How long it was waited for.
        within: Duration,
        /// What the broker refused meanwhile, if that seems to be this device.
        refused: Option<String>,
    },
    /// No broker runs, or it cannot be asked.
    #[error("there is no broker to ask: {why}")]
    NoBroker {
        /// What was tried.
        why: String,
    },
}

impl WitnessError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotSeen { refused: Some(refused), .. } => Some(format!("the broker refused: {refused}")),
            Self::NotSeen { .. } => None,
            Self::NoBroker { .. } => Some("start it: quoll up".into()),
        }
    }
}
