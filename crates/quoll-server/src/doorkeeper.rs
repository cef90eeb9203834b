//! The one question that the server asks the outside: may this peer come in, as whom, and what may it do?

use std::net::SocketAddr;

use async_trait::async_trait;
use quoll_broker::vocabulary::Admission;
use quoll_mqtt::ReasonCode;
use quoll_mqtt::packet::Connect;

use crate::authentication::Authenticator;
use crate::proxy::Proxied;
use crate::terms::Terms;
use crate::tls::{HelloFacts, PeerCertificate};

/// Decides who is let in. Called once for each CONNECT, on the arrivals' threads, within the connect patience.
#[async_trait]
pub trait Doorkeeper: Send + Sync {
    /// Lets the peer in, or says why not.
    async fn admit(&self, facts: &ConnectFacts<'_>) -> Verdict;

    /// The method of an enhanced authentication that this CONNECT asks for (5.0 §4.12); `None` where it is not supported.
    /// Its verdict stands in place of that of [`Doorkeeper::admit`].
    fn begin(&self, facts: &ConnectFacts<'_>, method: &str) -> Option<Authenticator> {
        let _ = (facts, method);
        None
    }
}

/// What is known of a peer that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct ConnectFacts<'a> {
    /// Name of the listener that it came to.
    pub listener: &'a str,
    /// That listener's terms; those about anonymous clients are the doorkeeper's to obey.
    pub terms: &'a Terms,
    /// Where it came from: as the PROXY header says where there is one, 0.0.0.0:0 for a UNIX socket.
    pub peer: SocketAddr,
    /// What a PROXY header said of it; `None` where the listener takes none.
    pub proxied: Option<&'a Proxied>,
    /// Its certificate: verified against the listener's roots, in time, not revoked. `None` without TLS, and where it
    /// showed none. What a balancer verified is in `proxied`.
    pub certificate: Option<&'a PeerCertificate>,
    /// Its ClientHello; `None` without TLS.
    pub hello: Option<&'a HelloFacts>,
    /// Its CONNECT, password included.
    pub connect: &'a Connect,
}

/// The doorkeeper's answer.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Come in, as this identity, with these grants.
    Admit(Admission),
    /// CONNECT is refused with this reason; a 3.x peer is told the nearest return code (§3.2.2.2).
    Refuse(ReasonCode),
}
