//! Rules about the device's own certificate, and what the broker said to it. Facts §1.3, §3.4.

use crate::doctor::evidence::{Ending, Evidence, Shown, Step, TlsAbility};
use crate::doctor::verdict::{Found, Repair, Rule};

/// The certificate that the broker saw last.
fn shown(it: &Evidence) -> Option<&Shown> {
    it.encounter().and_then(|last| last.certificate.as_ref())
}

fn shown_line(it: &Evidence) -> Option<String> {
    let shown = shown(it)?;
    let issuer = if shown.issuer.is_empty() { String::new() } else { format!(" of {}", shown.issuer) };
    Some(format!("wire: it showed {}, serial {}{issuer}", shown.subject, shown.serial))
}

fn issued_line(it: &Evidence) -> Option<String> {
    let own = it.pki.device.as_ref()?;
    Some(format!("pki: its certificate is {}, serial {}, {} bytes", own.subject, own.serial, own.size))
}

pub(super) const REVOKED: Rule = Rule {
    id: "revoked",
    numbers: &[300],
    looks_at: "the registry, the folder's index, the alert that the broker sent",
    cause: "the device's certificate is revoked",
    fix: "if it is to come back: remove it and add it again",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let said = it.shows(&[300]);
        let known = it.registered.state == "revoked" || it.pki.revoked;
        if it.is_connected() || (said.is_none() && !known) {
            return None;
        }
        let found = Found::lines(said.unwrap_or_else(|| it.wire_line().into_iter().collect()));
        let found = found.and_all(shown_line(it));
        let index = it.pki.revoked.then(|| "pki: the folder's index says revoked".to_owned());
        let state = (it.registered.state == "revoked").then(|| "registry: its state is revoked".to_owned());
        let name = &it.name;
        Some(
            found
                .and_all(index)
                .and_all(state)
                .fix(format!("if it is to come back: quoll device remove {name}, then {}", it.add_command())),
        )
    },
};

pub(super) const QUARANTINED: Rule = Rule {
    id: "quarantined",
    numbers: &[],
    looks_at: "the registry",
    cause: "the device is in quarantine: its owner keeps it out",
    fix: "let it in again: quoll device release",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let reason = it.registered.quarantine.as_ref().filter(|_| it.wire.online.is_none())?;
        let found = Found::because(format!("registry: in quarantine: {reason}")).and_all(it.wire_line());
        Some(found.fix(format!("let it in again: quoll device release {}", it.name)))
    },
};

/// Whether the broker had it so far as to ask for a certificate, and got none: by the broker's own words, else by
/// what its answer to the same ClientHello from here is.
fn showed_none(it: &Evidence) -> Option<(bool, String)> {
    if let Some((last, step)) = it.failed_at() {
        if step == Step::Certificate && last.certificate.is_none() {
            return Some((true, "wire: the broker asked for a certificate and got none".into()));
        }
        if step <= Step::Hello && last.secure && last.hello.is_some() {
            return Some((false, "wire: the broker answered its ClientHello with a refusal".into()));
        }
        if step == Step::Certificate {
            return None;
        }
    }
    let tried = it.network.rehearsal.as_ref()?;
    if tried.asks_certificate {
        return Some((true, format!("network: {} asks for a certificate", it.broker())));
    }
    // It said no, rather than nothing.
    (tried.suite.is_none() && tried.is_tls == Some(true))
        .then(|| (false, format!("network: {} refuses this ClientHello from here, too", it.broker())))
}

pub(super) const NO_SUITE: Rule = Rule {
    id: "no-common-suite",
    numbers: &[296],
    looks_at: "the log, the suites of the ClientHello, how far the broker saw it come, the broker's key, SetOption165",
    cause: "device and broker have no cipher suite in common: the broker has an EC key, and the device offers RSA alone",
    fix: "give the broker an RSA key, or switch ECDSA on: SetOption165 1, then restart (not with a pinned fingerprint)",
    repairs: Some("SetOption165 1, Restart 1, where a CA is trusted"),
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[296])?;
        let (false, how) = showed_none(it)? else { return None };
        let found = Found::lines(lines).and(how).and_all(it.hello_line());
        let key =
            it.served().or_else(|| it.pki.server.as_ref().filter(|_| it.uses_our_broker() == Some(true)));
        let found = found.and_all(key.map(|own| format!("pki: the broker's key is {}", own.key)));
        if it.device.fingerprint_mode == Some(true) {
            return Some(
                found.fix("give the broker an RSA key: in fingerprint mode a device offers nothing else"),
            );
        }
        // The device switches it on by itself after this error (facts §3.3), and tries again after its pause.
        let found = found.and_all(it.device.ecdsa.map(|on| {
            let how = if on { "ON, by now" } else { "OFF" };
            format!("device: SetOption165 is {how}")
        }));
        Some(if it.device.ecdsa.is_some() { found.repair(Repair::Ecdsa) } else { found })
    },
};

pub(super) const NO_CERTIFICATE: Rule = Rule {
    id: "no-client-certificate",
    numbers: &[296, 372],
    looks_at: "the log, how far the broker saw it come, TLSKey's lengths, the firmware",
    cause: "the broker wants a certificate, and the device has none",
    fix: "give it a key and a certificate: quoll device add",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[296, 372])?;
        let how = showed_none(it);
        if it.number() == Some(296) && !matches!(how, Some((true, _))) {
            return None;
        }
        let found = Found::lines(lines).and_all(how.map(|(_, line)| line)).and_all(it.stored_line());
        let add = it.add_command();
        Some(match (it.device.ability, it.device.stored) {
            (Some(TlsAbility::Server | TlsAbility::None), _) => found
                .cause("the broker wants a certificate, and the device's firmware cannot have one")
                .fix("use an image built with USE_MQTT_CLIENT_CERT (quoll firmware), or a listener without client certificates"),
            (_, Some((32, certificate))) if certificate <= 0 => found
                .cause("the device has a key and no certificate: its power was cut between TLSKey1 and TLSKey2")
                .fix(format!("give it both again: {add}")),
            (_, Some((key, _))) if key <= 0 && it.registered.state == "proven" => found
                .cause("the device has lost its key and certificate, as by an update or a reset")
                .fix(format!("give it new ones: {add}")),
            (_, Some((key, certificate))) if key == 32 && certificate > 0 && it.number() == Some(296) => found
                .cause("the broker does not take ECDSA certificates, so the device shows none")
                .fix("allow ecdsa_secp256r1_sha256 for client certificates at the broker"),
            _ => found.fix(format!("give it a key and a certificate: {add}")),
        })
    },
};

pub(super) const SIGNATURE_KIND: Rule = Rule {
    id: "handshake-failure",
    numbers: &[296],
    looks_at: "the log, a handshake from here",
    cause: "the broker refuses the handshake: no common cipher suite, or a certificate that it did not get",
    fix: "look at the broker's log; store TLSKey1 and TLSKey2, and give the broker an RSA key",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[296])?;
        // Where it can be told apart, one of the two above has said it.
        if showed_none(it).is_some() {
            return None;
        }
        Some(
            Found::lines(lines)
                .and_all(it.rehearsal_line())
                .and_all(it.stored_line())
                .and_all(shown_line(it)),
        )
    },
};

macro_rules! refused {
    ($name:ident, $id:literal, $numbers:expr, $cause:literal, $fix:literal) => {
        pub(super) const $name: Rule = Rule {
            id: $id,
            numbers: $numbers,
            looks_at: "the log, the alert and the certificate that the broker saw, TLSKey's lengths",
            cause: $cause,
            fix: $fix,
            repairs: None,
            is_warning: false,
            judge: |it| {
                let found =
                    Found::lines(it.shows($numbers)?).and_all(shown_line(it)).and_all(issued_line(it));
                Some(found.and_all(it.stored_line()))
            },
        };
    };
}

pub(super) const KEY_MISMATCH: Rule = Rule {
    id: "key-mismatch",
    numbers: &[307],
    looks_at: "the log, the certificate that the broker saw, TLSKey's lengths",
    cause: "the key on the device does not belong to its certificate",
    fix: "store key and certificate of one issue: quoll device add",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[307])?).and_all(shown_line(it)).and_all(issued_line(it));
        let found = found.and_all(it.stored_line());
        Some(found.fix(format!("store key and certificate of one issue: {}", it.add_command())))
    },
};

pub(super) const FOREIGN_CA: Rule = Rule {
    id: "foreign-certificate",
    numbers: &[304],
    looks_at: "the log, the issuer of the certificate that the broker saw",
    cause: "the broker does not know the CA that issued the device's certificate",
    fix: "give it one of this CA: quoll device add; a broker must hold the issuing CA itself, a device sends no intermediate",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[304])?).and_all(shown_line(it)).and_all(issued_line(it));
        let ca = it.pki.ca.as_ref().map(|ca| format!("pki: our CA is {:?}", ca.subject));
        let fix = format!("give it one of this CA: {} --replace-key", it.add_command());
        Some(found.and_all(it.stored_line()).and_all(ca).fix(fix))
    },
};

refused!(
    BAD_CERTIFICATE,
    "bad-certificate",
    &[298],
    "the broker cannot read the device's certificate, or takes it for broken",
    "store it again: quoll device add; a bare + in a URL damages it without an error"
);
refused!(
    EXPIRED,
    "certificate-expired",
    &[301],
    "the device's certificate is expired or not yet valid, by the broker's clock",
    "renew it: quoll device add; check the clock of the broker's machine"
);
refused!(
    NOT_ACCEPTED,
    "certificate-not-accepted",
    &[302, 299],
    "the broker does not accept the device's certificate for this purpose",
    "issue one with extendedKeyUsage clientAuth: quoll device add; the broker's log has the reason"
);
refused!(
    DENIED,
    "access-denied",
    &[305],
    "the broker knows the device's certificate and denies it access",
    "look at the broker's log for the reason"
);

pub(super) const VERSION: Rule = Rule {
    id: "tls-version",
    numbers: &[326, 3],
    looks_at: "the log, the versions of the ClientHello",
    cause: "the broker does not speak TLS 1.2, the one version that a device has",
    fix: "allow TLS 1.2 at the broker",
    repairs: None,
    is_warning: false,
    judge: |it| {
        Some(Found::lines(it.shows(&[326, 3])?).and_all(it.hello_line()).and_all(it.rehearsal_line()))
    },
};

impl Evidence {
    /// Whether the broker refused its CONNECT last.
    pub(super) fn was_refused(&self) -> bool {
        self.encounter().is_some_and(|last| last.ending == Ending::Refused)
    }
}
