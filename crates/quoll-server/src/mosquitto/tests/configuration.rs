//! What configurations mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quoll_broker::Overlapping;
use quoll_mqtt::{ProtocolVersion, QoS};
use rustls::CipherSuite;

use super::super::Surroundings;
use super::super::bridge::{BridgeAddress, Direction, Notifications, Reload, Restart, Start, TcpKeepalive};
use super::super::global::{Autosave, Persistence};
use super::super::listener::{CertificateName, Domain, Protocol, Proxy, Socket, Versions};
use super::super::log::{LogDestination, LogType};
use super::super::plugins::{DynamicSecurityFile, PluginKind};
use super::super::tls::{MinimumVersion, Roots, Tls};
use super::{Texts, good, told};

/// The configuration that the guide for Tasmota with Easy-RSA ends with.
const GUIDE: &str = "\
listener 8884
socket_domain ipv4
cafile /etc/mosquitto/certs/ca.crt
certfile /etc/mosquitto/certs/server.crt
keyfile /etc/mosquitto/certs/server.key
require_certificate true
use_identity_as_username true
allow_anonymous false
";

#[test]
fn the_guides_configuration_is_a_listener_for_certificates_alone() {
    let configuration = good(GUIDE);
    assert_eq!(told(&configuration.warnings), [""; 0]);
    let [listener] = &configuration.listeners[..] else { panic!("{:?}", configuration.listeners) };
    let socket = Socket::Tcp { port: 8884, host: None, domain: Some(Domain::Ipv4), interface: None };
    assert_eq!(listener.socket, socket);
    let certs = Path::new("/etc/mosquitto/certs");
    let tls = Tls {
        certificate: certs.join("server.crt"),
        key: certs.join("server.key"),
        roots: Roots { file: Some(certs.join("ca.crt")), folder: None },
        require_certificate: true,
        revoked: None,
        ignore_dates: false,
        minimum: MinimumVersion::Tls12,
        suites_12: None,
        suites_13: None,
    };
    assert_eq!(listener.tls, Some(tls));
    assert_eq!(listener.certificate_name, Some(CertificateName::CommonName));
    assert!(!listener.security.allow_anonymous && listener.security.acl_files.is_empty());
    assert_eq!(configuration.global.rules, quoll_broker::ShardSettings::default());
}

#[test]
fn windows_line_ends_and_blanks_change_nothing() {
    let windows = format!("# caf\u{e9}\r\n   \r\n{}", GUIDE.replace('\n', "  \r\n").replace(' ', "   "));
    let strip = |text: &str| {
        let mut listener = good(text).listeners.remove(0);
        listener.place = None;
        listener
    };
    assert_eq!(strip(&windows), strip(GUIDE));
}

#[test]
fn without_a_listener_only_this_machine_is_listened_to() {
    for (text, anonymous) in [("", true), ("allow_anonymous false\n", false), ("max_connections 5\n", true)] {
        let configuration = good(text);
        let hosts: Vec<_> = configuration.listeners.iter().map(|listener| listener.socket.clone()).collect();
        let local =
            |host: &str| Socket::Tcp { port: 1883, host: Some(host.into()), domain: None, interface: None };
        assert_eq!(hosts, [local("127.0.0.1"), local("::1")], "{text}");
        for listener in &configuration.listeners {
            assert_eq!(listener.security.allow_anonymous, anonymous, "{text}");
            assert_eq!(listener.max_connections, None, "{text}");
        }
    }
}

#[test]
fn the_default_listener_is_open_to_all_and_to_nobody_anonymous() {
    let configuration = good("port 1884\nbind_address 192.0.2.1\nmax_connections 7\n");
    let [listener] = &configuration.listeners[..] else { panic!() };
    let host = Some("192.0.2.1".to_owned());
    assert_eq!(listener.socket, Socket::Tcp { port: 1884, host, domain: None, interface: None });
    assert!(!listener.security.allow_anonymous);
    assert_eq!(listener.max_connections, Some(7));

    let configuration = good("require_certificate false\nlistener 8883\n");
    assert_eq!(configuration.listeners.len(), 2);
    let warning = "m.conf:1:1: 'require_certificate' before any listener opens one on port 1883 of all addresses, as \
                   Mosquitto does";
    assert_eq!(told(&configuration.warnings), [warning]);
}

#[test]
fn security_is_the_brokers_or_each_listeners_own() {
    let common = good("listener 1883\nallow_anonymous true\nacl_file a\nlistener 1884\npassword_file p\n");
    for listener in &common.listeners {
        assert!(listener.security.allow_anonymous);
        assert_eq!(listener.security.acl_files, [PathBuf::from("a")]);
        assert_eq!(listener.security.password_files, [PathBuf::from("p")]);
    }
    let own = good(
        "per_listener_settings true\nper_listener_settings whatever\n\
         listener 1883\nallow_anonymous true\nacl_file a\nauto_id_prefix one-\n\
         listener 1884\npassword_file p\nallow_zero_length_clientid false\n",
    );
    let [one, other] = [&own.listeners[0].security, &own.listeners[1].security];
    assert!(one.allow_anonymous && !other.allow_anonymous);
    assert_eq!((one.acl_files.len(), other.acl_files.len()), (1, 0));
    assert_eq!((one.password_files.len(), other.password_files.len()), (0, 1));
    assert_eq!((one.auto_id_prefix.as_str(), other.auto_id_prefix.as_str()), ("one-", "auto-"));
    assert!(one.allow_zero_length_clientid && !other.allow_zero_length_clientid);
}

#[test]
fn a_listeners_own_word_goes_before_the_brokers() {
    let configuration = good(
        "allow_anonymous false\nauto_id_prefix all-\n\
         listener 1883\nlistener_allow_anonymous true\nlistener_auto_id_prefix one-\nlistener 1884\n",
    );
    let [one, other] = &configuration.listeners[..] else { panic!() };
    assert!(one.security.allow_anonymous && !other.security.allow_anonymous);
    assert_eq!(one.security.auto_id_prefix, "one-");
    assert_eq!(other.security.auto_id_prefix, "all-");
}

#[test]
fn listener_options_reach_their_listener() {
    let configuration = good(
        "listener 0 /run/m.sock\nmount_point a/b/\nmax_qos 1\nmax_topic_alias 0\nmax_topic_alias_broker 3\n\
         use_username_as_clientid 1\nmax_connections -5\n\
         listener 9001 ::1 # comment\nprotocol websockets\nwebsockets_origin https://a\nwebsockets_origin https://b\n\
         socket_domain ipv6\nbind_interface eth0\naccept_protocol_versions 4, 5\nmaximum_qos 0\n\
         listener 8883\nenable_proxy_protocol 2\nproxy_protocol_v2_require_tls true\nuse_identity_as_username true\n",
    );
    let [one, two, three] = &configuration.listeners[..] else { panic!() };
    assert_eq!(one.socket, Socket::Unix("/run/m.sock".into()));
    assert_eq!(one.mount_point.as_ref().map(|topic| topic.as_str()), Some("a/b/"));
    assert_eq!((one.max_qos, one.max_topic_alias, one.max_topic_alias_broker), (QoS::AtLeastOnce, 0, 3));
    assert!(one.username_as_client_id && one.max_connections.is_none());
    let (host, interface) = (Some("::1".to_owned()), Some("eth0".to_owned()));
    assert_eq!(two.socket, Socket::Tcp { port: 9001, host, domain: Some(Domain::Ipv6), interface });
    assert_eq!((two.protocol, two.max_qos), (Protocol::WebSockets, QoS::AtMostOnce));
    assert_eq!(two.versions, Versions { v31: false, v311: true, v5: true });
    assert_eq!(two.origins, ["https://a", "https://b"]);
    assert_eq!(three.proxy, Some(Proxy { version: 2, require_tls: true }));
    assert_eq!(three.certificate_name, Some(CertificateName::CommonName));
    assert_eq!(told(&configuration.warnings), [""; 0]);
}

#[test]
fn ciphers_are_taken_as_far_as_there_are_equals() {
    let tls = "listener 8883\ncertfile c\nkeyfile k\n";
    let table: [(&str, Option<Vec<CipherSuite>>, usize); 3] = [
        ("HIGH:!aNULL", None, 1),
        (
            "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:ECDHE-ECDSA-CHACHA20-POLY1305",
            Some(vec![
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            ]),
            1,
        ),
        (
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            Some(vec![CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]),
            0,
        ),
    ];
    for (list, suites, warnings) in table {
        let configuration = good(&format!("{tls}ciphers {list}\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n"));
        let found = configuration.listeners[0].tls.as_ref().unwrap();
        assert_eq!(found.suites_12, suites, "{list}");
        assert_eq!(found.suites_13, Some(vec![CipherSuite::TLS13_AES_128_GCM_SHA256]));
        assert_eq!(configuration.warnings.len(), warnings, "{list}");
    }
}

#[test]
fn global_options_reach_the_rules() {
    let configuration = good(
        "max_inflight_messages 0x10\nmax_queued_messages -1\nmax_queued_bytes 9\nqueue_qos0_messages true\n\
         message_size_limit 268435455\nmax_packet_size 20\nmax_keepalive 65535\npersistent_client_expiration 2w\n\
         retain_available false\nretain_expiry_interval 2\nallow_duplicate_messages false\nglobal_max_clients 5\n\
         global_max_connections -1\nmax_inflight_bytes 8\ncheck_retain_source false\nset_tcp_nodelay true\n\
         sys_interval 0\nuser quoll\npid_file /run/m.pid\nallow_zero_length_clientid false\nauto_id_prefix x-\n",
    );
    let global = &configuration.global;
    let rules = &global.rules;
    assert_eq!((rules.max_inflight_messages, rules.max_queued_messages, rules.max_queued_bytes), (16, 0, 9));
    assert_eq!(
        (rules.message_size_limit, rules.max_packet_size, rules.max_keepalive),
        (268_435_455, 20, 65_535)
    );
    assert_eq!(rules.persistent_client_expiration, Some(Duration::from_secs(14 * 86_400)));
    assert_eq!((rules.retain_expiry_interval, rules.max_sessions), (120, 5));
    assert!(rules.queue_qos0_messages && !rules.retain_available && !rules.allow_zero_length_clientid);
    assert_eq!((rules.overlapping, &*rules.auto_id_prefix), (Overlapping::OneCopy, "x-"));
    assert_eq!((global.max_connections, global.rules.max_inflight_bytes), (None, 8));
    assert!(
        !global.rules.check_retain_source
            && global.tcp_nodelay == Some(true)
            && global.sys_interval.is_none()
    );
    assert_eq!((global.user.as_str(), global.pid_file.as_deref()), ("quoll", Some(Path::new("/run/m.pid"))));
}

#[test]
fn persistence_and_log_are_understood() {
    let table = [
        ("persistence false\nautosave_interval 5\n", None),
        ("persistence true\n", Some(("mosquitto.db", Autosave::Every(Duration::from_secs(1800))))),
        (
            "retained_persistence 1\npersistence_location /var/lib/m/\npersistence_file x.db\nautosave_interval 0\n",
            Some(("/var/lib/m/x.db", Autosave::AtEnd)),
        ),
        (
            "persistence true\nautosave_on_changes true\nautosave_interval 9\n",
            Some(("mosquitto.db", Autosave::Changes(9))),
        ),
    ];
    for (text, expected) in table {
        let expected = expected.map(|(file, autosave)| Persistence { file: file.into(), autosave });
        assert_eq!(good(text).global.persistence, expected, "{text}");
    }
    let log = good("").global.log;
    assert_eq!(log.destinations, [LogDestination::Stderr]);
    let usual = [LogType::Error, LogType::Warning, LogType::Notice, LogType::Information];
    assert_eq!(log.types, usual.into());
    let log = good(
        "log_dest stderr\nlog_dest none\nlog_dest file /var/log/m q.log\nlog_dest topic\nlog_dest stdout unbuffered\n\
         log_type all\nlog_type none\nlog_type debug\nlog_facility 5\nlog_timestamp false\nconnection_messages 0\n\
         log_timestamp_format %Y-%m-%dT%H:%M:%S\n",
    )
    .global
    .log;
    let file = LogDestination::File("/var/log/m q.log".into());
    assert_eq!(log.destinations, [file, LogDestination::Topic, LogDestination::Stdout]);
    assert_eq!((log.types, log.facility), ([LogType::Debug].into(), Some(5)));
    assert!(!log.timestamp && !log.connection_messages);
    assert_eq!(log.timestamp_format.as_deref(), Some("%Y-%m-%dT%H:%M:%S"));
}

#[test]
fn a_bridge_has_mosquittos_defaults() {
    let configuration = good("connection cloud\naddress example.org\ntopic #\n");
    let [bridge] = &configuration.bridges[..] else { panic!() };
    assert_eq!(bridge.addresses, [BridgeAddress { host: "example.org".into(), port: 1883 }]);
    assert_eq!((bridge.name.as_str(), bridge.version), ("cloud", ProtocolVersion::V311));
    assert_eq!(bridge.remote.client_id, "hub.cloud");
    assert_eq!(bridge.local.client_id, "local.hub.cloud");
    assert_eq!(
        (bridge.keep_alive, bridge.start, bridge.reload),
        (Duration::from_secs(60), Start::Automatic, Reload::Lazy)
    );
    let seconds = Duration::from_secs;
    let restart = Restart::Backoff { base: seconds(5), cap: seconds(30), stable: seconds(0) };
    assert_eq!(bridge.restart, restart);
    let topic = "$SYS/broker/connection/hub.cloud/state".to_owned();
    assert_eq!(bridge.notifications, Some(Notifications { topic, local_only: false }));
    assert_eq!((bridge.topics[0].direction, bridge.topics[0].qos), (Direction::Out, QoS::AtMostOnce));
    assert!(
        bridge.try_private && bridge.attempt_unsubscribe && bridge.outgoing_retain && bridge.tls.is_none()
    );
}

#[test]
fn a_bridge_can_say_all_that_mosquittos_can() {
    let configuration = good(
        "connection cloud\naddresses a.example:8883 b.example 192.0.2.1:1 [2001:db8::1]:2 # two more\n\
         topic \"a b/#\" both 2 local/ remote/\ntopic x In 1 \"\" r/\ntopic \"\" out 0 here there\ntopic y # a comment\n\
         topic y\nround_robin true\nbridge_protocol_version mqttv50\nclientid me\nusername u\npassword p w\n\
         local_clientid l\nlocal_username lu\nlocal_password lp\ncleansession true\nlocal_cleansession false\n\
         keepalive_interval 3\nrestart_timeout 10 20 30\nstart_type lazy\nidle_timeout 0\nthreshold 4\n\
         notifications false\ntry_private false\nbridge_attempt_unsubscribe false\nbridge_bind_address 192.0.2.9\n\
         bridge_max_packet_size 100\nbridge_max_topic_alias 1\nbridge_outgoing_retain false\nbridge_receive_maximum 2\n\
         bridge_session_expiry_interval 60\nbridge_tcp_keepalive 1 2 3\nbridge_tcp_user_timeout 500\n\
         bridge_reload_type immediate\nbridge_cafile ca\nbridge_certfile c\nbridge_keyfile k\nbridge_insecure true\n\
         bridge_alpn mqtt\nbridge_tls_version tlsv1.3\n",
    );
    let bridge = &configuration.bridges[0];
    let addresses: Vec<_> = bridge.addresses.iter().map(|a| format!("{} {}", a.host, a.port)).collect();
    assert_eq!(addresses, ["a.example 8883", "b.example 1883", "192.0.2.1 1", "2001:db8::1 2"]);
    let topics: Vec<_> = bridge
        .topics
        .iter()
        .map(|t| format!("{:?} {} {} {}", t.direction, t.qos as u8, t.local, t.remote))
        .collect();
    assert_eq!(topics, ["Both 2 local/a b/# remote/a b/#", "In 1 x r/x", "Out 0 here there", "Out 0 y y"]);
    assert!(bridge.round_robin && bridge.remote.clean_session && !bridge.local.clean_session);
    assert_eq!((bridge.version, bridge.remote.client_id.as_str()), (ProtocolVersion::V5, "me"));
    assert_eq!(bridge.remote.password.as_ref().map(|p| p.reveal()), Some("p w"));
    assert_eq!(bridge.local.password.as_ref().map(|p| p.reveal()), Some("lp"));
    let seconds = Duration::from_secs;
    let restart = Restart::Backoff { base: seconds(10), cap: seconds(20), stable: seconds(30) };
    assert_eq!((bridge.restart, bridge.keep_alive), (restart, seconds(5)));
    assert_eq!(bridge.start, Start::Lazy { idle: seconds(1), threshold: 4 });
    assert_eq!(
        (bridge.max_packet_size, bridge.max_topic_alias, bridge.receive_maximum),
        (Some(100), 1, Some(2))
    );
    let keepalive = TcpKeepalive { idle: seconds(1), interval: seconds(2), count: 3 };
    assert_eq!(bridge.tcp_keepalive, Some(keepalive));
    assert_eq!(bridge.tcp_user_timeout, Some(Duration::from_millis(500)));
    assert_eq!((bridge.session_expiry, bridge.reload), (seconds(60), Reload::Immediate));
    let tls = bridge.tls.as_ref().unwrap();
    assert_eq!((tls.roots.file.as_deref(), tls.minimum), (Some(Path::new("ca")), MinimumVersion::Tls13));
    assert!(tls.insecure && tls.identity.is_some() && tls.alpn.as_deref() == Some("mqtt"));
    assert!(!format!("{configuration:?}").contains("p w"), "a password is shown");
}

#[test]
fn known_plugins_are_their_files() {
    let configuration = good(
        "listener 1883\nplugin /usr/lib/x/mosquitto_dynamic_security.so\nplugin_opt_config_file d.json\n\
         plugin_opt_password_init_file first\n\
         global_plugin mosquitto_acl_file.so\nauth_opt_acl_file a\nauth_plugin_deny_special_chars false\n\
         plugin_load pw mosquitto_password_file.so\nplugin_opt_password_file p\n\
         listener 1884\nplugin_use pw\n",
    );
    let kinds: Vec<_> = configuration.plugins.iter().map(|plugin| plugin.kind.clone()).collect();
    let expected = [
        PluginKind::DynamicSecurity(DynamicSecurityFile {
            path: "d.json".into(),
            password_init: Some("first".into()),
        }),
        PluginKind::AclFile("a".into()),
        PluginKind::PasswordFile("p".into()),
    ];
    assert_eq!(kinds, expected);
    assert!(!configuration.plugins[1].deny_special_characters);
    let [one, other] = [&configuration.listeners[0].security, &configuration.listeners[1].security];
    assert_eq!((one.dynamic_security.len(), other.dynamic_security.len()), (1, 1));
    assert_eq!((one.password_files.len(), other.password_files.len()), (0, 1));
    assert_eq!((one.acl_files.len(), other.acl_files.len()), (1, 1));
}

#[test]
fn a_folder_is_read_in_mosquittos_order() {
    let mut texts = Texts::default().with("m.conf", "include_dir conf.d\nlistener 9\n");
    for name in ["b", "A", "01", "a", "B", "00", "a_", "aB", "AC"] {
        texts = texts.with(&format!("conf.d/{name}.conf"), "listener 1\n");
    }
    let configuration = texts.read().unwrap_or_else(|complaints| panic!("{}", told(&complaints).join("\n")));
    let files: Vec<_> = configuration
        .listeners
        .iter()
        .map(|listener| {
            listener.place.as_ref().unwrap().file.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(files, ["00", "01", "A", "AC", "a", "aB", "a_", "B", "b", "m"]);
}

#[test]
fn each_file_begins_without_an_open_block() {
    let texts = Texts::default()
        .with("m.conf", "listener 1\ninclude_dir d\nmax_qos 1\n")
        .with("d/a.conf", "cafile x\n");
    let complaints = texts.read().unwrap_err();
    assert_eq!(told(&complaints), ["d/a.conf:1:1: 'cafile' needs a listener before it"]);
    let texts = texts.with("d/a.conf", "listener 2\n");
    let configuration = texts.read().unwrap();
    let levels: Vec<_> = configuration.listeners.iter().map(|listener| listener.max_qos).collect();
    assert_eq!(levels, [QoS::AtLeastOnce, QoS::ExactlyOnce]);
}

#[test]
fn a_limit_of_zero_is_none() {
    for (value, expected) in [("0", None), ("-1", None), ("-7", None), ("3", Some(3))] {
        let text = format!(
            "global_max_connections {value}\nglobal_max_clients {value}\nlistener 1\nmax_connections {value}\n"
        );
        let configuration = good(&text);
        assert_eq!(configuration.listeners[0].max_connections, expected, "{value}");
        assert_eq!(configuration.global.max_connections, expected, "{value}");
        let usual = quoll_broker::ShardSettings::default().max_sessions;
        assert_eq!(configuration.global.rules.max_sessions, expected.unwrap_or(usual), "{value}");
    }
}

#[test]
fn the_environment_goes_before_the_file_about_where_to_keep() {
    let texts = Texts::default().with("m.conf", "persistence true\npersistence_location /file\n");
    let surroundings =
        Surroundings { persistence_location: Some("/environment".into()), ..Surroundings::default() };
    let configuration = super::super::read(Path::new("m.conf"), &texts, &surroundings).unwrap();
    assert_eq!(configuration.global.persistence.unwrap().file, Path::new("/environment/mosquitto.db"));
}
