//! `docs/limits.md` says what the constants say, and leaves none out. `QUOLL_BLESS=1 cargo test -p quoll-server --test limits_page`
//! writes it anew.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;

use quoll_broker::{ShardSettings, limits as rules};
use quoll_mqtt::limits as wire;
use quoll_server::journal::sqlite;
use quoll_server::{WebSocketSettings, limits as coat};

/// Name of the constant, or of the option of mosquitto.conf in lower case; its value; what is bounded and why; what the peer sees.
struct Row(&'static str, String, &'static str, &'static str);

fn row(name: &'static str, value: impl Into<String>, what: &'static str, seen: &'static str) -> Row {
    Row(name, value.into(), what, seen)
}

/// With commas between thousands.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn count(value: usize) -> String {
    number(value as u64)
}

fn bytes(value: usize) -> String {
    match value {
        value if value >= 1 << 20 && value.is_multiple_of(1 << 20) => format!("{} MiB", value >> 20),
        value if value >= 1 << 10 && value.is_multiple_of(1 << 10) => format!("{} KiB", value >> 10),
        value => format!("{} bytes", count(value)),
    }
}

fn time(value: Duration) -> String {
    if value.subsec_millis() == 0 {
        format!("{} s", value.as_secs())
    } else {
        format!("{} ms", value.as_millis())
    }
}

fn or_none(value: u64) -> String {
    if value == 0 { "none".into() } else { number(value) }
}

fn sections() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let own = ShardSettings::default();
    vec![
        (
            "Coming in",
            "From accept to a complete CONNECT. One patience holds for all of it: PROXY header, TLS, WebSocket, CONNECT and the \
             dialogue of AUTH together, so that it makes no difference whether bytes drip or do not come.",
            vec![
                row(
                    "CONNECT_PATIENCE",
                    time(coat::CONNECT_PATIENCE),
                    "from accept to CONNECT; an ESP8266 gives up its own handshake then",
                    "the connection ends",
                ),
                row(
                    "MAX_ARRIVALS",
                    count(coat::MAX_ARRIVALS),
                    "connections on their way in at a time",
                    "it waits in the system's queue, as on a slow network",
                ),
                row(
                    "UNHEARD_PATIENCE",
                    time(coat::UNHEARD_PATIENCE),
                    "while all those places are taken: how long one may have said nothing whole (ClientHello, CONNECT) before it gives way; so silent connections hold up nobody",
                    "the connection ends",
                ),
                row("PRESS_EVERY", time(coat::PRESS_EVERY), "how often they are asked to", "nothing"),
                row(
                    "LISTEN_BACKLOG",
                    count(coat::LISTEN_BACKLOG as usize),
                    "connections that the system keeps while arrivals are busy",
                    "a longer wait; beyond it, what the system does",
                ),
                row(
                    "MAX_ARRIVAL_BYTES",
                    bytes(coat::MAX_ARRIVAL_BYTES),
                    "bytes before CONNECT is complete; also the largest CONNECT, will included, and what `max_packet_size` cannot raise",
                    "the connection ends",
                ),
                row(
                    "MAX_CLIENT_HELLO",
                    bytes(coat::MAX_CLIENT_HELLO),
                    "a ClientHello",
                    "the connection ends",
                ),
                row(
                    "MAX_PROXY_1",
                    bytes(coat::MAX_PROXY_1),
                    "a PROXY header of version 1",
                    "the connection ends",
                ),
                row(
                    "MAX_PROXY_2",
                    bytes(coat::MAX_PROXY_2),
                    "a PROXY header of version 2",
                    "the connection ends",
                ),
                row(
                    "packet_buffer_size",
                    bytes(WebSocketSettings::default().max_request),
                    "the request for a WebSocket",
                    "431 Request Header Fields Too Large",
                ),
                row(
                    "AUTH_STEPS",
                    count(coat::AUTH_STEPS),
                    "AUTH packets of a client in one authentication",
                    "CONNACK or DISCONNECT 0x87 Not authorized",
                ),
                row(
                    "REFUSAL_DRAIN",
                    time(coat::REFUSAL_DRAIN),
                    "how long a refused peer is read on, so that it sees why",
                    "the reason: alert, CONNACK, HTTP status",
                ),
                row(
                    "ARRIVAL_THREADS",
                    count(coat::ARRIVAL_THREADS),
                    "threads that do handshakes",
                    "a storm takes longer, who is connected is served first",
                ),
                row("ARRIVAL_NICENESS", coat::ARRIVAL_NICENESS.to_string(), "their niceness", "nothing"),
                row(
                    "REMEMBERED_CERTIFICATES",
                    count(coat::REMEMBERED_CERTIFICATES),
                    "verified certificates that are remembered",
                    "a handshake that takes 40 µs more",
                ),
                row(
                    "MAX_VISITORS",
                    count(coat::MAX_VISITORS),
                    "connections at a time to a listener with `protocol http_api`; while all are taken, who says nothing whole for a \
                     second gives way",
                    "it waits",
                ),
                row(
                    "VISIT",
                    time(coat::VISIT),
                    "how long such a connection may be there in all",
                    "the connection ends",
                ),
                row(
                    "ANSWER_PATIENCE",
                    time(coat::ANSWER_PATIENCE),
                    "how long its peer may take to take an answer",
                    "the connection ends",
                ),
                row(
                    "MAX_HTTP_REQUEST",
                    bytes(coat::MAX_HTTP_REQUEST),
                    "a request there",
                    "431 Request Header Fields Too Large",
                ),
                row(
                    "HTTP_HEADERS",
                    count(coat::HTTP_HEADERS),
                    "headers of a request, there or for a WebSocket",
                    "431 Request Header Fields Too Large",
                ),
            ],
        ),
        (
            "Connections and descriptors",
            "The limit of open files is raised to the hard limit at the start (`ulimit -Hn`, `LimitNOFILE=`).",
            vec![
                row("max_connections", "none", "connections of a listener", "the connection ends at once"),
                row(
                    "global_max_connections",
                    "none",
                    "connections of all listeners",
                    "the connection ends at once",
                ),
                row(
                    "RESERVED_FILES",
                    number(coat::RESERVED_FILES),
                    "descriptors that are left to the journal, a reload, plugins' files; an eighth where there are few. Who says nothing gives way here too",
                    "the connection ends at once",
                ),
                row(
                    "ACCEPT_REPORT",
                    time(coat::ACCEPT_REPORT),
                    "how often the log says that there are too many open files",
                    "nothing",
                ),
            ],
        ),
        (
            "A connected client",
            "Silence for 1.5 times the Keep Alive ends a connection [MQTT-3.1.2-22], a packet that drips too: only whole ones count.",
            vec![
                row(
                    "max_packet_size",
                    number(own.max_packet_size.into()),
                    "a packet, in bytes; 5.0 clients are told",
                    "DISCONNECT 0x95 Packet too large",
                ),
                row(
                    "MAX_REMAINING_LENGTH",
                    number(wire::MAX_REMAINING_LENGTH.into()),
                    "what a packet's length can say",
                    "a fifth byte of it: DISCONNECT 0x81 Malformed Packet",
                ),
                row(
                    "message_size_limit",
                    or_none(own.message_size_limit.into()),
                    "a payload, in bytes",
                    "0x95 in PUBACK or PUBREC",
                ),
                row(
                    "max_keepalive",
                    or_none(own.max_keepalive.into()),
                    "Keep Alive, in seconds",
                    "5.0: Server Keep Alive; 3.x: return code 2",
                ),
                row(
                    "TOPIC_LEVELS",
                    count(rules::TOPIC_LEVELS),
                    "levels of a topic, a filter with its `$share/NAME`, a will's topic: 200 slashes, as in Mosquitto",
                    "the connection ends, as in Mosquitto; 5.0: DISCONNECT 0x82 Protocol Error for PUBLISH, 0x81 Malformed Packet for SUBSCRIBE and UNSUBSCRIBE; a CONNECT with such a will gets no answer",
                ),
                row(
                    "USER_PROPERTIES",
                    count(rules::USER_PROPERTIES),
                    "user properties of a message",
                    "0x97 Quota exceeded",
                ),
                row(
                    "CLIENT_ID",
                    bytes(rules::CLIENT_ID),
                    "a client identifier: the wire's own bound",
                    "0x85 Client Identifier not valid",
                ),
                row(
                    "max_topic_alias",
                    number(own.max_topic_alias.into()),
                    "aliases that a client may use; it is told",
                    "DISCONNECT 0x94 Topic Alias invalid",
                ),
                row(
                    "max_topic_alias_broker",
                    number(own.max_topic_alias_broker.into()),
                    "aliases that we use, if it allows them",
                    "nothing",
                ),
                row(
                    "max_inflight_messages",
                    number(own.max_inflight_messages.into()),
                    "messages of QoS 1 and 2 under way to a client; the Receive Maximum that it is told",
                    "the rest waits; what it sends beyond: DISCONNECT 0x93 Receive Maximum exceeded",
                ),
                row(
                    "max_inflight_bytes",
                    or_none(own.max_inflight_bytes.into()),
                    "payload bytes of them",
                    "the rest waits",
                ),
                row(
                    "HELD_MESSAGES",
                    count(rules::HELD_MESSAGES),
                    "messages of QoS 2 that wait for their PUBREL",
                    "3.x: further ones are passed on at once (§4.3.3)",
                ),
                row(
                    "HELD_BYTES",
                    bytes(rules::HELD_BYTES),
                    "payload bytes of them",
                    "further ones are passed on at once",
                ),
                row(
                    "UNREAD_PONGS",
                    bytes(coat::UNREAD_PONGS),
                    "what waits for a WebSocket peer when its pings stay without answer",
                    "no Pong until it reads",
                ),
            ],
        ),
        (
            "Who does not read",
            "What waits for a client that takes nothing. Payloads from 2 KiB on are shared by all who wait for them.",
            vec![
                row(
                    "CONGESTED_FROM",
                    bytes(coat::CONGESTED_FROM),
                    "bytes waiting; beyond, messages of QoS 0 for it are dropped and counted, and retained ones wait",
                    "gaps at QoS 0",
                ),
                row(
                    "SHARED_FOR_ONE",
                    count(coat::SHARED_FOR_ONE),
                    "bytes of shared payloads that weigh there as much as one other byte",
                    "nothing",
                ),
                row(
                    "MAX_WAITING",
                    bytes(coat::MAX_WAITING),
                    "bytes waiting that end its connection, at once also in the middle of a message that is for many of its filters",
                    "the connection ends",
                ),
                row(
                    "STALL_PATIENCE",
                    time(coat::STALL_PATIENCE),
                    "how long it may take nothing at all",
                    "the connection ends",
                ),
                row(
                    "max_queued_messages",
                    number(own.max_queued_messages.into()),
                    "messages of QoS 1 and 2 that wait for a client, absent or slow",
                    "later ones are dropped",
                ),
                row(
                    "max_queued_bytes",
                    or_none(own.max_queued_bytes),
                    "payload bytes of them from which on no further one waits",
                    "later ones are dropped",
                ),
                row(
                    "DROPPED_REPORT",
                    time(Duration::from_millis(rules::DROPPED_REPORT)),
                    "how often the log says so for one client",
                    "nothing",
                ),
                row(
                    "FAREWELL_PATIENCE",
                    time(coat::FAREWELL_PATIENCE),
                    "how long our last words to it may take",
                    "the connection ends",
                ),
                row(
                    "LINGER",
                    time(coat::LINGER),
                    "how long it is read on after them, so that they arrive",
                    "DISCONNECT, then the end",
                ),
            ],
        ),
        (
            "Sessions, subscriptions, retained messages",
            "Mosquitto's `memory_limit` makes allocations fail above it; here each use has its own bound. To hold the broker to a part \
             of a small machine, set `MemoryMax=` in its service, or the container's limit: what retained messages may take follows \
             it, and `max_queued_messages`, `max_queued_bytes`, `global_max_clients` and `max_connections` bound the rest.",
            vec![
                row(
                    "SESSIONS",
                    number(rules::SESSIONS.into()),
                    "sessions on a shard, those of absent clients included (`global_max_clients`)",
                    "CONNACK 0x89 Server busy; 3.x: 3",
                ),
                row(
                    "persistent_client_expiration",
                    "never",
                    "how long the session of an absent client is kept",
                    "Session Present 0",
                ),
                row(
                    "SUBSCRIPTIONS",
                    number(rules::SUBSCRIPTIONS.into()),
                    "subscriptions of a session",
                    "SUBACK 0x97 Quota exceeded; 3.x: 0x80",
                ),
                row(
                    "SUBSCRIPTION_BYTES",
                    bytes(rules::SUBSCRIPTION_BYTES),
                    "their filters",
                    "SUBACK 0x97 Quota exceeded; 3.x: 0x80",
                ),
                row(
                    "FILTERS_PER_PACKET",
                    count(rules::FILTERS_PER_PACKET),
                    "filters in one SUBSCRIBE or UNSUBSCRIBE",
                    "DISCONNECT 0x97 Quota exceeded",
                ),
                row(
                    "GROUP_MEMBERS",
                    count(rules::GROUP_MEMBERS),
                    "members of a shared subscription",
                    "SUBACK 0x97 Quota exceeded; 3.x: 0x80",
                ),
                row(
                    "MEMBERS_TRIED",
                    count(rules::MEMBERS_TRIED),
                    "members of it that are asked for one message, if some have no room, on whichever shard they are",
                    "beyond, the message waits for a member or is dropped",
                ),
                row("RETAINED", count(rules::RETAINED), "retained messages", "0x97 Quota exceeded"),
                row(
                    "RETAINED_BYTES",
                    bytes(usize::try_from(rules::RETAINED_BYTES).unwrap_or(usize::MAX)),
                    "memory that they may take: topics, payloads, properties, and `RETAINED_COST` for each",
                    "0x97 Quota exceeded; the message is passed on, and what was retained for its topic stays",
                ),
                row(
                    "RETAINED_PART",
                    format!("1/{}", coat::RETAINED_PART),
                    "of the machine's memory, or of what its control group (a container, `MemoryMax=`) leaves the broker, that they may \
                     take where that is less; read at the start",
                    "the same",
                ),
                row(
                    "RETAINED_COST",
                    bytes(usize::try_from(rules::RETAINED_COST).unwrap_or(usize::MAX)),
                    "that each counts beside its bytes, so that many small ones are no way round",
                    "nothing",
                ),
                row(
                    "REPLAY_STRETCH",
                    count(rules::REPLAY_STRETCH),
                    "retained messages that a new subscriber gets before others have their turn",
                    "nothing",
                ),
                row(
                    "EXPIRED_PER_CALL",
                    count(rules::EXPIRED_PER_CALL),
                    "sessions, wills and messages whose time is over that are dealt with before others have their turn",
                    "nothing",
                ),
                row(
                    "REMEMBERED_TOPICS",
                    count(rules::REMEMBERED_TOPICS),
                    "topics whose subscribers are remembered, on a shard",
                    "nothing",
                ),
                row(
                    "REMEMBERED_TOPIC_BYTES",
                    bytes(rules::REMEMBERED_TOPIC_BYTES),
                    "the longest of them",
                    "nothing",
                ),
                row(
                    "REMEMBERED_FILTERS",
                    count(rules::REMEMBERED_FILTERS),
                    "filters that match one of them",
                    "nothing",
                ),
            ],
        ),
        (
            "Inside",
            "What one turn of a shard may cost, and what waits between threads. When a bound is reached sockets stay unread for a moment: \
             the peer sees a slow network.",
            vec![
                row("SHARDS", number(rules::SHARDS.into()), "shards of a node", "nothing"),
                row("READ_BUFFER", bytes(coat::READ_BUFFER), "what a thread reads at a time", "nothing"),
                row(
                    "READS_PER_TURN",
                    count(coat::READS_PER_TURN),
                    "full reads of one connection before others have their turn",
                    "nothing",
                ),
                row(
                    "SHARE_OF_TURN",
                    time(coat::SHARE_OF_TURN),
                    "how long one connection's packets are handled before others have their turn",
                    "a slower answer",
                ),
                row(
                    "FRAMES_PER_LOOK",
                    count(coat::FRAMES_PER_LOOK as usize),
                    "packets after which it is looked how long they took",
                    "nothing",
                ),
                row("SHARE_FROM", bytes(coat::SHARE_FROM), "a payload that is shared, not copied", "nothing"),
                row(
                    "FLUSH_EARLY",
                    bytes(coat::FLUSH_EARLY),
                    "what waits for one peer before it is written in the middle of a turn",
                    "nothing",
                ),
                row(
                    "SEAL_CHUNK",
                    bytes(coat::SEAL_CHUNK),
                    "plaintext that is encrypted at a time",
                    "nothing",
                ),
                row(
                    "POOLED_BUFFERS",
                    count(coat::POOLED_BUFFERS),
                    "buffers that a thread keeps for reuse",
                    "nothing",
                ),
                row("POOLED_CAPACITY", bytes(coat::POOLED_CAPACITY), "the largest of them", "nothing"),
                row(
                    "FULL_BOX",
                    count(coat::FULL_BOX),
                    "letters that wait for another shard",
                    "a slower answer",
                ),
                row(
                    "EVENT_BACKLOG",
                    count(coat::EVENT_BACKLOG),
                    "events that who watches may lag behind",
                    "nothing",
                ),
                row(
                    "CONTROL_BACKLOG",
                    count(coat::CONTROL_BACKLOG),
                    "orders to `$CONTROL` that wait",
                    "no answer to further ones",
                ),
                row(
                    "PANICS_PER_SHARD",
                    number(coat::PANICS_PER_SHARD.into()),
                    "faults of our own after which a shard is given up",
                    "each costs the connection that it hit",
                ),
                row(
                    "OPEN_NEXT_SHARD",
                    format!("{} %", coat::OPEN_NEXT_SHARD * 100.0),
                    "load of the busiest shard from which on new clients go to another",
                    "nothing",
                ),
                row(
                    "journal::MAX_WAITING_FACTS",
                    count(sqlite::MAX_WAITING_FACTS),
                    "facts that wait for the disk",
                    "a slower answer",
                ),
                row(
                    "journal::MAX_WAITING_BYTES",
                    bytes(sqlite::MAX_WAITING_BYTES),
                    "payload bytes of them",
                    "a slower answer",
                ),
                row(
                    "journal::PATIENCE",
                    time(sqlite::PATIENCE),
                    "how long a disk that refuses is waited for",
                    "then 0x97 Quota exceeded, or the end for 3.x",
                ),
                row(
                    "journal::RETRY_EVERY",
                    time(sqlite::RETRY_EVERY),
                    "how often it is tried again",
                    "nothing",
                ),
            ],
        ),
        (
            "Bridges, and clients of our own",
            "The other broker may be hostile too.",
            vec![
                row(
                    "BRIDGE_DIAL_PATIENCE",
                    time(coat::BRIDGE_DIAL_PATIENCE),
                    "TCP connection and TLS handshake",
                    "the connection ends; it is called again",
                ),
                row(
                    "BRIDGE_CONNACK_PATIENCE",
                    time(coat::BRIDGE_CONNACK_PATIENCE),
                    "from CONNECT to CONNACK",
                    "the connection ends; it is called again",
                ),
                row(
                    "BRIDGE_HIGH_WATER",
                    bytes(coat::BRIDGE_HIGH_WATER),
                    "what waits for one side before the other is not read",
                    "a slow network",
                ),
                row(
                    "BRIDGE_HELD_BYTES",
                    bytes(coat::BRIDGE_HELD_BYTES),
                    "payload bytes of QoS 2 beyond what it was told",
                    "the connection ends; it is called again",
                ),
                row(
                    "CLIENT_MAXIMUM_PACKET_SIZE",
                    number(wire::CLIENT_MAXIMUM_PACKET_SIZE.into()),
                    "a packet for a client of ours, in bytes",
                    "it is told; then DISCONNECT 0x95",
                ),
                row(
                    "CLIENT_REQUESTS",
                    count(wire::CLIENT_REQUESTS),
                    "requests of such a client under way",
                    "nothing",
                ),
                row(
                    "ANSWER_PATIENCE",
                    time(wire::ANSWER_PATIENCE),
                    "how long such a client waits for CONNACK and PINGRESP",
                    "the connection ends",
                ),
            ],
        ),
    ]
}

const HEAD: &str = "# Limits\n\n\
    Every bound that a peer can run into, in one place. Names in capitals are constants (`crates/*/src/limits.rs`, each with its reason); \
    those in small letters are options of mosquitto.conf, with their defaults. A test writes this page and holds it to the program \
    (`QUOLL_BLESS=1 cargo test -p quoll-server --test limits_page`); what happens at each bound is attacked by \
    `crates/quoll-server/tests/hostile`.\n\n\
    Memory that was in use once is kept by the process for the next time (glibc's allocator gives little back to the system): what an attack \
    took is used again by the next, and does not grow with the number of attacks.\n";

fn page() -> String {
    let mut text = HEAD.to_owned();
    for (title, about, rows) in sections() {
        write!(text, "\n## {title}\n\n").unwrap();
        if !about.is_empty() {
            write!(text, "{about}\n\n").unwrap();
        }
        text.push_str("| bound | value | of what, and why | the peer sees |\n|---|---|---|---|\n");
        for Row(name, value, what, seen) in rows {
            writeln!(text, "| `{name}` | {value} | {what} | {seen} |").unwrap();
        }
    }
    text
}

#[test]
fn the_page_says_what_the_constants_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == page(),
        "docs/limits.md is not what the constants say: write it anew with QUOLL_BLESS=1"
    );
}

#[test]
fn no_bound_is_left_out() {
    let page = page();
    for source in [
        include_str!("../src/limits.rs"),
        include_str!("../../quoll-broker/src/limits.rs"),
        include_str!("../../quoll-mqtt/src/limits.rs"),
    ] {
        let constants = source.lines().filter_map(|line| line.strip_prefix("pub const "));
        let names: Vec<&str> = constants.filter_map(|rest| rest.split(':').next()).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not on the page");
        }
    }
}
