//! Where files come from, and when what they say is what somebody wanted to say.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

/// A file that was written to this lately may be half of what it will be: editors and scripts empty a file and then fill
/// it. Half a list of users or permissions is a whole one, for all that can be seen.
const SETTLED: Duration = Duration::from_millis(50);

/// The same for a file with nothing in it: hardly anybody means that, and who fills it may be slow.
const EMPTY_SETTLED: Duration = Duration::from_millis(500);

/// How often it is looked at before it is refused.
const LOOKS: u32 = 20;

/// Where files come from.
pub trait Files {
    /// A file's content; of one with more than `most` bytes its beginning, one byte longer than that.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>>;

    /// Names of the `*.conf` files of a folder, in any order.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The files of this machine, as they are.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

/// The files of this machine, for who has something in force already. One that is just being written is waited for, ten
/// seconds at most; then it is refused.
#[derive(Clone, Copy, Debug)]
pub struct SettledDisk;

impl Files for Disk {
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        read_once(path, most).map(|(content, _)| content)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if name.len() > ".conf".len() && name.as_encoded_bytes().ends_with(b".conf") {
                names.push(name.into());
            }
        }
        Ok(names)
    }
}

impl Files for SettledDisk {
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        settled(|| read_once(path, most), std::thread::sleep)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(folder)
    }
}

/// A file's content, and how long ago it was written to. Of what is no file, which can be read once, that is not asked.
fn read_once(path: &Path, most: usize) -> io::Result<(Vec<u8>, Option<Duration>)> {
    // A device or a log named by mistake has no end.
    let mut content = Vec::new();
    let file = fs::File::open(path)?;
    (&file).take(most as u64 + 1).read_to_end(&mut content)?;
    let facts = file.metadata().ok().filter(fs::Metadata::is_file);
    let written = facts.and_then(|facts| facts.modified().ok());
    Ok((content, written.and_then(|written| SystemTime::now().duration_since(written).ok())))
}

/// Reads until nobody has written for a while; at last, what says twice the same will do.
fn settled(
    mut read: impl FnMut() -> io::Result<(Vec<u8>, Option<Duration>)>,
    mut wait: impl FnMut(Duration),
) -> io::Result<Vec<u8>> {
    let (mut last, mut repeated) = (Vec::new(), false);
    for _ in 0..LOOKS {
        let (content, age) = read()?;
        let settled = if content.is_empty() { EMPTY_SETTLED } else { SETTLED };
        match age.and_then(|age| settled.checked_sub(age)) {
            Some(left) => wait(left),
            None => return Ok(content),
        }
        repeated = content == last;
        last = content;
    }
    if repeated && !last.is_empty() {
        return Ok(last);
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody writes to it all the time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_read_when_it_is_whole() {
        let now = Some(Duration::ZERO);
        let long_ago = Some(Duration::from_secs(1));
        type States<'a> = &'a [(&'a str, Option<Duration>)];
        let restless: Vec<String> = (0..LOOKS).map(|look| look.to_string()).collect();
        let restless: Vec<_> = restless.iter().map(|text| (text.as_str(), now)).collect();
        let cases: [(States<'_>, Option<&str>); 7] = [
            (&[("whole", long_ago)], Some("whole")),
            (
                &[("", now), ("ha", now), ("half", Some(SETTLED / 2)), ("whole", Some(SETTLED * 2))],
                Some("whole"),
            ),
            // A pipe, or a file of tomorrow.
            (&[("once", None)], Some("once")),
            // A file system that gives everything the time of now.
            (&[("same", now); LOOKS as usize], Some("same")),
            (&[("", now); LOOKS as usize], None),
            (&[("", now), ("", Some(EMPTY_SETTLED * 2))], Some("")),
            (&restless, None),
        ];
        for (states, taken) in cases {
            let (mut left, mut waited) = (states.iter(), Duration::ZERO);
            let read = || left.next().map(|(text, age)| (text.as_bytes().to_vec(), *age));
            let mut read = read;
            let content =
                settled(|| read().ok_or_else(|| io::ErrorKind::Other.into()), |time| waited += time);
            assert_eq!(content.ok(), taken.map(|text| text.as_bytes().to_vec()));
            assert!(left.next().is_none() && waited <= EMPTY_SETTLED * LOOKS);
        }
    }

    #[test]
    fn a_file_written_just_now_is_waited_for_and_an_old_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        fs::write(&path, "ann:x").unwrap();
        let (begun, written) = (std::time::Instant::now(), fs::metadata(&path).unwrap().modified().unwrap());
        assert_eq!(SettledDisk.read(&path, 3).unwrap(), b"ann:");
        assert!(SystemTime::now().duration_since(written).unwrap() >= SETTLED, "{:?}", begun.elapsed());
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(read_once(&path, 9).unwrap().1.map(|age| age >= Duration::from_secs(60)), Some(true));
    }
}
