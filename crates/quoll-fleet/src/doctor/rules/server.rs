//! Rules about the broker's certificate and key, as the device sees them. Facts §3.3, §4.

use crate::doctor::evidence::{CertificateFacts, Evidence, SilenceKind, TlsAbility};
use crate::doctor::verdict::{Found, Repair, Rule};
use crate::limits::CLOCK_SLACK;
use quoll_tasmota::tls_error;
use time::OffsetDateTime;

/// A rule that goes by numbers alone, with what is known of the certificate that the broker sends.
macro_rules! by_number {
    ($name:ident, $id:literal, $numbers:expr, $looks_at:literal, $cause:literal, $fix:literal) => {
        pub(super) const $name: Rule = Rule {
            id: $id,
            numbers: $numbers,
            looks_at: $looks_at,
            cause: $cause,
            fix: $fix,
            repairs: None,
            is_warning: false,
            judge: |it| Some(Found::lines(it.shows($numbers)?).and_all(about_served(it))),
        };
    };
}

/// What is known of the certificate that the device's broker sends.
fn about_served(it: &Evidence) -> Vec<String> {
    let mut lines: Vec<String> = it.served().map(certificate_line).into_iter().collect();
    if let Some(server) = it.served() {
        lines.extend(server.misfits.iter().map(|misfit| format!("pki: {misfit}")));
    }
    lines.extend(it.rehearsal_line());
    if it.uses_our_broker() == Some(false) {
        lines.push(format!(
            "device: its broker is {}, not {}:{}",
            it.broker(),
            it.target.host,
            it.target.port
        ));
    }
    lines
}

fn certificate_line(certificate: &CertificateFacts) -> String {
    format!(
        "network: the broker sends a certificate for {:?} (names: {}), {}, signed with {}, {} bytes",
        certificate.subject,
        if certificate.names.is_empty() { "none".into() } else { certificate.names.join(", ") },
        certificate.key,
        certificate.signature,
        certificate.size,
    )
}

/// The certificate whose dates the device looks at.
fn dated(it: &Evidence) -> Option<&CertificateFacts> {
    it.served().or(it.pki.server.as_ref())
}

fn day(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| seconds.to_string(), |at| at.date().to_string())
}

fn clock_line(it: &Evidence) -> Option<String> {
    let clock = it.device.clock?;
    Some(format!("device: its clock is {} s off", clock.saturating_sub(it.now)))
}

fn is_clock_off(it: &Evidence) -> bool {
    let slack = i64::try_from(CLOCK_SLACK.as_secs()).unwrap_or(i64::MAX);
    it.device.clock.is_some_and(|clock| clock.abs_diff(it.now) > slack.unsigned_abs())
}

pub(super) const CLOCK: Rule = Rule {
    id: "clock",
    numbers: &[54],
    looks_at: "the log, the device's clock against ours, the dates of the broker's certificate",
    cause: "the device's clock is wrong, so the broker's certificate is not valid to it",
    fix: "give it a time server that it reaches (NtpServer1), or set the clock: Time",
    repairs: Some("Time"),
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[54])?;
        let clock = it.device.clock?;
        let certificate = dated(it);
        // Where the certificate is bad by our clock, too, the clock is not to blame.
        let good_now = certificate.is_none_or(|it_| (it_.not_before..=it_.not_after).contains(&it.now));
        let good_there = certificate.is_some_and(|it_| (it_.not_before..=it_.not_after).contains(&clock));
        if !good_now || good_there || !is_clock_off(it) {
            return None;
        }
        let dates = certificate.map(|dates| {
            format!(
                "pki: the broker's certificate is valid from {} to {}",
                day(dates.not_before),
                day(dates.not_after)
            )
        });
        let found = Found::lines(lines).and_all(clock_line(it)).and_all(dates).repair(Repair::Clock);
        Some(if clock < 1_451_606_400 {
            found
                .cause("the device's clock was never set, so the broker's certificate is not valid to it yet")
        } else {
            found
        })
    },
};

pub(super) const DATES: Rule = Rule {
    id: "server-certificate-dates",
    numbers: &[54],
    looks_at: "the log, the dates of the broker's certificate, the device's clock",
    cause: "the broker's certificate is expired or not yet valid",
    fix: "renew it, with the same key: quoll server renew",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[54])?).and_all(clock_line(it));
        let Some(dates) = dated(it) else { return Some(found) };
        let line = format!(
            "pki: the broker's certificate is valid from {} to {}, now is {}",
            day(dates.not_before),
            day(dates.not_after),
            day(it.now)
        );
        let found = found.and(line);
        Some(match () {
            () if dates.not_after < it.now => found.cause("the broker's certificate has expired"),
            () if dates.not_before > it.now => found.cause("the broker's certificate is not valid yet"),
            () => found
                .cause("the device took the broker's certificate for expired when it tried; its clock may have been wrong then")
                .fix("wait for its next attempt, or restart it; give it a time server that it reaches (NtpServer1)")
                .repair(Repair::Restart),
        })
    },
};

fn hex(bytes: &[u8; 20]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

fn slot_lines(it: &Evidence) -> Vec<String> {
    let slots = it.device.slots.iter().zip(1..);
    slots
        .filter_map(|(slot, number)| Some(format!("device: MqttFingerprint{number} {}", hex(slot.as_ref()?))))
        .collect()
}

pub(super) const FINGERPRINT: Rule = Rule {
    id: "fingerprint",
    numbers: &[1],
    looks_at: "the log, MqttFingerprint1 and 2, the key that the broker shows",
    cause: "the device has another fingerprint pinned than that of our broker's key",
    fix: "set both slots to the broker's fingerprint again: MqttFingerprint1, MqttFingerprint2",
    repairs: Some("MqttFingerprint1 and 2, where our own key is what the device is shown"),
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[1])?;
        let ours = it.target.fingerprint?;
        let shown = it.served().and_then(|served| served.fingerprint)?;
        if shown != ours {
            return None;
        }
        let found = Found::lines(lines).and_all(slot_lines(it));
        let found = found.and(format!("network: {} shows {}, our own key", it.broker(), hex(&ours)));
        Some(found.repair(Repair::Fingerprint(ours)))
    },
};

pub(super) const OTHER_SERVER: Rule = Rule {
    id: "another-server",
    numbers: &[1],
    looks_at: "the log, MqttFingerprint1 and 2, the key that the broker shows",
    cause: "the broker's key is not the one that the device has pinned, and it is not shown to be ours",
    fix: "find out who answers at the broker's address before any fingerprint is changed",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[1])?).and_all(slot_lines(it));
        let found =
            found.and_all(it.target.fingerprint.map(|ours| format!("pki: our key is {}", hex(&ours))));
        Some(match it.served().and_then(|served| served.fingerprint) {
            Some(shown) => found
                .and(format!("network: {} shows {}", it.broker(), hex(&shown)))
                .cause("somebody with another key than ours answers at the broker's address"),
            None => found,
        })
    },
};

pub(super) const RECORD: Rule = Rule {
    id: "record-too-large",
    numbers: &[6],
    looks_at: "the log, the record size of the ClientHello, whether the broker keeps to it",
    cause: "the broker sent a record larger than the device's buffer",
    fix: "use a broker that keeps to max_fragment_length: Quoll does, OpenSSL 3 does; no proxy in between that does not",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[6])?;
        let limit = if it.device.is_esp32 { 2344 } else { 1320 };
        let found = Found::lines(lines).and(format!("device: it takes records of up to {limit} bytes"));
        let agreed = it.network.rehearsal.as_ref().and_then(|tried| tried.fragment_agreed);
        let found = found.and_all(agreed.map(|agreed| match agreed {
            true => format!("network: {} answers max_fragment_length", it.broker()),
            false => format!("network: {} does not answer max_fragment_length", it.broker()),
        }));
        let size = it.encounter().and_then(super::Encounter::record_size);
        let found = found
            .and_all(size.map(|size| format!("wire: our broker sends it records of up to {size} bytes")));
        Some(found.and_all(it.hello_line()))
    },
};

pub(super) const NAME: Rule = Rule {
    id: "server-name",
    numbers: &[56],
    looks_at: "the log, MqttHost against the dNSNames of the broker's certificate",
    cause: "the broker's certificate is not for the name that the device uses",
    fix: "add it to [server] names in quoll.toml, then: quoll server renew; or set MqttHost to a name that is in it",
    repairs: Some("MqttHost, where it is our broker and the device was proven there"),
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[56])?);
        let host = it.device.host.clone().unwrap_or_else(|| it.network.host.clone());
        let found = found.and(format!("device: MqttHost is {host:?}")).and_all(about_served(it));
        let names = it.served().map(|served| served.names.clone()).unwrap_or_default();
        let found = if host.parse::<std::net::IpAddr>().is_ok() && !names.contains(&host) {
            found.cause(format!(
                "the broker's certificate has {host} not as a dNSName, and a device does not look at iPAddress entries"
            ))
        } else {
            found
        };
        let ours = names.iter().any(|name| name.eq_ignore_ascii_case(&it.target.host));
        let safe = ours && it.registered.state == "proven" && it.device.port == Some(it.target.port);
        let (host, port) = (it.target.host.clone(), it.target.port);
        Some(if safe { found.repair(Repair::Broker { host, port }) } else { found })
    },
};

by_number!(
    HASH,
    "certificate-hash",
    &[49],
    "the log, the signature of the broker's certificate",
    "the broker's certificate is signed with another hash than SHA-256, or has something else that the device cannot read",
    "issue it anew, signed with SHA-256 (quoll server renew)"
);
by_number!(
    KEY_USAGE,
    "key-usage",
    &[28],
    "the log, the broker's certificate",
    "the broker's certificate does not allow signing: its keyUsage lacks digitalSignature",
    "issue it anew with keyUsage digitalSignature, keyEncipherment (quoll server renew)"
);
by_number!(
    CRITICAL,
    "critical-extension",
    &[57],
    "the log, the broker's certificate",
    "the broker's certificate has a critical extension that the device does not know, such as a critical extendedKeyUsage",
    "issue it anew with extendedKeyUsage not critical (quoll server renew)"
);
by_number!(
    KEY_TOO_LARGE,
    "server-key-too-large",
    &[23, 27, 50, 60],
    "the log, the key of the broker's certificate, the chip",
    "the device cannot compute with the broker's key: too large or too small, or the signature made with it is wrong",
    "give the broker an RSA-2048 key (quoll server rekey); RSA-4096 needs an ESP32 or a build with USE_4K_RSA, more nobody takes"
);
by_number!(
    ALGORITHM,
    "signature-algorithm",
    &[26],
    "the log, the broker's TLS settings",
    "the broker signs the handshake with an algorithm or curve that the device does not have",
    "allow rsa_pkcs1_sha256 and secp256r1 at the broker"
);
by_number!(
    CHAIN_ORDER,
    "chain-order",
    &[55],
    "the log, the certificates that the broker sends",
    "the certificates that the broker sends do not follow each other",
    "let it send its own certificate, then its issuer's, each once"
);
by_number!(
    CHAIN_SIGNATURE,
    "chain-signature",
    &[52],
    "the log, the certificates that the broker sends",
    "a certificate that the broker sends is not signed by the next one",
    "let it send the chain that belongs to its certificate"
);
by_number!(
    INTERMEDIATE,
    "intermediate",
    &[58, 59],
    "the log, the certificates that the broker sends",
    "an intermediate certificate of the broker's chain may not sign others",
    "issue it anew with basicConstraints CA:TRUE and keyUsage keyCertSign"
);

pub(super) const ECDSA_OFF: Rule = Rule {
    id: "ecdsa-off",
    numbers: &[62],
    looks_at: "the log, SetOption165, how the broker's certificate is signed",
    cause: "the broker's certificate is signed by an EC key, and the device has ECDSA switched off",
    fix: "switch it on: SetOption165 1, then restart (firmware 15.1.0.1 or later)",
    repairs: Some("SetOption165 1, Restart 1"),
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[62])?;
        let by_ec = it.served().map_or(it.target.ec_ca, |served| served.signature.contains("ECDSA"));
        if it.device.ecdsa != Some(false) || !by_ec {
            return None;
        }
        let found = Found::lines(lines).and("device: SetOption165 is OFF").and_all(about_served(it));
        Some(found.repair(Repair::Ecdsa))
    },
};

pub(super) const CA_TOO_LARGE: Rule = Rule {
    id: "ca-too-large",
    numbers: &[62],
    looks_at: "the log, the CA's key, the chip",
    cause: "the CA's key is larger than the device can compute with",
    fix: "use an ESP32, a build with USE_4K_RSA, or a CA with an RSA-2048 key",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[62])?;
        let ca = it.pki.ca.as_ref()?;
        // Another server's certificate is not of our CA.
        if it.served().is_some_and(|served| served.issuer != ca.subject) {
            return None;
        }
        let limit = if it.device.is_esp32 { 4096 } else { 2048 };
        let bits = ca.rsa_bits.filter(|bits| *bits > limit)?;
        Some(
            Found::lines(lines)
                .and(format!("pki: the CA's key is RSA-{bits}, the device takes {limit} bits")),
        )
    },
};

pub(super) const UNKNOWN_CA: Rule = Rule {
    id: "unknown-ca",
    numbers: &[62],
    looks_at: "the log, the firmware, the issuer of the broker's certificate",
    cause: "the device does not know the CA of the broker's certificate",
    fix: "compile the CA into its firmware (quoll firmware), or pin the broker's key: SetOption132 1",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[62])?).and_all(about_served(it));
        let issuer = it.served().map(|served| served.issuer.clone()).filter(|issuer| !issuer.is_empty());
        let found = found.and_all(issuer.map(|issuer| format!("network: it is issued by {issuer:?}")));
        let ours =
            it.served().zip(it.pki.server.as_ref()).is_some_and(|(served, own)| served.serial == own.serial);
        if it.served().is_some() && !ours && it.uses_our_broker() == Some(false) {
            return Some(found.cause("the device is at another broker, whose CA it does not know"));
        }
        if it.device.ability == Some(TlsAbility::Server) {
            return Some(
                found
                    .and("device: it has no TLSKey, as a released image, which trusts no CA of one's own")
                    .fix("pin the broker's key instead (SetOption132 1, MqttFingerprint1 and 2), or build an image with the CA: quoll firmware"),
            );
        }
        Some(found)
    },
};

pub(super) const LEFT: Rule = Rule {
    id: "left-at-our-certificate",
    numbers: &[],
    looks_at: "how far the broker saw it come, a handshake from here",
    cause: "the device leaves without a word when it has seen the broker's certificate",
    fix: "read the number in its web log (Console, \"TLS connection error\"); it says what it does not like",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.is_connected() || it.number().is_some() {
            return None;
        }
        let (last, step) = it.failed_at()?;
        if !last.secure || step != super::Step::Answered || last.alert.is_some() {
            return None;
        }
        let found = Found::lines(it.wire_line()).and_all(it.hello_line()).and_all(it.stored_line());
        if it.device.stored.is_some_and(|(key, certificate)| key != 32 || certificate <= 0) {
            return Some(
                found
                    .cause("the device is asked for a certificate and has none; such firmware crashes over it (facts: null key)")
                    .fix(format!("give it a key and a certificate again: {}", it.add_command())),
            );
        }
        // Facts §3.4, §8.4: a build with client certificates and no key may crash when it is asked for one.
        let away = it.device.silence.as_ref().filter(|it| it.kind == SilenceKind::Unreachable);
        if let Some(silence) = away.filter(|_| it.registered.rung != "pinned") {
            let found = found.and(format!("device: {}", silence.why));
            return Some(
                found
                    .cause(
                        "the device comes to the broker and leaves when it is asked for a certificate, and its console is away: \
                         firmware that lost its key restarts over and over like this",
                    )
                    .fix(format!(
                        "its console answers for some seconds after each start: run {} --replace-key until it catches them; \
                         do not switch its power off and on in quick succession: after five such starts Tasmota forgets its \
                         GPIO settings, after six its module",
                        it.add_command()
                    )),
            );
        }
        let rehearsed = it.network.rehearsal.as_ref().and_then(|tried| tried.number);
        let explained = rehearsed.and_then(tls_error::explain).filter(|row| row.number < 256);
        Some(match explained {
            Some(row) => found.and_all(it.rehearsal_line()).cause(row.cause).fix(row.fix),
            None => found,
        })
    },
};

pub(super) const UNKNOWN_NUMBER: Rule = Rule {
    id: "tls-error",
    numbers: &[],
    looks_at: "the log",
    cause: "the device's TLS fails with a number that has no rule",
    fix: "BearSSL's list of error codes (bearssl_ssl.h) says more; from 256 on it is an alert of the broker's",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let number = it.number()?;
        // A rule may know the number and still see that it is not that.
        let explained = |rule: &Rule| rule.numbers.contains(&number) && (rule.judge)(it).is_some();
        if super::RULES.iter().any(explained) {
            return None;
        }
        let found = Found::lines(it.number_lines(number)).and_all(it.rehearsal_line());
        Some(match tls_error::explain(number) {
            Some(row) => found.cause(row.cause).fix(row.fix),
            None => found.cause(format!("the device's TLS fails with {number}")),
        })
    },
};
