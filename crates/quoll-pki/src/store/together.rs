//! Many files written as one: each under a temporary name, all of them synced at once, then all renamed. A thousand files
//! one by one would wait for the disk some four thousand times.
//! What it is not: a transaction. An interruption while renaming leaves some new and some old files, each of them whole;
//! the journal's note says which they were.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use super::files::{self, Mode};
use crate::error::PkiError;

/// Files that wait for their names.
#[derive(Debug, Default)]
pub(crate) struct Together {
    waiting: Vec<(PathBuf, PathBuf)>,
    folders: BTreeSet<PathBuf>,
}

impl Together {
    /// Writes `content` beside `path`; the name follows with [`Together::finish`].
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn write(&mut self, path: &Path, content: &[u8], mode: Mode) -> Result<(), PkiError> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        if self.folders.insert(folder.to_owned()) {
            files::make_folder(folder)?;
        }
        let temporary = files::temporary_name(path);
        files::remove(&temporary)?;
        self.waiting.push((temporary.clone(), path.to_owned()));
        let mut file = files::create(&temporary, path, mode).map_err(files::io("creating", &temporary))?;
        file.write_all(content).map_err(files::io("writing", &temporary))?;
        if !SYNCS_WHOLE {
            file.sync_all().map_err(files::io("writing", &temporary))?;
        }
        Ok(())
    }

    /// Makes them last, then gives them their names, in the order they were written.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn finish(mut self) -> Result<(), PkiError> {
        for folder in &self.folders {
            sync_file_system(folder)?;
        }
        for (temporary, path) in &self.waiting {
            fs::rename(temporary, path).map_err(files::io("replacing", path))?;
        }
        self.waiting.clear();
        self.folders.iter().try_for_each(|folder| files::sync_folder(folder))
    }
}

/// What was not finished is not wanted: it may be a key.
impl Drop for Together {
    fn drop(&mut self) {
        for (temporary, _) in &self.waiting {
            fs::remove_file(temporary).ok();
        }
    }
}

/// Whether [`sync_file_system`] does it for all; elsewhere each file is synced by itself.
const SYNCS_WHOLE: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &Path) -> Result<(), PkiError> {
    let synced = File::open(folder).and_then(|folder| rustix::fs::syncfs(folder).map_err(Into::into));
    synced.map_err(files::io("syncing", folder))
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(folder: &Path) -> Result<(), PkiError> {
    File::open(folder).map(|_| ()).map_err(files::io("syncing", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_its_name_before_all_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("one"), "old").unwrap();
        let mut together = Together::default();
        together.write(&at("one"), b"new", Mode::Public).unwrap();
        together.write(&at("more/two"), b"2", Mode::Private).unwrap();
        assert_eq!(fs::read(at("one")).unwrap(), b"old");
        assert!(!at("more/two").exists());
        together.finish().unwrap();
        assert_eq!(fs::read(at("one")).unwrap(), b"new");
        assert_eq!(fs::read(at("more/two")).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary stays");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut together = Together::default();
        together.write(&dir.path().join("x.key"), b"secret", Mode::Private).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(together);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
