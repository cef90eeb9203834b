//! The dashboard with invented data, to look at: `cargo run -p quoll-web --example demo [PORT]`.
//!
//! Two hundred devices; some have trouble, some come and go. Nothing here is real, and nothing but the pages is used.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_web::view::{
    Authority, Certificate, DeviceDetail, DeviceView, HistoryEntry, Listener, Overview, Rung, Telemetry,
    Warning,
};
use quoll_web::{Live, Source};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}/", listener.local_addr()?);
    let house = Arc::new(House::furnished());
    tokio::spawn(live_in(Arc::clone(&house)));
    quoll_web::serve(listener, house, tokio::signal::ctrl_c()).await
}

/// An invented office building.
struct House {
    devices: Mutex<Vec<DeviceView>>,
    changes: broadcast::Sender<Live>,
    opened: std::time::Instant,
}

#[async_trait]
impl Source for House {
    async fn overview(&self) -> Overview {
        let devices = self.devices.lock().expect("nobody panics while holding it");
        Overview {
            node: "attic".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: 273_600 + self.opened.elapsed().as_secs(),
            listeners: vec![
                Listener {
                    address: "0.0.0.0:8883".into(),
                    speaks: "MQTT over TLS, certificate required".into(),
                },
                Listener { address: "0.0.0.0:8884".into(), speaks: "MQTT over TLS, password".into() },
            ],
            authority: Some(Authority { name: "Quoll CA".into(), expires: Some(in_days(3560)) }),
            server_certificate_expires: Some(in_days(21)),
            devices_online: devices.iter().filter(|d| d.online).count() as u64,
            devices_total: devices.len() as u64,
            devices_with_problems: devices.iter().filter(|d| d.problem.is_some()).count() as u64,
            messages_per_second: 9.2 + (self.opened.elapsed().as_secs() % 13) as f64 / 10.0,
            warnings: vec![Warning::new(
                "the server certificate ends in 21 days; devices go on trusting its key after a renewal",
                "`quoll ca renew-server`",
            )],
        }
    }

    async fn devices(&self) -> Vec<DeviceView> {
        self.devices.lock().expect("nobody panics while holding it").clone()
    }

    async fn device(&self, name: &str) -> Option<DeviceDetail> {
        let device = self.devices().await.into_iter().find(|device| device.name == name)?;
        let topic = device.name.replace('-', "_");
        Some(DeviceDetail {
            hardware: Some("Sonoff Basic R4".into()),
            firmware: Some("Tasmota 15.1.0".into()),
            mac: Some("00:00:5E:00:53:07".into()),
            client_id: Some(format!("DVES_{topic}")),
            certificate: device.certificate_serial.clone().map(|serial| Certificate {
                subject: format!("CN={}", device.name),
                issuer: "CN=Quoll CA".into(),
                serial,
                not_before: Some(in_days(-290)),
                not_after: device.expires.clone(),
                fingerprint: Some("5f2a90c31bd84e7706aa".repeat(3) + "19ce"),
                key: Some("EC P-256".into()),
            }),
            permissions: [("publish", "tele"), ("publish", "stat"), ("subscribe", "cmnd")]
                .map(|(verb, kind)| format!("{verb} {kind}/{topic}/#"))
                .to_vec(),
            messages: (0..6)
                .map(|i| Telemetry {
                    topic: format!("tele/{topic}/SENSOR"),
                    text: format!("{{\"ENERGY\":{{\"Power\":{},\"Voltage\":23{i}}}}}", 40 + i),
                    at: Some(in_seconds(-300 * i - 12)),
                })
                .collect(),
            history: vec![
                HistoryEntry { at: in_days(-3), text: "certificate renewed".into() },
                HistoryEntry { at: in_days(-290), text: "provisioned at 192.0.2.17 by console".into() },
                HistoryEntry { at: in_days(-290), text: "added".into() },
            ],
            topic: Some(topic),
            device,
        })
    }

    fn live(&self) -> broadcast::Receiver<Live> {
        self.changes.subscribe()
    }
}

impl House {
    fn furnished() -> Self {
        let rooms = ["atrium", "hall", "kitchen", "lab", "office", "stairs", "store", "workshop"];
        let devices = (0..200_u32).map(|i| {
            let topic = format!("{}_{}", rooms[i as usize % 8], i / 8 + 1);
            DeviceView {
                name: topic.replace('_', "-"),
                rung: if i % 17 == 3 { Rung::Pinned } else { Rung::Mutual },
                state: "proven".into(),
                online: true,
                address: Some(format!("192.0.2.{}", i + 10)),
                certificate_serial: Some(format!("{:032X}", u128::from(i) * 0x9E37_79B9_7F4A_7C15)),
                expires: Some(in_days(380 + i64::from(i))),
                last_seen: Some(in_seconds(-i64::from(i % 50))),
                telemetry: Some(Telemetry {
                    topic: format!("tele/{topic}/STATE"),
                    text: format!("{{\"POWER\":\"ON\",\"Wifi\":{{\"RSSI\":{}}}}}", 60 + i % 30),
                    at: None,
                }),
                problem: None,
            }
        });
        let mut devices: Vec<_> = devices.collect();
        let offline = |device: &mut DeviceView, hours: i64| {
            device.online = false;
            device.last_seen = Some(in_seconds(-3600 * hours));
        };
        offline(&mut devices[5], 26);
        devices[5].problem = Some(Warning::new(
            "refused at the door 14 times: its certificate has expired",
            "`quoll device renew stairs-1 --at 192.0.2.15`",
        ));
        devices[5].expires = Some(in_days(-1));
        devices[42].rung = Rung::Plain;
        devices[42].problem = Some(Warning::new(
            "speaks without TLS since a factory reset",
            "`quoll device provision kitchen-6`",
        ));
        devices[42].expires = None;
        devices[42].certificate_serial = None;
        offline(&mut devices[77], 3);
        offline(&mut devices[120], 95);
        devices[9].expires = Some(in_days(12));
        offline(&mut devices[199], 2400);
        devices[199].state = "revoked".into();
        devices[198].state = "known".into();
        devices[198].rung = Rung::Unknown;
        Self {
            devices: Mutex::new(devices),
            changes: broadcast::channel(512).0,
            opened: std::time::Instant::now(),
        }
    }
}

/// Lets devices report in turn, and one of them lose its Wi-Fi now and then.
async fn live_in(house: Arc<House>) {
    for turn in 0_usize.. {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let device = {
            let mut devices = house.devices.lock().expect("nobody panics while holding it");
            let device = &mut devices[turn * 37 % 190 + 6];
            if turn % 20 == 9 {
                device.online = !device.online;
            } else if device.online {
                device.last_seen = Some(in_seconds(0));
            }
            device.clone()
        };
        // Nobody watching is no error.
        let _ = house.changes.send(Live::Device(device));
        if turn % 3 == 0 {
            let _ = house.changes.send(Live::Overview(house.overview().await));
        }
    }
}

fn in_days(days: i64) -> String {
    in_seconds(days * 86_400 + 3_600)
}

fn in_seconds(seconds: i64) -> String {
    let moment = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    moment.format(&Rfc3339).expect("a date of this century can be written")
}
