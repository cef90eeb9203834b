//! The coat of a virtual device: it boots, lives, restarts from flash, and answers HTTP on a socket handed to it.
//!
//! Needs a tokio runtime. Two tasks for each device, one more while it talks to the broker; each ends with
//! [`RunningDevice::stop`] or when the handle is dropped.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{Flash, Machine, Now, VirtualProfile, link, web};
use crate::tls_key::Stored;

/// HTTP connections served at the same time; a real device has about as many sockets.
const HTTP_CONNECTIONS: usize = 5;
/// From power to the first line of the log, before the pace is applied. Facts §7.5: HTTP is away 5 to 15 s.
const BOOT_SECONDS: f64 = 5.0;
/// Shortest nap of the life loop, so that a pace of zero cannot spin.
const NAP: Duration = Duration::from_millis(1);
/// Longest nap, so that a changed setting is never waited for in vain.
const LONG_NAP: Duration = Duration::from_secs(60);

/// Starts virtual devices.
pub struct VirtualDevice;

impl VirtualDevice {
    /// Switches a new device on. Its HTTP console answers on the listener at once.
    ///
    /// # Errors
    /// The listener has no local address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(profile: VirtualProfile, listener: TcpListener) -> io::Result<RunningDevice> {
        let flash = Flash::factory(&profile);
        Self::start_from(profile, flash, listener)
    }

    /// Switches a device on that has a past: its flash may come from [`Machine::parts`] of a device that was
    /// provisioned in memory ([`super::MemoryConsole`]), which is how a load of thousands is made.
    ///
    /// # Errors
    /// The listener has no local address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_from(
        profile: VirtualProfile,
        flash: Flash,
        listener: TcpListener,
    ) -> io::Result<RunningDevice> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            address,
            epoch: Instant::now(),
            device: Mutex::new(Device::Down(Box::new(Off { profile, flash, last: DeviceState::default() }))),
            wake: Notify::new(),
            mail: Notify::new(),
        });
        shared.boot();
        let tasks = vec![tokio::spawn(live(shared.clone())), tokio::spawn(listen(shared.clone(), listener))];
        Ok(RunningDevice { shared, tasks })
    }
}

/// A device that is switched on. Dropping it switches it off at once.
pub struct RunningDevice {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a device looks like from outside, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeviceState {
    /// False while it boots.
    pub running: bool,
    /// Whether a restart is scheduled.
    pub restarting: bool,
    /// Whether MQTT is up.
    pub connected: bool,
    /// Successful MQTT connections since boot.
    pub mqtt_count: u64,
    /// Boots so far.
    pub boot_count: u32,
    /// Number of the last TLS failure, until the next success. See [`crate::tls_error`].
    pub last_error: Option<i32>,
    /// Return code of the last failed attempt, until the next success.
    pub last_return_code: Option<i32>,
    /// Key and certificate in use.
    pub stored: Stored,
    /// Its topic.
    pub topic: String,
    /// Broker as set: host and port.
    pub broker: (String, u16),
}

impl RunningDevice {
    /// Where its HTTP console answers.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// A snapshot.
    #[must_use]
    pub fn state(&self) -> DeviceState {
        match &*self.shared.lock() {
            Device::Up(machine) => snapshot(machine),
            Device::Down(off) => off.last.clone(),
        }
    }

    /// Takes the power away and gives it back: unsaved settings are lost, the broker sees a broken connection, and
    /// the device boots from flash.
    pub fn power_cut(&self) {
        self.shared.go_down();
        self.shared.wake.notify_one();
    }

    /// Runs a console command as if typed on its serial line, and gives the merged answer. None while it boots.
    #[must_use]
    pub fn type_command(&self, line: &str) -> Option<String> {
        self.shared.act(|machine, now| super::machine::merged(&machine.command(line, now)))
    }

    /// Switches it off and waits until its tasks have ended.
    pub async fn stop(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

impl Drop for RunningDevice {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the tasks of a device share.
pub(super) struct Shared {
    address: SocketAddr,
    epoch: Instant,
    device: Mutex<Device>,
    /// The life loop has something to look at.
    wake: Notify,
    /// The link has something to send.
    pub(super) mail: Notify,
}

enum Device {
    Up(Box<Machine>),
    Down(Box<Off>),
}

/// A device without power: what it is, what it remembers, how it was last seen.
struct Off {
    profile: VirtualProfile,
    flash: Flash,
    last: DeviceState,
}

impl Shared {
    /// Looks at the machine; none while the device is down.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut Machine, Now) -> R) -> Option<R> {
        match &mut *self.lock() {
            Device::Up(machine) => Some(look(machine, self.now())),
            Device::Down(_) => None,
        }
    }

    /// Does something to the machine, and lets the others know.
    pub(super) fn act<R>(&self, deed: impl FnOnce(&mut Machine, Now) -> R) -> Option<R> {
        let result = self.with(deed);
        self.wake.notify_one();
        self.mail.notify_one();
        result
    }

    fn boot(&self) {
        let mut device = self.lock();
        if let Device::Down(off) = &*device {
            let machine = Machine::boot(off.profile.clone(), off.flash.clone(), self.address, self.now());
            *device = Device::Up(Box::new(machine));
        }
    }

    /// Whatever is not in flash is gone.
    fn go_down(&self) {
        let mut device = self.lock();
        if let Device::Up(machine) = &*device {
            let state = snapshot(machine);
            let last =
                DeviceState { running: false, connected: false, restarting: false, mqtt_count: 0, ..state };
            let (profile, flash) = machine.parts();
            *device = Device::Down(Box::new(Off { profile, flash, last }));
        }
    }

    fn pace(&self) -> f64 {
        match &*self.lock() {
            Device::Up(machine) => machine.pace(),
            Device::Down(off) => off.profile.pace.max(0.0),
        }
    }

    /// A poisoned lock means that another task of this device panicked; the simulation may go on.
    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Now { up: self.epoch.elapsed(), utc }
    }
}

fn snapshot(machine: &Machine) -> DeviceState {
    let settings = machine.settings();
    DeviceState {
        running: true,
        restarting: machine.is_restarting(),
        connected: machine.is_connected(),
        mqtt_count: machine.mqtt_count(),
        boot_count: machine.boots(),
        last_error: machine.last_tls_error(),
        last_return_code: machine.last_return_code(),
        stored: machine.stored(),
        topic: settings.topic.clone(),
        broker: (settings.mqtt_host.clone(), settings.mqtt_port),
    }
}

/// Boot after boot.
async fn live(shared: Arc<Shared>) {
    loop {
        let mut links = JoinSet::new();
        while let Some(nap) = turn(&shared, &mut links) {
            tokio::select! {
                () = sleep(nap) => {}
                () = shared.wake.notified() => {}
                Some(_) = links.join_next() => {}
            }
        }
        links.shutdown().await;
        let pause = shared.pace() * BOOT_SECONDS;
        sleep(Duration::from_secs_f64(pause)).await;
        shared.boot();
    }
}

/// One turn of the life loop: how long to sleep, or none if the device is down.
fn turn(shared: &Arc<Shared>, links: &mut JoinSet<()>) -> Option<Duration> {
    let (down, plan, due, has_mail) = shared.with(|machine, now| {
        let down = machine.tick(now);
        let plan = if down { None } else { machine.connect(now) };
        let due = machine.due().map_or(LONG_NAP, |due| due.saturating_sub(now.up));
        (down, plan, due, machine.has_publications())
    })?;
    if down {
        shared.go_down();
        return None;
    }
    if has_mail {
        shared.mail.notify_one();
    }
    if let Some(plan) = plan {
        links.spawn(link::run(shared.clone(), plan));
    }
    Some(due.clamp(NAP, LONG_NAP))
}

/// The HTTP port.
async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((mut socket, _)) = listener.accept().await else {
            sleep(NAP).await;
            continue;
        };
        let shared = shared.clone();
        connections.spawn(async move {
            web::serve(&mut socket, &shared).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}
