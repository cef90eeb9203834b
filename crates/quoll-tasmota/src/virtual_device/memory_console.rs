//! A virtual device's console without a socket and without a clock: enrolment can be tested in microseconds.
//!
//! Time stands still between commands but for [`MemoryConsole::wait`]. There is no MQTT; for that, run the device.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{Flash, Machine, Now, VirtualProfile, line::merged};
use crate::{
    command::Command,
    console::{Console, ConsoleError},
    limits::COMMAND_CHARS,
    reply::Reply,
};

/// The console of a device in memory.
pub struct MemoryConsole {
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    now: Now,
}

impl MemoryConsole {
    /// Switches a new device on, at this UTC time (seconds since 1970).
    #[must_use]
    pub fn new(profile: VirtualProfile, utc: u64) -> Self {
        let now = Now { up: Duration::ZERO, utc };
        let flash = Flash::factory(&profile);
        Self { state: Mutex::new(State { machine: boot(profile, flash, now), now }) }
    }

    /// Lets time pass: Backlogs run, restarts happen.
    pub fn wait(&self, duration: Duration) {
        let mut state = self.lock();
        let (began, end) = (state.now, state.now.up + duration);
        let utc_at = |up: Duration| began.utc + (up - began.up).as_secs();
        loop {
            let State { machine, now } = &mut *state;
            if machine.tick(*now) {
                let (profile, flash) = machine.parts();
                *machine = boot(profile, flash, *now);
            } else if let Some(due) = machine.chores_due().filter(|due| *due <= end) {
                *now = Now { up: due.max(now.up), utc: utc_at(due.max(now.up)) };
            } else if now.up < end {
                *now = Now { up: end, utc: utc_at(end) };
            } else {
                break;
            }
        }
    }

    /// Takes the power away and gives it back.
    pub fn power_cut(&self) {
        let mut state = self.lock();
        let (profile, flash) = state.machine.parts();
        state.machine = boot(profile, flash, state.now);
    }

    /// Runs a console command as if typed on its serial line, and gives the merged answer.
    #[must_use]
    pub fn type_command(&self, line: &str) -> String {
        let State { machine, now } = &mut *self.lock();
        merged(&machine.command(line, *now))
    }

    /// Looks at the device.
    pub fn with<R>(&self, look: impl FnOnce(&Machine) -> R) -> R {
        look(&self.lock().machine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn boot(profile: VirtualProfile, flash: Flash, now: Now) -> Machine {
    Machine::boot(profile, flash, ([192, 0, 2, 7], 80).into(), now)
}

#[async_trait]
impl Console for MemoryConsole {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let chars = command.text().len();
        if chars > COMMAND_CHARS {
            return Err(ConsoleError::TooLong { chars, limit: COMMAND_CHARS });
        }
        let address = self.address();
        let mut state = self.lock();
        let faults = state.machine.faults().clone();
        if faults.hangs {
            return Err(ConsoleError::Timeout { address, seconds: 1 });
        }
        if let Some(server) = faults.impostor {
            return Err(ConsoleError::NotTasmota { address, seen: format!("it calls itself {server:?}") });
        }
        let now = state.now;
        let body = merged(&state.machine.command(command.text(), now));
        Reply::parse(body.as_bytes()).map_err(|why| ConsoleError::Malformed { address, why })
    }

    fn address(&self) -> String {
        "192.0.2.7:80".into()
    }
}
