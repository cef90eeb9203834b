//! What clients left with the broker outlives the node, however it ends; and a state that cannot be used is refused.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::{Home, Up, complaint, free_port, tool};

#[test]
fn sessions_messages_and_retained_states_outlive_a_stop_and_a_kill() {
    let home = Home::new();
    home.init();
    let plain = free_port().to_string();
    let listen = format!("127.0.0.1:{plain}");
    let start = || home.up_and_listening(&["--plain", &listen, "--allow-anonymous"]);
    let reach = ["-h", "127.0.0.1", "-p", &plain];
    let told = |program: &str, words: &[&str]| {
        let output = tool(program, &[&reach[..], words].concat());
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), complaint(&output))
    };
    let listener = ["-i", "hall", "-c", "-q", "2", "-t", "news/#"];
    let up = start();
    assert!(told("mosquitto_sub", &[&listener[..], &["-E"]].concat()).0);
    let mut up = Some(up);
    for (round, end) in [|up: Up| assert_eq!(up.stop(), 0), Up::kill].into_iter().enumerate() {
        let text = format!("round {round}");
        for words in [["-q", "2", "-t", "news/x", "-m", &text], ["-q", "1", "-t", "lamp", "-m", &text]] {
            let (is_done, _, why) = told("mosquitto_pub", &[&words[..], &["-r"]].concat());
            assert!(is_done, "{why}");
        }
        end(up.take().unwrap());
        up = Some(start());
        let (_, heard, why) = told("mosquitto_sub", &[&listener[..], &["-C", "1", "-W", "20"]].concat());
        assert_eq!(heard.trim(), text, "{why}");
        let (_, kept, why) = told("mosquitto_sub", &["-t", "lamp", "-C", "1", "-W", "20", "-F", "%r %p"]);
        assert_eq!(kept.trim(), format!("1 {text}"), "{why}");
    }
    assert_eq!(up.unwrap().stop(), 0);
    let mode = std::fs::metadata(home.path("broker.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_state_is_refused_with_what_to_do_and_is_left_as_it_is() {
    let home = Home::new();
    home.init();
    let damaged = "no database, whatever its name says ".repeat(200);
    std::fs::write(home.path("broker.db"), &damaged).unwrap();
    let listen = format!("127.0.0.1:{}", home.port);
    let said = home.fails(3, &["up", "--listen", &listen, "--web", "off"]);
    assert!(said.contains("broker.db is damaged") && said.contains(".recover"), "{said}");
    assert_eq!(std::fs::read_to_string(home.path("broker.db")).unwrap(), damaged);
}
