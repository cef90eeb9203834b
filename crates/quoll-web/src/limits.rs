//! Every bound of the dashboard with its reason. None is configurable: they are far from what one owner needs.

use std::time::Duration;

/// Connections served at once; further ones wait in the listener's backlog. A browser opens six per host, so this is
/// room for some twenty open windows.
pub const CONNECTIONS: usize = 128;

/// Live streams at once; further ones are told 503. Fewer than [`CONNECTIONS`], so that streams that stay open never
/// keep a page from being served.
pub const LIVE_STREAMS: usize = 64;

/// Time for a request's header to arrive, and for a kept-alive connection to stay silent between requests.
pub const HEADER_TIME: Duration = Duration::from_secs(15);

/// Header fields of a request. Browsers send about twenty.
pub const HEADER_FIELDS: usize = 64;

/// Bytes of a request's header, its first line included. Cookies of other programs on `localhost` come along,
/// whatever their port, so this is more than our own pages need.
pub const HEADER_BYTES: usize = 32 * 1024;

/// Time for a [`Source`](crate::Source) to answer one request, or one event of a stream.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Time for a [`Source`](crate::Source) to diagnose a device: one that hangs gets half a minute, the broker at which it is
/// a dozen seconds.
pub const DIAGNOSIS_TIME: Duration = Duration::from_secs(60);

/// Diagnoses at once; further ones are told 503. Each asks a device some twenty questions.
pub const DIAGNOSES: usize = 4;

/// Characters of a line of evidence.
pub const EVIDENCE_CHARS: usize = 400;

/// Life of a live stream; the browser opens the next by itself. It bounds how long a forgotten window or a reader that
/// stopped reading occupies a place.
pub const STREAM_LIFE: Duration = Duration::from_secs(60 * 60);

/// Age at which a connection must end, cut after [`FAREWELL`] if its reader has stopped reading. Past [`STREAM_LIFE`], so
/// that a stream ends by itself first.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(65 * 60);

/// Pace of live updates. Changes of the same device within one beat are shown once, so a chatty fleet costs a browser
/// at most four repaints a second.
pub const BEAT: Duration = Duration::from_millis(250);

/// Devices gathered within one [`BEAT`] before they are sent early.
pub const BATCH: usize = 500;

/// Pause before a stream that fell behind is given the full state again, so that a slow reader of a busy fleet costs
/// one full state per pause and not one per event.
pub const RESYNC_PAUSE: Duration = Duration::from_secs(1);

/// Comment sent on a silent stream, so that both sides notice a dead connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Time for open connections to finish once the node stops.
pub const FAREWELL: Duration = Duration::from_secs(3);

/// Characters of a search text (`?q=`). More is refused with 400.
pub const SEARCH_CHARS: usize = 200;

/// Characters of one text from outside (telemetry, a reported name) shown in a table; the rest becomes an ellipsis.
pub const SHOWN_CHARS: usize = 160;

/// Days before a certificate's end at which its date is marked on the page.
pub const EXPIRY_NOTICE_DAYS: i64 = 30;
