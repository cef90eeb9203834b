//! Dynamic security: what the file means, what the plugin makes of it, and what goes into grants.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use proptest::prelude::*;
use quoll_mqtt::{TopicFilter, TopicName};

use super::super::acl_file::Action::{self, Read, Write};
use super::super::dynamic_security::DynamicSecurity;
use super::super::password_file::Answer;
use super::counterpart::{Mosquitto, program};

/// Hash of "adminpw", made by mosquitto_ctrl.
const PASSWORD: &str = r#""salt":"xToxLwvJbhiEtrYR","iterations":101,
"password":"aa6NTxet7DBrINEVWpUttMw8wpiVKbWhfgnfeJjk34UBKdXvPXO+FTQO9E3+knF7LIXDEDTCc6rK2JbRqGgk1g==""#;

/// In the form that mosquitto_ctrl and the plugin write.
fn file() -> String {
    r##"{
"defaultACLAccess": {"publishClientSend":false,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
"clients": [
  {"username":"admin","textname":"all",PASSWORD,"roles":[{"rolename":"all"}]},
  {"username":"bob",PASSWORD,"roles":[{"rolename":"first","priority":5},{"rolename":"second","priority":9}]},
  {"username":"eve","disabled":true,PASSWORD,"roles":[{"rolename":"all"}]},
  {"username":"tied","clientid":"only",PASSWORD,"roles":[]},
  {"username":"mute","roles":[{"rolename":"gone"}]}
],
"groups": [
  {"groupname":"low","roles":[{"rolename":"open"}],"clients":[{"username":"bob","priority":1}]},
  {"groupname":"high","roles":[{"rolename":"shut"}],"clients":[{"username":"bob","priority":2}]},
  {"groupname":"guests","roles":[{"rolename":"guest"}]}
],
"anonymousGroup":"guests",
"roles": [
  {"rolename":"all","acls":[
    {"acltype":"publishClientSend","topic":"#","allow":true},
    {"acltype":"subscribePattern","topic":"#","allow":true}]},
  {"rolename":"first","acls":[
    {"acltype":"publishClientSend","topic":"a/b","allow":true},
    {"acltype":"publishClientSend","topic":"f/#","allow":true}]},
  {"rolename":"second","acls":[
    {"acltype":"publishClientSend","topic":"a/#","priority":1,"allow":true},
    {"acltype":"publishClientSend","topic":"a/c","priority":2,"allow":false},
    {"acltype":"publishClientSend","topic":"f/no","allow":false},
    {"acltype":"subscribeLiteral","topic":"l/x","allow":true},
    {"acltype":"subscribePattern","topic":"p/+","allow":true},
    {"acltype":"subscribePattern","topic":"q/#","allow":true},
    {"acltype":"publishClientReceive","topic":"q/secret","allow":false}]},
  {"rolename":"open","acls":[{"acltype":"publishClientSend","topic":"g/#","allow":true}]},
  {"rolename":"shut","acls":[{"acltype":"publishClientSend","topic":"g/no","allow":false}]},
  {"rolename":"guest","acls":[{"acltype":"publishClientSend","topic":"hello","allow":true}]}
]}"##
    .replace("PASSWORD", PASSWORD)
}

fn security() -> DynamicSecurity {
    DynamicSecurity::parse(file().as_bytes()).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

#[rustfmt::skip]
const PUBLISHES: &[(Option<&str>, &str, bool)] = &[
    (Some("admin"), "any/thing", true),
    (Some("bob"), "a/b", true),
    (Some("bob"), "a/c", false),
    (Some("bob"), "a/d/e", true),
    (Some("bob"), "f/x", true),
    (Some("bob"), "f/no", false),
    (Some("bob"), "g/x", true),
    (Some("bob"), "g/no", false),
    (Some("bob"), "h", false),
    (None, "hello", true),
    (None, "a/b", false),
];

#[rustfmt::skip]
const SUBSCRIPTIONS: &[(Option<&str>, &str, bool)] = &[
    (Some("admin"), "#", true),
    (Some("bob"), "l/x", true),
    (Some("bob"), "l/+", false),
    (Some("bob"), "p/x", true),
    (Some("bob"), "p/+", true),
    (Some("bob"), "p/#", false),
    (Some("bob"), "q/x", true),
    (Some("bob"), "#", false),
    (None, "hello", false),
];

#[test]
fn the_tables_are_what_we_decide_and_what_grants_say() {
    let security = security();
    for &(user, name, expected) in PUBLISHES {
        assert_eq!(security.allows(user, "id", Write, &topic(name)), expected, "{user:?} {name}");
        assert_eq!(security.grants(user, "id").may_publish(&topic(name)), expected, "{user:?} {name}");
    }
    for &(user, wanted, expected) in SUBSCRIPTIONS {
        assert_eq!(security.may_subscribe(user, "id", &filter(wanted)), expected, "{user:?} {wanted}");
        assert_eq!(security.grants(user, "id").may_subscribe(&filter(wanted)), expected, "{user:?} {wanted}");
    }
    let grants = security.grants(Some("bob"), "id");
    assert!(grants.may_receive(&topic("q/x")) && !grants.may_receive(&topic("q/secret")));
    assert!(!security.allows(Some("bob"), "id", Read, &topic("q/secret")));
    assert!(!security.allows(Some("stranger"), "id", Read, &topic("x")));
    assert!(!security.allows(Some("admin"), "i+", Write, &topic("x")), "a name that looks like a wildcard");
    assert!(!security.allows(None, "id", Read, &topic("$CONTROL/x")), "the default never reaches $CONTROL");
    assert_eq!(security.warnings, ["client \"mute\" has the role \"gone\", which is not there"]);
}

#[test]
fn a_client_needs_its_password_and_its_client_id() {
    let security = security();
    let table = [
        ("admin", "x", "adminpw", Answer::Right),
        ("admin", "x", "wrong", Answer::Wrong),
        ("eve", "x", "adminpw", Answer::Wrong),
        ("tied", "x", "adminpw", Answer::Wrong),
        ("tied", "only", "adminpw", Answer::Right),
        ("mute", "x", "", Answer::Wrong),
        ("stranger", "x", "adminpw", Answer::Unknown),
    ];
    for (name, id, password, expected) in table {
        assert_eq!(security.verify(name, id, password.as_bytes()), expected, "{name} {id}");
    }
}

#[test]
fn the_tables_are_what_the_plugin_does() {
    let plugin = program("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so");
    let lines = format!(
        "user root\nallow_anonymous true\nlistener PORT 127.0.0.1\nplugin {}\nplugin_opt_config_file d.json\n",
        plugin.display()
    );
    // 2.0 ends at a role that is not there.
    let json = file().replace(r#"{"rolename":"gone"}"#, "");
    let mosquitto =
        Mosquitto::start(&lines, &[("d.json", json.as_bytes())]).expect("the plugin takes the file");
    let client = |name: &str, user: Option<&str>, id: &str| {
        let mut command = mosquitto.client(name, user, id);
        command.args(user.map(|_| ["-P", "adminpw"]).into_iter().flatten());
        command
    };
    let say = |user: Option<&str>, name: &str, payload: &str| {
        // Each retained, so that what came is there to be asked for.
        let mut command = client("mosquitto_pub", user, "say");
        assert!(command.args(["-t", name, "-q", "1", "-r", "-m", payload]).status().unwrap().success());
    };
    for (index, (user, name, _)) in PUBLISHES.iter().enumerate() {
        say(*user, name, &index.to_string());
    }
    say(Some("admin"), "zz/end", "end");
    let mut watcher = client("mosquitto_sub", Some("admin"), "watch");
    watcher.args(["-t", "#", "-t", "zz/end", "-F", "%t %p", "-W", "20"]).stdout(Stdio::piped());
    let mut watcher = watcher.spawn().unwrap();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The end comes twice: once for each filter.
    let mut ends = 0;
    let came: Vec<String> = lines
        .take_while(|line| {
            ends += usize::from(line == "zz/end end");
            ends < 2
        })
        .collect();
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    for (index, (user, name, expected)) in PUBLISHES.iter().enumerate() {
        assert_eq!(came.contains(&format!("{name} {index}")), *expected, "{user:?} {name}");
    }
    for (user, wanted, expected) in SUBSCRIPTIONS {
        // It succeeds either way, and says what SUBACK said.
        let mut command = client("mosquitto_sub", *user, "sub");
        let output = command.args(["-t", wanted, "-d", "-E", "-W", "20"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let granted = said.lines().find_map(|line| line.strip_prefix("Subscribed (mid: 1): ")).expect(&said);
        assert_eq!(granted == "0", *expected, "{user:?} {wanted}: {granted}");
    }
}

#[test]
fn faults_are_told() {
    let table = [
        ("{", "line 1, column 1: EOF while parsing an object"),
        ("{\"roles\": [\n {}]}", "line 2, column 3: missing field `rolename`"),
        (
            r#"{"clients":[{"username":"u","encoded_password":"clear"}]}"#,
            "client \"u\": this is no hash of the forms $6$, $7$ or $argon2id$; a password in the clear?",
        ),
    ];
    for (text, expected) in table {
        let error = DynamicSecurity::parse(text.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn what_the_plugin_passes_over_is_passed_over_and_told() {
    let text = r##"{"roles":[{"rolename":"r","acls":[{"acltype":"publishClientSend","topic":"a#","allow":true},
        {"acltype":"dance","topic":"a"},{"acltype":"PUBLISHclientSEND","topic":"b","allow":true}]},
        {"rolename":"r"}, {"rolename":""}], "groups":[{"groupname":"g","clients":[{"username":"nobody"}]}],
        "clients":[{"username":"u","roles":[{"rolename":"r","priority":1e9}]}], "anonymousGroup":"gone"}"##;
    let security = DynamicSecurity::parse(text.as_bytes()).unwrap();
    let expected = [
        "role \"r\": \"a#\" is no topic filter and fits nothing",
        "role \"r\": nothing is known of the acltype \"dance\"",
        "the role \"r\" is there twice; the first one counts",
        "a role without a name is left out",
        "group \"g\" has the client \"nobody\", which is not there",
        "the anonymous group \"gone\" is not there",
    ];
    assert_eq!(security.warnings, expected);
    assert!(security.allows(Some("u"), "id", Write, &topic("b")));
    assert!(DynamicSecurity::parse(b"").unwrap().warnings.is_empty(), "an empty file says nothing");
}

/// Read, written and read again it says the same.
#[test]
fn what_is_written_is_what_was_read() {
    let once = DynamicSecurity::parse(file().as_bytes()).unwrap().to_json();
    let twice = DynamicSecurity::parse(once.as_bytes()).unwrap();
    assert!(twice.warnings.is_empty());
    assert_eq!(twice.to_json(), once);
    for (user, name, expected) in PUBLISHES {
        assert_eq!(twice.allows(*user, "id", Write, &topic(name)), *expected, "{user:?} {name}");
    }
    assert_eq!(twice.verify("admin", "x", b"adminpw"), Answer::Right);
}

fn rule() -> impl Strategy<Value = String> {
    let about = prop_oneof![
        Just("publishClientSend"),
        Just("publishClientReceive"),
        Just("subscribeLiteral"),
        Just("subscribePattern"),
    ];
    (about, "(a|b|\\+|\\$x|%u)(/(a|b|\\+|%c)){0,2}(/#)?", 0..3, any::<bool>()).prop_map(
        |(about, topic, priority, allow)| {
            format!(r#"{{"acltype":"{about}","topic":"{topic}","priority":{priority},"allow":{allow}}}"#)
        },
    )
}

proptest! {
    /// Grants, compiled, decide as the rules do.
    #[test]
    fn grants_say_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..8),
        defaults in any::<[bool; 3]>(),
        name in "(a|b|\\$x)(/(a|b)){0,3}",
        wanted in "(a|b|\\+|\\$x)(/(a|b|\\+)){0,2}(/#)?",
        wildcards in any::<bool>(),
    ) {
        let [send, receive, subscribe] = defaults;
        let text = format!(
            r#"{{"defaultACLAccess":{{"publishClientSend":{send},"publishClientReceive":{receive},"subscribe":{subscribe}}},
            "clients":[{{"username":"a","roles":[{{"rolename":"r"}}]}}],
            "roles":[{{"rolename":"r","allowwildcardsubs":{wildcards},"acls":[{}]}}]}}"#,
            rules.join(",")
        );
        let security = DynamicSecurity::parse(text.as_bytes()).unwrap();
        let grants = security.grants(Some("a"), "b");
        let (name, wanted) = (topic(&name), filter(&wanted));
        let allows = |action: Action| security.allows(Some("a"), "b", action, &name);
        prop_assert_eq!(allows(Write), grants.may_publish(&name), "{}", text);
        prop_assert_eq!(allows(Read), grants.may_receive(&name), "{}", text);
        let may = security.may_subscribe(Some("a"), "b", &wanted);
        prop_assert_eq!(may, grants.may_subscribe(&wanted), "{}", text);
    }

    #[test]
    fn no_file_makes_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = DynamicSecurity::parse(&content);
    }
}
