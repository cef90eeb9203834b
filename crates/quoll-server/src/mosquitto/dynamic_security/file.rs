//! The file: JSON as the plugin reads and writes it, of 2.0 and 2.1 alike.
//!
//! A `$7$` hash is written in the three fields that both know, others as `encoded_password`, which 2.1 knows alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quoll_mqtt::TopicFilter;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::password_hash::{HashError, PasswordHash};
use super::model::{About, Client, Defaults, Group, Model, NO_PRIORITY, Names, Role, Rule, Texts, bounded};
use super::{DynamicSecurityError, MAX_FILE};

/// The file as typed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    change_index: f64,
    #[serde(default, rename = "defaultACLAccess")]
    default: FileDefaults,
    #[serde(default)]
    clients: Vec<FileClient>,
    #[serde(default)]
    groups: Vec<FileGroup>,
    #[serde(default)]
    roles: Vec<FileRole>,
    anonymous_group: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FileDefaults {
    publish_client_send: bool,
    publish_client_receive: bool,
    subscribe: bool,
    unsubscribe: bool,
}

#[derive(Deserialize)]
struct FileClient {
    username: String,
    clientid: Option<String>,
    textname: Option<String>,
    textdescription: Option<String>,
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
    textname: Option<String>,
    textdescription: Option<String>,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    clients: Vec<Named>,
}

#[derive(Deserialize)]
struct FileRole {
    rolename: String,
    textname: Option<String>,
    textdescription: Option<String>,
    #[serde(default)]
    acls: Vec<FileRule>,
    #[serde(default = "yes")]
    allowwildcardsubs: bool,
}

#[derive(Deserialize)]
struct FileRule {
    acltype: String,
    topic: String,
    #[serde(default)]
    priority: f64,
    #[serde(default)]
    allow: bool,
}

#[derive(Deserialize)]
struct Named {
    #[serde(alias = "rolename", alias = "groupname", alias = "username")]
    name: String,
    #[serde(default = "lowest")]
    priority: f64,
}

const fn yes() -> bool {
    true
}

fn lowest() -> f64 {
    f64::from(NO_PRIORITY)
}

/// Reads a file's content, with what is to be said of it.
pub(super) fn read(content: &[u8]) -> Result<(Model, Vec<String>), DynamicSecurityError> {
    if content.len() > MAX_FILE {
        return Err(DynamicSecurityError::TooLarge);
    }
    // The plugin takes an empty file for one that says nothing.
    let content = if content.is_empty() { b"{}" } else { content };
    let file: File = serde_json::from_slice(content).map_err(|error| DynamicSecurityError::Json {
        line: error.line(),
        column: error.column(),
        reason: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
    })?;
    let mut warnings = Vec::new();
    let mut model = Model {
        #[expect(clippy::cast_possible_truncation, reason = "a counter; the cast saturates")]
        change_index: file.change_index as i64,
        defaults: Defaults {
            publish_client_send: file.default.publish_client_send,
            publish_client_receive: file.default.publish_client_receive,
            subscribe: file.default.subscribe,
            unsubscribe: file.default.unsubscribe,
        },
        ..Model::default()
    };
    for role in file.roles {
        let name: Arc<str> = role.rolename.as_str().into();
        let role = understand_role(role, &mut warnings);
        once(&mut model.roles, "role", name, role, &mut warnings);
    }
    for group in &file.groups {
        let owner = format!("group {:?}", group.groupname);
        let roles = known(&group.roles, &model.roles, (&owner, "has the role"), &mut warnings);
        let texts = texts(group.textname.as_ref(), group.textdescription.as_ref());
        let group_itself = Group { texts, roles, clients: BTreeMap::new() };
        once(&mut model.groups, "group", group.groupname.as_str().into(), group_itself, &mut warnings);
    }
    // The plugin writes who belongs to a group with the group; older files have it with the client.
    let mut members: Vec<(String, String, i32)> = Vec::new();
    for client in file.clients {
        let name = client.username.clone();
        let password = password(&client)
            .map_err(|reason| DynamicSecurityError::Password { name: name.clone(), reason })?;
        let owner = format!("client {name:?}");
        let roles = known(&client.roles, &model.roles, (&owner, "has the role"), &mut warnings);
        let groups = known(&client.groups, &model.groups, (&owner, "is in the group"), &mut warnings);
        members.extend(groups.iter().map(|(group, priority)| (name.clone(), group.to_string(), priority)));
        let itself = Client {
            texts: texts(client.textname.as_ref(), client.textdescription.as_ref()),
            client_id: client.clientid,
            disabled: client.disabled,
            password,
            roles,
            groups: Names::default(),
        };
        once(&mut model.clients, "client", name.as_str().into(), itself, &mut warnings);
    }
    for group in &file.groups {
        let owner = format!("group {:?}", group.groupname);
        let clients = known(&group.clients, &model.clients, (&owner, "has the client"), &mut warnings);
        members.extend(
            clients.iter().map(|(name, priority)| (name.to_string(), group.groupname.clone(), priority)),
        );
    }
    for (client, group, priority) in members {
        model.join(&client, &group, priority);
    }
    if let Some(name) = file.anonymous_group {
        model.anonymous_group = model.groups.get_key_value(name.as_str()).map(|(name, _)| Arc::clone(name));
        if model.anonymous_group.is_none() {
            warnings.push(format!("the anonymous group {name:?} is not there"));
        }
    }
    Ok((model, warnings))
}

/// Of two with one name the first counts, as for the plugin; one without a name does not.
fn once<T>(
    all: &mut BTreeMap<Arc<str>, Arc<T>>,
    what: &str,
    name: Arc<str>,
    item: T,
    warnings: &mut Vec<String>,
) {
    if name.is_empty() {
        return warnings.push(format!("a {what} without a name is left out"));
    }
    if all.contains_key(&name) {
        return warnings.push(format!("the {what} {name:?} is there twice; the first one counts"));
    }
    all.insert(name, Arc::new(item));
}

/// Those of the names that are there.
fn known<T>(
    names: &[Named],
    all: &BTreeMap<Arc<str>, Arc<T>>,
    (owner, how): (&str, &str),
    warnings: &mut Vec<String>,
) -> Names {
    let mut found = Names::default();
    for named in names {
        match all.get_key_value(named.name.as_str()) {
            Some((name, _)) => _ = found.add(name, priority(named.priority)),
            None => warnings.push(format!("{owner} {how} {:?}, which is not there", named.name)),
        }
    }
    found
}

fn understand_role(role: FileRole, warnings: &mut Vec<String>) -> Role {
    let texts = texts(role.textname.as_ref(), role.textdescription.as_ref());
    let mut itself = Role::new(texts, role.allowwildcardsubs);
    for rule in role.acls {
        let Some(about) = About::parse(&rule.acltype) else {
            warnings.push(format!(
                "role {:?}: nothing is known of the acltype {:?}",
                role.rolename, rule.acltype
            ));
            continue;
        };
        if TopicFilter::parse(&rule.topic).is_err() {
            // Kept, as by the plugin.
            warnings.push(format!(
                "role {:?}: {:?} is no topic filter and fits nothing",
                role.rolename, rule.topic
            ));
        }
        if !rule.topic.is_empty() {
            let FileRule { topic, allow, .. } = rule;
            itself.add(about, Rule { topic, priority: priority(rule.priority), allow });
        }
    }
    itself
}

fn texts(name: Option<&String>, description: Option<&String>) -> Texts {
    Texts { name: name.cloned(), description: description.cloned() }
}

/// cJSON's reading of a number as an `int`.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and that is what is wanted")]
fn priority(number: f64) -> i32 {
    bounded(number as i32)
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

/// The file's content, hashes included.
pub(super) fn write(model: &Model) -> Value {
    let defaults = &model.defaults;
    let mut file = Map::new();
    file.insert("changeIndex".into(), model.change_index.into());
    file.insert(
        "defaultACLAccess".into(),
        json!({
            "publishClientSend": defaults.publish_client_send,
            "publishClientReceive": defaults.publish_client_receive,
            "subscribe": defaults.subscribe,
            "unsubscribe": defaults.unsubscribe,
        }),
    );
    let clients = model.clients.iter().map(|(name, client)| {
        let mut object = client_head(name, client);
        object.insert("roles".into(), named("rolename", client.roles.iter()));
        write_password(client.password.as_ref(), &mut object);
        Value::Object(object)
    });
    file.insert("clients".into(), clients.collect());
    let groups = model.groups.iter().map(|(name, group)| {
        let mut object = head("groupname", name, &group.texts);
        object.insert("roles".into(), named("rolename", group.roles.iter()));
        let clients = group.clients.iter().map(|(name, priority)| (name, *priority));
        object.insert("clients".into(), named("username", clients));
        Value::Object(object)
    });
    file.insert("groups".into(), groups.collect());
    if let Some(group) = &model.anonymous_group {
        file.insert("anonymousGroup".into(), group.as_ref().into());
    }
    file.insert("roles".into(), model.roles.iter().map(|(name, role)| write_role(name, role)).collect());
    Value::Object(file)
}

fn write_password(password: Option<&PasswordHash>, object: &mut Map<String, Value>) {
    match password {
        Some(PasswordHash::Pbkdf2 { iterations, salt, hash }) => {
            object.insert("password".into(), STANDARD.encode(hash).into());
            object.insert("salt".into(), STANDARD.encode(salt).into());
            object.insert("iterations".into(), iterations.get().into());
        }
        Some(other) => _ = object.insert("encoded_password".into(), other.to_string().into()),
        None => {}
    }
}

/// A client's own fields, without its password.
pub(super) fn client_head(name: &str, client: &Client) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("username".into(), name.into());
    if let Some(client_id) = &client.client_id {
        object.insert("clientid".into(), client_id.as_str().into());
    }
    write_texts(&client.texts, &mut object);
    if client.disabled {
        object.insert("disabled".into(), true.into());
    }
    object
}

/// Name and texts.
pub(super) fn head(kind: &str, name: &str, texts: &Texts) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert(kind.into(), name.into());
    write_texts(texts, &mut object);
    object
}

fn write_texts(texts: &Texts, object: &mut Map<String, Value>) {
    for (key, text) in [("textname", &texts.name), ("textdescription", &texts.description)] {
        if let Some(text) = text {
            object.insert(key.into(), text.as_str().into());
        }
    }
}

/// A list of names with their priorities.
pub(super) fn named<'a>(kind: &str, names: impl Iterator<Item = (&'a Arc<str>, i32)>) -> Value {
    let each = names.map(|(name, priority)| {
        let mut object = Map::new();
        object.insert(kind.into(), name.as_ref().into());
        if priority != NO_PRIORITY {
            object.insert("priority".into(), priority.into());
        }
        Value::Object(object)
    });
    each.collect()
}

/// A role as in the file and in answers.
pub(super) fn write_role(name: &str, role: &Role) -> Value {
    let mut object = head("rolename", name, &role.texts);
    object.insert("allowwildcardsubs".into(), role.wildcard_subscriptions.into());
    let rules = About::ALL.into_iter().flat_map(|about| {
        role.rules(about).iter().map(move |rule| {
            json!({
                "acltype": about.name(),
                "topic": rule.topic,
                "priority": rule.priority,
                "allow": rule.allow,
            })
        })
    });
    object.insert("acls".into(), rules.collect());
    Value::Object(object)
}
