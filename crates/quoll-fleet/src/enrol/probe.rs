//! What a device is and what it can do, asked without changing anything; and what of it forbids an enrolment.

use quoll_tasmota::reply::{Firmware, Mqtt, Network};
use quoll_tasmota::{Command, FingerprintSlot, ReplyError, SetOption, Setting, StatusPage, Stored};

use super::ask::Asker;
use super::error::EnrolError;
use super::target::{BrokerTarget, CaKind, DeviceConsole, EnrolRequest, Patience};
use crate::access_list;
use crate::device::{Device, DeviceState, Topics};
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
    let asker = Asker { console, patience };
    asker.probe().await
}

impl Asker<'_> {
    pub(super) async fn probe(&self) -> Result<Probe, EnrolError> {
        let page = |page| Command::status(page);
        let firmware = self.read(&page(StatusPage::Firmware), |reply| reply.firmware()).await?;
        let network = self.read(&page(StatusPage::Network), |reply| reply.network()).await?;
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
            tls: self.option(SetOption::MQTT_TLS).await?.unwrap_or(false),
            fingerprint_mode: self.option(SetOption::FINGERPRINT_MODE).await?.unwrap_or(false),
            ecdsa: self.option(SetOption::ECDSA).await?,
        };
        let logs = LogLevels {
            serial: self.level(Setting::SerialLog).await?,
            sys: self.level(Setting::SysLog).await?,
            mqtt: self.level(Setting::MqttLog).await?,
            file: self.level(Setting::FileLog).await?,
            web: self.level(Setting::WebLog).await?,
        };
        Ok(Probe { firmware, network, mqtt, clock, tls, topics, settings, logs })
    }

    /// The bare questions, in the order of facts §7.3; nothing secret may be sent before both are answered.
    async fn tls_ability(&self) -> Result<TlsAbility, EnrolError> {
        match self.ask(Step::Probe, &Command::mqtt_tls()).await?.mqtt_tls() {
            Ok(_) => {}
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

    async fn maybe_setting(&self, setting: Setting) -> Result<Option<String>, EnrolError> {
        Ok(self.ask(Step::Probe, &Command::ask(setting)).await?.setting(setting).ok())
    }

    /// A setting that releases without it have at its factory value.
    async fn setting_or(&self, setting: Setting, factory: &str) -> Result<String, EnrolError> {
        let told = self.maybe_setting(setting).await?.filter(|text| !text.is_empty());
        Ok(told.unwrap_or_else(|| factory.to_owned()))
    }

    /// Its group topics, each once; those that are not set are empty.
    async fn groups(&self) -> Result<Vec<String>, EnrolError> {
        let mut groups: Vec<String> = Vec::new();
        for setting in [Setting::GroupTopic, Setting::GroupTopic2, Setting::GroupTopic3, Setting::GroupTopic4]
        {
            let group = self.maybe_setting(setting).await?.filter(|group| !group.is_empty());
            groups.extend(group.filter(|group| !groups.contains(group)));
        }
        Ok(groups)
    }

    async fn level(&self, setting: Setting) -> Result<Option<u8>, EnrolError> {
        Ok(self.maybe_setting(setting).await?.and_then(|level| level.parse().ok()))
    }

    async fn option(&self, option: SetOption) -> Result<Option<bool>, EnrolError> {
        Ok(self.ask(Step::Probe, &Command::ask_option(option)).await?.option(option).ok())
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

    /// Whether it has the settings of this broker already.
    #[must_use]
    pub fn is_at(&self, broker: &BrokerTarget) -> bool {
        self.settings.is_for(broker)
    }

    /// Refuses what cannot or must not be enrolled; with what is stored under TLSKey otherwise.
    pub(super) fn refuse(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        known: Option<&Device>,
        broker: &BrokerTarget,
        address: &str,
    ) -> Result<Stored, EnrolError> {
        let address = address.to_owned();
        self.refuse_stranger(registry, request, known)?;
        let firmware = self.firmware.version.clone();
        let stored = match self.tls {
            TlsAbility::None => return Err(EnrolError::NoTls { address, firmware }),
            TlsAbility::Server => {
                return Err(EnrolError::NoTlsKey { address, firmware, pinned: pinned_commands(broker) });
            }
            TlsAbility::Client(stored) => stored,
        };
        if broker.ca_kind == CaKind::Ec && self.settings.ecdsa.is_none() {
            return Err(EnrolError::NoEcdsa { address, firmware });
        }
        let empty = stored.key.is_none() && stored.certificate.is_none();
        if !empty && !request.replace_key && !registry.ever_began(&request.name, Step::PushKey)? {
            return Err(EnrolError::ForeignKey { address, stored });
        }
        self.refuse_topics(registry, request, address)?;
        Ok(stored)
    }

    /// A name stands for one device, which its MAC tells.
    fn refuse_stranger(
        &self,
        registry: &Registry,
        request: &EnrolRequest,
        known: Option<&Device>,
    ) -> Result<(), EnrolError> {
        let found = self.network.mac;
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
        if request.share_topics {
            return Ok(());
        }
        let mine = (self.network.mac, &self.topics);
        let overlaps = |other: &Device| {
            other.mac != self.network.mac
                && other.state != DeviceState::Revoked
                && access_list::overlap(mine, (other.mac, &other.topics))
        };
        match registry.devices()?.into_iter().find(overlaps) {
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
