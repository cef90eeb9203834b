//! Damaged files, files of others, and files of other versions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::journal::sqlite::schema::{APPLICATION_ID, MIGRATIONS};

fn open(place: &Place) -> Result<SqliteJournal, StoreError> {
    SqliteJournal::open(&place.path(), Durability::Power)
}

/// Two clients with a subscription, a message under way and one that waits; a retained message.
fn two_clients() -> Place {
    let mut all = vec![Change::Retained { message: message(50, "state", QoS::AtLeastOnce) }];
    for client in ["a", "b"] {
        all.extend([session(client), subscribed(client, "x/#"), queued(client, 0, 1), sent(client, 0)]);
        all.push(queued(client, 1, 2));
    }
    Place::holding(&all)
}

/// Changes the byte at a place of one row's record; a version's byte among them.
fn spoil(place: &Place, row: &str, at: usize) {
    let connection = place.sql();
    let (table, condition) = row.split_once(" WHERE ").unwrap();
    let mut record: Vec<u8> = connection
        .query_row(&format!("SELECT record FROM {table} WHERE {condition}"), [], |row| row.get(0))
        .unwrap();
    record[at] ^= 0x20;
    let changed =
        connection.execute(&format!("UPDATE {table} SET record = ?1 WHERE {condition}"), [record]).unwrap();
    assert_eq!(changed, 1);
}

#[test]
fn a_damaged_row_is_set_aside_with_what_depends_on_it_and_all_others_are_in_force() {
    let whole = recall(&mut two_clients().journal()).unwrap();
    assert_eq!(whole.len(), 11);
    let a = |change: &Change| change.client_id().is_some_and(|id| &**id == "a");
    type Lost = Box<dyn Fn(&Change) -> bool>;
    let cases: Vec<(&str, Lost)> = vec![
        ("retained WHERE topic = 'state'", Box::new(|it| matches!(it, Change::Retained { .. }))),
        ("fact WHERE client = 'a' AND kind = 0", Box::new(a)),
        (
            "fact WHERE client = 'a' AND kind = 1",
            Box::new(move |it| a(it) && matches!(it, Change::Subscribed { .. })),
        ),
        (
            "fact WHERE client = 'a' AND kind = 2 AND key = 0 AND part = 0",
            Box::new(move |it| a(it) && matches!(it, Change::Queued { place: 0, .. } | Change::Sent { .. })),
        ),
        (
            "fact WHERE client = 'a' AND kind = 2 AND key = 0 AND part = 1",
            Box::new(move |it| a(it) && matches!(it, Change::Sent { .. })),
        ),
    ];
    for (row, is_lost) in cases {
        // Its version, its kind, and something in the middle.
        for at in [0, 1, 7] {
            let place = two_clients();
            spoil(&place, row, at);
            let left: Vec<Change> = whole.iter().filter(|it| !is_lost(it)).cloned().collect();
            assert_eq!(recall(&mut place.journal()).unwrap(), left, "{row}, byte {at}");
            let damaged = u32::try_from(whole.len() - left.len()).unwrap();
            assert_eq!(place.count("damaged"), damaged, "{row}: what was found stays there");
            let why: String =
                place.sql().query_row("SELECT place || why FROM damaged", [], |row| row.get(0)).unwrap();
            assert!(why.len() > 20, "{why}");
            assert_eq!(recall(&mut place.journal()).unwrap(), left, "said once");
            assert_eq!(place.count("damaged"), damaged);
        }
    }
}

#[test]
fn a_row_in_anothers_place_is_damage_too() {
    let place = two_clients();
    place.sql().execute("UPDATE fact SET key = 7 WHERE client = 'a' AND kind = 2 AND key = 1", []).unwrap();
    let told = recall(&mut place.journal()).unwrap();
    assert_eq!(told.len(), 10);
    assert_eq!(place.count("damaged"), 1);
}

#[test]
fn a_row_of_a_newer_version_stops_the_start_before_anything_is_changed() {
    let place = two_clients();
    let mut record = queued("a", 1, 2).encode();
    record[0] += 1;
    let body = record.len() - 4;
    let crc = record[..body].iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)))
    });
    record[body..].copy_from_slice(&(!crc).to_le_bytes());
    let written = place
        .sql()
        .execute("UPDATE fact SET record = ?1 WHERE client = 'a' AND kind = 2 AND key = 1", [record])
        .unwrap();
    assert_eq!(written, 1);
    let error = recall(&mut place.journal()).unwrap_err();
    assert!(error.to_string().contains("message 1 for \"a\" was written by a newer version"), "{error}");
    assert!(error.hint().unwrap().contains("newer"));
    assert_eq!((place.count("fact"), place.count("damaged")), (10, 0));
}

#[test]
fn a_damaged_file_is_refused_with_a_next_step_and_is_not_touched() {
    let place = two_clients();
    let mut bytes = fs::read(place.path()).unwrap();
    let page = 4096;
    assert!(bytes.len() > 3 * page, "{}", bytes.len());
    // The tables' roots come behind the first two pages.
    bytes[2 * page..].fill(0xA5);
    fs::write(place.path(), &bytes).unwrap();
    let error = open(&place).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(".recover") && hint.contains("nothing was changed"), "{hint}");
    assert!(fs::read(place.path()).unwrap() == bytes, "it was written to");

    for text in ["this is no database, but a text of more than a hundred bytes ".repeat(9), "x".repeat(5000)]
    {
        fs::write(place.path(), &text).unwrap();
        assert!(matches!(open(&place).unwrap_err(), StoreError::Damaged { .. }));
        assert_eq!(fs::read_to_string(place.path()).unwrap(), text);
    }
}

#[test]
fn a_kill_in_the_middle_of_a_log_loses_only_what_was_not_committed() {
    // The log of a process that died: its last frames are torn.
    let (place, torn) = (Place::new(), Place::new());
    let mut journal = place.journal();
    let sequence = journal.append(&[session("c"), queued("c", 0, 1)]).unwrap();
    wait_until_durable(&journal, sequence);
    let committed = fs::metadata(place.path().with_extension("db-wal")).unwrap().len();
    let sequence = journal.append(&(1..200).map(|n| queued("c", n, n)).collect::<Vec<_>>()).unwrap();
    wait_until_durable(&journal, sequence);
    let log = fs::read(place.path().with_extension("db-wal")).unwrap();
    let cut = usize::try_from(committed).unwrap() + 3000;
    assert!(log.len() > cut);
    fs::copy(place.path(), torn.path()).unwrap();
    fs::write(torn.path().with_extension("db-wal"), &log[..cut]).unwrap();
    assert_eq!(recall(&mut torn.journal()).unwrap(), [session("c"), queued("c", 0, 1)]);
}

#[test]
fn files_of_others_and_of_newer_versions_are_refused_unchanged() {
    let place = Place::new();
    place.sql().execute_batch("CREATE TABLE other (a); INSERT INTO other VALUES (1)").unwrap();
    assert!(matches!(open(&place).unwrap_err(), StoreError::NotOurs { .. }));
    assert_eq!(place.count("other"), 1);

    let place = two_clients();
    place.sql().pragma_update(None, "user_version", 9).unwrap();
    let error = open(&place).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, .. }), "{error}");
    assert_eq!(place.count("fact"), 10);
    let id: i32 = place.sql().pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    assert_eq!(id, APPLICATION_ID);
}

#[test]
fn an_older_schema_becomes_the_newer_one_with_all_its_rows_and_not_the_other_way() {
    let place = two_clients();
    let newer: Vec<&str> =
        MIGRATIONS.iter().copied().chain(["ALTER TABLE fact ADD COLUMN more TEXT"]).collect();
    let mut store = Store::open_with(&place.path(), Durability::Power, &newer).unwrap();
    let mut told = 0;
    store.recall(&mut |_| told += 1).unwrap();
    assert_eq!(told, 11);
    drop(store);
    let error = open(&place).unwrap_err();
    let known = u32::try_from(MIGRATIONS.len()).unwrap();
    assert!(matches!(error, StoreError::Newer { found, .. } if found == known + 1), "{error}");
    // A migration that fails leaves the old file as it was.
    let place = two_clients();
    let failing: Vec<&str> =
        MIGRATIONS.iter().copied().chain(["CREATE TABLE half (a); SELECT nonsense"]).collect();
    assert!(Store::open_with(&place.path(), Durability::Power, &failing).is_err());
    assert_eq!(recall(&mut open(&place).unwrap()).unwrap().len(), 11);
}

#[test]
fn the_file_and_its_log_are_for_their_owner_and_one_broker() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let mut journal = open(&place).unwrap();
    let sequence = journal.append(&[session("c")]).unwrap();
    wait_until_durable(&journal, sequence);
    for file in [place.path(), place.path().with_extension("db-wal")] {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    let error = open(&place).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(journal);
    let error = SqliteJournal::open(&place.folder.path().join("no/such/folder.db"), Durability::Power);
    let error = error.unwrap_err();
    assert!(matches!(&error, StoreError::Open { .. }) && error.hint().is_some(), "{error}");
}
