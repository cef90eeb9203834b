//! `quoll fleet provision`: enrols the devices of the plan, many at a time.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Timelike as _;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use quoll_fleet::campaign::{
    Done, Hand, Item, News, Orders, Outcome as Fate, Pace, Setback, Summary, Verdict, Watcher, Window, run,
};
use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{BrokerTarget, EnrolError, WantedRung};
use quoll_fleet::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::fleet::{Choice, Drawn, counted};
use super::{Common, fleet_report};
use crate::enrolment::{self, Desk, Wish, read_password};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::shown;
use crate::workshop::Workshop;
use crate::{bell, trouble};

/// Most devices at a time: each has a connection, a question at the node, and a place on the screen.
const PARALLEL_MAX: u64 = 128;

/// `quoll fleet provision`.
#[derive(Args, Debug)]
pub(crate) struct Provision {
    #[command(flatten)]
    choice: Choice,
    /// Devices that come first; the others begin when all of these are proven
    #[arg(long, value_name = "N", default_value_t = 1)]
    canaries: usize,
    /// Devices at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=PARALLEL_MAX))]
    parallel: u64,
    /// Attempts at a device that went away or does not answer, with growing pauses
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    attempts: u32,
    /// Begin devices only in these hours, by this machine's clock
    #[arg(long, value_name = "HH:MM-HH:MM")]
    window: Option<Window>,
    /// Begin no further device when more than so many in a hundred of those tried have failed (five or more tried)
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    stop_at: u8,
    /// A file with a web password on its first line, for devices that want one
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|number| *number <= 100).ok_or_else(|| "from 0 to 100".to_owned())
}

impl Provision {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let Drawn { settings, target, items } = self.choice.draw(common, &home)?;
        let web_password = self.web_password_file.as_deref().map(read_password).transpose()?;
        self.choice.old_password_file.as_deref().map(read_password).transpose()?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        // Two would take each other's devices for failures, and write them into each other's report.
        let Some(_alone) = registry.lock_campaigns().map_err(trouble::registry)? else {
            return Err(Failure::new(Exit::Partial, "another quoll fleet provision is at work in this home")
                .hint("wait until it is done, or stop it (Ctrl-C); quoll fleet report says how far it is"));
        };
        eprintln!("quoll: {}", counted(&items));
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let desk = Desk::open(&home, &settings, &mut workshop)?;
        let screen = Arc::new(Screen::new(items.len()));
        let hand = Arc::new(Person {
            desk,
            wish: self.choice.wish(),
            target,
            web_password,
            screen: Arc::clone(&screen),
        });
        let orders = Orders {
            text: self.choice.text(),
            canaries: self.canaries,
            parallel: usize::try_from(self.parallel).unwrap_or(1),
            attempts: self.attempts,
            window: self.window,
            stop_at: Some(self.stop_at),
            pace: Pace::default(),
        };
        let (sender, cancel) = watch::channel(false);
        let minute = || {
            let now = chrono::Local::now();
            u16::try_from(now.hour() * 60 + now.minute()).unwrap_or(0)
        };
        let summary = tokio::select! {
            summary = run(&registry, &items, &orders, hand, &*screen, &minute, cancel) => {
                summary.map_err(trouble::registry)?
            }
            failure = told_to_stop(sender) => return Err(failure),
        };
        screen.close();
        bell::ring(&home).await?;
        self.end(common, &home, &items, &summary)
    }

    fn end(&self, common: &Common, home: &Home, items: &[Item], summary: &Summary) -> Outcome {
        fleet_report::listing(home, Some(summary.campaign), common.output)?.print(common.output)?;
        let held = items.iter().any(|item| matches!(item.verdict, Verdict::Held(_)));
        if summary.is_complete() && !held {
            return Ok(());
        }
        let counts: Vec<String> =
            summary.counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
        let failure =
            Failure::new(Exit::Partial, format!("not all devices are proven: {}", counts.join(", ")))
                .hint("quoll fleet report says what to do next with each; then run the same command again");
        Err(match &summary.stopped {
            Some(why) => failure.why(why),
            None => failure,
        })
    }
}

/// The first signal begins no further device; the second one ends at once.
async fn told_to_stop(sender: watch::Sender<bool>) -> Failure {
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let Ok((mut interrupt, mut terminate)) = signals else { return std::future::pending().await };
    for already in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if already {
            break;
        }
        sender.send_replace(true);
        eprintln!("quoll: no further device is begun; waiting for those under way (again: end at once)");
    }
    Failure::new(Exit::Partial, "ended in the middle of it")
        .why("devices were under way; the registry knows which")
        .hint("run the same command again: it goes on")
}

/// Enrols devices over their web consoles, as a person at the desk does.
struct Person {
    desk: Desk,
    wish: Wish,
    target: BrokerTarget,
    web_password: Option<Zeroizing<String>>,
    screen: Arc<Screen>,
}

#[async_trait]
impl Hand for Person {
    async fn enrol(&self, item: &Item, rung: Rung) -> Result<Done, Setback> {
        let name = item.name.to_string();
        let Some(address) = &item.address else {
            return Err(Setback {
                leaves: Fate::Failed,
                what: "where it is is not known".into(),
                next: "quoll fleet scan".into(),
                may_pass: false,
            });
        };
        let wanted = if rung == Rung::Pinned { WantedRung::Pinned } else { WantedRung::Mutual };
        let wish = Wish { name: name.clone(), at: address.to_string(), rung: wanted, ..self.wish.clone() };
        let password = self.web_password.as_ref().map(|text| text.as_str());
        let say = |line: &str| self.screen.step(&name, line);
        match enrolment::enrol_one_of_many(&self.desk, &wish, item.mac, password, &self.target, say).await {
            Ok(Ok(enrolled)) => Ok(Done { notes: enrolled.notes }),
            Ok(Err(error)) => Err(self.setback(item, &error)),
            Err(failure) => Err(Setback {
                leaves: Fate::Failed,
                what: failure.what,
                next: failure.hint.unwrap_or_default(),
                may_pass: false,
            }),
        }
    }
}

impl Person {
    /// Where it leaves the device is what the registry says of it now.
    fn setback(&self, item: &Item, error: &EnrolError) -> Setback {
        let known = self.desk.registry().device(&item.name);
        Setback {
            leaves: match known.map(|device| device.map(|device| device.state)) {
                Ok(Some(DeviceState::Switched)) | Err(_) => Fate::Unclear,
                Ok(Some(DeviceState::RolledBack)) => Fate::RolledBack,
                Ok(_) => Fate::Failed,
            },
            what: error.to_string(),
            next: error.hint().unwrap_or_default(),
            may_pass: error.may_pass(),
        }
    }
}

/// Bars on a terminal; lines of what matters elsewhere.
struct Screen {
    bars: Option<(MultiProgress, ProgressBar)>,
    devices: Mutex<HashMap<String, ProgressBar>>,
}

impl Screen {
    fn new(all: usize) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(all as u64));
            let style = ProgressStyle::with_template("  {pos} of {len} [{bar:30}] {elapsed} {msg}");
            all.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            all.enable_steady_tick(Duration::from_millis(250));
            (bars, all)
        });
        Self { bars, devices: Mutex::default() }
    }

    fn line(&self, text: &str) {
        let text = shown(text);
        match &self.bars {
            Some((bars, _)) => drop(bars.println(&text)),
            None => eprintln!("{text}"),
        }
    }

    fn step(&self, name: &str, line: &str) {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = devices.get(name) {
            bar.set_message(line.to_owned());
        }
    }

    fn begin(&self, name: &str) {
        let Some((bars, _)) = &self.bars else { return };
        let bar = bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("    {prefix:20} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name.to_owned());
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bar);
    }

    fn end(&self, name: &str, is_over: bool) {
        let bar = self.devices.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if let Some((_, all)) = self.bars.as_ref().filter(|_| is_over) {
            all.inc(1);
        }
    }

    fn close(&self) {
        if let Some((bars, all)) = &self.bars {
            all.finish();
            bars.clear().ok();
        }
    }
}

impl Watcher for Screen {
    fn hear(&self, news: &News) {
        match news {
            News::Begun { todo, before } => {
                if *before > 0 {
                    self.line(&format!("quoll: goes on: {before} were done before"));
                }
                if let Some((_, all)) = &self.bars {
                    all.set_length(*todo as u64);
                }
            }
            News::Started { name, attempt } => {
                self.begin(name);
                if self.bars.is_none() && *attempt > 1 {
                    self.line(&format!("  ..  {name}  attempt {attempt}"));
                }
            }
            News::Retry { name, why, after } => {
                self.end(name, false);
                self.line(&format!("  !!  {name}  {why}; again in {} s", after.as_secs()));
            }
            News::Ended(record) => {
                self.end(&record.name, true);
                let mark = if record.outcome == Fate::Proven { "ok" } else { "!!" };
                let line = format!(
                    "  {mark}  {}  {}  {}  {}",
                    record.name, record.outcome, record.rung, record.what
                );
                self.line(line.trim_end());
            }
            News::CanariesProven(count) => {
                let what = if *count == 1 {
                    "the first is proven".to_owned()
                } else {
                    format!("the first {count} are proven")
                };
                self.line(&format!("quoll: {what}; the others follow"));
            }
            News::Waits { minutes } => {
                self.line(&format!("quoll: outside the window; it opens in {minutes} min"));
            }
            News::Stopping(why) => self.line(&format!("quoll: stopping: {why}")),
        }
    }
}
