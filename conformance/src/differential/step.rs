//! What can be done to a broker. Steps are symbolic where two brokers need different bytes (packet identifiers of their own),
//! so that a scenario can be played again, and without some of its steps.

use std::fmt;

/// One exchange: something said on one of the two connections, and what both brokers answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Step {
    /// Which of the two connections, 0 or 1.
    pub slot: usize,
    /// What is done there.
    pub deed: Deed,
}

/// What is done on a connection.
#[derive(Clone, PartialEq, Eq)]
pub enum Deed {
    /// A new TCP connection (an old one of this slot ends first) and these bytes.
    Open(Vec<u8>),
    /// Bytes on the connection that is there.
    Say(Vec<u8>),
    /// Acknowledges the message at this place (modulo) among those under way to the client.
    Answer {
        /// Place among the messages that wait for the client.
        place: usize,
        /// Type of the acknowledgement; 0 is the one that is due.
        kind: u8,
        /// Reason code, written only in 5.0 and when not 0.
        reason: u8,
    },
    /// The connection ends without a word.
    Drop,
}

impl Step {
    /// Bytes that are the same for both brokers.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.deed {
            Deed::Open(bytes) | Deed::Say(bytes) => Some(bytes),
            Deed::Answer { .. } | Deed::Drop => None,
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = ["A", "B"][self.slot];
        match &self.deed {
            Deed::Open(bytes) => write!(f, "{who} opens  {}", hex(bytes)),
            Deed::Say(bytes) => write!(f, "{who} says   {}", hex(bytes)),
            Deed::Answer { place, kind, reason } => {
                write!(f, "{who} answers message {place} with kind {kind} reason {reason:#04x}")
            }
            Deed::Drop => write!(f, "{who} vanishes"),
        }
    }
}

/// Bytes in hexadecimal with their readable characters behind.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let mut out: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x} ")).collect();
    if bytes.len() > SHOWN {
        out += &format!("… {} bytes ", bytes.len());
    }
    out.push('|');
    out.extend(
        bytes.iter().take(SHOWN).map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }),
    );
    out.push('|');
    out
}
