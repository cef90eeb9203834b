//! The pages in a real browser: headless Chromium, driven by its debugging protocol over a pipe (NUL-ended JSON on file
//! descriptors 3 and 4). `--dump-dom` would do for a still page, but it waits for open requests, and a live stream is one.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod house;

use std::process::Stdio;

use house::{HOSTILE_NAME, HOSTILE_TEXT, House, device, serve};
use quoll_web::Live;
use quoll_web::Source;
use quoll_web::view::{Telemetry, Warning};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Duration, Instant, sleep, timeout};

/// A browser on a small machine that compiles something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    page: String,
    count: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser window on an address, as wide as a telephone or a desk.
    async fn open(address: &str, width: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self { child, to, from, page: String::new(), count: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.page = attached["sessionId"].as_str().unwrap().to_owned();
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        browser.call("Emulation.setDeviceMetricsOverride", metrics).await;
        browser.call("Page.navigate", json!({"url": address})).await;
        browser
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The answer, or the error.
    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.count += 1;
        let mut request = json!({"id": self.count, "method": method, "params": params});
        if !self.page.is_empty() {
            request["sessionId"] = self.page.as_str().into();
        }
        let hint = "chromium must be installed and start (Debian: apt-get install chromium)";
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await.expect(hint);
        loop {
            let mut answer = Vec::new();
            let read = timeout(PATIENCE, self.from.read_until(0, &mut answer)).await.expect(hint).unwrap();
            assert!(read > 0, "{hint}");
            let answer: Value = serde_json::from_slice(&answer[..read - 1]).unwrap();
            if answer["id"] == self.count {
                return match &answer["error"] {
                    Value::Null => Ok(answer["result"].clone()),
                    error => Err(error.clone()),
                };
            }
        }
    }

    /// The value of a script expression on the page.
    async fn value(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": expression})).await;
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true. It has no value while one page gives way to the next.
    async fn until(&mut self, expression: &str) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask("Runtime.evaluate", json!({"expression": expression})).await;
            if answer.is_ok_and(|answer| answer["result"]["value"] == true) {
                return;
            }
            if Instant::now() > patience {
                let body = self.value("document.documentElement.outerHTML").await;
                panic!("never true: {expression}\n{body}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn close(mut self) {
        self.page.clear();
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0").await;
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await.unwrap();
        }
    }
}

const ROWS: &str = "[...document.querySelectorAll('tbody th a')].map(a => a.textContent).join()";

#[tokio::test]
async fn a_live_update_reaches_the_page() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut browser = Browser::open(&format!("http://{}/", served.address), 1280).await;
    browser.until("document.getElementById('live')?.textContent === 'Live'").await;
    assert_eq!(browser.value(ROWS).await, "kitchen-plug,hall-lamp,attic-2,attic-10");

    // A device comes back: its row says so, moves down, and the figures follow.
    house.change(device("hall-lamp", true));
    house.changes.send(Live::Overview(house.overview().await)).unwrap();
    browser.until("document.querySelector('#device-hall-lamp .status')?.textContent === 'Online'").await;
    browser.until("document.querySelector('.figure').textContent === '4 of 4'").await;
    assert_eq!(browser.value(ROWS).await, "kitchen-plug,attic-2,attic-10,hall-lamp");

    // Another gets into trouble while its link has the focus: it moves up and keeps the focus.
    browser.value("document.querySelector('#device-attic-10 a').focus()").await;
    let mut troubled = device("attic-10", false);
    troubled.problem = Some(Warning::new("is gone", "look for it"));
    house.change(troubled);
    browser.until("document.querySelector('#device-attic-10 .trouble') !== null").await;
    assert_eq!(browser.value(ROWS).await, "attic-10,kitchen-plug,attic-2,hall-lamp");
    assert_eq!(browser.value("document.activeElement.textContent").await, "attic-10");

    house.remove("attic-2");
    browser.until("document.getElementById('device-attic-2') === null").await;

    // The script tells time in the server's words.
    let table: Vec<(i64, String)> = serde_json::from_str(include_str!("distances.json")).unwrap();
    for (seconds, expected) in table {
        assert_eq!(browser.value(&format!("distance({seconds})")).await, expected, "{seconds}");
    }

    // Typing filters without a reload, and the address can be kept.
    browser.value("q.value = 'hall'; q.dispatchEvent(new Event('input'))").await;
    browser.until(&format!("{ROWS} === 'hall-lamp' && location.search === '?q=hall'")).await;

    served.leave().await;
    browser.until("document.getElementById('live').dataset.state === 'lost'").await;
    browser.close().await;
}

#[tokio::test]
async fn hostile_text_runs_nothing_and_the_policy_holds() {
    let house = House::of_four();
    let served = serve(house.clone()).await;
    let mut browser = Browser::open(&format!("http://{}/", served.address), 1280).await;
    browser.until("document.getElementById('live')?.textContent === 'Live'").await;
    browser
        .value("window.broken = 0; addEventListener('securitypolicyviolation', () => window.broken++)")
        .await;
    let mut hostile = device(HOSTILE_NAME, true);
    hostile.telemetry = Some(Telemetry { topic: HOSTILE_TEXT.into(), text: HOSTILE_TEXT.into(), at: None });
    house.change(hostile);
    browser.until("document.querySelectorAll('tbody').length === 5").await;
    let shown =
        browser.value("[...document.querySelectorAll('tbody th bdi')].map(n => n.textContent).join('\\n')");
    assert!(shown.await.as_str().unwrap().contains(HOSTILE_NAME));
    assert_eq!(browser.value("document.querySelectorAll('img, tbody script').length").await, 0);
    assert_eq!(browser.value("window.broken").await, 0);
    browser
        .value(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))",
        )
        .await;
    browser.until("window.broken > 0").await;
    assert_eq!(browser.value("window.ran === undefined").await, true, "inline script is refused");

    // The link of the strangest name leads to its page, which is live too.
    browser.value("[...document.querySelectorAll('tbody th a')].find(a => a.textContent.includes('script')).click()").await;
    browser.until("document.querySelector('article#device h1 bdi')?.textContent.includes('<script>')").await;
    browser.until("document.getElementById('live').textContent === 'Live'").await;
    house.change(device(HOSTILE_NAME, false));
    browser.until("document.querySelector('#device .status').textContent === 'Offline'").await;
    browser.close().await;
    served.leave().await;
}

#[tokio::test]
async fn nothing_sticks_out_on_a_telephone() {
    let mut long = device(&"long-name-".repeat(12), false);
    long.problem = Some(Warning::new("x".repeat(300), format!("run `{}`", "y".repeat(300))));
    long.telemetry = Some(Telemetry { topic: "t/".repeat(100), text: "z".repeat(500), at: None });
    let house = House::new([long.clone(), device("attic-2", true)]);
    let served = serve(house).await;
    for path in ["/".to_owned(), format!("/devices/{}", long.name), "/nothing".to_owned()] {
        let mut browser = Browser::open(&format!("http://{}{path}", served.address), 360).await;
        browser.until("document.readyState === 'complete' && document.querySelector('main') !== null").await;
        assert_eq!(browser.value("innerWidth").await, 360);
        let width = browser.value("document.documentElement.scrollWidth").await;
        assert_eq!(width, 360, "{path} is wider than the screen");
        browser.close().await;
    }
    served.leave().await;
}
