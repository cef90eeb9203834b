//! A device of ours brought back: settings, and its certificate, or a new one where the key of the old one is not at hand.
//! The enrolment of new hardware in an old one's place is the same.

use async_trait::async_trait;

use super::change::Life;
use super::error::LifeError;
use super::replace::{Replaced, replace, retire_superseded, retire_waiting};
use crate::device::{Address, DeviceName};
use crate::enrol::{DeviceConsole, EnrolRequest, Enrolled, Enrolment, WantedRung, lock};
use crate::issuer::{DeviceCredential, IssueError, Issuer, Reissuer};
use crate::registry::EnrolmentLock;

impl Life<'_> {
    /// Brings a device back that lost its keys or its settings, or was given others. A new key that was under way arrives
    /// with it, or is void. Doing it twice changes nothing.
    ///
    /// # Errors
    /// See [`LifeError`]; [`LifeError::OtherChange`] where it is being given another name.
    pub async fn repair(
        &self,
        name: &DeviceName,
        address: &Address,
        console: &dyn DeviceConsole,
    ) -> Result<Enrolled, LifeError> {
        let held = lock(self.registry, name)?;
        let notes = self.put_off(name, None).await?;
        retire_waiting(self.registry, self.issuer, name).await?;
        let request = EnrolRequest { replace_key: true, ..EnrolRequest::new(name.clone(), address.clone()) };
        let mut enrolled = self.enrol_again(&request, console, &held).await?;
        self.registry.end_change(name)?;
        enrolled.notes.splice(0..0, notes);
        Ok(enrolled)
    }

    /// Puts the hardware at `address` in the place of a device, and enrols it ([`replace`]).
    ///
    /// # Errors
    /// See [`LifeError`]. The old one is out from the moment on in which the new one had answered, whatever becomes of
    /// the new one; the same command goes on.
    pub async fn replace(
        &self,
        name: &DeviceName,
        address: &Address,
        rung: WantedRung,
        console: &dyn DeviceConsole,
    ) -> Result<(Replaced, Enrolled), LifeError> {
        let held = lock(self.registry, name)?;
        let replaced = replace(self.registry, self.issuer, name, address, console, self.patience).await?;
        // Where no broker runs, the enrolment says so.
        self.witness.ready().await.ok();
        let request =
            EnrolRequest { replace_key: true, rung, ..EnrolRequest::new(name.clone(), address.clone()) };
        Ok((replaced, self.enrol_again(&request, console, &held).await?))
    }

    /// Until its old certificates are void nobody else is at work on it: a new key that another process has just made for
    /// it would be taken for one of those.
    async fn enrol_again(
        &self,
        request: &EnrolRequest,
        console: &dyn DeviceConsole,
        held: &EnrolmentLock,
    ) -> Result<Enrolled, LifeError> {
        let enrolment = Enrolment {
            registry: self.registry,
            issuer: &Again(self.issuer),
            witness: self.witness,
            reporter: self.reporter,
            broker: self.broker,
            patience: self.patience,
        };
        let enrolled = enrolment.run_held(request, console, held).await?;
        retire_superseded(self.registry, self.issuer, &request.name).await?;
        Ok(enrolled)
    }
}

/// An issuer for a device that had a certificate: where its key is not at hand, it gets a new one over the old.
struct Again<'a>(&'a dyn Reissuer);

#[async_trait]
impl Issuer for Again<'_> {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.0.reissue(name).await
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        match self.0.existing(name).await {
            Err(IssueError::KeyMissing { .. }) => Ok(None),
            other => other,
        }
    }
}
