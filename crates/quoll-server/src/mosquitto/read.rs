//! Reading: files become statements, each statement finds its owner.
//!
//! Knows which block is open; knows nothing of what values mean (see `global`, `listener`, `bridge`, `plugins`).

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complaint::{Complaint, Fault, Matter, Place, Remark};
use super::line::{Words, lines};
use super::listener::DEFAULT_PORT;
use super::options::{Answer, Opt, Repeat, Scope, canonical, find, nearest};
use super::said::{Said, Statement};
use super::value::{self, Value};
use super::{Files, bridge, listener, plugins};

/// Bytes of one file; the manual's full example has 40 kB.
const MAX_FILE: usize = 1 << 20;
/// Files of one `include_dir`.
const MAX_FILES: usize = 1000;
/// Complaints in all; more are read by nobody.
pub(super) const MAX_COMPLAINTS: usize = 100;

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) global: Said,
    pub(super) listeners: Vec<listener::Draft>,
    pub(super) bridges: Vec<bridge::Draft>,
    pub(super) plugins: Vec<plugins::Draft>,
    pub(super) per_listener: bool,
    /// Whether a `listener`, `port` or `bind_address` was there; without, this machine only.
    pub(super) public: bool,
    /// The listener that options without one belong to.
    default: Option<usize>,
    /// The first security option; `per_listener_settings true` may not come after it.
    first_security: Option<(&'static str, Place)>,
    pub(super) complaints: Vec<Complaint>,
}

/// The blocks that are open. Each file begins with none.
#[derive(Debug, Default)]
struct Open {
    listener: Option<usize>,
    bridge: Option<usize>,
    plugin: Option<usize>,
}

/// A line with a name that is known.
struct Found<'a> {
    option: &'static Opt,
    /// The name as written.
    written: &'a str,
    /// What stands in the place of `*`.
    key: Option<&'a str>,
    place: Place,
}

impl Draft {
    /// Reads the main file and what it includes.
    pub(super) fn read(path: &Path, files: &dyn Files) -> Self {
        let mut draft = Self::default();
        draft.file(path, files, true);
        draft
    }

    fn file(&mut self, path: &Path, files: &dyn Files, main: bool) {
        let file: Arc<Path> = path.into();
        let place = |line, column| Place { file: file.clone(), line, column };
        let content = match files.read(path, MAX_FILE) {
            Ok(content) if content.len() > MAX_FILE => {
                return self.fault(place(1, 1), Fault::TooLarge { limit: MAX_FILE });
            }
            Ok(content) => Zeroizing::new(content),
            Err(error) => {
                let (path, reason) = (path.to_owned(), error.to_string());
                return self.fault(place(1, 1), Fault::Unreadable { path, reason });
            }
        };
        let mut open = Open::default();
        for (number, line) in lines(&content) {
            if self.complaints.len() >= MAX_COMPLAINTS {
                return self.fault(place(number, 1), Fault::TooMany { count: self.complaints.len() });
            }
            match line {
                Ok(line) => self.line(line, |column| place(number, column), &mut open, files, main),
                Err(fault) => self.fault(place(number, 1), fault),
            }
        }
    }

    fn line(
        &mut self,
        line: &str,
        place: impl Fn(u32) -> Place,
        open: &mut Open,
        files: &dyn Files,
        main: bool,
    ) {
        let mut words = Words::new(line);
        let Some(name) = words.word() else { return };
        let Some((option, key)) = find(name.text) else {
            let fault = Fault::Unknown { name: name.text.to_owned(), nearest: nearest(name.text) };
            return self.fault(place(name.column), fault);
        };
        // Once true it stays true, whatever else is said.
        if option.name == "per_listener_settings" && self.per_listener {
            return;
        }
        let mut remarks = Vec::new();
        let value = value::read(option, name.text, &mut words, &mut remarks);
        for (column, remark) in remarks {
            self.remark(place(column), remark);
        }
        let found = Found { option, written: name.text, key, place: place(name.column) };
        match value {
            Ok(Value::Text(folder)) if option.name == "include_dir" => {
                if main {
                    self.include(Path::new(&folder), found.place, files);
                } else {
                    self.fault(found.place, Fault::NestedInclude);
                }
            }
            Ok(value) => self.statement(&found, value, open),
            Err((column, fault)) => {
                self.fault(place(column), fault);
                // So that the lines below do not all complain of a missing block.
                self.open_block(&found, None, open);
            }
        }
    }

    fn include(&mut self, folder: &Path, place: Place, files: &dyn Files) {
        match files.list(folder) {
            Ok(mut names) => {
                names.sort_by_cached_key(|name| include_order(name));
                names.truncate(MAX_FILES);
                for name in names {
                    self.file(&folder.join(name), files, false);
                }
            }
            Err(error) => {
                let (path, reason) = (folder.to_owned(), error.to_string());
                self.fault(place, Fault::Unreadable { path, reason });
            }
        }
    }

    fn statement(&mut self, found: &Found<'_>, value: Value, open: &mut Open) {
        let option = found.option;
        let Some(owner) = self.owner(found, open) else { return };
        match answer(option, &value) {
            Answer::Refused(why) => {
                return self.fault(found.place.clone(), Fault::Refused { option: option.name, why });
            }
            Answer::Ignored(why) => {
                let option = option.name.to_owned();
                return self.remark(found.place.clone(), Remark::Ignored { option, why });
            }
            _ => {}
        }
        if let Value::LogDestination(None) = value {
            let (option, why) = (option.name.to_owned(), "there is no such destination here");
            return self.remark(found.place.clone(), Remark::Ignored { option, why });
        }
        match (option.name, value) {
            ("per_listener_settings", Value::Flag(on)) => self.per_listener_settings(on, &found.place),
            ("listener" | "connection", value) => self.open_block(found, Some(value), open),
            ("plugin" | "auth_plugin" | "global_plugin", Value::Text(path)) => {
                let listener = if option.name == "global_plugin" { None } else { owner };
                self.plugin(found, None, path.as_ref(), listener.is_none(), listener, open);
            }
            ("plugin_load", Value::NameAndPath(name, path)) => {
                let same = |plugin: &&plugins::Draft| plugin.name.as_deref() == Some(&name);
                if let Some(first) = self.plugins.iter().find(same).map(|plugin| plugin.place.clone()) {
                    return self.fault(found.place.clone(), Fault::NotUnique { what: "plugin", name, first });
                }
                self.plugin(found, Some(name), &path, false, None, open);
            }
            ("plugin_use", Value::Text(name)) => {
                let index = self.plugins.iter().position(|plugin| plugin.name.as_deref() == Some(&name));
                let Some(index) = index else {
                    return self.fault(found.place.clone(), Fault::NoSuchPlugin { name });
                };
                self.plugins[index].listeners.extend(owner);
                open.plugin = Some(index);
            }
            ("plugin_opt_*", Value::Text(value)) => {
                let key = found.key.unwrap_or_default().to_owned();
                if key.is_empty() {
                    let fault = Fault::Empty { option: found.written.to_owned() };
                    return self.fault(found.place.clone(), fault);
                }
                if let Some(plugin) = open.plugin.map(|index| &mut self.plugins[index]) {
                    plugin.options.push((key, found.place.clone(), value));
                }
            }
            ("auth_plugin_deny_special_chars", Value::Flag(deny)) => {
                if let Some(plugin) = open.plugin.map(|index| &mut self.plugins[index]) {
                    plugin.deny_special_characters = deny;
                }
            }
            (_, value) => self.keep(found, value, owner, open),
        }
    }

    /// Who an option belongs to: a listener, or (`None`) the broker. The outer `None` after a fault.
    #[expect(clippy::option_option, reason = "a fault, the broker, a listener")]
    fn owner(&mut self, found: &Found<'_>, open: &mut Open) -> Option<Option<usize>> {
        let option = found.option;
        match option.scope {
            Scope::Global => Some(None),
            Scope::Security => {
                if self.per_listener && open.listener.is_none() && option.name != "global_plugin" {
                    return self.refuse(found, Fault::NeedsListener { option: option.name });
                }
                if self.first_security.is_none() {
                    self.first_security = Some((option.name, found.place.clone()));
                }
                Some(open.listener.filter(|_| self.per_listener))
            }
            Scope::DefaultListener => {
                self.public = true;
                open.listener = Some(self.default_listener(found));
                Some(open.listener)
            }
            Scope::AnyListener => {
                if open.listener.is_none() {
                    open.listener = Some(self.default_listener(found));
                }
                Some(open.listener)
            }
            Scope::Listener | Scope::NamedListener => {
                let usable = open
                    .listener
                    .filter(|listener| option.scope == Scope::Listener || Some(*listener) != self.default);
                match usable {
                    Some(listener) => Some(Some(listener)),
                    None => self.refuse(found, Fault::NeedsListener { option: option.name }),
                }
            }
            Scope::Bridge if open.bridge.is_none() => {
                self.refuse(found, Fault::NeedsBridge { option: option.name })
            }
            Scope::Plugin if open.plugin.is_none() => {
                self.refuse(found, Fault::NeedsPlugin { option: found.written.to_owned() })
            }
            Scope::Bridge | Scope::Plugin => Some(None),
        }
    }

    fn refuse<T>(&mut self, found: &Found<'_>, fault: Fault) -> Option<T> {
        self.fault(found.place.clone(), fault);
        None
    }

    fn default_listener(&mut self, found: &Found<'_>) -> usize {
        if let Some(index) = self.default {
            return index;
        }
        if found.option.scope != Scope::DefaultListener {
            self.remark(found.place.clone(), Remark::DefaultListener { option: found.option.name });
        }
        let place = found.place.clone();
        self.listeners.push(listener::Draft { place, port: DEFAULT_PORT, host: None, said: Said::default() });
        self.default = Some(self.listeners.len() - 1);
        self.listeners.len() - 1
    }

    /// Opens the block of a `listener` or `connection`; without a value, one that stands in for a faulty line.
    fn open_block(&mut self, found: &Found<'_>, value: Option<Value>, open: &mut Open) {
        let place = found.place.clone();
        match (found.option.name, value) {
            ("listener", value) => {
                self.public = true;
                let (port, host) = match value {
                    Some(Value::Listener(port, host)) => (port, host),
                    _ => (DEFAULT_PORT, None),
                };
                self.listeners.push(listener::Draft { place, port, host, said: Said::default() });
                open.listener = Some(self.listeners.len() - 1);
            }
            ("connection", value) => {
                let name = match value {
                    Some(Value::Text(name)) => name,
                    _ => String::new(),
                };
                let same = self.bridges.iter().find(|bridge| bridge.name == name);
                if let Some(first) = same.map(|bridge| bridge.place.clone()) {
                    let name = name.clone();
                    self.fault(place.clone(), Fault::NotUnique { what: "connection", name, first });
                }
                self.bridges.push(bridge::Draft { place, name, said: Said::default() });
                open.bridge = Some(self.bridges.len() - 1);
            }
            _ => {}
        }
    }

    fn per_listener_settings(&mut self, on: bool, place: &Place) {
        if let (true, Some((option, first))) = (on, self.first_security.clone()) {
            return self.fault(place.clone(), Fault::PerListenerTooLate { option, first });
        }
        self.per_listener = on;
    }

    fn plugin(
        &mut self,
        found: &Found<'_>,
        name: Option<String>,
        path: &Path,
        global: bool,
        listener: Option<usize>,
        open: &mut Open,
    ) {
        self.plugins.push(plugins::Draft {
            place: found.place.clone(),
            name,
            path: path.to_owned(),
            options: Vec::new(),
            deny_special_characters: true,
            listeners: listener.into_iter().collect(),
            global,
        });
        open.plugin = Some(self.plugins.len() - 1);
    }

    /// Puts a value among those of its owner.
    fn keep(&mut self, found: &Found<'_>, value: Value, owner: Option<usize>, open: &Open) {
        let (option, place) = (found.option, found.place.clone());
        let name = canonical(option.name);
        let said = match (option.scope, open.bridge, owner) {
            (Scope::Bridge, Some(bridge), _) => &mut self.bridges[bridge].said,
            (_, _, Some(listener)) => &mut self.listeners[listener].said,
            _ => &mut self.global,
        };
        let first = said.place(name).cloned();
        let statement = Statement { place: place.clone(), value };
        match (option.repeat, first) {
            (Repeat::Many, _) | (_, None) => said.add(name, statement),
            (Repeat::Last, Some(first)) => {
                said.put(name, statement);
                self.remark(place, Remark::Again { option: option.name, first });
            }
            (Repeat::Once, Some(first)) => self.fault(place, Fault::Duplicate { option: option.name, first }),
        }
    }

    pub(super) fn fault(&mut self, place: Place, fault: Fault) {
        self.complaints.push(Complaint { place, matter: Matter::Fault(fault) });
    }

    fn remark(&mut self, place: Place, remark: Remark) {
        self.complaints.push(Complaint { place, matter: Matter::Remark(remark) });
    }
}

/// What the table says about this value.
fn answer(option: &'static Opt, value: &Value) -> Answer {
    let is = |wanted: &str| match value {
        Value::Flag(flag) => wanted == if *flag { "true" } else { "false" },
        Value::Word(word) => wanted == *word,
        _ => false,
    };
    match option.answer {
        Answer::IgnoredIf(wanted, why) if is(wanted) => Answer::Ignored(why),
        Answer::RefusedIf(wanted, why) if is(wanted) => Answer::Refused(why),
        Answer::IgnoredIf(..) | Answer::RefusedIf(..) => Answer::Read,
        answer => answer,
    }
}

/// Mosquitto's order of the files of a folder: letter by letter as capitals; at the first letter that differs only in its
/// case, the capital comes first.
pub(super) fn include_order(name: &Path) -> Vec<(u8, u8)> {
    name.as_os_str().as_encoded_bytes().iter().map(|byte| (byte.to_ascii_uppercase(), *byte)).collect()
}
