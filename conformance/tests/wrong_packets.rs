//! Each wrong packet is answered as `wrong-packets.tsv` says, and each difference between the brokers there has its reason.

use conformance::difference::packets;
use conformance::rows::Rows;
use conformance::subject;
use conformance::wrong::record::{SUBJECTS, doubles, play, read, write};

/// 4.13 (5.0), 4.8 (3.1.1). With `QUOLL_BLESS=1` the column of the subject is written instead; a foreign broker has none.
#[test]
fn every_wrong_packet_is_answered_as_written() {
    let Some(place) = SUBJECTS.iter().position(|it| *it == subject::name()) else { return };
    let seen = play();
    let mut record = read().unwrap_or_default();
    if std::env::var_os("QUOLL_BLESS").is_some() {
        record.retain(|key, _| seen.contains_key(key));
        for (key, said) in seen {
            record.entry(key).or_default()[place] = said;
        }
        write(&record).expect("wrong-packets.tsv can be written");
        return;
    }
    let mut rows = Rows::default();
    for (key, said) in &seen {
        let written = record.get(key).map(|it| it[place].as_str());
        rows.equal(&format!("{} {}", key.0, key.1), &Some(said.as_str()), &written);
    }
    for key in record.keys() {
        rows.check(&key.1, seen.contains_key(key), "is in wrong-packets.tsv alone");
    }
    rows.finish();
}

#[test]
fn no_name_stands_for_two_packets() {
    assert_eq!(doubles(), Vec::<String>::new());
}

#[test]
fn every_difference_between_the_brokers_has_a_reason_and_every_reason_a_difference() {
    let record = read().expect("wrong-packets.tsv is there");
    let reasons = packets().expect("differences.toml can be read");
    let mut used = vec![false; reasons.len()];
    let mut rows = Rows::default();
    for (key, both) in record.iter().filter(|(_, both)| both[0] != both[1]) {
        let place = reasons.iter().position(|it| it.explains(key, both));
        rows.check(&format!("{}: {}", key.0, key.1), place.is_some(), both);
        if let Some(place) = place {
            used[place] = true;
        }
    }
    for (reason, used) in reasons.iter().zip(used) {
        rows.check(
            &reason.id,
            used && !reason.clause.is_empty() && reason.why.len() > 20,
            "explains nothing, or says nothing",
        );
    }
    rows.finish();
}
