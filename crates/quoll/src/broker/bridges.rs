//! Bridges as the server wants them: TLS files read, permissions of their local halves looked up.

use std::sync::Arc;

use quoll_broker::{Grants, ShardSettings};
use quoll_server::Bridge;
use quoll_server::bridge::tls;
use quoll_server::mosquitto::{BridgeConfiguration, Configuration, Files, Secret, Visitor};

use super::doors::DoorOf;

/// The bridges of a configuration. `door` is the first listener's: a bridge with a `local_username` comes in by it.
pub(super) fn bridges(
    configuration: &Configuration,
    rules: &ShardSettings,
    door: Option<&Arc<DoorOf>>,
    files: &dyn Files,
    faults: &mut Vec<String>,
) -> Vec<Bridge> {
    let largest = if rules.max_packet_size == 0 { u32::MAX } else { rules.max_packet_size };
    let mut bridges = Vec::new();
    for bridge in &configuration.bridges {
        let place = &bridge.place;
        let tls = bridge.tls.as_ref().map(|tls| tls::client_config(tls, files)).transpose();
        let tls = tls.map_err(|error| {
            let hint = error.hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            faults.push(format!("{place}: TLS of connection {:?}: {error}{hint}", bridge.name));
        });
        let grants = grants(bridge, door).map_err(|why| {
            faults.push(format!("{place}: connection {:?}: {why}", bridge.name));
        });
        let (Ok(tls), Ok(grants)) = (tls, grants) else { continue };
        bridges.push(Bridge { configuration: bridge.clone(), tls, grants, window: rules.window(), largest });
    }
    bridges
}

/// What a bridge may do here: everything, as with Mosquitto, unless it has a user name.
fn grants(bridge: &BridgeConfiguration, door: Option<&Arc<DoorOf>>) -> Result<Arc<Grants>, &'static str> {
    let (Some(username), Some(door)) = (bridge.local.username.as_deref(), door) else {
        return Ok(Grants::everything());
    };
    let client_id = bridge.local.client_id.as_str();
    let password = bridge.local.password.as_ref().map(Secret::reveal).map(str::as_bytes);
    // Without a password the operator's word stands: the user name is there for its permissions.
    let visitor = Visitor { username: Some(username), client_id, password, certified: password.is_none() };
    if door.door.admits(&visitor) {
        Ok(door.door.grants(Some(username), client_id))
    } else {
        Err("local_username and local_password do not open this broker's own door")
    }
}
