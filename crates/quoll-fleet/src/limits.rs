//! The bounds of this crate, each with its reason. What it is not: per-site configuration; those that a caller may
//! want to change are fields of [`crate::enrol::Patience`] and only have their defaults here.

use std::time::Duration;

/// Longest device or client name, in bytes: X.520 `ub-common-name`, as the name is the certificate's common name.
pub const NAME_MAX: usize = 64;

/// Longest device address (`host[:port]`), in bytes: a full DNS name (253) and a port.
pub const ADDRESS_MAX: usize = 259;

/// Longest topic level set a device may report (FullTopic with its Topic), in bytes. Facts §2: 150 characters; some
/// builds have longer buffers, so this is generous and only keeps nonsense out of the registry.
pub const TOPIC_MAX: usize = 256;

/// Group topics of one device. Tasmota has four (`GroupTopic1` to `4`).
pub const GROUP_TOPICS_MAX: usize = 4;

/// Topic filters in a client's own access list.
pub const CLIENT_FILTERS_MAX: usize = 64;

/// Longest note of a problem kept with a device, in characters.
pub const PROBLEM_MAX: usize = 500;

/// How long a write waits for another process to finish its own. Writes take milliseconds; on a memory card, or a machine
/// that is busy with other things, one may take seconds, and a run over a fleet must not end at that. Half a minute means
/// that somebody is stuck.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(30);

/// Attempts at turning on WAL while another process opens the same new file; SQLite does not wait there by itself.
pub(crate) const WAL_ATTEMPTS: u32 = 50;
/// Pause between those attempts.
pub(crate) const WAL_PAUSE: Duration = Duration::from_millis(20);

/// Passwords of one device that are made and not yet seen at the door. Each may be the one on the device, when runs were
/// killed; more than a few mean that none arrives.
pub const PASSWORDS_OPEN: u32 = 4;

/// A run over many devices: first pause before another attempt at one, doubled each time.
pub const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Longest such pause.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(120);
/// Outside its time window a run looks at the clock so often.
pub const WINDOW_LOOK: Duration = Duration::from_secs(30);
/// Devices that must have been tried before a share of failures means anything.
pub const STOP_SAMPLE: usize = 5;

/// Presence: last-seen times are written at most this often, so that 20,000 devices cost one transaction a minute.
pub const PRESENCE_FLUSH: Duration = Duration::from_secs(60);
/// Presence: or as soon as so many devices have news.
pub const PRESENCE_PENDING_MAX: usize = 4096;
/// Presence: certificates remembered at once. Above it new ones are counted, not kept.
pub const PRESENCE_MAX: usize = 1_000_000;

/// One question to a device's console. A busy ESP8266 answers within two seconds; a dead one never.
pub const ASK_PATIENCE: Duration = Duration::from_secs(8);
/// Attempts of a question that changes nothing, when the device does not answer.
pub const ASK_ATTEMPTS: u32 = 3;
/// First pause between attempts; doubled each time.
pub const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Wait for a restarted device. Facts §7.5: 5 to 15 s away; weak Wi-Fi takes longer.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(90);
/// First pause while polling for its return; doubled up to [`RETURN_PAUSE_MAX`].
pub const RETURN_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause while polling. One question a second is nothing to a device, and each second is one of every device's.
pub const RETURN_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Wait until the broker has seen the certificate. Facts §3.5: first attempt at once, the next after 10 s and 20 s,
/// each with up to 10 s of handshake.
pub const PROOF_PATIENCE: Duration = Duration::from_secs(75);

/// Wait for the broker's port to answer before a device is pointed at it (facts §9: a refused connection can put
/// firmware 15.1.0.1 to 15.3 into a boot loop).
pub const BROKER_PATIENCE: Duration = Duration::from_secs(3);

/// Largest difference between the device's clock and ours before we set it. Facts §8.1.
pub const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Certificates of our CA that nobody has, remembered at once. Each was signed by the CA, so this many is a home that
/// was never listed; more are refused or let in as configured, but not remembered.
pub const UNLISTED_MAX: u32 = 10_000;

/// Publications below one parent that are proposed one by one; of more a wildcard is.
pub const SIBLINGS_MAX: usize = 8;
/// Topics kept of what one identity did beyond its list.
pub const OBSERVATIONS_OF_ONE_MAX: u32 = 256;
/// Topics kept of what all did beyond their lists: 20,000 devices that each need one more.
pub const OBSERVATIONS_MAX: u32 = 20_000;
