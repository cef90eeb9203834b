//! The bounds and defaults of this crate, each with its reason. Those a site may want to change are in
//! [`crate::config::Limits`], whose defaults these are.

use std::time::Duration;

/// Time from accept to a complete CONNECT, TLS handshake included, also for a peer that sends a byte now and then.
/// An ESP8266 gives up its own handshake after 10 s (facts: §3.5), so waiting longer serves nobody.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Connections between accept and their shard. Each holds at most [`MAX_ARRIVAL_BYTES`]; more wait in the kernel's
/// backlog, which they cannot tell from a slow network.
pub const MAX_ARRIVALS: usize = 4_096;

/// While [`MAX_ARRIVALS`] are on their way: how long one may have said nothing whole (no ClientHello, no CONNECT) before
/// it gives way to who waits. So thousands of silent connections hold nobody up for [`CONNECT_PATIENCE`]; a device in the
/// middle of its handshake, which may take it seconds, is left alone.
pub const UNHEARD_PATIENCE: Duration = Duration::from_secs(1);

/// How often those who have said nothing are asked to give way, while there are too many.
pub const PRESS_EVERY: Duration = Duration::from_millis(100);

/// Descriptors that connections leave to the server's own files: journal, reload, plugins' files, log. A connection that
/// would take one of them is closed at once.
pub const RESERVED_FILES: u64 = 16;

/// How often it is said that there are too many open files, or that accepting fails in another way, for each listener.
pub const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// Of the memory that the machine has, or that a container or the service manager leaves us, this part at most is for retained
/// messages: the other is for everything else, and for other programs. A Raspberry Pi with 1 GB would end the broker long before
/// it had the bound that is meant for a server.
pub const RETAINED_PART: u64 = 2;

/// Connections to a site (`protocol http_api`) at a time: each is answered at once and holds some kilobytes.
pub const MAX_VISITORS: usize = 64;

/// How long one of them may be there in all.
pub const VISIT: Duration = Duration::from_secs(120);

/// How long its peer may take to take an answer of a site.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a request to a site; browsers send about 1,000, a proxy adds some.
pub const MAX_HTTP_REQUEST: usize = 8 * 1024;

/// Headers of an HTTP request, to a site or for a WebSocket.
pub const HTTP_HEADERS: usize = 64;

/// TLS handshakes in computation at a time: established clients come first (`coat.md` §5). Waiting for the peer's
/// bytes does not count.
pub const ARRIVAL_THREADS: usize = 1;

/// Niceness of the arrivals' threads: the scheduler then knows who is interactive (`coat.md` §5).
pub const ARRIVAL_NICENESS: i32 = 10;

/// Bytes of a ClientHello, record headers included. Devices send about 110; browsers with post-quantum shares 1,800.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// Bytes that a peer may send before its CONNECT is complete: certificate chains and a will of 64 KiB fit.
pub const MAX_ARRIVAL_BYTES: usize = 256 * 1024;

/// How long a connection that we closed is read on, so that unread bytes do not turn our last words into a reset.
pub const LINGER: Duration = Duration::from_secs(1);

/// After a refused handshake: how long the peer's remaining bytes are read, so that closing does not become a reset
/// that eats our alert. 30 of 30 devices saw the alert this way, 16 of 30 without (`spikes.md` §1).
pub const REFUSAL_DRAIN: Duration = Duration::from_millis(300);

/// How long a connection that we close may take to accept our last words.
pub const FAREWELL_PATIENCE: Duration = Duration::from_secs(5);

/// The read buffer of a shard thread. 16 and 64 KiB measured alike, 16 is kinder to the cache (`coat.md` §3); a TLS
/// record of 16 KiB with its overhead must fit beside a part of another one.
pub const READ_BUFFER: usize = 64 * 1024;

/// Full reads of one connection in one turn, before others have theirs (`coat.md` §8 rule 2).
pub const READS_PER_TURN: usize = 4;

/// How long one connection's packets are handled in one turn, before others have theirs: most take a microsecond, but a peer may
/// know some that do not.
pub const SHARE_OF_TURN: Duration = Duration::from_millis(10);

/// After how many packets it is looked how long they took.
pub const FRAMES_PER_LOOK: u32 = 32;

/// Payloads from this size on are pointed to (writev), smaller ones copied (`coat.md` §3).
pub const SHARE_FROM: usize = 2 * 1024;

/// Out buffers that a shard thread keeps for reuse, and the largest that it keeps (`coat.md` §8 rule 4).
pub const POOLED_BUFFERS: usize = 1_024;
/// See [`POOLED_BUFFERS`].
pub const POOLED_CAPACITY: usize = 64 * 1024;

/// Bytes waiting for a peer from which on it is flushed before the end of the turn, so that a turn's memory is bounded.
pub const FLUSH_EARLY: usize = 256 * 1024;

/// Plaintext sealed at a time; bounds the ciphertext that one connection can be left with.
pub const SEAL_CHUNK: usize = 64 * 1024;

/// Bytes waiting for a peer from which on it counts as congested: QoS 0 messages to it are dropped and counted.
pub const CONGESTED_FROM: usize = 1024 * 1024;

/// Bytes of shared payloads that weigh as much as one of the peer's own there: a camera's pictures in a row are not lost
/// (Mosquitto lets 1,000 messages of any size wait), and all who wait for them wait for the same bytes.
pub const SHARED_FOR_ONE: usize = 16;

/// Bytes waiting for a peer that close its connection. The replay of 100,000 retained messages has to fit.
pub const MAX_WAITING: usize = 64 * 1024 * 1024;

/// How long a peer may leave what we sent it untouched before it is closed. TCP itself would wait 15 minutes.
pub const STALL_PATIENCE: Duration = Duration::from_secs(60);

/// Connections that the kernel keeps while the arrivals are busy; a site of 20,000 devices comes back at once after a
/// power cut. The system may have a lower bound of its own (`net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4_096;

/// Verified client certificates remembered by one identity: 100,000 devices of 72 bytes are 7 MB. When full it is
/// emptied, which costs each device 40 us once (`coat.md` §5).
pub const REMEMBERED_CERTIFICATES: usize = 100_000;

/// Server events that a slow listener may lag behind before it loses the oldest.
pub const EVENT_BACKLOG: usize = 4_096;

/// Messages to `$CONTROL` that wait until they are obeyed: their senders wait for answers, so a few are under way.
pub const CONTROL_BACKLOG: usize = 256;

/// Panics of the rules on one shard after which its state is not trusted any more; see [`crate::shard_thread`].
pub const PANICS_PER_SHARD: u32 = 3;

/// Share of a second that the busiest shard works, from which on new clients go to another (`coat.md` §4).
pub const OPEN_NEXT_SHARD: f32 = 0.6;

/// Bytes of a PROXY header of version 1 (§2.1 of its specification).
pub const MAX_PROXY_1: usize = 107;

/// Longest PROXY header of version 2. The form allows 64 KiB; addresses take 216 bytes, TLS facts with a certificate's names a few
/// hundred.
pub const MAX_PROXY_2: usize = 4096;

/// AUTH packets of a peer in one dialogue; SCRAM needs one.
pub const AUTH_STEPS: usize = 8;

/// Letters in one shard's box from which on the senders leave their sockets unread, until it has caught up.
pub const FULL_BOX: usize = 20_000;

/// Bytes waiting for a peer from which on its pings stay without answer: it does not read them (RFC 6455 §5.5.3 asks for the
/// latest alone).
pub const UNREAD_PONGS: usize = 64 * 1024;

/// A bridge's time for a TCP connection and the TLS handshake, also with a peer that drips bytes.
pub const BRIDGE_DIAL_PATIENCE: Duration = Duration::from_secs(20);

/// A bridge's time from CONNECT to CONNACK.
pub const BRIDGE_CONNACK_PATIENCE: Duration = Duration::from_secs(20);

/// Of a bridge: bytes waiting for one side from which on the other side is not read.
pub const BRIDGE_HIGH_WATER: usize = 1 << 20;

/// Of a bridge: payload bytes of QoS 2 messages that wait for room at the local broker: two of its largest packets.
pub const BRIDGE_HELD_BYTES: usize = 4_000_000;
