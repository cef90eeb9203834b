//! Dynamic security whole: mosquitto_ctrl, Mosquitto's clients and the file, with `quoll broker` behind them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::Up;
use support::complaint;
use support::folder::Folder;

const PLUGIN: &str = "allow_anonymous true\nplugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so\n\
                      plugin_opt_config_file d.json\n";
const TOPIC: &str = "$CONTROL/dynamic-security/v1";

/// A folder with the file that mosquitto_ctrl makes, whose administrator's password is "adminpw".
fn prepared() -> Folder {
    let folder = Folder::with(PLUGIN);
    let made =
        run(Command::new("mosquitto_ctrl").args(["dynsec", "init", "d.json", "admin", "adminpw"]), &folder);
    assert!(made.status.success(), "{}", complaint(&made));
    folder
}

fn run(command: &mut Command, folder: &Folder) -> Output {
    let output = command.current_dir(folder.dir.path()).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("mosquitto_ctrl is needed: {error}; scripts/setup installs it"))
}

/// `mosquitto_ctrl dynsec`, and what it said but for its warning of plain connections.
fn ctrl(folder: &Folder, password: &str, words: &[&str]) -> String {
    let port = folder.port.to_string();
    let mut command = Command::new("mosquitto_ctrl");
    command.args(["-h", "127.0.0.1", "-p", &port, "-u", "admin", "-P", password, "dynsec"]).args(words);
    let output = run(&mut command, folder);
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    let warns = |line: &&str| {
        line.starts_with("Warning: You are") || line.starts_with("This means all") || line.is_empty()
    };
    said.lines().filter(|line| !warns(line)).collect::<Vec<_>>().join("\n")
}

/// Says commands, and waits for the answers.
fn say(folder: &Folder, commands: &Value) -> Value {
    let message = json!({ "commands": commands }).to_string();
    let response = format!("{TOPIC}/response");
    let words = ["-u", "admin", "-P", "adminpw", "-t", TOPIC, "-e", &response, "-W", "30", "-m", &message];
    let output = folder.client("mosquitto_rr", &words);
    assert!(output.status.success(), "{}", complaint(&output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["responses"].take()
}

#[test]
fn mosquitto_ctrl_does_all_it_can() {
    let folder = prepared();
    let mut up = folder.start();
    // What it says to each.
    let table: &[(&str, &str)] = &[
        (
            "getDefaultACLAccess",
            "publishClientSend    : deny\npublishClientReceive : allow\nsubscribe            : deny\n\
                                 unsubscribe          : allow",
        ),
        ("createRole r", ""),
        ("createRole r", "createRole: Error: Role already exists"),
        ("addRoleACL r publishClientSend a/# allow 5", ""),
        ("addRoleACL r subscribePattern a/# allow", ""),
        ("addRoleACL r subscribeLiteral a/no deny", ""),
        ("removeRoleACL r subscribeLiteral a/no", ""),
        ("removeRoleACL r subscribeLiteral a/no", "removeRoleACL: Error: ACL not found"),
        (
            "getRole r",
            "Rolename: r\nACLs:     publishClientSend    : allow : a/# (priority: 5)\n\
                       \u{20}         subscribePattern     : allow : a/# (priority: 0)",
        ),
        ("listRoles", "admin\nr"),
        ("createGroup g", ""),
        ("addGroupRole g r 3", ""),
        ("getGroup g", "Groupname: g\nRoles:     r (priority: 3)"),
        ("listGroups 1 0", "g"),
        ("createClient u -c id -p secret", ""),
        ("addGroupClient g u 7", ""),
        ("addClientRole u r 2", ""),
        ("getClient u", "Username: u\nClientid: id\nRoles:    r (priority: 2)\nGroups:   g (priority: 7)"),
        ("listClients", "admin\nu"),
        ("setClientId u other", ""),
        ("setClientPassword u changed", ""),
        ("disableClient u", ""),
        (
            "getClient u",
            "Username: u\nClientid: other\nDisabled: true\nRoles:    r (priority: 2)\nGroups:   g (priority: 7)",
        ),
        ("enableClient u", ""),
        ("removeClientRole u r", ""),
        ("removeGroupClient g u", ""),
        ("removeGroupRole g r", ""),
        ("setAnonymousGroup g", ""),
        ("getAnonymousGroup", "g"),
        ("deleteGroup g", "deleteGroup: Error: Deleting the anonymous group is forbidden"),
        ("deleteRole r", ""),
        ("deleteClient u", ""),
        ("deleteClient u", "deleteClient: Error: Client not found"),
        // That of 2.0 leaves out what is to be set; it is answered all the same.
        ("setDefaultACLAccess unsubscribe deny", ""),
    ];
    for (words, expected) in table {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(ctrl(&folder, "adminpw", &words), *expected, "{words:?}");
    }
    up.wait_for(|line| line.contains("/admin | setClientPassword | username=u | password=******"));
    let file: Value = serde_json::from_slice(&std::fs::read(folder.path("d.json")).unwrap()).unwrap();
    assert_eq!((&file["anonymousGroup"], &file["changeIndex"]), (&json!("g"), &json!(21)));
    let mode = std::fs::metadata(folder.path("d.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "hashes are for nobody else: {mode:o}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_is_changed_holds_at_once_and_outlives_the_broker() {
    let folder = prepared();
    let mut up = folder.start();
    let made = say(
        &folder,
        &json!([
            { "command": "createRole", "rolename": "r", "acls": [{ "acltype": "subscribePattern", "topic": "t/#", "allow": true }] },
            { "command": "createClient", "username": "u", "password": "secret", "roles": [{ "rolename": "r" }] },
        ]),
    );
    assert_eq!(made, json!([{ "command": "createRole" }, { "command": "createClient" }]));
    let mut subscriber = folder.stays(&mut up, "id", &["-u", "u", "-P", "secret", "-V", "5"]);
    let publish = |text: &str| assert!(folder.publishes(&["-t", "t/x", "-q", "1", "-m", text]));
    let allow = |what: &str, allow: bool| {
        let rules = json!([{ "acltype": what, "allow": allow }]);
        say(&folder, &json!([{ "command": "setDefaultACLAccess", "acls": rules }]))
    };
    // Nobody comes again for these, and yet they hold for the next message.
    publish("denied");
    allow("publishClientSend", true);
    publish("allowed");
    allow("publishClientReceive", false);
    publish("not for you");
    allow("publishClientReceive", true);
    publish("end");
    subscriber.wait_for(|line| line == "end");
    assert_eq!(subscriber.heard, ["allowed", "end"]);
    let known = say(&folder, &json!([{ "command": "getClient", "username": "u" }]));
    assert_eq!(known[0]["data"]["client"]["connections"], json!([{ "address": "127.0.0.1" }]));
    // For this it has to come again.
    say(
        &folder,
        &json!([{ "command": "addRoleACL", "rolename": "r", "acltype": "publishClientSend", "topic": "no", "allow": false }]),
    );
    up.wait_for(|line| line.ends_with("Client id been disconnected by administrative action."));
    let mut again = folder.stays(&mut up, "id", &["-u", "u", "-P", "secret", "-V", "5"]);
    say(&folder, &json!([{ "command": "setClientPassword", "username": "u", "password": "other" }]));
    up.wait_for(|line| line.ends_with("Client id been disconnected by administrative action."));
    again.exit_code();
    let as_u = |password: &str| folder.publishes(&["-u", "u", "-P", password, "-t", "t/x", "-m", "x"]);
    assert!(as_u("other") && !as_u("secret"));
    // Only whose role says so may say commands.
    let command = r#"{"commands":[{"command":"deleteClient","username":"u"}]}"#;
    folder.client("mosquitto_pub", &["-u", "u", "-P", "other", "-q", "1", "-t", TOPIC, "-m", command]);
    assert_eq!(ctrl(&folder, "adminpw", &["listClients"]), "admin\nu");
    say(&folder, &json!([{ "command": "disableClient", "username": "u" }]));
    assert!(!as_u("other"));
    assert_eq!(up.stop(), 0);
    let up = folder.start();
    assert!(!as_u("other"));
    say(&folder, &json!([{ "command": "enableClient", "username": "u" }]));
    assert!(as_u("other"));
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_cannot_be_saved_is_not_done_and_the_answer_says_so() {
    let folder = prepared();
    std::fs::create_dir(folder.path("there")).unwrap();
    std::fs::copy(folder.path("d.json"), folder.path("there/d.json")).unwrap();
    folder.configure(&PLUGIN.replace("d.json", "there/d.json"));
    let mut up = folder.start();
    std::fs::rename(folder.path("there"), folder.path("away")).unwrap();
    let said =
        say(&folder, &json!([{ "command": "listRoles" }, { "command": "createRole", "rolename": "r" }]));
    assert_eq!(said[1], json!({ "command": "createRole", "error": "Internal error" }));
    assert!(said[0]["data"].is_object());
    up.wait_for(|line| line.contains("Error saving Dynamic security plugin config: there/d.json"));
    std::fs::rename(folder.path("away"), folder.path("there")).unwrap();
    assert_eq!(ctrl(&folder, "adminpw", &["listRoles"]), "admin");
    assert_eq!(ctrl(&folder, "adminpw", &["createRole", "r"]), "");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_file_that_is_not_there_is_made_with_an_administrator() {
    let folder = Folder::with(PLUGIN);
    let start = |folder: &Folder, environment: Option<&str>| {
        let mut command = folder.command(&["broker", "-c", "mosquitto.conf"]);
        command.env_remove("MOSQUITTO_DYNSEC_PASSWORD");
        if let Some(password) = environment {
            command.env("MOSQUITTO_DYNSEC_PASSWORD", password);
        }
        Up::of(command)
    };
    let begin_anew = || std::fs::remove_file(folder.path("d.json")).unwrap();
    // To look is to change nothing.
    let output = folder.run(&["broker", "-c", "mosquitto.conf", "--test-config"]);
    assert!(
        output.status.success() && complaint(&output).contains("it is not there"),
        "{}",
        complaint(&output)
    );
    assert!(!folder.path("d.json").exists());

    let mut up = start(&folder, None);
    up.wait_for(|line| line.ends_with(" running"));
    let passwords = std::fs::read_to_string(folder.path("d.json.pw")).unwrap();
    let mode = std::fs::metadata(folder.path("d.json.pw")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = |name: &str| {
        let mut lines = passwords.lines();
        lines.find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    assert_eq!(ctrl(&folder, &password("admin "), &["listClients"]), "admin\ndemoclient");
    assert!(folder.publishes(&["-u", "democlient", "-P", &password("democlient "), "-t", "any", "-m", "x"]));
    assert!(!folder.publishes(&["-u", "democlient", "-P", "wrong", "-t", "any", "-m", "x"]));
    assert_eq!(up.stop(), 0);

    begin_anew();
    let mut up = start(&folder, Some("twelve or more"));
    up.wait_for(|line| line.ends_with(" running"));
    assert_eq!(ctrl(&folder, "twelve or more", &["listClients"]), "admin");
    assert_eq!(up.stop(), 0);

    begin_anew();
    folder.write("first", "from the file  \nnot this\n");
    folder.configure(&format!("{PLUGIN}plugin_opt_password_init_file first\n"));
    let mut up = start(&folder, Some("short"));
    up.wait_for(|line| line.ends_with(" running"));
    assert_eq!(ctrl(&folder, "from the file", &["listClients"]), "admin");
    assert_eq!(up.stop(), 0);

    begin_anew();
    folder.configure(PLUGIN);
    let mut up = start(&folder, Some("short"));
    up.wait_for(|line| line.contains("MOSQUITTO_DYNSEC_PASSWORD must be at least 12 characters"));
    assert_eq!(up.exit_code(), 3);
    assert!(!folder.path("d.json").exists());
}
