//! The device's console, asked everything that is harmless. One that lies, hangs, or is none costs one silence and the
//! questions that are left.

use std::time::Duration;

use quoll_fleet::doctor::evidence::{DeviceSide, Silence, SilenceKind, TlsAbility};
use quoll_fleet::doctor::log::LogReading;
use quoll_tasmota::{
    Command, Console as _, ConsoleError, FingerprintSlot, HttpConsole, Reply, ReplyError, SetOption, Setting,
    StatusPage,
};
use tokio::time::{Instant, timeout_at};

/// For all questions to one device together.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a connection to its console.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// A device in the middle of a restart is asked again; those are the pauses.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// Longest text of a device's that is taken over.
const TEXT: usize = 150;

/// Asks. Whatever has no answer stays empty.
pub(crate) async fn ask(console: &HttpConsole) -> DeviceSide {
    let mut asking = Asking {
        console,
        end: Instant::now() + PATIENCE,
        side: DeviceSide { address: console.address(), ..DeviceSide::default() },
        words: None,
    };
    asking.all().await;
    asking.side
}

/// Whether it says that it has connected since its boot.
pub(crate) async fn is_connected(console: &HttpConsole) -> bool {
    let reply = console.ask(&Command::status(StatusPage::State)).await;
    reply.ok().and_then(|reply| reply.mqtt_count().ok()).is_some_and(|count| count > 0)
}

/// Seconds since its boot.
pub(crate) async fn uptime(console: &HttpConsole) -> Option<u64> {
    console.ask(&Command::status(StatusPage::State)).await.ok()?.uptime()
}

/// The lines of its log that tell of a failed attempt; none where it does not answer.
pub(crate) async fn failed_attempts(console: &HttpConsole) -> Option<Vec<String>> {
    let page = console.log(0).await.ok()?;
    Some(page.lines.into_iter().filter(|line| line.contains("MQT: Connect failed to ")).collect())
}

struct Asking<'a> {
    console: &'a HttpConsole,
    end: Instant,
    side: DeviceSide,
    /// Its words for off and on, once they were asked; none where it has none of its own.
    words: Option<Option<(String, String)>>,
}

impl Asking<'_> {
    async fn all(&mut self) {
        // The first answer decides whether it is a Tasmota, and whether it lets us ask.
        let Some(first) = self.first().await else { return };
        if let Some(firmware) = self.read("its firmware", first.firmware()) {
            self.side.is_esp32 = firmware.is_esp32();
            self.side.crashes_without_broker = firmware.crashes_without_broker();
            self.side.release = Some(firmware.number);
            self.side.chip = Some(cut(&firmware.hardware)).filter(|chip| !chip.is_empty());
            self.side.firmware = Some(cut(&firmware.version));
        }
        // The log before anything else: our questions end up in it and push older lines out.
        if let Some(Ok(page)) = self.timed(self.console.log(0)).await {
            self.side.log = Some(LogReading::of(&page.lines));
        } else {
            self.side.missing.push("its web log".into());
        }
        if let Some(network) = self.page(StatusPage::Network, "its network", Reply::network).await {
            self.side.mac = Some(network.mac.to_string());
        }
        self.side.mqtt_on = self.option(SetOption::MQTT).await;
        self.mqtt().await;
        if let Some(clock) = self.page(StatusPage::Time, "its clock", Reply::clock).await {
            self.side.clock = i64::try_from(clock).ok();
        }
        if let Some(reply) = self.reply(&Command::status(StatusPage::State)).await {
            let vitals = reply.vitals();
            self.side.heap = vitals.heap;
            self.side.rssi = vitals.rssi;
            self.side.uptime = reply.uptime().and_then(|seconds| i64::try_from(seconds).ok());
        }
        if let Some(reply) = self.reply(&Command::status(StatusPage::Parameters)).await {
            let boot = reply.last_boot();
            self.side.boots = boot.boots;
            self.side.restart_reason = boot.reason.map(|reason| cut(&reason));
        }
        if let Some(reply) = self.reply(&Command::ask(Setting::Topic)).await {
            self.side.topic = self.read("its topic", reply.setting(Setting::Topic)).map(|topic| cut(&topic));
        }
        if self.side.mqtt_on != Some(false) {
            self.tls().await;
        }
        // Where older questions had pushed its attempts out, there may have been one by now.
        if self.side.silence.is_none()
            && self.side.log.as_ref().is_some_and(|log| log.lines.is_empty())
            && let Some(Ok(page)) = self.timed(self.console.log(0)).await
        {
            self.side.log = Some(LogReading::of(&page.lines));
        }
    }

    async fn mqtt(&mut self) {
        let Some(reply) = self.reply(&Command::status(StatusPage::Mqtt)).await else { return };
        match reply.mqtt() {
            Ok(mqtt) => {
                self.side.host = Some(cut(&mqtt.host));
                self.side.port = Some(mqtt.port);
                self.side.client = Some(cut(&mqtt.client));
                self.side.user = Some(cut(&mqtt.user));
                self.side.mqtt_count = Some(mqtt.count);
                self.side.tls_at_boot = mqtt.tls;
            }
            // Error is what it answers while MQTT is off.
            Err(ReplyError::Refused) => self.side.mqtt_on = Some(false),
            Err(why) => self.side.missing.push(format!("its MQTT settings: {why}")),
        }
    }

    async fn tls(&mut self) {
        let Some(reply) = self.reply(&Command::mqtt_tls()).await else { return };
        match reply.knows_mqtt_tls() {
            Ok(()) => {}
            Err(ReplyError::Unknown) => {
                self.side.ability = Some(TlsAbility::None);
                self.side.tls = Some(false);
                return;
            }
            Err(why) => self.side.missing.push(format!("whether it has TLS: {why}")),
        }
        if let Some(reply) = self.reply(&Command::tls_key()).await {
            match reply.tls_key() {
                Ok(stored) => {
                    let length =
                        |bytes: Option<usize>| bytes.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1);
                    self.side.ability = Some(TlsAbility::Client);
                    self.side.stored = Some((length(stored.key), length(stored.certificate)));
                }
                Err(ReplyError::Unknown) => self.side.ability = Some(TlsAbility::Server),
                Err(why) => self.side.missing.push(format!("what it has as TLSKey: {why}")),
            }
        }
        self.side.tls = self.option(SetOption::MQTT_TLS).await;
        self.side.fingerprint_mode = self.option(SetOption::FINGERPRINT_MODE).await;
        self.side.ecdsa = self.option(SetOption::ECDSA).await;
        for (place, slot) in [FingerprintSlot::One, FingerprintSlot::Two].into_iter().enumerate() {
            if let Some(reply) = self.reply(&Command::ask_fingerprint(slot)).await {
                self.side.slots[place] =
                    self.read("its fingerprints", reply.fingerprint(slot)).map(|slot| slot.bytes());
            }
        }
    }

    /// The first question, put again where the device may be in the middle of a restart.
    async fn first(&mut self) -> Option<Reply> {
        let question = Command::status(StatusPage::Firmware);
        let mut pauses = AGAIN.iter();
        loop {
            match self.timed(self.console.ask(&question)).await {
                Some(Ok(reply)) => return Some(reply),
                Some(Err(error)) => match pauses.next() {
                    Some(pause)
                        if matches!(
                            error,
                            ConsoleError::Broken { .. } | ConsoleError::Unreachable { .. }
                        ) =>
                    {
                        tokio::time::sleep(*pause).await;
                    }
                    _ => {
                        self.side.silence = Some(silence(&error));
                        return None;
                    }
                },
                None => return None,
            }
        }
    }

    /// One answer; nothing more is asked of a device that has fallen silent.
    async fn reply(&mut self, command: &Command) -> Option<Reply> {
        if self.side.silence.is_some() {
            return None;
        }
        match self.timed(self.console.ask(command)).await? {
            Ok(reply) => Some(reply),
            Err(ConsoleError::Malformed { why, .. }) => {
                self.side.missing.push(format!("{}: {why}", command.keyword()));
                None
            }
            Err(error) => {
                self.side.silence = Some(silence(&error));
                None
            }
        }
    }

    async fn page<T>(
        &mut self,
        page: StatusPage,
        what: &str,
        read: impl FnOnce(&Reply) -> Result<T, ReplyError>,
    ) -> Option<T> {
        let reply = self.reply(&Command::status(page)).await?;
        self.read(what, read(&reply))
    }

    async fn option(&mut self, option: SetOption) -> Option<bool> {
        let reply = self.reply(&Command::ask_option(option)).await?;
        let mut told = reply.option(option);
        if matches!(told, Ok(_) | Err(ReplyError::Shape { .. })) {
            // Its owner may have words of his own for off and on, or have exchanged the factory's.
            let words = match self.words.clone() {
                Some(known) => known,
                None => {
                    let off = self.reply(&Command::ask(Setting::StateText1)).await?;
                    let on = self.reply(&Command::ask(Setting::StateText2)).await?;
                    let words = (off.setting(Setting::StateText1), on.setting(Setting::StateText2));
                    self.words.insert(words.0.ok().zip(words.1.ok())).clone()
                }
            };
            if let Some((off, on)) = &words {
                told = reply.option_in(option, [off, on]);
            }
        }
        self.read(&option.name(), told)
    }

    fn read<T>(&mut self, what: &str, answer: Result<T, ReplyError>) -> Option<T> {
        answer.map_err(|why| self.side.missing.push(format!("{what}: {why}"))).ok()
    }

    async fn timed<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        match timeout_at(self.end, work).await {
            Ok(done) => Some(done),
            Err(_) => {
                let why = format!(
                    "{} did not answer everything within {} s",
                    self.side.address,
                    PATIENCE.as_secs()
                );
                self.side.silence = Some(Silence { kind: SilenceKind::Hangs, why, hint: None });
                None
            }
        }
    }
}

fn silence(error: &ConsoleError) -> Silence {
    let kind = match error {
        ConsoleError::Timeout { .. } => SilenceKind::Hangs,
        ConsoleError::Unauthorized { .. } => SilenceKind::Password,
        ConsoleError::RefererDenied { .. } => SilenceKind::Referer,
        ConsoleError::NotTasmota { .. } => SilenceKind::NotTasmota,
        ConsoleError::UserMode { .. } => SilenceKind::UserMode,
        ConsoleError::Malformed { .. } | ConsoleError::EmptyCommand { .. } => SilenceKind::Senseless,
        _ => SilenceKind::Unreachable,
    };
    Silence { kind, why: cut(&error.to_string()), hint: error.hint() }
}

fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect()
}
