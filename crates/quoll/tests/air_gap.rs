//! Three machines, each with a home folder of its own, and a folder that stands for the USB stick.

#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::transcript::shape;
use support::{Home, complaint, tool, until};

/// The three machines and the stick.
struct Site {
    server: Home,
    ca: Home,
    build: Home,
    stick: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { server: Home::new(), ca: Home::new(), build: Home::new(), stick: tempfile::tempdir().unwrap() }
    }

    /// With a CA on its machine. An EC key, because it is made in no time.
    fn with_ca() -> Self {
        let site = Self::new();
        site.ca.ok(&["ca", "init", "--no-server", "--key", "ec-p256"]);
        site
    }

    fn stick(&self, file: &str) -> String {
        self.stick.path().join(file).display().to_string()
    }

    /// The server asks for this; the phrase.
    fn ask(&self, file: &str, words: &[&str]) -> String {
        let out = self.stick(file);
        let mut all = vec!["request", "--host", "127.0.0.1", "--out", &out];
        all.extend(words);
        self.server.json(&all)["phrase"].as_str().unwrap().to_owned()
    }

    fn sign(&self, file: &str) -> Value {
        self.ca.json(&["ca", "sign", &self.stick(file), "--yes"])
    }

    fn accept(&self, file: &str) -> Value {
        self.server.json(&["accept", &self.stick(file), "--yes"])
    }

    /// Asks, signs, accepts.
    fn walk(&self, name: &str, words: &[&str]) {
        self.ask(&format!("{name}.quollreq"), words);
        self.sign(&format!("{name}.quollreq"));
        self.accept(&format!("{name}.quollcert"));
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/air-gap.md")
}

/// Runs the commands of the page's `console` blocks in their machines; the page with what they said.
fn rehearse(text: &str, site: &Site) -> String {
    let mut out = String::new();
    let mut in_block = false;
    let mut phrase = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line == "```console";
        } else if in_block {
            let machines = [
                ("server$ ", Some(&site.server)),
                ("ca$ ", Some(&site.ca)),
                ("build$ ", Some(&site.build)),
                ("$ ", None),
            ];
            let Some((prompt, home, command)) =
                machines.iter().find_map(|(prompt, home)| Some((prompt, home, line.strip_prefix(prompt)?)))
            else {
                continue;
            };
            let command = with_phrase(command, &phrase);
            let said = shell(&command, *home, site);
            for line in said.lines() {
                let shown =
                    line.strip_prefix("Comparison phrase").or_else(|| line.strip_prefix("The CA's phrase"));
                if let Some(found) = shown {
                    phrase = found.trim_start_matches(':').trim().to_owned();
                }
            }
            out.push_str(&format!("{prompt}{command}\n{said}"));
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// What a person would read from the other screen.
fn with_phrase(command: &str, phrase: &str) -> String {
    match command.split_once("--phrase \"") {
        Some((before, after)) => {
            let after = after.split_once('"').unwrap().1;
            format!("{before}--phrase \"{phrase}\"{after}")
        }
        None => command.to_owned(),
    }
}

fn shell(command: &str, home: Option<&Home>, site: &Site) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{command} 2>&1")]).current_dir(site.stick.path()).stdin(Stdio::null());
    let bin = Path::new(env!("CARGO_BIN_EXE_quoll")).parent().unwrap();
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    shell.env("COLUMNS", "120").env_remove("QUOLL_PASSPHRASE_FILE").env_remove("QUOLL_LOG");
    if let Some(home) = home {
        shell.env("QUOLL_HOME", home.dir.path());
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {}", complaint(&output));
    let mut said = String::from_utf8(output.stdout).unwrap();
    for home in [&site.server, &site.ca, &site.build] {
        said = said.replace(&home.dir.path().display().to_string(), "HOME");
    }
    said.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_page_is_what_three_machines_do() {
    let text = std::fs::read_to_string(page()).unwrap();
    let site = Site::new();
    let names = "[server]\nnames = [\"mqtt.home.example\"]\naddresses = [\"192.168.1.10\"]\nhost = \"mqtt.home.example\"\n";
    std::fs::write(site.server.path("quoll.toml"), names).unwrap();
    let says = rehearse(&text, &site);
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(page(), &says).unwrap();
        return;
    }
    assert!(says.contains("Verified OK"));
    for (ours, theirs) in shape(&says).lines().zip(shape(&text).lines()) {
        assert_eq!(ours, theirs, "docs/air-gap.md is not what the program says:\n{says}");
    }
    assert_eq!(says.lines().count(), text.lines().count());
}

fn as_client(site: &Site, name: &str) -> Vec<String> {
    let folder = site.server.path("clients").join(name);
    let file = |file: &str| folder.join(file).display().to_string();
    let port = site.server.port.to_string();
    [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "--cafile",
        &file("ca.crt"),
        "--cert",
        &file(&format!("{name}.crt")),
        "--key",
        &file(&format!("{name}.key")),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn publish(site: &Site, name: &str) -> Output {
    let mut words = as_client(site, name);
    words.extend(["-V", "mqttv5", "-q", "1", "-t", "x", "-m", "y"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tool("mosquitto_pub", &words)
}

#[test]
fn a_server_without_the_cas_key_does_everything_but_sign() {
    let site = Site::with_ca();
    site.walk("first", &["--server", "--client", "alice", "--client", "bob", "--device", "kitchen"]);
    assert!(!site.server.path("pki/private/ca.key").exists());
    let keys = std::fs::read_dir(site.server.path("pki/private")).unwrap().map(|key| key.unwrap().path());
    let keys: Vec<_> = keys.chain([site.server.path("clients/alice/alice.key")]).collect();
    assert_eq!(keys.len(), 5);
    for key in keys {
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
    }
    let up = site.server.up_and_listening(&[]);
    for name in ["alice", "bob"] {
        let said = publish(&site, name);
        assert!(said.status.success(), "{}", complaint(&said));
    }
    // Revoked here: refused here at once, and the CA hears of it with the next request.
    site.server.ok(&["client", "revoke", "bob", "--reason", "keyCompromise", "--yes"]);
    assert!(!publish(&site, "bob").status.success());
    for words in [&["client", "add", "carol"][..], &["ca", "crl"], &["server", "renew"]] {
        let said = site.server.fails(3, words);
        assert!(said.contains("key is not on this machine") && said.contains("quoll request"), "{said}");
    }
    assert_eq!(site.server.json(&["ca", "show"])["valid"], 3);
    site.server.ok(&["server", "show"]);

    // The answer comes while the node runs: a new server certificate, alice out, a new list.
    let serial = site.server.json(&["server", "show"])["serial"].clone();
    let alice = site.server.json(&["client", "list"])[0]["certificate_serial"].clone();
    site.ask(
        "second.quollreq",
        &["--server", "--revoke", &format!("{}=superseded", alice.as_str().unwrap())],
    );
    let signed = site.sign("second.quollreq");
    assert_eq!((&signed["signed"], &signed["revoked"]), (&json!(1), &json!(2)), "{signed}");
    let accepted = site.accept("second.quollcert");
    assert_eq!(accepted["revoked"], json!([alice]));
    assert_eq!(accepted["crl_is_new"], true);
    assert_ne!(site.server.json(&["server", "show"])["serial"], serial);
    assert!(!publish(&site, "alice").status.success());
    let served = || {
        let address = format!("127.0.0.1:{}", site.server.port);
        let said = tool("openssl", &["s_client", "-connect", &address]).stdout;
        let mut openssl = Command::new("openssl")
            .args(["x509", "-noout", "-serial"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut openssl.stdin.take().unwrap(), &said).ok();
        String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap()
    };
    let now = site.server.json(&["server", "show"])["serial"].as_str().unwrap().to_owned();
    until(served, |served| served.contains(&now));
    let crl = site.server.path("pki/crl.pem").display().to_string();
    let text = String::from_utf8(tool("openssl", &["crl", "-in", &crl, "-noout", "-text"]).stdout).unwrap();
    assert!(text.contains("Key Compromise") && text.contains("Superseded"), "{text}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn each_refusal_has_its_exit_code_and_a_next_step() {
    let site = Site::with_ca();
    let phrase = site.ask("a.quollreq", &["--server"]);
    let file = site.stick("a.quollreq");
    let ca = |code: i32, words: &[&str], told: &str| {
        let said = site.ca.fails(code, words);
        assert!(said.contains(told) && (code == 2 || said.contains("hint:")), "{words:?}: {said}");
        assert!(!Path::new(&site.stick("a.quollcert")).exists());
        assert_eq!(site.ca.json(&["ca", "show"])["valid"], 0, "nothing was signed");
    };
    ca(9, &["ca", "sign", &site.stick("none.quollreq"), "--yes"], "no file");
    ca(10, &["ca", "sign", &file], "no terminal");
    let wrong = "0000 1111 2222 3333 4444";
    ca(10, &["ca", "sign", &file, "--phrase", wrong], &format!("this file has {phrase}"));
    ca(2, &["ca", "sign", &file, "--phrase", "hello"], "comparison phrase");
    ca(3, &["ca", "sign", &file, "--yes", "--again"], "never signed");
    ca(3, &["accept", &file], "not an answer");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(site.stick("half.quollreq"), &bytes[..bytes.len() / 2]).unwrap();
    ca(3, &["ca", "sign", &site.stick("half.quollreq"), "--yes"], "cut off");
    let bad_pass = site.ca.path("bad");
    std::fs::write(&bad_pass, "wrong\n").unwrap();
    std::fs::set_permissions(&bad_pass, std::fs::Permissions::from_mode(0o600)).unwrap();
    ca(
        5,
        &["--passphrase-file", &bad_pass.display().to_string(), "ca", "sign", &file, "--yes"],
        "passphrase",
    );
    // index.txt was written tomorrow: then today's clock is wrong.
    let index = std::fs::File::options().append(true).open(site.ca.path("pki/index.txt")).unwrap();
    index.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    ca(1, &["ca", "sign", &file, "--yes"], "by the clock");
    site.ca.ok(&["ca", "sign", &file, "--phrase", &phrase, "--clock-is-right"]);
    index.set_modified(SystemTime::now()).unwrap();

    let said = site.ca.fails(3, &["ca", "sign", &file, "--out", &site.stick("b.quollcert"), "--yes"]);
    assert!(said.contains("signed already") && said.contains("--again"), "{said}");
    let said = site.ca.fails(3, &["ca", "sign", &file, "--yes", "--again"]);
    assert!(said.contains("is there already"), "{said}");
    site.ca.ok(&["ca", "sign", &file, "--out", &site.stick("b.quollcert"), "--yes", "--again"]);
    let said = site.ca.fails(2, &["request", "--server", "--out", &site.stick("c.quollreq")]);
    assert!(said.contains("the CA is on this machine"), "{said}");

    let server = |code: i32, words: &[&str], told: &str| {
        let said = site.server.fails(code, words);
        assert!(said.contains(told) && said.contains("hint:"), "{words:?}: {said}");
        assert!(!site.server.path("pki/ca.crt").exists());
    };
    let answer = site.stick("a.quollcert");
    server(3, &["up", "--listen", "127.0.0.1:0", "--web", "off"], "waits for the answer");
    server(10, &["accept", &answer], "no terminal");
    server(10, &["accept", &answer, "--phrase", wrong], "phrases differ");
    server(3, &["accept", &file, "--yes"], "not an answer");
    server(3, &["request", "--server", "--out", &file], "is there already");
    server(2, &["request", "--revoke", "xyz", "--out", &site.stick("c.quollreq")], "no revocation");
    std::fs::write(site.stick("names.txt"), "kitchen\nkitchen\n").unwrap();
    server(
        3,
        &["request", "--devices", &site.stick("names.txt"), "--out", &site.stick("c.quollreq")],
        "line 2",
    );
    let said = site.build.fails(3, &["accept", &answer, "--yes"]);
    assert!(said.contains("not made here"), "{said}");
    // Either answer does: they are the same certificates. The other is a replay then.
    site.accept("b.quollcert");
    let said = site.server.fails(3, &["accept", &answer, "--yes"]);
    assert!(said.contains("accepted already"), "{said}");
}

#[test]
fn a_client_that_could_not_be_taken_stops_the_answer_before_it_is() {
    let site = Site::with_ca();
    site.walk("first", &["--client", "alice"]);
    let said = site.server.fails(
        3,
        &[
            "request",
            "--client",
            "alice",
            "--role",
            "observer",
            "--renew",
            "--out",
            &site.stick("x.quollreq"),
        ],
    );
    assert!(said.contains("with the role everything"), "{said}");
    let said = site.server.fails(3, &["request", "--client", "alice", "--out", &site.stick("x.quollreq")]);
    assert!(said.contains("already has a certificate"), "{said}");
    // A renewal keeps the key, and the folder gets the new certificate.
    let key = std::fs::read(site.server.path("clients/alice/alice.key")).unwrap();
    let old = std::fs::read(site.server.path("clients/alice/alice.crt")).unwrap();
    site.walk("second", &["--client", "alice", "--renew"]);
    assert_eq!(std::fs::read(site.server.path("clients/alice/alice.key")).unwrap(), key);
    assert_ne!(std::fs::read(site.server.path("clients/alice/alice.crt")).unwrap(), old);
    // Revoked while the answer was under way.
    site.ask("third.quollreq", &["--client", "alice", "--renew"]);
    site.sign("third.quollreq");
    site.server.ok(&["client", "revoke", "alice", "--yes"]);
    let said = site.server.fails(3, &["accept", &site.stick("third.quollcert"), "--yes"]);
    assert!(said.contains("revoked"), "{said}");
}

#[test]
fn a_thousand_are_signed_through_a_kill_and_none_twice() {
    const COUNT: usize = 1000;
    let site = Site::with_ca();
    let names: String = (0..COUNT).map(|at| format!("plug-{at:04}\n")).collect();
    std::fs::write(site.stick("names.txt"), format!("# the fleet\n{names}")).unwrap();
    site.ask("fleet.quollreq", &["--devices", &site.stick("names.txt")]);
    let words = ["ca", "sign", &site.stick("fleet.quollreq"), "--yes"];
    let mut sign = site.ca.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lines = || std::fs::read_to_string(site.ca.path("pki/index.txt")).unwrap().lines().count();
    until(lines, |lines| *lines > 200);
    // SIGKILL.
    sign.kill().unwrap();
    sign.wait().unwrap();
    let then = lines();
    assert!(then < COUNT, "it was killed in the middle");
    let signed = site.sign("fleet.quollreq");
    let kept = signed["signed_before"].as_u64().unwrap();
    // What was written down, and perhaps the chunk that was under way.
    assert!(kept >= then as u64, "{signed}");
    assert_eq!(signed["signed"].as_u64().unwrap() + kept, COUNT as u64);
    let index = std::fs::read_to_string(site.ca.path("pki/index.txt")).unwrap();
    let mut subjects: Vec<_> = index.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!((subjects.len(), index.lines().count()), (COUNT, COUNT));
    let accepted = site.accept("fleet.quollcert");
    assert_eq!(accepted["certificates"], COUNT);
    let pki = site.server.path("pki");
    let ca = pki.join("ca.crt").display().to_string();
    for at in [0, 1, 63, 64, 500, COUNT - 1] {
        let certificate = pki.join(format!("issued/plug-{at:04}.crt")).display().to_string();
        let verified = tool("openssl", &["verify", "-CAfile", &ca, &certificate]);
        assert!(verified.status.success(), "{}", complaint(&verified));
    }
}

#[test]
fn the_next_ca_comes_over_the_air_gap_too() {
    let site = Site::with_ca();
    site.walk("first", &["--server", "--client", "hass"]);
    site.ca.ok(&["ca", "rollover", "start"]);
    let (here, there) = (site.server.path("pki-next"), site.ca.path("pki-next"));
    let (here, there) = (here.display().to_string(), there.display().to_string());
    let (asked, answer) = (site.stick("second.quollreq"), site.stick("second.quollcert"));
    site.server.ok(&["--pki", &here, "request", "--host", "127.0.0.1", "--client", "wall", "--out", &asked]);
    let up = site.server.up_and_listening(&[]);
    site.ca.ok(&["--pki", &there, "ca", "sign", &asked, "--yes"]);
    site.server.ok(&["--pki", &here, "accept", &answer, "--yes"]);
    let rows = site.server.json(&["ca", "rollover", "status"]);
    let by = |name: &str| {
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).map(|row| row["issuer"].clone())
    };
    assert_eq!((by("hass"), by("wall")), (Some(json!("Quoll CA")), Some(json!("Quoll CA 2"))), "{rows}");
    for name in ["hass", "wall"] {
        until(|| publish(&site, name).status.success(), |let_in| *let_in);
    }
    assert_eq!(up.stop(), 0);
}
