//! The file of Mosquitto's dynamic security plugin: clients, groups and roles in JSON. Read and decided here, not changed.
//!
//! Decided as the plugin of Mosquitto 2.1 decides: the client's roles by priority, then those of its groups by priority; in a
//! role the rules by priority; the first that fits is the answer, and without one the file's default for that kind of action.
//! What the default allows never reaches `$CONTROL`. Commands on `$CONTROL/dynamic-security/v1` are not understood here.

use std::cmp::Reverse;
use std::collections::HashMap;

use quoll_broker::Grants;
use quoll_mqtt::{TopicFilter, TopicName};
use serde::Deserialize;
use thiserror::Error;

use super::acl_file::{Action, fill};
use super::password_file::Answer;
use super::password_hash::{HashError, PasswordHash};

/// Bytes of a file: some 50,000 clients.
pub const MAX_FILE: usize = 32 << 20;

/// The file, understood.
#[derive(Clone, Debug)]
pub struct DynamicSecurity {
    default: Defaults,
    clients: HashMap<String, Client>,
    /// Roles of clients without user name.
    anonymous: Vec<Role>,
    /// What is named and not there: it allows and denies nothing.
    pub warnings: Vec<String>,
}

/// Why the file is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DynamicSecurityError {
    /// Larger than any such file; ours, against a wrong path.
    #[error("more than {MAX_FILE} bytes")]
    TooLarge,
    /// No JSON, or not of this form.
    #[error("line {line}, column {column}: {reason}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the reader says.
        reason: String,
    },
    /// A client's password.
    #[error("client {name:?}: {reason}")]
    Password {
        /// Its user name.
        name: String,
        /// Why not.
        reason: HashError,
    },
    /// A rule's topic.
    #[error("role {role:?}: {topic:?} is no topic filter")]
    Topic {
        /// The role.
        role: String,
        /// As written.
        topic: String,
    },
}

#[derive(Clone, Debug)]
struct Client {
    /// The only client id that it may come with.
    client_id: Option<String>,
    disabled: bool,
    password: Option<PasswordHash>,
    /// Its own roles and those of its groups, in the order of asking.
    roles: Vec<Role>,
}

/// A role's rules by what they are about, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Role {
    rules: Vec<Rule>,
    wildcard_subscriptions: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Rule {
    acltype: About,
    topic: String,
    #[serde(default)]
    priority: i64,
    allow: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
enum About {
    PublishClientSend,
    PublishClientReceive,
    SubscribeLiteral,
    SubscribePattern,
    UnsubscribeLiteral,
    UnsubscribePattern,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Defaults {
    publish_client_send: bool,
    publish_client_receive: bool,
    subscribe: bool,
}

/// The file as typed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default, rename = "defaultACLAccess")]
    default: Defaults,
    #[serde(default)]
    clients: Vec<FileClient>,
    #[serde(default)]
    groups: Vec<FileGroup>,
    #[serde(default)]
    roles: Vec<FileRole>,
    anonymous_group: Option<String>,
}

#[derive(Deserialize)]
struct FileClient {
    username: String,
    clientid: Option<String>,
    #[serde(default)]
    disabled: bool,
    password: Option<String>,
    salt: Option<String>,
    iterations: Option<u32>,
    /// Since 2.1 in place of the three above.
    encoded_password: Option<String>,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    groups: Vec<Named>,
}

#[derive(Deserialize)]
struct FileGroup {
    groupname: String,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    clients: Vec<Named>,
}

#[derive(Deserialize)]
struct FileRole {
    rolename: String,
    #[serde(default)]
    acls: Vec<Rule>,
    #[serde(default = "yes")]
    allowwildcardsubs: bool,
}

/// A name with its priority; the highest goes first, and of equals the first by name.
#[derive(Clone, Deserialize)]
struct Named {
    #[serde(alias = "rolename", alias = "groupname", alias = "username")]
    name: String,
    #[serde(default = "lowest")]
    priority: i64,
}

const fn yes() -> bool {
    true
}

/// The plugin's default.
const fn lowest() -> i64 {
    -1
}

impl DynamicSecurity {
    /// Reads a file's content.
    ///
    /// # Errors
    /// Where it is no JSON of this form, or a hash or topic in it is none.
    pub fn parse(content: &[u8]) -> Result<Self, DynamicSecurityError> {
        if content.len() > MAX_FILE {
            return Err(DynamicSecurityError::TooLarge);
        }
        let file: File = serde_json::from_slice(content).map_err(|error| DynamicSecurityError::Json {
            line: error.line(),
            column: error.column(),
            reason: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        let mut warnings = Vec::new();
        let roles = roles(file.roles)?;
        let groups: HashMap<String, Vec<Role>> = file
            .groups
            .iter()
            .map(|group| {
                let owner = format!("group {:?}", group.groupname);
                (group.groupname.clone(), gather(&group.roles, &roles, &owner, &mut warnings))
            })
            .collect();
        let mut clients = HashMap::new();
        for client in file.clients {
            let name = client.username.clone();
            let password = password(&client)
                .map_err(|reason| DynamicSecurityError::Password { name: name.clone(), reason })?;
            let owner = format!("client {name:?}");
            let mut own = gather(&client.roles, &roles, &owner, &mut warnings);
            // The plugin writes who belongs to a group with the group; older files have it with the client.
            let mut member = client.groups;
            for group in &file.groups {
                let here = group.clients.iter().filter(|named| named.name == name);
                member.extend(
                    here.map(|named| Named { name: group.groupname.clone(), priority: named.priority }),
                );
            }
            for named in in_order(&member) {
                match groups.get(&named.name) {
                    Some(roles) => own.extend(roles.iter().cloned()),
                    None => {
                        warnings.push(format!("{owner} is in the group {:?}, which is not there", named.name))
                    }
                }
            }
            let (client_id, disabled) = (client.clientid, client.disabled);
            clients.insert(name, Client { client_id, disabled, password, roles: own });
        }
        let anonymous = match file.anonymous_group {
            None => Vec::new(),
            Some(name) => groups.get(&name).cloned().unwrap_or_else(|| {
                warnings.push(format!("the anonymous group {name:?} is not there"));
                Vec::new()
            }),
        };
        Ok(Self { default: file.default, clients, anonymous, warnings })
    }

    /// Asks for a client. Blocks for milliseconds on purpose.
    #[must_use]
    pub fn verify(&self, username: &str, client_id: &str, password: &[u8]) -> Answer {
        let Some(client) = self.clients.get(username) else {
            // Somebody's hash in place of nobody's, so that the answer takes as long.
            let some = self.clients.values().find_map(|client| client.password.as_ref());
            let _ = some.map(|hash| hash.verify(password));
            return Answer::Unknown;
        };
        let right = client.password.as_ref().is_some_and(|hash| hash.verify(password));
        let id = client.client_id.as_deref().is_none_or(|only| only == client_id);
        if right && id && !client.disabled { Answer::Right } else { Answer::Wrong }
    }

    /// Whether a client may do this; the decision itself, rule by rule.
    #[must_use]
    pub fn allows(&self, username: Option<&str>, client_id: &str, action: Action, topic: &TopicName) -> bool {
        let Some(roles) = self.roles(username, client_id) else { return false };
        let about = About::of(action);
        for rule in roles.iter().flat_map(|role| &role.rules).filter(|rule| rule.acltype == about) {
            if fill(&rule.topic, username, client_id).is_some_and(|filter| filter.matches(topic)) {
                return rule.allow;
            }
        }
        self.usually(action) && !topic.as_str().starts_with("$CONTROL")
    }

    /// Whether a client may subscribe to this; the decision itself.
    #[must_use]
    pub fn may_subscribe(&self, username: Option<&str>, client_id: &str, wanted: &TopicFilter) -> bool {
        let Some(roles) = self.roles(username, client_id) else { return false };
        for role in roles {
            if wanted.is_wildcard() && !role.wildcard_subscriptions {
                return false;
            }
            let about = |about| role.rules.iter().filter(move |rule| rule.acltype == about);
            let literal = about(About::SubscribeLiteral).find(|rule| rule.topic == wanted.unshared());
            let pattern = || {
                about(About::SubscribePattern).find(|rule| {
                    let filter = fill(&rule.topic, username, client_id);
                    filter.is_some_and(|filter| Grants::new(&[], &[filter]).covers(wanted))
                })
            };
            if let Some(rule) = literal.or_else(pattern) {
                return rule.allow;
            }
        }
        self.default.subscribe && !wanted.unshared().starts_with("$CONTROL")
    }

    /// The permissions of a client, to be carried by its session.
    ///
    /// Never wider than the decisions above. Grants know one layer, where what is denied wins, and one set of filters for
    /// subscribing and receiving: where rules of different sign overlap in part, or what may be subscribed to and what may
    /// be received do, the part in question is denied. A default that allows is `#` and `$SYS/#`.
    #[must_use]
    pub fn grants(&self, username: Option<&str>, client_id: &str) -> Grants {
        let Some(roles) = self.roles(username, client_id) else { return Grants::none() };
        let rules = |wanted: &[About]| -> Vec<(bool, TopicFilter)> {
            let all = roles.iter().flat_map(|role| &role.rules);
            let about = all.filter(|rule| wanted.contains(&rule.acltype));
            about.filter_map(|rule| Some((rule.allow, fill(&rule.topic, username, client_id)?))).collect()
        };
        let (publish, no_publish) =
            flatten(&rules(&[About::PublishClientSend]), self.default.publish_client_send);
        let (receive, no_receive) =
            flatten(&rules(&[About::PublishClientReceive]), self.default.publish_client_receive);
        let subscriptions = rules(&[About::SubscribeLiteral, About::SubscribePattern]);
        let (mut subscribe, no_subscribe) = flatten(&subscriptions, self.default.subscribe);
        if roles.iter().any(|role| !role.wildcard_subscriptions) {
            subscribe.retain(|filter| !filter.is_wildcard());
        }
        let both = both(&subscribe, &receive);
        let neither = [no_receive, no_subscribe].concat();
        Grants::new(&publish, &both).denying(&no_publish, &neither)
    }

    /// What proves that somebody is this user; `None` for one who cannot come in.
    pub(super) fn proof(&self, username: &str) -> Option<(&PasswordHash, Option<&str>)> {
        let client = self.clients.get(username).filter(|client| !client.disabled)?;
        Some((client.password.as_ref()?, client.client_id.as_deref()))
    }

    /// The roles to be asked; `None` for a client that is not in the file, and for names that look like wildcards
    /// (`auth_plugin_deny_special_chars`): nothing is allowed.
    fn roles(&self, username: Option<&str>, client_id: &str) -> Option<&[Role]> {
        let wild = |name: &str| name.contains(['+', '#']);
        if username.is_some_and(wild) || wild(client_id) {
            return None;
        }
        match username {
            Some(name) => self.clients.get(name).map(|client| client.roles.as_slice()),
            None => Some(&self.anonymous),
        }
    }

    const fn usually(&self, action: Action) -> bool {
        match action {
            Action::Write => self.default.publish_client_send,
            Action::Read => self.default.publish_client_receive,
        }
    }
}

impl About {
    const fn of(action: Action) -> Self {
        match action {
            Action::Write => Self::PublishClientSend,
            Action::Read => Self::PublishClientReceive,
        }
    }
}

fn roles(file: Vec<FileRole>) -> Result<HashMap<String, Role>, DynamicSecurityError> {
    let mut roles = HashMap::new();
    for FileRole { rolename, mut acls, allowwildcardsubs } in file {
        for rule in &acls {
            if TopicFilter::parse(&rule.topic).is_err() {
                return Err(DynamicSecurityError::Topic { role: rolename, topic: rule.topic.clone() });
            }
        }
        // Equals stay as they stand in the file.
        acls.sort_by_key(|rule| Reverse(rule.priority));
        roles.insert(rolename, Role { rules: acls, wildcard_subscriptions: allowwildcardsubs });
    }
    Ok(roles)
}

fn gather(
    names: &[Named],
    roles: &HashMap<String, Role>,
    owner: &str,
    warnings: &mut Vec<String>,
) -> Vec<Role> {
    let mut found = Vec::new();
    for named in in_order(names) {
        match roles.get(&named.name) {
            Some(role) => found.push(role.clone()),
            None => warnings.push(format!("{owner} has the role {:?}, which is not there", named.name)),
        }
    }
    found
}

fn in_order(names: &[Named]) -> Vec<&Named> {
    let mut names: Vec<&Named> = names.iter().collect();
    names.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    names
}

fn password(client: &FileClient) -> Result<Option<PasswordHash>, HashError> {
    if let Some(encoded) = &client.encoded_password {
        return PasswordHash::parse(encoded).map(Some);
    }
    match (client.iterations, &client.salt, &client.password) {
        (Some(iterations), Some(salt), Some(hash)) => {
            PasswordHash::parse(&format!("$7${iterations}${salt}${hash}")).map(Some)
        }
        _ => Ok(None),
    }
}

/// What ordered rules allow and deny, as two sets of which the denied one wins; never more than the rules allow.
fn flatten(rules: &[(bool, TopicFilter)], usually: bool) -> (Vec<TopicFilter>, Vec<TopicFilter>) {
    let (mut allowed, mut denied): (Vec<TopicFilter>, Vec<TopicFilter>) = (Vec::new(), Vec::new());
    for (allow, filter) in rules {
        // What an earlier rule says of all of it, no later one changes.
        let (same, other) = if *allow { (&mut allowed, &denied) } else { (&mut denied, &allowed) };
        if !Grants::new(&[], other).covers(filter) {
            same.push(filter.clone());
        }
    }
    if usually {
        allowed.extend(["#", "$SYS/#"].iter().filter_map(|filter| TopicFilter::parse(filter).ok()));
    }
    (allowed, denied)
}

/// Filters of either that lie within one of the other.
fn both(one: &[TopicFilter], other: &[TopicFilter]) -> Vec<TopicFilter> {
    let within = |inner: &[TopicFilter], outer: &[TopicFilter]| -> Vec<TopicFilter> {
        let outer = Grants::new(&[], outer);
        inner.iter().filter(|filter| outer.covers(filter)).cloned().collect()
    };
    let mut both = within(one, other);
    both.extend(within(other, one));
    both.dedup();
    both
}
