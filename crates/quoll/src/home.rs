//! The one folder under which everything of an installation lives.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Outcome, io_failure};

/// The folder of an installation: `quoll.toml`, `pki/`, `fleet.db`, `broker.db`, the local socket.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    /// `--home`, else `QUOLL_HOME`, else systemd's state folder, else the XDG data folder.
    pub(crate) fn choose(given: Option<PathBuf>) -> Outcome<Self> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dir = given
            .or_else(|| from("STATE_DIRECTORY"))
            .or_else(|| from("XDG_DATA_HOME").map(|data| data.join("quoll")))
            .or_else(|| from("HOME").map(|home| home.join(".local/share/quoll")))
            .ok_or_else(|| {
                Failure::new(Exit::Usage, "there is no folder to keep things in")
                    .why("neither --home, QUOLL_HOME, XDG_DATA_HOME nor HOME is set")
                    .hint("say where: quoll --home /var/lib/quoll …")
            })?;
        let dir = std::path::absolute(&dir).map_err(|error| io_failure("find", &dir, &error))?;
        Ok(Self { dir })
    }

    /// Makes the folder, readable by its owner alone, where it is not there.
    pub(crate) fn ensure(&self) -> Outcome {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| io_failure("make the folder", &self.dir, &error))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("quoll.toml")
    }

    pub(crate) fn default_pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn fleet_db(&self) -> PathBuf {
        self.dir.join("fleet.db")
    }

    pub(crate) fn broker_db(&self) -> PathBuf {
        self.dir.join("broker.db")
    }

    pub(crate) fn passphrase_file(&self) -> PathBuf {
        self.dir.join("ca-passphrase")
    }

    pub(crate) fn clients(&self) -> PathBuf {
        self.dir.join("clients")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("quoll.sock")
    }

    pub(crate) fn node_lock(&self) -> PathBuf {
        self.dir.join("quoll.lock")
    }
}

/// Writes a file whole: beside it under a temporary name, synced, renamed, the folder synced. It never replaces a
/// file unless `replace` says so.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> Outcome {
    let fail = |error: &std::io::Error| io_failure("write", path, error);
    if !replace && path.symlink_metadata().is_ok() {
        return Err(Failure::new(Exit::Unusable, format!("{} is there already", path.display()))
            .hint("move it away, or choose another place"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("file");
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        // What a killed run left there, or somebody else put there to read along.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written.map_err(|error| fail(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_under_the_temporary_name_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, theirs) = (dir.path().join("alice.key"), dir.path().join("theirs"));
        fs::write(&theirs, "nothing").unwrap();
        let temporary = dir.path().join(format!(".alice.key.{}.tmp", std::process::id()));
        std::os::unix::fs::symlink(&theirs, &temporary).unwrap();
        write_whole(&path, b"secret", 0o600, false).unwrap();
        assert_eq!(fs::read(&theirs).unwrap(), b"nothing");
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert!(path.symlink_metadata().unwrap().is_file());
        // A file that others may read does not lend its mode either.
        fs::write(&temporary, "").unwrap();
        write_whole(&path, b"again", 0o600, true).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary stays");
    }
}
