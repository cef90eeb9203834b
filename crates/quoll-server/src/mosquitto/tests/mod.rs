//! Tests of the drop-in: by tables, by chance, and side by side with Debian's Mosquitto.

mod acl;
mod configuration;
mod counterpart;
mod door;
mod dynamic_security;
mod dynamic_security_commands;
mod faults;
mod garbage;
mod passwords;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Complaint, Configuration, Files, Surroundings};

/// Files that are only texts.
#[derive(Default)]
struct Texts(BTreeMap<PathBuf, Vec<u8>>);

impl Texts {
    fn with(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.0.insert(path.into(), text.as_ref().to_owned());
        self
    }

    fn read(&self) -> Result<Configuration, Vec<Complaint>> {
        let surroundings = Surroundings { host_name: "hub".into(), persistence_location: None };
        super::read(Path::new("m.conf"), self, &surroundings)
    }
}

impl Files for Texts {
    fn read(&self, path: &Path, _most: usize) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.0.keys().filter(|path| path.parent() == Some(folder));
        let names: Vec<PathBuf> = names.filter_map(|path| path.file_name()).map(PathBuf::from).collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }
}

fn read(text: impl AsRef<[u8]>) -> Result<Configuration, Vec<Complaint>> {
    Texts::default().with("m.conf", text).read()
}

/// A configuration without faults.
fn good(text: &str) -> Configuration {
    read(text).unwrap_or_else(|complaints| panic!("{text}\n{}", told(&complaints).join("\n")))
}

fn told(complaints: &[Complaint]) -> Vec<String> {
    complaints.iter().map(ToString::to_string).collect()
}
