//! Passwords: the three forms, files, and both ways between us and Mosquitto.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::super::password_file::{Answer, PasswordError, PasswordFile, PasswordText};
use super::super::password_hash::{PasswordHash, Scheme};
use super::counterpart::{Mosquitto, program};

/// Fewer iterations than a file should have, for tests that hash much.
const QUICK: Scheme = Scheme::Pbkdf2(100);

/// The first two are Mosquitto's; the others are libargon2's, the last of them with the numbers of Mosquitto 2.1.
#[test]
fn hashes_made_elsewhere_are_checked() {
    let table = [
        (
            "secret",
            "$7$101$eVaQ0E242/xEKT4R$zbAqpYfEwGGHg2SJ24RfARO6xQwOFRefBflbG1ZSX6PIQ3E/9aBCWUUxAee9cf/TWYnC43M/BmBVuLssS5j9dQ==",
        ),
        (
            "secret2",
            "$6$JYBRwsV3RyNA9g3u$dPhY9KwnTc7wnLqSi9VOUbQABWyvIAqGj2RJR2TrQTJyH0GtuIJOK6x42UdPEPC88AeoB+TcGofCBs5S4Ghf0g==",
        ),
        (
            "password",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ),
        (
            "password",
            "$argon2id$v=19$m=47104,t=1,p=1$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMw$TJaMDt7c9RkI5Yuaq+xLy5kLVDRQ3Ip6ulvy9cG603N0525n1UQwVgRJA/WkQhVWlHl2pXEJETVlTYfGsB2chg",
        ),
    ];
    for (password, text) in table {
        let hash = PasswordHash::parse(text).expect(text);
        assert!(hash.verify(password.as_bytes()), "{text}");
        assert!(!hash.verify(b"other") && !hash.verify(b""), "{text}");
        assert_eq!(hash.to_string(), text);
        assert!(!format!("{hash:?}").contains("=="), "a hash is shown");
    }
}

#[test]
fn damaged_hashes_are_refused() {
    let table = [
        ("secret", "this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?"),
        ("$5$x$y", "this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?"),
        ("$6$", "the hash is damaged"),
        ("$6$!!!!$", "the salt is damaged"),
        ("$6$c2FsdA==$c2FsdA==", "the hash is damaged"),
        ("$7$0$c2FsdA==$c2FsdA==", "the hash is damaged"),
        ("$7$x", "the salt is damaged"),
        (
            "$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "the cost is none that can be paid here",
        ),
        (
            "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1",
            "this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(PasswordHash::parse(text).map(|_| ()).unwrap_err().to_string(), expected, "{text}");
    }
    let hash = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPcJMWEV1c8k7VoVoxo7oyblzzLtwkcCmXwCtlZvYZE89w==";
    for (iterations, good) in [("1", true), ("0", false), ("-1", false), ("10000001", false), ("x", false)] {
        let found = PasswordHash::parse(&format!("$7${iterations}$c2FsdA==${hash}"));
        assert_eq!(found.is_ok(), good, "{iterations}");
    }
    assert!(PasswordHash::new(Scheme::Pbkdf2(0), b"x").is_err());
}

#[test]
fn each_form_written_here_is_checked_here() {
    for scheme in [Scheme::default(), Scheme::Sha512, Scheme::Argon2id] {
        let hash = PasswordHash::new(scheme, b"gr\xc3\xbcn").unwrap();
        let again = PasswordHash::parse(&hash.to_string()).unwrap();
        assert!(again == hash && again.verify("grün".as_bytes()) && !again.verify(b"gr"), "{scheme:?}");
        assert!(
            PasswordHash::new(scheme, b"x").unwrap() != PasswordHash::new(scheme, b"x").unwrap(),
            "one salt for all"
        );
    }
}

#[test]
fn a_file_answers_for_its_users() {
    let mut text = PasswordText::empty();
    assert!(text.set("alice", b"a", QUICK).unwrap());
    assert!(text.set("bob smith", b"b", Scheme::Sha512).unwrap());
    assert!(!text.set("alice", b"new", QUICK).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    text.save(&path).unwrap();
    let file = PasswordFile::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file.len(), 2);
    let table: [(&str, &[u8], Answer); 5] = [
        ("alice", b"new", Answer::Right),
        ("alice", b"a", Answer::Wrong),
        ("alice", b"", Answer::Wrong),
        ("bob smith", b"b", Answer::Right),
        ("carol", b"new", Answer::Unknown),
    ];
    for (name, password, expected) in table {
        assert_eq!(file.verify(name, password), expected, "{name}");
    }
}

#[test]
fn damaged_lines_are_named() {
    let good = PasswordHash::new(QUICK, b"x").unwrap();
    let text = format!("# a comment\n\nno colon\nalice:{good}\r\n:{good}\nalice:{good}\nbob:clear\ncarol:\n");
    let faults = PasswordFile::parse(text.as_bytes()).map(|_| ()).unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let clear = "this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?";
    let expected = [
        "line 5: no user name".to_owned(),
        "line 6: user \"alice\" is there already, in line 4".to_owned(),
        format!("line 7: user \"bob\": {clear}"),
        format!("line 8: user \"carol\": {clear}"),
    ];
    assert_eq!(told, expected);
    let file = PasswordFile::parse(format!("no colon\nalice:{good}\r\n").as_bytes()).unwrap();
    assert_eq!((file.passed_over.as_slice(), file.verify("alice", b"x")), (&[1][..], Answer::Right));
}

#[test]
fn names_that_no_line_can_have_are_refused() {
    for name in ["", "a:b", " a", "a ", "#a", "a\nb", "a\tb"] {
        let result = PasswordText::empty().set(name, b"x", QUICK);
        assert!(matches!(result, Err(PasswordError::Name)), "{name:?}");
    }
}

#[test]
fn a_change_keeps_all_other_lines_and_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    fs::write(&path, "# kept\nbob:$6$x$y\nalice:old\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut text = PasswordText::load(&path).unwrap();
    text.set("alice", b"x", QUICK).unwrap();
    assert!(text.delete("bob") && !text.delete("nobody"));
    text.save(&path).unwrap();
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("# kept\nalice:$7$100$") && written.lines().count() == 2, "{written}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    text.save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is gone");
    let new = folder.path().join("new");
    text.save(&new).unwrap();
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_upgrade_hashes_what_is_in_the_clear_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    let old = PasswordHash::new(QUICK, b"old").unwrap();
    fs::write(&path, format!("# c:d\nalice:with:colon\r\nbob:{old}\n")).unwrap();
    let mut text = PasswordText::load(&path).unwrap();
    assert_eq!(text.upgrade(QUICK).unwrap(), 1);
    assert_eq!(text.upgrade(QUICK).unwrap(), 0);
    text.save(&path).unwrap();
    let file = PasswordFile::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file.verify("alice", b"with:colon"), Answer::Right);
    assert_eq!(file.verify("bob", b"old"), Answer::Right);
}

#[test]
fn a_missing_file_says_how_to_begin_one() {
    let error = PasswordText::load(Path::new("/nonexistent/p")).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/p: "), "{error}");
    assert_eq!(error.hint().as_deref(), Some("to begin a new file, ask for it (-c)"));
}

#[test]
fn what_mosquitto_passwd_writes_we_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    for (args, name, password) in [
        (&["-b", "-c"][..], "alice", "a b"),
        (&["-b"], "bob", "grün"),
        (&["-H", "sha512", "-b"], "carol", "$7$x"),
    ] {
        let mut command = Command::new(program("/usr/bin/mosquitto_passwd"));
        assert!(command.args(args).arg(&path).args([name, password]).status().unwrap().success());
    }
    let file = PasswordFile::parse(&fs::read(&path).unwrap()).unwrap();
    for (name, password) in [("alice", "a b"), ("bob", "grün"), ("carol", "$7$x")] {
        assert_eq!(file.verify(name, password.as_bytes()), Answer::Right, "{name}");
        assert_eq!(file.verify(name, b"x"), Answer::Wrong, "{name}");
    }
}

#[test]
fn what_we_write_mosquitto_reads() {
    let mut text = PasswordText::empty();
    text.set("alice", "grün und blau".as_bytes(), Scheme::default()).unwrap();
    text.set("bob smith", b"b", Scheme::Sha512).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    text.save(&path).unwrap();
    let file = fs::read(&path).unwrap();
    let lines = "user root\nallow_anonymous false\npassword_file p\nlistener PORT 127.0.0.1\n";
    let mosquitto = Mosquitto::start(lines, &[("p", &file)]).expect("mosquitto takes the file");
    for (name, password, good) in [
        ("alice", "grün und blau", true),
        ("alice", "b", false),
        ("bob smith", "b", true),
        ("carol", "b", false),
    ] {
        let mut command = mosquitto.client("mosquitto_pub", Some(name), "x");
        let status = command.args(["-P", password, "-t", "x", "-m", "x"]).status().unwrap();
        assert_eq!(status.success(), good, "{name} {password}");
    }
    // mosquitto_passwd changes our file, and we read what it made of it.
    let mut command = Command::new(program("/usr/bin/mosquitto_passwd"));
    assert!(command.arg("-b").arg(&path).args(["alice", "other"]).status().unwrap().success());
    let file = PasswordFile::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file.verify("alice", b"other"), Answer::Right);
    assert_eq!(file.verify("bob smith", b"b"), Answer::Right);
}

proptest! {
    #[test]
    fn no_hash_makes_it_panic(text in "(\\$|6|7|argon2id|v=19|m=8,t=1,p=1|[a-zA-Z0-9+/=]{0,12}){0,9}") {
        let _ = PasswordHash::parse(&text);
    }

    #[test]
    fn no_file_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = PasswordFile::parse(&content);
    }
}
