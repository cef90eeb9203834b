//! `quoll broker`: a mosquitto.conf as it stands, with Mosquitto's own clients, a device's TLS, and Mosquitto beside it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::folder::Folder;
use support::{Up, complaint, free_port, shared, tool};

/// Waits for the end of a reload, and expects it to go well or not.
fn reload(up: &mut Up, goes_well: bool) {
    up.signal("-HUP");
    let said =
        up.wait_for(|line| line.contains("Config reloaded") || line.contains("old one stays in force"));
    assert_eq!(said.contains("Config reloaded"), goes_well, "{:?}", up.heard);
}

fn bearssl_device() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broker-bearssl-device");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["Makefile", "bearssl-device.c"] {
        std::fs::copy(shared("tools/bearssl-device").join(name), folder.join(name)).unwrap();
    }
    let made = tool("make", &["-C", &folder.display().to_string()]);
    assert!(made.status.success(), "libbearssl-dev is needed (scripts/setup): {}", complaint(&made));
    folder.join("bearssl-device")
}

#[test]
fn the_guides_configuration_serves_a_device_and_mosquittos_clients() {
    let folder = Folder::new().with_fixture("tasmota_garage");
    folder.write(
        "mosquitto.conf",
        format!(
            "listener {}\nsocket_domain ipv4\n\ncafile ca.crt\ncertfile server.crt\nkeyfile server.key\n\n\
             require_certificate true\nuse_identity_as_username true\n\nallow_anonymous false\n",
            folder.port
        ),
    );
    let mut up = folder.start();
    // Whoever started it: no thread is root.
    for thread in std::fs::read_dir(format!("/proc/{}/task", up.id())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let accounts = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(accounts.split_whitespace().skip(1).all(|uid| uid != "0"), "{status}");
    }
    let tls =
        ["--cafile", "ca.crt", "--insecure", "--cert", "client.crt", "--key", "client.key", "-i", "garage"];
    let publish = ["-t", "cmnd/kitchen/x", "-m", "ON", "-r", "-q", "1"];
    assert!(folder.publishes(&[&tls[..], &publish].concat()));
    up.wait_for(|line| line.contains(" as garage (p2, c1, k60, u'tasmota_garage')"));

    let keys = shared("fixtures/tlskeys/tasmota_kitchen.expected.txt");
    let output = Command::new(bearssl_device())
        .args(["--host", "127.0.0.1", "--port", &folder.port.to_string(), "--name", "mqtt.myorg.com"])
        .arg("--ca")
        .arg(folder.path("ca.crt"))
        .arg("--tlskeys")
        .arg(keys)
        .args(["--topic", "cmnd/kitchen/#", "--count", "1", "--timeout", "20"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    up.wait_for(|line| line.contains("u'tasmota_kitchen'"));

    // No certificate, and one that is proven with a password instead.
    for more in [&[][..], &["-u", "tasmota_garage", "-P", "x"]] {
        let words = [&["--cafile", "ca.crt", "--insecure"], more, &publish].concat();
        assert!(!folder.publishes(&words), "{more:?}");
    }
    // Another's session by its client id.
    let mut kitchen = folder.stays(&mut up, "mine", &tls[..tls.len() - 2]);
    folder.decrypt("private/tasmota_kitchen.key", "client.key");
    folder.copy("fixtures/easyrsa-pki/issued/tasmota_kitchen.crt", "client.crt");
    let stranger = [&tls[..tls.len() - 1], &["mine"], &publish].concat();
    assert!(!folder.publishes(&stranger));
    kitchen.signal("-0");
    kitchen.signal("-TERM");
    kitchen.exit_code();
    assert_eq!(up.stop(), 0);
}

const ACCESS: &str = "topic read open/#\nuser ann\ntopic readwrite house/#\ntopic deny house/safe\n\
    topic read both/+\nuser bob\ntopic write house/door\npattern read to/%u/#\npattern write from/%c\n\
    pattern deny both/%u\n";

#[test]
fn passwords_and_permissions_decide_as_mosquitto_decides() {
    let folder = Folder::with("allow_anonymous true\npassword_file passwords\nacl_file access\n");
    for (user, password) in [("ann", "secret: of ann"), ("bob", "b")] {
        folder.password(user, password);
    }
    folder.write("access", ACCESS);
    let mosquitto = Path::new("/usr/sbin/mosquitto");
    assert!(mosquitto.exists(), "mosquitto is needed (scripts/setup)");
    for counterpart in [false, true] {
        let up = if counterpart {
            let mut command = Command::new(mosquitto);
            command.args(["-c", "mosquitto.conf"]).current_dir(folder.dir.path());
            let mut up = Up::of(command);
            up.wait_for(|line| line.ends_with(" running"));
            up
        } else {
            folder.start()
        };
        let ann = ["-u", "ann", "-P", "secret: of ann"];
        let bob = ["-u", "bob", "-P", "b"];
        let nobody: [&str; 0] = [];
        let who: [(&str, &[&str]); 3] = [("ann", &ann), ("bob", &bob), ("nobody", &nobody)];
        for (client_id, as_whom) in who {
            for topic in ["house/door", "house/safe", "open/x", "to/ann/x", "from/bob", "both/ann", "both/x"]
            {
                let message = ["-r", "-q", "1", "-i", client_id, "-t", topic, "-m", client_id];
                assert!(folder.publishes(&[as_whom, &message].concat()), "{client_id} to {topic}");
            }
        }
        assert_eq!(folder.hears(&[&ann[..], &["-t", "#"]].concat()), "house/door bob", "{counterpart}");
        assert_eq!(folder.hears(&[&bob[..], &["-t", "#"]].concat()), "", "{counterpart}");
        for wrong in [&["-u", "ann", "-P", "x"][..], &["-u", "ann"], &["-u", "eve", "-P", "b"]] {
            let output = folder.client("mosquitto_pub", &[wrong, &["-t", "x", "-m", "x"]].concat());
            let said = complaint(&output);
            assert_eq!(output.status.code(), Some(5), "{counterpart} {wrong:?}: {said}");
            assert!(said.contains("not authorised"), "{counterpart} {wrong:?}: {said}");
        }
        assert_eq!(up.stop(), 0);
    }
}

#[test]
fn a_hangup_takes_over_new_passwords_permissions_and_settings_or_nothing() {
    let folder = Folder::with("allow_anonymous false\npassword_file passwords\nacl_file access\n");
    folder.password("ann", "1");
    folder.password("bob", "1");
    folder.write("access", "user ann\ntopic readwrite t/#\nuser bob\ntopic readwrite t/#\n");
    let mut up = folder.start();
    let ann = folder.stays(&mut up, "ann-sub", &["-u", "ann", "-P", "1"]);
    let bob = folder.stays(&mut up, "bob-sub", &["-u", "bob", "-P", "1"]);

    // Each broken file leaves all as it was, also what is good in the others.
    folder.password("ann", "2");
    let good = std::fs::read(folder.path("passwords")).unwrap();
    let old = ["-u", "ann", "-P", "1", "-t", "t/x", "-m", "x"];
    for (file, text, complaint) in [
        ("access", "user ann\ntopic raed t/#\n", "access:2:7"),
        ("passwords", "ann:$7$nonsense\n", "line 1"),
        ("mosquitto.conf", "listener 1\nalow_anonymous true\n", "mosquitto.conf:2:1: unknown option"),
    ] {
        let before = std::fs::read(folder.path(file)).unwrap();
        folder.write(file, text);
        reload(&mut up, false);
        assert!(up.heard.iter().any(|line| line.contains(complaint)), "{complaint}: {:?}", up.heard);
        folder.write(file, before);
        assert!(folder.publishes(&old), "after {file}");
    }

    folder.write("passwords", good);
    folder.write("access", "user ann\ntopic readwrite t/#\nuser bob\ntopic read t/none\n");
    reload(&mut up, true);
    assert!(up.heard.iter().any(|line| line.contains("Client ann-sub disconnected, not authorised.")));
    assert!(!up.heard.iter().any(|line| line.contains("Client bob-sub disconnected")));
    assert!(!folder.publishes(&old));
    assert!(folder.publishes(&["-u", "ann", "-P", "2", "-t", "t/x", "-m", "not for bob"]));
    folder.write("access", "user ann\ntopic readwrite t/#\nuser bob\ntopic read t/#\n");
    reload(&mut up, true);
    assert!(folder.publishes(&["-u", "ann", "-P", "2", "-t", "t/x", "-m", "for bob", "-q", "1"]));
    let mut bob = bob;
    bob.wait_for(|line| line == "for bob");
    assert!(!bob.heard.iter().any(|line| line == "not for bob"), "{:?}", bob.heard);
    drop(ann);

    // A second listener opens, and a port that is taken leaves all as it was.
    let more = free_port();
    let lines = "allow_anonymous false\npassword_file passwords\nacl_file access\n";
    folder.configure(&format!("{lines}listener {more} 127.0.0.1\n"));
    reload(&mut up, true);
    assert!(std::net::TcpStream::connect(("127.0.0.1", more)).is_ok());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    folder.configure(&format!("{lines}listener {port} 127.0.0.1\n"));
    reload(&mut up, false);
    assert!(std::net::TcpStream::connect(("127.0.0.1", more)).is_ok());
    up.signal("-USR2");
    up.wait_for(|line| line.contains("t/#: bob-sub (q0)"));
    up.signal("-USR1");
    up.wait_for(|line| line.contains("each change is kept"));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_hangup_takes_over_limits_and_withholds_what_its_publisher_may_not_publish_any_more() {
    let lines = "allow_anonymous false\npassword_file passwords\nacl_file access\n";
    let folder = Folder::with(lines);
    folder.password("ann", "1");
    folder.password("bob", "1");
    let access = |ann: &str| format!("user ann\ntopic {ann} t/#\nuser bob\ntopic readwrite t/#\n");
    folder.write("access", access("readwrite"));
    let mut up = folder.start();
    let ann = ["-u", "ann", "-P", "1"];
    let bob = ["-u", "bob", "-P", "1"];
    let says = |who: [&str; 4], topic: &str, text: &str| {
        assert!(folder.publishes(&[&who[..], &["-t", topic, "-m", text, "-r", "-q", "1"]].concat()));
    };
    // All retained messages that there are, by topic; the last one is always there.
    let hears = || {
        let words = [&bob[..], &["-t", "t/#", "-C", "2", "-W", "30", "-v"]].concat();
        String::from_utf8(folder.client("mosquitto_sub", &words).stdout).unwrap().trim_end().to_owned()
    };
    says(ann, "t/ann", "1");
    says(bob, "t/bob", "2");
    says(bob, "t/bob2", "3");
    assert_eq!(hears(), "t/ann 1\nt/bob 2");
    folder.write("access", access("read"));
    reload(&mut up, true);
    assert_eq!(hears(), "t/bob 2\nt/bob2 3");
    folder.write("access", access("readwrite"));
    reload(&mut up, true);
    assert_eq!(hears(), "t/ann 1\nt/bob 2");

    folder.configure(&format!("{lines}message_size_limit 3\n"));
    reload(&mut up, true);
    assert!(!up.heard.iter().any(|line| line.contains("next start")), "{:?}", up.heard);
    says(ann, "t/ann", "too long");
    says(ann, "t/ann", "yes");
    assert_eq!(hears(), "t/ann yes\nt/bob 2");
    says(ann, "t/ann", "no, too long again");
    assert_eq!(hears(), "t/ann yes\nt/bob 2");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_hangup_takes_over_certificates_and_revocation_lists() {
    let folder = Folder::new().with_fixture("tasmota_garage");
    let tls = "cafile ca.crt\ncertfile server.crt\nkeyfile server.key\nrequire_certificate true\n\
        use_subject_as_username true\n";
    folder.configure(tls);
    let serial = "A56CD53990E670AC25CE4D3584C40BD7";
    folder.copy(&format!("fixtures/easyrsa-pki/revoked/certs_by_serial/{serial}.crt"), "lost.crt");
    folder.decrypt(&format!("revoked/private_by_serial/{serial}.key"), "lost.key");
    let common = ["--cafile", "ca.crt", "--insecure"];
    let garage = [&common[..], &["--cert", "client.crt", "--key", "client.key"]].concat();
    let lost = [&common[..], &["--cert", "lost.crt", "--key", "lost.key"]].concat();
    let message = ["-t", "t/x", "-m", "x"];
    let mut up = folder.start();
    let _garage = folder.stays(&mut up, "garage-sub", &garage);
    let _lost = folder.stays(&mut up, "lost-sub", &lost);
    assert!(up.heard.iter().any(|line| line.contains("u'emailAddress=") || line.contains("CN=tasmota_lost")));

    // Damaged in one byte of what is signed, another CA's, none at all.
    let list = std::fs::read_to_string(shared("fixtures/easyrsa-pki/crl.pem")).unwrap();
    let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
    let signature = lines.iter().position(|line| line.starts_with("-----END")).unwrap() - 2;
    let other = if lines[signature].starts_with('A') { "B" } else { "A" };
    lines[signature].replace_range(..1, other);
    let forged = lines.join("\n");
    folder.configure(&format!("{tls}crlfile crl.pem\n"));
    for broken in ["", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", &forged] {
        folder.write("crl.pem", broken);
        reload(&mut up, false);
        assert!(folder.publishes(&[&lost[..], &message].concat()), "{broken}");
    }
    folder.write("crl.pem", &list);
    reload(&mut up, true);
    assert!(up.heard.iter().any(|line| line.contains("Client lost-sub disconnected, not authorised.")));
    assert!(!up.heard.iter().any(|line| line.contains("Client garage-sub disconnected")));
    assert!(!folder.publishes(&[&lost[..], &message].concat()));
    assert!(folder.publishes(&[&garage[..], &message].concat()));

    // A server key that is not the certificate's; then another certificate and CA of another owner.
    let mut making =
        vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"];
    let (key, certificate) = (folder.path("new.key"), folder.path("new.crt"));
    let names = [key.display().to_string(), certificate.display().to_string()];
    making.extend(["-keyout", &names[0], "-out", &names[1]]);
    let made = tool("openssl", &making);
    assert!(made.status.success(), "{}", complaint(&made));
    std::fs::copy(&key, folder.path("server.key")).unwrap();
    reload(&mut up, false);
    assert!(folder.publishes(&[&garage[..], &message].concat()));
    std::fs::copy(&certificate, folder.path("server.crt")).unwrap();
    reload(&mut up, true);
    assert!(!folder.publishes(&[&garage[..], &message].concat()), "it trusts the old CA alone");
    let newly = ["--cafile", "new.crt", "--insecure", "--cert", "client.crt", "--key", "client.key"];
    assert!(folder.publishes(&[&newly[..], &message].concat()));
    // Clients' CA: the garage's is gone.
    std::fs::copy(&certificate, folder.path("ca.crt")).unwrap();
    folder.configure(tls);
    reload(&mut up, true);
    assert!(up.heard.iter().any(|line| line.contains("Client garage-sub disconnected, not authorised.")));
    assert!(!folder.publishes(&[&newly[..], &message].concat()));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_test_of_the_configuration_changes_nothing() {
    let folder = Folder::with(
        "allow_anonymous true\npersistence true\npid_file pid\nlog_dest file log\nacl_file access\n",
    );
    folder.write("access", "topic read x\n");
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    // The port is somebody's: it is not asked for.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", folder.port)).unwrap();
    let output = folder.run(&["broker", "-c", "mosquitto.conf", "--test-config"]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Configuration file is OK.\n");
    folder.write("access", "topic write\ntopik read x\n");
    let output = folder.run(&["broker", "-c", "mosquitto.conf", "--test-config"]);
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    assert!(complaint(&output).contains("access:2:1"), "{}", complaint(&output));
    assert_eq!(names(), before);
}

#[test]
fn what_cannot_be_obeyed_is_refused_at_once_with_its_place() {
    let folder = Folder::new();
    let table = [
        ("max_inflight_mesages 3\n", "mosquitto.conf:3:1: unknown option 'max_inflight_mesages'"),
        ("max_inflight_mesages 3\n", "did you mean 'max_inflight_messages'?"),
        ("max_qos 3\n", "mosquitto.conf:3:9: 'max_qos' is between 0 and 2, not 3"),
        ("plugin /usr/lib/go-auth.so\n", "mosquitto.conf:3"),
        ("psk_file x\n", "mosquitto.conf:3"),
        ("password_file nowhere\n", "cannot use nowhere"),
        ("certfile x\nkeyfile y\n", "cannot read x"),
        ("log_timestamp_format %Q\n", "log_timestamp_format"),
        ("connection away\naddress 127.0.0.1\n", "mosquitto.conf:3"),
        (
            "connection away\naddress 127.0.0.1\ntopic #\nbridge_cafile nowhere\n",
            "mosquitto.conf:3:1: TLS of connection \"away\": cannot read nowhere",
        ),
    ];
    for (lines, complaint_wanted) in table {
        folder.configure(lines);
        let begun = Instant::now();
        let output = folder.run(&["broker", "-c", "mosquitto.conf"]);
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(3), "{lines}: {said}");
        assert!(said.contains(complaint_wanted), "{lines}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{lines}: {:?}", begun.elapsed());
    }
    let output = folder.run(&["broker", "-c", "nowhere.conf"]);
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));

    let _taken = std::net::TcpListener::bind(("127.0.0.1", folder.port)).unwrap();
    folder.configure("allow_anonymous true\n");
    let output = folder.run(&["broker", "-c", "mosquitto.conf"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("is in use"), "{}", complaint(&output));

    // Who runs it as a service looks into the log.
    folder.configure("allow_anonymous true\nlog_dest file own.log\n");
    let output = folder.run(&["broker", "-c", "mosquitto.conf"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let log = std::fs::read_to_string(folder.dir.path().join("own.log")).unwrap();
    assert!(log.lines().last().is_some_and(|line| line.contains("is in use")), "{log}");
}

#[test]
fn without_a_file_this_machine_alone_is_served() {
    let folder = Folder::new();
    let mut up = Up::of(folder.command(&["broker", "-p", &folder.port.to_string()]));
    up.wait_for(|line| line.ends_with(" running"));
    assert!(up.heard.iter().any(|line| line.contains("Starting in local only mode.")), "{:?}", up.heard);
    assert!(folder.publishes(&["-t", "x", "-m", "1", "-r", "-q", "1"]));
    assert_eq!(folder.hears(&["-t", "x"]), "x 1");
    up.signal("-INT");
    assert_eq!(up.exit_code(), 0);
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_the_log_is_where_it_should_be() {
    let folder = Folder::with(
        "allow_anonymous true\npersistence true\npersistence_location .\nlog_dest file log\n\
         log_dest topic\nlog_timestamp_format %Y-%m-%d\nconnection_messages false\npid_file pid\n",
    );
    let mut command = folder.command(&["broker", "-c", "mosquitto.conf"]);
    command.env("TZ", "UTC");
    let up = Up::of(command);
    support::until(|| folder.publishes(&["-t", "x", "-m", "1", "-r", "-q", "1"]), |done| *done);
    assert!(folder.path("broker.db").exists() && folder.path("pid").exists());
    up.kill();
    let up = Up::of(folder.command(&["broker", "-c", "mosquitto.conf"]));
    support::until(|| folder.hears(&["-t", "x"]), |heard| heard == "x 1");
    assert_eq!(up.stop(), 0);
    assert!(!folder.path("pid").exists());
    let log = std::fs::read_to_string(folder.path("log")).unwrap();
    let line = log.lines().find(|line| line.ends_with(" running")).unwrap();
    let year = line.split('-').next().unwrap();
    assert!(year.len() == 4 && line.contains(": quoll version "), "{line}");
    assert!(!log.contains("New connection"), "{log}");
}

#[test]
fn in_the_background_it_says_whether_it_started() {
    let folder = Folder::with("allow_anonymous true\npid_file pid\nlog_dest file log\n");
    let output = folder.run(&["broker", "-c", "mosquitto.conf", "-d"]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(folder.publishes(&["-t", "x", "-m", "1"]), "it listens when the command is back");
    let again = folder.run(&["broker", "-c", "mosquitto.conf", "-d"]);
    assert_eq!(again.status.code(), Some(1), "{}", complaint(&again));
    assert!(complaint(&again).contains("is in use"), "{}", complaint(&again));
    let pid = std::fs::read_to_string(folder.path("pid")).unwrap();
    assert!(tool("kill", &[pid.trim()]).status.success());
    support::until(|| folder.path("pid").exists(), |is_there| !is_there);
    support::until(
        || std::fs::read_to_string(folder.path("log")).unwrap(),
        |log| log.contains("terminating"),
    );
}

#[test]
fn password_files_are_mosquittos() {
    let folder = Folder::with("allow_anonymous false\npassword_file passwords\n");
    let passwords = folder.path("passwords").display().to_string();
    let made = tool("mosquitto_passwd", &["-b", "-c", &passwords, "old", "of mosquitto"]);
    assert!(made.status.success(), "{}", complaint(&made));
    folder.password("new", "of quoll");
    let checked = folder.run(&["passwd", "-D", "passwords", "nobody"]);
    assert_eq!(checked.status.code(), Some(9), "{}", complaint(&checked));
    let refused = folder.run(&["passwd", "-b", "passwords", "eve", "visible"]);
    assert_eq!(refused.status.code(), Some(2), "{}", complaint(&refused));
    assert!(complaint(&refused).contains("--password-stdin"));
    let clear = std::fs::read_to_string(&passwords).unwrap() + "clear:in the clear\n";
    folder.write("passwords", clear);
    let upgraded = folder.run(&["passwd", "-U", "passwords"]);
    assert!(upgraded.status.success(), "{}", complaint(&upgraded));
    let text = std::fs::read_to_string(&passwords).unwrap();
    assert!(!text.contains("in the clear") && !text.contains("of quoll") && !text.contains("eve"), "{text}");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o644)).unwrap();
    let users = [("old", "of mosquitto"), ("new", "of quoll"), ("clear", "in the clear")];
    for program in [env!("CARGO_BIN_EXE_quoll"), "/usr/sbin/mosquitto"] {
        let is_quoll = !program.ends_with("mosquitto");
        let mut command = Command::new(program);
        command.args(is_quoll.then_some("broker")).args(["-c", "mosquitto.conf"]);
        command.current_dir(folder.dir.path());
        let mut up = Up::of(command);
        up.wait_for(|line| line.ends_with(" running"));
        for (user, password) in users {
            assert!(
                folder.publishes(&["-u", user, "-P", password, "-t", "x", "-m", "x"]),
                "{program} {user}"
            );
            assert!(
                !folder.publishes(&["-u", user, "-P", "other", "-t", "x", "-m", "x"]),
                "{program} {user}"
            );
        }
        assert_eq!(up.stop(), 0);
    }
    let gone = folder.run(&["passwd", "-D", "passwords", "old"]);
    assert!(gone.status.success(), "{}", complaint(&gone));
    assert!(!std::fs::read_to_string(&passwords).unwrap().contains("old:"));
}
