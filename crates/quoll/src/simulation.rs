//! A running simulation: thousands of virtual devices in one process, switched on at a steady rate, watched once a
//! second, switched off together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{
    Chip, Count, Faults, Firmware, Flash, RunningDevice, Tally, VirtualDevice, VirtualProfile, Wiring,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};
use zeroize::Zeroizing;

use crate::enrolment::Wish;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, print};
use crate::signer::Signer;

/// File descriptors of the process itself: standard streams, the runtime, a few web clients.
const OTHER_FILES: u64 = 100;

/// How devices reach the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    /// MQTT in clear.
    Plain,
    /// TLS; the CA is compiled in.
    Ca,
    /// TLS; the server's key is pinned at the first connection.
    Pinned,
}

/// A key and a certificate as TLSKey takes them, in base64.
pub(crate) struct Credentials {
    pub(crate) key: Zeroizing<String>,
    pub(crate) certificate: Zeroizing<String>,
}

/// What to simulate.
pub(crate) struct Plan {
    pub(crate) devices: u32,
    pub(crate) first: u32,
    /// In turn.
    pub(crate) chips: Vec<Chip>,
    pub(crate) firmware: Firmware,
    pub(crate) version: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) link: Link,
    pub(crate) anchors: Vec<Vec<u8>>,
    pub(crate) has_ec_root: bool,
    /// In turn; empty for none.
    pub(crate) credentials: Vec<Credentials>,
    /// They start as from the factory and are enrolled.
    pub(crate) provision: bool,
    pub(crate) login: Option<(String, Option<Zeroizing<String>>)>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) serial: bool,
    pub(crate) faults: Faults,
    pub(crate) faulty: u8,
    pub(crate) pace: f64,
    pub(crate) tele_period: u16,
    pub(crate) rate: u32,
}

/// Devices that run.
pub(crate) struct Simulation {
    plan: Plan,
    devices: Vec<RunningDevice>,
    /// Of those that are still to be switched on.
    listeners: std::vec::IntoIter<TcpListener>,
    tally: Arc<Tally>,
    began: Instant,
}

impl Simulation {
    /// Checks that all will fit and takes the ports. No device is switched on yet.
    pub(crate) async fn start(plan: Plan) -> Outcome<Self> {
        let each = 1 + u64::from(plan.http.is_some()) + 2 * u64::from(plan.serial);
        make_room(u64::from(plan.devices) * each + OTHER_FILES)?;
        let mut listeners = Vec::new();
        if let Some(base) = plan.http {
            for offset in 0..plan.devices {
                let port =
                    u16::try_from(u32::from(base.port()) + offset).expect("checked by the command line");
                let address = SocketAddr::new(base.ip(), port);
                listeners.push(TcpListener::bind(address).await.map_err(|error| {
                    Failure::new(Exit::Address, format!("cannot listen on {address}"))
                        .why(error)
                        .hint("choose other ports with --serve-http")
                })?);
            }
        }
        if !plan.credentials.is_empty() && plan.credentials.len() < plan.devices as usize {
            eprintln!(
                "quoll: note: {} keys for {} devices: they are used in turn",
                plan.credentials.len(),
                plan.devices
            );
        }
        let tally = Arc::new(Tally::default());
        Ok(Self { plan, devices: Vec::new(), listeners: listeners.into_iter(), tally, began: Instant::now() })
    }

    /// Switches all on and enrols them over their web consoles.
    pub(crate) async fn enrol(&mut self, signer: &mut Signer) -> Outcome {
        while self.devices.len() < self.plan.devices as usize {
            self.switch_one_on()?;
        }
        let wishes = self.devices.iter().map(|device| Wish {
            name: device.state().topic,
            at: device.http_addr().to_string(),
            host: Some(self.plan.host.clone()),
            // A virtual device forgets its keys when the simulation stops.
            replace_key: true,
            ..Wish::default()
        });
        let mut printed = Ok(());
        signer
            .enrol(wishes.collect(), |device, news| match news {
                Ok(step) if printed.is_ok() => printed = print(&format!("{device}  {step}\n")),
                Ok(_) => {}
                Err(failure) => {
                    failure.report();
                }
            })
            .await?;
        printed
    }

    /// Switches them on at the rate of the plan and says once a second how they are, until the time is up or somebody
    /// stops it.
    pub(crate) async fn watch(mut self, format: Format, limit: Option<Duration>) -> Outcome {
        let failed =
            |error: std::io::Error| Failure::new(Exit::System, "cannot listen for signals").why(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        self.began = Instant::now();
        let end = limit.map(|limit| self.began + limit);
        // Ten small steps a second rather than one great one.
        let step = (self.plan.rate / 10).max(1);
        let mut beat = interval(Duration::from_secs(1) * step / self.plan.rate);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        second.tick().await;
        loop {
            let all_on = self.devices.len() >= self.plan.devices as usize;
            let ends = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = ends => break,
                _ = second.tick() => self.report(format)?,
                _ = beat.tick(), if !all_on => {
                    for _ in 0..step.min(self.plan.devices - self.devices.len() as u32) {
                        self.switch_one_on()?;
                    }
                }
            }
        }
        self.finish(format).await
    }

    fn switch_one_on(&mut self) -> Outcome {
        let index = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        let (profile, flash) = self.plan.device(index);
        let wiring = Wiring { http: self.listeners.next(), tally: Some(Arc::clone(&self.tally)) };
        let failed =
            |error: std::io::Error| Failure::new(Exit::System, "cannot switch a device on").why(error);
        let mut device = VirtualDevice::start_wired(profile, flash, wiring).map_err(failed)?;
        if self.plan.http.is_some() && self.devices.len() < 10 {
            eprintln!("quoll: {}: web console http://{}/", device.state().topic, device.http_addr());
        }
        if self.plan.serial {
            let path = device.attach_serial().map_err(failed)?;
            eprintln!("quoll: {}: serial line {}", device.state().topic, path.display());
        }
        self.devices.push(device);
        Ok(())
    }

    fn report(&self, format: Format) -> Outcome {
        let seconds = self.began.elapsed().as_secs();
        print(&summary(seconds, self.devices.len(), &self.tally.count(), format))
    }

    /// The last word, and the exit code: done where every device was online at the end.
    async fn finish(self, format: Format) -> Outcome {
        self.report(format)?;
        let count = self.tally.count();
        let wanted = u64::from(self.plan.devices);
        for device in self.devices {
            device.stop().await;
        }
        if count.online >= wanted {
            return Ok(());
        }
        let mut seen: Vec<String> = Vec::new();
        if count.crashes > 0 {
            seen.push(format!("{} crashes over a connection", count.crashes));
        }
        seen.extend(count.tls_errors.iter().map(|(number, times)| {
            let cause = quoll_tasmota::tls_error::explain(*number).map_or("unknown", |row| row.cause);
            format!("TLS connection error {number}, {times} times: {cause}")
        }));
        seen.extend(count.return_codes.iter().map(|(code, times)| format!("rc {code}, {times} times")));
        let why = if seen.is_empty() { "they were still on their way".into() } else { seen.join("; ") };
        Err(Failure::new(
            Exit::Partial,
            format!("{} of {wanted} devices were online at the end", count.online),
        )
        .why(why)
        .hint("docs/virtual-devices.md explains the numbers"))
    }
}

impl Plan {
    /// A device of the plan: what it is, and what its owner has set.
    fn device(&self, index: u32) -> (VirtualProfile, Flash) {
        let number = self.first + index;
        let [_, high, middle, low] = number.to_be_bytes();
        // Locally administered (the second bit of the first byte), so that no real device has it.
        let mac = Mac([0x02, 0x51, 0x53, high, middle, low]);
        let chip = self.chips[index as usize % self.chips.len()];
        let is_faulty = index * u32::from(self.faulty) % 100 < u32::from(self.faulty);
        let profile = VirtualProfile {
            version: self.version.clone(),
            anchors: self.anchors.clone(),
            broker: if self.provision { (String::new(), 1883) } else { (self.host.clone(), self.port) },
            tele_period: self.tele_period,
            pace: self.pace,
            faults: if is_faulty { self.faults.clone() } else { Faults::default() },
            ..VirtualProfile::new(chip, self.firmware, mac)
        };
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // An unset clock must not be cured by the time of the last save.
        let utc =
            if profile.faults.clock == quoll_tasmota::virtual_device::ClockFault::None { utc } else { 0 };
        let flash = Flash::typed(&profile, &self.lines(index), utc);
        (profile, flash)
    }

    fn lines(&self, index: u32) -> Vec<Zeroizing<String>> {
        let mut lines: Vec<Zeroizing<String>> = Vec::new();
        let mut say = |line: String| lines.push(Zeroizing::new(line));
        if self.provision {
            return lines;
        }
        match self.link {
            Link::Plain => {}
            Link::Ca => {
                say("SetOption132 0".into());
                say(format!("SetOption165 {}", u8::from(self.has_ec_root)));
                say("SetOption103 1".into());
            }
            Link::Pinned => {
                say("SetOption132 1".into());
                say("SetOption103 1".into());
            }
        }
        if let Some((user, password)) = &self.login {
            say(format!("MqttUser {user}"));
            say(format!("MqttPassword {}", password.as_ref().map_or("0", |password| password.as_str())));
        }
        if let Some(one) = self.credentials.get(index as usize % self.credentials.len().max(1)) {
            say(format!("TLSKey1 {}", *one.key));
            say(format!("TLSKey2 {}", *one.certificate));
        }
        lines
    }
}

/// Raises the limit of open files where that is allowed, and refuses what will not fit.
fn make_room(files: u64) -> Outcome {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    if enough(limit.current) {
        return Ok(());
    }
    let refused = |why: String| {
        Failure::new(Exit::System, format!("{files} open files are needed for so many devices"))
            .why(why)
            .hint(
                "simulate fewer, leave out --serve-http, or raise the hard limit (ulimit -Hn, LimitNOFILE=)",
            )
    };
    if !enough(limit.maximum) {
        return Err(refused(format!("the system allows {}", limit.maximum.unwrap_or(0))));
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| refused(error.to_string()))
}

fn summary(seconds: u64, on: usize, count: &Count, format: Format) -> String {
    if format == Format::Json {
        let by = |numbers: &BTreeMap<i32, u64>| {
            numbers
                .iter()
                .map(|(number, times)| (number.to_string(), json!(times)))
                .collect::<serde_json::Map<_, _>>()
        };
        let line = json!({
            "seconds": seconds,
            "devices": on,
            "online": count.online,
            "connects": count.connects,
            "reconnects": count.reconnects,
            "lost": count.losses,
            "crashes": count.crashes,
            "tls_errors": by(&count.tls_errors),
            "return_codes": by(&count.return_codes),
        });
        return format!("{line}\n");
    }
    let mut line = format!(
        "{seconds:>5} s  devices {on}  online {}  connects {}  reconnects {}  lost {}",
        count.online, count.connects, count.reconnects, count.losses
    );
    let mut list = |name: &str, numbers: &BTreeMap<i32, u64>| {
        if !numbers.is_empty() {
            let each: Vec<String> =
                numbers.iter().map(|(number, times)| format!("{number}:{times}")).collect();
            line.push_str(&format!("  {name} {}", each.join(" ")));
        }
    };
    list("TLS errors", &count.tls_errors);
    list("rc", &count.return_codes);
    if count.crashes > 0 {
        line.push_str(&format!("  crashes {}", count.crashes));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_errors_by_number() {
        let count = Count {
            online: 7,
            connects: 9,
            reconnects: 2,
            losses: 2,
            tls_errors: [(54, 3)].into(),
            return_codes: [(-2, 1), (5, 2)].into(),
            ..Count::default()
        };
        let line = summary(12, 10, &count, Format::Table);
        assert_eq!(
            line,
            "   12 s  devices 10  online 7  connects 9  reconnects 2  lost 2  TLS errors 54:3  rc -2:1 5:2\n"
        );
        let line: serde_json::Value = serde_json::from_str(&summary(12, 10, &count, Format::Json)).unwrap();
        assert_eq!(line["return_codes"], json!({"-2": 1, "5": 2}));
    }
}
