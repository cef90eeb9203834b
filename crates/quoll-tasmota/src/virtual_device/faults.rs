//! What can be wrong with a virtual device. Facts §1.3, §7.4, §9.

use std::time::Duration;

/// What can be wrong with a device, for tests. A wrong password, a missing TLSKey or a missing TLS need no fault: they
/// are the profile.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Its clock.
    pub clock: ClockFault,
    /// Loses power once, right after it has answered this command (`TLSKey1`: before TLSKey2 can come).
    pub dies_after: Option<String>,
    /// Answers `Error` to this command, echoing its text as a real device does.
    pub refuses: Option<String>,
    /// Is no Tasmota at all: this Server header and an HTML page for everything.
    pub impostor: Option<String>,
    /// Accepts connections on its HTTP port and never answers.
    pub hangs: bool,
    /// Loses key and certificate in an update over the air (`Upgrade 1`).
    pub forgets_keys_on_upgrade: bool,
    /// Loses its Wi-Fi for some seconds, again and again; the mean time between, before the pace is applied.
    pub weak_wifi: Option<Duration>,
    /// Has no memory left for a TLS connection (-1000).
    pub no_memory: bool,
    /// Crashes when its TLS broker's port refuses it: the bug of 15.1.0.1 to 15.3. Facts §9.
    pub crashes_on_refusal: bool,
    /// Has no memory left for a TLS connection (-1000) until it restarts: something leaks.
    pub leaks_memory: bool,
    /// Has memory for the connection that it has, and hardly for another handshake.
    pub little_memory: bool,
    /// Reaches nobody, though everybody reaches it: client isolation, a firewall, a guest network (-1002, rc -2).
    pub isolated: bool,
    /// A restart that a setting calls for does not come, as behind a Backlog that does not end; `Restart 1` does.
    pub holds_restarts: bool,
    /// Sends no PINGREQ and nothing else by itself, so that the broker ends its connection.
    pub sends_no_pings: bool,
    /// Crashes so long after each boot, before the pace is applied.
    pub reboots: Option<Duration>,
}

/// What a device believes about the time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClockFault {
    /// Synchronised.
    #[default]
    None,
    /// Never synchronised: counts from 1970.
    Unset,
    /// Wrong by seconds.
    Wrong(i64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;
    use crate::virtual_device::{Chip, Firmware, Flash, Machine, Now, VirtualProfile};

    fn now(seconds: u64) -> Now {
        Now { up: Duration::from_secs(seconds), utc: 1_795_000_000 + seconds }
    }

    fn booted(faults: Faults) -> Machine {
        let profile = VirtualProfile {
            faults,
            ..VirtualProfile::new(Chip::Esp8266, Firmware::ClientCert, Mac([2, 0, 0, 0, 0, 1]))
        };
        let flash = Flash::factory(&profile);
        Machine::boot(profile, flash, ([127, 0, 0, 1], 80).into(), now(0))
    }

    fn again(machine: &Machine, seconds: u64) -> Machine {
        let (profile, flash) = machine.parts();
        Machine::boot(profile, flash, ([127, 0, 0, 1], 80).into(), now(seconds))
    }

    fn said(machine: &mut Machine, line: &str, seconds: u64) -> String {
        machine.command(line, now(seconds)).into_iter().map(|answer| answer.json).collect()
    }

    #[test]
    fn a_device_that_crashes_by_itself_says_so_after_its_boot() {
        let reboots = Some(Duration::from_secs(20));
        let mut machine = booted(Faults { reboots, ..Faults::default() });
        assert!(said(&mut machine, "Status 1", 1).contains(r#""RestartReason":"Power On""#));
        assert!(machine.due().is_some_and(|due| due <= Duration::from_secs(20)));
        assert!(!machine.tick(now(19)));
        assert!(machine.tick(now(20)));
        let mut machine = again(&machine, 25);
        let page = said(&mut machine, "Status 1", 25);
        assert!(
            page.contains(r#""RestartReason":"Exception""#) && page.contains(r#""BootCount":2"#),
            "{page}"
        );
        assert!(machine.tick(now(45)), "and again");
    }

    #[test]
    fn the_power_leaves_another_reason_than_an_orderly_restart() {
        let mut machine = booted(Faults::default());
        said(&mut machine, "Restart 1", 1);
        assert!(machine.tick(now(4)));
        let mut machine = again(&machine, 9);
        assert!(said(&mut machine, "Status 1", 9).contains("Software/System restart"));
        let mut machine = again(&machine, 12);
        assert!(said(&mut machine, "Status 1", 12).contains("Power On"));
    }

    #[test]
    fn a_held_restart_comes_by_its_own_command_alone() {
        let mut machine = booted(Faults { holds_restarts: true, ..Faults::default() });
        for line in ["SetOption103 1", "MqttHost hub.lan", "MqttPort 8883", "MqttPassword x"] {
            said(&mut machine, line, 1);
        }
        assert!(!machine.tick(now(10)) && !machine.is_restarting());
        said(&mut machine, "Restart 1", 11);
        assert!(machine.tick(now(14)));
    }

    #[test]
    fn leaked_memory_is_back_after_a_restart_and_missing_memory_is_not() {
        let leaking = booted(Faults { leaks_memory: true, ..Faults::default() });
        assert!(leaking.faults().leaks_memory && !again(&leaking, 5).faults().leaks_memory);
        let poor = booted(Faults { no_memory: true, ..Faults::default() });
        assert!(again(&poor, 5).faults().no_memory);
        let mut little = booted(Faults { little_memory: true, ..Faults::default() });
        assert!(said(&mut little, "Status 11", 1).contains(r#""Heap":11"#));
    }
}
