//! `quoll mosquitto`: a real Mosquitto in a folder of its own, set up, refreshed, and put back where something fails.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use support::{Home, free_port, tool, until};

/// A Mosquitto's folder, and the command that starts it anew; it ends with the test.
struct Folder {
    dir: tempfile::TempDir,
    port: u16,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), port: free_port() };
        fs::create_dir(folder.path("conf.d")).unwrap();
        let dir = folder.dir.path().display();
        folder.write("mosquitto.conf", &format!("user root\npid_file {dir}/pid\ninclude_dir {dir}/conf.d\n"));
        // What somebody has already: a listener, a database, a bridge.
        let other = free_port();
        folder.write(
            "conf.d/home.conf",
            &format!(
                "per_listener_settings true\nlistener {other} 127.0.0.1\nallow_anonymous true\npersistence true\n\
                 persistence_location {dir}/\nconnection cloud\naddress 127.0.0.1:1\ntopic # out 0\n"
            ),
        );
        folder.write(
            "restart.sh",
            &format!(
                "cd {dir}\nif [ -f pid ]; then p=$(cat pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.05; done; fi\n\
                 rm -f pid\nmosquitto -d -c {dir}/mosquitto.conf || exit 1\n\
                 for i in $(seq 200); do [ -s pid ] && exit 0; sleep 0.05; done; exit 1\n"
            ),
        );
        folder
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    fn write(&self, inside: &str, text: &str) {
        fs::write(self.path(inside), text).unwrap();
    }

    /// The words of a setup on loopback.
    fn setup(&self, more: &[&str]) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        let port = self.port.to_string();
        let mut words = ["mosquitto", "setup", "--dir", &dir, "--user", "root", "--port", &port]
            .map(str::to_owned)
            .to_vec();
        words.extend(["--bind", "127.0.0.1"].map(str::to_owned));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    fn restart(&self) -> String {
        format!("PATH=$PATH:/usr/sbin sh {}", self.path("restart.sh").display())
    }

    /// Every file with its mode and content, without what the broker itself writes and without backups.
    fn seen(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if ["quoll-backup", "pid", "mosquitto.db"].iter().any(|name| path.ends_with(name)) {
                    continue;
                }
                let mode = mode(&path);
                let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                if path.is_dir() {
                    folders.push(path.clone());
                }
                seen.insert(path, (mode, content));
            }
        }
        seen
    }

    /// Whether a client gets in.
    fn lets_in(&self, home: &Home, client: Option<&str>) -> bool {
        let port = self.port.to_string();
        let ca = home.path("pki/ca.crt").display().to_string();
        let file =
            |name: &str, end: &str| home.path(&format!("clients/{name}/{name}.{end}")).display().to_string();
        let mut words: Vec<String> =
            ["-h", "127.0.0.1", "-p", &port, "--cafile", &ca, "-t", "x", "-q", "1", "-n"]
                .map(str::to_owned)
                .to_vec();
        if let Some(name) = client {
            words.extend(["--cert".into(), file(name, "crt"), "--key".into(), file(name, "key")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        tool("mosquitto_pub", &words).status.success()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.path("pid")) {
            tool("kill", &["-KILL", pid.trim()]);
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn a_mosquitto_is_set_up_proven_and_refreshed() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);
    home.ok(&["client", "add", "bob"]);
    let folder = Folder::new();
    let before = folder.seen();

    let shown = home.ok(&words(&folder.setup(&["--dry-run"])));
    assert!(shown.contains("quoll.conf") && shown.contains("mosquitto_pub"), "{shown}");
    assert_eq!(folder.seen(), before, "a dry run changes nothing");
    home.fails(10, &words(&folder.setup(&[])));
    assert_eq!(folder.seen(), before, "nor does what was not confirmed");

    let restart = folder.restart();
    let done = home.json(&words(&folder.setup(&["--yes", "--reload-command", &restart])));
    assert_eq!(done["proven"], true);
    assert!(folder.lets_in(&home, Some("alice")) && folder.lets_in(&home, Some("bob")));
    assert!(!folder.lets_in(&home, None), "nobody without a certificate");
    let folder_mode = if rustix::process::geteuid().is_root() { 0o500 } else { 0o700 };
    assert_eq!(mode(&folder.path("certs")), folder_mode);
    let key = fs::read_dir(folder.path("certs")).unwrap().map(|entry| entry.unwrap().path());
    let key = key.filter(|path| path.extension().is_some_and(|end| end == "key")).collect::<Vec<_>>();
    assert_eq!(key.len(), 1);
    assert_eq!(mode(&key[0]), 0o400);
    assert_eq!(
        fs::read(folder.path("ca_certificates/quoll-ca.crt")).unwrap(),
        fs::read(home.path("pki/ca.crt")).unwrap()
    );
    let left: Vec<_> =
        folder.seen().into_keys().filter(|path| path.display().to_string().contains("trial")).collect();
    assert!(left.is_empty(), "{left:?}");

    // The certificate of the proof is revoked, here and there.
    let index = fs::read_to_string(home.path("pki/index.txt")).unwrap();
    let proof = index.lines().find(|line| line.contains("quoll-proof-")).unwrap();
    assert!(proof.starts_with('R'), "{proof}");
    let crl = folder.path("ca_certificates/quoll-crl.pem").display().to_string();
    let text = String::from_utf8(tool("openssl", &["crl", "-in", &crl, "-noout", "-text"]).stdout).unwrap();
    assert!(text.contains(proof.split('\t').nth(3).unwrap()), "{text}");

    // Revocation there needs no restart: SIGHUP to the process of pid_file.
    home.ok(&["client", "revoke", "bob", "--yes"]);
    let dir = folder.dir.path().display().to_string();
    let refresh = ["mosquitto", "refresh", "--dir", &dir, "--user", "root", "--client", "alice"];
    let done = home.run(&refresh);
    assert!(done.status.success(), "{}", support::complaint(&done));
    assert!(String::from_utf8_lossy(&done.stderr).contains("until its connection ends"));
    until(|| folder.lets_in(&home, Some("bob")), |bob| !bob);
    assert!(folder.lets_in(&home, Some("alice")));
    assert_eq!(home.json(&refresh)["changed"], false, "nothing is new");
}

#[test]
fn what_fails_leaves_mosquitto_as_it_was() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);

    // Somebody else has the port.
    let folder = Folder::new();
    let before = folder.seen();
    let taken = std::net::TcpListener::bind(("127.0.0.1", folder.port)).unwrap();
    let said = home.fails(6, &words(&folder.setup(&["--yes", "--client", "alice"])));
    assert!(said.contains(&folder.port.to_string()) && said.contains("--port"), "{said}");
    assert_eq!(folder.seen(), before);
    drop(taken);

    // Another file of the configuration has it.
    folder.write("conf.d/old.conf", &format!("listener {}\n", folder.port));
    let said = home.fails(6, &words(&folder.setup(&["--yes", "--client", "alice"])));
    assert!(said.contains("old.conf"), "{said}");

    // The old configuration is damaged.
    folder.write("conf.d/old.conf", "listenre 1883\n");
    let before = folder.seen();
    let said = home.fails(3, &words(&folder.setup(&["--yes", "--client", "alice"])));
    assert!(said.contains("listenre") && said.contains("nothing was changed"), "{said}");
    assert_eq!(folder.seen(), before);
    fs::remove_file(folder.path("conf.d/old.conf")).unwrap();

    // It cannot be restarted: new files go, old ones come back, one under our name, too.
    folder.write("conf.d/quoll.conf", "# mine\n");
    let before = folder.seen();
    let said =
        home.fails(1, &words(&folder.setup(&["--yes", "--client", "alice", "--reload-command", "exit 7"])));
    assert!(said.contains("put back as it was"), "{said}");
    assert_eq!(folder.seen(), before);
    assert!(folder.path("quoll-backup").exists(), "and a copy is kept");

    // Nobody can restart it: the files are there, and the exit code says that a person is needed.
    let said = home.fails(4, &words(&folder.setup(&["--yes", "--client", "alice", "--no-reload"])));
    assert!(said.contains("restart Mosquitto"), "{said}");
    assert!(folder.path("certs").exists());
}

#[test]
fn listeners_that_let_everybody_in_go_on_doing_so() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);
    let folder = Folder::new();
    let dir = folder.dir.path().display().to_string();
    // As Debian's comes: no listener at all.
    fs::remove_file(folder.path("conf.d/home.conf")).unwrap();
    let shown = home.run(&words(&folder.setup(&["--dry-run"])));
    let told = support::complaint(&shown);
    assert!(shown.status.success() && told.contains("localhost:1883"), "{told}");
    assert!(told.contains("conf.d/local.conf") && !told.contains("go on letting"), "{told}");

    // A home of devices without certificates, in a folder of their own.
    let other = free_port();
    fs::create_dir(folder.path("more.d")).unwrap();
    folder.write("more.d/home.conf", &format!("listener {other} 127.0.0.1\nallow_anonymous true\n"));
    let main = fs::read_to_string(folder.path("mosquitto.conf")).unwrap();
    folder.write("mosquitto.conf", &format!("{main}include_dir {dir}/more.d\n"));
    let taken: Vec<String> = folder
        .setup(&["--dry-run"])
        .into_iter()
        .map(|word| if word == folder.port.to_string() { other.to_string() } else { word })
        .collect();
    assert!(home.fails(6, &words(&taken)).contains("more.d/home.conf"), "its port is seen");
    let restart = folder.restart();
    let done = home.run(&words(&folder.setup(&["--yes", "--client", "alice", "--reload-command", &restart])));
    let told = support::complaint(&done);
    assert!(done.status.success() && told.contains("go on letting everybody in"), "{told}");
    assert!(!told.contains("localhost:1883"), "{told}");
    assert!(folder.lets_in(&home, Some("alice")) && !folder.lets_in(&home, None));
    let port = other.to_string();
    let plain = tool("mosquitto_pub", &["-h", "127.0.0.1", "-p", &port, "-t", "x", "-q", "1", "-n"]);
    assert!(plain.status.success(), "a device without a certificate: {}", support::complaint(&plain));
    let refresh = ["mosquitto", "refresh", "--dir", &dir, "--user", "root", "--client", "alice"];
    assert_eq!(home.json(&refresh)["changed"], false, "nothing is new");
}

#[test]
fn without_mosquittos_clients_quolls_own_proves_it() {
    let home = Home::new();
    home.init();
    let folder = Folder::new();
    // All that the restart needs, and no mosquitto_pub.
    let bin = folder.path("bin");
    fs::create_dir(&bin).unwrap();
    for program in ["sh", "cat", "kill", "sleep", "seq", "rm"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{program}"), bin.join(program)).unwrap();
    }
    let restart = folder.restart();
    let setup = folder.setup(&["--yes", "--reload-command", &restart, "--output", "json"]);
    let done = home.command(&words(&setup)).env("PATH", &bin).output().unwrap();
    assert!(done.status.success(), "{}", support::complaint(&done));
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["proven"], true);
    let index = fs::read_to_string(home.path("pki/index.txt")).unwrap();
    assert!(index.lines().find(|line| line.contains("quoll-proof-")).unwrap().starts_with('R'));
}

#[test]
fn a_mosquitto_lets_both_cas_in_during_a_rollover_and_what_a_killed_run_left_is_swept() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);
    let folder = Folder::new();
    let restart = folder.restart();
    home.ok(&words(&folder.setup(&["--yes", "--reload-command", &restart])));
    home.ok(&["ca", "rollover", "start"]);
    home.ok(&["client", "add", "late"]);
    assert!(!folder.lets_in(&home, Some("late")), "Mosquitto knows the old CA alone");

    // As SIGKILL leaves it: a trial with its broker, the key of a proof, and a certificate that is good for its day.
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    let pid = dead.id();
    dead.wait().unwrap();
    let trial = folder.path(&format!(".quoll-trial-{pid}"));
    fs::create_dir(&trial).unwrap();
    let conf = trial.join("mosquitto.conf");
    fs::write(&conf, "# of a trial\n").unwrap();
    let mut broker = std::process::Command::new("sh")
        .args(["-c", "read -r end; true", "mosquitto", "-c"])
        .arg(&conf)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let proof = home.path(&format!(".mosquitto-proof-{pid}"));
    fs::create_dir(&proof).unwrap();
    fs::write(proof.join("client.key"), "a key").unwrap();
    let made = home.json(&["ca", "issue", "quoll-proof-1", "--profile", "client", "--days", "1"]);

    let dir = folder.dir.path().display().to_string();
    let refreshed =
        home.run(&["mosquitto", "refresh", "--dir", &dir, "--user", "root", "--reload-command", &restart]);
    assert!(refreshed.status.success(), "{}", support::complaint(&refreshed));
    assert!(!trial.exists() && !proof.exists());
    assert!(!broker.wait().unwrap().success(), "it was ended");
    let index = fs::read_to_string(home.path("pki/index.txt")).unwrap();
    let line = index.lines().find(|line| line.contains(made["serial"].as_str().unwrap())).unwrap();
    assert!(line.starts_with('R'), "{line}");
    until(|| folder.lets_in(&home, Some("late")), |late| *late);
    assert!(folder.lets_in(&home, Some("alice")), "and those of the old CA");
    home.ok(&["client", "revoke", "late", "--yes"]);
    home.ok(&["mosquitto", "refresh", "--dir", &dir, "--user", "root", "--reload-command", &restart]);
    until(|| folder.lets_in(&home, Some("late")), |late| !late);
}
