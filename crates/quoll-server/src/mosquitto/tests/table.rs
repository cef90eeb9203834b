//! The table, and the page that is made from it.

use super::super::documentation;
use super::super::options::{Answer, Kind, Opt, Scope, canonical, find};
use super::super::table::OPTIONS;
use super::{read, told};

#[test]
fn the_page_of_options_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mosquitto-options.md");
    let page = documentation();
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/mosquitto-options.md is not what the table says (QUOLL_BLESS=1 writes it anew)"
    );
}

#[test]
fn the_table_has_each_of_mosquittos_options_once() {
    assert_eq!(OPTIONS.len(), 140);
    for option in OPTIONS {
        let (found, _) = find(option.name).expect(option.name);
        assert!(std::ptr::eq(found, option), "{} is there twice", option.name);
        let (row, _) = find(canonical(option.name)).expect(option.name);
        assert_eq!(row.kind, option.kind, "{} and its other name differ", option.name);
    }
}

/// A row that says "read" and that nobody asks for would be a lie in the documentation.
#[test]
fn what_the_table_calls_read_is_asked_for() {
    let rooms = concat!(
        include_str!("../read.rs"),
        include_str!("../global.rs"),
        include_str!("../listener.rs"),
        include_str!("../tls.rs"),
        include_str!("../bridge.rs"),
        include_str!("../log.rs"),
    );
    for option in OPTIONS.iter().filter(|option| option.answer == Answer::Read) {
        let name = format!("\"{}\"", canonical(option.name));
        assert!(rooms.contains(&name), "nobody asks for {name}");
    }
}

#[test]
fn every_option_is_read_ignored_or_refused_as_its_row_says() {
    for option in OPTIONS {
        let name = option.name.replace('*', "acl_file");
        let line = format!("{name} {}\n", sample(option));
        let text = match option.scope {
            Scope::Bridge if canonical(option.name) == "address" => format!("connection c\ntopic #\n{line}"),
            Scope::Bridge => format!("connection c\naddress a\ntopic #\n{line}"),
            Scope::Plugin if option.kind == Kind::Flag => {
                format!("plugin mosquitto_acl_file.so\nplugin_opt_acl_file x\n{line}")
            }
            Scope::Plugin => format!("plugin mosquitto_acl_file.so\n{line}"),
            _ => match option.name {
                "certfile" => format!("listener 1\nkeyfile x\n{line}"),
                "keyfile" => format!("listener 1\ncertfile x\n{line}"),
                "cafile" | "capath" => format!("listener 1\ncertfile x\nkeyfile x\n{line}"),
                "connection" => format!("{line}address x\ntopic #\n"),
                "plugin" | "auth_plugin" | "global_plugin" | "plugin_load" => {
                    format!("{line}plugin_opt_acl_file x\n")
                }
                "plugin_use" => {
                    format!("plugin_load x mosquitto_acl_file.so\nplugin_opt_acl_file x\nlistener 1\n{line}")
                }
                "bridge_certfile" | "bridge_keyfile" | "include_dir" => continue,
                "per_listener_settings" => line,
                _ => format!("listener 1\n{line}"),
            },
        };
        if matches!(option.name, "bridge_certfile" | "bridge_keyfile") {
            continue;
        }
        let result = read(&text);
        let (faults, warnings) = match &result {
            Ok(configuration) => (Vec::new(), told(&configuration.warnings)),
            Err(complaints) => (told(complaints), Vec::new()),
        };
        match option.answer {
            Answer::Refused(why) | Answer::RefusedIf(_, why) => {
                assert!(faults.iter().any(|fault| fault.ends_with(why)), "{text}{faults:?}");
            }
            Answer::Ignored(why) | Answer::IgnoredIf(_, why) => {
                assert!(
                    warnings.iter().any(|warning| warning.ends_with(why)),
                    "{text}{faults:?}{warnings:?}"
                );
            }
            Answer::Read => assert!(faults.is_empty(), "{text}{faults:?}"),
        }
    }
}

fn sample(option: &Opt) -> String {
    if let Answer::IgnoredIf(value, _) | Answer::RefusedIf(value, _) = option.answer {
        return value.to_owned();
    }
    match option.kind {
        Kind::Flag => "true".to_owned(),
        Kind::Number { min, .. } => min.to_string(),
        Kind::Word(words) => words[0].to_owned(),
        Kind::Name if option.name == "connection" => "c".to_owned(),
        Kind::Name => "/usr/lib/mosquitto_acl_file.so".to_owned(),
        Kind::NameAndPath => "x mosquitto_acl_file.so".to_owned(),
        Kind::Listener => "1883".to_owned(),
        Kind::Topic => "a in".to_owned(),
        Kind::Period => "1d".to_owned(),
        Kind::Restart => "5".to_owned(),
        Kind::TcpKeepalive => "1 2 3".to_owned(),
        Kind::Versions => "3,4,5".to_owned(),
        Kind::LogDestination => "stderr".to_owned(),
        Kind::Text { .. } | Kind::Secret | Kind::Addresses | Kind::Anything => "x".to_owned(),
    }
}
