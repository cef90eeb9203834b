//! Console lines to be pasted by hand: an enrolment whose road is a person. The certificate is issued, or the password
//! made, and the device registered as by any other road; `device check` proves it when it has come to the broker.

use quoll_fleet::access_list::sharing;
use quoll_fleet::device::{Address, Device, DeviceState, Rung, Topics};
use quoll_fleet::enrol::{BrokerTarget, WantedRung, lock, pinned_switch};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer};
use quoll_fleet::registry::{NewDevice, NewPassword, Registry};
use quoll_tasmota::limits::SERIAL_COMMAND_CHARS;
use quoll_tasmota::{
    Command, CommandError, Fingerprint, FingerprintSlot, Mac, Road, SetOption, Setting, TlsKey1, TlsKey2,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::enrolment::{self, Desk, Wish};
use crate::failure::{Exit, Failure, Outcome};
use crate::trouble;

/// The lines, and what a person should know about them.
pub(crate) struct Printed {
    /// In the order in which they are to be pasted. One may be secret.
    pub(crate) lines: Vec<Zeroizing<String>>,
    /// For standard error.
    pub(crate) notes: Vec<String>,
}

/// Issues, registers, and writes the lines. Without `reveals` the line of the key, or of the
/// password, hides it.
pub(crate) async fn print(desk: &Desk, wish: &Wish, mac: Option<Mac>, reveals: bool) -> Outcome<Printed> {
    let name = enrolment::device_name(&wish.name)?;
    let target = desk.target(wish)?;
    let registry = desk.registry();
    let known = registry.device(&name).map_err(trouble::registry)?.filter(|device| device.state.is_present());
    // A device that we have keeps the letters of its name.
    let name = known.as_ref().map_or(name, |device| device.name.clone());
    let new = NewDevice { name: name.clone(), ..new_device(wish, known.as_ref(), mac)? };
    let _lock = lock(registry, &name).map_err(enrolment::failure)?;
    let rung = match (wish.rung, known.as_ref().map(|device| device.rung)) {
        (WantedRung::Pinned, _) | (WantedRung::Auto, Some(Rung::Pinned)) => Rung::Pinned,
        _ => Rung::Mutual,
    };
    if !wish.share_topics {
        refuse_shared_topics(registry, &new)?;
    }
    if rung == Rung::Pinned {
        return pinned(registry, &new, &target, reveals);
    }
    let unusable = |error: &dyn std::fmt::Display, hint: Option<String>| {
        Failure::new(Exit::Unusable, error).maybe_hint(hint)
    };
    let existing = desk.issuer().existing(&name).await.map_err(|error| unusable(&error, error.hint()))?;
    let device = registry.register(&new).map_err(trouble::registry)?;
    let issued = match existing {
        Some(credential) => {
            let void = registry.certificate(&credential.serial).map_err(trouble::registry)?;
            if void.is_some_and(|certificate| certificate.revoked) {
                let error = IssueError::Void { name, serial: credential.serial };
                return Err(unusable(&error, error.hint()));
            }
            credential
        }
        None => desk.issuer().issue(&name).await.map_err(|error| unusable(&error, error.hint()))?,
    };
    let note = |error| trouble::registry(error);
    registry.assign_certificate(&name, &issued.serial, issued.not_after).map_err(note)?;
    registry
        .record("device.printed", name.as_str(), &json!({"serial": issued.serial, "revealed": reveals}))
        .map_err(note)?;
    let credential = checked(&issued)?;
    let lines = lines(&credential, &target, reveals).map_err(|error| {
        Failure::new(Exit::Unusable, "the broker's address cannot be given to a device")
            .why(&error)
            .maybe_hint(error.hint())
    })?;
    Ok(Printed { notes: notes(&lines, &credential, &device, reveals), lines })
}

/// The lines of the pinned rung. A password cannot be shown twice, so it is made when it is shown.
fn pinned(registry: &Registry, new: &NewDevice, target: &BrokerTarget, reveals: bool) -> Outcome<Printed> {
    let name = &new.name;
    let hidden = NewPassword {
        id: String::new(),
        login: name.to_string(),
        secret: Zeroizing::new("hidden".to_owned()),
    };
    // Before anything is noted: what cannot be pinned, or written as a command, is refused.
    pinned_switch(target, &hidden).map_err(enrolment::failure)?;
    registry.register(new).map_err(trouble::registry)?;
    let password = match reveals {
        true => registry.propose_password(name).map_err(trouble::registry)?,
        false => hidden,
    };
    let detail = json!({"password": password.id, "revealed": reveals});
    registry.record("device.printed", name.as_str(), &detail).map_err(trouble::registry)?;
    let switch = pinned_switch(target, &password).map_err(enrolment::failure)?;
    let lines = pinned_lines(&switch, reveals).map_err(|error| {
        Failure::new(Exit::System, "the lines cannot be written").why(&error).maybe_hint(error.hint())
    })?;
    let print = Fingerprint::new(target.server_fingerprint).map(|print| print.to_string());
    let mut notes = vec![
        "paste the lines one by one into the device's console, while the broker runs; the first must answer ON or OFF and \
         not Unknown: if it does, stop, for this firmware has no TLS"
            .to_owned(),
        format!(
            "the third restarts it; once it is back, both MqttFingerprint must answer {}: a slot of zeros accepts any server",
            print.unwrap_or_default()
        ),
        format!("when it is connected: quoll device check {name} --at ADDRESS proves it"),
    ];
    if !reveals {
        notes.push(format!(
            "the password is hidden, and is made when it is shown: quoll device add {name} --rung pinned --print --reveal"
        ));
    }
    Ok(Printed { lines, notes })
}

/// The switch to the pinned rung, with the logs down around it.
fn pinned_lines(switch: &Command, reveals: bool) -> Result<Vec<Zeroizing<String>>, CommandError> {
    Ok(vec![
        plain(&Command::mqtt_tls()),
        plain(&quiet_logs()?),
        shown(switch, reveals),
        plain(&Command::ask_fingerprint(FingerprintSlot::One)),
        plain(&Command::ask_fingerprint(FingerprintSlot::Two)),
        plain(&Command::set(Setting::WebLog, "2")?),
    ])
}

fn plain(command: &Command) -> Zeroizing<String> {
    Zeroizing::new(command.text().to_owned())
}

/// A line with a secret in it, which its display hides.
fn shown(command: &Command, reveals: bool) -> Zeroizing<String> {
    if reveals { plain(command) } else { Zeroizing::new(command.to_string()) }
}

/// Consoles log what is typed.
fn quiet_logs() -> Result<Command, CommandError> {
    Command::backlog(&[
        Command::set(Setting::SysLog, "0")?,
        Command::set(Setting::MqttLog, "0")?,
        Command::set(Setting::WebLog, "1")?,
    ])
}

/// Printed or not: nobody speaks for another device unasked.
fn refuse_shared_topics(registry: &Registry, new: &NewDevice) -> Outcome {
    let devices = registry.devices().map_err(trouble::registry)?;
    match sharing(devices, new.mac, &new.topics) {
        Some(other) => Err(Failure::new(
            Exit::Unusable,
            format!("topic {:?} overlaps with those of {}", new.topics.topic, other.name),
        )
        .hint("give it a topic of its own with --topic, or say --share-topics")),
        None => Ok(()),
    }
}

fn new_device(wish: &Wish, known: Option<&Device>, mac: Option<Mac>) -> Outcome<NewDevice> {
    let name = enrolment::device_name(&wish.name)?;
    if let Some(device) = known {
        if device.state == DeviceState::Revoked {
            return Err(Failure::new(Exit::Unusable, format!("{name} is revoked"))
                .hint(format!("quoll device remove {name}, then add it again")));
        }
        if let Some(mac) = mac.filter(|mac| *mac != device.mac) {
            return Err(Failure::new(
                Exit::Unusable,
                format!("{name} is the device {}, not {mac}", device.mac),
            )
            .hint("choose another name"));
        }
    }
    let Some(mac) = mac.or_else(|| known.map(|device| device.mac)) else {
        return Err(Failure::new(Exit::Usage, format!("{name} is not known yet, and printed lines cannot ask it"))
            .why("its MAC makes up its topics, which it is to be admitted for")
            .hint("add --mac AA:BB:CC:DD:EE:FF (on the device: Status 5), and --topic where it is not the factory's"));
    };
    let topic = format!("tasmota_{}", mac.tail());
    let topics = known.map_or_else(|| factory_topics(&topic, mac), |device| device.topics.clone());
    let topics = match &wish.topic {
        Some(topic) => Topics { topic: topic.clone(), ..topics },
        None => topics,
    };
    topics.check().map_err(|error| {
        Failure::new(Exit::Usage, "the topic cannot be used").why(&error).maybe_hint(error.hint())
    })?;
    // The firmware's own host name, where no address was given.
    let [.., high, low] = mac.0;
    let host = format!("{topic}-{:04}", u16::from_be_bytes([high, low]) & 0x1FFF);
    let given = if wish.at.is_empty() { host } else { wish.at.clone() };
    let address = match known {
        Some(device) if wish.at.is_empty() => device.address.clone(),
        _ => Address::parse(&given)
            .map_err(|error| Failure::new(Exit::Usage, &error).maybe_hint(error.hint()))?,
    };
    let (chip, firmware) =
        known.map_or_else(Default::default, |device| (device.chip.clone(), device.firmware.clone()));
    Ok(NewDevice { name, address, mac, chip, firmware, topics })
}

fn factory_topics(topic: &str, mac: Mac) -> Topics {
    Topics {
        topic: topic.to_owned(),
        full_topic: quoll_tasmota::topics::DEFAULT_FULL_TOPIC.to_owned(),
        command: "cmnd".into(),
        status: "stat".into(),
        telemetry: "tele".into(),
        groups: vec!["tasmotas".into()],
        client_id: format!("DVES_{}", mac.tail()),
    }
}

struct Checked {
    key: TlsKey1,
    certificate: TlsKey2,
}

fn checked(credential: &DeviceCredential) -> Outcome<Checked> {
    let make = || {
        let key = TlsKey1::new(&credential.scalar)?;
        let certificate = TlsKey2::new(&credential.certificate_der, Road::Http)?;
        certificate.belongs_to(&key)?;
        Ok(Checked { key, certificate })
    };
    make().map_err(|error: quoll_tasmota::TlsKeyError| {
        Failure::new(Exit::Unusable, "no device could use this certificate").why(error)
    })
}

/// Facts §8.3, with the logs down around the key: consoles log what is typed.
fn lines(
    credential: &Checked,
    target: &BrokerTarget,
    reveals: bool,
) -> Result<Vec<Zeroizing<String>>, CommandError> {
    let is_ec = target.ca_kind == quoll_fleet::enrol::CaKind::Ec;
    let switch = Command::backlog(&[
        Command::set_option(SetOption::FINGERPRINT_MODE, false),
        Command::set_option(SetOption::ECDSA, is_ec),
        Command::set_option(SetOption::MQTT_TLS, true),
        Command::set(Setting::MqttHost, &target.host)?,
        Command::set(Setting::MqttPort, &target.port.to_string())?,
    ])?;
    Ok(vec![
        plain(&Command::tls_key()),
        plain(&quiet_logs()?),
        shown(&Command::tls_key1(&credential.key), reveals),
        plain(&Command::tls_key2(&credential.certificate)),
        plain(&Command::set(Setting::WebLog, "2")?),
        plain(&Command::tls_key()),
        plain(&switch),
    ])
}

fn notes(lines: &[Zeroizing<String>], credential: &Checked, device: &Device, reveals: bool) -> Vec<String> {
    let stored = credential.certificate.expected().certificate.unwrap_or_default();
    let mut notes = vec![
        "paste the lines one by one into the device's console, while the broker runs; the first must answer with \
         lengths and not with Unknown: if it does, stop, for this firmware has no TLSKey and would log the key"
            .to_owned(),
        format!("the second TLSKey must answer {{\"TLSKey1\":32,\"TLSKey2\":{stored}}}; otherwise begin again"),
        format!("when it is connected: quoll device check {} --at ADDRESS proves it", device.name),
    ];
    if let Some(long) = lines.iter().find(|line| line.len() > SERIAL_COMMAND_CHARS) {
        notes.push(format!(
            "the line of TLSKey2 has {} characters and a serial console takes {SERIAL_COMMAND_CHARS}: paste that one into \
             the web console",
            long.len()
        ));
    }
    if !reveals {
        notes.push(format!("the key is hidden: quoll device add {} --print --reveal shows it", device.name));
    }
    notes
}
