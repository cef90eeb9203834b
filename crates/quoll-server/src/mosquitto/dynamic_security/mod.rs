//! Mosquitto's dynamic security plugin: clients, groups and roles in a JSON file, changed by commands on
//! `$CONTROL/dynamic-security/v1`.
//!
//! | room | what is in it |
//! |---|---|
//! | here | the decisions: who comes in, and who may do what |
//! | `model` | clients, groups, roles, who belongs to what |
//! | `file` | the JSON file, read and written |
//! | [`commands`] | commands and answers in the plugin's words; `clients`, `groups`, `roles`, `defaults`: one verb each |
//! | [`initial`] | what the file holds when there was none |
//!
//! Decided as the plugin of Mosquitto 2.1 decides: the client's roles by priority, then those of its groups by priority; in a
//! role the rules by priority; the first that fits is the answer, and without one the file's default for that kind of action.
//! What the default allows never reaches `$CONTROL`. Nothing here touches a disk or a socket: a command makes a new value
//! of an old one, and whoever wires a broker saves it, puts it in force, and ends connections.

pub mod commands;
pub mod initial;

mod clients;
mod defaults;
mod file;
mod groups;
mod model;
mod roles;

use quoll_broker::Grants;
use quoll_broker::ordered::{FilterRule, OrderedRules, TopicRule, Usual};
use quoll_mqtt::{TopicFilter, TopicName};
use thiserror::Error;

use self::model::{About, Model, Role};
use super::acl_file::{Action, fill};
use super::password_file::Answer;
use super::password_hash::{HashError, PasswordHash};

/// Bytes of a file: some 50,000 clients.
pub const MAX_FILE: usize = 32 << 20;

/// Where commands are published to.
pub const TOPIC: &str = "$CONTROL/dynamic-security/v1";
/// Where they are answered.
pub const RESPONSE_TOPIC: &str = "$CONTROL/dynamic-security/v1/response";

/// The file, understood.
#[derive(Clone, Debug, Default)]
pub struct DynamicSecurity {
    model: Model,
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
}

impl DynamicSecurity {
    /// Reads a file's content.
    ///
    /// # Errors
    /// Where it is no JSON of this form, or a hash in it is none.
    pub fn parse(content: &[u8]) -> Result<Self, DynamicSecurityError> {
        let (model, warnings) = file::read(content)?;
        Ok(Self { model, warnings })
    }

    /// The file's content, for the plugins of Mosquitto 2.0 and 2.1 too. Holds hashes of passwords.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Of a value that was built here nothing can fail to be written.
        serde_json::to_string_pretty(&file::write(&self.model)).unwrap_or_default()
    }

    /// Asks for a client. Blocks for milliseconds on purpose.
    #[must_use]
    pub fn verify(&self, username: &str, client_id: &str, password: &[u8]) -> Answer {
        let Some(client) = self.model.clients.get(username) else {
            // Somebody's hash in place of nobody's, so that the answer takes as long.
            let some = self.model.clients.values().find_map(|client| client.password.as_ref());
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
        for rule in roles.iter().flat_map(|role| role.rules(about)) {
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
            let literal =
                role.rules(About::SubscribeLiteral).iter().find(|rule| rule.topic == wanted.unshared());
            let pattern = || {
                role.rules(About::SubscribePattern).iter().find(|rule| {
                    let filter = fill(&rule.topic, username, client_id);
                    filter.is_some_and(|filter| Grants::new(&[], &[filter]).covers(wanted))
                })
            };
            if let Some(rule) = literal.or_else(pattern) {
                return rule.allow;
            }
        }
        self.model.defaults.subscribe && !wanted.unshared().starts_with("$CONTROL")
    }

    /// The permissions of a client, to be carried by its session: the decisions above, exactly.
    #[must_use]
    pub fn grants(&self, username: Option<&str>, client_id: &str) -> Grants {
        let Some(roles) = self.roles(username, client_id) else { return Grants::none() };
        let topics = |about: About| -> Box<[TopicRule]> {
            let rules = roles.iter().flat_map(|role| role.rules(about));
            let filled = rules.filter_map(|rule| {
                let filter = fill(&rule.topic, username, client_id)?;
                Some(TopicRule { filter, allow: rule.allow })
            });
            filled.collect()
        };
        let filters = |literal: About, pattern: About, wildcards: bool| -> Box<[FilterRule]> {
            let mut rules = Vec::new();
            for role in &roles {
                if wildcards && !role.wildcard_subscriptions {
                    rules.push(FilterRule::NoWildcards);
                }
                rules.extend(role.rules(literal).iter().map(|rule| FilterRule::Literal {
                    filter: rule.topic.as_str().into(),
                    allow: rule.allow,
                }));
                rules.extend(role.rules(pattern).iter().filter_map(|rule| {
                    let filter = fill(&rule.topic, username, client_id)?;
                    Some(FilterRule::Pattern { filter, allow: rule.allow })
                }));
            }
            rules.into()
        };
        let defaults = &self.model.defaults;
        Grants::ordered(OrderedRules {
            publish: topics(About::PublishClientSend),
            receive: topics(About::PublishClientReceive),
            subscribe: filters(About::SubscribeLiteral, About::SubscribePattern, true),
            unsubscribe: filters(About::UnsubscribeLiteral, About::UnsubscribePattern, false),
            usual: Usual {
                publish: defaults.publish_client_send,
                receive: defaults.publish_client_receive,
                subscribe: defaults.subscribe,
                unsubscribe: defaults.unsubscribe,
            },
        })
    }

    /// What proves that somebody is this user; `None` for one who cannot come in.
    pub(super) fn proof(&self, username: &str) -> Option<(&PasswordHash, Option<&str>)> {
        let client = self.model.clients.get(username).filter(|client| !client.disabled)?;
        Some((client.password.as_ref()?, client.client_id.as_deref()))
    }

    /// The roles to be asked; `None` for a client that is not in the file, and for names that look like wildcards
    /// (`auth_plugin_deny_special_chars`): nothing is allowed.
    fn roles(&self, username: Option<&str>, client_id: &str) -> Option<Vec<&Role>> {
        let wild = |name: &str| name.contains(['+', '#']);
        if username.is_some_and(wild) || wild(client_id) {
            return None;
        }
        self.model.roles_of(username)
    }

    const fn usually(&self, action: Action) -> bool {
        match action {
            Action::Write => self.model.defaults.publish_client_send,
            Action::Read => self.model.defaults.publish_client_receive,
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
