//! AUTH (§3.15), 5.0 alone.

use bytes::Bytes;

use super::UserProperty;
use crate::ReasonCode;

/// AUTH (§3.15).
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties,
}

/// Properties of AUTH (§3.15.2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthProperties {
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}
