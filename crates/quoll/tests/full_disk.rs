//! Nothing can be written, as on a full disk, and somebody has to go all the same: the running node keeps them out.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::{Command, Output, Stdio};

use support::{Home, complaint, until};

/// The program, none of whose files may grow: what the system says of every write then is an error.
fn without_room(home: &Home, words: &[&str]) -> Output {
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    let command = home.command(words);
    let mut limited = Command::new("sh");
    limited.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.stdin(Stdio::null()).output().unwrap()
}

fn client(home: &Home, program: &str, name: &str, more: &[&str]) -> Command {
    let file = |end: &str| home.path(&format!("clients/{name}/{end}"));
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &home.port.to_string(), "--cafile"]).arg(file("ca.crt"));
    command.arg("--cert").arg(file(&format!("{name}.crt"))).arg("--key").arg(file(&format!("{name}.key")));
    command.args(["-t", "test/a"]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn comes_in(home: &Home, name: &str) -> bool {
    client(home, "mosquitto_pub", name, &["-m", "x"]).status().expect("mosquitto_pub is needed").success()
}

#[test]
fn who_cannot_be_revoked_for_want_of_room_is_kept_out_by_the_running_node() {
    let home = Home::new();
    home.init();
    for name in ["alice", "bob"] {
        home.ok(&["client", "add", name]);
    }
    let up = home.up_and_listening(&[]);
    assert!(comes_in(&home, "alice") && comes_in(&home, "bob"));
    let mut listening = client(&home, "mosquitto_sub", "alice", &["-i", "listening"]).spawn().unwrap();
    until(|| is_online(&home, "alice"), |online| *online);

    let refused = without_room(&home, &["client", "revoke", "alice", "--yes"]);
    let told = complaint(&refused);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("keeps it out until it stops") && told.contains("connections ended: 1"), "{told}");
    assert!(told.contains("run the same command again"), "{told}");
    until(|| comes_in(&home, "alice"), |comes_in| !comes_in);
    assert!(comes_in(&home, "bob"), "nobody else is meant");
    let book = || std::fs::read_to_string(home.path("pki/index.txt")).unwrap();
    assert!(!book().lines().any(|line| line.starts_with('R')), "nothing was written: {}", book());
    listening.kill().unwrap();
    listening.wait().unwrap();

    // There is room again: what was begun is finished, and holds without that node.
    home.ok(&["client", "revoke", "alice", "--yes"]);
    assert!(book().lines().any(|line| line.starts_with('R') && line.ends_with("/CN=alice")), "{}", book());
    assert_eq!(up.stop(), 0);
    let up = home.up_and_listening(&[]);
    assert!(!comes_in(&home, "alice") && comes_in(&home, "bob"));
    assert_eq!(up.stop(), 0);

    // Where no node runs, nobody comes in either, and what could not be done is said as it is.
    let refused = without_room(&home, &["client", "revoke", "bob", "--yes"]);
    let told = complaint(&refused);
    assert!(!refused.status.success() && !told.contains("keeps it out") && told.contains("hint:"), "{told}");
}

#[test]
fn a_damaged_book_keeps_nobody_in() {
    let home = Home::new();
    home.init();
    for name in ["alice", "bob"] {
        home.ok(&["client", "add", name]);
    }
    let up = home.up_and_listening(&[]);
    assert!(comes_in(&home, "alice"));
    let whole = std::fs::read(home.path("pki/index.txt")).unwrap();
    std::fs::write(home.path("pki/index.txt"), [&whole[..], b"V\t3610"].concat()).unwrap();
    let told = home.fails(4, &["client", "revoke", "alice", "--yes"]);
    assert!(told.contains("keeps it out") && told.contains("the line is cut off"), "{told}");
    assert!(!comes_in(&home, "alice") && comes_in(&home, "bob"));
    std::fs::write(home.path("pki/index.txt"), whole).unwrap();
    assert!(!comes_in(&home, "alice"), "a book that is whole again does not let it in");
    home.ok(&["client", "revoke", "alice", "--yes"]);
    assert!(!comes_in(&home, "alice") && comes_in(&home, "bob"));
    assert_eq!(up.stop(), 0);
}

/// Whether the node has a connection of this name.
fn is_online(home: &Home, name: &str) -> bool {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(home.path("quoll.sock")).unwrap();
    stream.write_all(b"{\"ask\":\"status\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let status: serde_json::Value = serde_json::from_str(&line).unwrap();
    status["connections"].as_array().unwrap().iter().any(|one| one["name"] == name)
}
