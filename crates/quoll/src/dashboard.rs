//! What the dashboard shows of a running node.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use quoll_fleet::access_list::device_access;
use quoll_fleet::device::DeviceName;
use quoll_fleet::doctor::{self, Evidence, Verdict};
use quoll_web::view::{
    Authority, Certificate, DeviceDetail, DeviceView, Diagnosis, Finding, Health, HistoryEntry, Listener,
    Overview, Rung, Telemetry, Warning,
};
use quoll_web::{Live, RevocationList, Source};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};

use crate::config::Unlisted;
use crate::doctor::Practice;
use crate::node::{Node, Row, Speaks};
use crate::telemetry::Said;
use crate::{cli, dates, workshop};

/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events kept for a browser that is slow to take them.
const EVENTS_KEPT: usize = 512;
/// An owner wants to know this long before a certificate ends.
const EXPIRY_NOTICE: time::Duration = time::Duration::days(30);
/// Certificates in no registry that are named in the warning about them.
const STRANGERS_NAMED: usize = 5;
/// Lines of the audit trail searched for those about one device.
const AUDIT_LINES: u32 = 500;

/// The dashboard while it runs.
pub(crate) struct Dashboard {
    pub(crate) address: SocketAddr,
    /// Dropped, it lets the pages go.
    _stop: oneshot::Sender<()>,
}

/// Serves the pages of a node until the [`Dashboard`] is dropped.
pub(crate) fn start(listener: TcpListener, node: Arc<Node>) -> std::io::Result<Dashboard> {
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (live, _) = broadcast::channel(EVENTS_KEPT);
    let window = Arc::new(Window { node, live, started: Instant::now() });
    tokio::spawn(Arc::clone(&window).watch());
    tokio::spawn(async move {
        if let Err(error) = quoll_web::serve(listener, window, stopped).await {
            tracing::error!(%error, "the dashboard has stopped");
        }
    });
    Ok(Dashboard { address, _stop: stop })
}

/// Serves the revocation lists on listeners of their own until what it returns is dropped.
pub(crate) fn hand_out_lists(
    listeners: Vec<TcpListener>,
    node: &Arc<Node>,
) -> std::io::Result<Vec<oneshot::Sender<()>>> {
    let mut stops = Vec::new();
    for listener in listeners {
        let (stop, stopped) = oneshot::channel::<()>();
        let (live, _) = broadcast::channel(1);
        let window = Arc::new(Window { node: Arc::clone(node), live, started: Instant::now() });
        tokio::spawn(async move {
            if let Err(error) = quoll_web::serve_lists(listener, window, stopped).await {
                tracing::error!(%error, "the revocation list is not served any more");
            }
        });
        stops.push(stop);
    }
    Ok(stops)
}

struct Window {
    node: Arc<Node>,
    live: broadcast::Sender<Live>,
    started: Instant,
}

impl Window {
    /// Tells the browsers what changed, where any is looking.
    async fn watch(self: Arc<Self>) {
        let mut before: HashMap<String, DeviceView> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.live.receiver_count() == 0 {
                before.clear();
                continue;
            }
            let now: HashMap<_, _> =
                self.node.rows().iter().map(|row| (row.name.clone(), view(row))).collect();
            for (name, view) in &now {
                if before.get(name) != Some(view) {
                    self.live.send(Live::Device(view.clone())).ok();
                }
            }
            for gone in before.keys().filter(|name| !now.contains_key(*name)) {
                self.live.send(Live::Gone(gone.clone())).ok();
            }
            before = now;
            self.live.send(Live::Overview(self.overview().await)).ok();
        }
    }

    fn warnings(&self, rows: &[Row], server_ends: Option<OffsetDateTime>) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let soon = OffsetDateTime::now_utc() + EXPIRY_NOTICE;
        let folders = self.node.folders();
        let ca = folders.current.ca();
        if ca.not_after() < soon {
            let text = format!("The CA's certificate ends on {}.", dates::day(ca.not_after()));
            warnings.push(Warning { text, next_step: None });
        }
        if let Some(ends) = server_ends.filter(|ends| *ends < soon) {
            let text = format!("The server's certificate ends on {}.", dates::day(ends));
            warnings.push(Warning::new(text, "Renew it with the same key: `quoll server renew`"));
        }
        if matches!(folders.current.crl_is_behind(OffsetDateTime::now_utc()), Ok(true)) {
            warnings.push(Warning::new(
                "The revocation list is behind. Quoll's broker does not need it; other servers may.",
                "Write it anew: `quoll ca crl`",
            ));
        }
        warnings.extend(self.strangers());
        for row in rows.iter().filter(|row| row.expires_at.is_some_and(|at| at < soon)) {
            let text =
                format!("The certificate of {} ends on {}.", row.name, row.expires.as_deref().unwrap_or("-"));
            warnings.push(Warning { text, next_step: None });
        }
        warnings
    }
}

impl Window {
    /// Certificates of our CA that are in no registry.
    fn strangers(&self) -> Option<Warning> {
        let all = self.node.registry().unlisted().unwrap_or_default();
        let waiting: Vec<_> = all.iter().filter(|one| one.rejected.is_none()).collect();
        let first = waiting.first()?;
        let mut names: Vec<&str> =
            waiting.iter().map(|one| one.name.as_str()).take(STRANGERS_NAMED).collect();
        if waiting.len() > names.len() {
            names.push("…");
        }
        let stand = match self.node.settings().unlisted {
            Unlisted::Admit => "in with all permissions",
            Unlisted::Pending => "waiting at the door",
            Unlisted::Refuse => "refused",
        };
        let text = format!(
            "{} certificate(s) of this CA are in no registry, and {stand}: {}.",
            waiting.len(),
            names.join(", ")
        );
        let next = format!(
            "Say whose each is: `quoll device accept {}`, or `quoll device reject {}`; `quoll device pending` shows them",
            first.name, first.name
        );
        Some(Warning::new(text, next))
    }
}

fn view(row: &Row) -> DeviceView {
    DeviceView {
        name: row.name.clone(),
        rung: Rung::named(&row.rung),
        state: row.state.clone(),
        online: row.online,
        address: Some(row.address.clone()),
        certificate_serial: row.serial.clone(),
        expires: row.expires_at.map(dates::stamp),
        last_seen: row.last_seen.map(dates::stamp),
        telemetry: row.telemetry.clone().map(telemetry),
        problem: row.problem.clone().map(|text| {
            let next = if row.state == "proven" {
                format!("Bring it back: `quoll device repair {}`", row.name)
            } else {
                format!("Run it again: `quoll device add {} --at {}`", row.name, row.address)
            };
            Warning::new(text, next)
        }),
    }
}

fn handed_out(list: quoll_pki::PublishedCrl) -> RevocationList {
    RevocationList {
        tag: list.tag(),
        der: list.der,
        this_update: list.this_update.map(Into::into),
        next_update: list.next_update.map(Into::into),
    }
}

fn diagnosis(evidence: &Evidence, verdict: Verdict) -> Diagnosis {
    let finding = |found: doctor::Finding| Finding {
        rule: found.rule.to_owned(),
        cause: found.cause,
        evidence: found.evidence,
        next_step: found.fix,
        repair: found
            .repair
            .map(|repair| format!("`quoll doctor {} --fix` will {}", evidence.name, repair.words())),
    };
    Diagnosis {
        device: evidence.name.clone(),
        health: match verdict.health {
            doctor::Health::Well => Health::Well,
            doctor::Health::Warned => Health::Warned,
            doctor::Health::Ill => Health::Ill,
            doctor::Health::Unexplained => Health::Unexplained,
        },
        findings: verdict.cause.into_iter().chain(verdict.also).map(finding).collect(),
        unknown: crate::doctor::unknown(evidence),
    }
}

fn telemetry(said: Said) -> Telemetry {
    Telemetry { topic: said.topic, text: said.text, at: Some(dates::stamp(said.at)) }
}

/// A line of the audit trail for a person: the verb, what became of it, who did it.
fn deed(verb: &str, detail: &str, actor: &str) -> String {
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    let word = |key: &str| detail[key].as_str().map(|text| format!(" {text}")).unwrap_or_default();
    match verb {
        "device.state" => format!("now{} (by {actor})", word("to")),
        "device.registered" => format!("registered{} (by {actor})", word("firmware")),
        "device.certificate" => format!("certificate{} (by {actor})", word("serial")),
        "certificate.revoked" => format!("revoked:{} (by {actor})", word("reason")),
        other => format!("{other} (by {actor})"),
    }
}

#[async_trait]
impl Source for Window {
    async fn overview(&self) -> Overview {
        let rows = self.node.rows();
        let settings = self.node.settings();
        let server_ends = workshop::server_certificate(settings, self.node.folders().serving())
            .ok()
            .map(|found| found.not_after());
        let listeners = self.node.doors().into_iter().map(|(speaks, address)| Listener {
            address: address.to_string(),
            speaks: match speaks {
                Speaks::Mutual => "MQTT over TLS, certificate required",
                Speaks::Pinned => "MQTT over TLS, user and password of a pinned device",
                Speaks::Plain => "MQTT without TLS",
            }
            .into(),
        });
        let folders = self.node.folders();
        let ca = folders.current.ca();
        Overview {
            node: settings.host.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            listeners: listeners.collect(),
            authority: Some(Authority {
                name: ca.subject_cn().unwrap_or_default().into(),
                expires: Some(dates::stamp(ca.not_after())),
            }),
            server_certificate_expires: server_ends.map(dates::stamp),
            devices_online: rows.iter().filter(|row| row.online).count() as u64,
            devices_total: rows.len() as u64,
            devices_with_problems: rows.iter().filter(|row| row.problem.is_some()).count() as u64,
            messages_per_second: self.node.message_rate(),
            warnings: self.warnings(&rows, server_ends),
        }
    }

    async fn revocation_list(&self, mark: Option<&str>) -> Option<RevocationList> {
        let folders = self.node.folders();
        let mark = mark.map(str::to_owned);
        let read = tokio::task::spawn_blocking(move || {
            let wanted =
                |pki: &&quoll_pki::Pki| mark.as_ref().is_none_or(|mark| pki.ca().anchor_id() == *mark);
            folders.all().find(wanted).map(quoll_pki::Pki::published_crl)
        });
        match read.await.ok()?? {
            Ok(list) => list.map(handed_out),
            Err(error) => {
                tracing::warn!(%error, "the revocation list cannot be served");
                None
            }
        }
    }

    async fn devices(&self) -> Vec<DeviceView> {
        self.node.rows().iter().map(view).collect()
    }

    async fn device(&self, name: &str) -> Option<DeviceDetail> {
        let row = self.node.rows().into_iter().find(|row| row.name == name)?;
        let directory = self.node.directory();
        let device = directory.devices.iter().find(|device| device.name.as_str() == name)?;
        let access = device_access(device).unwrap_or_default();
        let publish = access.publish.iter().map(|filter| format!("publish {filter}"));
        let subscribe = access.subscribe.iter().map(|filter| format!("subscribe {filter}"));
        Some(DeviceDetail {
            device: view(&row),
            hardware: Some(device.chip.clone()).filter(|chip| !chip.is_empty()),
            firmware: Some(device.firmware.clone()).filter(|firmware| !firmware.is_empty()),
            mac: Some(device.mac.to_string()),
            client_id: Some(device.topics.client_id.clone()),
            topic: Some(device.topics.topic.clone()),
            certificate: self.certificate(&device.name),
            permissions: publish.chain(subscribe).collect(),
            messages: row.telemetry.into_iter().map(telemetry).collect(),
            history: self.history(&device.name),
        })
    }

    async fn diagnose(&self, name: &str) -> Option<Diagnosis> {
        let devices = self.node.registry().devices().ok()?;
        let device = devices.iter().find(|device| device.name.as_str() == name).cloned()?;
        let practice = Practice::open(self.node.home(), self.node.settings(), devices).await;
        // The node knows no web passwords: a console that wants one is said to.
        let evidence = practice.examine(&device, &practice.console(&device, None)).await;
        let verdict = doctor::diagnose(&evidence);
        Some(diagnosis(&evidence, verdict))
    }

    fn live(&self) -> broadcast::Receiver<Live> {
        self.live.subscribe()
    }
}

impl Window {
    fn certificate(&self, name: &DeviceName) -> Option<Certificate> {
        let name = quoll_pki::CertName::parse(name.as_str()).ok()?;
        let folders = self.node.folders();
        // The newer CA's first: that is the one it has, or will have next.
        let (pki, certificate) = folders
            .all()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .find_map(|pki| Some((pki, pki.certificate(&name).ok()??)))?;
        Some(Certificate {
            subject: format!("CN={}", certificate.subject_cn().unwrap_or_default()),
            issuer: format!("CN={}", pki.ca().subject_cn().unwrap_or_default()),
            serial: certificate.serial().to_string(),
            not_before: Some(dates::stamp(certificate.not_before())),
            not_after: Some(dates::stamp(certificate.not_after())),
            fingerprint: Some(cli::ca::hex(&certificate.fingerprint_sha256())),
            key: Some(if certificate.has_ec_key() { "EC P-256" } else { "RSA" }.into()),
        })
    }

    fn history(&self, name: &DeviceName) -> Vec<HistoryEntry> {
        let lines = self.node.registry().audit_tail(AUDIT_LINES).unwrap_or_default();
        let about = lines.into_iter().filter(|line| line.subject == name.as_str());
        about
            .map(|line| HistoryEntry {
                at: dates::stamp(line.at),
                text: deed(&line.verb, &line.detail, &line.actor),
            })
            .collect()
    }
}
