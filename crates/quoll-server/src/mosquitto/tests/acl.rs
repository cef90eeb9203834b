//! Permissions: what the file means, what Mosquitto makes of it, and what goes into grants.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use quoll_mqtt::{TopicFilter, TopicName};

use super::super::acl_file::{AclFile, Action};
use super::counterpart::Mosquitto;

const FILE: &str = "\
# those without a name
topic read public/#
topic deny public/secret
topic write inbox

user root
topic #
topic $custom/#

user alice
topic a/#
topic deny a/secret/+
topic read r/only
topic write w/only
topic deny p/alice/no
topic read over/+
topic $custom/a
topic read

user  bob smith
topic read b/with space

user alice
topic late
   topic write indented

pattern read p/%u/#
pattern write c/%c/state
pattern deny p/%u/denied
pattern deny over/x
pattern readwrite d/%c/%u
pattern read everybody
pattern write %u/own
pattern read marker

user carol

user a+b
topic read marker

user hash
topic read marker
";

use Action::{Read, Write};

/// User, client id, what to do, topic, whether it may.
#[rustfmt::skip]
const TABLE: &[(Option<&str>, &str, Action, &str, bool)] = &[
    (None, "anon", Read, "public/x", true),
    (None, "anon", Read, "public", true),
    (None, "anon", Read, "public/secret", false),
    (None, "anon", Write, "public/x", false),
    (None, "anon", Write, "inbox", true),
    (None, "anon", Read, "inbox", false),
    (None, "anon", Read, "everybody", true),
    (None, "anon", Write, "c/anon/state", true),
    (None, "anon", Read, "p//x", false),
    (Some("alice"), "id1", Read, "a/x/y", true),
    (Some("alice"), "id1", Write, "a/x/y", true),
    (Some("alice"), "id1", Read, "a/secret/x", false),
    (Some("alice"), "id1", Write, "a/secret/x", false),
    (Some("alice"), "id1", Read, "a/secret/x/y", true),
    (Some("alice"), "id1", Read, "r/only", true),
    (Some("alice"), "id1", Write, "r/only", false),
    (Some("alice"), "id1", Write, "w/only", true),
    (Some("alice"), "id1", Read, "w/only", false),
    (Some("alice"), "id1", Read, "late", true),
    (Some("alice"), "id1", Read, "read", true),
    (Some("alice"), "id1", Write, "indented", true),
    (Some("alice"), "id1", Read, "p/alice/x", true),
    (Some("alice"), "id1", Read, "p/alice/no", false),
    (Some("alice"), "id1", Read, "p/alice/denied", false),
    (Some("alice"), "id1", Read, "p/bob/x", false),
    (Some("alice"), "id1", Read, "over/x", true),
    (Some("alice"), "id1", Write, "c/id1/state", true),
    (Some("alice"), "id1", Write, "c/id2/state", false),
    (Some("alice"), "id1", Write, "d/id1/alice", true),
    (Some("alice"), "id1", Read, "d/id1/alice", true),
    (Some("alice"), "id1", Read, "public/x", false),
    (Some("alice"), "id1", Write, "$custom/a", true),
    (Some("alice"), "id1", Write, "$custom/b", false),
    (Some("alice"), "id1", Write, "alice/own", true),
    (Some("bob smith"), "id3", Read, "b/with space", true),
    (Some("bob smith"), "id3", Read, "p/bob smith/x", true),
    (Some("bob smith"), "id3", Read, "over/x", false),
    (Some("carol"), "id4", Read, "everybody", true),
    (Some("carol"), "id4", Read, "a/x/y", false),
    (Some("nobody"), "id5", Read, "p/nobody/x", true),
    (Some("a+b"), "id6", Read, "everybody", false),
    (Some("hash"), "i#d", Read, "everybody", false),
];

fn file() -> AclFile {
    AclFile::parse(Path::new("acl"), FILE.as_bytes()).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

#[test]
fn the_table_is_what_we_decide() {
    let acl = file();
    for &(user, client_id, action, name, expected) in TABLE {
        assert_eq!(
            acl.allows(user, client_id, action, &topic(name)),
            expected,
            "{user:?} {client_id} {action:?} {name}"
        );
    }
}

#[test]
fn the_table_is_what_grants_say() {
    let acl = file();
    for &(user, client_id, action, name, expected) in TABLE {
        let grants = acl.grants(user, client_id);
        let found = match action {
            Read => grants.may_receive(&topic(name)),
            Write => grants.may_publish(&topic(name)),
        };
        assert_eq!(found, expected, "{user:?} {client_id} {action:?} {name}");
        assert!(grants.may_subscribe(&TopicFilter::parse("#").unwrap()), "subscribing is always allowed");
    }
}

/// Each publish of the table by its client, seen or not by a client that may all; each subscription by its client to a
/// retained message, which comes or not.
#[test]
fn the_table_is_what_mosquitto_does() {
    let lines = "user root\nallow_anonymous true\nacl_file acl\nlistener PORT 127.0.0.1\n";
    let mosquitto = Mosquitto::start(lines, &[("acl", FILE.as_bytes())]).expect("mosquitto takes the file");

    let mut watcher = mosquitto.client("mosquitto_sub", Some("root"), "watcher");
    watcher.args(["-t", "#", "-t", "$custom/#", "-q", "1"]);
    let mut seen = Seen::start(watcher);
    let say = |user: Option<&str>, client_id: &str, name: &str, payload: &str, retain: bool| {
        let mut command = mosquitto.client("mosquitto_pub", user, client_id);
        command.args(["-t", name, "-q", "1", "-m", payload]);
        assert!(command.args(retain.then_some("-r")).status().unwrap().success(), "{user:?} {name}");
    };
    // Until the watcher has subscribed it sees nothing.
    let ready = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ready.load(Ordering::Relaxed) {
                say(Some("root"), "r", "hello", "hello", false);
            }
        });
        let first = seen.payloads.next();
        ready.store(true, Ordering::Relaxed);
        assert_eq!(first.as_deref(), Some("hello"));
    });
    for (index, (user, client_id, action, name, _)) in TABLE.iter().enumerate() {
        if *action == Write {
            say(*user, client_id, name, &index.to_string(), false);
        }
    }
    say(Some("root"), "r", "end", "end", false);
    let came = seen.until_end();

    let retained: BTreeSet<&str> = TABLE.iter().filter(|row| row.2 == Read).map(|row| row.3).collect();
    for name in retained {
        say(Some("root"), "r", name, "kept", true);
    }
    say(Some("root"), "r", "marker", "end", true);
    for (index, row) in TABLE.iter().enumerate() {
        let &(user, client_id, action, name, expected) = row;
        let found = match action {
            Write => came.contains(&index.to_string()),
            Read => {
                // Retained messages come in the order of the filters: first the one in question, then the marker.
                let mut command = mosquitto.client("mosquitto_sub", user, client_id);
                command.args(["-t", name, "-t", "marker"]);
                Seen::start(command).until_end().contains("kept")
            }
        };
        assert_eq!(found, expected, "{row:?}");
    }
}

/// What a `mosquitto_sub` is sent.
struct Seen {
    child: Child,
    payloads: Box<dyn Iterator<Item = String>>,
}

impl Seen {
    fn start(mut command: Command) -> Self {
        let mut child = command.args(["-F", "%p", "-W", "60"]).stdout(Stdio::piped()).spawn().unwrap();
        let payloads = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        Self { child, payloads: Box::new(payloads) }
    }

    fn until_end(mut self) -> BTreeSet<String> {
        let mut ended = false;
        let seen = self.payloads.by_ref().take_while(|payload| {
            ended = payload == "end";
            !ended
        });
        let seen = seen.collect();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(ended, "the last message never came");
        seen
    }
}

#[test]
fn faults_are_told_with_their_place() {
    let table: &[(&str, &[&str])] = &[
        ("user\n", &["acl:1:5: 'user' has no name"]),
        ("topic\n", &["acl:1:6: 'topic' has no topic"]),
        ("pattern   \n", &["acl:1:8: 'pattern' has no topic"]),
        ("topic reed a\n", &["acl:1:7: access is read, write, readwrite or deny, not \"reed\""]),
        ("topic a b\n", &["acl:1:7: access is read, write, readwrite or deny, not \"a\""]),
        ("topic read a#\n", &["acl:1:12: \"a#\" is no topic filter: a wildcard stands where none may"]),
        (
            "allow a\n\n # x\n",
            &[
                "acl:1:1: a line begins with user, topic or pattern, not \"allow\"",
                "acl:3:2: a line begins with user, topic or pattern, not \"#\"",
            ],
        ),
        ("topic\tread a\n", &["acl:1:1: a line begins with user, topic or pattern, not \"topic\\tread\""]),
    ];
    for (text, expected) in table {
        let faults = AclFile::parse(Path::new("acl"), text.as_bytes()).map(|_| ()).expect_err(text);
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected, "{text}");
        let lines = "user root\nallow_anonymous true\nacl_file acl\nlistener PORT 127.0.0.1\n";
        assert!(Mosquitto::start(lines, &[("acl", text.as_bytes())]).is_err(), "mosquitto takes\n{text}");
    }
}

#[test]
fn odd_lines_are_told_and_used() {
    let text = "pattern read all\npattern read dev-%c/x\ntopic $share/g/t\r\npattern deny $share/%u\n\t\ntopic ok\r\n";
    let acl = AclFile::parse(Path::new("acl"), text.as_bytes()).unwrap();
    let told: Vec<_> = acl.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "acl:1:14: the pattern has neither %u nor %c, so it holds for everybody",
        "acl:2:14: %u and %c are filled in only where they are a whole level; here they stand for themselves",
        "acl:3:7: a topic that begins with $share/ belongs to subscriptions, no message has it: the line changes nothing",
        "acl:4:14: a topic that begins with $share/ belongs to subscriptions, no message has it: the line changes nothing",
    ];
    assert_eq!(told, expected);
    assert!(acl.allows(None, "x", Read, &topic("ok")) && !acl.allows(None, "x", Read, &topic("t")));
    assert!(
        acl.allows(None, "x", Read, &topic("dev-%c/x")) && !acl.allows(None, "x", Read, &topic("dev-x/x"))
    );
}

/// Names are not topics: neither a slash nor a `$` in one leads anywhere.
#[test]
fn a_name_cannot_widen_a_pattern() {
    let acl = AclFile::parse(Path::new("acl"), b"pattern readwrite %u/#\npattern read x/%c\n").unwrap();
    assert!(acl.allows(Some("ann"), "c", Write, &topic("ann/x")));
    for (user, name) in [("a/b", "a/b/x"), ("$SYS", "$SYS/x"), ("", "/x"), ("+", "ann/x"), ("#", "ann/x")] {
        assert!(!acl.allows(Some(user), "c", Write, &topic(name)), "{user}");
        assert!(!acl.grants(Some(user), "c").may_publish(&topic(name)), "{user}");
    }
    assert!(!acl.allows(None, "c/d", Read, &topic("x/c/d")));
}

fn rule() -> impl Strategy<Value = String> {
    let topic = "(a|b|\\+|\\$x|%u|%c)(/(a|b|\\+|%u|%c)){0,2}(/#)?";
    let access = prop_oneof![Just(""), Just("read "), Just("write "), Just("readwrite "), Just("deny ")];
    let keyword = prop_oneof![2 => Just("topic"), 2 => Just("pattern"), 1 => Just("user")];
    (keyword, access, topic).prop_map(|(keyword, access, topic)| match keyword {
        "user" => "user a\n".to_owned(),
        keyword => format!("{keyword} {access}{topic}\n"),
    })
}

proptest! {
    /// Grants decide as the file does.
    #[test]
    fn grants_are_what_the_file_says(
        lines in proptest::collection::vec(rule(), 0..12),
        user in prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))],
        client_id in prop_oneof![Just("a"), Just("b")],
        name in "(a|b|\\$x)(/(a|b)){0,3}",
    ) {
        let text = lines.concat();
        let acl = AclFile::parse(Path::new("acl"), text.as_bytes()).unwrap();
        let grants = acl.grants(user, client_id);
        let name = topic(&name);
        for (action, granted) in [(Read, grants.may_receive(&name)), (Write, grants.may_publish(&name))] {
            let allowed = acl.allows(user, client_id, action, &name);
            prop_assert_eq!(allowed, granted, "{} {:?}", text, action);
        }
    }

    #[test]
    fn no_file_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200), user in ".*", id in ".*") {
        if let Ok(acl) = AclFile::parse(Path::new("acl"), &content) {
            let _ = acl.grants(Some(&user), &id);
        }
    }

    #[test]
    fn no_words_make_it_panic(
        text in "((user|topic|pattern|read|deny|%u|%c|#|\\+|\\$share|/| |\\t|\\n|x){0,20}\\n){0,5}",
        user in ".{0,5}",
    ) {
        if let Ok(acl) = AclFile::parse(Path::new("acl"), text.as_bytes()) {
            let _ = acl.allows(Some(&user), &user, Read, &topic("x"));
        }
    }
}
