//! What the node looks at by the clock: files that somebody changed without ringing, who stays away, lists that end; and
//! what it writes down then.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::identity::Stamps;
use super::{LOOK_EVERY, Node};
use crate::absence;

/// How often the log says that a revocation list is behind or nearly over.
const LISTS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Node {
    pub(super) async fn watch_files(self: Arc<Self>) {
        let (mut last_absence_look, watched_since) = (Instant::now(), OffsetDateTime::now_utc());
        let mut counted = None;
        let mut last_list_look = Instant::now();
        self.complain_of_lists();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamps = Stamps::take(&self.settings, &self.registry);
            let changed = self.read.lock().unwrap_or_else(PoisonError::into_inner).1 != stamps
                || self.directory.load().learning_ends.is_some_and(|end| end <= OffsetDateTime::now_utc());
            if changed && let Err(failure) = self.reread().await {
                // The old state stays in force; a half-written file is whole at the next look.
                tracing::error!("the change could not be taken over: {}", failure.what);
            }
            if self.presence.is_due() {
                self.keep_presence();
            }
            self.keep_denials();
            if let Err(error) = self.registry.note_unlisted(&self.strangers.take()) {
                tracing::warn!(%error, "who came and is in no registry could not be noted");
            }
            self.witnessed.keep(&self.registry);
            if last_absence_look.elapsed() >= absence::LOOK_EVERY {
                last_absence_look = Instant::now();
                self.note_absent(watched_since).await;
            }
            if last_list_look.elapsed() >= LISTS_EVERY {
                last_list_look = Instant::now();
                self.complain_of_lists();
            }
            self.count_messages(&mut counted).await;
        }
    }

    /// A node has no CA key and writes no list; it says in time that one is needed.
    fn complain_of_lists(&self) {
        for pki in self.folders().all() {
            let status = pki.crl_status(OffsetDateTime::now_utc()).ok().flatten();
            for problem in status.into_iter().flat_map(|status| status.problems) {
                tracing::warn!("{problem}; `quoll ca crl` writes it anew");
            }
        }
    }

    /// Notes who stays away although it has a certificate, who came without it, and who is back.
    async fn note_absent(&self, watched_since: OffsetDateTime) {
        let (directory, now) = (self.directory(), OffsetDateTime::now_utc());
        let mut all = self.other_door.take(&directory.devices);
        for device in &directory.devices {
            let presence = device.serial.as_deref().and_then(|serial| self.presence.of(serial));
            let online = presence.as_ref().is_some_and(|presence| presence.is_online());
            let seen = presence.map(|presence| presence.last_seen).or(device.last_seen);
            all.extend(absence::news(device, online, seen, watched_since, now));
        }
        if all.is_empty() {
            return;
        }
        for (name, problem) in all {
            if let Some(problem) = &problem {
                tracing::warn!(device = %name, "{problem}");
            }
            if let Err(error) = self.registry.note_problem(&name, problem.as_deref()) {
                tracing::warn!(device = %name, %error, "its problem could not be noted");
            }
        }
        if let Err(failure) = self.reread().await {
            tracing::error!("folder and registry could not be read: {}", failure.what);
        }
    }

    async fn count_messages(&self, counted: &mut Option<(Instant, u64)>) {
        let now = (Instant::now(), self.server().stats().await.rules.publishes_received);
        if let Some((at, count)) = counted.replace(now) {
            let seconds = now.0.duration_since(at).as_secs_f64().max(0.001);
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = now.1.saturating_sub(count) as f64 / seconds;
            self.message_rate.store(rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// Messages received per second, over the last second.
    pub(crate) fn message_rate(&self) -> f64 {
        f64::from_bits(self.message_rate.load(Ordering::Relaxed))
    }

    fn keep_denials(&self) {
        let seen = self.denials.take();
        if !seen.is_empty()
            && let Err(error) = self.registry.observe(&seen)
        {
            tracing::warn!(%error, "what clients did beyond their lists could not be kept");
        }
    }

    pub(super) fn keep_presence(&self) {
        if let Err(error) = self.presence.flush(&self.registry) {
            tracing::warn!(%error, "last-seen times could not be kept");
        }
    }
}
