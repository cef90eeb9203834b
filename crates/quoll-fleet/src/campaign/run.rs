//! A run: canaries first, then so many at a time; retries with growing pauses, a time window, an end when too many fail
//! or somebody says so. What becomes of each device is noted before and after, so that the same command goes on where a
//! run that was killed was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quoll_tasmota::Mac;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::plan::{Item, Verdict};
use super::record::{Outcome, Record};
use super::window::Window;
use crate::device::Rung;
use crate::limits::{RETRY_PAUSE, RETRY_PAUSE_MAX, STOP_SAMPLE, WINDOW_LOOK};
use crate::registry::{Registry, RegistryError};

/// How a run goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Orders {
    /// What the run is told by: the same text goes on with a run that did not end.
    pub text: String,
    /// Devices that come first and must all be proven before the others begin; 0 for none.
    pub canaries: usize,
    /// Devices under way at a time.
    pub parallel: usize,
    /// Attempts at one device.
    pub attempts: u32,
    /// When devices may be begun.
    pub window: Option<Window>,
    /// Share of failures among those tried, in per cent, above which no further device is begun, once [`STOP_SAMPLE`]
    /// have been tried.
    pub stop_at: Option<u8>,
    /// How long it waits for what.
    pub pace: Pace,
}

/// How long a run waits. The defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// First pause before another attempt at a device, doubled each time.
    pub retry: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// Outside the window the clock is looked at so often: clocks are set, and summer time comes.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { retry: RETRY_PAUSE, retry_max: RETRY_PAUSE_MAX, look: WINDOW_LOOK }
    }
}

/// A device that is where it was to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A device that is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setback {
    /// Where that leaves it: [`Outcome::RolledBack`], [`Outcome::Failed`], [`Outcome::Unclear`].
    pub leaves: Outcome,
    /// What happened.
    pub what: String,
    /// What to do.
    pub next: String,
    /// Whether another attempt may do better.
    pub may_pass: bool,
}

/// Whoever enrols one device.
#[async_trait]
pub trait Hand: Send + Sync + 'static {
    /// Enrols, or goes on with it. Must end by itself.
    ///
    /// # Errors
    /// See [`Setback`].
    async fn enrol(&self, item: &Item, rung: Rung) -> Result<Done, Setback>;
}

/// What happens during a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// It begins, or goes on: so many devices are to be done, so many were done by the run before it.
    Begun {
        /// To be done.
        todo: usize,
        /// Done before.
        before: usize,
    },
    /// A device is begun.
    Started {
        /// Its name.
        name: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// An attempt failed; another follows.
    Retry {
        /// Its name.
        name: String,
        /// Why.
        why: String,
        /// After how long.
        after: Duration,
    },
    /// A device is done.
    Ended(Record),
    /// The canaries are proven; the others begin.
    CanariesProven(usize),
    /// Outside the window: nothing is begun for so many minutes.
    Waits {
        /// Minutes.
        minutes: u16,
    },
    /// No further device is begun; those under way are finished.
    Stopping(String),
}

/// Somebody who watches a run. Called from its task: must not block.
pub trait Watcher: Send + Sync {
    /// Something happened.
    fn hear(&self, news: &News);
}

/// What a run came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// The run's number.
    pub campaign: i64,
    /// Devices by what became of them, held ones and those of an earlier part of the run included.
    pub counts: BTreeMap<Outcome, usize>,
    /// Why it ended before all were done.
    pub stopped: Option<String>,
}

impl Summary {
    /// Whether all that was to be done is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let bad = |outcome: &Outcome| outcome.is_failure() || !outcome.is_final();
        self.stopped.is_none() && !self.counts.iter().any(|(outcome, count)| *count > 0 && bad(outcome))
    }
}

/// Runs the plan. `minute` tells the minute of the day, for the window; `cancel` becoming true begins no further device.
///
/// # Errors
/// Where the registry cannot be written: then no device is begun whose outcome could not be noted.
pub async fn run(
    registry: &Registry,
    items: &[Item],
    orders: &Orders,
    hand: Arc<dyn Hand>,
    watcher: &dyn Watcher,
    minute: &(dyn Fn() -> u16 + Send + Sync),
    cancel: watch::Receiver<bool>,
) -> Result<Summary, RegistryError> {
    let (campaign, goes_on) = registry.begin_campaign(&orders.text)?;
    let before = registry.campaign(Some(campaign.id))?.map(|(_, records)| records).unwrap_or_default();
    let before: BTreeMap<Mac, Record> = before.into_iter().map(|record| (record.mac, record)).collect();
    let mut run =
        Run { registry, campaign: campaign.id, orders, hand, watcher, minute, cancel, records: before };
    let todo = run.begin(items, goes_on)?;
    let stopped = run.all(todo).await?;
    registry.end_campaign(campaign.id, stopped.as_deref()).map(drop)?;
    let mut counts = BTreeMap::new();
    for record in run.records.values() {
        *counts.entry(record.outcome).or_insert(0) += 1;
    }
    Ok(Summary { campaign: campaign.id, counts, stopped })
}

struct Run<'a> {
    registry: &'a Registry,
    campaign: i64,
    orders: &'a Orders,
    hand: Arc<dyn Hand>,
    watcher: &'a dyn Watcher,
    minute: &'a (dyn Fn() -> u16 + Send + Sync),
    cancel: watch::Receiver<bool>,
    records: BTreeMap<Mac, Record>,
}

/// A device that is still to be done.
#[derive(Clone)]
struct Job {
    item: Item,
    rung: Rung,
    attempt: u32,
    /// Not before, after a failed attempt.
    due: Option<Instant>,
}

impl Run<'_> {
    /// Notes all devices of the plan; gives those that are to be done, canaries first.
    fn begin(&mut self, items: &[Item], goes_on: bool) -> Result<VecDeque<Job>, RegistryError> {
        let (mut todo, mut records, mut done) = (Vec::new(), Vec::new(), 0);
        for item in items {
            let (outcome, rung, what, next) = match &item.verdict {
                Verdict::Enrol(rung) => (Outcome::Waiting, rung.as_str(), String::new(), String::new()),
                Verdict::Proven(rung) => {
                    (Outcome::Proven, rung.as_str(), "was proven before".to_owned(), String::new())
                }
                Verdict::Held(held) => {
                    let join = |part: fn(&super::plan::Held) -> &str| {
                        held.iter().map(part).collect::<Vec<_>>().join("; ")
                    };
                    (Outcome::Held, "", join(|held| &held.why), join(|held| &held.next))
                }
            };
            let known = self.records.get(&item.mac).filter(|record| goes_on && record.outcome.is_final());
            // What this run has finished stays: it is neither done again nor forgotten.
            if known.is_some_and(|known| known.outcome.is_failure() || known.outcome == Outcome::Proven) {
                done += 1;
                continue;
            }
            if let Verdict::Enrol(rung) = item.verdict {
                let rung_to = rung;
                todo.push(Job { item: item.clone(), rung: rung_to, attempt: 1, due: None });
            }
            records.push(Record {
                mac: item.mac,
                name: item.name.to_string(),
                address: item.address.as_ref().map(ToString::to_string).unwrap_or_default(),
                rung: rung.to_owned(),
                outcome,
                attempts: 0,
                what,
                next,
                at: OffsetDateTime::now_utc(),
            });
        }
        self.registry.record_outcomes(self.campaign, &records)?;
        self.records.extend(records.into_iter().map(|record| (record.mac, record)));
        self.watcher.hear(&News::Begun { todo: todo.len(), before: done });
        // Those that an interrupted run left on their way come first: they may be neither here nor there.
        todo.sort_by_key(|job| !job.item.is_under_way);
        Ok(canaries_first(todo))
    }

    async fn all(&mut self, mut todo: VecDeque<Job>) -> Result<Option<String>, RegistryError> {
        let already =
            self.records.values().any(|record| record.outcome == Outcome::Proven && record.attempts > 0);
        // A run that goes on has had its canaries.
        let canaries = if already { 0 } else { self.orders.canaries.min(todo.len()) };
        if canaries > 0 && canaries < todo.len() {
            let rest = todo.split_off(canaries);
            if let Some(why) = self.some(todo, canaries).await? {
                return Ok(Some(why));
            }
            let failed = self.records.values().filter(|record| record.outcome.is_failure()).count();
            if failed > 0 {
                let why = format!("{failed} of the first {canaries} failed");
                self.watcher.hear(&News::Stopping(why.clone()));
                return Ok(Some(why));
            }
            self.watcher.hear(&News::CanariesProven(canaries));
            todo = rest;
        }
        self.some(todo, self.orders.parallel.max(1)).await
    }

    /// Does these, so many at a time. Why it ended before all were done.
    async fn some(
        &mut self,
        mut todo: VecDeque<Job>,
        parallel: usize,
    ) -> Result<Option<String>, RegistryError> {
        let parallel = parallel.min(self.orders.parallel.max(1));
        let mut under_way: JoinSet<(Job, Result<Done, Setback>)> = JoinSet::new();
        let mut stopping: Option<String> = None;
        let mut waits = false;
        let (mut cancel, mut can_cancel) = (self.cancel.clone(), true);
        // What the registry could not be told: nothing more is begun, and nobody is left in mid-change.
        let mut untold: Option<RegistryError> = None;
        loop {
            if stopping.is_none() && *cancel.borrow() {
                stopping = Some(self.stop("it was told to stop"));
            }
            let mut wake = None;
            while stopping.is_none() && under_way.len() < parallel {
                let minutes = self.orders.window.map_or(0, |window| window.opens_in((self.minute)()));
                if minutes > 0 {
                    if under_way.is_empty() && !todo.is_empty() && !std::mem::replace(&mut waits, true) {
                        self.watcher.hear(&News::Waits { minutes });
                    }
                    wake = Some(Instant::now() + self.orders.pace.look);
                    break;
                }
                let now = Instant::now();
                let Some(at) = todo.iter().position(|job| job.due.is_none_or(|due| due <= now)) else {
                    wake = todo.iter().filter_map(|job| job.due).min();
                    break;
                };
                let Some(job) = todo.remove(at) else { break };
                if let Err(error) = self.note(&job, Outcome::UnderWay, "", "") {
                    stopping = Some(self.stop("the registry cannot be written"));
                    untold = Some(error);
                    break;
                }
                waits = false;
                self.watcher.hear(&News::Started { name: job.item.name.to_string(), attempt: job.attempt });
                let hand = Arc::clone(&self.hand);
                under_way.spawn(async move {
                    let result = hand.enrol(&job.item, job.rung).await;
                    (job, result)
                });
            }
            if under_way.is_empty() && (todo.is_empty() || stopping.is_some()) {
                return untold.map_or(Ok(stopping), Err);
            }
            let rest = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(joined) = under_way.join_next() => {
                    // A panic in one device's enrolment is that device's: it stays under way, and is gone on with.
                    if let Ok((job, result)) = joined {
                        match self.settle(job, result, stopping.is_some()) {
                            Ok(again) => todo.extend(again),
                            Err(error) => {
                                if stopping.is_none() {
                                    stopping = Some(self.stop("the registry cannot be written"));
                                }
                                untold.get_or_insert(error);
                            }
                        }
                    }
                    if stopping.is_none() && let Some(why) = self.too_many_failed() {
                        stopping = Some(self.stop(&why));
                    }
                }
                () = rest => {}
                changed = cancel.changed(), if stopping.is_none() && can_cancel => {
                    // Nobody can cancel any more: go on to the end.
                    can_cancel = changed.is_ok();
                }
            }
        }
    }

    fn stop(&self, why: &str) -> String {
        self.watcher.hear(&News::Stopping(why.to_owned()));
        why.to_owned()
    }

    /// Notes what became of a device; gives it back if it is to be tried again.
    fn settle(
        &mut self,
        job: Job,
        result: Result<Done, Setback>,
        is_stopping: bool,
    ) -> Result<Option<Job>, RegistryError> {
        let setback = match result {
            Ok(done) => {
                let record = self.note(&job, Outcome::Proven, &done.notes.join("; "), "")?;
                self.watcher.hear(&News::Ended(record));
                return Ok(None);
            }
            Err(setback) => setback,
        };
        let again = setback.may_pass && job.attempt < self.orders.attempts && !is_stopping;
        if !again {
            let record = self.note(&job, setback.leaves, &setback.what, &setback.next)?;
            self.watcher.hear(&News::Ended(record));
            return Ok(None);
        }
        // Until then it is what it is: somebody may kill us in between.
        self.note(&job, Outcome::UnderWay, &setback.what, &setback.next)?;
        let after =
            (self.orders.pace.retry * 2u32.saturating_pow(job.attempt - 1)).min(self.orders.pace.retry_max);
        self.watcher.hear(&News::Retry { name: job.item.name.to_string(), why: setback.what, after });
        Ok(Some(Job { attempt: job.attempt + 1, due: Some(Instant::now() + after), ..job }))
    }

    fn too_many_failed(&self) -> Option<String> {
        let share = usize::from(self.orders.stop_at?);
        let tried = self.records.values().filter(|record| record.attempts > 0 && record.outcome.is_final());
        let (mut all, mut failed) = (0, 0);
        for record in tried {
            all += 1;
            failed += usize::from(record.outcome.is_failure());
        }
        let is_due = all >= STOP_SAMPLE && failed * 100 > share * all;
        is_due.then(|| format!("{failed} of {all} failed, more than {share} %"))
    }

    fn note(&mut self, job: &Job, outcome: Outcome, what: &str, next: &str) -> Result<Record, RegistryError> {
        let record = Record {
            mac: job.item.mac,
            name: job.item.name.to_string(),
            address: job.item.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            rung: job.rung.as_str().to_owned(),
            outcome,
            attempts: job.attempt,
            what: what.to_owned(),
            next: next.to_owned(),
            at: OffsetDateTime::now_utc(),
        };
        self.registry.record_outcomes(self.campaign, std::slice::from_ref(&record))?;
        self.records.insert(record.mac, record.clone());
        Ok(record)
    }
}

/// One of each kind of device in front, so that canaries stand for all.
fn canaries_first(todo: Vec<Job>) -> VecDeque<Job> {
    let mut kinds = BTreeSet::new();
    let (first, rest): (Vec<Job>, Vec<Job>) = todo
        .into_iter()
        .partition(|job| job.item.is_under_way || kinds.insert((job.item.kind.clone(), job.rung)));
    first.into_iter().chain(rest).collect()
}
