//! Both brokers: a scenario from its beginning to its first unexplained difference, and its shrinking.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::compare::{Difference, Rule, compare, explanation};
use super::generate::{Generator, State};
use super::judge::{Judgement, judge};
use super::play::{Heard, Player};
use super::step::{Deed, Step};
use crate::client::Client;
use crate::heard::kind;
use crate::words::{self, Connect, Version, publish};

/// Quoll and Mosquitto, each with two connections.
pub struct Pair {
    players: [Player; 2],
    addresses: [SocketAddr; 2],
    /// Client identifiers that may have left a session, each with its user name: Quoll lets no other end it.
    ids: BTreeSet<(Vec<u8>, Option<Vec<u8>>)>,
    /// Whether the connection of each slot was opened with a will.
    wills: [bool; 2],
    /// By client identifier: packet identifiers of QoS 2 messages that were not released.
    open: BTreeSet<(Vec<u8>, u16)>,
}

/// How a scenario went.
#[derive(Default)]
pub struct Course {
    /// Steps that were done.
    pub exchanges: u64,
    /// Names of the rules that explained something.
    pub explained: Vec<String>,
    /// The difference that nobody explained, with the steps up to it.
    pub finding: Option<Finding>,
}

/// A difference that no rule explains.
#[derive(Clone)]
pub struct Finding {
    /// What was done.
    pub steps: Vec<Step>,
    /// What differed at the last of them.
    pub difference: Difference,
    /// What a strict reader found in the last step, and `since:` earlier.
    pub found: BTreeSet<String>,
}

/// What a 5.0 client hears when another connection takes over, from Quoll alone.
const TAKEN_OVER: &str = "other DISCONNECT 0x8e";

impl Pair {
    /// For the brokers at these addresses: Quoll, Mosquitto.
    pub fn new(addresses: [SocketAddr; 2]) -> Self {
        Self {
            players: addresses.map(Player::new),
            addresses,
            ids: BTreeSet::new(),
            wills: [false; 2],
            open: BTreeSet::new(),
        }
    }

    /// Plays a new scenario of at most so many steps.
    pub fn explore(&mut self, generator: &mut Generator, steps: usize, rules: &[Rule]) -> Course {
        let mut course = Course::default();
        let (mut done, mut since) = (Vec::new(), BTreeSet::new());
        for _ in 0..steps {
            let state = [0, 1].map(|slot| State {
                level: self.players[0].level(slot),
                under_way: self.players[0].under_way(slot),
            });
            let step = generator.step(&state);
            done.push(step.clone());
            if self.go(&step, &done, &mut since, rules, &mut course) {
                break;
            }
        }
        self.clean();
        course
    }

    /// Plays these steps.
    pub fn replay(&mut self, steps: &[Step], rules: &[Rule]) -> Course {
        let mut course = Course::default();
        let mut since = BTreeSet::new();
        for (place, step) in steps.iter().enumerate() {
            if self.go(step, &steps[..=place], &mut since, rules, &mut course) {
                break;
            }
        }
        self.clean();
        course
    }

    /// One step; `true` when the scenario ends.
    fn go(
        &mut self,
        step: &Step,
        done: &[Step],
        since: &mut BTreeSet<String>,
        rules: &[Rule],
        course: &mut Course,
    ) -> bool {
        let Some((difference, judgement)) = self.exchange(step, course) else { return false };
        let mut found = judgement.found;
        let names: Vec<String> = found.iter().map(|it| format!("since:{it}")).collect();
        since.extend(names);
        let ends = rules.iter().any(|rule| rule.ends && rule.concerns(&found));
        let refused = rules.iter().any(|rule| rule.refused && rule.concerns(&found));
        // A DISCONNECT that one of them refuses ends both connections alike; the will and the session differ from then on.
        let Some(mut difference) = difference else { return ends || (refused && judgement.leaves) };
        // What one broker refused and the other took may have left something behind.
        let ends = ends || refused;
        if found.contains("takeover") {
            // Beside whatever else may be.
            difference.quoll.retain(|it| it != TAKEN_OVER);
            if difference.quoll.is_empty() && difference.mosquitto.is_empty() {
                course.explained.push("taken-over-is-told".into());
                return ends;
            }
        }
        found.extend(since.iter().cloned());
        found.extend(manner(&step.deed).iter().map(|it| (*it).to_owned()));
        if let Some(used) = explanation(rules, &difference, &found) {
            let goes_on = used.iter().all(|rule| rule.goes_on);
            let names: BTreeSet<&str> = used.iter().map(|rule| rule.id.as_str()).collect();
            course.explained.extend(names.into_iter().map(str::to_owned));
            return ends || !(goes_on && difference.same_connections);
        }
        course.finding = Some(Finding { steps: done.to_vec(), difference, found });
        true
    }

    /// Does a step to both; `None` when it did not apply.
    fn exchange(&mut self, step: &Step, course: &mut Course) -> Option<(Option<Difference>, Judgement)> {
        let level = if matches!(step.deed, Deed::Open(_)) { None } else { self.players[0].level(step.slot) };
        let mut judgement = step.bytes().map_or_else(
            || Judgement { complete: true, level, ..Judgement::default() },
            |it| judge(level, it),
        );
        let other = 1 - step.slot;
        if let (Deed::Open(_), Some(id)) = (&step.deed, &judgement.client_id) {
            self.ids.insert((id.clone(), judgement.user.clone()));
            self.players.iter_mut().for_each(|it| it.user = judgement.user.clone());
            if self.players.iter().any(|it| it.client_id(other) == Some(id)) {
                judgement.found.insert("takeover".into());
                if self.wills[other] {
                    judgement.found.insert("takeover-with-will".into());
                }
            }
            self.wills[step.slot] = judgement.found.contains("will");
        }
        if let (Some(id), None) = (self.players[0].client_id(step.slot), &judgement.client_id) {
            let used = &judgement.identifiers;
            if used.new.iter().any(|it| self.open.contains(&(id.to_vec(), *it))) {
                judgement.found.insert("identifier-in-use".into());
            }
            if used.opened.iter().any(|it| self.open.contains(&(id.to_vec(), *it))) {
                judgement.found.insert("identifier-again".into());
            }
            self.open.extend(used.opened.iter().map(|it| (id.to_vec(), *it)));
            self.open.retain(|(owner, it)| owner != id || !used.released.contains(it));
        }
        let said = self.players.each_mut().map(|it| it.say(step, &judgement));
        if said == [false, false] {
            return None;
        }
        course.exchanges += 1;
        let first = self.players.each_mut().map(|it| it.hear(step.slot));
        self.players.iter_mut().for_each(|it| it.prompt(other));
        let second = self.players.each_mut().map(|it| it.hear(other));
        let [quoll, mosquitto] = pairs(first, second);
        Some((compare(&quoll, &mosquitto), judgement))
    }

    /// Ends sessions and empties what is retained, so that the next scenario begins with nothing.
    fn clean(&mut self) {
        self.players.iter_mut().for_each(Player::forget);
        self.open.clear();
        let ids = std::mem::take(&mut self.ids);
        let assigned = self.players.each_mut().map(|it| std::mem::take(&mut it.assigned));
        for (address, assigned) in self.addresses.into_iter().zip(assigned) {
            for (id, user) in ids.iter().chain(&assigned) {
                if id.is_empty() || std::str::from_utf8(id).is_err() {
                    continue;
                }
                let mut client = Client::open_at(address, Version::V311);
                let mut connect = Connect::new(Version::V311, id.clone());
                connect.user = user.clone();
                client.say(connect.bytes());
                client.say(words::DISCONNECT);
                client.ending();
            }
            let mut client = Client::open_at(address, Version::V311);
            client.say(Connect::new(Version::V311, "cleaner").bytes());
            client.say(words::subscribe(
                Version::V311,
                1,
                &[("#", 0), ("$d/#", 0), ("$SYS/#", 0), ("$x/#", 0)],
            ));
            client.say(words::PINGREQ);
            loop {
                let packet = client.hear();
                match packet.kind {
                    kind::PINGRESP => break,
                    kind::PUBLISH if packet.flags & 1 == 1 => {
                        let topic = packet.publish(Version::V311).topic;
                        client.say(publish(topic, "").retained().bytes(Version::V311));
                    }
                    _ => {}
                }
            }
            client.say(words::DISCONNECT);
            client.ending();
        }
    }

    /// Takes away what the finding does not need: steps, then bytes are left as they are.
    pub fn shrink(&mut self, finding: Finding, rules: &[Rule]) -> Finding {
        let mut best = finding;
        let same = |it: &Finding, best: &Finding| shape(&it.difference) == shape(&best.difference);
        let mut chunk = best.steps.len() / 2;
        while chunk > 0 {
            let mut start = 0;
            while start < best.steps.len() {
                let mut fewer = best.steps.clone();
                fewer.drain(start..(start + chunk).min(best.steps.len()));
                match self.replay(&fewer, rules).finding {
                    Some(it) if same(&it, &best) => best = it,
                    _ => start += chunk,
                }
            }
            chunk /= 2;
        }
        best
    }
}

/// How a step is done, in the words of the rules.
fn manner(deed: &Deed) -> &'static [&'static str] {
    match deed {
        Deed::Open(_) => &["opens"],
        Deed::Say(_) => &["says"],
        Deed::Answer { kind, reason, .. } => match (kind, reason) {
            (0, 0) => &["answers"],
            (0, _) => &["answers", "acknowledgement-reason"],
            _ => &["answers", "wrong-acknowledgement", "acknowledgement-reason"],
        },
        Deed::Drop => &["vanishes"],
    }
}

/// First words of a difference: what two findings have in common when they are of one kind.
pub fn shape(difference: &Difference) -> String {
    let short = |words: &[String]| {
        let mut kinds: Vec<String> =
            words.iter().map(|it| it.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        kinds.sort();
        kinds.dedup();
        kinds.join(", ")
    };
    format!("quoll: {} | mosquitto: {}", short(&difference.quoll), short(&difference.mosquitto))
}

fn pairs(first: [Heard; 2], second: [Heard; 2]) -> [[Heard; 2]; 2] {
    let [a, b] = first;
    let [c, d] = second;
    [[a, c], [b, d]]
}
