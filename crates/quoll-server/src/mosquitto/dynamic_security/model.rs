//! Clients, groups and roles, and who belongs to what. Kept consistent by its own verbs: a membership stands with the
//! client and with the group, and nothing names what is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::password_hash::PasswordHash;

/// The priority of a role or group for which none is given; the plugin neither shows nor writes it.
pub(super) const NO_PRIORITY: i32 = -1;
/// The plugin's bounds.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100_000..=100_000;

/// Everything that the file holds. Cheap to copy: a command works on a copy, which takes the place of what was.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Counts the commands that changed something.
    pub(super) change_index: i64,
    pub(super) defaults: Defaults,
    pub(super) clients: BTreeMap<Arc<str>, Arc<Client>>,
    pub(super) groups: BTreeMap<Arc<str>, Arc<Group>>,
    pub(super) roles: BTreeMap<Arc<str>, Arc<Role>>,
    /// The group of clients without user name; it is there.
    pub(super) anonymous_group: Option<Arc<str>>,
}

/// What is allowed where no rule fits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) publish_client_send: bool,
    pub(super) publish_client_receive: bool,
    pub(super) subscribe: bool,
    pub(super) unsubscribe: bool,
}

/// What people read.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) texts: Texts,
    /// The only client id that it may come with.
    pub(super) client_id: Option<String>,
    pub(super) disabled: bool,
    /// Nobody comes in without.
    pub(super) password: Option<PasswordHash>,
    pub(super) roles: Names,
    pub(super) groups: Names,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) texts: Texts,
    pub(super) roles: Names,
    /// Members, and the priority that the group has for them.
    pub(super) clients: BTreeMap<Arc<str>, i32>,
}

#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) texts: Texts,
    pub(super) wildcard_subscriptions: bool,
    rules: [Vec<Rule>; About::ALL.len()],
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) topic: String,
    pub(super) priority: i32,
    pub(super) allow: bool,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum About {
    PublishClientSend,
    PublishClientReceive,
    SubscribeLiteral,
    SubscribePattern,
    UnsubscribeLiteral,
    UnsubscribePattern,
}

impl About {
    pub(super) const ALL: [Self; 6] = [
        Self::PublishClientSend,
        Self::PublishClientReceive,
        Self::SubscribeLiteral,
        Self::SubscribePattern,
        Self::UnsubscribeLiteral,
        Self::UnsubscribePattern,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PublishClientSend => "publishClientSend",
            Self::PublishClientReceive => "publishClientReceive",
            Self::SubscribeLiteral => "subscribeLiteral",
            Self::SubscribePattern => "subscribePattern",
            Self::UnsubscribeLiteral => "unsubscribeLiteral",
            Self::UnsubscribePattern => "unsubscribePattern",
        }
    }

    /// Letter case does not matter to the plugin.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|about| about.name().eq_ignore_ascii_case(name))
    }
}

/// Names with priorities, in the order of asking: the highest first, of equals the first by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Vec<(Arc<str>, i32)>);

impl Names {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        self.0.iter().map(|(name, priority)| (name, *priority))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| **other == *name)
    }

    /// Adds a name; false if it is there already, and stays as it is.
    pub(super) fn add(&mut self, name: &Arc<str>, priority: i32) -> bool {
        if self.has(name) {
            return false;
        }
        let goes_behind =
            |(other, its): &(Arc<str>, i32)| *its > priority || (*its == priority && other < name);
        let at = self.0.iter().take_while(|other| goes_behind(other)).count();
        self.0.insert(at, (Arc::clone(name), priority));
        true
    }

    /// Takes a name out; false if it was not there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| **other != *name);
        self.0.len() < before
    }
}

impl Role {
    /// A role without rules.
    pub(super) fn new(texts: Texts, wildcard_subscriptions: bool) -> Self {
        Self { texts, wildcard_subscriptions, rules: Default::default() }
    }

    /// Rules of a kind in the order of asking.
    pub(super) fn rules(&self, about: About) -> &[Rule] {
        &self.rules[about as usize]
    }

    /// Adds a rule behind those of its priority; false where there is one for this topic already.
    pub(super) fn add(&mut self, about: About, rule: Rule) -> bool {
        let rules = &mut self.rules[about as usize];
        if rules.iter().any(|other| other.topic == rule.topic) {
            return false;
        }
        let at = rules.iter().take_while(|other| other.priority >= rule.priority).count();
        rules.insert(at, rule);
        true
    }

    /// Takes out the rule for this topic; false if there was none.
    pub(super) fn remove(&mut self, about: About, topic: &str) -> bool {
        let rules = &mut self.rules[about as usize];
        let before = rules.len();
        rules.retain(|rule| rule.topic != topic);
        rules.len() < before
    }

    /// Takes out all rules.
    pub(super) fn clear(&mut self) {
        self.rules.iter_mut().for_each(Vec::clear);
    }
}

impl Model {
    /// The roles to be asked for this user in their order: its own, then those of its groups. `None` for one that is not
    /// there.
    pub(super) fn roles_of(&self, username: Option<&str>) -> Option<Vec<&Role>> {
        let named = |names: &Names| -> Vec<&Role> {
            names.iter().filter_map(|(name, _)| self.roles.get(name).map(|role| &**role)).collect()
        };
        let in_group =
            |name: &str| self.groups.get(name).map(|group| named(&group.roles)).unwrap_or_default();
        let Some(username) = username else {
            return Some(self.anonymous_group.as_deref().map(in_group).unwrap_or_default());
        };
        let client = self.clients.get(username)?;
        let groups = client.groups.iter().flat_map(|(name, _)| in_group(name));
        Some(named(&client.roles).into_iter().chain(groups).collect())
    }

    pub(super) fn client_mut(&mut self, name: &str) -> Option<&mut Client> {
        self.clients.get_mut(name).map(Arc::make_mut)
    }

    pub(super) fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.get_mut(name).map(Arc::make_mut)
    }

    pub(super) fn role_mut(&mut self, name: &str) -> Option<&mut Role> {
        self.roles.get_mut(name).map(Arc::make_mut)
    }

    /// Makes a client, which is there, a member of a group, which is there too; false if it is one already.
    pub(super) fn join(&mut self, client: &str, group: &str, priority: i32) -> bool {
        let Some((group, _)) = self.groups.get_key_value(group) else { return false };
        let Some((client, _)) = self.clients.get_key_value(client) else { return false };
        let (client, group) = (Arc::clone(client), Arc::clone(group));
        let joined = self.client_mut(&client).is_some_and(|it| it.groups.add(&group, priority));
        if joined && let Some(group) = self.group_mut(&group) {
            group.clients.insert(client, priority);
        }
        joined
    }

    /// Takes a client out of a group.
    pub(super) fn leave(&mut self, client: &str, group: &str) {
        if let Some(client) = self.client_mut(client) {
            client.groups.remove(group);
        }
        if let Some(group) = self.group_mut(group) {
            group.clients.remove(client);
        }
    }

    /// Takes a client out of all groups.
    pub(super) fn leave_all(&mut self, client: &str) {
        let groups: Vec<Arc<str>> = self
            .clients
            .get(client)
            .into_iter()
            .flat_map(|it| it.groups.iter())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        groups.iter().for_each(|group| self.leave(client, group));
    }

    /// Takes a role from all who have it.
    pub(super) fn withdraw(&mut self, role: &str) {
        for client in self.clients.values_mut().filter(|it| it.roles.has(role)) {
            Arc::make_mut(client).roles.remove(role);
        }
        for group in self.groups.values_mut().filter(|it| it.roles.has(role)) {
            Arc::make_mut(group).roles.remove(role);
        }
    }
}

/// A priority within the plugin's bounds.
pub(super) fn bounded(priority: i32) -> i32 {
    priority.clamp(*PRIORITIES.start(), *PRIORITIES.end())
}
