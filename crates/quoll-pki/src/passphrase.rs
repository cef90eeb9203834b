//! A passphrase: wiped on drop, never shown. What it is not: a policy on how good it must be.

use std::{fmt, path::Path};

use zeroize::Zeroizing;

use crate::{
    error::PkiError,
    limits::{PASSPHRASE_MAX, PASSPHRASE_MIN},
    store::files,
};

/// What opens an encrypted key. Its bytes go to the key derivation as they are (UTF-8), as OpenSSL does.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes `text` as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A fresh one, for somebody who keeps it in a file: 25 characters that cannot be mistaken for each other, 125 bits.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] when the system gives no entropy.
    pub fn generate() -> Result<Self, PkiError> {
        const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789A";
        let mut drawn = Zeroizing::new([0_u8; 25]);
        crate::random::fill(&mut *drawn)?;
        let mut text = Zeroizing::new(String::with_capacity(29));
        for (place, octet) in drawn.iter().enumerate() {
            if place > 0 && place % 5 == 0 {
                text.push('-');
            }
            text.push(char::from(LETTERS[usize::from(octet % 32)]));
        }
        Ok(Self(text))
    }

    /// The first line of a file, without its line end.
    ///
    /// # Errors
    /// Not readable, not UTF-8, empty, or readable by group or others (Unix).
    pub fn from_file(path: &Path) -> Result<Self, PkiError> {
        refuse_open_file(path)?;
        let bytes = Zeroizing::new(files::read(path, 64 * 1024)?);
        let bad = |problem: &str| PkiError::BadFile { path: path.to_owned(), problem: problem.into() };
        let text = std::str::from_utf8(&bytes).map_err(|_| bad("the passphrase is not UTF-8"))?;
        if text.starts_with('\u{feff}') {
            // OpenSSL would take the mark for a part of it, and nobody could type it.
            return Err(bad("it begins with a byte order mark; save it as UTF-8 without one"));
        }
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
            _ => Err(bad("its first line, the passphrase, is empty")),
        }
    }

    /// The bytes that go to the key derivation.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Refuses, before a key is encrypted with it, what OpenSSL could not be given later.
    ///
    /// # Errors
    /// [`PkiError::UnusablePassphrase`].
    pub(crate) fn check_for_new_key(&self) -> Result<(), PkiError> {
        let usable =
            (PASSPHRASE_MIN..=PASSPHRASE_MAX).contains(&self.0.len()) && !self.0.contains(['\n', '\r', '\0']);
        if usable { Ok(()) } else { Err(PkiError::UnusablePassphrase) }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(unix)]
fn refuse_open_file(path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).map_err(files::io("reading", path))?;
    let mode = meta.permissions().mode() & 0o777;
    // Pipes (`<(pass show ca)`) have no meaningful mode.
    if meta.is_file() && mode & 0o077 != 0 {
        return Err(PkiError::OpenPassphraseFile { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_file(_path: &Path) -> Result<(), PkiError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_passphrase_file_is_its_first_line_and_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(&path, "a $ecret, wörd\r\nsecond line\n").unwrap();
        mode(0o600);
        assert_eq!(Passphrase::from_file(&path).unwrap().as_bytes(), "a $ecret, wörd".as_bytes());
        mode(0o640);
        let error = Passphrase::from_file(&path).unwrap_err();
        assert!(matches!(error, PkiError::OpenPassphraseFile { mode: 0o640, .. }));
        assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", path.display()));
        std::fs::write(&path, "\u{feff}secret\r\n").unwrap();
        mode(0o600);
        assert!(Passphrase::from_file(&path).unwrap_err().to_string().contains("byte order mark"));
        std::fs::write(&path, "\nsecond").unwrap();
        assert!(Passphrase::from_file(&path).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn it_is_never_shown() {
        assert_eq!(format!("{:?}", Passphrase::new("hush")), "Passphrase(..)");
    }
}
