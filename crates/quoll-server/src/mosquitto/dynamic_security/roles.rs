//! Commands about roles and their rules.

use std::sync::Arc;

use quoll_mqtt::TopicFilter;
use serde_json::{Value, json};

use super::clients::{modify_texts, texts};
use super::commands::{Answer, Command, Reply, Work, is_text, shown};
use super::file::write_role;
use super::model::{About, Role, Rule};

const NOT_FOUND: &str = "Role not found";

pub(super) fn create(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.text("rolename", "Invalid/missing rolename")?;
    if rolename.is_empty() {
        return Err("Empty rolename");
    }
    if !is_text(rolename) {
        return Err("Role name not valid UTF-8");
    }
    let texts = texts(command)?;
    if command.value("allowwildcardsubs").is_some_and(|value| !value.is_boolean()) {
        return Err("Invalid allowwildcardsubs");
    }
    if work.model.roles.contains_key(rolename) {
        return Err("Role already exists");
    }
    let wildcard_subscriptions = command.flag("allowwildcardsubs", true);
    let mut role = Role::new(texts, wildcard_subscriptions);
    add_rules(&mut role, command);
    work.model.roles.insert(rolename.into(), Arc::new(role));
    Ok(Reply::Changed(format!(" | rolename={rolename}")))
}

/// The `acls` of a command; the plugin passes over what it does not understand. Whether there is a list.
fn add_rules(role: &mut Role, command: Command<'_>) -> bool {
    let Some(rules) = command.objects("acls") else { return false };
    for rule in rules {
        let about = rule.value("acltype").and_then(Value::as_str).and_then(About::parse);
        let topic = rule.value("topic").and_then(Value::as_str).filter(|topic| !topic.is_empty());
        if let Some((about, topic)) = about.zip(topic) {
            role.add(about, rule_of(rule, topic));
        }
    }
    true
}

fn rule_of(command: Command<'_>, topic: &str) -> Rule {
    Rule { topic: topic.to_owned(), priority: command.priority(0), allow: command.flag("allow", false) }
}

pub(super) fn delete(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.rolename()?;
    if !work.model.roles.contains_key(rolename) {
        return Err(NOT_FOUND);
    }
    work.kick_role(rolename);
    work.model.withdraw(rolename);
    work.model.roles.remove(rolename);
    Ok(Reply::Changed(format!(" | rolename={rolename}")))
}

pub(super) fn modify(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.rolename()?;
    let role = work.model.role_mut(rolename).ok_or("Role does not exist")?;
    modify_texts(&mut role.texts, command);
    let wildcards = command.flag("allowwildcardsubs", role.wildcard_subscriptions);
    let mut matters = role.wildcard_subscriptions != wildcards;
    role.wildcard_subscriptions = wildcards;
    if command.objects("acls").is_some() {
        role.clear();
        matters |= add_rules(role, command);
    }
    if matters {
        work.kick_role(rolename);
    }
    Ok(Reply::Changed(format!(" | rolename={rolename}")))
}

pub(super) fn get(work: &Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.rolename()?;
    let role = work.model.roles.get(rolename).ok_or(NOT_FOUND)?;
    Ok(Reply::Data("getRole", json!({ "role": write_role(rolename, role) })))
}

pub(super) fn list(work: &Work<'_>, command: Command<'_>) -> Answer {
    let verbose = command.flag("verbose", false);
    let tell = |(name, role): (&Arc<str>, &Arc<Role>)| {
        if verbose { write_role(name, role) } else { name.as_ref().into() }
    };
    let page: Vec<Value> = command.page(work.model.roles.iter()).into_iter().map(tell).collect();
    Ok(Reply::Data("listRoles", json!({ "totalCount": work.model.roles.len(), "roles": page })))
}

pub(super) fn add_rule(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.rolename()?;
    let role = work.model.role_mut(rolename).ok_or(NOT_FOUND)?;
    let (about, topic) = about_and_topic(command)?;
    let rule = rule_of(command, topic);
    let (priority, allow) = (rule.priority, shown(rule.allow));
    if !role.add(about, rule) {
        return Err("ACL with this topic already exists");
    }
    work.kick_role(rolename);
    let kind = about.name();
    let head = format!(" | rolename={rolename} | acltype={kind} | topic={topic}");
    Ok(Reply::Changed(format!("{head} | priority={priority} | allow={allow}")))
}

pub(super) fn remove_rule(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rolename = command.rolename()?;
    let role = work.model.role_mut(rolename).ok_or(NOT_FOUND)?;
    let (about, topic) = about_and_topic(command)?;
    if !role.remove(about, topic) {
        return Err("ACL not found");
    }
    work.kick_role(rolename);
    Ok(Reply::Changed(format!(" | rolename={rolename} | acltype={} | topic={topic}", about.name())))
}

fn about_and_topic(command: Command<'_>) -> Result<(About, &str), &'static str> {
    let about = command.text("acltype", "Invalid/missing acltype")?;
    let about = About::parse(about).ok_or("Unknown acltype")?;
    let topic = command.name("topic", "Invalid/missing topic", "Topic not valid UTF-8")?;
    if TopicFilter::parse(topic).is_err() {
        return Err("Invalid ACL topic");
    }
    Ok((about, topic))
}
