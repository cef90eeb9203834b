//! A folder with a mosquitto.conf, `quoll broker` run in it, and Mosquitto's clients.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::{Up, complaint, free_port, shared, tool};

/// A folder with a configuration, readable by the account that a broker started as root changes to.
pub(crate) struct Folder {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { dir, port: free_port() }
    }

    /// A listener on this machine and these lines.
    pub(crate) fn with(lines: &str) -> Self {
        let folder = Self::new();
        folder.configure(lines);
        folder
    }

    pub(crate) fn configure(&self, lines: &str) {
        self.write("mosquitto.conf", format!("listener {} 127.0.0.1\nuser root\n{lines}", self.port));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, name: &str) {
        self.write(name, std::fs::read(shared(from)).unwrap());
    }

    /// The fixture's CA, server certificate and decrypted key, and the client `name`'s certificate and key.
    pub(crate) fn with_fixture(self, client: &str) -> Self {
        self.copy("fixtures/easyrsa-pki/ca.crt", "ca.crt");
        self.copy("fixtures/easyrsa-pki/issued/mqtt.myorg.com.crt", "server.crt");
        self.decrypt("private/mqtt.myorg.com.key", "server.key");
        self.copy(&format!("fixtures/easyrsa-pki/issued/{client}.crt"), "client.crt");
        self.decrypt(&format!("private/{client}.key"), "client.key");
        self
    }

    pub(crate) fn decrypt(&self, key: &str, name: &str) {
        let key = shared("fixtures/easyrsa-pki").join(key).display().to_string();
        let out = self.path(name).display().to_string();
        let done = tool("openssl", &["pkey", "-in", &key, "-passin", "pass:test", "-out", &out]);
        assert!(done.status.success(), "{}", complaint(&done));
        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quoll"));
        command.args(words).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in ["QUOLL_HOME", "QUOLL_LOG", "NOTIFY_SOCKET", "MOSQUITTO_PERSISTENCE_LOCATION"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub(crate) fn start(&self) -> Up {
        let mut up = Up::of(self.command(&["broker", "-c", "mosquitto.conf", "-v"]));
        up.wait_for(|line| line.ends_with(" running"));
        up
    }

    /// Runs mosquitto_pub or mosquitto_sub against this broker.
    pub(crate) fn client(&self, program: &str, words: &[&str]) -> Output {
        Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(words)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program} is needed: {error}; scripts/setup installs it"))
    }

    pub(crate) fn publishes(&self, words: &[&str]) -> bool {
        self.client("mosquitto_pub", words).status.success()
    }

    /// What a subscriber gets of retained messages within a second.
    pub(crate) fn hears(&self, words: &[&str]) -> String {
        let output = self.client("mosquitto_sub", &[words, &["-W", "1", "-v"]].concat());
        let mut lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(", ")
    }

    /// A client that stays; the broker has said that it is there.
    pub(crate) fn stays(&self, up: &mut Up, client_id: &str, words: &[&str]) -> Up {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-i", client_id, "-t", "t/#"]);
        let client = Up::of({
            command.args(words).current_dir(self.dir.path()).stdin(Stdio::null());
            command
        });
        up.wait_for(|line| line.contains(&format!("{client_id} 0 t/#")));
        client
    }

    pub(crate) fn password(&self, user: &str, password: &str) {
        self.write("typed", format!("{password}\n"));
        let create: &[&str] = if self.path("passwords").exists() { &[] } else { &["-c"] };
        let words = [&["passwd", "--password-file", "typed"], create, &["passwords", user]].concat();
        let output = self.run(&words);
        assert!(output.status.success(), "{}", complaint(&output));
    }
}
