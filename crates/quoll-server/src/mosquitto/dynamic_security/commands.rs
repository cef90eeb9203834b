//! Commands on `$CONTROL/dynamic-security/v1`, and their answers, in the words of the plugin of Mosquitto 2.1.
//!
//! A message holds commands, each is obeyed or answered with an error and changes nothing then; the next ones are looked at all
//! the same, but for those behind something that is no command. As in the plugin names of commands and fields are taken
//! in any letter case.
//!
//! Differences, all where the plugin's own is a fault: a command that fails ends nobody's connection; a role that came
//! with `createClient` or `createGroup` is taken away with the role, and its changes reach who has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::control_request::{self, Request, field};
use super::model::{Model, NO_PRIORITY, Names, bounded};
use super::{DynamicSecurity, clients, defaults, groups, roles};

/// Bytes of a text in a command, the plugin's limit for names and topics.
const MAX_TEXT: usize = 65_536;

/// Commands whose answers tell who is connected.
const TELL_CONNECTIONS: &[&str] = &["getClient", "listClients"];

/// Who is connected, for the answers that tell: address and client id by user name.
pub type Connections = BTreeMap<Arc<str>, Vec<(Arc<str>, String)>>;

/// Who says it, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Admin<'a> {
    /// Client id.
    pub client_id: &'a str,
    /// User name; empty without one.
    pub username: &'a str,
}

/// What became of a request.
#[derive(Debug)]
pub struct Obeyed {
    /// What holds from now on; `None` where nothing changed.
    pub changed: Option<DynamicSecurity>,
    /// The answer's payload.
    pub response: Value,
    /// Whose connections are to be ended, as the plugin does it; `None` stands for clients without user name.
    pub kicked: BTreeSet<Option<Arc<str>>>,
    /// Whose permissions may be others now: the above and these.
    pub touched: BTreeSet<Option<Arc<str>>>,
    /// Whether everybody's may be.
    pub everybody: bool,
    /// Lines for the log.
    pub log: Vec<String>,
}

/// Whether the answer tells who is connected.
#[must_use]
pub fn asks_for_connections(request: &Request) -> bool {
    request.has_any(TELL_CONNECTIONS)
}

impl DynamicSecurity {
    /// Obeys a request. Hashes passwords, which takes some ten milliseconds each: call it where that blocks nobody.
    #[must_use]
    pub fn obey(&self, request: &Request, admin: Admin<'_>, connections: &Connections) -> Obeyed {
        let mut work = Work::new(self.model.clone(), admin, connections);
        let response = request.answer(usize::MAX, |name, fields| work.obey(name, fields));
        let Work { model, kicked, touched, everybody, changed, log, .. } = work;
        Obeyed {
            changed: changed.then(|| Self { model, warnings: Vec::new() }),
            response,
            kicked,
            touched,
            everybody,
            log,
        }
    }
}

impl Obeyed {
    /// The answer where what was changed could not be saved, so that all is as it was.
    #[must_use]
    pub fn unsaved(&self) -> Value {
        let mut response = self.response.clone();
        for answer in response["responses"].as_array_mut().into_iter().flatten() {
            // What only asked has its answer.
            if let Some(fields) = answer.as_object_mut().filter(|it| !it.contains_key("data")) {
                fields.entry("error").or_insert_with(|| "Internal error".into());
            }
        }
        response
    }
}

/// What a command is answered with; an error is in the plugin's words.
pub(super) type Answer = Result<Reply, &'static str>;

/// The answer to a command that was obeyed.
#[derive(Debug)]
pub(super) enum Reply {
    /// Something was changed, and this is the plugin's line for the log about it, without its head.
    Changed(String),
    /// Something was asked: the answer's data, and the command's proper name.
    Data(&'static str, Value),
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    fields: &'a Map<String, Value>,
}

/// Commands under way, on a copy of what is in force.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) model: Model,
    pub(super) connections: &'a Connections,
    admin: Admin<'a>,
    kicked: BTreeSet<Option<Arc<str>>>,
    touched: BTreeSet<Option<Arc<str>>>,
    pub(super) everybody: bool,
    changed: bool,
    log: Vec<String>,
}

/// A command's name, and who obeys it.
type Verb = (&'static str, fn(&mut Work<'_>, Command<'_>) -> Answer);

/// The verbs by name.
const VERBS: &[Verb] = &[
    ("setDefaultACLAccess", defaults::set),
    ("getDefaultACLAccess", |work, _| defaults::get(work)),
    ("getDetails", |work, _| defaults::details(work)),
    ("createClient", clients::create),
    ("deleteClient", clients::delete),
    ("getClient", |work, command| clients::get(work, command)),
    ("listClients", |work, command| clients::list(work, command)),
    ("modifyClient", clients::modify),
    ("setClientPassword", clients::set_password),
    ("setClientId", clients::set_id),
    ("addClientRole", clients::add_role),
    ("removeClientRole", clients::remove_role),
    ("enableClient", clients::enable),
    ("disableClient", clients::disable),
    ("addGroupClient", groups::add_client),
    ("createGroup", groups::create),
    ("deleteGroup", groups::delete),
    ("getGroup", |work, command| groups::get(work, command)),
    ("listGroups", |work, command| groups::list(work, command)),
    ("modifyGroup", groups::modify),
    ("removeGroupClient", groups::remove_client),
    ("addGroupRole", groups::add_role),
    ("removeGroupRole", groups::remove_role),
    ("setAnonymousGroup", groups::set_anonymous),
    ("getAnonymousGroup", |work, _| groups::get_anonymous(work)),
    ("createRole", roles::create),
    ("getRole", |work, command| roles::get(work, command)),
    ("listRoles", |work, command| roles::list(work, command)),
    ("modifyRole", roles::modify),
    ("deleteRole", roles::delete),
    ("addRoleACL", roles::add_rule),
    ("removeRoleACL", roles::remove_rule),
];

impl<'a> Work<'a> {
    fn new(model: Model, admin: Admin<'a>, connections: &'a Connections) -> Self {
        let (kicked, touched, log) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { model, connections, admin, kicked, touched, everybody: false, changed: false, log }
    }

    fn obey<'c>(&mut self, name: &str, fields: &'c Map<String, Value>) -> control_request::Answer<'c> {
        let known = VERBS.iter().find(|(verb, _)| verb.eq_ignore_ascii_case(name));
        let (verb, obey) = known.ok_or("Unknown command")?;
        match obey(self, Command { fields })? {
            Reply::Changed(line) => {
                self.changed = true;
                self.model.change_index = self.model.change_index.saturating_add(1);
                self.note(verb, &line);
                Ok(None)
            }
            Reply::Data(name, data) => Ok(Some((name, data))),
        }
    }

    fn note(&mut self, verb: &str, line: &str) {
        let Admin { client_id, username } = self.admin;
        let username = if username.is_empty() { "(null)" } else { username };
        self.log.push(format!("dynsec: {client_id}/{username} | {verb}{line}"));
    }

    /// Ends a user's connections, as whose permissions are others now.
    pub(super) fn kick(&mut self, username: &str) {
        self.kicked.insert(Some(username.into()));
    }

    pub(super) fn kick_anonymous(&mut self) {
        self.kicked.insert(None);
    }

    /// A user's permissions may be others now, and the plugin ends no connection for it.
    pub(super) fn touch(&mut self, username: &str) {
        self.touched.insert(Some(username.into()));
    }

    /// Ends the connections of a group's members.
    pub(super) fn kick_group(&mut self, group: &str) {
        let Some(members) = self.model.groups.get(group) else { return };
        let members: Vec<Arc<str>> = members.clients.keys().cloned().collect();
        self.kicked.extend(members.into_iter().map(Some));
        if self.model.anonymous_group.as_deref() == Some(group) {
            self.kick_anonymous();
        }
    }

    /// Ends the connections of all who have a role, by themselves or by a group.
    pub(super) fn kick_role(&mut self, role: &str) {
        let clients = self.model.clients.iter().filter(|(_, client)| client.roles.has(role));
        let clients: Vec<Arc<str>> = clients.map(|(name, _)| Arc::clone(name)).collect();
        self.kicked.extend(clients.into_iter().map(Some));
        let groups = self.model.groups.iter().filter(|(_, group)| group.roles.has(role));
        let groups: Vec<Arc<str>> = groups.map(|(name, _)| Arc::clone(name)).collect();
        groups.iter().for_each(|group| self.kick_group(group));
    }

    /// The `roles` of a command: known ones, with their priorities. `None` where it has none.
    pub(super) fn roles_of(&self, command: Command<'_>) -> Result<Option<Names>, &'static str> {
        let malformed = "'roles' not an array or missing/invalid rolename";
        let Some(roles) = command.value("roles") else { return Ok(None) };
        let roles = roles.as_array().ok_or(malformed)?;
        let mut names = Names::default();
        for role in roles {
            let role = role.as_object().map(|fields| Command { fields }).ok_or(malformed)?;
            let name = role.text("rolename", malformed)?;
            let (name, _) = self.model.roles.get_key_value(name).ok_or("Role not found")?;
            names.add(name, role.priority(NO_PRIORITY));
        }
        Ok(Some(names))
    }
}

impl<'a> Command<'a> {
    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        field(self.fields, name)
    }

    /// A text, or this error.
    pub(super) fn text(self, name: &str, error: &'static str) -> Result<&'a str, &'static str> {
        self.value(name).and_then(Value::as_str).ok_or(error)
    }

    /// A text that need not be there, but is nothing else.
    pub(super) fn optional_text(
        self,
        name: &str,
        error: &'static str,
    ) -> Result<Option<&'a str>, &'static str> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(error),
        }
    }

    /// A name that can be one in MQTT.
    pub(super) fn name(
        self,
        field: &str,
        missing: &'static str,
        malformed: &'static str,
    ) -> Result<&'a str, &'static str> {
        let name = self.text(field, missing)?;
        if is_text(name) { Ok(name) } else { Err(malformed) }
    }

    pub(super) fn username(self) -> Result<&'a str, &'static str> {
        self.name("username", "Invalid/missing username", "Username not valid UTF-8")
    }

    pub(super) fn groupname(self) -> Result<&'a str, &'static str> {
        self.name("groupname", "Invalid/missing groupname", "Group name not valid UTF-8")
    }

    pub(super) fn rolename(self) -> Result<&'a str, &'static str> {
        self.name("rolename", "Invalid/missing rolename", "Role name not valid UTF-8")
    }

    /// A whole number; what is none, or not there, is this one.
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as the plugin's JSON library does")]
    pub(super) fn integer(self, name: &str, otherwise: i32) -> i32 {
        self.value(name).and_then(Value::as_f64).map_or(otherwise, |number| number as i32)
    }

    pub(super) fn priority(self, otherwise: i32) -> i32 {
        bounded(self.integer("priority", otherwise))
    }

    /// True or false; what is neither, or not there, is this.
    pub(super) fn flag(self, name: &str, otherwise: bool) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(otherwise)
    }

    /// The objects of a list that need not be there; what is no object in it is passed over.
    pub(super) fn objects(self, name: &str) -> Option<impl Iterator<Item = Self> + Clone + 'a> {
        let list = self.value(name)?.as_array()?;
        Some(list.iter().filter_map(|item| item.as_object().map(|fields| Command { fields })))
    }

    /// The names that a list command is to tell, of all in their order.
    pub(super) fn page<T>(self, all: impl Iterator<Item = T>) -> Vec<T> {
        let (count, offset) = (self.integer("count", -1), self.integer("offset", 0));
        let rest = all.skip(usize::try_from(offset).unwrap_or(0));
        // The plugin looks at the count after the first one.
        match usize::try_from(count) {
            Ok(count) => rest.take(count.max(1)).collect(),
            Err(_) => rest.collect(),
        }
    }
}

/// Whether this may be a text in MQTT, as Mosquitto checks it: no control characters, no non-characters, not too long.
pub(super) fn is_text(text: &str) -> bool {
    let is_plain = |character: char| {
        let code = u32::from(character);
        !character.is_control() && !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
    };
    text.len() <= MAX_TEXT && text.chars().all(is_plain)
}

/// For lines in the log.
pub(super) fn shown(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}
