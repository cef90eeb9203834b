//! `quoll broker`: options of mosquitto.conf, each seen from outside; with Mosquitto beside it where its version has them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::folder::Folder;
use support::{PATIENCE, Up, complaint, free_port, until};

const OPEN: &str = "allow_anonymous true\n";

/// Debian's Mosquitto in the same folder, with the same lines, on a port of its own.
fn rival(folder: &Folder, lines: &str) -> (Up, u16) {
    let port = free_port();
    folder.write("rival.conf", format!("listener {port} 127.0.0.1\nuser root\n{lines}"));
    let mut command = Command::new("mosquitto");
    command.args(["-c", "rival.conf", "-v"]).current_dir(folder.dir.path()).stdin(Stdio::null());
    let mut up = Up::of(command);
    up.wait_for(|line| line.ends_with(" running"));
    (up, port)
}

/// What becomes of a CONNECT, in the words of Mosquitto's client.
fn connect(port: u16, words: &[&str]) -> String {
    let output = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "t", "-n"])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("mosquitto_pub is needed: {error}; scripts/setup installs it"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { "in".to_owned() } else { said.lines().next().unwrap_or("out").to_owned() }
}

/// The return code for a CONNECT of 3.1.1 without an identifier.
fn nameless(port: u16) -> u8 {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0").unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..3], [0x20, 2, 0]);
    answer[3]
}

fn reload(up: &mut Up) {
    up.signal("-HUP");
    up.wait_for(|line| line.contains("Config reloaded"));
}

/// Asks over HTTP; status, content type, body. Several may be asked on one connection.
struct Browser(BufReader<TcpStream>);

impl Browser {
    fn at(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket))
    }

    fn ask(&mut self, request: &str) -> (u16, String, Vec<u8>) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        let (mut kind, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("Content-Type", value)) => kind = value.to_owned(),
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; if request.starts_with("HEAD") { 0 } else { length }];
        self.0.read_exact(&mut body).unwrap();
        (status, kind, body)
    }

    fn get(&mut self, path: &str) -> (u16, String, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }

    fn json(&mut self, path: &str) -> Value {
        let (status, kind, body) = self.get(path);
        assert_eq!((status, kind.as_str()), (200, "application/json"), "{path}");
        serde_json::from_slice(&body).unwrap()
    }
}

#[test]
fn client_ids_need_the_prefix_as_with_mosquitto_and_a_hangup_changes_it() {
    let lines = format!("{OPEN}clientid_prefixes ok-\n");
    let folder = Folder::with(&lines);
    let (mut up, (_rival, theirs)) = (folder.start(), rival(&folder, &lines));
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for (id, is_in) in [("ok-1", true), ("ok-", true), ("ok", false), ("OK-1", false), ("1ok-", false)] {
            let words = ["-V", version, "-i", id];
            let ours = connect(folder.port, &words);
            assert_eq!(ours, connect(theirs, &words), "{version} {id}");
            assert_eq!(ours == "in", is_in, "{version} {id}: {ours}");
        }
    }
    // One that is made here begins with auto-.
    assert_eq!((nameless(folder.port), nameless(theirs)), (5, 5));
    let mut kept = folder.stays(&mut up, "ok-2", &[]);
    folder.configure(&format!("{OPEN}clientid_prefixes new-\nauto_id_prefix new-x-\n"));
    reload(&mut up);
    assert_ne!(connect(folder.port, &["-i", "ok-1"]), "in");
    assert_eq!(connect(folder.port, &["-i", "new-1"]), "in");
    assert_eq!(nameless(folder.port), 0);
    up.wait_for(|line| line.contains("Client ok-2 disconnected, not authorised."));
    kept.signal("-TERM");
    kept.exit_code();
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_site_shows_figures_listeners_version_and_files() {
    let folder = Folder::new();
    let site = free_port();
    std::fs::create_dir(folder.path("www")).unwrap();
    folder.write("www/index.html", "<p>status");
    folder.write("www/large.bin", vec![7; 300_000]);
    folder.write("secret.txt", "s");
    folder.configure(&format!(
        "{OPEN}sys_interval 1\nlistener {site} 127.0.0.1\nprotocol http_api\nhttp_dir www\nmax_connections 8\n"
    ));
    let mut up = folder.start();
    let mut browser = Browser::at(site);
    assert_eq!(browser.json("/api/v1/version")["version"], "2.1.2");
    let listeners = browser.json("/api/v1/listeners");
    let brief: Vec<_> =
        listeners["listeners"].as_array().unwrap().iter().map(|it| (&it["port"], &it["protocol"])).collect();
    assert_eq!(
        brief,
        [(&json!(folder.port), &json!("mqtt")), (&json!(site), &json!("http_api"))],
        "{listeners}"
    );
    let _client = folder.stays(&mut up, "somebody", &[]);
    let figures =
        until(|| browser.json("/api/v1/systree"), |figures| figures["$SYS/broker/clients/connected"] == 1);
    assert!(figures["$SYS/broker/version"].as_str().unwrap().contains("2.1.2"), "{figures}");
    assert!(figures["$SYS/broker/load/connections/1min"].is_number(), "{figures}");
    for (path, status, kind, length) in [
        ("/", 200, "text/html; charset=utf-8", 9),
        ("/index.html?x=1", 200, "text/html; charset=utf-8", 9),
        ("/large.bin", 200, "application/octet-stream", 300_000),
        ("/nothing", 404, "text/plain; charset=utf-8", 30),
        ("/../secret.txt", 404, "text/plain; charset=utf-8", 30),
        ("/%2e%2e/secret.txt", 404, "text/plain; charset=utf-8", 30),
        ("/api/v1/clients", 404, "text/plain; charset=utf-8", 30),
    ] {
        let (got, its_kind, body) = browser.get(path);
        assert_eq!((got, its_kind.as_str()), (status, kind), "{path}");
        assert!(if status == 200 { body.len() == length } else { body.len() < 60 }, "{path}: {}", body.len());
    }
    assert_eq!(browser.ask("HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\n").0, 200);
    assert_eq!(browser.ask("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n").0, 405);
    let mut rest = Vec::new();
    browser.0.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "who asks for what there is not is told, and goes");
    // MQTT is not spoken there, and HTTP is not where MQTT is.
    assert_eq!(Browser::at(site).ask("\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\r\n\r\n").0, 400);
    // Passwords and permissions guard it where there are some.
    folder.password("ann", "right");
    folder.write("acl", "user ann\ntopic read $SYS/broker/clients/#\n");
    folder.configure(&format!(
        "{OPEN}password_file passwords\nacl_file acl\nsys_interval 1\nlistener {site} 127.0.0.1\nprotocol http_api\n"
    ));
    reload(&mut up);
    let mut browser = Browser::at(site);
    let with = |credentials: &str| {
        format!("GET /api/v1/systree HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {credentials}\r\n\r\n")
    };
    // ann:wrong, ann:right.
    assert_eq!(browser.ask(&with("YW5uOndyb25n")).0, 401);
    let (status, _, body) = browser.ask(&with("YW5uOnJpZ2h0"));
    let figures: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200);
    let topics: Vec<&String> = figures.as_object().unwrap().keys().collect();
    assert!(
        !topics.is_empty() && topics.iter().all(|it| it.starts_with("$SYS/broker/clients/")),
        "{topics:?}"
    );
    assert_eq!(browser.get("/index.html").0, 404, "there is no http_dir any more");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_site_speaks_tls_with_the_listeners_certificate() {
    let folder = Folder::new().with_fixture("tasmota_garage");
    let site = free_port();
    folder.configure(&format!(
        "{OPEN}sys_interval 0\nlistener {site} 127.0.0.1\nprotocol http_api\ncertfile server.crt\nkeyfile server.key\n"
    ));
    let up = folder.start();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{site}"), "-CAfile", "ca.crt"])
        .current_dir(folder.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl is needed: {error}"));
    let mut asks = client.stdin.take().unwrap();
    asks.write_all(b"GET /api/v1/systree HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    client.wait().unwrap();
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\n{}\n"), "{said}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn the_control_api_tells_of_listeners_and_plugins_to_those_who_may_ask() {
    let folder = Folder::with(&format!(
        "{OPEN}enable_control_api true\nplugin mosquitto_acl_file.so\nplugin_opt_acl_file acl\n"
    ));
    folder.write("acl", "topic readwrite t/#\nuser ann\ntopic readwrite $CONTROL/broker/#\n");
    let up = folder.start();
    let ask = |words: &[&str], message: &str| {
        let rr = ["-t", "$CONTROL/broker/v1", "-e", "$CONTROL/broker/v1/response", "-m", message];
        folder.client("mosquitto_rr", &[words, &rr].concat())
    };
    let commands = json!({ "commands": [
        { "command": "listPlugins", "correlationData": "a" },
        { "command": "listlisteners" },
        { "command": "dropTables" },
        7,
        { "command": "listPlugins" },
    ]});
    let output = ask(&["-u", "ann", "-W", "30"], &commands.to_string());
    assert!(output.status.success(), "{}", complaint(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let listener = json!({
        "port": folder.port, "protocol": "mqtt", "tls": false, "bind-address": "127.0.0.1",
        "require-certificate": false, "allow-anonymous": true,
    });
    assert_eq!(
        said,
        json!({ "responses": [
            { "command": "listPlugins", "data": { "plugins": [{ "name": "acl-file" }] }, "correlationData": "a" },
            { "command": "listlisteners", "data": { "listeners": [listener] } },
            { "command": "dropTables", "error": "Unknown command" },
            { "command": "Unknown command", "error": "Command not an object" },
        ]})
    );
    let output = ask(&["-u", "ann", "-W", "30"], "no json");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["responses"][0]["error"], "Payload not valid JSON");
    // Who may not publish there hears nothing.
    assert!(ask(&["-W", "1"], &commands.to_string()).stdout.is_empty());
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_hangup_begins_and_ends_the_figures_and_quiet_goes_before_loud() {
    let folder = Folder::with(&format!("{OPEN}sys_interval 0\n"));
    let mut up = folder.start();
    let uptime = ["-t", "$SYS/broker/uptime", "-C", "1", "-W", "30"];
    folder.configure(&format!("{OPEN}sys_interval 1\n"));
    reload(&mut up);
    let told = folder.client("mosquitto_sub", &uptime);
    assert!(String::from_utf8_lossy(&told.stdout).ends_with(" seconds\n"), "{}", complaint(&told));
    // What is told once more is told because of the interval; what was retained is said first.
    let mut later = uptime;
    later[3] = "3";
    let told = folder.client("mosquitto_sub", &later);
    assert_eq!(String::from_utf8_lossy(&told.stdout).lines().count(), 3, "{}", complaint(&told));
    folder.configure(&format!("{OPEN}sys_interval 0\n"));
    reload(&mut up);
    let mut fresh = vec!["-R", "-W", "3"];
    fresh.extend(&uptime[..4]);
    let told = folder.client("mosquitto_sub", &fresh);
    assert!(told.stdout.is_empty(), "nothing new is told: {}", complaint(&told));
    assert_eq!(up.stop(), 0);
    let quiet = Up::of(folder.command(&["broker", "-c", "mosquitto.conf", "-v", "-q"]));
    until(|| TcpStream::connect(("127.0.0.1", folder.port)).is_ok(), |listens| *listens);
    quiet.signal("-TERM");
    let mut quiet = quiet;
    assert_eq!(quiet.exit_code(), 0);
    assert_eq!(quiet.rest(), Vec::<String>::new());
}

#[test]
fn sessions_expire_with_the_line_that_mosquitto_says() {
    let folder = Folder::with(&format!("{OPEN}persistent_client_expiration 1s\n"));
    let mut up = folder.start();
    let left = folder.client("mosquitto_sub", &["-i", "gone", "-c", "-q", "1", "-t", "t", "-E"]);
    assert!(left.status.success(), "{}", complaint(&left));
    up.wait_for(|line| line.ends_with("Expiring client gone due to timeout."));
    assert_eq!(up.stop(), 0);
}

/// A text with its numbers, however large, all the same.
fn form(text: &str) -> String {
    let mut form = text.replace(|c: char| c.is_ascii_digit(), "0");
    while form.contains("00") {
        form = form.replace("00", "0");
    }
    form
}

/// Names under `$SYS` that a subscriber is told, and what the last of each said.
fn told(port: u16) -> BTreeMap<String, String> {
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "$SYS/#", "-F", "%t=%p", "-W", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("mosquitto_sub is needed: {error}; scripts/setup installs it"));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

#[test]
fn every_name_that_mosquitto_has_under_sys_is_here_in_the_same_form() {
    let lines = format!("{OPEN}sys_interval 1\n");
    let folder = Folder::with(&lines);
    let (up, (_rival, port)) = (folder.start(), rival(&folder, &lines));
    // Loads are told with the second update.
    let theirs = until(|| told(port), |told| told.contains_key("$SYS/broker/load/connections/15min"));
    assert!(theirs.len() > 40, "{theirs:?}");
    let ours = until(|| told(folder.port), |ours| theirs.keys().all(|name| ours.contains_key(name)));
    for (name, text) in &theirs {
        assert!(
            name.ends_with("/version") || form(text) == form(&ours[name]),
            "{name}: {text} {}",
            ours[name]
        );
    }
    for name in ["packet/out/count", "packet/out/bytes", "connections/socket/count", "clients/expired"] {
        let text = &ours[&format!("$SYS/broker/{name}")];
        assert!(text.parse::<u64>().is_ok(), "{name}: {text}");
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn lines_of_the_log_that_are_published_have_their_time_as_with_mosquitto() {
    let lines = format!("{OPEN}log_dest topic\nlog_timestamp_format at %Y\n");
    let folder = Folder::new();
    let mut heard = Vec::new();
    let rival_port = free_port();
    for (file, port) in [("mosquitto.conf", folder.port), ("rival.conf", rival_port)] {
        folder.write(file, format!("listener {port} 127.0.0.1\nuser root\n{lines}"));
        let mut command = if file == "rival.conf" {
            Command::new("mosquitto")
        } else {
            let mut command = folder.command(&["broker"]);
            command.env("TZ", "UTC");
            command
        };
        command.args(["-c", file]).current_dir(folder.dir.path()).env("TZ", "UTC").stdin(Stdio::null());
        let broker = Up::of(command);
        until(|| TcpStream::connect(("127.0.0.1", port)).is_ok(), |listens| *listens);
        let mut listener = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "$SYS/broker/log/N", "-v", "-C", "6"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto_sub is needed: {error}; scripts/setup installs it"));
        // When it has subscribed cannot be seen; three lines are said of each that comes.
        until(
            || (connect(port, &["-i", "late"]), listener.try_wait().unwrap()),
            |(_, ended)| ended.is_some(),
        );
        let mut said = String::new();
        listener.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let line = said.lines().find(|line| line.contains(" as late ")).unwrap_or_else(|| panic!("{said}"));
        heard.push(form(line));
        broker.signal("-TERM");
    }
    assert!(heard[0].starts_with("$SYS/broker/log/N at 0"), "{heard:?}");
    assert_eq!(heard[0], heard[1]);
}

#[test]
fn what_mosquittos_command_line_has_and_this_one_has_not_is_refused_in_words() {
    let folder = Folder::with(OPEN);
    let output = folder.run(&["broker", "-c", "mosquitto.conf", "--tls-keylog", "keys"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--tls-keylog is not there"),
        "{}",
        complaint(&output)
    );
    assert!(!folder.path("keys").exists());
}

#[test]
fn subscriptions_and_retained_messages_are_written_to_the_log_when_asked_for() {
    let folder = Folder::with(&format!("{OPEN}sys_interval 1\n"));
    let mut up = folder.start();
    let _client = folder.stays(&mut up, "somebody", &["-t", "t/x"]);
    assert!(
        folder.publishes(&["-t", "t/x", "-m", "1", "-r"])
            && folder.publishes(&["-t", "other", "-m", "1", "-r"])
    );
    up.signal("-USR2");
    up.wait_for(|line| line.ends_with("Subscriptions: 2 filters of 1 sessions; 2 retained messages (r)"));
    let lines: Vec<String> =
        (0..3).map(|_| up.wait_for(|line| line.contains(": (r)") || line.contains(" (q0"))).collect();
    for (line, expected) in lines.iter().zip(["other: (r)", "t/#: somebody (q0)", "t/x: (r), somebody (q0)"])
    {
        assert!(line.ends_with(expected), "{lines:?}");
    }
    assert_eq!(up.stop(), 0);
}

/// A CA, and certificates of these subjects, each in files of its name.
fn certificates(folder: &Folder, subjects: &[(&str, &str)]) {
    let openssl = |words: &str| {
        let output = Command::new("openssl")
            .args(words.split(' '))
            .current_dir(folder.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("openssl is needed: {error}"));
        assert!(output.status.success(), "{words}: {}", complaint(&output));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=ca"));
    folder.write("extensions", "subjectAltName=IP:127.0.0.1\n");
    for (number, (name, subject)) in subjects.iter().enumerate() {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj {subject}"));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -set_serial {} -out {name}.crt -days 30 -extfile extensions",
            number + 1
        ));
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(folder.path(&format!("{name}.key")), readable).unwrap();
    }
}

#[test]
fn certificates_give_names_as_with_mosquitto() {
    let folder = Folder::new();
    certificates(&folder, &[("server", "/CN=server"), ("ann", "/O=Home/CN=ann"), ("nobody", "/O=Home")]);
    folder.password("bob", "right");
    let tls = "cafile ca.crt\ncertfile server.crt\nkeyfile server.key\n";
    for options in [
        "allow_anonymous true\nrequire_certificate true\nuse_identity_as_username true\n",
        "allow_anonymous true\nuse_identity_as_username true\n",
        "allow_anonymous true\nrequire_certificate true\nuse_subject_as_username true\n",
        "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n",
        "require_certificate true\nuse_identity_as_username true\npassword_file passwords\n",
        "require_certificate true\npassword_file passwords\n",
    ] {
        let lines = format!("{tls}{options}");
        folder.configure(&lines);
        let (mut ours, (mut theirs, port)) = (folder.start(), rival(&folder, &lines));
        for version in ["mqttv31", "mqttv311", "mqttv5"] {
            for (client, password) in
                [("ann", "right"), ("ann", "wrong"), ("nobody", "right"), ("none", "right")]
            {
                let path = |end: &str| folder.path(&format!("{client}.{end}")).display().to_string();
                let (ca, certificate, key) =
                    (folder.path("ca.crt").display().to_string(), path("crt"), path("key"));
                let mut words = vec!["-V", version, "-i", "me", "-u", "bob", "-P", password, "--cafile", &ca];
                if client != "none" {
                    words.extend(["--cert", &certificate, "--key", &key]);
                }
                let (here, there) = (connect(folder.port, &words), connect(port, &words));
                let case = format!("{options}{version} {client} {password}: {here} / {there}");
                // Who has to have a certificate is refused by TLS, in whatever words.
                let by_tls = client == "none" && options.contains("require_certificate");
                assert!(if by_tls { here != "in" && there != "in" } else { here == there }, "{case}");
                if here == "in" {
                    let [here, there] = [&mut ours, &mut theirs].map(|up| {
                        let line = up.wait_for(|line| line.contains("New client connected"));
                        line.split_once(" as ").map(|(_, who)| who.to_owned()).unwrap_or_default()
                    });
                    assert_eq!(here, there, "{case}");
                }
            }
        }
        assert_eq!(ours.stop(), 0);
    }
}
