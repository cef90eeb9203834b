//! The device, pure: a command line in, answers out; what is due, and when. No clock, no socket, no task inside.
//!
//! What a console line comes to is in `line`, its log in `log`, its commands in `commands`, its JSON pages in `report`, its
//! side of MQTT in `session`. Facts §7.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    Chip, ClockFault, Faults, Flash, VirtualProfile,
    flash::{EXCEPTION, POWER_ON, RESTARTED, Settings},
    key_store::KeyStore,
    line::Queued,
    log::Printer,
    session::{Publication, Session},
    tls::Anchor,
};
use crate::{setting::SetOption, tls_key::Stored, topics::Topics};

/// A moment: how long the simulation has run, and the true time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic, since any fixed moment.
    pub up: Duration,
    /// True UTC seconds since 1970; what the device believes is another matter.
    pub utc: u64,
}

/// One reply of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Last level of the `stat/…` topic: `RESULT`, `STATUS6`, `POWER`.
    pub name: String,
    /// A JSON object.
    pub json: String,
}

/// A running device.
pub struct Machine {
    pub(super) profile: VirtualProfile,
    pub(super) settings: Settings,
    pub(super) keys: KeyStore,
    pub(super) anchors: Arc<[Anchor]>,
    pub(super) address: SocketAddr,
    /// SetOption103 and 165 as they were at boot: changes count after the next one.
    pub(super) tls_on: bool,
    pub(super) ecdsa_on: bool,
    pub(super) session: Session,
    pub(super) booted: Duration,
    pub(super) set_clock: Option<(u64, Duration)>,
    pub(super) restart_reason: &'static str,
    pub(super) flash: Flash,
    pub(super) backlog: VecDeque<Queued>,
    pub(super) backlog_due: Duration,
    restart: Option<Restart>,
    pub(super) changed: Option<Duration>,
    pub(super) log: VecDeque<(u32, String)>,
    pub(super) next_log: u32,
    /// Messages for the broker, oldest first.
    pub(super) outbox: VecDeque<Publication>,
    /// What the serial line shows, where one is attached.
    pub(super) printer: Option<Printer>,
}

#[derive(Clone, Copy)]
struct Restart {
    due: Duration,
    saves: bool,
    reason: &'static str,
}

/// Messages waiting for the broker; older ones are dropped.
const OUTBOX: usize = 256;
impl Machine {
    /// Boots from flash. `address` is where its HTTP console answers.
    #[must_use]
    pub fn boot(mut profile: VirtualProfile, mut flash: Flash, address: SocketAddr, now: Now) -> Self {
        // What had leaked is back; set while it ran, the fault is one of that boot alone.
        if flash.boots > 0 {
            profile.faults.leaks_memory = false;
        }
        flash.boots += 1;
        // What it says next time, if it does not go down in order.
        let restart_reason = std::mem::replace(&mut flash.restart_reason, POWER_ON);
        let settings = flash.settings.clone();
        let tls_on = profile.has_tls() && settings.option(SetOption::MQTT_TLS);
        let mut machine = Self {
            keys: KeyStore::boot(profile.chip, flash.keys.clone(), tls_on),
            anchors: profile.anchors.iter().filter_map(|der| Anchor::from_der(der)).collect(),
            ecdsa_on: settings.option(SetOption::ECDSA),
            session: Session::new(now.up),
            booted: now.up,
            set_clock: None,
            restart_reason,
            backlog: VecDeque::new(),
            backlog_due: Duration::ZERO,
            restart: None,
            changed: None,
            log: VecDeque::new(),
            next_log: 1,
            outbox: VecDeque::new(),
            printer: None,
            profile,
            settings,
            address,
            tls_on,
            flash,
        };
        let version = machine.version_text();
        machine.note(
            2,
            now,
            &format!("Project tasmota - {} Version {version}", machine.settings.device_name),
        );
        machine
    }

    /// Its MAC.
    #[must_use]
    pub fn mac(&self) -> crate::mac::Mac {
        self.profile.mac
    }

    /// When [`Self::tick`] has something to do next.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        [self.chores_due(), self.session_due()].into_iter().flatten().min()
    }

    /// The same without MQTT: Backlog, saving, restart.
    #[must_use]
    pub fn chores_due(&self) -> Option<Duration> {
        let backlog = (!self.backlog.is_empty()).then_some(self.backlog_due);
        let restart = self.restart.filter(|_| self.backlog.is_empty()).map(|restart| restart.due);
        let save = self.changed.map(|since| since + self.scaled(1.0));
        [backlog, restart, save, self.crash_due()].into_iter().flatten().min()
    }

    /// Does what is due. True: the device goes down now; take its [`Self::parts`] and boot again.
    pub fn tick(&mut self, now: Now) -> bool {
        let restart_delay = self.scaled(2.0);
        while self.backlog_due <= now.up {
            let Some(queued) = self.backlog.pop_front() else { break };
            self.command_from_backlog(&queued, now);
            let delay = if queued.delayed { self.scaled(0.2) } else { Duration::ZERO };
            self.backlog_due = now.up + delay;
            if let Some(restart) = &mut self.restart {
                restart.due = restart.due.max(now.up + restart_delay);
            }
        }
        if self.changed.is_some_and(|since| since + self.scaled(1.0) <= now.up) {
            self.save(now);
        }
        self.session_tick(now);
        if self.restart.is_none() && self.crash_due().is_some_and(|due| due <= now.up) {
            self.crash(now);
        }
        match self.restart {
            Some(Restart { due, saves, reason }) if due <= now.up && self.backlog.is_empty() => {
                if saves {
                    self.save(now);
                }
                self.flash.restart_reason = reason;
                true
            }
            _ => false,
        }
    }

    /// Whether a restart is coming; MQTT does not reconnect then. Facts §7.5.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.restart.is_some()
    }

    /// What is left when it goes down, or when the power fails: the device and its flash.
    #[must_use]
    pub fn parts(&self) -> (VirtualProfile, Flash) {
        (self.profile.clone(), self.flash.clone())
    }

    /// The factor for its pauses.
    #[must_use]
    pub fn pace(&self) -> f64 {
        self.profile.pace.max(0.0)
    }

    /// Boots since the factory, this one included.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.flash.boots
    }

    /// Key and certificate as TLSKey would report them.
    #[must_use]
    pub fn stored(&self) -> Stored {
        self.keys.loaded().stored()
    }

    /// The settings, as they are in RAM.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its web password; empty for none.
    #[must_use]
    pub fn web_password(&self) -> &str {
        &self.settings.web_password
    }

    /// 0 off, 1 user mode, 2 admin.
    #[must_use]
    pub fn web_server(&self) -> u8 {
        self.settings.web_server
    }

    /// The device's own idea of a Referer that may use the HTTP console. SetOption128, facts §7.1.
    #[must_use]
    pub fn accepts_referer(&self, referer: Option<&str>) -> bool {
        let is_own = |referer: &str| {
            let rest = referer.strip_prefix("http://").unwrap_or_default().to_ascii_lowercase();
            rest.starts_with(&self.hostname().to_ascii_lowercase()) || rest.starts_with(&self.ip_text())
        };
        self.settings.option(SetOption::HTTP_WITHOUT_REFERER) || referer.is_some_and(is_own)
    }

    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.profile.faults
    }

    /// Breaks it, or mends it, while it runs. Its memory does not come back by that.
    pub fn set_faults(&mut self, faults: Faults) {
        self.profile.faults = faults;
    }

    /// When it crashes by itself.
    fn crash_due(&self) -> Option<Duration> {
        let after = self.profile.faults.reboots?;
        Some(self.booted + self.scaled(after.as_secs_f64()))
    }

    /// The `Server` header: `Tasmota/15.3.0 (ESP32)`.
    #[must_use]
    pub fn server_header(&self) -> String {
        let chip = match self.profile.chip {
            Chip::Esp8266 => "ESP8266EX",
            Chip::Esp32 => "ESP32-D0WD-V3",
        };
        format!("Tasmota/{} ({chip})", self.profile.version)
    }

    /// The device's topics by its settings; the factory's if they make none.
    #[must_use]
    pub fn topics(&self) -> Topics {
        let Settings { full_topic, topic, mqtt_client, group_topic, more_groups, prefixes, .. } =
            &self.settings;
        let factory = || {
            let topic = format!("tasmota_{}", self.profile.mac.tail());
            Topics::new(&topic, self.profile.mac).expect("made of fixed words and hex digits")
        };
        Topics::with(full_topic, topic, mqtt_client, group_topic, self.profile.mac)
            .and_then(|topics| topics.renamed(prefixes.each_ref().map(String::as_str), more_groups))
            .unwrap_or_else(|_| factory())
    }

    /// What the device takes for the time: UTC seconds since 1970.
    #[must_use]
    pub fn clock(&self, now: Now) -> u64 {
        if let Some((utc, since)) = self.set_clock {
            return utc + now.up.saturating_sub(since).as_secs();
        }
        match self.profile.faults.clock {
            ClockFault::None => now.utc,
            ClockFault::Unset => now.up.saturating_sub(self.booted).as_secs(),
            ClockFault::Wrong(by) => now.utc.saturating_add_signed(by),
        }
    }

    /// The time certificates are checked against: never before the last save. Facts §3.3.
    pub(super) fn certificate_clock(&self, now: Now) -> u64 {
        self.clock(now).max(self.flash.saved_at)
    }

    /// A pause of the device in seconds, at its pace.
    pub(super) fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.pace())
    }

    /// Restarts two seconds from now, after the Backlog.
    pub(super) fn schedule_restart(&mut self, now: Now) {
        self.restart = Some(Restart { due: now.up + self.scaled(2.0), saves: true, reason: RESTARTED });
    }

    /// The same, as a setting calls for it.
    pub(super) fn restart_for_setting(&mut self, now: Now) {
        if !self.profile.faults.holds_restarts {
            self.schedule_restart(now);
        }
    }

    /// Restarts at once; settings that are not saved yet are lost.
    pub(super) fn drop_dead(&mut self, now: Now) {
        self.backlog.clear();
        self.restart = Some(Restart { due: now.up, saves: false, reason: POWER_ON });
    }

    /// The same for a reason of its own.
    pub(super) fn crash(&mut self, now: Now) {
        self.backlog.clear();
        self.restart = Some(Restart { due: now.up, saves: false, reason: EXCEPTION });
    }

    /// Whether messages wait for the broker.
    #[must_use]
    pub fn has_publications(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// A message for the broker, as long as there is a connection.
    pub(super) fn publish(&mut self, publication: Publication) {
        if self.session.is_connected() {
            if self.outbox.len() == OUTBOX {
                self.outbox.pop_front();
            }
            self.outbox.push_back(publication);
        }
    }

    pub(super) fn erase_keys(&mut self) {
        self.keys = KeyStore::boot(self.profile.chip, None, false);
    }

    /// The stamp becomes the time if the device knows it, else one second more. Facts §3.3.
    pub(super) fn save(&mut self, now: Now) {
        const YEAR_2016: u64 = 1_451_606_400;
        let clock = self.clock(now);
        self.flash.saved_at = if clock >= YEAR_2016 { clock } else { self.flash.saved_at + 1 };
        self.flash.settings = self.settings.clone();
        self.changed = None;
    }
}
