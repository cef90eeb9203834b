//! DISCONNECT (§3.14).

use super::UserProperty;
use crate::ReasonCode;

/// DISCONNECT (§3.14). Below 5.0 only a client sends it, with nothing in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect {
    /// The reason; `NORMAL_DISCONNECTION` below 5.0.
    pub reason: ReasonCode,
    /// Properties, all-default below 5.0.
    pub properties: DisconnectProperties,
}

/// Properties of DISCONNECT (§3.14.2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisconnectProperties {
    /// Session Expiry Interval in seconds; only a client sends it.
    pub session_expiry_interval: Option<u32>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Server Reference.
    pub server_reference: Option<String>,
}
