//! The files put in place, what they replace kept beside them, and all of it taken back.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::place::Owner;
use super::plan::Plan;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;

/// What was changed, so that it can be taken back.
#[derive(Default)]
pub(crate) struct Installed {
    undo: Vec<Undo>,
    /// Where the replaced files are kept; `None` where none was replaced.
    pub(crate) backup: Option<PathBuf>,
    /// Whether the configuration is another than before.
    pub(crate) new_configuration: bool,
}

enum Undo {
    /// A folder that is to go.
    Made(PathBuf),
    /// A folder that had another mode or owner.
    Modes(PathBuf, u32, Owner),
    /// A file that is to go.
    Written(PathBuf),
    /// A file that was another.
    Replaced(PathBuf, Zeroizing<Vec<u8>>, u32, Owner),
}

/// Puts the files of a plan in place. Where one cannot be written, those before it are taken back.
pub(crate) fn install(plan: &Plan, dir: &Path) -> Outcome<Installed> {
    let mut installed = Installed::default();
    match installed.put(plan, dir) {
        Ok(()) => Ok(installed),
        Err(failure) => Err(installed.roll_back_after(failure)),
    }
}

impl Installed {
    fn put(&mut self, plan: &Plan, dir: &Path) -> Outcome {
        for (path, mode, owner) in &plan.folders {
            let failed = |error: std::io::Error| io_failure("make the folder", path, &error);
            match fs::metadata(path) {
                Ok(there) => {
                    let Some(mode) = mode else { continue };
                    let was = Owner { uid: there.uid(), gid: there.gid() };
                    self.undo.push(Undo::Modes(path.clone(), there.permissions().mode() & 0o7777, was));
                    set(path, *mode, *owner)?;
                }
                Err(_) => {
                    fs::DirBuilder::new().mode(mode.unwrap_or(0o755)).create(path).map_err(failed)?;
                    self.undo.push(Undo::Made(path.clone()));
                    set(path, mode.unwrap_or(0o755), *owner)?;
                }
            }
        }
        for wanted in &plan.files {
            let act = wanted.act();
            if act == "keep" {
                continue;
            }
            let path = &wanted.path;
            if act == "write" {
                self.undo.push(Undo::Written(path.clone()));
            } else {
                let failed = |error: std::io::Error| io_failure("read", path, &error);
                let there = fs::metadata(path).map_err(failed)?;
                let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
                let was = Owner { uid: there.uid(), gid: there.gid() };
                let mode = there.permissions().mode() & 0o7777;
                if act == "replace" {
                    self.keep(path, &bytes, dir)?;
                }
                self.undo.push(Undo::Replaced(path.clone(), bytes, mode, was));
            }
            write_whole(path, &wanted.bytes, wanted.mode, true)?;
            set(path, wanted.mode, wanted.owner)?;
            self.new_configuration |= path.extension().is_some_and(|end| end == "conf");
        }
        Ok(())
    }

    /// Keeps a copy of what will be replaced. The folder is its owner's alone: there may be a key in it.
    fn keep(&mut self, path: &Path, bytes: &[u8], dir: &Path) -> Outcome {
        let folder = self.backup.get_or_insert_with(|| {
            let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            dir.join("quoll-backup").join(now.to_string())
        });
        let copy = folder.join(path.strip_prefix(dir).unwrap_or(path));
        let parent = copy.parent().unwrap_or(folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| io_failure("make the folder", parent, &error))?;
        write_whole(&copy, bytes, 0o600, true)
    }

    /// Puts everything back as it was.
    pub(crate) fn roll_back(self) -> Outcome {
        let mut first = None;
        for undo in self.undo.into_iter().rev() {
            let done = match undo {
                Undo::Made(path) => remove(fs::remove_dir(&path), &path),
                Undo::Written(path) => remove(fs::remove_file(&path), &path),
                Undo::Modes(path, mode, owner) => set(&path, mode, Some(owner)),
                Undo::Replaced(path, bytes, mode, owner) => {
                    write_whole(&path, &bytes, mode, true).and_then(|()| set(&path, mode, Some(owner)))
                }
            };
            first = first.or_else(|| done.err());
        }
        first.map_or(Ok(()), Err)
    }

    /// Puts everything back after a failure, and adds to it where that leaves the folder.
    pub(crate) fn roll_back_after(self, failure: Failure) -> Failure {
        let backup = self.backup.clone();
        let stands = match self.roll_back() {
            Ok(()) => "every file was put back as it was".to_owned(),
            Err(worse) => {
                let kept = backup.map(|path| format!("; what was replaced lies in {}", path.display()));
                format!("and not everything could be put back ({}){}", worse.what, kept.unwrap_or_default())
            }
        };
        let why = match failure.why {
            Some(why) => format!("{why}; {stands}"),
            None => stands,
        };
        Failure { why: Some(why), ..failure }
    }
}

fn remove(done: std::io::Result<()>, path: &Path) -> Outcome {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_failure("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Owner first: from then on the mode counts for whom it is meant.
pub(crate) fn set(path: &Path, mode: u32, owner: Option<Owner>) -> Outcome {
    if let Some(owner) = owner
        && rustix::process::geteuid().is_root()
    {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).map_err(|error| {
            Failure::new(Exit::System, format!("cannot give {} to its account", path.display())).why(error)
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| io_failure("change the modes of", path, &error))
}
