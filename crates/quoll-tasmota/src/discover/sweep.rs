//! Asking every address of a range for a Tasmota: so many at once, so many a second, each only briefly. What listens
//! there and is no Tasmota gets one harmless question.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use zeroize::Zeroizing;

use super::{examine, finding::Finding, range::Range};
use crate::{console::ConsoleError, http_console::HttpConsole};

/// Addresses asked at the same time. Few enough for the table of connections of a home's router.
pub const AT_ONCE: usize = 32;
/// Addresses asked in a second.
pub const A_SECOND: u32 = 100;
/// Time to connect; a device in the house answers in milliseconds, a sleeping one within its 300 ms beacons.
pub const KNOCK: Duration = Duration::from_millis(1500);
/// Time for one answer of a console.
pub const ANSWER: Duration = Duration::from_secs(6);

/// What a sweep came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// Addresses asked.
    pub asked: usize,
    /// Those where something answers that is no Tasmota.
    pub strangers: usize,
    /// The devices, in the order of their addresses.
    pub found: Vec<Finding>,
}

/// What is at one address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visit {
    /// Nobody, or nobody on that port.
    Nobody(String),
    /// Somebody else.
    Stranger(String),
    /// A device; with a problem noted if it could not be asked.
    Device(Box<Finding>),
}

/// Sweeps a range. The web password is for devices that want one, and goes only to those that call themselves Tasmota.
pub async fn sweep(range: Range, port: u16, password: Option<&Zeroizing<String>>) -> Swept {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let password = password.cloned().map(Arc::new);
    let mut beat = interval(Duration::from_secs(1) / A_SECOND);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    for host in range.hosts() {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        beat.tick().await;
        let password = password.clone();
        visits.spawn(async move {
            let seen = knock(host, port, password.as_deref()).await;
            drop(place);
            (host, seen)
        });
    }
    let mut seen = visits.join_all().await;
    seen.sort_by_key(|(host, _)| *host);
    let mut swept = Swept { asked: seen.len(), ..Swept::default() };
    for (_, visit) in seen {
        match visit {
            Visit::Nobody(_) => {}
            Visit::Stranger(_) => swept.strangers += 1,
            Visit::Device(finding) => swept.found.push(*finding),
        }
    }
    swept
}

async fn knock(host: Ipv4Addr, port: u16, password: Option<&Zeroizing<String>>) -> Visit {
    // Most addresses are empty: a bare connection finds that out before any question is made.
    match timeout(KNOCK, TcpStream::connect(SocketAddr::from((host, port)))).await {
        Ok(Ok(_)) => visit(&host.to_string(), port, password).await,
        Ok(Err(error)) => Visit::Nobody(error.to_string()),
        Err(_) => Visit::Nobody("no answer".into()),
    }
}

/// Asks what is at one address, a host name or IP address without brackets.
pub async fn visit(host: &str, port: u16, password: Option<&Zeroizing<String>>) -> Visit {
    let console = HttpConsole::new(host, port).with_patience(KNOCK, ANSWER);
    let utc = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut seen = examine(&console, utc).await;
    if let (Err(ConsoleError::Unauthorized { .. }), Some(password)) = (&seen, password) {
        seen = examine(&console.with_password(password), utc).await;
    }
    match seen {
        Ok(found) => Visit::Device(Box::new(Finding { host: Some(host.into()), port, ..found })),
        Err(ConsoleError::Unreachable { why, .. }) => Visit::Nobody(why),
        // Whoever keeps silent or talks nonsense without a Tasmota's header is nobody we know.
        Err(error @ (ConsoleError::NotTasmota { .. } | ConsoleError::Timeout { .. })) => {
            Visit::Stranger(error.to_string())
        }
        Err(error) => {
            let problem = Some(error.to_string());
            Visit::Device(Box::new(Finding { host: Some(host.into()), port, problem, ..Finding::default() }))
        }
    }
}
