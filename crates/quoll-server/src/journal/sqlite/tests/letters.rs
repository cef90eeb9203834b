//! Letters between shards: kept until their shard's facts are.

use quoll_broker::vocabulary::Letter;

use super::*;
use crate::journal::transit::{LetterKey, Transit};

fn letter(number: u64) -> (LetterKey, Letter) {
    let letter = Letter::Message(message(number, "t", QoS::AtLeastOnce));
    (LetterKey::of(ShardId(1), &letter).unwrap(), letter)
}

fn turn(journal: &mut SqliteJournal, shard: u16, changes: &[Change], transits: &[Transit]) -> Sequence {
    let (mut changes, mut transits) = (changes.to_vec(), transits.to_vec());
    let shard = ShardId(shard);
    let turn = Turn { shard, changes: &mut changes, transits: &mut transits };
    let sequence = journal.append_turn(turn).unwrap();
    assert!(changes.is_empty() && transits.is_empty());
    sequence
}

#[test]
fn a_letter_is_kept_until_the_facts_that_came_of_it_are() {
    let place = Place::new();
    let mut journal = place.journal();
    turn(&mut journal, 1, &[session("far")], &[]);
    let (first, second) = (letter(1), letter(2));
    for (key, letter) in [&first, &second] {
        let sequence = turn(&mut journal, 0, &[], &[Transit::Sent(key.clone(), letter.clone())]);
        wait_until_durable(&journal, sequence);
    }
    turn(&mut journal, 1, &[queued("far", 0, 1)], &[Transit::Taken(first.0)]);
    drop(journal);

    let mut journal = place.journal();
    let underway = journal.underway().unwrap();
    let keys: Vec<LetterKey> = underway.letters.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, std::slice::from_ref(&second.0));
    assert_eq!(underway.homes.get("far"), Some(&ShardId(1)));
    assert_eq!(recall(&mut journal).unwrap(), [session("far"), queued("far", 0, 1)]);
    turn(&mut journal, 1, &[queued("far", 1, 2)], &[Transit::Taken(second.0)]);
    drop(journal);
    assert!(place.journal().underway().unwrap().letters.is_empty());
    assert_eq!(place.count("letter"), 0);
}

#[test]
fn a_letter_that_is_taken_soon_is_never_written_and_where_sessions_live_is_known_after_each_start() {
    let mut pending = pending::Pending::default();
    let (key, letter) = letter(1);
    pending.take_in(Piece::Transit(Transit::Sent(key.clone(), letter.clone())));
    assert_eq!(pending.open_letters, 1);
    pending.take_in(Piece::Transit(Transit::Taken(key.clone())));
    assert!(pending.is_empty() && pending.open_letters == 0);
    // Sent back and forth, the last word counts.
    pending.take_in(Piece::Transit(Transit::Taken(key.clone())));
    pending.take_in(Piece::Transit(Transit::Sent(key.clone(), letter.clone())));
    pending.take_in(Piece::Transit(Transit::Taken(key.clone())));
    assert!(!pending.is_empty() && pending.open_letters == 0, "the file may have it");

    let place = Place::new();
    let mut journal = place.journal();
    turn(&mut journal, 0, &[session("a"), session("b")], &[Transit::Sent(key, letter)]);
    drop(journal);
    let mut journal = place.journal();
    journal.settle(&[("a".into(), ShardId(1)), ("b".into(), ShardId(0))]).unwrap();
    let homes = journal.underway().unwrap().homes;
    assert_eq!((homes["a"], homes["b"]), (ShardId(1), ShardId(0)));
}

/// A publisher's messages have chance for numbers, and its receivers want its order [MQTT-4.6.0-6].
#[test]
fn letters_come_back_in_the_order_in_which_they_were_sent_over_any_number_of_starts() {
    let place = Place::new();
    let numbers = [900, 7, 800, u64::MAX, 1, 350, 2];
    for (run, sent) in numbers.chunks(3).enumerate() {
        let mut journal = place.journal();
        let before: Vec<u64> =
            journal.underway().unwrap().letters.iter().map(|(key, _)| key.number).collect();
        assert_eq!(before, numbers[..3 * run]);
        for number in sent {
            let (key, letter) = letter(*number);
            let sequence = turn(&mut journal, 0, &[], &[Transit::Sent(key, letter)]);
            wait_until_durable(&journal, sequence);
        }
    }
    // Those that are taken leave the others' order alone.
    let mut journal = place.journal();
    for number in [7, 1] {
        turn(&mut journal, 1, &[], &[Transit::Taken(letter(number).0)]);
    }
    let (key, last) = letter(5);
    turn(&mut journal, 0, &[], &[Transit::Sent(key, last)]);
    drop(journal);
    let left: Vec<u64> =
        place.journal().underway().unwrap().letters.iter().map(|(key, _)| key.number).collect();
    assert_eq!(left, [900, 800, u64::MAX, 350, 2, 5]);
}

/// A file of the first schema, with letters in it, is read and goes on.
#[test]
fn a_file_from_before_letters_had_an_order_is_brought_to_the_newest_schema() {
    let place = Place::new();
    drop(Store::open_with(&place.path(), Durability::Process, &schema::MIGRATIONS[..1]).unwrap());
    let (key, old) = letter(600);
    place
        .sql()
        .execute(
            "INSERT INTO letter (shard, number, filter, returned, record) VALUES (1, 600, '', 0, ?1)",
            [old.encode()],
        )
        .unwrap();
    let mut journal = place.journal();
    let (newer, letter) = letter(3);
    let sequence = turn(&mut journal, 0, &[], &[Transit::Sent(newer.clone(), letter)]);
    wait_until_durable(&journal, sequence);
    drop(journal);
    let letters = place.journal().underway().unwrap().letters;
    assert_eq!(letters.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key, newer]);
}
