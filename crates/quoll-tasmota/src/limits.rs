//! Bounds of the dialect and of the devices that speak it, each with its reason. Facts: Tasmota 15.3, section numbers
//! of the project's Tasmota fact sheet ("facts §").

use std::time::Duration;

/// Raw bytes of the private key in TLSKey1: one P-256 scalar, big-endian, padded. Facts §1.2.
pub const KEY_BYTES: usize = 32;

/// Shortest certificate TLSKey2 stores; 256 bytes and less are refused by the device. Facts §1.2.
pub const CERTIFICATE_MIN: usize = 257;

/// Longest DER certificate that fits a `/cm` request: 1199 characters less `TLSKey2 `, in whole base64 quads. Facts §2.
pub const CERTIFICATE_MAX_HTTP: usize = 891;

/// Longest DER certificate that fits a serial line of 799 characters. Facts §2.
pub const CERTIFICATE_MAX_SERIAL: usize = 591;

/// Longest DER certificate the store holds; one byte more overruns a heap buffer on an ESP32. Facts §1.3.
pub const CERTIFICATE_MAX_STORE: usize = 960;

/// Longest command line the HTTP console takes, decoded; longer ones look like an empty command. Facts §2.
pub const COMMAND_CHARS: usize = 1199;

/// Longest command line the serial console takes. Facts §2.
pub const SERIAL_COMMAND_CHARS: usize = 799;

/// A packet over MQTT, header, topic and payload together. Facts §2.
pub const MQTT_PACKET_BYTES: usize = 1200;

/// Characters of a failing command that the device repeats in its answer and its logs. Facts §0.4.
pub const ECHO_CHARS: usize = 63;

/// Longest topic a device builds. Facts §2 (TOPSZ).
pub const TOPIC_CHARS: usize = 150;

/// Longest text setting we send (host, user, password, topic). Our choice, below every buffer of the firmware.
pub const TEXT_CHARS: usize = 100;

/// Characters of an `MqttFingerprint` value: 20 hex pairs and 19 blanks. Facts §1.5.
pub const FINGERPRINT_CHARS: usize = 59;

/// Most bytes of an HTTP answer we read: a `Status 0` is about 4 KiB, a full web log 16 KiB at most.
pub const BODY_BYTES: usize = 64 * 1024;

/// Time to reach the device's port 80. A device in the house answers in milliseconds or is asleep or away.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(4);

/// Time for a whole question and answer. An ESP8266 busy with a TLS handshake stalls for up to two seconds.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes written to a serial line at once. An ESP8266 reads its 256-byte buffer some twenty times a second.
pub const SERIAL_CHUNK: usize = 128;

/// Pause between such writes; 128 bytes take 11 ms on the line.
pub const SERIAL_PAUSE: Duration = Duration::from_millis(20);

/// Time for an answer over a serial line. The device may be in the middle of a TLS handshake.
pub const SERIAL_ANSWER_PATIENCE: Duration = Duration::from_secs(5);
