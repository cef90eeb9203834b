//! The pinned rung's own: the server's key in both fingerprint slots, user and password, the way there and back.
//! Facts §1.5, §4, §8.2.

use quoll_tasmota::{Command, CommandError, Fingerprint, FingerprintSlot, SetOption, Setting, Slot};

use super::ask::Asker;
use super::error::EnrolError;
use super::target::{BrokerTarget, OldPassword};
use crate::registry::NewPassword;
use crate::saved::SavedSettings;
use crate::step::Step;

/// `MqttUser` of released images (facts §6.1). With it goes a password that is compiled in and can be put back.
pub(super) const FACTORY_USER: &str = "DVES_USER";

/// The server's key as a device pins it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pins(Fingerprint);

impl Pins {
    /// `None` where the server's key cannot be pinned: never a slot of zeros, which accepts anybody.
    pub(super) fn of(broker: &BrokerTarget) -> Option<Self> {
        Fingerprint::new(broker.server_fingerprint).ok().map(Self)
    }

    /// Whether slots as a device shows them hold the key, and none accepts anybody. The other one may hold another key:
    /// one that the server is to have next.
    pub(super) fn hold(self, slots: &[String; 2]) -> bool {
        let slots = slots.each_ref().map(|text| Slot::parse(text));
        slots.iter().all(|slot| matches!(slot, Ok(Slot::Pinned(_))))
            && slots.contains(&Ok(Slot::Pinned(self.0)))
    }

    /// The one Backlog of facts §8.2: both slots, since an unused one might accept anybody.
    pub(super) fn switch(self, broker: &BrokerTarget, new: &NewPassword) -> Result<Command, CommandError> {
        let port = broker.pinned_port.unwrap_or(broker.port);
        Command::backlog(&[
            Command::set_fingerprint(FingerprintSlot::One, &self.0),
            Command::set_fingerprint(FingerprintSlot::Two, &self.0),
            Command::set_option(SetOption::FINGERPRINT_MODE, true),
            Command::set_option(SetOption::MQTT_TLS, true),
            Command::set(Setting::MqttHost, &broker.host)?,
            Command::set(Setting::MqttPort, &port.to_string())?,
            Command::set(Setting::MqttUser, &new.login)?,
            Command::set(Setting::MqttPassword, &new.secret)?,
        ])
    }
}

/// The Backlog that puts a device on the pinned rung, for those who type it in by hand. Shown, it hides the password.
///
/// # Errors
/// [`EnrolError::NoPinnedDoor`], [`EnrolError::NoPin`], and [`EnrolError::Target`] where host or name make no command.
pub fn pinned_switch(broker: &BrokerTarget, new: &NewPassword) -> Result<Command, EnrolError> {
    let address = broker.host.clone();
    match (broker.pinned_port, Pins::of(broker)) {
        (None, _) => Err(EnrolError::NoPinnedDoor { address }),
        (_, None) => Err(EnrolError::NoPin { address }),
        (Some(_), Some(pins)) => pins.switch(broker, new).map_err(EnrolError::Target),
    }
}

/// What becomes of a device's password on the way back.
#[derive(Clone, Debug)]
pub(super) enum OldLogin {
    /// It stays: the user before was ours, and the broker knows the new password, too.
    Ours,
    /// There was none.
    None,
    /// The one that is compiled in.
    Factory,
    /// As somebody told us.
    Told(OldPassword),
    /// Nobody knows it. To be typed in by hand.
    Lost,
}

impl OldLogin {
    pub(super) fn of(old: &SavedSettings, ours: &[&str], told: Option<&OldPassword>) -> Self {
        match (old.user.as_deref().unwrap_or_default(), told) {
            (user, _) if ours.contains(&user) => Self::Ours,
            ("", _) => Self::None,
            (_, Some(password)) => Self::Told(password.clone()),
            (FACTORY_USER, None) => Self::Factory,
            _ if old.host.is_empty() => Self::None,
            _ => Self::Lost,
        }
    }

    /// User, password and slots as they were (facts §8.4).
    pub(super) fn commands(&self, old: &SavedSettings) -> Result<Vec<Command>, CommandError> {
        let mut commands = Vec::new();
        for (slot, text) in
            [FingerprintSlot::One, FingerprintSlot::Two].into_iter().zip(old.fingerprints.iter().flatten())
        {
            if let Ok(held) = Slot::parse(text) {
                commands.push(Command::restore_fingerprint(slot, &held));
            }
        }
        commands.push(match old.user.as_deref().unwrap_or_default() {
            "" => Command::clear(Setting::MqttUser),
            user => Command::set_alone(Setting::MqttUser, user)?,
        });
        match self {
            Self::Ours => {}
            // Without the old one, ours must not stay: it would be told to the old broker.
            Self::None | Self::Lost => commands.push(Command::clear(Setting::MqttPassword)),
            Self::Factory => commands.push(Command::factory_password()),
            Self::Told(password) => commands.push(Command::set_alone(Setting::MqttPassword, &password.0)?),
        }
        Ok(commands)
    }
}

impl Asker<'_> {
    /// The slots and the option as the device has them now; what is wrong with them, if anything.
    pub(super) async fn pins_wrong(&self, pins: Pins) -> Result<Option<String>, EnrolError> {
        let mut slots = [String::new(), String::new()];
        for (slot, text) in [FingerprintSlot::One, FingerprintSlot::Two].into_iter().zip(&mut slots) {
            let reply = self.ask(Step::CheckPins, &Command::ask_fingerprint(slot)).await?;
            match reply.fingerprint(slot) {
                Ok(held) => *text = held.to_string(),
                Err(why) => return Ok(Some(format!("slot {} cannot be read: {why}", slot as u8))),
            }
        }
        if !pins.hold(&slots) {
            return Ok(Some(format!("its fingerprint slots hold {} and {}", slots[0], slots[1])));
        }
        Ok(match self.option(Step::CheckPins, SetOption::FINGERPRINT_MODE).await? {
            Ok(true) => None,
            _ => Some("it does not check the server by fingerprint (SetOption132)".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::CaKind;

    const KEY: &str = "08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB";
    const NEXT: &str = "18 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB";
    const ZERO: &str = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";

    fn broker() -> BrokerTarget {
        let server_fingerprint = KEY.parse::<Fingerprint>().unwrap().bytes();
        let (host, ca_kind) = ("hub.lan".to_owned(), CaKind::Rsa);
        BrokerTarget { host, port: 8883, ca_kind, server_fingerprint, pinned_port: Some(8884) }
    }

    #[test]
    fn a_slot_that_accepts_anybody_is_never_taken_for_pinned() {
        let pins = Pins::of(&broker()).unwrap();
        for (slots, holds) in [
            ([KEY, KEY], true),
            ([KEY, NEXT], true),
            ([NEXT, KEY], true),
            ([KEY, ZERO], false),
            ([ZERO, KEY], false),
            ([NEXT, NEXT], false),
            ([KEY, "08:5E"], false),
        ] {
            assert_eq!(pins.hold(&slots.map(ToOwned::to_owned)), holds, "{slots:?}");
        }
        assert_eq!(Pins::of(&BrokerTarget { server_fingerprint: [0; 20], ..broker() }), None);
    }

    #[test]
    fn the_switch_is_one_backlog_that_hides_its_password() {
        let secret = zeroize::Zeroizing::new("0123456789abcdef0123456789abcdef01234567".to_owned());
        let new = NewPassword { id: "pw-1".into(), login: "kitchen".into(), secret };
        let switch = Pins::of(&broker()).unwrap().switch(&broker(), &new).unwrap();
        assert!(switch.is_secret() && switch.restarts());
        assert_eq!(
            switch.to_string(),
            format!(
                "Backlog MqttFingerprint1 {KEY}; MqttFingerprint2 {KEY}; SetOption132 1; SetOption103 1; MqttHost hub.lan; \
                 MqttPort 8884; MqttUser kitchen; MqttPassword ****"
            )
        );
        // A serial console takes 799 characters (facts §2).
        assert!(switch.text().len() < 500, "{}", switch.text().len());
    }

    #[test]
    fn the_way_back_leaves_none_of_our_passwords_with_a_stranger() {
        let old = |user: &str| SavedSettings {
            host: "old.lan".into(),
            port: 1883,
            tls: false,
            fingerprint_mode: false,
            ecdsa: None,
            user: Some(user.into()),
            fingerprints: Some([ZERO.into(), NEXT.into()]),
        };
        let told = OldPassword(zeroize::Zeroizing::new("s3cret".into()));
        for (user, told, last) in [
            ("", None, "MqttPassword ****"),
            (FACTORY_USER, None, "MqttPassword 1"),
            ("me", Some(&told), "MqttPassword ****"),
            ("me", None, "MqttPassword ****"),
            ("kitchen", None, "MqttUser kitchen"),
        ] {
            let login = OldLogin::of(&old(user), &["kitchen"], told);
            let commands = login.commands(&old(user)).unwrap();
            assert!(commands[0].text().ends_with(ZERO) && commands[1].text().ends_with(NEXT), "{user}");
            let text = commands.last().unwrap().to_string();
            assert!(text == last || text == last.replace("****", "0"), "{user}: {text}");
        }
        assert!(matches!(OldLogin::of(&old("me"), &[], None), OldLogin::Lost));
    }
}
