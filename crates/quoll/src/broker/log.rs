//! Mosquitto's log: the same kinds, places and times. One line an event.
//!
//! Which kind a line is follows from its level and target: see [`quoll_server::log`].

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local};
use quoll_broker::Message;
use quoll_broker::message::MessageParts;
use quoll_mqtt::{QoS, TopicName};
use quoll_server::Handle;
use quoll_server::log::{CONNECTION, NOTICE, SUBSCRIBE, UNSUBSCRIBE, WEBSOCKETS};
use quoll_server::mosquitto::log::{Log as Wanted, LogDestination, LogType};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::source::Source;
use crate::failure::{Exit, Failure, Outcome};

/// The facility `daemon` (RFC 5424 §6.2.1); local0 is 16.
const DAEMON: u8 = 3;
/// Lines that wait to be published.
const MAX_WAITING: usize = 1_000;
/// Bytes of a line; a client's names are bounded, a filter may have 64 KiB.
const MAX_LINE: usize = 8 * 1024;

/// The log in use. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    sinks: Arc<ArcSwap<Sinks>>,
    /// Lines for `$SYS/broker/log/…`, with their topic.
    topics: mpsc::Sender<Published>,
    published: Arc<Mutex<Option<mpsc::Receiver<Published>>>>,
}

/// The last levels of a topic, and a line.
type Published = (&'static str, String);

/// Where lines go, and which.
#[derive(Debug)]
struct Sinks {
    kinds: Vec<LogType>,
    stamp: Stamp,
    connection_messages: bool,
    stderr: bool,
    stdout: bool,
    topic: bool,
    files: Vec<Mutex<File>>,
    syslog: Option<Syslog>,
}

#[derive(Debug)]
enum Stamp {
    None,
    UnixSeconds,
    Format(String),
}

impl Log {
    /// Begins it for the whole process.
    pub(super) fn start(wanted: &Wanted, source: &Source) -> Outcome<Self> {
        let sinks = Sinks::open(wanted, source)
            .map_err(|error| Failure::new(Exit::System, "the log cannot be written").why(error))?;
        let (topics, published) = mpsc::channel(MAX_WAITING);
        let published = Arc::new(Mutex::new(Some(published)));
        let log = Self { sinks: Arc::new(ArcSwap::from_pointee(sinks)), topics, published };
        let begun = tracing_subscriber::registry().with(Lines(log.clone())).try_init();
        begun.map_err(|error| Failure::new(Exit::System, "the log cannot be begun").why(error))?;
        Ok(log)
    }

    /// Whether it goes to where a failure is told by itself.
    pub(super) fn is_on_terminal(&self) -> bool {
        let sinks = self.sinks.load();
        sinks.stderr || sinks.stdout
    }

    /// Goes on with another one, and opens files anew.
    ///
    /// # Errors
    /// Where a place cannot be opened; then it goes on as it was.
    pub(super) fn replace(&self, wanted: &Wanted, source: &Source) -> io::Result<()> {
        self.sinks.store(Arc::new(Sinks::open(wanted, source)?));
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Publishes what is to go to topics, for as long as the process runs.
    pub(super) async fn publish(self, server: Handle) {
        let lines = self.published.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut lines) = lines else { return };
        while let Some((kind, line)) = lines.recv().await {
            let Ok(topic) = TopicName::parse(&format!("$SYS/broker/log/{kind}")) else { continue };
            server.publish(Arc::new(Message::new(MessageParts {
                number: 0,
                publisher: "".into(),
                topic,
                payload: line.into_bytes().into(),
                qos: QoS::ExactlyOnce,
                retain: false,
                properties: None,
                expires: None,
            })));
        }
    }
}

impl Sinks {
    fn open(wanted: &Wanted, source: &Source) -> io::Result<Self> {
        let all = [
            LogType::Debug,
            LogType::Error,
            LogType::Warning,
            LogType::Notice,
            LogType::Information,
            LogType::Subscribe,
            LogType::Unsubscribe,
            LogType::Websockets,
            LogType::Internal,
        ];
        let kinds = all.into_iter().filter(|kind| source.verbose || wanted.types.contains(kind));
        let kinds = if source.quiet { Vec::new() } else { kinds.collect() };
        let goes = |place: &LogDestination| wanted.destinations.contains(place);
        let to_terminal = goes(&LogDestination::Stderr) || goes(&LogDestination::Stdout);
        let mut files = Vec::new();
        for place in &wanted.destinations {
            if let LogDestination::File(path) = place {
                files.push(Mutex::new(append(path)?));
            }
        }
        let is_syslog = goes(&LogDestination::Syslog) || (source.detached && to_terminal);
        Ok(Self {
            kinds,
            stamp: match &wanted.timestamp_format {
                _ if !wanted.timestamp => Stamp::None,
                None => Stamp::UnixSeconds,
                Some(format) => Stamp::Format(format.clone()),
            },
            connection_messages: wanted.connection_messages,
            stderr: goes(&LogDestination::Stderr) && !source.detached,
            stdout: goes(&LogDestination::Stdout) && !source.detached,
            topic: goes(&LogDestination::Topic),
            files,
            syslog: is_syslog
                .then(|| Syslog { facility: wanted.facility.map_or(DAEMON, |local| 16 + local) }),
        })
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_wanted = self.connection_messages || metadata.target() != CONNECTION;
        is_wanted && self.kinds.contains(&kind(metadata))
    }

    /// A line with its time.
    fn stamped(&self, text: &str, now: DateTime<Local>) -> String {
        let mut line = String::new();
        // Writing to a string fails only for a format that was refused when it was read.
        let _ = match &self.stamp {
            Stamp::None => Ok(()),
            Stamp::UnixSeconds => write!(line, "{}: ", now.timestamp()),
            Stamp::Format(format) => write!(line, "{}: ", now.format(format)),
        };
        line.push_str(text);
        line
    }

    fn write(&self, kind: LogType, text: &str, now: DateTime<Local>) {
        if let Some(syslog) = &self.syslog {
            syslog.send(kind, text, now);
        }
        let mut line = self.stamped(text, now);
        line.push('\n');
        // A log that cannot be written has nobody to be told to.
        if self.stderr {
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
        if self.stdout {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
        }
        for file in &self.files {
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    let file = File::options().append(true).create(true).mode(0o640).open(path);
    file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// What is wrong with the log that is wanted.
pub(super) fn fault(wanted: &Wanted) -> Option<String> {
    let format = wanted.timestamp_format.as_deref()?;
    let is_wrong = StrftimeItems::new(format).any(|item| item == Item::Error);
    is_wrong.then(|| format!("log_timestamp_format {format:?} has a field that strftime does not know"))
}

/// The table of [`quoll_server::log`].
fn kind(metadata: &Metadata<'_>) -> LogType {
    let target = metadata.target();
    let is_ours = target.starts_with("quoll") || target.starts_with("mosquitto::");
    match *metadata.level() {
        Level::ERROR => LogType::Error,
        Level::WARN => LogType::Warning,
        Level::INFO if target == CONNECTION || target == NOTICE => LogType::Notice,
        Level::INFO => LogType::Information,
        Level::DEBUG if target == SUBSCRIBE => LogType::Subscribe,
        Level::DEBUG if target == UNSUBSCRIBE => LogType::Unsubscribe,
        Level::DEBUG if target == WEBSOCKETS => LogType::Websockets,
        Level::DEBUG if is_ours => LogType::Debug,
        _ => LogType::Internal,
    }
}

/// The last levels of `$SYS/broker/log/…`; `None` for what Mosquitto does not publish either, since to publish it would
/// make more of it.
const fn topic(kind: LogType) -> Option<&'static str> {
    Some(match kind {
        LogType::Error => "E",
        LogType::Warning => "W",
        LogType::Notice => "N",
        LogType::Information => "I",
        LogType::Subscribe => "M/subscribe",
        LogType::Unsubscribe => "M/unsubscribe",
        LogType::Websockets => "WS",
        LogType::Debug | LogType::Internal => return None,
    })
}

/// The part of `tracing` that makes lines.
struct Lines(Log);

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        // `tracing::enabled!` asks with what is neither an event nor a span.
        !metadata.is_span() && self.0.sinks.load().wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let sinks = self.0.sinks.load();
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields);
        // One line stays one, whatever a library says.
        let mut text = text.replace(['\n', '\r'], " ");
        let kind = kind(event.metadata());
        // What Mosquitto says of clients has no word in front, whatever kind it is.
        let word = match kind {
            _ if event.metadata().target() == CONNECTION => "",
            LogType::Error if !text.starts_with("Error") => "Error: ",
            LogType::Warning if !text.starts_with("Warning") => "Warning: ",
            _ => "",
        };
        text.insert_str(0, word);
        if text.len() > MAX_LINE {
            text.truncate(text.floor_char_boundary(MAX_LINE));
        }
        let now = Local::now();
        if let Some(topic) = topic(kind).filter(|_| sinks.topic) {
            // Lines that come faster than they are published are lost to the topic alone.
            self.0.topics.try_send((topic, sinks.stamped(&text, now))).ok();
        }
        sinks.write(kind, &text, now);
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// The system's log, by its socket (RFC 3164, as every libc writes it).
#[derive(Debug)]
struct Syslog {
    facility: u8,
}

impl Syslog {
    fn send(&self, kind: LogType, text: &str, now: DateTime<Local>) {
        let severity = match kind {
            LogType::Error => 3,
            LogType::Warning => 4,
            LogType::Notice => 5,
            LogType::Information => 6,
            _ => 7,
        };
        let priority = u32::from(self.facility) * 8 + severity;
        let stamp = now.format("%b %e %H:%M:%S");
        let line = format!("<{priority}>{stamp} quoll[{}]: {text}", std::process::id());
        // A machine without syslog loses the line; a broker does not wait for one.
        if let Ok(socket) = UnixDatagram::unbound() {
            socket.set_nonblocking(true).ok();
            socket.send_to(line.as_bytes(), "/dev/log").ok();
        }
    }
}
