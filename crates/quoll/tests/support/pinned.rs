//! A node with a door for pinned devices, and virtual devices for it.

use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Firmware, RunningDevice, VirtualDevice, VirtualProfile};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Home, Up, free_port, until};

/// Makes the CA of a home whose node has that door, and starts the node.
pub(crate) fn up(home: &Home) -> Up {
    let pinned = format!("127.0.0.1:{}", free_port());
    let listen = format!("127.0.0.1:{}", home.port);
    home.ok(&["ca", "init", "--host", "127.0.0.1", "--listen", &listen, "--pinned", &pinned]);
    home.up_and_listening(&["--pinned", &pinned])
}

/// A device as it leaves the factory. `last` ends its MAC, A0:B1:C2:D3:E4.
pub(crate) fn device(runtime: &Runtime, home: &Home, firmware: Firmware, last: u8) -> RunningDevice {
    let pem = std::fs::read(home.path("pki/ca.crt")).unwrap();
    let profile = VirtualProfile {
        anchors: vec![quoll_pki::Certificate::from_pem(&pem).unwrap().der().to_vec()],
        pace: 0.05,
        tele_period: 0,
        crashes_without_key: false,
        ..VirtualProfile::new(Chip::Esp32, firmware, Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last]))
    };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        VirtualDevice::start(profile, listener).unwrap()
    })
}

/// Both fingerprints that it holds.
pub(crate) fn slots(device: &RunningDevice) -> [String; 2] {
    ["1", "2"].map(|slot| {
        let told = until(|| device.type_command(&format!("MqttFingerprint{slot}")), Option::is_some).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        told[format!("MqttFingerprint{slot}")].as_str().unwrap().to_owned()
    })
}
