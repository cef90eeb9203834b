//! What a device is and what it can do, asked without changing anything; and what of it forbids an enrolment.

use quoll_tasmota::status::{Firmware, Mqtt, Network, Vitals};
use quoll_tasmota::{Command, FingerprintSlot, ReplyError, SetOption, Setting, StatusPage, Stored};

use super::ask::Asker;
use super::error::EnrolError;
use super::pins::{FACTORY_USER, OldLogin, Pins};
use super::switch::rollback_commands;
use super::target::{BrokerTarget, CaKind, DeviceConsole, EnrolRequest, Patience, WantedRung};
use crate::access_list;
use crate::device::{Device, DeviceState, Rung, Topics};
use crate::registry::{NewDevice, Registry};
use crate::saved::{LogLevels, SavedSettings};
use crate::step::Step;

/// What a probe found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// `Status 2`.
    pub firmware: Firmware,
    /// `Status 5`.
    pub network: Network,
    /// `Status 6`.
    pub mqtt: Mqtt,
    /// `Status 7`: UTC seconds since 1970; `None` if it did not say.
    pub clock: Option<u64>,
    /// What its TLS can do.
    pub tls: TlsAbility,
    /// The names it publishes and subscribes under: FullTopic, Topic, Prefix1 to 3, GroupTopic1 to 4, MqttClient.
    pub topics: Topics,
    /// The MQTT settings that an enrolment would change.
    pub settings: SavedSettings,
    /// Its log levels.
    pub logs: LogLevels,
    /// Heap and Wi-Fi, as far as it says.
    pub vitals: Vitals,
}

/// What a firmware's TLS can do (facts §7.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsAbility {
    /// No TLS at all.
    None,
    /// TLS towards a server, no client certificates: released ESP32 binaries.
    Server,
    /// TLSKey exists: the lengths stored.
    Client(Stored),
}

/// Asks a device what it is and what it can do. Changes nothing, sends no key.
///
/// # Errors
/// Where the device does not answer, is no Tasmota, wants a password, or has MQTT off: see [`EnrolError`].
pub async fn probe(console: &dyn DeviceConsole, patience: Patience) -> Result<Probe, EnrolError> {
    Asker::new(console, patience).probe().await
}

impl Asker<'_> {
    pub(crate) async fn probe(&self) -> Result<Probe, EnrolError> {
        let page = |page| Command::status(page);
        let firmware = self.read(&page(StatusPage::Firmware), |reply| reply.firmware()).await?;
        let network = self.read(&page(StatusPage::Network), |reply| reply.network()).await?;
        // Whoever it is: from now on nobody else.
        let _ = self.who.set(network.mac);
        let mqtt = match self.ask(Step::Probe, &page(StatusPage::Mqtt)).await?.mqtt() {
            Ok(mqtt) => mqtt,
            Err(ReplyError::Refused) => return Err(EnrolError::MqttOff { address: self.address() }),
            Err(why) => return Err(self.answer(Step::Probe, why)),
        };
        let clock = self.ask(Step::Probe, &page(StatusPage::Time)).await?.clock().ok();
        let tls = self.tls_ability().await?;
        let topic = self.setting(Setting::Topic).await?;
        let full_topic = self.setting(Setting::FullTopic).await?;
        let topics = Topics {
            topic,
            full_topic,
            command: self.setting_or(Setting::Prefix1, "cmnd").await?,
            status: self.setting_or(Setting::Prefix2, "stat").await?,
            telemetry: self.setting_or(Setting::Prefix3, "tele").await?,
            groups: self.groups().await?,
            client_id: mqtt.client.clone(),
        };
        let settings = SavedSettings {
            host: mqtt.host.clone(),
            port: mqtt.port,
            tls: self.probed(SetOption::MQTT_TLS).await?,
            fingerprint_mode: self.probed(SetOption::FINGERPRINT_MODE).await?,
            ecdsa: self.maybe_option(SetOption::ECDSA).await?,
            user: Some(mqtt.user.clone()),
            fingerprints: match tls {
                TlsAbility::None => None,
                _ => self.fingerprints().await?,
            },
        };
        let logs = LogLevels {
            serial: self.level(Setting::SerialLog).await?,
            sys: self.level(Setting::SysLog).await?,
            mqtt: self.level(Setting::MqttLog).await?,
            file: self.level(Setting::FileLog).await?,
            web: self.level(Setting::WebLog).await?,
        };
        let vitals = self.ask(Step::Probe, &page(StatusPage::State)).await?.vitals();
        // What was asked is all of one device: another one's settings would go back to this one some day.
        let found = self.read(&page(StatusPage::Network), |reply| reply.network()).await?.mac;
        if found != network.mac {
            let (address, step, registered) = (self.address(), Step::Probe, network.mac);
            return Err(EnrolError::Stranger { address, step, registered, found });
        }
        Ok(Probe { firmware, network, mqtt, clock, tls, topics, settings, logs, vitals })
    }

    /// The bare questions, in the order of facts §7.3; nothing secret may be sent before both are answered.
    async fn tls_ability(&self) -> Result<TlsAbility, EnrolError> {
        match self.ask(Step::Probe, &Command::mqtt_tls()).await?.knows_mqtt_tls() {
            Ok(()) => {}
            Err(ReplyError::Unknown) => return Ok(TlsAbility::None),
            Err(why) => return Err(self.answer(Step::Probe, why)),
        }
        match self.ask(Step::Probe, &Command::tls_key()).await?.tls_key() {
            Ok(stored) => Ok(TlsAbility::Client(stored)),
            Err(ReplyError::Unknown) => Ok(TlsAbility::Server),
            Err(why) => Err(self.answer(Step::Probe, why)),
        }
    }

    async fn read<T>(
        &self,
        command: &Command,
        read: impl FnOnce(&quoll_tasmota::Reply) -> Result<T, ReplyError>,
    ) -> Result<T, EnrolError> {
        read(&self.ask(Step::Probe, command).await?).map_err(|why| self.answer(Step::Probe, why))
    }

    async fn setting(&self, setting: Setting) -> Result<String, EnrolError> {
        self.read(&Command::ask(setting), |reply| reply.setting(setting)).await
    }

    /// `None` where the firmware does not have it, and says so. Any other answer that makes no sense is no answer: what
    /// is taken for the old settings goes back one day.
    fn known<T>(&self, told: Result<T, ReplyError>) -> Result<Option<T>, EnrolError> {
        match told {
            Ok(told) => Ok(Some(told)),
            Err(ReplyError::Unknown | ReplyError::Refused) => Ok(None),
            Err(why) => Err(self.answer(Step::Probe, why)),
        }
    }

    /// Both fingerprint slots as the device shows them; `None` where it has no such command.
    async fn fingerprints(&self) -> Result<Option<[String; 2]>, EnrolError> {
        let mut slots = [String::new(), String::new()];
        for (slot, text) in [FingerprintSlot::One, FingerprintSlot::Two].into_iter().zip(&mut slots) {
            match self.ask(Step::Probe, &Command::ask_fingerprint(slot)).await?.fingerprint(slot) {
                Ok(held) => *text = held.to_string(),
                Err(ReplyError::Unknown) => return Ok(None),
                Err(why) => return Err(self.answer(Step::Probe, why)),
            }
        }
        Ok(Some(slots))
    }

    /// A setting that releases without it have at its factory value.
    async fn setting_or(&self, setting: Setting, factory: &str) -> Result<String, EnrolError> {
        let told = self.ask(Step::Probe, &Command::ask(setting)).await?.setting(setting);
        let told = self.known(told)?.filter(|text| !text.is_empty());
        Ok(told.unwrap_or_else(|| factory.to_owned()))
    }

    /// Its group topics, each once; those that are not set are empty.
    async fn groups(&self) -> Result<Vec<String>, EnrolError> {
        let mut groups: Vec<String> = Vec::new();
        for setting in [Setting::GroupTopic, Setting::GroupTopic2, Setting::GroupTopic3, Setting::GroupTopic4]
        {
            // Releases with one group topic alone answer for that one.
            let told = self.ask(Step::Probe, &Command::ask(setting)).await?.setting(setting).ok();
            let group = told.filter(|group| !group.is_empty());
            groups.extend(group.filter(|group| !groups.contains(group)));
        }
        Ok(groups)
    }

    /// A log that is not known of is not turned down, and would show the key.
    async fn level(&self, setting: Setting) -> Result<Option<u8>, EnrolError> {
        let told = self.ask(Step::Probe, &Command::ask(setting)).await?.setting(setting);
        Ok(self.known(told)?.and_then(|level| level.parse().ok()))
    }

    async fn probed(&self, option: SetOption) -> Result<bool, EnrolError> {
        self.option(Step::Probe, option).await?.map_err(|why| self.answer(Step::Probe, why))
    }

    async fn maybe_option(&self, option: SetOption) -> Result<Option<bool>, EnrolError> {
        self.known(self.option(Step::Probe, option).await?)
    }
}

impl Probe {
    /// The device as the registry is to know it.
    #[must_use]
    pub fn device(&self, request: &EnrolRequest) -> NewDevice {
        NewDevice {
            name: request.name.clone(),
            address: request.address.clone(),
            mac: self.network.mac,
            chip: self.firmware.hardware.clone(),
            firmware: self.firmware.version.clone(),
            topics: self.topics.clone(),
        }
    }

    /// Whether it has the settings of this broker's mutual rung already.
    #[must_use]
    pub fn is_at(&self, broker: &BrokerTarget) -> bool {
        self.settings.is_for(broker)
    }

    /// Whether it has the settings of this broker's pinned rung already, under one of these user names: host, port, TLS
    /// by fingerprint, the server's key in a slot, and no slot that accepts anybody.
    #[must_use]
    pub fn is_pinned_to(&self, broker: &BrokerTarget, logins: &[&str]) -> bool {
        self.settings.is_pinned_to(broker, logins)
    }

    /// The highest rung that the firmware can reach as it is (facts §7.3).
    #[must_use]
    pub fn possible(&self) -> Rung {
        match self.tls {
            TlsAbility::None => Rung::Plain,
            TlsAbility::Server => Rung::Pinned,
            TlsAbility::Client(_) => Rung::Mutual,
        }
    }

    /// Refuses what cannot or must not be enrolled; else says which way it goes.
    pub(super) fn refuse(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        known: Option<&Device>,
        broker: &BrokerTarget,
        address: &str,
    ) -> Result<Way, EnrolError> {
        self.refuse_stranger(registry, request, known)?;
        let way = self.way(request, known, broker, address)?;
        let address = address.to_owned();
        match way {
            Way::Mutual(stored) => {
                if broker.ca_kind == CaKind::Ec && self.settings.ecdsa.is_none() {
                    return Err(EnrolError::NoEcdsa { address, firmware: self.firmware.version.clone() });
                }
                let empty = stored.key.is_none() && stored.certificate.is_none();
                if !empty && !request.replace_key && !registry.ever_began(&request.name, Step::PushKey)? {
                    return Err(EnrolError::ForeignKey { address, stored });
                }
                if !self.is_at(broker) {
                    self.refuse_without_way_back(registry, request, None)?;
                }
            }
            Way::Pinned(_) => {
                self.refuse_losing_a_password(registry, request, &address)?;
                let ours = registry.passwords_of(&request.name)?;
                let ours: Vec<&str> = ours.iter().map(|one| one.login.as_str()).collect();
                if !self.is_pinned_to(broker, &ours) {
                    self.refuse_without_way_back(registry, request, Some(&ours))?;
                }
            }
        }
        self.refuse_topics(registry, request, address)?;
        Ok(way)
    }

    /// Which rung it is to be. A device that was proven with a certificate goes lower only by word.
    fn way(
        &self,
        request: &EnrolRequest,
        known: Option<&Device>,
        broker: &BrokerTarget,
        address: &str,
    ) -> Result<Way, EnrolError> {
        let (address, firmware) = (address.to_owned(), self.firmware.version.clone());
        let lowers = known.filter(|known| known.rung == Rung::Mutual);
        match (request.rung, self.tls, lowers) {
            (WantedRung::Auto | WantedRung::Mutual, TlsAbility::Client(stored), _) => Ok(Way::Mutual(stored)),
            (WantedRung::Auto, TlsAbility::None | TlsAbility::Server, Some(known)) => {
                Err(EnrolError::WouldLower { name: known.name.clone(), address, firmware })
            }
            (_, TlsAbility::None, _) => Err(EnrolError::NoTls { address, firmware }),
            (WantedRung::Mutual, TlsAbility::Server, _) => {
                Err(EnrolError::NoTlsKey { address, firmware, pinned: pinned_commands(broker) })
            }
            (WantedRung::Auto, TlsAbility::Server, None)
                if broker.pinned_port.is_none() || Pins::of(broker).is_none() =>
            {
                Err(EnrolError::NoTlsKey { address, firmware, pinned: pinned_commands(broker) })
            }
            (WantedRung::Auto | WantedRung::Pinned, _, _) => match (broker.pinned_port, Pins::of(broker)) {
                (None, _) => Err(EnrolError::NoPinnedDoor { address }),
                (_, None) => Err(EnrolError::NoPin { address }),
                (Some(_), Some(pins)) => Ok(Way::Pinned(pins)),
            },
        }
    }

    /// The pinned rung overwrites user and password, and the password cannot be read: without it there is no way back to
    /// a broker that asks for one.
    fn refuse_losing_a_password(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        address: &str,
    ) -> Result<(), EnrolError> {
        // What an earlier run found there first counts, not what it set itself.
        let kept = registry.kept(&request.name)?.0;
        let before = kept.as_ref().unwrap_or(&self.settings);
        let user = before.user.clone().unwrap_or_default();
        let ours = registry.passwords_of(&request.name)?.iter().any(|one| one.login == user);
        let needless = before.host.is_empty() || user.is_empty() || user == FACTORY_USER || ours;
        if needless || request.old_password.is_some() || request.lose_old_password {
            return Ok(());
        }
        Err(EnrolError::OldPassword { address: address.to_owned(), user, host: before.host.clone() })
    }

    /// Old settings that no console line can bring back, or a password that was told us and that no device takes: said
    /// before anything is changed, not when it is to go back.
    fn refuse_without_way_back(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        logins: Option<&[&str]>,
    ) -> Result<(), EnrolError> {
        let kept = registry.kept(&request.name)?.0;
        let old = kept.as_ref().unwrap_or(&self.settings);
        let login = logins.map(|ours| OldLogin::of(old, ours, request.old_password.as_ref()));
        rollback_commands(old, login.as_ref()).map(drop).map_err(EnrolError::NoWayBack)
    }

    /// A name stands for one device, which its MAC tells.
    pub(super) fn refuse_stranger(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        known: Option<&Device>,
    ) -> Result<(), EnrolError> {
        let found = self.network.mac;
        if let Some(registered) = request.mac.filter(|meant| *meant != found) {
            let (name, address) = (request.name.clone(), request.address.clone());
            return Err(EnrolError::AddressMoved { name, address, registered, found });
        }
        if let Some(known) = known.filter(|known| known.mac != found) {
            let (name, registered) = (known.name.clone(), known.mac);
            if known.address == request.address {
                let address = request.address.clone();
                return Err(EnrolError::AddressMoved { name, address, registered, found });
            }
            return Err(EnrolError::OtherDevice { name, registered, found });
        }
        match registry.device_by_mac(found)? {
            Some(other) if !other.name.as_str().eq_ignore_ascii_case(request.name.as_str()) => {
                Err(EnrolError::OtherName { mac: found, name: other.name })
            }
            _ => Ok(()),
        }
    }

    fn refuse_topics(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        address: String,
    ) -> Result<(), EnrolError> {
        if let Err(why) = self.topics.check() {
            return Err(EnrolError::Topics { address, why });
        }
        let mut others = registry.devices()?;
        others.retain(|other| other.mac != self.network.mac && other.state != DeviceState::Revoked);
        let client_id = &self.topics.client_id;
        if let Some(at) = others.iter().position(|other| other.topics.client_id == *client_id) {
            let (client_id, other) = (client_id.clone(), others.swap_remove(at).name);
            return Err(EnrolError::SharedClientId { address, client_id, other });
        }
        if request.share_topics {
            return Ok(());
        }
        match access_list::sharing(others, self.network.mac, &self.topics) {
            Some(other) => {
                Err(EnrolError::SharedTopics { address, topic: self.topics.topic.clone(), other: other.name })
            }
            None => Ok(()),
        }
    }
}

impl SavedSettings {
    /// Whether these are the settings of this broker.
    #[must_use]
    pub fn is_for(&self, broker: &BrokerTarget) -> bool {
        let ecdsa = self.ecdsa.unwrap_or(false);
        self.host.eq_ignore_ascii_case(&broker.host)
            && self.port == broker.port
            && self.tls
            && !self.fingerprint_mode
            && (ecdsa || broker.ca_kind == CaKind::Rsa)
    }

    /// Whether these are the settings of this broker's pinned rung, under one of these user names.
    #[must_use]
    pub fn is_pinned_to(&self, broker: &BrokerTarget, logins: &[&str]) -> bool {
        let pinned =
            Pins::of(broker).zip(self.fingerprints.as_ref()).is_some_and(|(pins, slots)| pins.hold(slots));
        self.host.eq_ignore_ascii_case(&broker.host)
            && Some(self.port) == broker.pinned_port
            && self.tls
            && self.fingerprint_mode
            && pinned
            && self.user.as_deref().is_some_and(|user| logins.contains(&user))
    }
}

/// Which way a run goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// With what is stored under TLSKey.
    Mutual(Stored),
    /// With the key to be pinned.
    Pinned(Pins),
}

impl Way {
    pub(super) fn port(self, broker: &BrokerTarget) -> u16 {
        match self {
            Self::Mutual(_) => broker.port,
            Self::Pinned(_) => broker.pinned_port.unwrap_or(broker.port),
        }
    }
}

/// The pinned rung's console line (facts §8.2), without user and password.
fn pinned_commands(broker: &BrokerTarget) -> String {
    let fingerprint: Vec<String> =
        broker.server_fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = fingerprint.join(" ");
    let slot = |slot: FingerprintSlot| format!("MqttFingerprint{} {fingerprint}", slot as u8);
    format!(
        "Backlog {}; {}; SetOption132 1; SetOption103 1; MqttHost {}; MqttPort {}",
        slot(FingerprintSlot::One),
        slot(FingerprintSlot::Two),
        broker.host,
        broker.port
    )
}
