//! Which client lives on which shard: a table, and a rule for those who are not in it.
//!
//! Connections fill the first shard; the next opens when the busiest passes a threshold (`coat.md` §4). A session stays
//! where it is. With one shard there is no table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quoll_broker::vocabulary::ShardId;

use crate::config::Placement as Policy;

/// Knows where clients live.
pub(crate) struct Placement {
    policy: Policy,
    homes: Mutex<HashMap<Arc<str>, Home>>,
    /// Share of the last second that each shard worked, in thousandths.
    load: Box<[AtomicU32]>,
    failed: Box<[AtomicBool]>,
    /// Shards that take part.
    open: AtomicUsize,
    next: AtomicUsize,
}

/// Where a client lives, while a session or an arrival needs it to.
#[derive(Clone, Copy)]
struct Home {
    shard: ShardId,
    /// Newcomers of this client on their way to the shard.
    arriving: u32,
    session: bool,
}

impl Placement {
    pub(crate) fn new(policy: Policy, shards: usize) -> Self {
        Self {
            policy,
            homes: Mutex::default(),
            load: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            failed: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            open: AtomicUsize::new(if policy == Policy::RoundRobin { shards } else { 1 }),
            next: AtomicUsize::new(0),
        }
    }

    fn shards(&self) -> usize {
        self.load.len()
    }

    /// The shard for a newcomer. Each answer is followed by one [`Placement::arrived`].
    pub(crate) fn place(&self, client_id: &Arc<str>) -> ShardId {
        if self.shards() == 1 {
            return ShardId(0);
        }
        if client_id.is_empty() {
            return self.choose();
        }
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = homes.get_mut(&**client_id)
            && !self.has_failed(home.shard)
        {
            home.arriving += 1;
            return home.shard;
        }
        let shard = self.choose();
        homes.insert(Arc::clone(client_id), Home { shard, arriving: 1, session: false });
        shard
    }

    /// Puts a client where it lived, or where there are fewer shards now, where that one's clients are.
    fn put(&self, client_id: &Arc<str>, home: ShardId) -> ShardId {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = ShardId(home.0 % self.shards() as u16);
        self.open.fetch_max(usize::from(shard.0) + 1, Ordering::Relaxed);
        homes.entry(Arc::clone(client_id)).or_insert(Home { shard, arriving: 1, session: false }).shard
    }

    /// The newcomer was handled by its shard, or never reached it.
    pub(crate) fn arrived(&self, client_id: &str) {
        self.update(client_id, |home| home.arriving = home.arriving.saturating_sub(1));
    }

    /// The client has a session on this shard.
    pub(crate) fn settled(&self, client_id: &Arc<str>, shard: ShardId) {
        if self.shards() > 1 {
            let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = Home { shard, arriving: 0, session: true };
            homes.entry(Arc::clone(client_id)).or_insert(fresh).session = true;
        }
    }

    /// The client has no session any more.
    pub(crate) fn left(&self, client_id: &str) {
        self.update(client_id, |home| home.session = false);
    }

    /// A shard for a session of the journal: the one where it lived, if that is asked for.
    pub(crate) fn recall(&self, client_id: &Arc<str>, home: Option<ShardId>) -> ShardId {
        let shard = match home {
            Some(home) if self.shards() > 1 => self.put(client_id, home),
            _ => self.place(client_id),
        };
        self.settled(client_id, shard);
        self.arrived(client_id);
        shard
    }

    fn update(&self, client_id: &str, change: impl FnOnce(&mut Home)) {
        if self.shards() == 1 {
            return;
        }
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = homes.get_mut(client_id) {
            change(home);
            if home.arriving == 0 && !home.session {
                homes.remove(client_id);
            }
        }
    }

    fn choose(&self) -> ShardId {
        let open = match self.policy {
            Policy::RoundRobin => self.shards(),
            Policy::FillFirst { threshold } => self.open_shards(threshold),
        };
        let healthy = (0..open).filter(|shard| !self.failed[*shard].load(Ordering::Relaxed));
        let chosen = match self.policy {
            Policy::RoundRobin => {
                let healthy: Vec<usize> = healthy.collect();
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                healthy.get(turn % healthy.len().max(1)).copied()
            }
            Policy::FillFirst { .. } => healthy.min_by_key(|shard| self.load[*shard].load(Ordering::Relaxed)),
        };
        ShardId(chosen.unwrap_or(0) as u16)
    }

    /// Opens another shard where the busiest of the open ones works too much.
    fn open_shards(&self, threshold: f32) -> usize {
        let open = self.open.load(Ordering::Relaxed);
        let busiest = self.load[..open].iter().map(|load| load.load(Ordering::Relaxed)).max().unwrap_or(0);
        let all_failed = self.failed[..open].iter().all(|failed| failed.load(Ordering::Relaxed));
        if open < self.shards() && (all_failed || busiest as f32 / 1000.0 > threshold) {
            // The new one counts as idle at once; should two arrivals open two, no harm is done.
            self.open.fetch_max(open + 1, Ordering::Relaxed);
            return open + 1;
        }
        open
    }

    /// A shard tells how busy it was.
    pub(crate) fn report(&self, shard: ShardId, thousandths: u32) {
        self.load[usize::from(shard.0)].store(thousandths, Ordering::Relaxed);
    }

    /// How busy each shard was, 0.0 to 1.0.
    pub(crate) fn loads(&self) -> Vec<f32> {
        self.load.iter().map(|load| load.load(Ordering::Relaxed) as f32 / 1000.0).collect()
    }

    /// A shard gave up: nobody is placed there any more.
    pub(crate) fn fail(&self, shard: ShardId) {
        self.failed[usize::from(shard.0)].store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_failed(&self, shard: ShardId) -> bool {
        self.failed[usize::from(shard.0)].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_first(shards: usize) -> Placement {
        Placement::new(Policy::FillFirst { threshold: 0.6 }, shards)
    }

    #[test]
    fn newcomers_fill_the_first_shard_until_it_is_busy() {
        let placement = fill_first(3);
        assert_eq!(placement.place(&"a".into()), ShardId(0));
        placement.report(ShardId(0), 500);
        assert_eq!(placement.place(&"b".into()), ShardId(0));
        placement.report(ShardId(0), 700);
        assert_eq!(placement.place(&"c".into()), ShardId(1));
        placement.report(ShardId(1), 100);
        assert_eq!(placement.place(&"d".into()), ShardId(2), "the busiest decides that one opens");
    }

    #[test]
    fn a_client_stays_where_its_session_is() {
        let placement = Placement::new(Policy::RoundRobin, 2);
        let home = placement.place(&"a".into());
        placement.settled(&"a".into(), home);
        placement.arrived("a");
        for _ in 0..3 {
            placement.place(&"other".into());
            assert_eq!(placement.place(&"a".into()), home);
            placement.arrived("a");
        }
    }

    #[test]
    fn an_arrival_under_way_keeps_the_home_of_a_session_that_ends_meanwhile() {
        let placement = Placement::new(Policy::RoundRobin, 2);
        let home = placement.place(&"a".into());
        placement.settled(&"a".into(), home);
        placement.arrived("a");
        assert_eq!(placement.place(&"a".into()), home);
        placement.left("a");
        assert_eq!(
            placement.place(&"a".into()),
            home,
            "the second is under way, so the third must follow it"
        );
        placement.arrived("a");
        placement.arrived("a");
        assert!(placement.homes.lock().unwrap().is_empty(), "nothing is kept of nobody");
    }

    #[test]
    fn nobody_is_placed_on_a_failed_shard() {
        let placement = fill_first(2);
        let home = placement.place(&"a".into());
        placement.settled(&"a".into(), home);
        placement.fail(ShardId(0));
        assert_eq!(placement.place(&"a".into()), ShardId(1));
        assert_eq!(placement.place(&"b".into()), ShardId(1));
    }
}
