//! What the node saw: asked over the local socket, and attributed. An address becomes a device by the system's
//! neighbour table where it has one, else by the registry's last address.

use std::net::IpAddr;

use quoll_fleet::device::{Device, Rung};
use quoll_fleet::doctor::evidence::{Attribution, DeviceSide, Encounter, WireSide};

use super::Practice;
use crate::control::{self, Answer, Question, Seen};
use crate::encounters::Whose;
use crate::home::Home;

/// Encounters that are shown; more would not be read.
const SHOWN: usize = 12;

/// The node, as it says.
#[derive(Default)]
pub(crate) struct NodeFacts {
    pub(crate) silence: Option<String>,
    pub(crate) version: String,
    pub(crate) listeners: Vec<String>,
    pub(crate) connections: Vec<Seen>,
}

impl NodeFacts {
    pub(crate) async fn ask(home: &Home) -> Self {
        let silent = |why: String| Self { silence: Some(why), ..Self::default() };
        match control::ask(home, &Question::Status).await {
            Ok(Some(Answer::Status(status))) => Self {
                silence: None,
                version: status.version,
                listeners: status.listeners,
                connections: status.connections,
            },
            Ok(None) => silent("no node runs in this home".into()),
            Ok(Some(Answer::Failed { why })) => silent(format!("the node does not answer: {why}")),
            Ok(Some(_)) => {
                silent("the node answered another question: another version of quoll runs there".into())
            }
            Err(error) => silent(format!("the node does not answer: {error}")),
        }
    }

    /// By its certificate; by the name that its password stands for where it is pinned; else by its client id.
    pub(crate) fn connection_of(&self, device: &Device) -> Option<&Seen> {
        let by_serial = |seen: &&Seen| match device.rung {
            Rung::Pinned => seen.name == device.name.as_str(),
            _ => seen.serial.is_some() && seen.serial == device.serial,
        };
        let by_id = |seen: &&Seen| seen.serial.is_none() && seen.client_id == device.topics.client_id;
        self.connections.iter().find(by_serial).or_else(|| self.connections.iter().find(by_id))
    }
}

/// What the node saw of a device.
pub(crate) async fn of(practice: &Practice, device: &Device, said: &DeviceSide) -> WireSide {
    let mut side = WireSide {
        silence: practice.node.silence.clone(),
        listeners: practice.node.listeners.clone(),
        ..WireSide::default()
    };
    if side.silence.is_some() {
        return side;
    }
    // Asked anew: asking the device took its time.
    let node = NodeFacts::ask(&practice.home).await;
    side.online = node.connection_of(device).map(|seen| (seen.client_id.clone(), seen.address.clone()));
    side.rival = rival(practice, &node, device);
    let neighbours = neighbours();
    let mut addresses = host_addresses(device).await;
    let of_mac = neighbours.iter().filter(|(_, mac)| mac.eq_ignore_ascii_case(&device.mac.to_string()));
    addresses.extend(of_mac.map(|(address, _)| *address));
    addresses.sort_unstable();
    addresses.dedup();
    let whose = Whose {
        name: device.name.to_string(),
        addresses: addresses.clone(),
        serial: device.serial.clone(),
        client_id: said.client.clone().unwrap_or_else(|| device.topics.client_id.clone()),
    };
    match control::ask(&practice.home, &Question::Encounters(whose)).await {
        Ok(Some(Answer::Encountered { encounters })) => side.encounters = encounters,
        Ok(_) => side.silence = Some("the node does not say what it saw".into()),
        Err(error) => side.silence = Some(format!("the node does not say what it saw: {error}")),
    }
    let others = practice.devices.iter().filter(|other| {
        other.name != device.name
            && other.state.is_present()
            && other.address.host().parse().is_ok_and(|address: IpAddr| addresses.contains(&address))
    });
    side.shared_with = others.map(|other| other.name.to_string()).take(SHOWN).collect();
    let mac = device.mac.to_string();
    for encounter in &mut side.encounters {
        encounter.known_by = attributed(encounter, &neighbours, &mac, !side.shared_with.is_empty());
    }
    // What is another's by the neighbour table is not this one's, whatever the registry's address says.
    side.encounters.retain(|encounter| {
        encounter.known_by > Attribution::Address
            || mac_of(encounter, &neighbours).is_none_or(|seen| seen.eq_ignore_ascii_case(&mac))
    });
    let surplus = side.encounters.len().saturating_sub(SHOWN);
    side.encounters.drain(..surplus);
    side
}

/// Who has a connection under the device's client id, where it is not the device.
fn rival(practice: &Practice, node: &NodeFacts, device: &Device) -> Option<String> {
    let other = |seen: &&Seen| {
        seen.client_id == device.topics.client_id && seen.serial.is_some() && seen.serial != device.serial
    };
    let seen = node.connections.iter().find(other)?;
    let named = practice.devices.iter().find(|known| known.serial.is_some() && known.serial == seen.serial);
    Some(named.map_or_else(|| seen.address.clone(), |known| known.name.to_string()))
}

fn mac_of<'a>(encounter: &Encounter, neighbours: &'a [(IpAddr, String)]) -> Option<&'a str> {
    let address = encounter.peer.parse::<std::net::SocketAddr>().ok()?.ip();
    neighbours.iter().find(|(known, _)| *known == address).map(|(_, mac)| mac.as_str())
}

fn attributed(
    encounter: &Encounter,
    neighbours: &[(IpAddr, String)],
    mac: &str,
    is_shared: bool,
) -> Attribution {
    match encounter.known_by {
        Attribution::Address
            if mac_of(encounter, neighbours).is_some_and(|seen| seen.eq_ignore_ascii_case(mac)) =>
        {
            Attribution::Mac
        }
        Attribution::Address if is_shared => Attribution::SharedAddress,
        other => other,
    }
}

/// The addresses of its console.
async fn host_addresses(device: &Device) -> Vec<IpAddr> {
    let host = device.address.host().trim_matches(['[', ']']);
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let looked =
        tokio::time::timeout(std::time::Duration::from_secs(3), tokio::net::lookup_host((host, 80))).await;
    match looked {
        Ok(Ok(found)) => found.map(|address| address.ip()).take(4).collect(),
        _ => Vec::new(),
    }
}

/// The system's neighbour table (IPv4), where it has one to read.
fn neighbours() -> Vec<(IpAddr, String)> {
    parse_neighbours(&std::fs::read_to_string("/proc/net/arp").unwrap_or_default())
}

/// `IP address  HW type  Flags  HW address  Mask  Device`, under a heading. Flag 2 means complete.
fn parse_neighbours(text: &str) -> Vec<(IpAddr, String)> {
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let flags = words.nth(1)?;
        let mac = words.next()?;
        let complete =
            u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|bits| bits & 2 != 0);
        (complete && mac != "00:00:00:00:00:00").then(|| (address, mac.to_ascii_uppercase()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbour_table_is_read_as_linux_writes_it() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
            192.0.2.7        0x1         0x2         a0:b1:c2:d3:e4:f5     *        eth0\n\
            192.0.2.8        0x1         0x0         00:00:00:00:00:00     *        eth0\n\
            nonsense\n";
        let read = parse_neighbours(text);
        assert_eq!(read, [("192.0.2.7".parse().unwrap(), "A0:B1:C2:D3:E4:F5".to_owned())]);
    }
}
