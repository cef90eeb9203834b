//! The table of options: all that Mosquitto 2.1 knows (facts: mosquitto §1), in the order of its manual.
//!
//! A name in the file, a check, a message and a line of the documentation all come from the same row.

use super::options::{Answer, Below, Kind, Opt, Relevance, Repeat, Scope};

const FLAG: Kind = Kind::Flag;
/// Mosquitto's bound for a text.
const TEXT: Kind = Kind::Text { max: 65_535 };

/// Rows as short as they can be read: `"name": scope, kind, repeat, relevance, answer; "default"; "meaning";`
macro_rules! options {
    ($($name:literal: $scope:ident, $kind:expr, $repeat:ident, $relevance:ident, $answer:expr;
       $default:literal; $meaning:literal;)*) => {
        &[$(Opt {
            name: $name,
            scope: Scope::$scope,
            kind: $kind,
            repeat: Repeat::$repeat,
            relevance: Relevance::$relevance,
            answer: $answer,
            default: $default,
            meaning: $meaning,
        }),*]
    };
}

/// All options.
pub static OPTIONS: &[Opt] = options! {
    // Access and identity (global; with per_listener_settings some move to the listener)
    "allow_anonymous": Security, FLAG, Last, Must, Answer::Read;
        "false; true on loopback only when no listener is configured"; "accept clients that send no user name";
    "acl_file": Security, TEXT, Last, Must, Answer::Read;
        "unset = everything allowed"; "file of topic permissions by user, plus patterns with %u and %c; re-read on SIGHUP; deprecated since 2.1 in favour of the plugin, still what everybody uses";
    "password_file": Security, TEXT, Last, Must, Answer::Read;
        "unset"; "file of user:hash lines ($6$ SHA-512, $7$ PBKDF2-SHA512 with iterations, $argon2id$); re-read on SIGHUP; deprecated since 2.1";
    "psk_file": Security, TEXT, Last, No, Answer::Refused("there is no TLS with pre-shared keys here; give these clients certificates");
        "unset"; "file of identity:hexkey lines for TLS-PSK listeners; re-read on SIGHUP";
    "per_listener_settings": Global, FLAG, Many, Must, Answer::Read;
        "false"; "makes the security options belong to the listener they follow; has to come first in the file; deprecated since 2.1";
    "allow_zero_length_clientid": Security, FLAG, Last, Must, Answer::Read;
        "true"; "let the broker invent a client id";
    "auto_id_prefix": Security, Kind::Text { max: 50 }, Once, Should, Answer::Read;
        "auto-"; "prefix of invented client ids (deprecated, see listener_auto_id_prefix)";
    "clientid_prefixes": Global, TEXT, Last, Later, Answer::Read;
        "unset"; "only client ids with this prefix may connect (deprecated)";
    "auth_plugin_deny_special_chars": Plugin, FLAG, Many, Must, Answer::Read;
        "true"; "refuse user names and client ids with + or # before ACL checks";
    "plugin": Security, Kind::Name, Many, Should, Answer::Read;
        "none"; "load a shared object: auth, ACL, events, persistence, control; several allowed; auth_plugin is the old name";
    "plugin_load": Global, Kind::NameAndPath, Many, Later, Answer::Read;
        "none"; "load a plugin under a name for later plugin_use";
    "plugin_use": NamedListener, TEXT, Many, Later, Answer::Read;
        "none"; "attach a plugin loaded by name to the current listener";
    "global_plugin": Global, Kind::Name, Many, Later, Answer::Read;
        "none"; "load a plugin for all listeners whatever per_listener_settings says";
    "plugin_opt_*": Plugin, TEXT, Many, Should, Answer::Read;
        "none"; "key and value handed to the plugin above it; auth_opt_* is the old spelling";
    "auth_plugin": Security, Kind::Name, Many, Later, Answer::Read;
        "none"; "old name of plugin";
    "enable_control_api": Global, FLAG, Last, Later, Answer::Read;
        "false"; "serve $CONTROL/broker/v1 (listPlugins, listListeners)";
    "check_retain_source": Global, FLAG, Last, Should, Answer::Read;
        "true"; "drop a retained message at delivery when its publisher has since lost write access";
    // Sessions, queues and limits (global)
    "allow_duplicate_messages": Global, FLAG, Last, Should, Answer::Read;
        "true since 2.1"; "one copy per overlapping subscription rather than one in all (deprecated)";
    "max_inflight_messages": Global, Kind::Number { min: 0, max: 65535, below: Below::Zero }, Last, Must, Answer::Read;
        "20"; "outgoing QoS 1/2 messages under way per client; also the Receive Maximum announced to 5.0 clients";
    "max_inflight_bytes": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Zero }, Last, Should, Answer::Read;
        "0 = no limit"; "the same, counted in payload bytes";
    "max_queued_messages": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Zero }, Last, Must, Answer::Read;
        "1000; 0 = no limit"; "QoS 1/2 messages queued per client beyond those under way";
    "max_queued_bytes": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Zero }, Last, Should, Answer::Read;
        "0 = no limit"; "the same in bytes; the lower of both limits holds";
    "queue_qos0_messages": Global, FLAG, Last, Should, Answer::Read;
        "false"; "queue QoS 0 for disconnected persistent clients too";
    "message_size_limit": Global, Kind::Number { min: 0, max: 268_435_455, below: Below::Refused }, Last, Must, Answer::Read;
        "0 = no limit"; "largest PUBLISH payload accepted";
    "max_packet_size": Global, Kind::Number { min: 20, max: i32::MAX as i64, below: Below::Refused }, Last, Must, Answer::Read;
        "2000000 since 2.1 (before: none)"; "largest packet accepted, announced to 5.0 clients; at least 20";
    "max_keepalive": Global, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, Must, Answer::Read;
        "0 = no cap"; "cap on keep alive: 5.0 clients are told, 3.x clients above it or without one are refused with return code 2";
    "max_connections": AnyListener, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Unlimited }, Last, Must, Answer::Read;
        "-1 = no limit"; "connections on the current listener";
    "global_max_connections": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Unlimited }, Last, Should, Answer::Read;
        "-1 = no limit"; "connections on the whole broker";
    "global_max_clients": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Unlimited }, Last, Should, Answer::Read;
        "-1 = no limit"; "sessions on the whole broker, offline ones included";
    "memory_limit": Global, Kind::Number { min: 0, max: i64::MAX, below: Below::Refused }, Last, Later, Answer::Ignored("each use of memory has its own bound, and what retained messages may take follows the machine's memory or the MemoryMax= of the service (docs/limits.md)");
        "0 = none"; "hard limit on heap use; allocations above it fail";
    "persistent_client_expiration": Global, Kind::Period, Last, Must, Answer::Read;
        "never"; "forget offline sessions after a time with unit h, d, w, m, y (s since 2.1)";
    "retain_available": Global, FLAG, Last, Must, Answer::Read;
        "true"; "retained messages at all; false is announced to 5.0 clients";
    "retain_expiry_interval": Global, Kind::Number { min: 1, max: i32::MAX as i64, below: Below::Refused }, Last, Later, Answer::Read;
        "0 = never"; "expire retained messages after this long";
    "upgrade_outgoing_qos": Global, FLAG, Last, Later, Answer::Read;
        "false"; "deliver at the subscriber's QoS even above the publisher's";
    "set_tcp_nodelay": Global, FLAG, Last, Should, Answer::Read;
        "false"; "switch Nagle off";
    "packet_buffer_size": Global, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, No, Answer::Ignored("buffers find their size themselves");
        "4096"; "read buffer before a packet's size is known, also the websocket header limit; websockets_headers_size is the old name";
    "websockets_headers_size": Global, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, No, Answer::Ignored("buffers find their size themselves");
        "4096"; "see packet_buffer_size";
    "retry_interval": Global, Kind::Anything, Many, Must, Answer::Ignored("messages are sent again when a client comes back, as the standard has it; Mosquitto ignores this too");
        "ignored"; "ignored with a warning since 2.0; must not stop the start";
    "sys_interval": Global, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, Must, Answer::Read;
        "10"; "seconds between $SYS updates; 0 turns the tree off";
    // Persistence (global)
    "persistence": Global, FLAG, Last, Must, Answer::Read;
        "false"; "keep sessions, subscriptions, queued and retained messages over a restart";
    "persistence_file": Global, TEXT, Once, Must, Answer::Read;
        "mosquitto.db"; "name of the database file";
    "persistence_location": Global, TEXT, Once, Must, Answer::Read;
        "current directory"; "its directory; the environment variable MOSQUITTO_PERSISTENCE_LOCATION too";
    "autosave_interval": Global, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Zero }, Last, Must, Answer::Read;
        "1800"; "seconds between saves; 0 = only at exit and on SIGUSR1";
    "autosave_on_changes": Global, FLAG, Last, Must, Answer::Read;
        "false"; "autosave_interval counts changes, not seconds";
    "retained_persistence": Global, FLAG, Last, Later, Answer::Read;
        "-"; "very old name of persistence";
    // Logging and process (global)
    "log_dest": Global, Kind::LogDestination, Many, Must, Answer::Read;
        "stderr"; "stderr, stdout, syslog, topic, file PATH, dlt, android, none; several allowed";
    "log_type": Global, Kind::Word(&["debug", "error", "warning", "notice", "information", "subscribe", "unsubscribe", "websockets", "internal", "none", "all"]), Many, Must, Answer::Read;
        "error warning notice information"; "debug, error, warning, notice, information, subscribe, unsubscribe, websockets, internal, none, all; several allowed";
    "log_facility": Global, Kind::Number { min: 0, max: 7, below: Below::Refused }, Last, Should, Answer::Read;
        "daemon"; "0-7 for syslog local0-7";
    "log_timestamp": Global, FLAG, Last, Must, Answer::Read;
        "true"; "put a time before each line";
    "log_timestamp_format": Global, TEXT, Once, Must, Answer::Read;
        "unset = Unix seconds"; "strftime format of that time";
    "connection_messages": Global, FLAG, Last, Must, Answer::Read;
        "true"; "log connects and disconnects";
    "websockets_log_level": Global, Kind::Number { min: i32::MIN as i64, max: i32::MAX as i64, below: Below::Refused }, Last, No, Answer::Ignored("there is no libwebsockets here");
        "0"; "libwebsockets' own logging bits";
    "pid_file": Global, TEXT, Once, Must, Answer::Read;
        "none"; "write the process id there";
    "user": Global, TEXT, Last, Must, Answer::Read;
        "mosquitto, else nobody"; "account to change to when started as root";
    "include_dir": Global, TEXT, Many, Must, Answer::Read;
        "none"; "also read every *.conf of a directory, in C-locale order";
    // Listener
    "listener": Global, Kind::Listener, Many, Must, Answer::Read;
        "none; without any: 1883 on loopback"; "PORT [ADDRESS or interface or UNIX socket path with port 0]; opens a new block";
    "port": DefaultListener, Kind::Number { min: 1, max: 65535, below: Below::Refused }, Last, Must, Answer::Read;
        "1883"; "port of the implicit default listener (deprecated)";
    "bind_address": DefaultListener, TEXT, Once, Must, Answer::Read;
        "all"; "address of the default listener (deprecated)";
    "bind_interface": AnyListener, TEXT, Once, Should, Answer::Read;
        "none"; "bind to a network interface (SO_BINDTODEVICE)";
    "socket_domain": AnyListener, Kind::Word(&["ipv4", "ipv6"]), Last, Must, Answer::Read;
        "both"; "ipv4 or ipv6 only";
    "protocol": AnyListener, Kind::Word(&["mqtt", "websockets", "http_api"]), Last, Must, Answer::Read;
        "mqtt"; "mqtt, websockets, http_api (mqttsn reserved)";
    "http_dir": Listener, TEXT, Once, Later, Answer::Read;
        "none"; "static files on http_api (dashboard) and libwebsockets listeners";
    "websockets_origin": Listener, TEXT, Many, Should, Answer::Read;
        "all"; "allowed Origin values; several";
    "mount_point": Listener, TEXT, Last, Should, Answer::Read;
        "none"; "prefix put before all topics of the listener's clients, stripped on delivery";
    "max_qos": AnyListener, Kind::Number { min: 0, max: 2, below: Below::Refused }, Last, Should, Answer::Read;
        "2"; "highest QoS; told to 5.0 clients; maximum_qos is another spelling";
    "maximum_qos": AnyListener, Kind::Number { min: 0, max: 2, below: Below::Refused }, Last, Should, Answer::Read;
        "2"; "see max_qos";
    "max_topic_alias": Listener, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, Must, Answer::Read;
        "10"; "aliases a 5.0 client may create";
    "max_topic_alias_broker": Listener, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, Should, Answer::Read;
        "10"; "aliases the broker creates towards a 5.0 client";
    "accept_protocol_versions": NamedListener, Kind::Versions, Last, Should, Answer::Read;
        "all"; "comma list of 3, 4, 5";
    "listener_allow_anonymous": Listener, FLAG, Last, Must, Answer::Read;
        "unset"; "allow_anonymous for this listener only";
    "listener_auto_id_prefix": Listener, Kind::Text { max: 50 }, Once, Should, Answer::Read;
        "auto-"; "auto_id_prefix for this listener; at most 50 characters";
    "use_username_as_clientid": AnyListener, FLAG, Last, Must, Answer::Read;
        "false"; "client id becomes the user name, so nobody can take over another's session";
    "enable_proxy_protocol": Listener, Kind::Number { min: 1, max: 2, below: Below::Refused }, Last, Should, Answer::Read;
        "off"; "PROXY protocol version 1 or 2 in front of the connection";
    "proxy_protocol_v2_require_tls": Listener, FLAG, Last, Should, Answer::Read;
        "false"; "refuse PROXY v2 connections whose client leg was not TLS";
    // Listener, TLS with certificates
    "certfile": AnyListener, TEXT, Last, Must, Answer::Read;
        "none; with keyfile turns TLS on"; "server certificate chain (PEM); re-read on SIGHUP";
    "keyfile": AnyListener, TEXT, Last, Must, Answer::Read;
        "none"; "its key; re-read on SIGHUP";
    "cafile": Listener, TEXT, Last, Must, Answer::Read;
        "none"; "CAs for client certificates (a restart is needed after changes, see part 4)";
    "capath": AnyListener, TEXT, Last, Should, Answer::Read;
        "none"; "directory of hashed CA files";
    "require_certificate": AnyListener, FLAG, Last, Must, Answer::Read;
        "false"; "clients must show a certificate of those CAs";
    "crlfile": AnyListener, TEXT, Last, Must, Answer::Read;
        "none"; "PEM revocation list(s), checked when certificates are required; re-read on SIGHUP";
    "use_identity_as_username": AnyListener, FLAG, Last, Must, Answer::Read;
        "false"; "user name = CN of the client certificate; the password file is then not asked";
    "use_subject_as_username": AnyListener, FLAG, Last, Must, Answer::Read;
        "false"; "user name = whole subject, RFC 2253 order";
    "disable_client_cert_date_checks": Listener, FLAG, Last, Should, Answer::Read;
        "false"; "accept expired and not yet valid client certificates";
    "tls_version": Listener, Kind::Word(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]), Once, Must, Answer::Read;
        "1.2 and 1.3"; "lowest version: tlsv1.2 or tlsv1.3 (1.1 undocumented)";
    "ciphers": AnyListener, TEXT, Last, Should, Answer::Read;
        "OpenSSL default"; "OpenSSL cipher list for TLS 1.2";
    "ciphers_tls1.3": AnyListener, TEXT, Last, Should, Answer::Read;
        "OpenSSL default"; "cipher suites for TLS 1.3";
    "dhparamfile": Global, Kind::Anything, Many, Must, Answer::Ignored("the parameters are chosen by the library; Mosquitto ignores this too");
        "automatic"; "DH parameters; \"no longer required\" warning since OpenSSL picks them itself";
    "tls_engine": AnyListener, TEXT, Once, No, Answer::Refused("there are no OpenSSL engines here; put the key into a PEM file");
        "none"; "OpenSSL engine for the key";
    "tls_engine_kpass_sha1": AnyListener, Kind::Secret, Last, No, Answer::Refused("there are no OpenSSL engines here; put the key into a PEM file");
        "none"; "hash of the key's password for the engine";
    "tls_keyform": AnyListener, Kind::Word(&["pem", "engine"]), Last, No, Answer::RefusedIf("engine", "there are no OpenSSL engines here; put the key into a PEM file");
        "pem"; "pem or engine";
    // Listener, TLS with pre-shared keys
    "psk_hint": AnyListener, TEXT, Once, No, Answer::Refused("there is no TLS with pre-shared keys here; give these clients certificates");
        "none"; "turns TLS-PSK on for the listener, sent as hint";
    // Bridges: link
    "connection": Global, Kind::Name, Many, Must, Answer::Read;
        "none"; "NAME; opens a bridge block";
    "address": Bridge, Kind::Addresses, Once, Must, Answer::Read;
        "port 1883"; "HOST[:PORT] ..., also addresses; several for failover";
    "addresses": Bridge, Kind::Addresses, Once, Must, Answer::Read;
        "-"; "see address";
    "topic": Bridge, Kind::Topic, Many, Must, Answer::Read;
        "out, QoS 0"; "PATTERN [out,in,both [QOS]] [LOCAL-PREFIX REMOTE-PREFIX], several";
    "bridge_protocol_version": Bridge, Kind::Word(&["mqttv31", "mqttv311", "mqttv50"]), Last, Must, Answer::Read;
        "mqttv311"; "mqttv31, mqttv311, mqttv50";
    "cleansession": Bridge, FLAG, Last, Must, Answer::Read;
        "false"; "clean session at the remote end";
    "local_cleansession": Bridge, FLAG, Last, Should, Answer::Read;
        "as cleansession"; "clean session at the local end";
    "keepalive_interval": Bridge, Kind::Number { min: 5, max: 65535, below: Below::Raised }, Last, Must, Answer::Read;
        "60"; "keep alive in seconds, at least 5";
    "restart_timeout": Bridge, Kind::Restart, Last, Must, Answer::Read;
        "5 30"; "BASE CAP [STABLE] back-off with jitter, or a constant";
    "start_type": Bridge, Kind::Word(&["automatic", "lazy", "once"]), Last, Should, Answer::Read;
        "automatic"; "automatic, lazy, once";
    "idle_timeout": Bridge, Kind::Number { min: 1, max: i32::MAX as i64, below: Below::Raised }, Last, Later, Answer::Read;
        "60"; "seconds of silence before a lazy bridge closes";
    "threshold": Bridge, Kind::Number { min: 1, max: i32::MAX as i64, below: Below::Raised }, Last, Later, Answer::Read;
        "10"; "queued messages that start a lazy bridge";
    "round_robin": Bridge, FLAG, Last, Should, Answer::Read;
        "false"; "with several addresses: take the next, no return to the first";
    "remote_clientid": Bridge, TEXT, Once, Must, Answer::Read;
        "NAME.hostname"; "client id at the remote end (old: clientid)";
    "clientid": Bridge, TEXT, Once, Should, Answer::Read;
        "-"; "old name of remote_clientid";
    "remote_username": Bridge, TEXT, Once, Must, Answer::Read;
        "none"; "user at the remote end (old: username)";
    "username": Bridge, TEXT, Once, Must, Answer::Read;
        "-"; "old name of remote_username";
    "remote_password": Bridge, Kind::Secret, Once, Must, Answer::Read;
        "none"; "password there (old: password)";
    "password": Bridge, Kind::Secret, Once, Must, Answer::Read;
        "-"; "old name of remote_password";
    "local_clientid": Bridge, TEXT, Once, Should, Answer::Read;
        "local.REMOTE-ID"; "client id on this broker";
    "local_username": Bridge, TEXT, Once, Should, Answer::Read;
        "none"; "user on this broker, for ACLs";
    "local_password": Bridge, Kind::Secret, Once, Should, Answer::Read;
        "none"; "password on this broker";
    "notifications": Bridge, FLAG, Last, Must, Answer::Read;
        "true"; "publish retained 1/0 state of the bridge, and a will for it";
    "notifications_local_only": Bridge, FLAG, Last, Should, Answer::Read;
        "false"; "only on this broker";
    "notification_topic": Bridge, TEXT, Once, Should, Answer::Read;
        "$SYS/broker/connection/ID/state"; "topic for it";
    "try_private": Bridge, FLAG, Last, Must, Answer::Read;
        "true"; "set the bridge bit in the protocol version so that the other side detects loops";
    "bridge_attempt_unsubscribe": Bridge, FLAG, Last, Should, Answer::Read;
        "true"; "send UNSUBSCRIBE for out topics";
    "bridge_bind_address": Bridge, TEXT, Once, Later, Answer::Read;
        "any"; "local address to connect from";
    "bridge_max_packet_size": Bridge, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Zero }, Last, Later, Answer::Read;
        "0 = none"; "limit for packets sent over it";
    "bridge_max_topic_alias": Bridge, Kind::Number { min: 0, max: 65535, below: Below::Refused }, Last, Later, Answer::Read;
        "10"; "aliases the remote end may create (5.0)";
    "bridge_outgoing_retain": Bridge, FLAG, Last, Should, Answer::Read;
        "true"; "keep the retain flag on outgoing messages";
    "bridge_receive_maximum": Bridge, Kind::Number { min: 1, max: 65535, below: Below::Refused }, Last, Later, Answer::Read;
        "max_inflight_messages"; "5.0 Receive Maximum";
    "bridge_session_expiry_interval": Bridge, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Refused }, Last, Later, Answer::Read;
        "0"; "5.0 session expiry at the remote end";
    "bridge_tcp_keepalive": Bridge, Kind::TcpKeepalive, Last, Later, Answer::Read;
        "off"; "IDLE INTERVAL COUNT for TCP keepalive";
    "bridge_tcp_user_timeout": Bridge, Kind::Number { min: 0, max: i32::MAX as i64, below: Below::Refused }, Last, Later, Answer::Read;
        "system"; "TCP_USER_TIMEOUT in ms";
    "bridge_reload_type": Bridge, Kind::Word(&["lazy", "immediate"]), Last, Should, Answer::Read;
        "lazy"; "lazy or immediate: when changes take effect after SIGHUP";
    // Bridges: TLS
    "bridge_cafile": Bridge, TEXT, Once, Must, Answer::Read;
        "none"; "CAs that vouch for the remote broker; turns TLS on";
    "bridge_capath": Bridge, TEXT, Once, Should, Answer::Read;
        "none"; "directory of such CAs";
    "bridge_tls_use_os_certs": Bridge, FLAG, Last, Must, Answer::Read;
        "false"; "trust the system's CAs; turns TLS on";
    "bridge_certfile": Bridge, TEXT, Once, Must, Answer::Read;
        "none"; "client certificate of the bridge";
    "bridge_keyfile": Bridge, TEXT, Last, Must, Answer::Read;
        "none"; "its key";
    "bridge_insecure": Bridge, FLAG, Last, Must, Answer::Read;
        "false"; "do not check the host name";
    "bridge_alpn": Bridge, TEXT, Once, Should, Answer::Read;
        "none"; "ALPN protocol to offer (one cloud service wants it)";
    "bridge_tls_version": Bridge, Kind::Word(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]), Once, Should, Answer::Read;
        "tlsv1.2"; "tlsv1.2 or tlsv1.3";
    "bridge_ciphers": Bridge, TEXT, Once, Later, Answer::Read;
        "OpenSSL default"; "cipher list, TLS 1.2";
    "bridge_ciphers_tls1.3": Bridge, TEXT, Once, Later, Answer::Read;
        "OpenSSL default"; "cipher suites, TLS 1.3";
    "bridge_require_ocsp": Bridge, FLAG, Last, Later, Answer::RefusedIf("true", "stapled OCSP answers are not checked here; without the line the bridge would trust more than you want");
        "false"; "demand a stapled OCSP answer";
    "bridge_identity": Bridge, TEXT, Once, No, Answer::Refused("there is no TLS with pre-shared keys here; give these clients certificates");
        "none"; "PSK identity";
    "bridge_psk": Bridge, Kind::Secret, Once, No, Answer::Refused("there is no TLS with pre-shared keys here; give these clients certificates");
        "none"; "PSK key, hex";
};
