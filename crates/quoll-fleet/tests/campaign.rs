//! A run over many devices with a scripted hand, and no device.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::campaign::{
    Candidate, Done, Found, Hand, Item, News, Orders, Outcome, Pace, Policy, Setback, Skill, Summary,
    Verdict, Watcher, plan, run,
};
use quoll_fleet::device::{Mac, Rung};
use quoll_fleet::enrol::{BrokerTarget, CaKind};
use quoll_fleet::registry::Registry;
use time::OffsetDateTime;
use tokio::sync::watch;

fn registry(folder: &tempfile::TempDir) -> Registry {
    Registry::open(&folder.path().join("fleet.db")).unwrap()
}

fn items(count: u8) -> Vec<Item> {
    let found: Vec<Candidate> = (0..count).map(candidate).collect();
    let (host, ca_kind) = ("hub.lan".to_owned(), CaKind::Rsa);
    let broker =
        BrokerTarget { host, port: 8883, ca_kind, server_fingerprint: [7; 20], pinned_port: Some(8884) };
    plan(&found, &[], &broker, &Policy::default())
}

fn candidate(number: u8) -> Candidate {
    let found = Found {
        address: Some(format!("192.0.2.{number}")),
        topic: Some(format!("lamp-{number:03}")),
        client: Some(format!("DVES_{number:06X}")),
        chip: Some(if number.is_multiple_of(2) { "ESP8266EX" } else { "ESP32" }.into()),
        ability: Some(Skill::Key),
        ..Found::default()
    };
    let now = OffsetDateTime::now_utc();
    Candidate { mac: Mac([2, 0, 0, 0, 1, number]), found, first_found: now, last_found: now }
}

fn orders() -> Orders {
    let ms = Duration::from_millis;
    let pace = Pace { retry: ms(50), retry_max: ms(400), look: ms(20) };
    Orders {
        text: "all".into(),
        canaries: 2,
        parallel: 4,
        attempts: 3,
        window: None,
        stop_at: Some(20),
        pace,
    }
}

/// Does as its script says; takes its time for each; counts how many are at work.
#[derive(Default)]
struct Scripted {
    /// Attempts that fail, and whether trying again may help.
    fails: BTreeMap<String, (u32, bool)>,
    tried: Mutex<Vec<String>>,
    at_work: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Hand for Scripted {
    async fn enrol(&self, item: &Item, _: Rung) -> Result<Done, Setback> {
        let now = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        let name = item.name.to_string();
        let attempt = {
            let mut tried = self.tried.lock().unwrap();
            tried.push(name.clone());
            tried.iter().filter(|tried| **tried == name).count()
        };
        match self.fails.get(&name) {
            Some((times, may_pass)) if attempt <= *times as usize => Err(Setback {
                leaves: Outcome::RolledBack,
                what: "no power".into(),
                next: "give it power".into(),
                may_pass: *may_pass,
            }),
            _ => Ok(Done::default()),
        }
    }
}

#[derive(Default)]
struct Ear(Mutex<Vec<News>>);

impl Watcher for Ear {
    fn hear(&self, news: &News) {
        self.0.lock().unwrap().push(news.clone());
    }
}

struct Played {
    summary: Summary,
    hand: Arc<Scripted>,
    news: Vec<News>,
}

async fn play(registry: &Registry, items: &[Item], orders: &Orders, hand: Scripted) -> Played {
    let (hand, ear) = (Arc::new(hand), Ear::default());
    let (_sender, cancel) = watch::channel(false);
    let summary = run(registry, items, orders, hand.clone(), &ear, &|| 0, cancel).await.unwrap();
    Played { summary, hand, news: ear.0.into_inner().unwrap() }
}

fn fails(names: &[(&str, u32, bool)]) -> Scripted {
    let fails = names.iter().map(|(name, times, may)| ((*name).to_owned(), (*times, *may))).collect();
    Scripted { fails, ..Scripted::default() }
}

#[tokio::test]
async fn canaries_go_first_and_the_rest_follows_a_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let Played { summary, hand, news } = play(&registry, &items(20), &orders(), Scripted::default()).await;
    assert!(summary.is_complete() && summary.counts[&Outcome::Proven] == 20, "{summary:?}");
    assert_eq!(hand.most.load(Ordering::SeqCst), 4);
    // One of each chip goes ahead, and the others wait for both.
    let proven = news.iter().position(|news| *news == News::CanariesProven(2)).unwrap();
    let before: Vec<_> = news[..proven].iter().filter(|news| matches!(news, News::Started { .. })).collect();
    assert_eq!(before.len(), 2, "{before:?}");
    let tried = hand.tried.lock().unwrap();
    assert!(
        tried[..2].contains(&"lamp-000".to_owned()) && tried[..2].contains(&"lamp-001".to_owned()),
        "{tried:?}"
    );
    let (campaign, records) = registry.campaign(None).unwrap().unwrap();
    assert!(campaign.ended.is_some() && campaign.why.is_none());
    assert!(records.len() == 20 && records.iter().all(|record| record.outcome == Outcome::Proven));
}

#[tokio::test]
async fn a_canary_that_fails_ends_the_run_before_the_others_begin() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let Played { summary, hand, .. } =
        play(&registry, &items(20), &orders(), fails(&[("lamp-001", 9, false)])).await;
    assert_eq!(summary.stopped.as_deref(), Some("1 of the first 2 failed"));
    assert!(!summary.is_complete());
    assert_eq!(hand.tried.lock().unwrap().len(), 2);
    assert_eq!(summary.counts[&Outcome::Waiting], 18);
    let (_, records) = registry.campaign(None).unwrap().unwrap();
    let bad = records.iter().find(|record| record.name == "lamp-001").unwrap();
    assert_eq!((bad.outcome, bad.next.as_str()), (Outcome::RolledBack, "give it power"));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_growing_pauses_and_what_may_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let script = [("lamp-003", 2, true), ("lamp-004", 9, true), ("lamp-005", 1, false)];
    let Played { summary, hand, news } =
        play(&registry, &items(20), &Orders { stop_at: Some(50), ..orders() }, fails(&script)).await;
    let times = |name: &str| hand.tried.lock().unwrap().iter().filter(|tried| *tried == name).count();
    assert_eq!((times("lamp-003"), times("lamp-004"), times("lamp-005")), (3, 3, 1));
    assert_eq!((summary.counts[&Outcome::Proven], summary.counts[&Outcome::RolledBack]), (18, 2));
    let pauses: Vec<u128> = news
        .iter()
        .filter_map(|news| match news {
            News::Retry { name, after, .. } if name == "lamp-004" => Some(after.as_millis()),
            _ => None,
        })
        .collect();
    assert_eq!(pauses, [50, 100]);
    let tried = hand.tried.lock().unwrap();
    let last = tried.iter().rposition(|tried| tried == "lamp-004").unwrap();
    let others = tried[..last].iter().filter(|tried| *tried != "lamp-004").count();
    assert!(others > 10, "the others do not wait for it: {tried:?}");
}

#[tokio::test]
async fn too_large_a_share_of_failures_ends_it_after_those_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let bad: Vec<String> = (2..20).map(|number| format!("lamp-{number:03}")).collect();
    let script: Vec<(&str, u32, bool)> = bad.iter().map(|name| (name.as_str(), 9, false)).collect();
    let Played { summary, hand, news } = play(&registry, &items(20), &orders(), fails(&script)).await;
    let why = summary.stopped.clone().unwrap();
    assert!(why.contains("failed, more than 20 %"), "{why}");
    assert!(news.contains(&News::Stopping(why)));
    let tried = hand.tried.lock().unwrap().len();
    assert!((5..=9).contains(&tried), "two canaries, then no more than are at work: {tried}");
    // Each that was begun has an end.
    assert_eq!(summary.counts.get(&Outcome::UnderWay), None);
    assert_eq!(summary.counts.values().sum::<usize>(), 20);
}

#[tokio::test]
async fn a_run_that_was_killed_goes_on_with_the_same_command_and_only_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(registry(&folder));
    let all = items(20);
    let killed = {
        let (registry, all, hand) = (registry.clone(), all.clone(), Arc::new(Scripted::default()));
        let tried = hand.clone();
        let task = tokio::spawn(async move {
            let (_sender, cancel) = watch::channel(false);
            run(&registry, &all, &orders(), hand, &Ear::default(), &|| 0, cancel).await.map(drop)
        });
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while tried.tried.lock().unwrap().len() < 10 {
            assert!(tokio::time::Instant::now() < until, "it does not get on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        tried.tried.lock().unwrap().clone()
    };
    assert!(killed.len() >= 10 && killed.len() < 20, "{killed:?}");
    let (before, records) = registry.campaign(None).unwrap().unwrap();
    assert_eq!(before.ended, None);
    let count = |outcome: Outcome| records.iter().filter(|record| record.outcome == outcome).count();
    assert!((1..=4).contains(&count(Outcome::UnderWay)), "{records:?}");
    let proven = count(Outcome::Proven);

    let Played { summary, hand, news } = play(&registry, &all, &orders(), Scripted::default()).await;
    assert_eq!(summary.campaign, before.id);
    assert!(summary.is_complete() && summary.counts[&Outcome::Proven] == 20);
    let again = hand.tried.lock().unwrap().clone();
    assert_eq!(proven + again.len(), 20, "nobody that is proven is done twice");
    assert_eq!(news[0], News::Begun { todo: 20 - proven, before: proven });
    assert!(!news.iter().any(|news| matches!(news, News::CanariesProven(_))), "they were proven before");

    let other = Orders { text: "others".into(), ..orders() };
    let Played { summary, .. } = play(&registry, &all, &other, Scripted::default()).await;
    assert_ne!(summary.campaign, before.id);
}

#[tokio::test]
async fn told_to_stop_it_finishes_those_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let (sender, cancel) = watch::channel(false);
    let hand = Arc::new(Scripted::default());
    let (all, ear, orders) = (items(20), Ear::default(), Orders { canaries: 0, ..orders() });
    let running = run(&registry, &all, &orders, hand.clone(), &ear, &|| 0, cancel);
    let stop = async {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while hand.tried.lock().unwrap().len() < 4 && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sender.send(true).unwrap();
        std::future::pending::<()>().await;
    };
    let summary = tokio::select! { summary = running => summary.unwrap(), () = stop => unreachable!() };
    assert_eq!(summary.stopped.as_deref(), Some("it was told to stop"));
    let (proven, waiting) = (summary.counts[&Outcome::Proven], summary.counts[&Outcome::Waiting]);
    assert!(proven + waiting == 20 && proven < 20, "{summary:?}");
    assert_eq!(hand.tried.lock().unwrap().len(), proven);
    assert_eq!(hand.at_work.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn outside_its_window_nothing_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    // 21:50 for as long as nobody lets the time pass; the window opens at 22:00.
    let now = Arc::new(AtomicU16::new(21 * 60 + 50));
    let clock = Arc::clone(&now);
    let minute = move || clock.load(Ordering::SeqCst);
    let orders = Orders { window: Some("22:00-05:00".parse().unwrap()), ..orders() };
    let (hand, ear) = (Arc::new(Scripted::default()), Ear::default());
    let (_sender, cancel) = watch::channel(false);
    let all = items(8);
    let running = run(&registry, &all, &orders, hand.clone(), &ear, &minute, cancel);
    let opens = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(hand.tried.lock().unwrap().len(), 0);
        now.store(22 * 60, Ordering::SeqCst);
        std::future::pending::<()>().await;
    };
    let summary = tokio::select! { summary = running => summary.unwrap(), () = opens => unreachable!() };
    assert!(summary.is_complete());
    let waits = ear.0.lock().unwrap().iter().filter(|news| matches!(news, News::Waits { .. })).count();
    assert_eq!(waits, 1, "it is said once");
}

#[tokio::test]
async fn what_is_held_back_is_in_the_record_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    let mut all = items(4);
    let found = [Candidate { found: Found { heap: Some(3), ..candidate(9).found }, ..candidate(9) }];
    let (host, ca_kind) = ("hub.lan".to_owned(), CaKind::Rsa);
    let broker = BrokerTarget { host, port: 8883, ca_kind, server_fingerprint: [7; 20], pinned_port: None };
    all.extend(plan(&found, &[], &broker, &Policy::default()));
    assert!(matches!(all[4].verdict, Verdict::Held(_)));
    let Played { summary, hand, .. } = play(&registry, &all, &orders(), Scripted::default()).await;
    assert_eq!((summary.counts[&Outcome::Proven], summary.counts[&Outcome::Held]), (4, 1));
    assert!(!hand.tried.lock().unwrap().contains(&"lamp-009".to_owned()));
    let (_, records) = registry.campaign(None).unwrap().unwrap();
    let held = records.iter().find(|record| record.outcome == Outcome::Held).unwrap();
    assert!(held.what.contains("3 KiB") && held.next.contains("--force low-heap"), "{held:?}");
}

#[test]
fn what_was_found_is_kept_by_mac_and_a_newer_look_adds_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(&folder);
    registry.keep_candidates(&[candidate(1), candidate(2)]).unwrap();
    let silent =
        Found { problem: Some("no answer".into()), address: Some("192.0.2.99".into()), ..Found::default() };
    registry.keep_candidates(&[Candidate { found: silent, ..candidate(1) }]).unwrap();
    let all = registry.candidates().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].found.address.as_deref(), Some("192.0.2.99"), "it has moved");
    assert_eq!(all[0].found.topic.as_deref(), Some("lamp-001"), "what could not be asked now was known");
    assert_eq!(all[0].found.problem.as_deref(), Some("no answer"));
    assert!(registry.forget_candidate(all[0].mac).unwrap());
    assert_eq!(registry.candidates().unwrap().len(), 1);
}

/// A disk that is full, or a file that is locked, in the middle of a run: nobody is left in mid-change for that.
#[tokio::test]
async fn where_the_registry_cannot_be_written_those_under_way_are_finished() {
    for blow in ["'under-way'", "'proven'"] {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(&folder);
        let raw = rusqlite::Connection::open(folder.path().join("fleet.db")).unwrap();
        let full = format!(
            "CREATE TRIGGER full BEFORE INSERT ON campaign_devices WHEN NEW.outcome = {blow} AND \
             (SELECT count(*) FROM campaign_devices WHERE outcome IN ('under-way', 'proven')) >= 6 \
             BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        );
        raw.execute_batch(&full).unwrap();
        let (hand, ear) = (Arc::new(Scripted::default()), Ear::default());
        let (_sender, cancel) = watch::channel(false);
        let orders = Orders { canaries: 0, ..orders() };
        let ended = run(&registry, &items(20), &orders, hand.clone(), &ear, &|| 0, cancel).await;
        let error = ended.map(drop).unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error}");
        let begun = |news: &News| matches!(news, News::Started { .. });
        let begun = ear.0.lock().unwrap().iter().filter(|news| begun(news)).count();
        assert!(begun < 20, "no further one is begun: {begun}");
        assert_eq!(hand.tried.lock().unwrap().len(), begun, "{blow}: some were left in the middle");
        // The disk has room again: the same command goes on.
        raw.execute_batch("DROP TRIGGER full").unwrap();
        let Played { summary, .. } = play(&registry, &items(20), &orders, Scripted::default()).await;
        assert!(summary.is_complete() && summary.counts[&Outcome::Proven] == 20, "{summary:?}");
    }
}
