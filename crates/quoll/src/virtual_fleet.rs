//! Virtual Tasmota devices beside the broker, to rehearse on. They are enrolled like real ones: over their HTTP
//! consoles, by the signing process.

use std::net::Ipv4Addr;

use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Firmware, RunningDevice, VirtualDevice, VirtualProfile};
use tokio::net::TcpListener;

use crate::config::Settings;
use crate::enrolment::Wish;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::print;
use crate::signer::Signer;
use crate::workshop;

/// Rooms that a home has; further devices are numbered.
const ROOMS: [&str; 10] =
    ["kitchen", "garage", "porch", "hallway", "cellar", "attic", "study", "bathroom", "garden", "landing"];
/// Telemetry comes as often as a person watches for it, not each 300 s.
const TELE_PERIOD: u16 = 10;
/// Restarts and retries are a fifth of a real device's.
const PACE: f64 = 0.2;

/// Running virtual devices.
pub(crate) struct VirtualFleet {
    devices: Vec<(String, RunningDevice)>,
    /// What they are told to connect to.
    host: String,
}

impl VirtualFleet {
    /// Starts `count` devices with consoles on this machine's loopback.
    pub(crate) async fn start(count: u16, settings: &Settings) -> Outcome<Self> {
        let anchors: Vec<_> = workshop::anchors(settings)?.iter().map(|ca| ca.der().to_vec()).collect();
        let fail =
            |error: std::io::Error| Failure::new(Exit::System, "cannot start a virtual device").why(error);
        let mut devices = Vec::new();
        for index in 0..count {
            let name = name(index);
            let [high, low] = index.to_be_bytes();
            // Locally administered (the second bit of the first byte), so that no real device has it.
            let mac = Mac([0x02, 0x51, 0x55, 0x4C, high, low]);
            let chip = if index % 2 == 0 { Chip::Esp32 } else { Chip::Esp8266 };
            let profile = VirtualProfile {
                topic: name.clone(),
                anchors: anchors.clone(),
                tele_period: TELE_PERIOD,
                pace: PACE,
                ..VirtualProfile::new(chip, Firmware::ClientCert, mac)
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(fail)?;
            devices.push((name, VirtualDevice::start(profile, listener).map_err(fail)?));
        }
        Ok(Self { devices, host: host(settings) })
    }

    /// Enrols them, several at once.
    pub(crate) async fn enrol(&self, signer: &mut Signer) -> Outcome {
        let mut wishes = Vec::new();
        for (name, device) in &self.devices {
            let at = device.http_addr().to_string();
            print(&format!("{name}  virtual device at http://{at}/\n"))?;
            wishes.push(Wish {
                name: name.clone(),
                at,
                host: Some(self.host.clone()),
                // A virtual device forgets its keys when the node stops.
                replace_key: true,
                ..Wish::default()
            });
        }
        let mut printed = Ok(());
        signer
            .enrol(wishes, |device, news| match news {
                Ok(step) if printed.is_ok() => printed = print(&format!("{device}  {step}\n")),
                Ok(_) => {}
                // One that cannot come in, such as a revoked one, does not keep the others out.
                Err(failure) => {
                    failure.report();
                }
            })
            .await?;
        printed
    }

    pub(crate) async fn stop(self) {
        for (_, device) in self.devices {
            device.stop().await;
        }
    }
}

fn name(index: u16) -> String {
    match ROOMS.get(usize::from(index)) {
        Some(room) => (*room).to_owned(),
        None => format!("room-{}", index + 1),
    }
}

/// Loopback where the broker listens there and its certificate says so, since these devices are on this machine;
/// otherwise what every device is told.
fn host(settings: &Settings) -> String {
    let loopback = std::net::IpAddr::from(Ipv4Addr::LOCALHOST);
    let listens = settings.mqtts.first().is_some_and(|address| {
        address.ip() == loopback || address.ip() == std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED)
    });
    if listens && settings.addresses.contains(&loopback) {
        loopback.to_string()
    } else {
        settings.host.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_virtual_device_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = (0..200).map(name).collect();
        assert_eq!(names.len(), 200);
        assert!(names.contains("kitchen") && names.contains("room-200"));
    }
}
