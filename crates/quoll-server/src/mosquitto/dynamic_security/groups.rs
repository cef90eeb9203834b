//! Commands about groups.

use std::sync::Arc;

use serde_json::{Value, json};

use super::clients::{modify_texts, texts};
use super::commands::{Answer, Command, Reply, Work, is_text};
use super::file::{head, named};
use super::model::{Group, NO_PRIORITY};

const NOT_FOUND: &str = "Group not found";

pub(super) fn create(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let groupname = command.text("groupname", "Invalid/missing groupname")?;
    if groupname.is_empty() {
        return Err("Empty groupname");
    }
    if !is_text(groupname) {
        return Err("Group name not valid UTF-8");
    }
    let texts = texts(command)?;
    if work.model.groups.contains_key(groupname) {
        return Err("Group already exists");
    }
    // The plugin has no word of its own for a malformed list here.
    let roles = work.roles_of(command);
    let roles = roles.map_err(|why| if why == "Role not found" { why } else { "Internal error" })?;
    let group = Group { texts, roles: roles.unwrap_or_default(), ..Group::default() };
    work.model.groups.insert(groupname.into(), Arc::new(group));
    Ok(Reply::Changed(format!(" | groupname={groupname}")))
}

pub(super) fn delete(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let groupname = command.groupname()?;
    let group = work.model.groups.get(groupname).ok_or(NOT_FOUND)?;
    let members: Vec<Arc<str>> = group.clients.keys().cloned().collect();
    if work.model.anonymous_group.as_deref() == Some(groupname) {
        return Err("Deleting the anonymous group is forbidden");
    }
    work.kick_group(groupname);
    members.iter().for_each(|member| work.model.leave(member, groupname));
    work.model.groups.remove(groupname);
    Ok(Reply::Changed(format!(" | groupname={groupname}")))
}

pub(super) fn modify(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let groupname = command.groupname()?;
    if !work.model.groups.contains_key(groupname) {
        return Err(NOT_FOUND);
    }
    let roles = work.roles_of(command)?;
    let clients = command.objects("clients").map(|clients| clients.map(|it| member(work, it)).collect());
    let clients: Option<Vec<(Arc<str>, i32)>> = clients.transpose()?;
    if let Some(clients) = clients {
        // Those who are in it now, and below those who come.
        work.kick_group(groupname);
        let before = work.model.groups.get(groupname).map(|it| it.clients.keys().cloned().collect());
        let before: Vec<Arc<str>> = before.unwrap_or_default();
        before.iter().for_each(|member| work.model.leave(member, groupname));
        for (client, priority) in clients {
            work.model.join(&client, groupname, priority);
        }
    }
    let group = work.model.group_mut(groupname).ok_or(NOT_FOUND)?;
    modify_texts(&mut group.texts, command);
    group.roles = roles.unwrap_or_else(|| std::mem::take(&mut group.roles));
    work.kick_group(groupname);
    Ok(Reply::Changed(format!(" | groupname={groupname}")))
}

fn member(work: &Work<'_>, client: Command<'_>) -> Result<(Arc<str>, i32), &'static str> {
    let name = client.text("username", "'clients' contains an object with an invalid 'username'")?;
    let known = work.model.clients.get_key_value(name);
    let (name, _) = known.ok_or("'clients' contains an object with a 'username' that does not exist")?;
    Ok((Arc::clone(name), client.priority(NO_PRIORITY)))
}

pub(super) fn get(work: &Work<'_>, command: Command<'_>) -> Answer {
    let groupname = command.groupname()?;
    let group = work.model.groups.get(groupname).ok_or(NOT_FOUND)?;
    Ok(Reply::Data("getGroup", json!({ "group": tell(groupname, group) })))
}

pub(super) fn list(work: &Work<'_>, command: Command<'_>) -> Answer {
    let verbose = command.flag("verbose", false);
    let tell = |(name, group): (&Arc<str>, &Arc<Group>)| {
        if verbose { tell(name, group) } else { name.as_ref().into() }
    };
    let page: Vec<Value> = command.page(work.model.groups.iter()).into_iter().map(tell).collect();
    Ok(Reply::Data("listGroups", json!({ "totalCount": work.model.groups.len(), "groups": page })))
}

/// A group as in answers: without its members' priorities.
fn tell(name: &str, group: &Group) -> Value {
    let mut object = head("groupname", name, &group.texts);
    let clients = group.clients.keys().map(|name| json!({ "username": name.as_ref() }));
    object.insert("clients".into(), clients.collect());
    object.insert("roles".into(), named("rolename", group.roles.iter()));
    Value::Object(object)
}

pub(super) fn add_client(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (username, groupname) = (command.username()?, command.groupname()?);
    let priority = command.priority(NO_PRIORITY);
    are_there(work, username, groupname)?;
    if !work.model.join(username, groupname, priority) {
        return Err("Client is already in this group");
    }
    work.kick(username);
    Ok(Reply::Changed(format!(" | groupname={groupname} | username={username} | priority={priority}")))
}

pub(super) fn remove_client(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (username, groupname) = (command.username()?, command.groupname()?);
    are_there(work, username, groupname)?;
    work.model.leave(username, groupname);
    work.kick(username);
    Ok(Reply::Changed(format!(" | groupname={groupname} | username={username}")))
}

fn are_there(work: &Work<'_>, client: &str, group: &str) -> Result<(), &'static str> {
    if !work.model.clients.contains_key(client) {
        return Err("Client not found");
    }
    if work.model.groups.contains_key(group) { Ok(()) } else { Err(NOT_FOUND) }
}

pub(super) fn add_role(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (groupname, rolename) = (command.groupname()?, command.rolename()?);
    let priority = command.priority(NO_PRIORITY);
    if !work.model.groups.contains_key(groupname) {
        return Err(NOT_FOUND);
    }
    let (role, _) = work.model.roles.get_key_value(rolename).ok_or("Role not found")?;
    let role = Arc::clone(role);
    if !work.model.group_mut(groupname).is_some_and(|group| group.roles.add(&role, priority)) {
        return Err("Group is already in this role");
    }
    work.kick_group(groupname);
    Ok(Reply::Changed(format!(" | groupname={groupname} | rolename={rolename} | priority={priority}")))
}

pub(super) fn remove_role(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let (groupname, rolename) = (command.groupname()?, command.rolename()?);
    if !work.model.groups.contains_key(groupname) {
        return Err(NOT_FOUND);
    }
    if !work.model.roles.contains_key(rolename) {
        return Err("Role not found");
    }
    if let Some(group) = work.model.group_mut(groupname) {
        group.roles.remove(rolename);
    }
    work.kick_group(groupname);
    Ok(Reply::Changed(format!(" | groupname={groupname} | rolename={rolename}")))
}

pub(super) fn set_anonymous(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let groupname = command.groupname()?;
    let (group, _) = work.model.groups.get_key_value(groupname).ok_or(NOT_FOUND)?;
    work.model.anonymous_group = Some(Arc::clone(group));
    work.kick_anonymous();
    Ok(Reply::Changed(format!(" | groupname={groupname}")))
}

pub(super) fn get_anonymous(work: &Work<'_>) -> Answer {
    let group = work.model.anonymous_group.as_deref().unwrap_or_default();
    Ok(Reply::Data("getAnonymousGroup", json!({ "group": { "groupname": group } })))
}
