//! Why a device did not come to the broker, and where it stands after that.

use std::fmt;

use quoll_tasmota::Stored;

use crate::witness::WitnessError;

/// Why a device did not come to the broker.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The device's log has a TLS error number with a known meaning.
    Tls {
        /// The number.
        number: i32,
        /// What happened.
        cause: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
    /// The log has a number nobody has explained.
    UnknownTls(i32),
    /// TLS stood, or was not reached; MQTT failed with this return code (facts §7.4).
    Mqtt(i32),
    /// It still has its old settings: the Backlog did not arrive.
    NotSwitched,
    /// It does not hold the key that it was told to pin.
    Pins(String),
    /// It did not keep key and certificate over its restart (a build without a file system).
    Forgot(Stored),
    /// Its console has not answered since the switch.
    Gone,
    /// There is no broker to ask.
    NoBroker(WitnessError),
    /// The log says nothing.
    Unknown(WitnessError),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { number, cause, .. } => write!(f, "TLS error {number}, {cause}"),
            Self::UnknownTls(number) => write!(f, "TLS error {number}, whose meaning is not known"),
            Self::Mqtt(-5) => f.write_str("its DNS does not know the broker's host name"),
            Self::Mqtt(-4) => {
                f.write_str("the broker accepted the connection but did not answer MQTT in time")
            }
            Self::Mqtt(-2) => f.write_str("the broker's port did not accept its connection"),
            Self::Mqtt(code) => write!(f, "the broker refused MQTT with return code {code}"),
            Self::NotSwitched => f.write_str("it did not take the new settings"),
            Self::Pins(why) => f.write_str(why),
            Self::Forgot(stored) => {
                write!(f, "it did not keep its key and certificate over a restart: it has {stored}")
            }
            Self::Gone => f.write_str("it has not answered since it was switched"),
            Self::NoBroker(error) | Self::Unknown(error) => error.fmt(f),
        }
    }
}

/// Where a device stands after a switch that was not proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stands {
    /// It has its old settings, and the registry says RolledBack.
    RolledBack,
    /// It has its old settings but for the MQTT password, which nobody could tell us; the registry says RolledBack.
    WithoutPassword,
    /// It may have the new settings still, and the registry says Switched.
    Switched {
        /// Why the old ones are not back.
        why: String,
    },
}

impl fmt::Display for Stands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack => f.write_str("it has its old settings back"),
            Self::WithoutPassword => f.write_str(
                "it has its old settings back except its MQTT password, which is to be set by hand",
            ),
            Self::Switched { why } => write!(f, "it may still have the new settings ({why})"),
        }
    }
}
