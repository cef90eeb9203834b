//! What is complained of, word for word.

use super::{Texts, good, read, told};

#[test]
fn faults_are_told_with_their_place() {
    let table: &[(&str, &[&str])] = &[
        ("lstener 1883\n", &["m.conf:1:1: unknown option 'lstener'"]),
        ("\n# x\n  # x\n", &["m.conf:3:3: unknown option '#'"]),
        ("listener\t1883\n", &["m.conf:1:1: unknown option 'listener\\t1883'"]),
        ("listener\n", &["m.conf:1:9: 'listener' has no value"]),
        ("listener x\n", &["m.conf:1:10: 'listener' is a number, not \"x\""]),
        ("listener 65536\n", &["m.conf:1:10: 'listener' is between 0 and 65535, not 65536"]),
        ("listener 0\n", &["m.conf:1:10: 'listener' with port 0 needs the path of a UNIX socket"]),
        ("port 0\n", &["m.conf:1:6: 'port' is between 1 and 65535, not 0"]),
        ("allow_anonymous yes\n", &["m.conf:1:17: 'allow_anonymous' is true or false, not \"yes\""]),
        ("allow_anonymous\n", &["m.conf:1:16: 'allow_anonymous' has no value"]),
        ("pid_file    \n", &["m.conf:1:13: 'pid_file' has no value"]),
        ("pid_file a\x07b\n", &["m.conf:1:10: 'pid_file' has the control character '\\u{7}' in it"]),
        ("pid_file a\npid_file b\n", &["m.conf:2:1: 'pid_file' was given before, at m.conf:1:1"]),
        ("max_packet_size 19\n", &["m.conf:1:17: 'max_packet_size' is between 20 and 2147483647, not 19"]),
        (
            "max_keepalive 99999999999999999999\n",
            &["m.conf:1:15: 'max_keepalive' is between 0 and 65535, not 9223372036854775807"],
        ),
        ("sys_interval 010x\n", &["m.conf:1:14: 'sys_interval' is a number, not \"010x\""]),
        (
            "retain_expiry_interval 0\n",
            &["m.conf:1:24: 'retain_expiry_interval' is between 1 and 2147483647, not 0"],
        ),
        (
            "persistent_client_expiration 5x\n",
            &[
                "m.conf:1:30: 'persistent_client_expiration' is a number above 0 with one of the units s, h, d, w, m, y",
            ],
        ),
        (
            "log_type loud\n",
            &[
                "m.conf:1:10: 'log_type' is one of debug, error, warning, notice, information, subscribe, unsubscribe, \
             websockets, internal, none, all, not \"loud\"",
            ],
        ),
        ("log_dest file\n", &["m.conf:1:14: 'log_dest' has no value"]),
        (
            "auto_id_prefix 012345678901234567890123456789012345678901234567890\n",
            &["m.conf:1:16: 'auto_id_prefix' has 51 bytes, 50 at most"],
        ),
        ("cafile x\n", &["m.conf:1:1: 'cafile' needs a listener before it"]),
        (
            "port 1883\naccept_protocol_versions 4\n",
            &["m.conf:2:1: 'accept_protocol_versions' needs a listener before it"],
        ),
        ("topic #\n", &["m.conf:1:1: 'topic' needs a connection before it"]),
        ("plugin_opt_x y\n", &["m.conf:1:1: 'plugin_opt_x' needs a plugin before it"]),
        ("per_listener_settings true\nacl_file x\n", &["m.conf:2:1: 'acl_file' needs a listener before it"]),
        (
            "acl_file x\nper_listener_settings true\n",
            &["m.conf:2:1: 'per_listener_settings' must come before 'acl_file' at m.conf:1:1"],
        ),
        ("listener 1\ncertfile c\n", &["m.conf:2:1: this listener has no 'keyfile'"]),
        ("listener 1\nkeyfile c\n", &["m.conf:2:1: this listener has no 'certfile'"]),
        ("listener 1\ncafile c\n", &["m.conf:2:1: this listener has no 'certfile'"]),
        (
            "listener 1\nmount_point a/#\n",
            &["m.conf:2:1: 'mount_point' is no topic: it may have no wildcard"],
        ),
        (
            "listener 1\nprotocol mqttsn\n",
            &["m.conf:2:10: 'protocol' is one of mqtt, websockets, http_api, not \"mqttsn\""],
        ),
        ("listener 1\nmax_qos 3\n", &["m.conf:2:9: 'max_qos' is between 0 and 2, not 3"]),
        (
            "listener 1\nenable_proxy_protocol 2\ncertfile c\nkeyfile k\n",
            &[
                "m.conf:3:1: 'certfile' cannot be used with 'enable_proxy_protocol 2'",
                "m.conf:4:1: 'keyfile' cannot be used with 'enable_proxy_protocol 2'",
            ],
        ),
        (
            "listener 1\npsk_hint x\n",
            &[
                "m.conf:2:1: 'psk_hint' is not supported: there is no TLS with pre-shared keys here; give these clients \
             certificates",
            ],
        ),
        (
            "psk_file /x\n",
            &[
                "m.conf:1:1: 'psk_file' is not supported: there is no TLS with pre-shared keys here; give these clients \
             certificates",
            ],
        ),
        (
            "listener 1\ntls_keyform engine\n",
            &[
                "m.conf:2:1: 'tls_keyform' is not supported: there are no OpenSSL engines here; put the key into a PEM file",
            ],
        ),
        (
            "plugin /usr/lib/go-auth.so\nplugin_opt_x y\n",
            &[
                "m.conf:1:1: plugin \"go-auth.so\" is none that Quoll knows, and it cannot load any: move its users to a \
             password_file and its rules to an acl_file",
            ],
        ),
        (
            "plugin mosquitto_dynamic_security.so\n",
            &["m.conf:1:1: plugin \"mosquitto_dynamic_security.so\" has no 'plugin_opt_config_file'"],
        ),
        ("listener 1\nplugin_use x\n", &["m.conf:2:1: no 'plugin_load' before this gave the name \"x\""]),
        (
            "connection a\n",
            &["m.conf:1:1: connection \"a\" has no 'address'", "m.conf:1:1: connection \"a\" has no 'topic'"],
        ),
        (
            "connection a\naddress x\ntopic #\nconnection a\naddress y\ntopic #\n",
            &[
                "m.conf:4:1: connection \"a\" is there already, at m.conf:1:1",
                "m.conf:4:1: local_clientid \"local.hub.a\" is there already, at m.conf:1:1",
            ],
        ),
        (
            "connection a\naddress x:0\n",
            &[
                "m.conf:2:9: 'address' is HOST or HOST:PORT, with a port from 1 to 65535",
                "m.conf:1:1: connection \"a\" has no 'address'",
                "m.conf:1:1: connection \"a\" has no 'topic'",
            ],
        ),
        (
            "connection a\naddress x\ntopic \"a b\n",
            &["m.conf:3:7: 'topic' has no closing quote", "m.conf:1:1: connection \"a\" has no 'topic'"],
        ),
        (
            "connection a\naddress x\ntopic a sideways\ntopic a out 3\ntopic a out 0 b/#\ntopic \"\" in 0 a\ntopic a#\n",
            &[
                "m.conf:3:9: 'topic' is one of out, in, both, not \"sideways\"",
                "m.conf:4:13: 'topic' is one of 0, 1, 2, not \"3\"",
                "m.conf:5:15: 'topic' has a prefix that is no topic",
                "m.conf:6:7: 'topic' without a pattern needs both prefixes",
                "m.conf:7:7: 'topic' is no topic filter, with its prefixes",
                "m.conf:1:1: connection \"a\" has no 'topic'",
            ],
        ),
        (
            "connection a\naddress x\ntopic #\nrestart_timeout 9 8\nbridge_certfile c\n",
            &[
                "m.conf:4:19: 'restart_timeout' has a cap below its base",
                "m.conf:1:1: connection \"a\" has no 'bridge_keyfile'",
            ],
        ),
        (
            "connection a\naddress x\ntopic #\nbridge_psk 00ff\nbridge_require_ocsp true\n",
            &[
                "m.conf:4:1: 'bridge_psk' is not supported: there is no TLS with pre-shared keys here; give these clients \
             certificates",
                "m.conf:5:1: 'bridge_require_ocsp' is not supported: stapled OCSP answers are not checked here; without the \
             line the bridge would trust more than you want",
            ],
        ),
    ];
    for (text, expected) in table {
        let complaints = read(text).map(|_| ()).expect_err(text);
        assert_eq!(told(&complaints), *expected, "{text}");
    }
}

#[test]
fn what_is_left_aside_is_said() {
    let table: &[(&str, &[&str])] = &[
        ("listener 1 # comment\nallow_anonymous true # comment\n", &[]),
        (
            "allow_anonymous true false\n",
            &["m.conf:1:22: \"false\" after the value of 'allow_anonymous' is not read"],
        ),
        (
            "pid_file /x # y\n",
            &["m.conf:1:10: the value of 'pid_file' goes on to the end of the line, # included"],
        ),
        (
            "acl_file a\nacl_file b\n",
            &["m.conf:2:1: 'acl_file' was given before, at m.conf:1:1; this one counts"],
        ),
        (
            "retry_interval 20\n",
            &[
                "m.conf:1:1: 'retry_interval' has no effect: messages are sent again when a client comes back, as the standard \
             has it; Mosquitto ignores this too",
            ],
        ),
        ("log_dest dlt\n", &["m.conf:1:1: 'log_dest' has no effect: there is no such destination here"]),
        ("upgrade_outgoing_qos false\nenable_control_api false\nclientid_prefixes s-\n", &[]),
        ("listener 1\nprotocol http_api\nhttp_dir /w\n", &[]),
        (
            "listener 1\nprotocol websockets\nhttp_dir /w\n",
            &["m.conf:3:1: 'http_dir' has no effect: files are served by listeners with 'protocol http_api'"],
        ),
        (
            "listener 1\nrequire_certificate true\nuse_identity_as_username true\n",
            &[
                "m.conf:2:1: 'require_certificate' has no effect: the listener has no TLS without certfile and keyfile",
                "m.conf:3:1: 'use_identity_as_username' has no effect: the listener has no TLS without certfile and keyfile",
            ],
        ),
        (
            "listener 1\ncertfile c\nkeyfile k\ncrlfile r\ntls_version tlsv1.1\n",
            &[
                "m.conf:4:1: 'crlfile' has no effect: it is only looked at with 'require_certificate true'",
                "m.conf:5:1: TLS 1.1 is not spoken here; 1.2 is the lowest",
            ],
        ),
        (
            "max_qos 1\n",
            &[
                "m.conf:1:1: 'max_qos' before any listener opens one on port 1883 of all addresses, as Mosquitto does",
                "m.conf:1:1: no listener is configured: only this machine is listened to, port 1883",
            ],
        ),
        (
            "plugin mosquitto_acl_file.so\nplugin_opt_acl_file a\nplugin_opt_x y\n",
            &["m.conf:3:1: 'plugin_opt_x' has no effect: this plugin has no such option"],
        ),
        (
            "connection a\naddress x\ntopic #\ntopic #\nkeepalive_interval 1\nrestart_timeout 0\nbridge_insecure true\n",
            &[
                "m.conf:5:20: 'keepalive_interval' 1 is taken as 5",
                "m.conf:6:17: 'restart_timeout' 0 is taken as 1",
                "m.conf:4:1: this topic line is there already",
                "m.conf:7:1: 'bridge_insecure' has no effect: the bridge has no TLS without bridge_cafile, bridge_capath or \
             bridge_tls_use_os_certs",
            ],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(told(&good(text).warnings), *expected, "{text}");
    }
}

#[test]
fn hints_say_what_to_do() {
    let table = [
        ("lstener 1\n", Some("did you mean 'listener'?")),
        ("Allow_Anonymous true\n", Some("did you mean 'allow_anonymous'?")),
        ("certfiles x\n", Some("did you mean 'certfile'?")),
        ("entirely_else 1\n", None),
        ("  # x\n", Some("a comment's # must be the first character of its line")),
        ("listener\t1\n", Some("names and values are set apart by blanks, not by tabs")),
        ("cafile x\n", Some("put 'cafile' below a line such as: listener 8883")),
        ("acl_file x\nper_listener_settings true\n", Some("make it the first line of the main file")),
    ];
    for (text, expected) in table {
        let complaints = read(text).map(|_| ()).expect_err(text);
        assert_eq!(complaints[0].hint().as_deref(), expected, "{text}");
    }
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let told_of = |texts: Texts| told(&texts.read().map(|_| ()).unwrap_err());
    assert_eq!(told_of(Texts::default()), ["m.conf:1:1: cannot read m.conf: entity not found"]);
    let texts = Texts::default().with("m.conf", "include_dir d\n");
    assert_eq!(told_of(texts), ["m.conf:1:1: cannot read d: entity not found"]);
    let texts = Texts::default().with("m.conf", "include_dir d\n").with("d/x.conf", "include_dir e\n");
    assert_eq!(told_of(texts), ["d/x.conf:1:1: 'include_dir' may only stand in the main file"]);
    let texts = Texts::default().with("m.conf", vec![b'#'; (1 << 20) + 1]);
    assert_eq!(told_of(texts), ["m.conf:1:1: more than 1048576 bytes"]);
    let texts = Texts::default().with("m.conf", b"# \xff is fine here\nuser \xff\n");
    assert_eq!(told_of(texts), ["m.conf:2:1: this line is not UTF-8"]);
}

#[test]
fn a_file_of_nonsense_is_not_read_to_its_end() {
    let complaints = read("x\n".repeat(5000)).map(|_| ()).unwrap_err();
    assert_eq!(complaints.len(), 101);
    assert_eq!(complaints[100].to_string(), "m.conf:101:1: 100 complaints; the rest was not looked at");
}
