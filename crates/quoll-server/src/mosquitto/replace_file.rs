//! A file of secrets in place of another, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use aws_lc_rs::rand;

/// Writes a file: to a temporary one beside it, which then takes its place. Readable by its owner alone; an existing file
/// keeps owner, group and the group's right to read where that may be done, so that a broker that runs as another account
/// still can.
///
/// # Errors
/// Where it cannot be written; the file is then as it was.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link goes on to be one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut noise = [0; 8];
    rand::fill(&mut noise).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary =
        path.with_file_name(format!(".{}.{:016x}", name.to_string_lossy(), u64::from_le_bytes(noise)));
    let written = write_new(&temporary, path, content).and_then(|()| fs::rename(&temporary, path));
    if let Err(reason) = written {
        // Best effort: the error to tell is the first.
        let _ = fs::remove_file(&temporary);
        return Err(reason);
    }
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all())
}

#[cfg(unix)]
fn write_new(temporary: &Path, old: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    if let Ok(before) = fs::metadata(old) {
        let now = file.metadata()?;
        let same = (before.uid(), before.gid()) == (now.uid(), now.gid());
        let kept = same || fchown(&file, Some(before.uid()), Some(before.gid())).is_ok();
        // To whom a file cannot be given its group may mean somebody else.
        let mode = if kept { 0o600 | (before.mode() & 0o040) } else { 0o600 };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(not(unix))]
fn write_new(temporary: &Path, _old: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    file.write_all(content)?;
    file.sync_all()
}
