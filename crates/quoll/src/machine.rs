//! What can be found out about this machine, so that nobody is asked for it: names and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Names and addresses of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its host name, and `localhost`.
    pub(crate) names: Vec<String>,
    /// The addresses of its interfaces, the one towards the network first; loopback last.
    pub(crate) addresses: Vec<IpAddr>,
    /// What a device can reach it by: its address towards the network. A host name would need a DNS that knows it.
    pub(crate) host: String,
}

/// Looks at the machine. Nothing is sent anywhere.
pub(crate) fn look() -> Machine {
    let mut names: Vec<String> = Vec::new();
    let node = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let sound = |name: &str| {
        name.len() <= 64
            && name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
    };
    if sound(&node) {
        names.push(node);
    }
    if !names.iter().any(|name| name == "localhost") {
        names.push("localhost".into());
    }

    let mut addresses: Vec<IpAddr> = towards_the_network().into_iter().collect();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        // Addresses of IPv6 change too often to stand in a certificate unasked.
        if let IpAddr::V4(address) = interface.ip() {
            let usable = !address.is_loopback() && !address.is_link_local() && !address.is_unspecified();
            if usable && !addresses.contains(&IpAddr::V4(address)) {
                addresses.push(IpAddr::V4(address));
            }
        }
    }
    addresses.push(Ipv4Addr::LOCALHOST.into());
    addresses.push(Ipv6Addr::LOCALHOST.into());
    let host = addresses.first().map_or_else(|| Ipv4Addr::LOCALHOST.to_string(), ToString::to_string);
    Machine { names, addresses, host }
}

/// The address that the route to the outside leaves from. Connecting a UDP socket sends nothing.
fn towards_the_network() -> Option<IpAddr> {
    // 192.0.2.1 is of a block that is never routed to anybody (RFC 5737); only the default route is asked for.
    let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
