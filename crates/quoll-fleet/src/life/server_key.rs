//! A new key of the server, told to each device that pins it before the server shows it: into the slot that is free, read
//! back, and proven by the device's return. Facts §1.5, §4.3.
//!
//! No step leaves a device without the key that the server shows at that moment, and none leaves a slot of zeros, which
//! would accept anybody. What is done to the server itself is the caller's.

use async_trait::async_trait;
use quoll_tasmota::{Command, Fingerprint, FingerprintSlot, SetOption, Slot};

use super::error::{LifeError, living};
use crate::device::{Device, DeviceName, Rung};
use crate::enrol::{Asker, Back, BrokerTarget, Cause, DeviceConsole, EnrolError, Patience, has_broker, lock};
use crate::registry::server_key::{KeyStage, SlotStage};
use crate::registry::{PasswordState, Registry};
use crate::step::Step;
use crate::witness::{self, Sighting, Witness, WitnessError};

/// The eye at the broker, and a hand: one that ends a device's connection, so that it comes anew.
#[async_trait]
pub trait Doorman: Witness {
    /// Ends the connections that were made with this certificate or password. That there is none is no error.
    ///
    /// # Errors
    /// [`WitnessError::NoBroker`].
    async fn part(&self, id: &str) -> Result<(), WitnessError>;
}

/// Everything that work on one device's slots needs.
#[derive(Clone, Copy)]
pub struct Staging<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// The eye and the hand at the broker.
    pub door: &'a dyn Doorman,
    /// The broker that the devices use.
    pub broker: &'a BrokerTarget,
    /// The server's old key.
    pub old: Fingerprint,
    /// The server's new key.
    pub new: Fingerprint,
    /// How long to wait for what.
    pub patience: Patience,
}

/// Why a device's slots are not as they should be. Whatever it says, one of them holds the key that the server shows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// What keeps other changes of a device from going on, too.
    #[error("{0}")]
    Life(#[source] Box<LifeError>),
    /// A slot accepts anybody, or neither holds the key that the server shows.
    #[error("its fingerprint slots hold {0} and {1}")]
    Slots(String, String),
    /// It does not check the server by fingerprint.
    #[error("it does not check the server by fingerprint (SetOption132)")]
    NotByFingerprint,
    /// It did not keep what it was told.
    #[error("slot {slot} holds {found}, after it was told {told}")]
    NotKept {
        /// Its number.
        slot: u8,
        /// What it was told.
        told: String,
        /// What it shows.
        found: String,
    },
    /// It did not come to the broker again.
    #[error("it did not come back to the broker: {0}")]
    NotBack(Cause),
    /// It has no password that is known.
    #[error("it has no password of ours")]
    NoPassword,
}

impl From<LifeError> for SlotError {
    fn from(error: LifeError) -> Self {
        Self::Life(Box::new(error))
    }
}

impl From<EnrolError> for SlotError {
    fn from(error: EnrolError) -> Self {
        LifeError::from(error).into()
    }
}

impl From<crate::registry::RegistryError> for SlotError {
    fn from(error: crate::registry::RegistryError) -> Self {
        LifeError::from(error).into()
    }
}

impl SlotError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self, device: &DeviceName) -> Option<String> {
        match self {
            Self::Life(error) => error.hint(),
            Self::Slots(..) | Self::NotByFingerprint | Self::NoPassword => {
                Some(format!("quoll device repair {device}, then the same command again"))
            }
            Self::NotKept { .. } => Some("run the same command again".into()),
            Self::NotBack(_) => {
                Some(format!("look at it: quoll device check {device}; then run the same command again"))
            }
        }
    }
}

/// Whether a device pins the server's key, so that it is to be told of a new one. Those that check the CA need nothing.
#[must_use]
pub fn pins_the_key(device: &Device) -> bool {
    device.rung == Rung::Pinned && device.state.admits()
}

impl Staging<'_> {
    /// Puts the new key beside the old one. Done already: nothing is written.
    ///
    /// # Errors
    /// See [`SlotError`]; what the device held before is back then, or the registry says that it may not be.
    pub async fn stage(&self, name: &DeviceName, console: &dyn DeviceConsole) -> Result<(), SlotError> {
        let _lock = lock(self.registry, name)?;
        let device = self.device(name)?;
        let asker = self.asker(&device, console);
        self.refuse_stranger(&device, &asker).await?;
        let slots = self.slots(&asker).await?;
        let pinned = self.pinned(&slots)?;
        if pinned == [self.old, self.new] || pinned == [self.new, self.old] {
            self.registry.begin_slots(name, &slots)?;
            self.registry.advance_slots(name, SlotStage::Staged)?;
            return Ok(());
        }
        let is_switching =
            self.registry.server_key_change()?.is_some_and(|change| change.stage != KeyStage::Staging);
        if is_switching && pinned == [self.new, self.new] {
            // It was enrolled since the server shows the new key.
            self.registry.begin_slots(name, &slots)?;
            self.registry.advance_slots(name, SlotStage::Finished)?;
            return Ok(());
        }
        if !pinned.contains(&self.old) {
            return Err(SlotError::Slots(slots[0].clone(), slots[1].clone()));
        }
        // The slot that is not needed now; the second where both hold the old key.
        let free = if pinned[0] == self.old { FingerprintSlot::Two } else { FingerprintSlot::One };
        self.registry.begin_slots(name, &slots)?;
        if let Err(error) = self.write_and_see(name, &asker, free, self.new).await {
            self.registry.note_slots(name, &error.to_string())?;
            return Err(error);
        }
        self.registry.advance_slots(name, SlotStage::Staged)?;
        Ok(())
    }

    /// The device came since the server shows the new key: its connection is ended, so that it must.
    ///
    /// # Errors
    /// [`SlotError::NotBack`], and a registry that cannot be written.
    pub async fn prove(&self, name: &DeviceName) -> Result<Sighting, SlotError> {
        let id = self.password(name)?;
        let stale = witness::seen_now(self.door, self.patience, &id).await;
        let gone = |error: WitnessError| SlotError::NotBack(Cause::NoBroker(error));
        self.door.part(&id).await.map_err(gone)?;
        match witness::see(self.door, self.patience, &id, stale.as_ref()).await {
            Ok(sighting) => {
                self.registry.advance_slots(name, SlotStage::Proven)?;
                Ok(sighting)
            }
            Err(error) => {
                self.registry.note_slots(name, &error.to_string())?;
                Err(SlotError::NotBack(Cause::Unknown(error)))
            }
        }
    }

    /// Takes the old key from the device: both slots hold the new one.
    ///
    /// # Errors
    /// See [`SlotError`].
    pub async fn finish(&self, name: &DeviceName, console: &dyn DeviceConsole) -> Result<(), SlotError> {
        let _lock = lock(self.registry, name)?;
        let device = self.device(name)?;
        let asker = self.asker(&device, console);
        self.refuse_stranger(&device, &asker).await?;
        let slots = self.slots(&asker).await?;
        let pinned = self.pinned(&slots)?;
        if !pinned.contains(&self.new) {
            return Err(SlotError::Slots(slots[0].clone(), slots[1].clone()));
        }
        // Before it is written: from now on the old key may be gone from it.
        self.registry.begin_slots(name, &slots)?;
        let result = match pinned {
            [one, two] if one == self.new && two == self.new => Ok(()),
            [one, _] if one == self.new => {
                self.write_and_see(name, &asker, FingerprintSlot::Two, self.new).await
            }
            _ => self.write_and_see(name, &asker, FingerprintSlot::One, self.new).await,
        };
        if let Err(error) = result {
            // What was there went back where the device could be told so.
            if matches!(error, SlotError::NotKept { .. } | SlotError::NotBack(_)) {
                self.registry.advance_slots(name, SlotStage::Proven)?;
            }
            self.registry.note_slots(name, &error.to_string())?;
            return Err(error);
        }
        self.registry.advance_slots(name, SlotStage::Finished)?;
        Ok(())
    }

    /// Gives a device back what its slots held before; the server shows the old key again. A slot that accepted anybody
    /// gets the old key instead.
    ///
    /// # Errors
    /// See [`SlotError`].
    pub async fn take_back(
        &self,
        name: &DeviceName,
        before: &[String; 2],
        console: &dyn DeviceConsole,
    ) -> Result<(), SlotError> {
        let _lock = lock(self.registry, name)?;
        let device = self.device(name)?;
        let asker = self.asker(&device, console);
        self.refuse_stranger(&device, &asker).await?;
        let slots = self.slots(&asker).await?;
        let wanted = before.each_ref().map(|text| match Slot::parse(text) {
            Ok(Slot::Pinned(print)) if print != self.new => print,
            _ => self.old,
        });
        for (at, slot) in [FingerprintSlot::One, FingerprintSlot::Two].into_iter().enumerate() {
            if Slot::parse(&slots[at]) != Ok(Slot::Pinned(wanted[at])) {
                let written = self.write_and_see(name, &asker, slot, wanted[at]).await;
                if let Err(error) = written {
                    self.registry.note_slots(name, &error.to_string())?;
                    return Err(error);
                }
            }
        }
        self.registry.forget_slots(name)?;
        Ok(())
    }

    /// One slot, one restart, both read back, and the broker's word that the device came again.
    async fn write_and_see(
        &self,
        name: &DeviceName,
        asker: &Asker<'_>,
        slot: FingerprintSlot,
        print: Fingerprint,
    ) -> Result<(), SlotError> {
        let id = self.password(name)?;
        let before = self.slots(asker).await?;
        let stale = witness::seen_now(self.door, self.patience, &id).await;
        asker.send_backlog(Step::CheckPins, &Command::set_fingerprint(slot, &print)).await?;
        let broker = self.broker;
        let port = broker.pinned_port.unwrap_or(broker.port);
        let back = asker.wait_back(|mqtt| has_broker(mqtt, &broker.host, port, true)).await;
        if let Back::Away(_) = back {
            return Err(SlotError::NotBack(Cause::Gone));
        }
        let now = self.slots(asker).await?;
        let at = usize::from(slot as u8) - 1;
        let kept = now[at].parse::<Fingerprint>().is_ok_and(|found| found == print);
        let other = now[1 - at] == before[1 - at];
        if !kept || !other {
            // Not what was told: what was there goes back at once. A slot of zeros is never left.
            if let Ok(held) = Slot::parse(&before[at]) {
                asker.send_backlog(Step::CheckPins, &Command::restore_fingerprint(slot, &held)).await?;
            }
            let (told, found) = (print.to_string(), now[at].clone());
            return Err(SlotError::NotKept { slot: slot as u8, told, found });
        }
        match witness::see(self.door, self.patience, &id, stale.as_ref()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let cause = asker.cause(broker, error).await;
                // It does not come with what it has now: what was there goes back.
                if let Ok(held) = Slot::parse(&before[at]) {
                    asker.send_backlog(Step::CheckPins, &Command::restore_fingerprint(slot, &held)).await?;
                }
                Err(SlotError::NotBack(cause))
            }
        }
    }

    async fn refuse_stranger(&self, device: &Device, asker: &Asker<'_>) -> Result<(), SlotError> {
        let found = asker.probe().await?;
        if found.network.mac != device.mac {
            let (name, registered, found) = (device.name.clone(), device.mac, found.network.mac);
            return Err(EnrolError::OtherDevice { name, registered, found }.into());
        }
        if !found.settings.fingerprint_mode {
            return Err(SlotError::NotByFingerprint);
        }
        Ok(())
    }

    /// Both slots, as the device shows them.
    async fn slots(&self, asker: &Asker<'_>) -> Result<[String; 2], SlotError> {
        let mut slots = [String::new(), String::new()];
        for (slot, text) in [FingerprintSlot::One, FingerprintSlot::Two].into_iter().zip(&mut slots) {
            let reply = asker.ask(Step::CheckPins, &Command::ask_fingerprint(slot)).await?;
            let held = reply.fingerprint(slot).map_err(|why| asker.answer(Step::CheckPins, why))?;
            *text = held.to_string();
        }
        match asker.option(Step::CheckPins, SetOption::FINGERPRINT_MODE).await? {
            Ok(true) => Ok(slots),
            _ => Err(SlotError::NotByFingerprint),
        }
    }

    /// Both slots as keys; an error where one accepts anybody.
    fn pinned(&self, slots: &[String; 2]) -> Result<[Fingerprint; 2], SlotError> {
        let bad = || SlotError::Slots(slots[0].clone(), slots[1].clone());
        let key = |text: &String| match Slot::parse(text) {
            Ok(Slot::Pinned(print)) => Ok(print),
            _ => Err(bad()),
        };
        Ok([key(&slots[0])?, key(&slots[1])?])
    }

    fn password(&self, name: &DeviceName) -> Result<String, SlotError> {
        let passwords = self.registry.passwords_of(name)?;
        let current = passwords.iter().find(|one| one.state == PasswordState::Current);
        current.or_else(|| passwords.first()).map(|one| one.id.clone()).ok_or(SlotError::NoPassword)
    }

    fn device(&self, name: &DeviceName) -> Result<Device, SlotError> {
        let device = living(self.registry.device(name)?, name)?;
        if device.rung != Rung::Pinned {
            return Err(LifeError::OtherRung { name: device.name, rung: device.rung }.into());
        }
        Ok(device)
    }

    fn asker<'b>(&self, device: &Device, console: &'b dyn DeviceConsole) -> Asker<'b> {
        Asker::of(console, self.patience, device.mac)
    }
}
