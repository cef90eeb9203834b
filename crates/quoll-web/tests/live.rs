//! Live streams over real HTTP.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod house;

use std::sync::atomic::Ordering;

use house::{HOSTILE_NAME, HOSTILE_TEXT, House, PATIENCE, device, serve};
use quoll_web::view::Telemetry;
use quoll_web::{Live, Source};
use serde_json::Value;
use tokio::time::{Instant, sleep};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

#[tokio::test]
async fn a_stream_starts_with_everything_and_goes_on_with_changes() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut stream = served.watch("/api/live").await;
    assert!(stream.head.contains("content-type: text/event-stream"), "{}", stream.head);
    assert!(stream.head.contains("x-content-type-options: nosniff"), "{}", stream.head);
    let (name, full) = stream.event().await.unwrap();
    assert_eq!(name, "full");
    assert_eq!(json(&full)["devices"].as_array().unwrap().len(), 4);
    assert_eq!(json(&full)["overview"]["node"], "attic");

    house.change(device("hall-lamp", true));
    let (name, changed) = stream.event().await.unwrap();
    assert_eq!(name, "device");
    assert_eq!((&json(&changed)["name"], &json(&changed)["online"]), (&"hall-lamp".into(), &true.into()));

    house.changes.send(Live::Overview(house.overview().await)).unwrap();
    let (name, changed) = stream.event().await.unwrap();
    assert_eq!((name.as_str(), &json(&changed)["devices_online"]), ("overview", &4.into()));

    house.remove("attic-2");
    assert_eq!(stream.event().await.unwrap(), ("gone".into(), r#"{"name":"attic-2"}"#.into()));
    served.leave().await;
    assert_eq!(stream.event().await, None, "the stream ends when the node stops");
}

#[tokio::test]
async fn the_pages_are_sent_the_very_rows_they_show() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut table = served.watch("/live").await;
    assert!(table.event().await.unwrap().1.starts_with("<section id=\"overview\""));
    assert!(table.event().await.unwrap().1.starts_with("<table id=\"devices\""));
    let mut page = served.watch("/live/hall-lamp").await;
    assert!(page.event().await.unwrap().1.starts_with("<article id=\"device\""));

    house.change(device("hall-lamp", true));
    let (name, row) = table.event().await.unwrap();
    assert_eq!(name, "put");
    assert!(served.get("/").await.body.contains(&row), "{row}");
    assert!(page.event().await.unwrap().1.contains("Online"));

    house.remove("hall-lamp");
    assert_eq!(table.event().await.unwrap(), ("drop".into(), "device-hall-lamp".into()));
    assert!(page.event().await.unwrap().1.contains("no longer in the registry"));
    served.leave().await;
}

#[tokio::test]
async fn a_filtered_stream_drops_what_no_longer_fits() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut table = served.watch("/live?q=offline").await;
    table.event().await.unwrap();
    assert_eq!(table.event().await.unwrap().1.matches("<tbody").count(), 1);
    house.change(device("hall-lamp", true));
    assert_eq!(table.event().await.unwrap(), ("drop".into(), "device-hall-lamp".into()));
    house.change(device("attic-2", false));
    assert!(table.event().await.unwrap().1.contains("id=\"device-attic-2\""));
    served.leave().await;
}

#[tokio::test]
async fn hostile_text_cannot_forge_an_event() {
    let house = House::new([]);
    let served = serve(house.clone()).await;
    let mut table = served.watch("/live").await;
    table.event().await.unwrap();
    table.event().await.unwrap();
    let mut programs = served.watch("/api/live").await;
    programs.event().await.unwrap();
    let mut hostile = device(HOSTILE_NAME, true);
    hostile.telemetry = Some(Telemetry { topic: HOSTILE_TEXT.into(), text: HOSTILE_TEXT.into(), at: None });
    house.change(hostile);
    house.change(device("last", true));
    let (name, row) = table.event().await.unwrap();
    assert!(
        name == "put" && row.starts_with("<tbody") && !row.contains("<script") && !row.contains("<img"),
        "{row}"
    );
    assert!(table.event().await.unwrap().1.contains("device-last"));
    assert_eq!(json(&programs.event().await.unwrap().1)["telemetry"]["text"], HOSTILE_TEXT);
    assert_eq!(json(&programs.event().await.unwrap().1)["name"], "last");
    served.leave().await;
}

/// The runtime has one thread, so nothing is read while the changes are made: the channel of eight overflows.
#[tokio::test]
async fn a_reader_that_falls_behind_is_given_everything_again() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut stream = served.watch("/api/live").await;
    stream.event().await.unwrap();
    for i in 0..100 {
        house.change(device(&format!("new-{i}"), true));
    }
    let (name, full) = stream.event().await.unwrap();
    assert_eq!((name.as_str(), json(&full)["devices"].as_array().unwrap().len()), ("full", 104));
    house.change(device("after", true));
    assert_eq!(json(&stream.event().await.unwrap().1)["name"], "after");
    assert_eq!(
        house.asked.load(Ordering::Relaxed),
        2,
        "one full state at the start, one after falling behind"
    );
    served.leave().await;
}

#[tokio::test]
async fn a_chatty_device_is_shown_once_per_beat() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut stream = served.watch("/api/live").await;
    stream.event().await.unwrap();
    house.change(device("hall-lamp", true));
    stream.event().await.unwrap();
    for online in [false, true, false, true, false] {
        house.change(device("hall-lamp", online));
    }
    house.change(device("zeta", true));
    assert_eq!(json(&stream.event().await.unwrap().1)["online"], false, "the last word");
    assert_eq!(json(&stream.event().await.unwrap().1)["name"], "zeta");
    served.leave().await;
}

#[tokio::test]
async fn watchers_are_bounded_and_a_place_comes_free() {
    let served = serve(House::of_four()).await;
    let mut streams = Vec::new();
    for _ in 0..quoll_web::limits::LIVE_STREAMS {
        let mut stream = served.watch("/api/live").await;
        stream.event().await.unwrap();
        streams.push(stream);
    }
    let refused = served.get("/api/live").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(served.get("/").await.status, 200, "pages are still served");
    streams.pop();
    let patience = Instant::now() + PATIENCE;
    while served.watch("/api/live").await.head.starts_with("HTTP/1.0 503") {
        assert!(Instant::now() < patience, "the place never came free");
        sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(streams);
    served.leave().await;
}
