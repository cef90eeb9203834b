//! Live updates by server-sent events (WHATWG HTML §9.2): one stream of changes, told to programs as JSON and to our
//! own pages as the very HTML that replaces what they show.
//!
//! A stream starts with the full state, because something may have changed since the page was made; a reader that
//! falls behind gets the full state again instead of a backlog.
//!
//! | stream | event | data |
//! |---|---|---|
//! | `/api/live` | `full` | `{"overview": …, "devices": [ … ]}` |
//! | | `device`, `overview` | the new value |
//! | | `gone` | `{"name": …}` |
//! | `/live`, `/live/NAME` | `put` | one HTML element; replaces the element of its id |
//! | | `drop` | the id of the element to remove |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::limits;
use crate::pages;
use crate::problem::Problem;
use crate::site::{self, Desk, Name, Search};
use crate::source::{Live, Source};
use crate::view::{self, DeviceView, Overview};

/// `/api/live`, for programs; `?q=` filters devices.
pub(crate) async fn json(State(desk): State<Desk>, uri: Uri, Search(search): Search) -> Response {
    watch(desk, uri, Audience::Programs { search })
}

/// `/live`, for the overview page; `?q=` as on the page.
pub(crate) async fn overview_fragments(
    State(desk): State<Desk>,
    uri: Uri,
    Search(search): Search,
) -> Response {
    watch(desk, uri, Audience::Table { search })
}

/// `/live/NAME`, for a device's page.
pub(crate) async fn device_fragments(State(desk): State<Desk>, uri: Uri, Name(name): Name) -> Response {
    watch(desk, uri, Audience::DevicePage { name })
}

fn watch(desk: Desk, uri: Uri, audience: Audience) -> Response {
    let Ok(place) = desk.watchers.clone().try_acquire_owned() else {
        return Problem::TooManyWatchers.into_response_at(uri.path());
    };
    let watch = Watch {
        changes: desk.source.live(),
        desk,
        audience,
        pending: Vec::new().into_iter(),
        begun: false,
        next_beat: Instant::now(),
        end: Instant::now() + limits::STREAM_LIFE,
        _place: place,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(limits::KEEP_ALIVE)).into_response()
}

/// One reader of a stream.
struct Watch {
    desk: Desk,
    audience: Audience,
    changes: broadcast::Receiver<Live>,
    pending: std::vec::IntoIter<Event>,
    begun: bool,
    next_beat: Instant,
    end: Instant,
    _place: OwnedSemaphorePermit,
}

/// What a reader gets next.
enum Turn {
    Changes(Box<Batch>),
    Everything,
    End,
}

/// The last word on each thing that changed.
#[derive(Default)]
struct Batch {
    overview: Option<Overview>,
    /// By name; `None` for a device that is gone.
    devices: BTreeMap<String, Option<DeviceView>>,
}

impl Watch {
    /// The next event; `None` ends the stream, and the reader may come back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.next() {
                return Some(event);
            }
            let events = match self.turn().await {
                Turn::Changes(batch) => in_time(self.audience.changes(&*self.desk.source, *batch)).await?,
                Turn::Everything => in_time(self.audience.everything(&*self.desk.source)).await?,
                Turn::End => return None,
            };
            self.pending = events.into_iter();
        }
    }

    async fn turn(&mut self) -> Turn {
        if !std::mem::replace(&mut self.begun, true) {
            return Turn::Everything;
        }
        let mut batch = Batch::default();
        while batch.devices.len() < limits::BATCH {
            let change = if batch.is_empty() {
                tokio::select! {
                    change = self.changes.recv() => change,
                    () = site::closed(&mut self.desk.closed) => return Turn::End,
                    () = sleep_until(self.end) => return Turn::End,
                }
            } else {
                match timeout_at(self.next_beat, self.changes.recv()).await {
                    Ok(change) => change,
                    Err(_) => break,
                }
            };
            match change {
                Ok(change) => batch.note(change),
                Err(broadcast::error::RecvError::Lagged(missed)) => return self.resync(missed).await,
                Err(broadcast::error::RecvError::Closed) if batch.is_empty() => return Turn::End,
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        self.next_beat = Instant::now() + limits::BEAT;
        Turn::Changes(Box::new(batch))
    }

    /// Subscribes anew before the state is read, so that nothing falls between the two.
    async fn resync(&mut self, missed: u64) -> Turn {
        tracing::debug!(missed, "live stream fell behind, sends the full state");
        tokio::select! {
            () = sleep(limits::RESYNC_PAUSE) => {}
            () = site::closed(&mut self.desk.closed) => return Turn::End,
        }
        self.changes = self.desk.source.live();
        Turn::Everything
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.overview.is_none() && self.devices.is_empty()
    }

    fn note(&mut self, change: Live) {
        match change {
            Live::Overview(overview) => self.overview = Some(overview),
            Live::Device(device) => {
                self.devices.insert(device.name.clone(), Some(device));
            }
            Live::Gone(name) => {
                self.devices.insert(name, None);
            }
        }
    }
}

/// A source that does not answer ends the stream; the browser asks again.
async fn in_time<T>(answer: impl Future<Output = T>) -> Option<T> {
    timeout(limits::ANSWER_TIME, answer).await.ok()
}

/// Who listens, and so in which words.
enum Audience {
    Programs { search: String },
    Table { search: String },
    DevicePage { name: String },
}

#[derive(Serialize)]
struct Full<'a> {
    overview: &'a Overview,
    devices: &'a [DeviceView],
}

#[derive(Serialize)]
struct Gone<'a> {
    name: &'a str,
}

impl Audience {
    async fn everything(&self, source: &dyn Source) -> Vec<Event> {
        let mut events = match self {
            Self::Programs { search } | Self::Table { search } => {
                let overview = source.overview().await;
                let mut devices = source.devices().await;
                devices.retain(|device| device.matches(search));
                view::sort(&mut devices);
                match self {
                    Self::Programs { .. } => {
                        vec![tell("full", &Full { overview: &overview, devices: &devices })]
                    }
                    _ => vec![
                        put(pages::overview_fragment(&overview, pages::now())),
                        put(pages::table_fragment(&devices, pages::now())),
                    ],
                }
            }
            Self::DevicePage { name } => vec![device_page(source, name).await],
        };
        // The browser's own default is at its liberty; this is soon enough and no storm.
        if let Some(first) = events.first_mut() {
            *first = std::mem::take(first).retry(Duration::from_secs(3));
        }
        events
    }

    async fn changes(&self, source: &dyn Source, batch: Batch) -> Vec<Event> {
        let mut events = Vec::new();
        match self {
            Self::Programs { search } => {
                events.extend(batch.overview.map(|overview| tell("overview", &overview)));
                for (name, device) in &batch.devices {
                    match device {
                        Some(device) if device.matches(search) => events.push(tell("device", device)),
                        _ => events.push(tell("gone", &Gone { name })),
                    }
                }
            }
            Self::Table { search } => {
                let now = pages::now();
                events.extend(batch.overview.map(|overview| put(pages::overview_fragment(&overview, now))));
                for (name, device) in &batch.devices {
                    match device {
                        Some(device) if device.matches(search) => {
                            events.push(put(pages::row_fragment(device, now)));
                        }
                        _ => events.push(Event::default().event("drop").data(pages::row_id(name))),
                    }
                }
            }
            Self::DevicePage { name } if batch.devices.contains_key(name) => {
                events.push(device_page(source, name).await);
            }
            Self::DevicePage { .. } => {}
        }
        events
    }
}

async fn device_page(source: &dyn Source, name: &str) -> Event {
    put(match source.device(name).await {
        Some(device) => pages::device_fragment(&device, pages::now()),
        None => pages::device_gone_fragment(name),
    })
}

fn put(element: maud::Markup) -> Event {
    Event::default().event("put").data(element.into_string())
}

fn tell(event: &str, value: &impl Serialize) -> Event {
    let text = serde_json::to_string(value).expect("the views are plain data with text keys");
    Event::default().event(event).data(text)
}
