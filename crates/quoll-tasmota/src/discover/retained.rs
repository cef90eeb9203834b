//! A device's own announcement: the retained message on `tasmota/discovery/<MAC>/config`. Facts §6.3.

use serde_json::Value;

use super::finding::Finding;
use crate::mac::Mac;

/// Longest announcement we read; real ones have some 1 KiB.
pub const ANNOUNCEMENT_BYTES: usize = 16 * 1024;

/// Why an announcement cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// Another topic: `…/sensors`, or nothing of a device's.
    #[error("not the topic of an announcement")]
    OtherTopic,
    /// Empty: the device took it back (SetOption19).
    #[error("it was taken back")]
    Withdrawn,
    /// No JSON object, or too long.
    #[error("it is no JSON object of at most {ANNOUNCEMENT_BYTES} bytes")]
    NotAnObject,
    /// The MAC of the topic is not the one of the text.
    #[error("its topic says {topic}, its text {text:?}")]
    OtherMac {
        /// In the topic.
        topic: Mac,
        /// In the text.
        text: String,
    },
}

/// Reads an announcement. `port` is where consoles are expected: it says none.
///
/// # Errors
/// See [`AnnouncementError`].
pub fn announced(topic: &str, payload: &[u8], port: u16) -> Result<Finding, AnnouncementError> {
    let mac = topic.strip_prefix("tasmota/discovery/").and_then(|rest| rest.strip_suffix("/config"));
    let mac: Mac = mac.and_then(|mac| mac.parse().ok()).ok_or(AnnouncementError::OtherTopic)?;
    if payload.is_empty() {
        return Err(AnnouncementError::Withdrawn);
    }
    let parsed =
        (payload.len() <= ANNOUNCEMENT_BYTES).then(|| serde_json::from_slice(payload).ok()).flatten();
    let Some(Value::Object(fields)) = parsed else { return Err(AnnouncementError::NotAnObject) };
    let text = |name: &str| {
        let text = fields.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.chars().take(200).collect::<String>())
    };
    if let Some(said) = text("mac").filter(|said| said.parse() != Ok(mac)) {
        return Err(AnnouncementError::OtherMac { topic: mac, text: said });
    }
    // An address that is none, or not set, leads nowhere.
    let host =
        text("ip").and_then(|ip| ip.parse::<std::net::IpAddr>().ok()).filter(|ip| !ip.is_unspecified());
    Ok(Finding {
        host: host.map(|ip| ip.to_string()),
        port,
        mac: Some(mac),
        name: text("dn"),
        firmware: text("sw"),
        topic: text("t"),
        ..Finding::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPIC: &str = "tasmota/discovery/A0B1C2D3E4F5/config";

    #[test]
    fn an_announcement_is_read() {
        let text = r#"{"ip":"192.168.1.40","dn":"Lamp","fn":["Lamp",null],"hn":"lamp-1","mac":"A0B1C2D3E4F5",
            "md":"Generic","sw":"15.3.0","t":"lamp","ft":"%prefix%/%topic%/","ver":1}"#;
        let found = announced(TOPIC, text.as_bytes(), 80).unwrap();
        assert_eq!(found.address().as_deref(), Some("192.168.1.40"));
        assert_eq!(found.mac.unwrap().to_string(), "A0:B1:C2:D3:E4:F5");
        assert_eq!((found.name.as_deref(), found.topic.as_deref()), (Some("Lamp"), Some("lamp")));
        assert_eq!(found.rung(), None);
    }

    #[test]
    fn what_is_no_announcement_is_refused() {
        use AnnouncementError::{NotAnObject, OtherTopic, Withdrawn};
        for (topic, payload, error) in [
            ("tasmota/discovery/A0B1C2D3E4F5/sensors", "{}", OtherTopic),
            ("tasmota/discovery/lamp/config", "{}", OtherTopic),
            ("homeassistant/x/config", "{}", OtherTopic),
            (TOPIC, "", Withdrawn),
            (TOPIC, "[]", NotAnObject),
            (TOPIC, "{\"ip\":", NotAnObject),
        ] {
            assert_eq!(announced(topic, payload.as_bytes(), 80), Err(error), "{topic} {payload}");
        }
        let other = announced(TOPIC, br#"{"mac":"000000000000"}"#, 80);
        assert!(matches!(other, Err(AnnouncementError::OtherMac { .. })), "{other:?}");
        assert_eq!(announced(TOPIC, br#"{"ip":"0.0.0.0"}"#, 80).unwrap().address(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = announced(TOPIC, &payload, 80);
        }
    }
}
