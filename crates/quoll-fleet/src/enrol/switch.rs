//! The device's clock, its way to our broker, and its way back.

use quoll_tasmota::status::Mqtt;
use quoll_tasmota::{Command, CommandError, Mac, SetOption, Setting, StatusPage};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};

use super::ask::{Asker, pauses};
use super::error::EnrolError;
use super::pins::OldLogin;
use super::target::{BrokerTarget, CaKind};
use crate::limits::CLOCK_SLACK;
use crate::saved::SavedSettings;
use crate::step::Step;

/// How a device came back from a restart.
pub(crate) enum Back {
    /// With the settings we wait for.
    With,
    /// It answers, and has others.
    Without,
    /// It has not answered. Another device may have, at its address.
    Away(Option<Mac>),
}

impl Back {
    /// What is said of a device that is away.
    pub(crate) fn away(stranger: Option<Mac>) -> String {
        match stranger {
            None => "its console does not answer".into(),
            Some(found) => format!("another device answers at its address: {found}"),
        }
    }
}

/// The one Backlog of facts §8.3 row 4.
pub(super) fn switch_commands(broker: &BrokerTarget, has_ecdsa: bool) -> Result<Command, CommandError> {
    let mut commands = vec![Command::set_option(SetOption::FINGERPRINT_MODE, false)];
    if has_ecdsa {
        commands.push(Command::set_option(SetOption::ECDSA, broker.ca_kind == CaKind::Ec));
    }
    commands.push(Command::set_option(SetOption::MQTT_TLS, true));
    commands.push(Command::set(Setting::MqttHost, &broker.host)?);
    commands.push(Command::set(Setting::MqttPort, &broker.port.to_string())?);
    Command::backlog(&commands)
}

/// The Backlog of facts §8.4. Fingerprints, user and password only where the pinned rung touched them. What a Backlog
/// cannot carry, such as a password with a semicolon, is a line of its own, to be sent first: a restart that it brings
/// waits until the Backlog is through.
pub(super) fn rollback_commands(
    old: &SavedSettings,
    login: Option<&OldLogin>,
) -> Result<(Vec<Command>, Command), CommandError> {
    let mut commands = vec![
        Command::set_option(SetOption::MQTT_TLS, old.tls),
        Command::set_option(SetOption::FINGERPRINT_MODE, old.fingerprint_mode),
    ];
    commands.extend(old.ecdsa.map(|on| Command::set_option(SetOption::ECDSA, on)));
    commands.push(match old.host.as_str() {
        "" => Command::clear(Setting::MqttHost),
        host => Command::set(Setting::MqttHost, host)?,
    });
    commands.push(match old.port {
        0 | 1 => Command::clear(Setting::MqttPort),
        port => Command::set(Setting::MqttPort, &port.to_string())?,
    });
    if let Some(login) = login {
        commands.extend(login.commands(old)?);
    }
    let (backlog, alone): (Vec<_>, Vec<_>) = commands.into_iter().partition(Command::fits_a_backlog);
    Ok((alone, Command::backlog(&backlog)?))
}

impl Asker<'_> {
    /// Checks the clock, and sets it where it is wrong: certificates are checked against it (facts §3.3).
    pub(crate) async fn set_clock(&self) -> Result<String, EnrolError> {
        let off = self.clock_error().await?;
        if off.abs() <= CLOCK_SLACK {
            return Ok(String::new());
        }
        let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        let command = Command::time(now).map_err(EnrolError::Target)?;
        self.change(Step::Clock, &command).await?;
        let still = self.clock_error().await?;
        if still.abs() > CLOCK_SLACK {
            return Err(EnrolError::Clock { address: self.address(), off: still });
        }
        Ok(format!("was off by {} s, set", off.whole_seconds()))
    }

    async fn clock_error(&self) -> Result<Duration, EnrolError> {
        let reply = self.ask(Step::Clock, &Command::status(StatusPage::Time)).await?;
        let clock = reply.clock().map_err(|why| self.answer(Step::Clock, why))?;
        let clock = i64::try_from(clock).unwrap_or(i64::MAX);
        Ok(Duration::seconds(clock.saturating_sub(OffsetDateTime::now_utc().unix_timestamp())))
    }

    /// Sends a Backlog that ends in a restart, to the device that was asked first and to no other.
    pub(crate) async fn send_backlog(&self, step: Step, backlog: &Command) -> Result<(), EnrolError> {
        self.same_device(step).await?;
        self.hand_over(step, backlog).await
    }

    /// As [`Self::send_backlog`], for those who have just looked who is there. No answer is no verdict: the device may be
    /// gone because it obeys.
    pub(crate) async fn hand_over(&self, step: Step, backlog: &Command) -> Result<(), EnrolError> {
        match self.hand(step, backlog).await {
            // A stranger has its address since: it went away after it was told.
            Ok(_) | Err(EnrolError::WentAway { .. } | EnrolError::Stranger { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Polls until the device answers with settings that are `wanted`, or patience ends. What another device answers at
    /// its address is nothing that it said.
    pub(crate) async fn wait_back(&self, wanted: impl Fn(&Mqtt) -> bool) -> Back {
        let until = Instant::now() + self.patience.back;
        let mut answered = false;
        for pause in pauses(self.patience.poll, self.patience.poll_max) {
            sleep(pause).await;
            let reply = self.once(&Command::status(StatusPage::Mqtt)).await;
            if let Ok(Ok(mqtt)) = reply.map(|reply| reply.mqtt()) {
                answered = true;
                if wanted(&mqtt) && self.stranger().await.is_none() {
                    return Back::With;
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        match if answered { self.stranger().await } else { None } {
            None if answered => Back::Without,
            stranger => Back::Away(stranger),
        }
    }
}

/// Status 6 shows the boot-time state of TLS (facts §7.2); older releases show none.
pub(crate) fn has_broker(mqtt: &Mqtt, host: &str, port: u16, tls: bool) -> bool {
    mqtt.host.eq_ignore_ascii_case(host) && mqtt.port == port && mqtt.tls.is_none_or(|now| now == tls)
}
