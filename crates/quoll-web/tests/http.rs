//! Pages and API over real HTTP.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod house;

use house::{HOSTILE_NAME, HOSTILE_TEXT, House, PATIENCE, device, serve};
use quoll_web::view::{Telemetry, Warning};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Where each needle is found, in this order.
fn assert_in_order(text: &str, needles: &[&str]) {
    let mut from = 0;
    for needle in needles {
        let at = text[from..].find(needle);
        from += at.unwrap_or_else(|| panic!("{needle:?} is missing or out of order in {text}"));
    }
}

#[tokio::test]
async fn the_overview_shows_node_and_devices_with_trouble_first() {
    let served = serve(House::of_four()).await;
    let page = served.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_in_order(
        &page.body,
        &[
            "<title>1 problem · attic · Quoll</title>",
            "the server certificate has expired",
            "<code>quoll ca renew-server</code>",
            "3<small> of 4</small>",
            "12.3",
            "3 d 4 h",
            "expired 2020-02-02",
            "House CA",
            "0.0.0.0:8883",
            "kitchen-plug",
            "No TLS",
            "speaks without TLS",
            "<code>quoll device provision kitchen-plug</code>",
            "hall-lamp",
            "Offline",
            "attic-2",
            "attic-10",
            "{&quot;POWER&quot;:&quot;ON&quot;}",
        ],
    );
    assert_eq!(page.body.matches("<th scope=\"col\"").count(), 7);
    served.leave().await;
}

/// A device that came a week ago and is still there was not last seen a week ago.
#[tokio::test]
async fn who_is_online_is_seen_now() {
    let served = serve(House::of_four()).await;
    for (search, now) in [("online", 3), ("offline", 0)] {
        let page = served.get(&format!("/?q={search}")).await;
        assert_eq!(page.body.matches("data-title=\"Last seen\">now</td>").count(), now, "{search}");
    }
    assert!(served.get("/?q=offline").await.body.contains("2026-01-01T00:00:00Z"));
    served.leave().await;
}

#[tokio::test]
async fn the_filter_works_without_script() {
    let served = serve(House::of_four()).await;
    let page = served.get("/?q=Attic+online").await;
    assert_eq!(page.body.matches("<tbody").count(), 2);
    assert!(page.body.contains("value=\"Attic online\""));
    let nothing = served.get("/?q=cellar").await;
    assert_eq!((nothing.status, nothing.body.matches("<tbody").count()), (200, 0));
    assert!(nothing.body.contains("No device to show."));
    let api = served.get("/api/devices?q=offline").await.json();
    assert_eq!(api.as_array().unwrap().len(), 1);
    assert_eq!(api[0]["name"], "hall-lamp");
    served.leave().await;
}

#[tokio::test]
async fn a_device_page_shows_what_is_known() {
    let served = serve(House::of_four()).await;
    let page = served.get("/devices/attic-10").await;
    assert_eq!(page.status, 200);
    assert_in_order(
        &page.body,
        &[
            "<title>attic-10 · Quoll</title>",
            "Sonoff Basic R4",
            "CN=attic-10",
            "publish tele/#",
            "added",
            "POWER",
        ],
    );
    assert!(page.body.contains("data-live=\"/live/attic-10\""));
    served.leave().await;
}

#[tokio::test]
async fn the_doctor_is_a_click_away_and_says_cause_evidence_and_next_step() {
    let served = serve(House::of_four()).await;
    for page in ["/", "/devices/hall-lamp"] {
        let page = served.get(page).await;
        assert!(page.body.contains("href=\"/devices/hall-lamp/diagnosis\""), "{}", page.body);
    }
    let page = served.get("/devices/hall-lamp/diagnosis").await;
    assert_eq!(page.status, 200);
    assert_in_order(
        &page.body,
        &[
            "<title>hall-lamp · Quoll</title>",
            "hall-lamp",
            "not well",
            "Examine it again",
            "The port is another.",
            "device: the port is another",
            "wire: it came as far as its ClientHello",
            "Set MqttPort 8883.",
            "<code>quoll doctor hall-lamp --fix</code> will set the broker again",
            "other-broker",
            "Also",
            "weak-wifi",
            "Not found out",
            "its clock: no answer",
        ],
    );
    let well = served.get("/devices/attic-2/diagnosis").await;
    assert_in_order(&well.body, &["well: connected, and nothing found", "nothing to do"]);
    let api = served.get("/api/devices/hall-lamp/diagnosis").await.json();
    assert_eq!((&api["health"], &api["findings"][0]["rule"]), (&"ill".into(), &"other-broker".into()));
    assert_eq!(api["findings"][0]["evidence"].as_array().unwrap().len(), 2);
    for nobody in ["/devices/nobody/diagnosis", "/api/devices/nobody/diagnosis"] {
        assert_eq!(served.get(nobody).await.status, 404);
    }
    served.leave().await;
}

/// It makes the node ask a device, so nothing on another site may lead to it, a link included.
#[tokio::test]
async fn another_site_can_have_nobody_diagnosed() {
    let served = serve(House::of_four()).await;
    let follows = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nSec-Fetch-Site: cross-site\r\n\
             Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n"
        )
    };
    assert_eq!(served.ask(&follows("/devices/hall-lamp")).await.status, 200);
    assert_eq!(served.ask(&follows("/devices/hall-lamp/diagnosis")).await.status, 403);
    assert_eq!(served.ask(&follows("/api/devices/hall-lamp/diagnosis")).await.status, 403);
    let own = follows("/devices/hall-lamp/diagnosis").replace("cross-site", "same-origin");
    assert_eq!(served.ask(&own).await.status, 200);
    let post = "POST /devices/hall-lamp/diagnosis HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 0\r\n\r\n";
    assert_eq!(served.ask(post).await.status, 405);
    served.leave().await;
}

#[tokio::test]
async fn a_few_are_diagnosed_at_a_time_and_the_pages_go_on_meanwhile() {
    let mut hangs = device("hangs", false);
    hangs.state = "hangs".into();
    let served = serve(House::new([hangs, device("lamp", false)])).await;
    let mut waiting = Vec::new();
    for _ in 0..quoll_web::limits::DIAGNOSES {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        let ask = b"GET /devices/hangs/diagnosis HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(ask).await.unwrap();
        waiting.push(socket);
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    let full = loop {
        let answer = served.get("/devices/lamp/diagnosis").await;
        if answer.status == 503 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < until, "{answer:?}");
    };
    assert!(full.body.contains("being diagnosed already"), "{}", full.body);
    assert_eq!(full.header("retry-after"), Some("10"));
    assert_eq!(served.get("/devices/lamp").await.status, 200);
    // Who leaves gives the place back.
    drop(waiting);
    while served.get("/devices/lamp/diagnosis").await.status != 200 {
        assert!(tokio::time::Instant::now() < until, "no place came back");
    }
    served.leave().await;
}

#[tokio::test]
async fn the_api_says_the_same_as_the_pages() {
    let served = serve(House::of_four()).await;
    let overview = served.get("/api/overview").await;
    assert_eq!(overview.header("content-type"), Some("application/json"));
    let overview = overview.json();
    assert_eq!(overview["devices_online"], 3);
    assert_eq!(overview["authority"]["name"], "House CA");
    let devices = served.get("/api/devices").await.json();
    let names: Vec<_> = devices.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kitchen-plug", "hall-lamp", "attic-2", "attic-10"]);
    assert_eq!(devices[0]["rung"], "plain");
    let detail = served.get("/api/devices/hall-lamp").await.json();
    assert_eq!((&detail["name"], &detail["firmware"]), (&"hall-lamp".into(), &"Tasmota 15.1.0".into()));
    served.leave().await;
}

#[tokio::test]
async fn hostile_names_and_messages_stay_text() {
    let mut hostile = device(HOSTILE_NAME, true);
    hostile.telemetry = Some(Telemetry {
        topic: HOSTILE_TEXT.into(),
        text: HOSTILE_TEXT.into(),
        at: Some(HOSTILE_TEXT.into()),
    });
    hostile.problem = Some(Warning::new(HOSTILE_TEXT, HOSTILE_TEXT));
    (hostile.state, hostile.last_seen) = (HOSTILE_TEXT.into(), Some(HOSTILE_TEXT.into()));
    (hostile.address, hostile.expires) = (Some(HOSTILE_TEXT.into()), Some(HOSTILE_TEXT.into()));
    let served = serve(House::new([hostile])).await;
    let detail = "/devices/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%26%2F..";
    for path in ["/", detail, "/?q=%22%3E%3Cscript%3E", "/devices/%3Cscript%3E", "/%22onload=%22x"] {
        let page = served.get(path).await;
        assert!(page.status == 200 || page.status == 404, "{path}: {}", page.status);
        for mark in ["<script>", "<img", "</table><", "onerror=\"", "\"onload"] {
            let expected = if mark == "</table><" { page.body.matches("<table").count() } else { 0 };
            assert_eq!(page.body.matches(mark).count(), expected, "{mark} on {path}: {}", page.body);
        }
    }
    assert!(served.get("/").await.body.contains(&format!("href=\"{detail}\"")), "the link leads to the page");
    let json = served.get(&format!("/api{detail}")).await.json();
    assert_eq!(json["name"], HOSTILE_NAME);
    assert_eq!(json["telemetry"]["text"], HOSTILE_TEXT);
    served.leave().await;
}

#[tokio::test]
async fn problems_on_the_api_are_problem_json() {
    let served = serve(House::of_four()).await;
    let long = format!("/api/devices?q={}", "x".repeat(201));
    for (path, status, detail) in [
        ("/api/devices/cellar", 404, "there is no device named \"cellar\""),
        ("/api/nothing", 404, "there is nothing at \"/api/nothing\""),
        ("/api/devices/%ff", 400, "the address cannot be understood: Invalid URL: Invalid UTF-8 in `name`"),
        (&long, 400, "the search text has 201 characters, at most 200 are searched"),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!((&problem["type"], &problem["status"]), (&"about:blank".into(), &status.into()), "{path}");
        assert_eq!(problem["detail"], detail);
        assert_eq!(problem["instance"], path.split('?').next().unwrap());
        assert!(problem["next_step"].is_string() && problem["title"].is_string(), "{problem}");
    }
    let page = served.get("/devices/cellar").await;
    assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(page.body.contains("There is no device named &quot;cellar&quot;."));
    served.leave().await;
}

#[tokio::test]
async fn another_host_name_is_sent_away() {
    let served = serve(House::of_four()).await;
    for host in ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"] {
        let answer =
            served.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for head in ["Host: evil.example", "Host: localhost.evil.example:8080", "Host: 192.0.2.7", "Accept: */*"]
    {
        for path in ["/", "/live", "/assets/x"] {
            let answer =
                served.ask(&format!("GET {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(answer.status, 421, "{head} {path}");
            assert!(
                answer.body.starts_with("quoll: error: the dashboard serves this machine only"),
                "{answer:?}"
            );
            assert!(answer.body.contains("ssh -L"), "{answer:?}");
            assert!(!answer.body.contains("hall-lamp"));
        }
        let api =
            served.ask(&format!("GET /api/devices HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((api.status, api.header("content-type")), (421, Some("application/problem+json")));
    }
    let absolute = "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(served.ask(absolute).await.status, 421);
    served.leave().await;
}

#[tokio::test]
async fn other_sites_cannot_embed_it() {
    let served = serve(House::of_four()).await;
    let answer = served
        .ask("GET /api/devices HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.status, 403);
    served.leave().await;
}

#[tokio::test]
async fn it_only_shows() {
    let served = serve(House::of_four()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "localhost:80" } else { "/api/devices" };
        let answer = served
            .ask(&format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head = served.ask("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    served.leave().await;
}

#[tokio::test]
async fn every_answer_is_sealed() {
    let served = serve(House::of_four()).await;
    for path in ["/", "/devices/hall-lamp", "/api/overview", "/api/nothing", "/nothing", "/assets/nothing"] {
        let answer = served.get(path).await;
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(header), Some(value), "{header} of {path}");
        }
    }
    let refused = served.ask("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    served.leave().await;
}

#[tokio::test]
async fn assets_are_named_by_content_and_kept_by_the_browser() {
    let served = serve(House::of_four()).await;
    let page = served.get("/").await.body;
    let mut found = 0;
    for (address, media_type, sign) in
        page.split('"').filter(|part| part.starts_with("/assets/")).map(|address| {
            match address.rsplit('.').next() {
                Some("css") => (address, "text/css; charset=utf-8", "prefers-color-scheme: dark"),
                Some("js") => (address, "text/javascript; charset=utf-8", "EventSource"),
                Some("svg") => (address, "image/svg+xml", "<svg"),
                other => panic!("unexpected asset {other:?}"),
            }
        })
    {
        let asset = served.get(address).await;
        assert_eq!((asset.status, asset.header("content-type")), (200, Some(media_type)));
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert!(asset.body.contains(sign));
        assert!(!asset.body.replace("http://www.w3.org/2000/svg", "").contains("://"), "no external host");
        found += 1;
    }
    assert_eq!(found, 3);
    assert_eq!(served.get("/assets/quoll-0000000000000000.css").await.status, 404);
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("://"), "no external host");
    assert!(!page.contains("style=\"") && !page.contains("<style"), "the policy forbids inline style");
    served.leave().await;
}

#[tokio::test]
async fn an_oversized_header_is_refused() {
    let served = serve(House::of_four()).await;
    let many: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "y".repeat(40_000));
    for fields in [many, large] {
        let answer = served
            .ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"))
            .await;
        assert_eq!(answer.status, 431);
    }
    served.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_header_that_never_ends_is_cut() {
    let served = serve(House::of_four()).await;
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(4 * quoll_web::limits::HEADER_TIME, socket.read_to_end(&mut rest)).await;
    read.expect("cut in time").unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    served.leave().await;
}

#[tokio::test]
async fn more_connections_than_places_wait_their_turn() {
    let served = serve(House::of_four()).await;
    let mut idle = Vec::new();
    for _ in 0..quoll_web::limits::CONNECTIONS {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(timeout(PATIENCE, socket.read(&mut [0; 64])).await.unwrap().unwrap() > 0);
        idle.push(socket);
    }
    let mut late = TcpStream::connect(served.address).await.unwrap();
    late.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let early = timeout(std::time::Duration::from_millis(200), late.read(&mut [0; 64])).await;
    assert!(early.is_err(), "answered although every place was taken");
    idle.pop();
    assert!(timeout(PATIENCE, late.read(&mut [0; 64])).await.unwrap().unwrap() > 0);
    drop(idle);
    served.leave().await;
}

#[tokio::test]
async fn it_listens_on_this_machine_only() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = quoll_web::serve(listener, House::of_four(), std::future::pending::<()>()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("listens on this machine only"), "{error}");
}
