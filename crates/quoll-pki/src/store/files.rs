//! Files of the folder: bounded reads, atomic writes, modes, moves and the lock.
//! What it is not: it does not know what is in a file.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::error::{Obstacle, PkiError};

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 0600: keys, and the books.
    Private,
    /// 0644: certificates and CRLs, which a broker under another user reads.
    Public,
    /// As the file there is; 0600 if there is none.
    Keep,
}

/// The lock of a folder, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

const LOCK_NAME: &str = ".quoll.lock";

/// Reads at most `limit` bytes.
///
/// # Errors
/// [`PkiError::Io`] or [`PkiError::FileTooLarge`].
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PkiError> {
    let file = File::open(path).map_err(io("reading", path))?;
    let expected = file.metadata().map_err(io("reading", path))?.len().min(limit);
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut content).map_err(io("reading", path))?;
    if content.len() as u64 > limit {
        return Err(PkiError::FileTooLarge { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Like [`read`], but `None` when there is no such file.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PkiError> {
    match read(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(PkiError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes `content` so that after a crash either the old or the new file is there, whole: temporary name in the same
/// folder, fsync, rename, fsync of the folder. A missing folder is made.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn write(path: &Path, content: &[u8], mode: Mode) -> Result<(), PkiError> {
    let folder = folder_of(path);
    make_folder(folder)?;
    let temporary = temporary_name(path);
    // A leftover of an interrupted write; the lock says that nobody is writing it now.
    remove(&temporary)?;
    death::may_come(&temporary)?;
    let mut file = create(&temporary, path, mode).map_err(io("creating", &temporary))?;
    let half = content.len() / 2;
    file.write_all(&content[..half]).map_err(io("writing", &temporary))?;
    death::may_come(&temporary)?;
    file.write_all(&content[half..]).and_then(|()| file.sync_all()).map_err(io("writing", &temporary))?;
    drop(file);
    death::may_come(path)?;
    fs::rename(&temporary, path).map_err(io("replacing", path))?;
    death::may_come(path)?;
    sync_folder(folder)
}

/// Renames, making the target's folder; the target must not exist unless it holds the same bytes.
///
/// # Errors
/// [`PkiError::InTheWay`] or [`PkiError::Io`].
pub(crate) fn relocate(from: &Path, to: &Path) -> Result<(), PkiError> {
    if to.exists() {
        let same = fs::read(from).map_err(io("reading", from))? == fs::read(to).map_err(io("reading", to))?;
        if !same {
            return Err(PkiError::InTheWay { path: to.to_owned(), what: Obstacle::Other });
        }
    }
    replace(from, to)
}

/// Renames over whatever is at the target, making the target's folder.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn replace(from: &Path, to: &Path) -> Result<(), PkiError> {
    let folder = folder_of(to);
    make_folder(folder)?;
    death::may_come(from)?;
    fs::rename(from, to).map_err(io("moving", from))?;
    death::may_come(from)?;
    sync_folder(folder)
}

/// Two folders change places in one step. False where the system cannot do that; nothing was changed then.
///
/// # Errors
/// [`PkiError::Io`].
#[cfg(target_os = "linux")]
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<bool, PkiError> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    death::may_come(one)?;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => return Ok(false),
        Err(error) => return Err(io("exchanging", one)(error.into())),
    }
    death::may_come(one)?;
    sync_folder(folder_of(one))?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn exchange(_one: &Path, _other: &Path) -> Result<bool, PkiError> {
    Ok(false)
}

/// Removes a file if it is there.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn remove(path: &Path) -> Result<(), PkiError> {
    death::may_come(path)?;
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PkiError::Io { act: "removing", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Makes a folder and its parents, mode 0700 as Easy-RSA's umask has it, of the owner of what they are in.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn make_folder(path: &Path) -> Result<(), PkiError> {
    if path.is_dir() {
        return Ok(());
    }
    death::may_come(path)?;
    let missing: Vec<&Path> =
        path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.is_dir()).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io("creating", path))?;
    for made in missing.into_iter().rev() {
        if let Ok(folder) = File::open(made) {
            owner::follow(&folder, folder_of(made));
        }
    }
    Ok(())
}

/// Waits for the folder's lock. Easy-RSA does not know it: the two are not to be used in the same second.
///
/// # Errors
/// [`PkiError::Io`].
pub(crate) fn lock(folder: &Path) -> Result<Lock, PkiError> {
    let path = folder.join(LOCK_NAME);
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.clone().create_new(true).open(&path);
    let file = match made {
        Ok(file) => {
            owner::follow(&file, folder);
            file
        }
        // It is there; who may not make it may not open it either.
        Err(_) => options.open(&path).map_err(io("opening", &path))?,
    };
    file.lock().map_err(io("locking", &path))?;
    Ok(Lock(file))
}

/// Turns an I/O error into ours.
pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::Io { act, path, source }
}

/// Whether a file name is one of ours that nobody needs to know: the lock, or a temporary.
pub(crate) fn is_own_trace(name: &str) -> bool {
    name == LOCK_NAME || (name.starts_with('.') && name.ends_with(TEMPORARY_END))
}

/// The folder a file is in; a bare file name is in the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

const TEMPORARY_END: &str = ".quoll-new";

pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY_END);
    path.with_file_name(name)
}

#[cfg(unix)]
fn mode_bits(path: &Path, mode: Mode) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    match mode {
        Mode::Private => 0o600,
        Mode::Public => 0o644,
        Mode::Keep => fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode() & 0o777),
    }
}

#[cfg(unix)]
pub(crate) fn create(temporary: &Path, path: &Path, mode: Mode) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let bits = mode_bits(path, mode);
    let file = File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
    owner::follow(&file, if path.exists() { path } else { folder_of(path) });
    // Said, not left to the umask; last, because a change of owner may take bits away.
    file.set_permissions(fs::Permissions::from_mode(bits))?;
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn create(temporary: &Path, _path: &Path, _mode: Mode) -> io::Result<File> {
    File::options().write(true).create_new(true).open(temporary)
}

#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<(), PkiError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("syncing", folder))
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> Result<(), PkiError> {
    Ok(())
}

/// Root at work in somebody's folder (`sudo quoll`, a container): what it makes there belongs to them, or neither they nor
/// their Easy-RSA could read the books any more.
#[cfg(unix)]
mod owner {
    use std::{
        fs::File,
        os::unix::fs::{MetadataExt, fchown},
        path::Path,
    };

    /// Gives an opened file the owner of `model`. Who is not root may not do that, and has no need to.
    pub(super) fn follow(made: &File, model: &Path) {
        let (Ok(model), Ok(own)) = (model.metadata(), made.metadata()) else { return };
        if model.uid() != own.uid() && own.uid() == 0 {
            fchown(made, Some(model.uid()), Some(model.gid())).ok();
        }
    }
}

#[cfg(not(unix))]
mod owner {
    use std::{fs::File, path::Path};

    pub(super) fn follow(_made: &File, _model: &Path) {}
}

/// Where the machine may die: before each change of the disk. Only the tests make it happen.
#[cfg(not(test))]
mod death {
    use super::{Path, PkiError};

    #[expect(clippy::unnecessary_wraps, reason = "the tests' twin fails")]
    pub(super) fn may_come(_path: &Path) -> Result<(), PkiError> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod death {
    use std::cell::Cell;

    use super::{Path, PkiError, io};

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// From the `count`th change on, nothing reaches the disk any more, as after a kill or a power cut.
    pub(crate) fn comes_after(count: usize) {
        LEFT.set(Some(count));
    }

    /// The machine is up again.
    pub(crate) fn is_over() {
        LEFT.set(None);
    }

    pub(super) fn may_come(path: &Path) -> Result<(), PkiError> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io("writing", path)(io::Error::other("the machine died"))),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_or_gets_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/file");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(temporary_name(&path), "leftover").unwrap();
        for (mode, bits) in
            [(Mode::Keep, 0o600), (Mode::Public, 0o644), (Mode::Keep, 0o644), (Mode::Private, 0o600)]
        {
            write(&path, b"content", mode).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, bits);
            }
        }
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary stays");
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        fs::write(&path, [0; 100]).unwrap();
        assert!(matches!(read(&path, 99), Err(PkiError::FileTooLarge { limit: 99, .. })));
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        assert!(read_if_there(&dir.path().join("none"), 1).unwrap().is_none());
    }

    #[test]
    fn a_different_file_is_never_moved_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        fs::write(at("a"), "1").unwrap();
        fs::write(at("b"), "2").unwrap();
        assert!(matches!(relocate(&at("a"), &at("b")), Err(PkiError::InTheWay { .. })));
        fs::write(at("b"), "1").unwrap();
        relocate(&at("a"), &at("b")).unwrap();
        assert!(!at("a").exists());
    }
}
