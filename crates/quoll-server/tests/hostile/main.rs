//! Peers that mean harm: each may spoil its own connection, for as long and with as much memory as `docs/limits.md` says, and
//! nothing else. The broker is a process of its own, so that its memory and its descriptors can be counted; beside each attack two
//! clients talk with each other all the time.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod door;
mod files;
mod frames;
mod packets;
mod siege;
mod takeover;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::*;
use quoll_broker::Grants;
use quoll_broker::vocabulary::{Admission, Identity};
use quoll_server::tls::{ClientAuth, LiveIdentity};
use quoll_server::*;
use siege::{PKI, TERMS};

/// Only attacks with this in their name.
const ATTACK: &str = "QUOLL_TEST_ATTACK";

/// Lets everybody in; who asks for the method `endless` is asked for more, again and again.
struct Everybody(Arc<Grants>);

struct Endless;

/// What a visitor sees.
#[derive(Debug)]
struct Figures;

#[async_trait]
impl Site for Figures {
    async fn answer(&self, _: &HttpRequest) -> HttpAnswer {
        HttpAnswer::text("200 OK", "figures")
    }
}

impl Dialogue for Endless {
    fn hear(&mut self, _: &[u8]) -> Step {
        Step::Ask(b"more".to_vec())
    }
}

#[async_trait]
impl Doorkeeper for Everybody {
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let name = facts.connect.username.as_deref().unwrap_or_default().into();
        let identity = Identity { name, credential: None };
        Verdict::Admit(Admission { identity, grants: Arc::clone(&self.0), client_id: None })
    }

    fn begin(&self, _: &ConnectFacts<'_>, method: &str) -> Option<Authenticator> {
        (method == "endless").then(|| Arc::new(|| Box::new(Endless) as Box<dyn Dialogue>) as Authenticator)
    }
}

/// Attacks at a time: most of them wait most of the time.
const AT_A_TIME: usize = 6;

/// A row for each attack, with its name.
macro_rules! attacks {
    ($($room:ident :: $attack:ident),* $(,)?) => {
        [$((stringify!($attack), $room::$attack as fn())),*]
    };
}

#[test]
fn each_attack_spoils_nothing_but_its_own_connection() {
    // Those that take longest come first.
    let attacks = attacks![
        door::whoever_does_not_say_connect_within_ten_seconds_is_cut_though_he_says_something_all_the_time,
        bombs::filters_that_overlap_multiply_no_message_beyond_measure,
        packets::packets_that_take_long_hold_up_nobody,
        door::thousands_of_silent_connections_keep_nobody_from_coming_in,
        door::visitors_who_never_finish_their_request_keep_nobody_from_the_figures,
        door::who_has_said_hello_is_waited_for_though_others_wait_too,
        takeover::two_who_throw_each_other_out_for_ever_keep_nobody_else_busy,
        bombs::subscriptions_have_a_bound,
        bombs::sessions_have_a_bound,
        door::a_reset_at_any_place_costs_nothing,
        files::who_takes_all_descriptors_harms_nobody_who_is_there_and_others_come_in_when_he_goes,
        files::silent_connections_on_all_descriptors_give_way,
        frames::frames_that_break_the_protocol_end_their_own_connection_with_its_status,
        frames::empty_frames_fragments_without_end_and_pings_that_nobody_reads_cost_little,
        frames::what_was_meant_for_another_port_is_closed_at_once,
        frames::a_renegotiation_is_not_done,
        frames::a_record_that_is_not_of_the_peer_ends_its_connection,
        packets::too_much_of_anything_ends_as_the_limits_say,
        packets::a_giant_connect_is_refused_by_its_length,
        packets::messages_that_are_never_released_hold_up_nobody,
        bombs::who_does_not_read_has_his_share_and_no_more,
        bombs::retained_messages_wait_for_who_does_not_read_them_and_can_be_cleared,
        bombs::wills_that_are_all_due_at_once_are_told_and_gone,
        takeover::one_who_connects_and_vanishes_again_and_again_leaves_nothing,
    ];
    let wanted = std::env::var(ATTACK).unwrap_or_default();
    let waiting = Mutex::new(attacks.iter().rev().filter(|it| it.0.contains(&wanted)).collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some((name, attack)) = next else { return };
                    if std::panic::catch_unwind(attack).is_err() {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}: each alone by {ATTACK}=part_of_its_name");
}

/// The process that the other tests here attack. By itself: a broker that starts and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_for_the_other_tests_to_attack() {
    let folder = std::env::var_os(PKI);
    let shared = folder.clone().map(|folder| Pki { folder: folder.into() });
    let pki = shared.as_ref().unwrap_or_else(|| pki());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let secure = |auth| Transport::Tls(LiveIdentity::new(pki.identity(auth, &[])));
    let web = Some(WebSocketSettings::default());
    let mut settings = Settings::new(vec![
        Listener::new("plain", address, Transport::Tcp),
        Listener::new("tls", address, secure(ClientAuth::None)),
        Listener::new("mutual", address, secure(ClientAuth::Required)),
        Listener { websocket: web.clone(), ..Listener::new("web", address, Transport::Tcp) },
        Listener { websocket: web, ..Listener::new("wss", address, secure(ClientAuth::None)) },
        Listener {
            proxy: Some(ProxyProtocol::V2 { require_tls: false }),
            ..Listener::new("proxy", address, Transport::Tcp)
        },
        Listener { proxy: Some(ProxyProtocol::V1), ..Listener::new("proxy1", address, Transport::Tcp) },
        Listener { site: Some(Arc::new(Figures)), ..Listener::new("site", address, Transport::Tcp) },
    ]);
    settings.shards = 2;
    for word in std::env::var(TERMS).unwrap_or_default().split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "patience" => settings.limits.connect_patience = Duration::from_secs(value.parse().unwrap()),
            "arrivals" => settings.limits.max_arrivals = value.parse().unwrap(),
            "sessions" => settings.rules.max_sessions = value.parse().unwrap(),
            "subscriptions" => settings.rules.max_subscriptions = value.parse().unwrap(),
            "queued" => settings.rules.max_queued_messages = value.parse().unwrap(),
            "stall" => settings.limits.stall_patience = Duration::from_secs(value.parse().unwrap()),
            "shards" => settings.shards = value.parse().unwrap(),
            other => panic!("{other} is no term"),
        }
    }
    let door = Arc::new(Everybody(Arc::new(Grants::all())));
    let handle = start(settings, door, Box::new(MemoryJournal::default())).await.unwrap();
    static PANICS: AtomicU32 = AtomicU32::new(0);
    if folder.is_some() {
        // Of those who arrive too, whom nobody else counts.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
        for (name, address) in handle.addresses() {
            println!("listening {name} {address}");
        }
        println!("ready");
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        terminate.recv().await;
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "no attack made the broker panic");
    }
    handle.stop(Duration::from_secs(2)).await;
}
