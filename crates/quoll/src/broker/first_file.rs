//! The file of dynamic security where there is none yet: an administrator and usual roles, as Mosquitto 2.1 makes them.

use std::path::{Path, PathBuf};

use quoll_server::mosquitto::Configuration;
use quoll_server::mosquitto::dynamic_security::initial::{FirstPassword, make};
use quoll_server::mosquitto::plugins::DynamicSecurityFile;
use quoll_server::mosquitto::replace_file;
use zeroize::Zeroizing;

/// The environment's password for the administrator.
const PASSWORD: &str = "MOSQUITTO_DYNSEC_PASSWORD";
/// Bytes of a file with a password; more is a wrong path.
const MAX_PASSWORD: u64 = 4096;

/// Makes the files that are not there; what is to be said of it, or why it cannot be done.
pub(super) fn make_missing(configuration: &Configuration) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    for listener in &configuration.listeners {
        for file in &listener.security.dynamic_security {
            // What cannot be looked for cannot be read either, and that is told by who reads it.
            if !file.path.try_exists().unwrap_or(true) {
                said.push(make_one(file)?);
            }
        }
    }
    Ok(said)
}

fn make_one(file: &DynamicSecurityFile) -> Result<String, String> {
    let path = file.path.display();
    let fault = |what: &dyn std::fmt::Display| format!("cannot make {path}: {what}");
    let (first, whence) = first_password(file).map_err(|what| fault(&what))?;
    let initial = make(first).map_err(|error| fault(&error))?;
    if let Some(passwords) = &initial.passwords {
        replace_file(&beside(&file.path), passwords.as_bytes()).map_err(|error| fault(&error))?;
    }
    replace_file(&file.path, initial.security.to_json().as_bytes()).map_err(|error| fault(&error))?;
    Ok(format!("Dynamic security plugin config not found, generating a default config: {path}. {whence}"))
}

fn first_password(file: &DynamicSecurityFile) -> Result<(FirstPassword, String), String> {
    if let Some(path) = &file.password_init {
        let content = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let whence = format!("Using admin password from file '{}'.", path.display());
        return Ok((FirstPassword::File(content), whence));
    }
    match std::env::var(PASSWORD) {
        Ok(password) => Ok((
            FirstPassword::Environment(Zeroizing::new(password)),
            format!("Using admin password from {PASSWORD} environment variable."),
        )),
        Err(_) => {
            let passwords = beside(&file.path);
            Ok((FirstPassword::MadeUp, format!("Generated passwords are at {}.", passwords.display())))
        }
    }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    use std::io::Read as _;
    let mut content = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(MAX_PASSWORD).read_to_string(&mut content)?;
    Ok(content)
}

/// Where passwords that were made up are told.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pw");
    name.into()
}
