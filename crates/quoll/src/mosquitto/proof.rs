//! A real client at the door, with a certificate and without one: `mosquitto_pub`, or our own where that is not installed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::place::Listen;
use crate::failure::{Exit, Failure, Outcome, io_failure};

/// A broker on the same machine answers in milliseconds; a loaded machine gets this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(50);

/// A folder that goes with the value, readable by its owner alone.
pub(crate) struct Fleeting(pub(crate) PathBuf);

impl Fleeting {
    pub(crate) fn new(path: PathBuf) -> Outcome<Self> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| io_failure("make the folder", &path, &error))?;
        Ok(Self(path))
    }
}

/// What a run that was killed left: folders of ours whose process is no more, and the broker of its trial. Their number in
/// `folder`, and whether one of a living process is there.
pub(crate) fn sweep(folder: &Path, begins: &str) -> Outcome<Swept> {
    let mut swept = Swept::default();
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(swept),
        Err(error) => return Err(io_failure("read the folder", folder, &error)),
    };
    for entry in listing.filter_map(Result::ok) {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(begins)).and_then(|end| end.parse::<i32>().ok());
        let Some(pid) = number.and_then(rustix::process::Pid::from_raw) else { continue };
        if rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH) {
            swept.alive = true;
            continue;
        }
        let path = entry.path();
        end_broker_of(&path);
        fs::remove_dir_all(&path)
            .map_err(|error| io_failure("remove what a killed run left", &path, &error))?;
        swept.removed += 1;
    }
    Ok(swept)
}

/// What [`sweep`] found.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) removed: usize,
    /// Another run is at work.
    pub(crate) alive: bool,
}

/// Ends a mosquitto that was started with a configuration in this folder, by its command line.
fn end_broker_of(folder: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let wanted = folder.join("mosquitto.conf");
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let ours = line.split(|octet| *octet == 0).any(|word| word == wanted.as_os_str().as_bytes());
        if ours && let Some(pid) = rustix::process::Pid::from_raw(pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

impl Drop for Fleeting {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("quoll: note: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// Certificate and key of a client.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The address of this machine that reaches a listener.
pub(crate) fn address_of(listen: Listen) -> SocketAddr {
    let ip = match listen.address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(IpAddr::V4(ip)) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Some(ip) => ip,
    };
    SocketAddr::new(ip, listen.port)
}

/// Waits until somebody listens.
pub(crate) fn wait_for(address: SocketAddr, mut alive: impl FnMut() -> Outcome) -> Outcome {
    let until = Instant::now() + PATIENCE;
    loop {
        alive()?;
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(Failure::new(Exit::System, format!("nobody answers on {address}"))
                    .why(format!("{error}")));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

/// A visit: `None` where the client was let in and its message taken, else what it complained of.
///
/// The name in the server's certificate is not compared with the address, which need not be one that devices use; that
/// our CA vouches for it is.
pub(crate) fn visit(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Outcome<Option<String>> {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.arg("--cafile").arg(ca).arg("--insecure");
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    }
    command.args(["-q", "1", "-t", "quoll/proof", "-n"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |error| Failure::new(Exit::System, "mosquitto_pub cannot be run").why(error);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return super::own_client::visit(address, ca, identity);
        }
        Err(error) => return Err(failed(error)),
    };
    let Some(status) = ended(&mut child, PATIENCE).map_err(failed)? else {
        return Ok(Some("it was kept waiting".into()));
    };
    if status.success() {
        return Ok(None);
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        std::io::Read::read_to_string(&mut std::io::Read::take(stderr, 4096), &mut said).ok();
    }
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Ok(Some(if said.is_empty() { status.to_string() } else { said }))
}

/// Demands that the client gets in, and that nobody does without a certificate.
pub(crate) fn prove(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Outcome {
    if let Some(identity) = identity
        && let Some(complaint) = visit(address, ca, Some(identity))?
    {
        return Err(Failure::new(
            Exit::System,
            format!("Mosquitto on {address} does not let a client with a certificate of this CA in"),
        )
        .why(complaint));
    }
    if visit(address, ca, None)?.is_none() {
        return Err(Failure::new(
            Exit::System,
            format!("Mosquitto on {address} lets a client without a certificate in"),
        )
        .hint("look for another listener on that port in its configuration"));
    }
    Ok(())
}

/// Waits for the end of a process; kills it where it does not come.
pub(crate) fn ended(
    child: &mut Child,
    patience: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}
