//! `$SYS`: what Mosquitto tells about itself, under the same names and in the same words.
//!
//! At every multiple of `sys_interval` (of the time since 1970, as in Mosquitto 2.1) what has changed is published anew,
//! retained, at QoS 2. Load figures are per minute, smoothed over 1, 5 and 15 minutes as a system's load is. `heap/…` is the memory
//! that the process occupies (resident, as the system counts it, Linux alone), since no allocator of ours counts; bytes of
//! stored messages are those of retained ones.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quoll_broker::Message;
use quoll_broker::message::MessageParts;
use quoll_mqtt::{QoS, TopicFilter, TopicName};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::events::Stats;
use crate::server::{Handle, Inner};

/// A name, and what it counts.
type Load = (&'static str, fn(&Stats) -> u64);

/// What the load figures are of, and their names.
const LOADS: [Load; 9] = [
    ("messages/received", messages_received),
    ("messages/sent", |stats| stats.packets_out),
    ("publish/dropped", |stats| stats.rules.dropped),
    ("publish/received", |stats| stats.rules.publishes_received),
    ("publish/sent", |stats| stats.rules.publishes_sent),
    ("bytes/received", |stats| stats.bytes_in),
    ("bytes/sent", |stats| stats.bytes_out),
    ("sockets", |stats| stats.sockets),
    ("connections", |stats| stats.connect_packets),
];

/// Over how many seconds a load figure is smoothed, and how that is called.
const SPANS: [(f64, &str); 3] = [(60.0, "1min"), (300.0, "5min"), (900.0, "15min")];

fn messages_received(stats: &Stats) -> u64 {
    // The rules do not see CONNECT as a packet.
    stats.rules.packets_received + stats.connect_packets
}

/// The publisher of `$SYS`.
#[derive(Debug)]
pub struct SysTopics {
    server: Weak<Inner>,
    interval: watch::Receiver<Option<Duration>>,
    board: Board,
}

impl SysTopics {
    /// For this server, every `interval` (`sys_interval`, at least a second); `None` while nothing is to be published. What was
    /// published stays when the interval becomes `None`, as with Mosquitto. `version` is what `$SYS/broker/version` says.
    #[must_use]
    pub fn new(server: &Handle, interval: watch::Receiver<Option<Duration>>, version: &str) -> Self {
        let mut board = Board::default();
        board.lines.insert("$SYS/broker/version".into(), version.to_owned());
        Self { server: Arc::downgrade(&server.0), interval, board }
    }

    /// Publishes until the server ends. Does not keep it from ending.
    pub async fn run(mut self) {
        let start = Instant::now();
        let mut last = start;
        loop {
            let interval = *self.interval.borrow_and_update();
            let Some(interval) = interval.map(|interval| interval.max(Duration::from_secs(1))) else {
                // Whoever could change it is gone, so it stays as it is.
                if self.interval.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let Some(server) = self.server.upgrade().map(Handle) else { return };
            if server.is_stopped() {
                return;
            }
            let stats = server.stats().await;
            let retained = server.0.shared.retained.all();
            let now = Instant::now();
            let figures = Figures {
                uptime: now - start,
                since_last: now - last,
                stats,
                retained: retained.len() as u64,
                retained_bytes: retained.iter().map(|message| message.payload.len() as u64).sum(),
                memory: Memory::of_this_process(),
            };
            last = now;
            drop(retained);
            for (topic, text) in self.board.update(&figures) {
                server.publish(Arc::new(message(topic, text)));
            }
            drop(server);
            tokio::select! {
                () = tokio::time::sleep(until_next(interval)) => {}
                Ok(()) = self.interval.changed() => {}
            }
        }
    }
}

impl Handle {
    /// The topics that have a retained message, but for those of `$SYS`, in no order.
    #[must_use]
    pub fn retained_topics(&self) -> Vec<TopicName> {
        let all = self.0.shared.retained.all().into_iter().map(|message| message.topic.clone());
        all.filter(|topic| !topic.as_str().starts_with("$SYS/")).collect()
    }

    /// What was last published under `$SYS`, in the order of the topics; texts that are no UTF-8 are left out.
    #[must_use]
    pub fn sys_topics(&self) -> Vec<(String, String)> {
        let Ok(all) = TopicFilter::parse("$SYS/#") else { return Vec::new() };
        let texts = self.0.shared.retained.matching(&all).into_iter().filter_map(|message| {
            let text = std::str::from_utf8(&message.payload).ok()?;
            Some((message.topic.as_str().to_owned(), text.to_owned()))
        });
        let mut texts: Vec<(String, String)> = texts.collect();
        texts.sort_unstable();
        texts
    }
}

/// How long it is to the next multiple of the interval.
fn until_next(interval: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let gone = now.as_nanos() % interval.as_nanos().max(1);
    interval.saturating_sub(Duration::from_nanos(u64::try_from(gone).unwrap_or(0)))
}

fn message(topic: TopicName, text: String) -> Message {
    let mut number = [0; 8];
    // Without chance the number is 0: it tells messages apart in facts, and these are never kept.
    let _ = aws_lc_rs::rand::fill(&mut number);
    Message::new(MessageParts {
        number: u64::from_le_bytes(number),
        publisher: "".into(),
        topic,
        payload: Bytes::from(text),
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: None,
        expires: None,
    })
}

/// What there is to tell at one time.
#[derive(Debug, Default)]
struct Figures {
    uptime: Duration,
    since_last: Duration,
    stats: Stats,
    retained: u64,
    retained_bytes: u64,
    memory: Option<Memory>,
}

/// Bytes that the process occupies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Memory {
    current: u64,
    maximum: u64,
}

impl Memory {
    /// As the system counts them, in its words: `VmRSS: 1234 kB`.
    fn of_this_process() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn read(status: &str) -> Option<Self> {
        let of = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Self { current: of("VmRSS")?, maximum: of("VmHWM")? })
    }
}

/// What was told, and what is needed to tell what comes next.
#[derive(Debug, Default)]
struct Board {
    /// Topic → what was published last; before the first time: what does not change.
    lines: HashMap<String, String>,
    loads: HashMap<String, f64>,
    before: Option<Stats>,
    most_clients: u64,
}

impl Board {
    /// What has changed since the last time; the first time, everything.
    fn update(&mut self, figures: &Figures) -> Vec<(TopicName, String)> {
        let is_first = self.before.is_none();
        let mut changed: Vec<(String, String)> = Vec::new();
        if is_first {
            changed.extend(self.lines.iter().map(|(topic, text)| (topic.clone(), text.clone())));
        }
        let mut told: Vec<(String, String)> = self
            .figures(figures)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect();
        if let Some(Memory { current, maximum }) = figures.memory {
            told.push(("heap/current".into(), current.to_string()));
            told.push(("heap/maximum".into(), maximum.to_string()));
        }
        told.push(("uptime".into(), format!("{} seconds", figures.uptime.as_secs())));
        told.extend(self.load_figures(figures));
        for (name, text) in told {
            let topic = format!("$SYS/broker/{name}");
            if self.lines.get(&topic) != Some(&text) {
                self.lines.insert(topic.clone(), text.clone());
                changed.push((topic, text));
            }
        }
        self.before = Some(figures.stats);
        changed.into_iter().filter_map(|(topic, text)| Some((TopicName::parse(&topic).ok()?, text))).collect()
    }

    fn figures(&mut self, figures: &Figures) -> [(&'static str, u64); 25] {
        let Figures { stats, retained, retained_bytes, .. } = figures;
        let rules = &stats.rules;
        // Those of this process are no clients.
        let connected = rules.connections.saturating_sub(stats.attached);
        let total = rules.sessions.saturating_sub(stats.attached);
        self.most_clients = self.most_clients.max(total);
        let absent = total.saturating_sub(connected);
        let waiting = rules.queued + rules.inflight;
        [
            ("clients/total", total),
            ("clients/maximum", self.most_clients),
            ("clients/disconnected", absent),
            ("clients/inactive", absent),
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/expired", rules.expired_sessions),
            ("messages/stored", retained + waiting),
            ("store/messages/count", retained + waiting),
            ("store/messages/bytes", *retained_bytes),
            ("subscriptions/count", rules.subscriptions),
            ("shared_subscriptions/count", rules.shared_subscriptions),
            ("retained messages/count", *retained),
            ("messages/received", messages_received(stats)),
            ("messages/sent", stats.packets_out),
            ("bytes/received", stats.bytes_in),
            ("bytes/sent", stats.bytes_out),
            ("publish/bytes/received", rules.payload_received),
            ("publish/bytes/sent", rules.payload_sent),
            ("connections/socket/count", stats.sockets),
            ("packet/out/count", stats.packets_waiting),
            ("packet/out/bytes", stats.bytes_waiting),
            ("publish/messages/dropped", rules.dropped),
            ("publish/messages/received", rules.publishes_received),
            ("publish/messages/sent", rules.publishes_sent),
        ]
    }

    /// `new = rate + e^(-t / span) * (old - rate)`, the rate being per minute. Told where it moved by 0.01.
    fn load_figures(&mut self, figures: &Figures) -> Vec<(String, String)> {
        let seconds = figures.since_last.as_secs_f64();
        let mut changed = Vec::new();
        for (name, count) in LOADS {
            for (span, called) in SPANS {
                let topic = format!("load/{name}/{called}");
                let old = self.loads.get(&topic).copied();
                let new = match &self.before {
                    Some(before) if seconds > 0.0 => {
                        let rate =
                            count(&figures.stats).saturating_sub(count(before)) as f64 * 60.0 / seconds;
                        rate + (-seconds / span).exp() * (old.unwrap_or(0.0) - rate)
                    }
                    _ => old.unwrap_or(0.0),
                };
                if old.is_none_or(|old| (new - old).abs() >= 0.01) {
                    changed.push((topic.clone(), format!("{new:.2}")));
                }
                self.loads.insert(topic, new);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(changed: &[(TopicName, String)]) -> HashMap<String, String> {
        changed.iter().map(|(topic, text)| (topic.as_str().to_owned(), text.clone())).collect()
    }

    #[test]
    fn everything_is_told_once_and_then_what_changed() {
        let mut board = Board::default();
        board.lines.insert("$SYS/broker/version".into(), "mosquitto version 2.1.2".into());
        let mut figures = Figures::default();
        let first = texts(&board.update(&figures));
        assert_eq!(first["$SYS/broker/version"], "mosquitto version 2.1.2");
        assert_eq!(first["$SYS/broker/uptime"], "0 seconds");
        assert_eq!(first["$SYS/broker/load/connections/15min"], "0.00");
        assert_eq!(first.len(), 25 + 27 + 2);
        figures.uptime = Duration::from_secs(10);
        figures.since_last = Duration::from_secs(10);
        assert_eq!(texts(&board.update(&figures)).len(), 1, "only the uptime");
        figures.stats.rules.connections = 3;
        figures.stats.rules.sessions = 5;
        figures.stats.attached = 1;
        let changed = texts(&board.update(&figures));
        assert_eq!(changed["$SYS/broker/clients/connected"], "2");
        assert_eq!(changed["$SYS/broker/clients/active"], "2");
        assert_eq!(changed["$SYS/broker/clients/disconnected"], "2");
        assert_eq!(changed["$SYS/broker/clients/maximum"], "4");
        figures.stats.rules.sessions = 2;
        assert!(!texts(&board.update(&figures)).contains_key("$SYS/broker/clients/maximum"));
    }

    #[test]
    fn memory_is_what_the_system_says_in_bytes() {
        let status = "Name:\tquoll\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let memory = Memory { current: 1024 * 1024, maximum: 2048 * 1024 };
        assert_eq!(Memory::read(status), Some(memory));
        assert_eq!(Memory::read("VmRSS:\tmany kB\n"), None);
        let mut board = Board::default();
        let told = texts(&board.update(&Figures { memory: Some(memory), ..Figures::default() }));
        assert_eq!(told["$SYS/broker/heap/current"], "1048576");
        assert_eq!(told["$SYS/broker/heap/maximum"], "2097152");
        #[cfg(target_os = "linux")]
        assert!(Memory::of_this_process().is_some_and(|it| it.current > 100_000 && it.current <= it.maximum));
    }

    /// Ten messages in ten seconds are sixty a minute; after that minute without any, 1/e of what was reached is left.
    #[test]
    fn load_is_per_minute_and_fades() {
        let mut board = Board::default();
        let mut figures = Figures::default();
        board.update(&figures);
        figures.since_last = Duration::from_secs(10);
        figures.stats.rules.publishes_received = 10;
        let told = texts(&board.update(&figures));
        let reached = 60.0 * (1.0 - (-10.0_f64 / 60.0).exp());
        assert_eq!(told["$SYS/broker/load/publish/received/1min"], format!("{reached:.2}"));
        figures.since_last = Duration::from_secs(60);
        let told = texts(&board.update(&figures));
        assert_eq!(
            told["$SYS/broker/load/publish/received/1min"],
            format!("{:.2}", reached * (-1.0_f64).exp())
        );
    }
}
