//! Clients that are no devices: people, Home Assistant, dashboards. A name, a role, a certificate.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::access_list::Access;
pub use crate::name::{ClientName, NameError};

/// A client account, as the registry has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Its name: the certificate's common name.
    pub name: ClientName,
    /// What it may do.
    pub role: Role,
    /// Serial number of its certificate, upper-case hex; `None` until one is issued.
    pub serial: Option<String>,
    /// End of that certificate's validity.
    pub expires: Option<OffsetDateTime>,
    /// Whether its certificate has been revoked.
    pub revoked: bool,
    /// When it was registered.
    pub created: OffsetDateTime,
    /// When the broker last saw it.
    pub last_seen: Option<OffsetDateTime>,
}

/// What a client may do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// Publish and subscribe everywhere, `$SYS` included. For the owner's own tools.
    Everything,
    /// Subscribe everywhere, publish nowhere.
    Observer,
    /// What Home Assistant needs: commands to the devices, what they say, their discovery and its own.
    HomeAssistant,
    /// What flows need: commands to the devices, what they say, their discovery, and topics below the client's own name.
    NodeRed,
    /// What the devices say, and nothing else: a screen on the wall.
    Dashboard,
    /// A list of one's own. `%name%` stands for the client's name.
    Custom(Access),
}

impl Role {
    /// The word on the command line; a custom list has none of its own and says `custom`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Observer => "observer",
            Self::HomeAssistant => "home-assistant",
            Self::NodeRed => "node-red",
            Self::Dashboard => "dashboard",
            Self::Custom(_) => "custom",
        }
    }

    /// Reads the word of a role without a list.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "everything" => Some(Self::Everything),
            "observer" => Some(Self::Observer),
            "home-assistant" => Some(Self::HomeAssistant),
            "node-red" => Some(Self::NodeRed),
            "dashboard" => Some(Self::Dashboard),
            _ => None,
        }
    }
}
