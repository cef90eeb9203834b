//! Commands about clients.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::password_hash::{PasswordHash, Scheme};
use super::commands::{Answer, Command, Reply, Work, is_text};
use super::file::{client_head, named};
use super::model::{Client, NO_PRIORITY, Names, Texts};

const NOT_FOUND: &str = "Client not found";

pub(super) fn create(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.text("username", "Invalid/missing username")?;
    if username.is_empty() {
        return Err("Empty username");
    }
    if !is_text(username) {
        return Err("Username not valid UTF-8");
    }
    let password = command.optional_text("password", "Invalid/missing password")?;
    let client_id = command.optional_text("clientid", "Invalid/missing client id")?;
    if client_id.is_some_and(|id| !is_text(id)) {
        return Err("Client ID not valid UTF-8");
    }
    let texts = texts(command)?;
    if work.model.clients.contains_key(username) {
        return Err("Client already exists");
    }
    let roles = work.roles_of(command)?.unwrap_or_default();
    let mut groups = Names::default();
    for group in command.objects("groups").into_iter().flatten() {
        let Some(name) = group.value("groupname").and_then(Value::as_str) else { continue };
        let (name, _) = work.model.groups.get_key_value(name).ok_or("Group not found")?;
        if !groups.add(name, group.priority(NO_PRIORITY)) {
            return Err("Internal error");
        }
    }
    let client = Client {
        texts,
        client_id: client_id.filter(|id| !id.is_empty()).map(str::to_owned),
        disabled: false,
        password: password.map(hash).transpose()?,
        roles,
        groups: Names::default(),
    };
    work.model.clients.insert(username.into(), Arc::new(client));
    for (group, priority) in groups.iter() {
        work.model.join(username, group, priority);
    }
    // Its certificate may have let it in before.
    work.touch(username);
    let password = if password.is_some() { "*****" } else { "no password" };
    Ok(Reply::Changed(format!(" | username={username} | password={password}")))
}

pub(super) fn delete(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.text("username", "Invalid/missing username")?;
    if !work.model.clients.contains_key(username) {
        return Err(NOT_FOUND);
    }
    work.model.leave_all(username);
    work.model.clients.remove(username);
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username}")))
}

pub(super) fn disable(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    work.model.client_mut(username).ok_or(NOT_FOUND)?.disabled = true;
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username}")))
}

pub(super) fn enable(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    work.model.client_mut(username).ok_or(NOT_FOUND)?.disabled = false;
    Ok(Reply::Changed(format!(" | username={username}")))
}

pub(super) fn set_id(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    let client_id = command.optional_text("clientid", "Invalid/missing client ID")?;
    if client_id.is_some_and(|id| !is_text(id)) {
        return Err("Client ID not valid UTF-8");
    }
    let client_id = client_id.filter(|id| !id.is_empty());
    work.model.client_mut(username).ok_or(NOT_FOUND)?.client_id = client_id.map(str::to_owned);
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username} | clientid={}", client_id.unwrap_or("(null)"))))
}

pub(super) fn set_password(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    let password = command.text("password", "Invalid/missing password")?;
    if password.is_empty() {
        return Err("Empty password is not allowed");
    }
    let client = work.model.client_mut(username).ok_or(NOT_FOUND)?;
    client.password = Some(hash(password)?);
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username} | password=******")))
}

pub(super) fn modify(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    if !work.model.clients.contains_key(username) {
        return Err(NOT_FOUND);
    }
    let client_id = command.value("clientid").and_then(Value::as_str);
    let password = command.value("password").and_then(Value::as_str).filter(|text| !text.is_empty());
    let roles = work.roles_of(command)?;
    let groups = command.objects("groups").map(|groups| groups.map(|it| member_of(work, it)).collect());
    let groups: Option<Vec<(Arc<str>, i32)>> = groups.transpose()?;
    let password = password.map(hash).transpose()?;
    if let Some(groups) = groups {
        work.model.leave_all(username);
        for (group, priority) in groups {
            work.model.join(username, &group, priority);
        }
    }
    let client = work.model.client_mut(username).ok_or(NOT_FOUND)?;
    if let Some(client_id) = client_id {
        client.client_id = Some(client_id).filter(|id| !id.is_empty()).map(str::to_owned);
    }
    modify_texts(&mut client.texts, command);
    client.password = password.or_else(|| client.password.take());
    client.roles = roles.unwrap_or_else(|| std::mem::take(&mut client.roles));
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username}")))
}

fn member_of(work: &Work<'_>, group: Command<'_>) -> Result<(Arc<str>, i32), &'static str> {
    let name = group.text("groupname", "'groups' contains an object with an invalid 'groupname'")?;
    let known = work.model.groups.get_key_value(name);
    let (name, _) = known.ok_or("'groups' contains an object with a 'groupname' that does not exist")?;
    Ok((Arc::clone(name), group.priority(NO_PRIORITY)))
}

pub(super) fn get(work: &Work<'_>, command: Command<'_>) -> Answer {
    let username = command.username()?;
    let client = work.model.clients.get(username).ok_or(NOT_FOUND)?;
    Ok(Reply::Data("getClient", json!({ "client": tell(work, username, client) })))
}

pub(super) fn list(work: &Work<'_>, command: Command<'_>) -> Answer {
    let verbose = command.flag("verbose", false);
    let tell = |(name, client): (&Arc<str>, &Arc<Client>)| {
        if verbose { tell(work, name, client) } else { name.as_ref().into() }
    };
    let page: Vec<Value> = command.page(work.model.clients.iter()).into_iter().map(tell).collect();
    let data = json!({ "totalCount": work.model.clients.len(), "clients": page });
    Ok(Reply::Data("listClients", data))
}

fn tell(work: &Work<'_>, name: &str, client: &Client) -> Value {
    let mut object: Map<String, Value> = client_head(name, client);
    object.insert("roles".into(), named("rolename", client.roles.iter()));
    object.insert("groups".into(), named("groupname", client.groups.iter()));
    let all = work.connections.get(name).into_iter().flatten();
    let its = all.filter(|(id, _)| client.client_id.as_deref().is_none_or(|only| *only == **id));
    let addresses = its.map(|(_, address)| json!({ "address": address }));
    object.insert("connections".into(), addresses.collect());
    Value::Object(object)
}

pub(super) fn add_role(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (username, rolename) = (command.username()?, command.rolename()?);
    let priority = command.priority(NO_PRIORITY);
    if !work.model.clients.contains_key(username) {
        return Err(NOT_FOUND);
    }
    let (role, _) = work.model.roles.get_key_value(rolename).ok_or("Role not found")?;
    let role = Arc::clone(role);
    if !work.model.client_mut(username).is_some_and(|client| client.roles.add(&role, priority)) {
        return Err("Internal error");
    }
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username} | rolename={rolename} | priority={priority}")))
}

pub(super) fn remove_role(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (username, rolename) = (command.username()?, command.rolename()?);
    if !work.model.clients.contains_key(username) {
        return Err(NOT_FOUND);
    }
    if !work.model.roles.contains_key(rolename) {
        return Err("Role not found");
    }
    if let Some(client) = work.model.client_mut(username) {
        client.roles.remove(rolename);
    }
    work.kick(username);
    Ok(Reply::Changed(format!(" | username={username} | rolename={rolename}")))
}

/// `textname` and `textdescription` of something new.
pub(super) fn texts(command: Command<'_>) -> Result<Texts, &'static str> {
    let name = command.optional_text("textname", "Invalid/missing textname")?;
    let description = command.optional_text("textdescription", "Invalid/missing textdescription")?;
    Ok(Texts { name: name.map(str::to_owned), description: description.map(str::to_owned) })
}

/// The same of something that is there: what is no text changes nothing.
pub(super) fn modify_texts(texts: &mut Texts, command: Command<'_>) {
    for (text, field) in [(&mut texts.name, "textname"), (&mut texts.description, "textdescription")] {
        if let Some(new) = command.value(field).and_then(Value::as_str) {
            *text = Some(new.to_owned());
        }
    }
}

fn hash(password: &str) -> Result<PasswordHash, &'static str> {
    PasswordHash::new(Scheme::default(), password.as_bytes()).map_err(|_| "Internal error")
}
