//! Devices with a certificate that stay away, or come in by a door that asks for none: noted as their problem, because an
//! update may have cost them their keys. Gone when they are seen with their certificate again.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quoll_fleet::device::{Device, DeviceName, DeviceState, Rung};
use time::OffsetDateTime;

/// A device that was proven is back within two minutes of any restart (facts §3.5); this is well above what an update
/// over the air takes.
const AWAY: Duration = Duration::from_secs(15 * 60);
/// How often it is looked for who stays away.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(30);

const STAYS_AWAY: &str = "stays away since";
const OTHER_DOOR: &str = "came in without its certificate";

/// What is to be noted: a problem, or that it is settled.
pub(crate) type News = (DeviceName, Option<String>);

/// Those who came in by a door that asks for no certificate, since the last look.
#[derive(Debug, Default)]
pub(crate) struct OtherDoor(Mutex<Vec<(String, SocketAddr)>>);

/// More than this between two looks is a load of something else.
const REMEMBERED: usize = 256;

impl OtherDoor {
    /// A client came in without a certificate.
    pub(crate) fn came(&self, client_id: &str, peer: SocketAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < REMEMBERED {
            all.push((client_id.to_owned(), peer));
        }
    }

    /// Which devices with a certificate they are.
    pub(crate) fn take(&self, devices: &[Device]) -> Vec<News> {
        let came = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut news = Vec::new();
        for (client_id, peer) in came {
            let is_it = |device: &&Device| is_expected(device) && device.topics.client_id == client_id;
            if let Some(device) = devices.iter().find(is_it).filter(|device| device.problem.is_none()) {
                let text = format!(
                    "{OTHER_DOOR}, from {peer}: its keys may be lost (quoll device check {})",
                    device.name
                );
                news.push((device.name.clone(), Some(text)));
            }
        }
        news
    }
}

/// What is new about one device.
pub(crate) fn news(
    device: &Device,
    online: bool,
    last_seen: Option<OffsetDateTime>,
    watched_since: OffsetDateTime,
    now: OffsetDateTime,
) -> Option<News> {
    let ours = device
        .problem
        .as_deref()
        .is_some_and(|text| text.starts_with(STAYS_AWAY) || text.starts_with(OTHER_DOOR));
    if online {
        return ours.then(|| (device.name.clone(), None));
    }
    // Who was never here since we look may have come the moment before.
    let since = last_seen.map_or(watched_since, |seen| seen.max(watched_since));
    let long = now - since >= AWAY;
    if !long || device.problem.is_some() || !is_expected(device) {
        return None;
    }
    let said = last_seen.unwrap_or(watched_since);
    let text = format!(
        "{STAYS_AWAY} {}: without power, or its keys are lost (quoll device check {})",
        crate::dates::stamp(said),
        device.name
    );
    Some((device.name.clone(), Some(text)))
}

fn is_expected(device: &Device) -> bool {
    device.rung == Rung::Mutual && device.state == DeviceState::Proven && device.is_welcome()
}

#[cfg(test)]
mod tests {
    use quoll_fleet::device::{Mac, Topics};

    use super::*;

    fn at(minute: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + minute * 60).unwrap()
    }

    fn device(problem: Option<&str>) -> Device {
        Device {
            name: "plug".parse().unwrap(),
            address: "192.0.2.7".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            chip: String::new(),
            firmware: String::new(),
            topics: Topics {
                topic: "plug".into(),
                full_topic: "%prefix%/%topic%/".into(),
                command: "cmnd".into(),
                status: "stat".into(),
                telemetry: "tele".into(),
                groups: Vec::new(),
                client_id: "DVES_000001".into(),
            },
            rung: Rung::Mutual,
            state: DeviceState::Proven,
            serial: Some("0A".into()),
            expires: None,
            first_seen: at(-1000),
            last_seen: None,
            problem: problem.map(ToOwned::to_owned),
            quarantine: None,
        }
    }

    #[test]
    fn who_stays_away_for_long_is_told_of_and_who_is_back_is_settled() {
        let well = device(None);
        let away = |seen: Option<i64>, now: i64| news(&well, false, seen.map(at), at(0), at(now));
        assert_eq!(away(Some(10), 20), None, "not yet");
        assert_eq!(away(Some(-500), 10), None, "we look since ten minutes only");
        assert_eq!(away(None, 14), None);
        let text = away(Some(10), 25).unwrap().1.unwrap();
        assert!(text.starts_with(STAYS_AWAY) && text.contains("quoll device check plug"), "{text}");
        let told = device(Some(&text));
        assert_eq!(news(&told, false, Some(at(10)), at(0), at(60)), None, "told once");
        assert_eq!(news(&told, true, Some(at(60)), at(0), at(60)), Some(("plug".parse().unwrap(), None)));
    }

    #[test]
    fn what_is_not_expected_or_has_another_problem_is_left_alone() {
        let other = device(Some("its log says something else"));
        assert_eq!(news(&other, false, None, at(0), at(60)), None);
        assert_eq!(news(&other, true, None, at(0), at(60)), None, "not ours to settle");
        for change in [
            |device: &mut Device| device.rung = Rung::Pinned,
            |device: &mut Device| device.state = DeviceState::Switched,
            |device: &mut Device| device.state = DeviceState::Revoked,
        ] {
            let mut device = device(None);
            change(&mut device);
            assert_eq!(news(&device, false, None, at(0), at(60)), None);
        }
    }

    #[test]
    fn who_comes_without_its_certificate_is_known_by_its_client_id() {
        let door = OtherDoor::default();
        door.came("DVES_000001", "192.0.2.7:50000".parse().unwrap());
        door.came("somebody", "192.0.2.9:50000".parse().unwrap());
        let news = door.take(&[device(None)]);
        assert_eq!(news.len(), 1);
        assert!(news[0].1.as_deref().unwrap().starts_with(OTHER_DOOR), "{news:?}");
        assert!(door.take(&[device(None)]).is_empty());
    }
}
