//! The seeded generator: what is done next, given which connections are there.

use super::packets;
use super::step::{Deed, Step};
use crate::words::Version;

/// Reproducible chance (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed, the same throws.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn of(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ it >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ it >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (it ^ it >> 31).checked_rem(bound).unwrap_or(0)
    }

    /// True once in so many throws.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.of(many) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.of(from.len() as u64) as usize]
    }
}

/// What the generator may know of a connection.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Its protocol level; `None` when there is no connection.
    pub level: Option<u8>,
    /// Messages that wait for its acknowledgement.
    pub under_way: usize,
}

/// Makes the steps of one scenario.
#[derive(Debug)]
pub struct Generator {
    dice: Dice,
    /// Client identifier last said on each connection.
    ids: [String; 2],
    count: u64,
}

impl Generator {
    /// For the scenario of this seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        dice.of(2);
        Self { dice, ids: [String::new(), String::new()], count: 0 }
    }

    /// The next step.
    pub fn step(&mut self, state: &[State; 2]) -> Step {
        self.count += 1;
        let slot = self.dice.of(2) as usize;
        let deed = match state[slot].level {
            None => self.open(slot),
            Some(level) => self.on(slot, version(level), state[slot].under_way),
        };
        Step { slot, deed }
    }

    fn open(&mut self, slot: usize) -> Deed {
        let dice = &mut self.dice;
        let version =
            *dice.pick(&[Version::V5, Version::V5, Version::V5, Version::V311, Version::V311, Version::V31]);
        // Each its own identifier mostly, so that sessions are taken up; sometimes the other's, which takes over.
        let id = match dice.of(20) {
            0 => "",
            1 | 2 => ["y", "x"][slot],
            3 => "with/slash",
            _ => ["x", "y"][slot],
        };
        let mut bytes = if dice.one_in(200) {
            packets::publish(dice, version, "early".into())
        } else {
            packets::connect(dice, version, id)
        };
        if dice.one_in(40) {
            bytes = packets::spoil(dice, bytes);
        }
        if dice.one_in(60) {
            bytes.extend(packets::subscribe(dice, version, id));
        }
        self.ids[slot] = id.to_owned();
        Deed::Open(bytes)
    }

    fn on(&mut self, slot: usize, version: Version, under_way: usize) -> Deed {
        let id = self.ids[slot].clone();
        let payload = format!("m{}", self.count);
        let dice = &mut self.dice;
        if under_way > 0 && dice.of(100) < 30 {
            return answer(dice);
        }
        let mut bytes = match dice.of(100) {
            0..=39 => packets::publish(dice, version, payload),
            40..=64 => packets::subscribe(dice, version, &id),
            65..=72 => packets::unsubscribe(dice, version, &id),
            73..=86 => packets::other(dice, version),
            87..=91 => packets::disconnect(dice, version),
            92..=94 => return Deed::Drop,
            95..=97 => return self.open(slot),
            98 => packets::connect(dice, version, &id),
            _ => [packets::publish(dice, version, payload), packets::subscribe(dice, version, &id)].concat(),
        };
        if dice.one_in(25) {
            bytes = packets::spoil(dice, bytes);
        }
        Deed::Say(bytes)
    }
}

fn answer(dice: &mut Dice) -> Deed {
    let place = dice.of(8) as usize;
    let kind = if dice.one_in(25) { *dice.pick(&[4, 5, 7]) } else { 0 };
    let reason = if dice.one_in(12) { *dice.pick(&[0x10, 0x80, 0x97, 0x42, 0x92]) } else { 0 };
    Deed::Answer { place, kind, reason }
}

fn version(level: u8) -> Version {
    match level {
        5 => Version::V5,
        3 => Version::V31,
        _ => Version::V311,
    }
}
