//! The coat of a virtual device: it boots, lives, restarts from flash, and answers on what is wired to it: HTTP on a
//! socket, its serial line on a pty.
//!
//! Needs a tokio runtime. One task for each device, one more for each console, one more while it talks to the broker;
//! each ends with [`RunningDevice::stop`] or when the handle is dropped.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{Faults, Flash, Machine, Now, Tally, VirtualProfile, link, serial, tally::Online, web};
use crate::tls_key::Stored;

/// HTTP connections served at the same time; a real device has about as many sockets.
const HTTP_CONNECTIONS: usize = 5;
/// From power to the first line of the log, before the pace is applied. Facts §7.5: HTTP is away 5 to 15 s.
const BOOT_SECONDS: f64 = 5.0;
/// How long a device with weak Wi-Fi is away, before the pace is applied.
const AWAY_SECONDS: f64 = 5.0;
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
        Self::start_wired(profile, flash, Wiring { http: Some(listener), tally: None })
    }

    /// The same with more or less wired to it.
    ///
    /// # Errors
    /// The listener has no local address.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_wired(profile: VirtualProfile, flash: Flash, wiring: Wiring) -> io::Result<RunningDevice> {
        let address = match &wiring.http {
            Some(listener) => listener.local_addr()?,
            None => NO_CONSOLE,
        };
        let shared = Arc::new(Shared {
            address,
            epoch: Instant::now(),
            device: Mutex::new(Device::Down(Box::new(Off { profile, flash, last: DeviceState::default() }))),
            wake: Notify::new(),
            mail: Notify::new(),
            printer: Notify::new(),
            has_serial: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            was_online: AtomicBool::new(false),
            tally: wiring.tally,
        });
        shared.boot();
        let mut tasks = vec![tokio::spawn(live(shared.clone()))];
        if let Some(listener) = wiring.http {
            tasks.push(tokio::spawn(listen(shared.clone(), listener)));
        }
        Ok(RunningDevice { shared, tasks })
    }
}

/// The address that a device without an HTTP console believes to have.
const NO_CONSOLE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 80);

/// What is wired to a device.
#[derive(Default)]
pub struct Wiring {
    /// Where its HTTP console answers; none for a load of thousands, which saves a socket each.
    pub http: Option<TcpListener>,
    /// Where its connections are counted.
    pub tally: Option<Arc<Tally>>,
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

    /// User and password that it sends in CONNECT: what a broker would see. None while it boots.
    #[must_use]
    pub fn login(&self) -> Option<(String, zeroize::Zeroizing<String>)> {
        self.shared.act(|machine, _| {
            let (user, password) = machine.settings().login();
            (user.to_owned(), zeroize::Zeroizing::new(password.to_owned()))
        })
    }

    /// Takes the power away and gives it back: unsaved settings are lost, the broker sees a broken connection, and
    /// the device boots from flash.
    pub fn power_cut(&self) {
        self.shared.go_down();
        self.shared.wake.notify_one();
    }

    /// Breaks it, or mends it, while it runs. Nothing while it boots.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.act(|machine, _| machine.set_faults(faults));
    }

    /// Runs a console command as if typed on its serial line, and gives the merged answer. None while it boots.
    #[must_use]
    pub fn type_command(&self, line: &str) -> Option<String> {
        self.shared.act(|machine, now| super::line::merged(&machine.command(line, now)))
    }

    /// Wires a serial line to it: a pseudo-terminal. Gives the path to open, which is gone with the device.
    ///
    /// # Errors
    /// The system has no pseudo-terminal left.
    pub fn attach_serial(&mut self) -> io::Result<PathBuf> {
        let (line, path) = serial::Line::open()?;
        self.shared.has_serial.store(true, Ordering::Relaxed);
        self.shared.with(|machine, _| machine.attach_serial());
        self.tasks.push(tokio::spawn(serial::serve(self.shared.clone(), line)));
        Ok(path)
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
    /// The serial line may have something to print.
    pub(super) printer: Notify,
    has_serial: AtomicBool,
    /// Without Wi-Fi at this moment.
    is_away: AtomicBool,
    was_online: AtomicBool,
    pub(super) tally: Option<Arc<Tally>>,
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
        self.printer.notify_one();
        result
    }

    /// Counts it as online until the value is dropped.
    pub(super) fn count_online(&self) -> Option<Online<'_>> {
        let again = self.was_online.swap(true, Ordering::Relaxed);
        self.tally.as_deref().map(|tally| tally.online(again))
    }

    /// Its own address.
    pub(super) fn address(&self) -> std::net::IpAddr {
        self.address.ip()
    }

    /// Whether its network can be reached: it is up and has Wi-Fi.
    pub(super) fn has_network(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed) && matches!(&*self.lock(), Device::Up(_))
    }

    fn boot(&self) {
        let mut device = self.lock();
        if let Device::Down(off) = &*device {
            let mut machine = Machine::boot(off.profile.clone(), off.flash.clone(), self.address, self.now());
            if self.has_serial.load(Ordering::Relaxed) {
                machine.attach_serial();
            }
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
    let mut weather = Weather::of(&shared);
    loop {
        let mut links = JoinSet::new();
        while let Some(nap) = turn(&shared, &mut links) {
            tokio::select! {
                () = sleep(nap) => {}
                () = shared.wake.notified() => {}
                () = weather.worsens() => {
                    links.shutdown().await;
                    lose_wifi(&shared).await;
                    weather.next();
                }
                Some(_) = links.join_next() => {}
            }
        }
        links.shutdown().await;
        let pause = shared.pace() * BOOT_SECONDS;
        sleep(Duration::from_secs_f64(pause)).await;
        shared.boot();
    }
}

/// When the Wi-Fi of a device goes next. Seeded by its MAC: the same fleet has the same weather.
struct Weather {
    mean: Option<Duration>,
    state: u64,
    due: tokio::time::Instant,
}

impl Weather {
    fn of(shared: &Shared) -> Self {
        let seen = shared.with(|machine, _| (machine.faults().weak_wifi, machine.pace(), machine.mac()));
        let (mean, pace, mac) = seen.unwrap_or((None, 1.0, crate::mac::Mac([0; 6])));
        let state = mac.0.iter().fold(0, |state, byte| state << 8 | u64::from(*byte));
        let mean = mean.map(|mean| mean.mul_f64(pace.max(0.001)));
        let mut weather = Self { mean, state, due: tokio::time::Instant::now() };
        weather.next();
        weather
    }

    /// Between half and one and a half of the mean from now.
    fn next(&mut self) {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let share =
            f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        if let Some(mean) = self.mean {
            self.due = tokio::time::Instant::now() + mean.mul_f64(0.5 + share).max(NAP);
        }
    }

    async fn worsens(&self) {
        match self.mean {
            Some(_) => tokio::time::sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }
}

/// For some seconds nobody can reach it, and it reaches nobody.
async fn lose_wifi(shared: &Shared) {
    shared.is_away.store(true, Ordering::Relaxed);
    shared.act(|machine, now| machine.wifi_lost(now));
    sleep(Duration::from_secs_f64(shared.pace() * AWAY_SECONDS).max(NAP)).await;
    shared.is_away.store(false, Ordering::Relaxed);
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
    shared.printer.notify_one();
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
