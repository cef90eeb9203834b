//! Logs down, key and certificate onto the device, lengths read back, logs up.

use quoll_tasmota::{Command, Road, Setting, StatusPage, Stored, TlsKey1, TlsKey2};

use super::ask::Asker;
use super::error::EnrolError;
use crate::device::Mac;
use crate::issuer::DeviceCredential;
use crate::saved::LogLevels;
use crate::step::Step;

/// Rounds of key, certificate and lengths: a damaged one is sent once more (facts §8.3 row 3).
pub(crate) const PUSH_ROUNDS: u32 = 2;

/// What stands with a device that had been proven, while it gets another key.
pub(crate) const KEY_UNDER_WAY: &str =
    "its key is being changed; if that stopped, run the same command again: it goes on";

/// Level of the web log during an enrolment: shows TLS errors, hides command data (facts §7.4, §8).
const WEB_LOG: u8 = 2;

/// Key and certificate, checked for what a device would not notice.
pub(crate) struct Cargo {
    key: TlsKey1,
    certificate: TlsKey2,
}

impl Cargo {
    /// # Errors
    /// [`EnrolError::Credential`] where a device could not use it.
    pub(crate) fn new(credential: &DeviceCredential) -> Result<Self, EnrolError> {
        let key = TlsKey1::new(&credential.scalar).map_err(EnrolError::Credential)?;
        let certificate =
            TlsKey2::new(&credential.certificate_der, Road::Http).map_err(EnrolError::Credential)?;
        certificate.belongs_to(&key).map_err(EnrolError::Credential)?;
        Ok(Self { key, certificate })
    }

    pub(crate) fn expected(&self) -> Stored {
        self.certificate.expected()
    }
}

fn table(levels: &LogLevels) -> [(Setting, Option<u8>); 5] {
    [
        (Setting::SerialLog, levels.serial),
        (Setting::SysLog, levels.sys),
        (Setting::MqttLog, levels.mqtt),
        (Setting::FileLog, levels.file),
        (Setting::WebLog, levels.web),
    ]
}

impl Asker<'_> {
    /// Turns the logs down that would show the key.
    pub(crate) async fn quiet_logs(&self, logs: &LogLevels) -> Result<(), EnrolError> {
        let quiet = |level: Option<u8>| level.filter(|level| *level > 0).map(|_| 0);
        let levels = LogLevels {
            serial: quiet(logs.serial),
            sys: quiet(logs.sys),
            mqtt: quiet(logs.mqtt),
            file: quiet(logs.file),
            web: logs.web.filter(|level| *level != WEB_LOG).map(|_| WEB_LOG),
        };
        self.set_logs(Step::QuietLogs, &levels).await
    }

    /// Sets the log levels that are given.
    pub(crate) async fn set_logs(&self, step: Step, levels: &LogLevels) -> Result<(), EnrolError> {
        for (setting, level) in table(levels) {
            if let Some(level) = level {
                let level = level.to_string();
                let command = Command::set(setting, &level).map_err(EnrolError::Target)?;
                let reply = self.tell(step, &command).await?;
                // A log that is taken for silent and is not would show the key.
                let told = reply.setting(setting).map_err(|why| self.answer(step, why))?;
                if told != level {
                    return Err(self.refused(step, &command));
                }
            }
        }
        Ok(())
    }

    /// As [`Self::set_logs`], and looks afterwards: a device that lost its power in between has forgotten what it had
    /// said yes to. Once more then.
    pub(super) async fn set_logs_for_good(&self, step: Step, levels: &LogLevels) -> Result<(), EnrolError> {
        self.set_logs(step, levels).await?;
        for (setting, level) in table(levels) {
            let Some(level) = level.map(|level| level.to_string()) else { continue };
            let told = self.ask(step, &Command::ask(setting)).await?.setting(setting);
            if told.map_err(|why| self.answer(step, why))? != level {
                return self.set_logs(step, levels).await;
            }
        }
        Ok(())
    }

    /// The key, but only to a device that is still the same one and still knows TLSKey: what does not know it would
    /// repeat the key in its logs (facts §0.4).
    pub(crate) async fn push_key(&self, cargo: &Cargo, mac: Mac) -> Result<(), EnrolError> {
        let network = self.ask(Step::PushKey, &Command::status(StatusPage::Network)).await?;
        let network = network.network().map_err(|why| self.answer(Step::PushKey, why))?;
        if network.mac != mac {
            let why = format!("the device {} answers there now", network.mac);
            return Err(EnrolError::WentAway { address: self.address(), step: Step::PushKey, why });
        }
        self.stored(Step::PushKey).await?;
        let command = Command::tls_key1(&cargo.key);
        self.tell(Step::PushKey, &command).await.map(drop)
    }

    /// The certificate. The same question as before goes ahead: a device that restarted in between has not loaded its
    /// key, and would refuse (facts §1.3).
    pub(crate) async fn push_certificate(&self, cargo: &Cargo) -> Result<(), EnrolError> {
        self.stored(Step::PushCertificate).await?;
        self.tell(Step::PushCertificate, &Command::tls_key2(&cargo.certificate)).await.map(drop)
    }

    /// The lengths stored.
    pub(crate) async fn stored(&self, step: Step) -> Result<Stored, EnrolError> {
        let command = Command::tls_key();
        let reply = self.tell(step, &command).await?;
        reply.tls_key().map_err(|why| self.answer(step, why))
    }
}
