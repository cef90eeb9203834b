//! The lines for `user_config_override.h` and `platformio_override.ini`: each with what it is for.
//!
//! Each define is undefined first: a value that Tasmota's own `my_user_config.h` gave would make the compiler complain,
//! and a define of the same file further up would stay.

use super::{Chip, Kit, Release, Trust};
use crate::Fingerprint;

/// Columns before the comments.
const COMMENT_AT: usize = 42;

/// The environment of a chip. Tasmota's build scripts tell chips apart by how the name begins.
pub(super) fn environment(chip: Chip) -> &'static str {
    match chip {
        Chip::Esp8266 => "tasmota-quoll",
        Chip::Esp32 => "tasmota32-quoll",
    }
}

/// The lines for `user_config_override.h`.
pub(super) fn override_header(kit: &Kit) -> String {
    let chip = match kit.chip {
        Chip::Esp8266 => "ESP8266",
        Chip::Esp32 => "ESP32",
    };
    let mut lines =
        Lines(format!("// For Tasmota {} on an {chip}; the server is known by its {}.\n", kit.release, {
            match kit.trust {
                Trust::Ca => "CA",
                Trust::Fingerprint => "fingerprint",
            }
        }));
    transport(kit, &mut lines);
    anchors(kit, &mut lines);
    mode(kit, &mut lines);
    fingerprints(kit, &mut lines);
    address(kit, &mut lines);
    lines.0
}

/// The lines for `platformio_override.ini`: an environment of our own, on top of Tasmota's.
pub(super) fn platformio(kit: &Kit) -> String {
    let (environment, base) = match kit.chip {
        Chip::Esp8266 => (environment(kit.chip), "tasmota"),
        Chip::Esp32 => (environment(kit.chip), "tasmota32"),
    };
    let mut text = format!(
        "; Compile it with: pio run -e {environment}\n\
         [env:{environment}]\n\
         extends                 = env:{base}\n\
         ; user_config_override.h is read only with this flag\n\
         build_flags             = ${{env:{base}.build_flags}}\n\
         \x20                         -DUSE_CONFIG_OVERRIDE\n"
    );
    if kit.needs_four_k() {
        text.push_str(
            "; RSA keys over 2048 bits; a define in a header does not reach the TLS library\n\
             \x20                         -DUSE_4K_RSA\n",
        );
    }
    if kit.chip == Chip::Esp8266 {
        text.push_str(
            "; has lib/lib_ssl, without which TLS does not compile; some of Tasmota's own environments leave it out\n\
             lib_extra_dirs          = ${common.lib_extra_dirs}\n",
        );
    }
    text
}

fn transport(kit: &Kit, lines: &mut Lines) {
    let why = match kit.chip {
        Chip::Esp8266 => "MQTT over TLS, which no released ESP8266 image has",
        Chip::Esp32 => "MQTT over TLS; released ESP32 images have it, too",
    };
    lines.define("USE_MQTT_TLS", "", why);
    if kit.release >= Release::CLIENT_CERT {
        lines.undefine(
            "USE_MQTT_AWS_IOT",
            "the old name of the next one; with it user and password are not sent",
        );
        lines.define("USE_MQTT_CLIENT_CERT", "", "a key and certificate for each device: the command TLSKey");
    } else {
        let why = "a key and certificate for each device: the command TLSKey (its name before 14.5.0.1)";
        lines.define("USE_MQTT_AWS_IOT", "", why);
    }
    if kit.chip == Chip::Esp8266 {
        lines.undefine("USE_DISCOVERY", "mDNS and client certificates do not compile together on an ESP8266");
    }
}

fn anchors(kit: &Kit, lines: &mut Lines) {
    let has_own = !kit.anchors.is_empty();
    if has_own {
        lines.define("INCLUDE_LOCAL_CERT", "", "compiles in local_ca_data.h and local_ca_descriptor.h");
    }
    if kit.release >= Release::LOCAL_CERT {
        let why = "no public CA is needed for our own server: smaller, and trusts fewer";
        lines.define("OMIT_LETS_ENCRYPT_CERT", "", why);
        if has_own {
            lines.define("OMIT_AWS_CERT", "", "the same");
        } else {
            lines.undefine("OMIT_AWS_CERT", "one CA must stay, or the table of CAs does not compile");
        }
    }
    if kit.release >= Release::ECDSA && kit.has_ec_anchor() {
        if kit.chip == Chip::Esp8266 {
            lines.define("USE_MQTT_TLS_ECDSA", "", "the code that checks an EC CA's signatures");
        }
        let on = kit.trust == Trust::Ca;
        lines.define("MQTT_TLS_ECDSA", boolean(on), "[SetOption165] an EC CA's signatures are checked");
    } else if kit.release >= Release::ECDSA {
        lines.define("MQTT_TLS_ECDSA", "false", "[SetOption165] the server's key and CA are RSA");
    }
}

fn mode(kit: &Kit, lines: &mut Lines) {
    lines.define("MQTT_TLS_ENABLED", "true", "[SetOption103] without it a new device speaks plain MQTT");
    let why = match kit.trust {
        Trust::Ca => "[SetOption132] the server is known by its CA",
        Trust::Fingerprint => "[SetOption132] the server is known by its key's fingerprint",
    };
    lines.define("MQTT_TLS_FINGERPRINT", boolean(kit.trust == Trust::Fingerprint), why);
}

fn fingerprints(kit: &Kit, lines: &mut Lines) {
    let slots = [kit.fingerprints.first(), kit.fingerprints.get(1)];
    for (name, slot, command) in [
        ("MQTT_FINGERPRINT1", slots[0], "MqttFingerprint1"),
        ("MQTT_FINGERPRINT2", slots[1], "MqttFingerprint2"),
    ] {
        let why = if slot.is_some() {
            format!("[{command}] the server's key")
        } else {
            format!("[{command}] matches no key; all zeros would accept any server")
        };
        let bytes = slot.copied().unwrap_or(Fingerprint::MATCHES_NOTHING);
        lines.define(name, &byte_list(&bytes.bytes()), &why);
    }
}

fn address(kit: &Kit, lines: &mut Lines) {
    if let Some(host) = &kit.host {
        let why = match kit.trust {
            Trust::Ca => {
                "[MqttHost] must stand in the server's certificate, letter for letter, as a DNS name"
            }
            Trust::Fingerprint => "[MqttHost]",
        };
        lines.define("MQTT_HOST", &format!("\"{host}\""), why);
    }
    lines.define("MQTT_PORT", &kit.port.to_string(), "[MqttPort] the default 1883 is plain MQTT");
}

/// Twenty bytes the way the firmware wants them since 9.0.0.2.
pub(super) fn byte_list(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("0x{byte:02X}")).collect::<Vec<_>>().join(",")
}

fn boolean(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

struct Lines(String);

impl Lines {
    fn undefine(&mut self, name: &str, why: &str) {
        let line = format!("#undef  {name}");
        self.0.push_str(&format!("{line:<COMMENT_AT$} // {why}\n"));
    }

    fn define(&mut self, name: &str, value: &str, why: &str) {
        let line = format!("#define {name:<22} {value}");
        let line = line.trim_end();
        // A list of twenty bytes has its comment above it: behind it nobody would find it.
        if line.len() > COMMENT_AT {
            self.0.push_str(&format!("// {why}\n#undef  {name}\n{line}\n"));
        } else {
            self.0.push_str(&format!("#undef  {name}\n{line:<COMMENT_AT$} // {why}\n"));
        }
    }
}
