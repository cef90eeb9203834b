//! Who comes in: as we decide, and as Mosquitto does.

use quoll_mqtt::{TopicFilter, TopicName};

use super::super::door::{Door, Visitor};
use super::super::password_file::PasswordText;
use super::super::password_hash::Scheme;
use super::Texts;
use super::counterpart::{Mosquitto, program};

/// User name and password of those who ask.
const VISITORS: [(Option<&str>, Option<&str>); 5] = [
    (None, None),
    (Some("alice"), None),
    (Some("alice"), Some("right")),
    (Some("alice"), Some("wrong")),
    (Some("stranger"), Some("right")),
];

#[test]
fn those_come_in_whom_mosquitto_lets_in() {
    let plugin = program("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so");
    let plugin = format!("plugin {}\nplugin_opt_config_file d.json\n", plugin.display());
    let table: [(&str, [bool; 5]); 8] = [
        ("", [false; 5]),
        ("allow_anonymous false\n", [false; 5]),
        ("allow_anonymous true\n", [true; 5]),
        ("password_file p\n", [false, false, true, false, false]),
        ("password_file p\nallow_anonymous true\n", [true, false, true, false, false]),
        ("PLUGIN", [false, false, true, false, false]),
        ("PLUGINallow_anonymous true\n", [true, false, true, false, false]),
        ("PLUGINpassword_file p\n", [false, false, true, false, false]),
    ];
    let mut text = PasswordText::empty();
    text.set("alice", b"right", Scheme::Pbkdf2(100)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    text.save(&path).unwrap();
    let passwords = std::fs::read_to_string(&path).unwrap();
    let hash = passwords.trim_end().strip_prefix("alice:$7$100$").unwrap();
    let (salt, hash) = hash.split_once('$').unwrap();
    let json = format!(
        r#"{{"clients":[{{"username":"alice","salt":"{salt}","iterations":100,"password":"{hash}","roles":[]}}]}}"#
    );
    for per_listener in [false, true] {
        for (lines, expected) in table {
            let lines = lines.replace("PLUGIN", &plugin);
            let lines = if per_listener {
                format!("user root\nper_listener_settings true\nlistener PORT 127.0.0.1\n{lines}")
            } else {
                format!("user root\n{lines}listener PORT 127.0.0.1\n")
            };
            let texts = Texts::default().with("m.conf", lines.replace("PORT", "1")).with("p", &passwords);
            let texts = texts.with("d.json", &json);
            let configuration = texts.read().unwrap();
            let door = Door::open(&configuration.listeners[0].security, &texts).unwrap();
            let files = [("p", passwords.as_bytes()), ("d.json", json.as_bytes())];
            let mosquitto = Mosquitto::start(&lines, &files).expect("mosquitto takes it");
            for ((username, password), expected) in VISITORS.into_iter().zip(expected) {
                let who = format!("{lines}{username:?} {password:?}");
                let password_bytes = password.map(str::as_bytes);
                let visitor =
                    Visitor { username, client_id: "x", password: password_bytes, certified: false };
                assert_eq!(door.admits(&visitor), expected, "{who}");
                let mut command = mosquitto.client("mosquitto_pub", username, "x");
                command.args(password.map(|password| ["-P", password]).into_iter().flatten());
                let status = command.args(["-t", "x", "-m", "x"]).status().unwrap();
                assert_eq!(status.success(), expected, "{who}");
            }
        }
    }
}

#[test]
fn a_name_from_a_certificate_is_believed() {
    let texts = Texts::default().with("m.conf", "listener 1\npassword_file p\n").with("p", "");
    let door = Door::open(&texts.read().unwrap().listeners[0].security, &texts).unwrap();
    let visitor = Visitor { username: Some("plug"), client_id: "x", password: None, certified: true };
    assert!(door.admits(&visitor));
    assert!(!door.admits(&Visitor { username: None, ..visitor }));
    assert!(!door.admits(&Visitor { certified: false, ..visitor }));
}

#[test]
fn permissions_come_from_the_first_that_has_answers() {
    let base = Texts::default()
        .with("a", "topic read x\n")
        .with("b", "topic read y\n")
        .with("d", r#"{"defaultACLAccess":{"publishClientReceive":true,"subscribe":true}}"#);
    let dynamic = "plugin mosquitto_dynamic_security.so\nplugin_opt_config_file d\n";
    let acl = "plugin mosquitto_acl_file.so\nplugin_opt_acl_file b\n";
    // Lines, then whether `x`, `y` and `z` may be received, and how many warnings there are.
    let table = [
        (String::new(), [true, true, true], 0),
        ("acl_file a\n".to_owned(), [true, false, false], 0),
        (format!("acl_file a\n{acl}"), [true, false, false], 1),
        (format!("{dynamic}{acl}"), [false, true, false], 0),
        (dynamic.to_owned(), [true, true, true], 0),
    ];
    for (lines, expected, warnings) in table {
        let texts = Texts(base.0.clone()).with("m.conf", format!("{lines}listener 1\n"));
        let door = Door::open(&texts.read().unwrap().listeners[0].security, &texts).unwrap();
        let grants = door.grants(None, "c");
        let found = ["x", "y", "z"].map(|name| grants.may_receive(&TopicName::parse(name).unwrap()));
        assert_eq!(found, expected, "{lines}");
        assert_eq!(door.warnings.len(), warnings, "{lines}{:?}", door.warnings);
        assert!(grants.may_subscribe(&TopicFilter::parse("x").unwrap()), "{lines}");
    }
}

#[test]
fn files_that_cannot_be_used_keep_the_door_shut() {
    let table = [
        (
            "acl_file a\n",
            "cannot use a: a:1:1: a line begins with user, topic or pattern, not \"x\"\na:2:6: 'topic' has no topic",
        ),
        (
            "password_file p\n",
            "cannot use p: line 1: user \"u\": this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?",
        ),
        ("acl_file gone\n", "cannot use gone: entity not found"),
        (
            "plugin mosquitto_dynamic_security.so\nplugin_opt_config_file d\n",
            "cannot use d: line 1, column 1: expected value",
        ),
    ];
    for (lines, expected) in table {
        let texts = Texts::default().with("m.conf", format!("{lines}listener 1\n"));
        let texts = texts.with("a", "x\ntopic\n").with("p", "u:clear\n").with("d", "?");
        let error = Door::open(&texts.read().unwrap().listeners[0].security, &texts).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{lines}");
    }
}
