//! Commands about what holds where no rule fits, and about all together.

use serde_json::json;

use super::commands::{Answer, Command, Reply, Work, shown};

pub(super) fn set(work: &mut Work<'_>, command: Command<'_>) -> Answer {
    let rules = command.objects("acls").ok_or("Missing/invalid actions array")?;
    let mut line = String::new();
    for rule in rules {
        let Some(about) = rule.value("acltype").and_then(|it| it.as_str()) else { continue };
        let Some(allow) = rule.value("allow").and_then(|it| it.as_bool()) else { continue };
        let defaults = &mut work.model.defaults;
        let known = [
            ("publishClientSend", &mut defaults.publish_client_send),
            ("publishClientReceive", &mut defaults.publish_client_receive),
            ("subscribe", &mut defaults.subscribe),
            ("unsubscribe", &mut defaults.unsubscribe),
        ];
        if let Some((name, default)) = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(about)) {
            *default = allow;
            line.push_str(&format!(" | acltype={name} | allow={}", shown(allow)));
        }
    }
    work.everybody = true;
    Ok(Reply::Changed(line))
}

pub(super) fn get(work: &Work<'_>) -> Answer {
    let defaults = &work.model.defaults;
    let acls = [
        ("publishClientSend", defaults.publish_client_send),
        ("publishClientReceive", defaults.publish_client_receive),
        ("subscribe", defaults.subscribe),
        ("unsubscribe", defaults.unsubscribe),
    ];
    let acls = acls.map(|(name, allow)| json!({ "acltype": name, "allow": allow }));
    Ok(Reply::Data("getDefaultACLAccess", json!({ "acls": acls })))
}

/// How much there is; since 2.1.
pub(super) fn details(work: &Work<'_>) -> Answer {
    let model = &work.model;
    let data = json!({
        "clientCount": model.clients.len(),
        "groupCount": model.groups.len(),
        "roleCount": model.roles.len(),
        "changeIndex": model.change_index,
    });
    Ok(Reply::Data("getDetails", data))
}
