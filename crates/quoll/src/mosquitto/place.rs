//! Mosquitto's folder as it is: the account that is to own the files, the configuration files, the listeners in them.

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Outcome, io_failure};

/// No configuration file of a person is this long.
const MAX_FILE: u64 = 1 << 20;

/// Numbers of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Where our listener is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Listen {
    pub(crate) port: u16,
    /// One address alone; `None` for all of the machine.
    pub(crate) address: Option<IpAddr>,
}

/// A folder such as `/etc/mosquitto`.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    /// Who is to own certificates and key; `None` where we may not give files away.
    pub(crate) owner: Option<Owner>,
    /// `mosquitto.conf`, then `conf.d/*.conf` in order, without ours.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// What other folders that `mosquitto.conf` includes have.
    pub(crate) elsewhere: Vec<(PathBuf, String)>,
    /// `conf.d/quoll.conf`, where it is there.
    pub(crate) ours: Option<String>,
}

impl Place {
    /// Looks at the folder. Refuses one whose `mosquitto.conf` does not read `conf.d/`, because nothing that we write
    /// there would count.
    pub(crate) fn look(dir: &Path, user: &str) -> Outcome<Self> {
        let dir = std::path::absolute(dir).map_err(|error| io_failure("find", dir, &error))?;
        if dir.to_str().is_none_or(|text| text.contains(char::is_control)) {
            return Err(Failure::new(
                Exit::Usage,
                format!("{} cannot stand in a mosquitto.conf", dir.display()),
            ));
        }
        let main = dir.join("mosquitto.conf");
        if !main.is_file() {
            return Err(Failure::new(Exit::Unusable, format!("there is no {}", main.display()))
                .hint("install Mosquitto (apt-get install mosquitto), or say where it is with --dir"));
        }
        let text = read(&main)?;
        let conf_d = dir.join("conf.d");
        let same = |path: &str| {
            Path::new(path) == conf_d
                || matches!((fs::canonicalize(path), fs::canonicalize(&conf_d)), (Ok(a), Ok(b)) if a == b)
        };
        if !options(&text).any(|(name, value)| name == "include_dir" && same(value)) {
            return Err(Failure::new(
                Exit::Unusable,
                format!("{} does not read {}", main.display(), conf_d.display()),
            )
            .hint(format!("add this line to it: include_dir {}", conf_d.display())));
        }
        let mut elsewhere = Vec::new();
        for (_, folder) in options(&text).filter(|(name, value)| *name == "include_dir" && !same(value)) {
            for path in confs_in(Path::new(folder))? {
                let text = read(&path)?;
                elsewhere.push((path, text));
            }
        }
        let mut files = vec![(main, text)];
        let mut ours = None;
        for path in confs_in(&conf_d)? {
            let text = read(&path)?;
            if path.file_name().is_some_and(|name| name == "quoll.conf") {
                ours = Some(text);
            } else {
                files.push((path, text));
            }
        }
        Ok(Self { dir, owner: owner(user)?, files, elsewhere, ours })
    }

    pub(crate) fn our_conf(&self) -> PathBuf {
        self.dir.join("conf.d/quoll.conf")
    }

    /// The listener of `conf.d/quoll.conf`.
    pub(crate) fn our_listener(&self) -> Option<Listen> {
        let (_, value) = options(self.ours.as_ref()?).find(|(name, _)| *name == "listener")?;
        let mut words = value.split_whitespace();
        let port = words.next()?.parse().ok()?;
        Some(Listen { port, address: words.next().and_then(|word| word.parse().ok()) })
    }

    /// Refuses a port that another file of the configuration, or another program, has.
    pub(crate) fn refuse_taken(&self, listen: Listen) -> Outcome {
        for (path, text) in self.theirs() {
            let taken = options(text).any(|(name, value)| {
                matches!(name, "listener" | "port")
                    && value.split_whitespace().next().and_then(|word| word.parse().ok()) == Some(listen.port)
            });
            if taken {
                return Err(Failure::new(
                    Exit::Address,
                    format!("{} has a listener on port {} already", path.display(), listen.port),
                )
                .why("nothing was changed")
                .hint("take that listener out, or choose another port with --port"));
            }
        }
        if self.our_listener().map(|ours| ours.port) == Some(listen.port) {
            // It is Mosquitto's own, from a setup before.
            return Ok(());
        }
        let address = listen.address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        match std::net::TcpListener::bind((address, listen.port)) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Failure::new(Exit::Address, format!("port {} of {address} cannot be had", listen.port))
                    .why(format!("{error}; nothing was changed"))
                    .hint("end the program that has it, or choose another port with --port"))
            }
        }
    }

    /// Every file of a person that Mosquitto reads here.
    fn theirs(&self) -> impl Iterator<Item = &(PathBuf, String)> {
        self.files.iter().chain(&self.elsewhere)
    }

    /// The first file that lets everybody in at every listener of theirs.
    pub(crate) fn lets_everybody_in(&self) -> Option<&Path> {
        let says = |text: &str, wanted: (&str, &str)| options(text).any(|option| option == wanted);
        if self.theirs().any(|(_, text)| says(text, ("per_listener_settings", "true"))) {
            return None;
        }
        let mut open = self.theirs().filter(|(_, text)| says(text, ("allow_anonymous", "true")));
        open.next().map(|(path, _)| path.as_path())
    }

    /// Whether it has no listener but ours: then Mosquitto 2 lets this machine in on `localhost:1883`, without a certificate,
    /// until there is one.
    pub(crate) fn is_local_only(&self) -> bool {
        let listens = |(name, _): (&str, &str)| matches!(name, "listener" | "port" | "bind_address");
        self.ours.is_none() && !self.theirs().any(|(_, text)| options(text).any(listens))
    }

    /// The value of the last line of this option, over all files.
    pub(crate) fn option(&self, wanted: &str) -> Option<&str> {
        let all = self.theirs().flat_map(|(_, text)| options(text));
        all.filter(|(name, _)| *name == wanted).map(|(_, value)| value).last()
    }
}

/// The options of a configuration: name and value.
pub(crate) fn options(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (name, value.trim())
    })
}

/// What Mosquitto reads of a folder: `*.conf`, in order.
pub(crate) fn confs_in(folder: &Path) -> Outcome<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| io_failure("read the folder", folder, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "conf") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A configuration file's text.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    let file = fs::File::open(path).map_err(|error| io_failure("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| io_failure("read", path, &error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::new(Exit::Unusable, format!("{} is too long", path.display()))
            .why("over 1 MiB; nothing was changed"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Unusable, format!("{} is not UTF-8", path.display())).why("nothing was changed")
    })
}

/// The account, where we are root and may give files away.
fn owner(user: &str) -> Outcome<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "quoll: note: not root: the files stay yours, and Mosquitto must run as you to read its key"
        );
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let found = find_in(&read(path)?, user);
    if found.is_none() {
        return Err(Failure::new(Exit::NotFound, format!("there is no account {user:?} in /etc/passwd"))
            .hint("name the one that Mosquitto runs as with --user"));
    }
    Ok(found)
}

fn find_in(passwd: &str, user: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some(Owner { uid, gid: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmosquitto:x:102:109::/var/lib/mosquitto:/bin/false\n";
        assert_eq!(find_in(passwd, "mosquitto"), Some(Owner { uid: 102, gid: 109 }));
        assert_eq!(find_in(passwd, "mosq"), None);
    }

    #[test]
    fn options_are_read_without_comments_and_indentation() {
        let read: Vec<_> = options("# listener 1\n\n  listener 1884 ::1  \npersistence\n").collect();
        assert_eq!(read, [("listener", "1884 ::1"), ("persistence", "")]);
    }
}
