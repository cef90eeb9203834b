//! An invented house to show, the dashboard served on a free port, and a plain HTTP client that can be impolite.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests may")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_web::view::{
    Authority, Certificate, DeviceDetail, DeviceView, Diagnosis, Finding, Health, HistoryEntry, Listener,
    Overview, Rung, Telemetry, Warning,
};
use quoll_web::{Live, Source};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No answer takes longer unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const HOSTILE_NAME: &str = "<script>alert(1)</script>\"'&/..";
pub(crate) const HOSTILE_TEXT: &str =
    "</td></table><img src=x onerror=\"document.title='taken'\">\r\nevent: put\r\ndata: x";

pub(crate) struct House {
    pub(crate) devices: Mutex<Vec<DeviceView>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) changes: broadcast::Sender<Live>,
}

impl House {
    pub(crate) fn new(devices: impl Into<Vec<DeviceView>>) -> Arc<Self> {
        // Small on purpose: falling behind must be easy to provoke.
        let changes = broadcast::channel(8).0;
        Arc::new(Self { devices: Mutex::new(devices.into()), asked: AtomicUsize::new(0), changes })
    }

    /// Four devices of different fortune, named so that the alphabet and the fortune disagree.
    pub(crate) fn of_four() -> Arc<Self> {
        let mut attic = device("attic-10", true);
        attic.telemetry = Some(Telemetry {
            topic: "tele/attic_10/STATE".into(),
            text: r#"{"POWER":"ON"}"#.into(),
            at: None,
        });
        let mut kitchen = device("kitchen-plug", true);
        kitchen.rung = Rung::Plain;
        kitchen.problem =
            Some(Warning::new("speaks without TLS", "run `quoll device provision kitchen-plug`"));
        Self::new([attic, device("attic-2", true), device("hall-lamp", false), kitchen])
    }

    /// A change as the program would make it: first the truth, then the word.
    pub(crate) fn change(&self, device: DeviceView) {
        let mut devices = self.devices.lock().unwrap();
        devices.retain(|old| old.name != device.name);
        devices.push(device.clone());
        drop(devices);
        let _ = self.changes.send(Live::Device(device));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.devices.lock().unwrap().retain(|device| device.name != name);
        let _ = self.changes.send(Live::Gone(name.into()));
    }
}

pub(crate) fn device(name: &str, online: bool) -> DeviceView {
    DeviceView {
        name: name.into(),
        rung: Rung::Mutual,
        state: "proven".into(),
        online,
        address: Some("192.0.2.17".into()),
        certificate_serial: Some("2A17".into()),
        expires: Some("2099-01-01T00:00:00Z".into()),
        last_seen: Some("2026-01-01T00:00:00Z".into()),
        telemetry: None,
        problem: None,
    }
}

#[async_trait]
impl Source for House {
    async fn overview(&self) -> Overview {
        let devices = self.devices.lock().unwrap();
        Overview {
            node: "attic".into(),
            version: "0.1.0".into(),
            uptime_seconds: 273_600,
            listeners: vec![Listener { address: "0.0.0.0:8883".into(), speaks: "MQTT over TLS".into() }],
            authority: Some(Authority {
                name: "House CA".into(),
                expires: Some("2099-06-01T00:00:00Z".into()),
            }),
            server_certificate_expires: Some("2020-02-02T00:00:00Z".into()),
            devices_online: devices.iter().filter(|d| d.online).count() as u64,
            devices_total: devices.len() as u64,
            devices_with_problems: devices.iter().filter(|d| d.problem.is_some()).count() as u64,
            messages_per_second: 12.34,
            warnings: vec![Warning::new("the server certificate has expired", "`quoll ca renew-server`")],
        }
    }

    async fn devices(&self) -> Vec<DeviceView> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.devices.lock().unwrap().clone()
    }

    async fn device(&self, name: &str) -> Option<DeviceDetail> {
        let device = self.devices.lock().unwrap().iter().find(|device| device.name == name).cloned()?;
        Some(DeviceDetail {
            hardware: Some("Sonoff Basic R4".into()),
            firmware: Some("Tasmota 15.1.0".into()),
            certificate: Some(Certificate {
                subject: format!("CN={name}"),
                serial: "2A17".into(),
                ..Certificate::default()
            }),
            permissions: vec!["publish tele/#".into()],
            messages: device.telemetry.iter().cloned().collect(),
            history: vec![HistoryEntry { at: "2026-01-01T00:00:00Z".into(), text: "added".into() }],
            device,
            ..DeviceDetail::default()
        })
    }

    /// One that hangs is asked for ever.
    async fn diagnose(&self, name: &str) -> Option<Diagnosis> {
        let device = self.devices.lock().unwrap().iter().find(|device| device.name == name).cloned()?;
        if device.state == "hangs" {
            std::future::pending::<()>().await;
        }
        let finding = |rule: &str, text: String| Finding {
            rule: rule.into(),
            cause: text.clone(),
            evidence: vec![format!("device: {text}"), "wire: it came as far as its ClientHello".into()],
            next_step: "set MqttPort 8883".into(),
            repair: Some(format!("`quoll doctor {name} --fix` will set the broker again")),
        };
        let text = device.problem.map_or_else(|| "the port is another".to_owned(), |problem| problem.text);
        Some(match device.online {
            true => Diagnosis { device: name.into(), health: Health::Well, ..Diagnosis::default() },
            false => Diagnosis {
                device: name.into(),
                health: Health::Ill,
                findings: vec![finding("other-broker", text), finding("weak-wifi", "14 %".into())],
                unknown: vec!["its clock: no answer".into()],
            },
        })
    }

    fn live(&self) -> broadcast::Receiver<Live> {
        self.changes.subscribe()
    }
}

/// The dashboard of a house, being served.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<std::io::Result<()>>,
}

pub(crate) async fn serve(source: Arc<dyn Source>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(quoll_web::serve(listener, source, stopped));
    Served { address, stop, done }
}

impl Served {
    /// Stops it and waits until it has left.
    pub(crate) async fn leave(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.done).await.expect("leaves in time").unwrap().unwrap();
    }

    /// A polite GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    /// Whatever bytes one likes.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
        Answer::parse(&String::from_utf8(bytes).unwrap())
    }

    /// A live stream. HTTP/1.0, so that its body comes without chunk marks.
    pub(crate) async fn watch(&self, path: &str) -> Stream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Stream { lines: BufReader::new(socket), head: String::new() };
        loop {
            match stream.line().await {
                Some(line) if line.is_empty() => return stream,
                Some(line) => stream.head += &format!("{line}\r\n"),
                None => return stream,
            }
        }
    }
}

/// An answer taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// A live stream being read.
pub(crate) struct Stream {
    lines: BufReader<TcpStream>,
    pub(crate) head: String,
}

impl Stream {
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.lines.read_line(&mut line)).await.expect("something in time");
        (read.unwrap_or(0) > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next event: its name and its data. `None` when the stream ends.
    pub(crate) async fn event(&mut self) -> Option<(String, String)> {
        let (mut name, mut data) = (String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value)))
            {
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data.push(value.to_owned()),
                None if line.is_empty() && !data.is_empty() => return Some((name, data.join("\n"))),
                _ => {}
            }
        }
    }
}
