//! docs/first-device.md is run as it stands, with a virtual device in the place of the real one.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Firmware, VirtualDevice, VirtualProfile};
use support::{Home, Up, complaint, free_port};

/// Words with a digit differ from machine to machine: addresses, ids, versions. Blanks are columns.
fn masked(line: &str) -> String {
    let mask =
        |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".into() } else { word.to_owned() };
    line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ")
}

/// The commands of the page, each with what it is said to say.
fn commands(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => found.push((command.to_owned(), Vec::new())),
                None => found.last_mut().unwrap().1.push(masked(line)),
            }
        }
    }
    found
}

fn shell(home: &Home, line: &str) -> Command {
    let mut shell = Command::new("sh");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_quoll")).parent().unwrap();
    shell.args(["-c", &format!("exec {line}")]).current_dir(home.dir.path()).stdin(Stdio::null());
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    shell.env("QUOLL_HOME", home.dir.path());
    for name in ["QUOLL_PASSPHRASE_FILE", "QUOLL_LOG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"] {
        shell.env_remove(name);
    }
    shell
}

#[test]
fn the_first_device_is_there_as_the_page_says_in_under_five_minutes() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/first-device.md");
    let page = std::fs::read_to_string(page).unwrap();
    let home = Home::new();
    // This machine's loopback in the place of the page's network; the ports are free ones.
    let toml = format!(
        "[server]\nnames = [\"mqtt\"]\naddresses = [\"127.0.0.1\"]\nhost = \"127.0.0.1\"\n\
         [listen]\nmqtts = [\"127.0.0.1:{}\"]\npinned = [\"127.0.0.1:{}\"]\n",
        home.port,
        free_port()
    );
    std::fs::write(home.path("quoll.toml"), toml).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let device = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mac = Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5]);
        let profile = VirtualProfile {
            version: "15.5.0".into(),
            pace: 0.3,
            ..VirtualProfile::new(Chip::Esp32, Firmware::Stock, mac)
        };
        VirtualDevice::start(profile, listener).unwrap()
    });
    let at = device.http_addr().to_string();
    let begun = Instant::now();
    let mut commands = commands(&page).into_iter();
    let (up, says) = commands.next().unwrap();
    assert_eq!(up, "quoll up");
    let mut up = Up::of(shell(&home, "quoll up --web off"));
    up.wait_for(|line| line.starts_with("Devices connect to"));
    let heard: Vec<String> = up
        .heard
        .iter()
        .map(|line| masked(&line.replace(&home.dir.path().display().to_string(), "HOME")))
        .collect();
    assert_eq!(heard, says);
    for (command, says) in commands {
        let output =
            shell(&home, &format!("{} 2>&1", command.replace("192.168.1.41", &at))).output().unwrap();
        assert!(output.status.success(), "{command}: {}", complaint(&output));
        if says.is_empty() {
            continue;
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let said: Vec<String> = text.lines().map(masked).collect();
        assert_eq!(said, says, "{command}");
    }
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    assert_eq!(up.stop(), 0);
    drop(device);
}
