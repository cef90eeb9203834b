//! Plugins: Quoll loads none. Those of Mosquitto that read a file are known by their file name, and the file is read here.

use std::path::{Path, PathBuf};

use super::complaint::{Complaint, Fault, Matter, Place, Remark};

/// A plugin of Mosquitto's that is known here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plugin {
    /// Its line.
    pub place: Place,
    /// What it does.
    pub kind: PluginKind,
    /// Whether user names and client ids with `+` or `#` are refused everything (`auth_plugin_deny_special_chars`). The files
    /// that are read here are decided so in any case, where the names go into topics.
    pub deny_special_characters: bool,
    /// The listeners that it serves, by their place among them; all if empty.
    pub listeners: Vec<usize>,
}

impl Plugin {
    /// Whether it serves this listener; `None` for one that nobody configured.
    pub(super) fn serves(&self, listener: Option<usize>) -> bool {
        self.listeners.is_empty() || listener.is_some_and(|index| self.listeners.contains(&index))
    }
}

/// What a plugin does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PluginKind {
    /// Clients, groups and roles in a JSON file, changed by commands.
    DynamicSecurity(DynamicSecurityFile),
    /// As `password_file` (`plugin_opt_password_file`).
    PasswordFile(PathBuf),
    /// As `acl_file` (`plugin_opt_acl_file`).
    AclFile(PathBuf),
}

/// The file of the dynamic security plugin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DynamicSecurityFile {
    /// Clients, groups and roles (`plugin_opt_config_file`). Where it is not there it is made.
    pub path: PathBuf,
    /// The administrator's first password for that (`plugin_opt_password_init_file`).
    pub password_init: Option<PathBuf>,
}

/// A kind of plugin: its file names, the option for its file, further options that it knows.
struct Known {
    names: &'static [&'static str],
    file: &'static str,
    other: &'static [&'static str],
    kind: fn(PathBuf, &Draft) -> PluginKind,
}

const KNOWN: &[Known] = &[
    Known {
        names: &["mosquitto_dynamic_security"],
        file: "config_file",
        other: &["password_init_file"],
        kind: |path, draft| {
            let password_init = draft.option("password_init_file").map(PathBuf::from);
            PluginKind::DynamicSecurity(DynamicSecurityFile { path, password_init })
        },
    },
    Known {
        names: &["mosquitto_password_file"],
        file: "password_file",
        other: &[],
        kind: |path, _| PluginKind::PasswordFile(path),
    },
    Known {
        names: &["mosquitto_acl_file"],
        file: "acl_file",
        other: &[],
        kind: |path, _| PluginKind::AclFile(path),
    },
];

/// What to do instead of a plugin, by a part of its file name.
const ADVICE: &[(&str, &str)] = &[
    ("persist_sqlite", "leave it out, Quoll's journal keeps each change by itself"),
    ("sparkplug_aware", "leave it out; Sparkplug's birth and death certificates are not kept here"),
    ("go-auth", "move its users to a password_file and its rules to an acl_file"),
    (
        "auth",
        "move its users to a password_file, or give the clients certificates, and its rules to an acl_file",
    ),
];

/// A plugin as read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    /// The name given by `plugin_load`.
    pub(super) name: Option<String>,
    pub(super) path: PathBuf,
    /// Keys and values of `plugin_opt_*`.
    pub(super) options: Vec<(String, Place, String)>,
    pub(super) deny_special_characters: bool,
    /// Listeners that it serves.
    pub(super) listeners: Vec<usize>,
    /// Whether it serves all.
    pub(super) global: bool,
}

impl Draft {
    /// The plugin as understood; `None` after a fault, and where nothing uses it.
    pub(super) fn understand(&self, complaints: &mut Vec<Complaint>) -> Option<Plugin> {
        let Some(known) = known(&self.path) else {
            let name = file_name(&self.path);
            let advice = ADVICE.iter().find(|(part, _)| name.contains(part)).map_or(
                "leave it out if nothing is lost, or use a password_file and an acl_file",
                |(_, advice)| advice,
            );
            self.fault(Fault::ForeignPlugin { name, advice }, complaints);
            return None;
        };
        for (key, place, _) in &self.options {
            if key != known.file && !known.other.contains(&key.as_str()) {
                let option = format!("plugin_opt_{key}");
                let matter =
                    Matter::Remark(Remark::Ignored { option, why: "this plugin has no such option" });
                complaints.push(Complaint { place: place.clone(), matter });
            }
        }
        let Some(file) = self.option(known.file) else {
            let option = match known.file {
                "config_file" => "plugin_opt_config_file",
                "password_file" => "plugin_opt_password_file",
                _ => "plugin_opt_acl_file",
            };
            self.fault(
                Fault::Missing { what: format!("plugin {:?}", file_name(&self.path)), option },
                complaints,
            );
            return None;
        };
        if !self.global && self.listeners.is_empty() {
            let matter = Matter::Remark(Remark::Note("this plugin is loaded, and no plugin_use names it"));
            complaints.push(Complaint { place: self.place.clone(), matter });
            return None;
        }
        Some(Plugin {
            place: self.place.clone(),
            kind: (known.kind)(file.into(), self),
            deny_special_characters: self.deny_special_characters,
            listeners: if self.global { Vec::new() } else { self.listeners.clone() },
        })
    }

    /// The last value that was given for this key.
    fn option(&self, wanted: &str) -> Option<&str> {
        self.options.iter().rfind(|(key, _, _)| key == wanted).map(|(_, _, value)| value.as_str())
    }

    fn fault(&self, fault: Fault, complaints: &mut Vec<Complaint>) {
        complaints.push(Complaint { place: self.place.clone(), matter: Matter::Fault(fault) });
    }
}

fn known(path: &Path) -> Option<&'static Known> {
    let name = file_name(path);
    let stem = name.strip_suffix(".so").or_else(|| name.strip_suffix(".dll")).unwrap_or(&name);
    KNOWN.iter().find(|known| known.names.contains(&stem))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
