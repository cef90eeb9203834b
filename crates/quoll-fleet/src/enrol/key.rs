//! Logs down, key and certificate onto the device, lengths read back, logs up.

use quoll_tasmota::{Command, Road, Setting, Stored, TlsKey1, TlsKey2};

use super::ask::Asker;
use super::error::EnrolError;
use crate::issuer::DeviceCredential;
use crate::registry::journal::Progress;
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

/// Logs, and the levels that they are to have.
type Levels = [(Setting, Option<u8>); 5];

fn table(levels: &LogLevels) -> Levels {
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
        self.set_logs(Step::QuietLogs, table(&levels)).await
    }

    /// Sets the log levels that are given.
    async fn set_logs(&self, step: Step, levels: Levels) -> Result<(), EnrolError> {
        for (setting, level) in levels {
            if let Some(level) = level {
                let level = level.to_string();
                let command = Command::set(setting, &level).map_err(EnrolError::Target)?;
                let reply = self.change(step, &command).await?;
                // A log that is taken for silent and is not would show the key.
                let told = reply.setting(setting).map_err(|why| self.answer(step, why))?;
                if told != level {
                    return Err(self.refused(step, &command));
                }
            }
        }
        Ok(())
    }

    /// Turns the logs up again to what they were: those that are not so. And looks again: a device that lost its power in
    /// between has forgotten what it had said yes to.
    pub(crate) async fn restore_logs(&self, levels: &LogLevels) -> Result<(), EnrolError> {
        let step = Step::RestoreLogs;
        for _ in 0..2 {
            let mut wrong = table(levels);
            for (setting, level) in &mut wrong {
                let Some(wanted) = *level else { continue };
                let told = self.ask(step, &Command::ask(*setting)).await?.setting(*setting);
                if told.map_err(|why| self.answer(step, why))? == wanted.to_string() {
                    *level = None;
                }
            }
            if wrong.iter().all(|(_, level)| level.is_none()) {
                break;
            }
            self.set_logs(step, wrong).await?;
        }
        Ok(())
    }

    /// The key, but only to a device that is still the same one and still knows TLSKey: what does not know it would
    /// repeat the key in its logs (facts §0.4).
    pub(crate) async fn push_key(&self, cargo: &Cargo) -> Result<(), EnrolError> {
        self.stored(Step::PushKey).await?;
        self.change(Step::PushKey, &Command::tls_key1(&cargo.key)).await.map(drop)
    }

    /// The certificate. The same question as before goes ahead: a device that restarted in between has not loaded its
    /// key, and would refuse (facts §1.3).
    pub(crate) async fn push_certificate(&self, cargo: &Cargo) -> Result<(), EnrolError> {
        self.stored(Step::PushCertificate).await?;
        self.change(Step::PushCertificate, &Command::tls_key2(&cargo.certificate)).await.map(drop)
    }

    /// The lengths stored.
    pub(crate) async fn stored(&self, step: Step) -> Result<Stored, EnrolError> {
        let command = Command::tls_key();
        let reply = self.tell(step, &command).await?;
        reply.tls_key().map_err(|why| self.answer(step, why))
    }
}

/// Whoever brings a key to a device: an enrolment, or a change of its identity.
pub(crate) trait Bearer {
    /// The device.
    fn asker(&self) -> &Asker<'_>;

    /// Tells the journal, then whoever watches.
    fn note(&mut self, step: Step, progress: Progress, detail: &str) -> Result<(), EnrolError>;
}

/// Key and certificate onto a device, lengths read back. A damaged text, or a restart in between, gets another round: it
/// answers then, with something else stored.
pub(crate) async fn push(bearer: &mut (impl Bearer + Send), cargo: &Cargo) -> Result<(), EnrolError> {
    let mut round = 1;
    loop {
        let step = match push_once(bearer, cargo).await {
            Ok(()) => return Ok(()),
            Err(EnrolError::LengthMismatch { .. }) if round < PUSH_ROUNDS => Step::ReadBack,
            Err(EnrolError::Refused { step: step @ Step::PushCertificate, .. }) if round < PUSH_ROUNDS => {
                step
            }
            Err(error) => return Err(error),
        };
        bearer.note(step, Progress::Failed, "once more")?;
        round += 1;
    }
}

async fn push_once(bearer: &mut (impl Bearer + Send), cargo: &Cargo) -> Result<(), EnrolError> {
    bearer.note(Step::PushKey, Progress::Begun, "")?;
    bearer.asker().push_key(cargo).await?;
    bearer.note(Step::PushKey, Progress::Done, "32 bytes")?;
    bearer.note(Step::PushCertificate, Progress::Begun, "")?;
    bearer.asker().push_certificate(cargo).await?;
    bearer.note(Step::PushCertificate, Progress::Done, "")?;
    bearer.note(Step::ReadBack, Progress::Begun, "")?;
    let (stored, expected) = (bearer.asker().stored(Step::ReadBack).await?, cargo.expected());
    if stored != expected {
        return Err(EnrolError::LengthMismatch { address: bearer.asker().address(), stored, expected });
    }
    bearer.note(Step::ReadBack, Progress::Done, &stored.to_string())
}
