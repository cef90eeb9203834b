//! Losses that SQLite does not tell of: in its log, and of the whole file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::*;
use crate::journal::sqlite::wal::{Look, beside, look};

/// The files as a kill leaves them behind this many transactions; and how long the log was after each.
fn killed(transactions: u64) -> (Place, Vec<u64>) {
    let (place, copy) = (Place::new(), Place::new());
    let mut journal = place.journal();
    let mut ends = Vec::new();
    for number in 0..transactions {
        let change = match number {
            0 => session("a"),
            more => queued("a", more - 1, more),
        };
        let sequence = journal.append(&[change]).unwrap();
        wait_until_durable(&journal, sequence);
        ends.push(fs::metadata(beside(&place.path())).unwrap().len());
    }
    for file in [place.path(), beside(&place.path())] {
        fs::copy(&file, copy.folder.path().join(file.file_name().unwrap())).unwrap();
    }
    (copy, ends)
}

fn flip(file: &Path, at: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_the_log_lost_is_told_and_kept_and_all_before_is_in_force() {
    let (place, ends) = killed(6);
    let log = beside(&place.path());
    assert_eq!(look(&log).unwrap(), Look::Whole);
    let whole = fs::read(&log).unwrap();
    // In the transaction that ends there: its page, and its salt.
    for (spoilt, end) in ends.iter().enumerate().skip(1) {
        let frame = ends[spoilt - 1];
        for at in [end - 100, frame + 9] {
            let (place, _) = killed(6);
            let log = beside(&place.path());
            flip(&log, at);
            let damaged = fs::read(&log).unwrap();
            // Those behind it, and itself if its salt does not hide it.
            let lost = (ends.len() - spoilt) as u64;
            let found = look(&log).unwrap();
            let kept = log.with_extension("db-wal.damaged");
            let says = |least: u64| matches!(found, Look::Damaged { lost: n, .. } if n >= least && n <= lost);
            match lost {
                1 => assert!(matches!(found, Look::Unfinished { .. } | Look::Whole), "{found:?}"),
                2 => assert!(matches!(found, Look::Unfinished { .. }) || says(2), "{found:?}"),
                more => assert!(says(more - 1), "{found:?} of {more}"),
            }
            assert_eq!(recall(&mut place.journal()).unwrap().len(), spoilt, "all before");
            assert_eq!(kept.exists(), matches!(found, Look::Damaged { .. }));
            assert!(!kept.exists() || fs::read(&kept).unwrap() == damaged);
        }
    }
    // What a power cut leaves: the last transaction in part. And what says nothing at all.
    fs::write(&log, &whole[..whole.len() - 1000]).unwrap();
    assert_eq!(look(&log).unwrap(), Look::Whole);
    fs::write(&log, vec![0; 8192]).unwrap();
    assert_eq!(look(&log).unwrap(), Look::Nothing);
    fs::write(&log, vec![7; 8192]).unwrap();
    assert_eq!(look(&log).unwrap(), Look::Damaged { at: 0, lost: 0 });
    fs::write(&log, b"").unwrap();
    assert_eq!(look(&log).unwrap(), Look::Nothing);
}

#[test]
fn a_log_without_its_file_is_not_thrown_away() {
    for is_there in [true, false] {
        let (place, _) = killed(3);
        let log = fs::read(beside(&place.path())).unwrap();
        if is_there {
            fs::write(place.path(), b"").unwrap();
        } else {
            fs::remove_file(place.path()).unwrap();
        }
        let refused = SqliteJournal::open(&place.path(), Durability::Power).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("-wal"), "{refused}");
        assert_eq!(fs::read(beside(&place.path())).unwrap(), log);
        assert_eq!(place.path().exists(), is_there, "nothing was changed");
    }
    // As a kill in the first moment leaves it.
    let place = Place::new();
    fs::write(place.path(), b"").unwrap();
    assert!(recall(&mut place.journal()).unwrap().is_empty());
}

#[test]
fn a_file_that_cannot_be_had_is_told_with_what_is_in_the_way() {
    let place = Place::new();
    let hint = |error: &StoreError| error.hint().unwrap();
    let open = || SqliteJournal::open(&place.path(), Durability::Power).unwrap_err();
    fs::write(place.path(), b"\0\xB5\0mosquitto db\0\0\0\0").unwrap();
    assert!(matches!(open(), StoreError::NotOurs { .. }));
    let source = ErrorKind::PermissionDenied.into();
    let said = hint(&StoreError::Open { path: place.path(), source });
    assert!(
        said.contains("broker.db (of user ") && said.contains(", mode ") && said.contains("chown"),
        "{said}"
    );
    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    assert!(hint(&open()).contains("a file is wanted"), "{}", hint(&open()));
    fs::remove_dir(place.path()).unwrap();
    std::os::unix::fs::symlink("nowhere/else", place.path()).unwrap();
    assert!(hint(&open()).contains("a link to what is not there"), "{}", hint(&open()));
    let within = SqliteJournal::open(&place.path().join("x"), Durability::Power).unwrap_err();
    assert!(hint(&within).contains("must exist"), "{}", hint(&within));
}
