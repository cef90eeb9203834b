//! What the file holds when there was none: an administrator and the roles that most need, as the plugin of 2.1 makes them.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::rand;
use thiserror::Error;
use zeroize::Zeroizing;

use super::super::password_hash::{HashError, PasswordHash, Scheme};
use super::DynamicSecurity;
use super::model::{About, Client, Defaults, Group, Model, NO_PRIORITY, Names, Role, Rule, Texts};

/// Characters of a password in the environment, at least; the plugin's.
const SHORTEST: usize = 12;
/// Characters of a password that is made up.
const MADE_UP: usize = 20;
const CHARACTERS: &[u8; 80] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-=_+[]{}@#~,./<>?*";

/// The user that may do everything on `$CONTROL`.
const ADMIN: &str = "admin";
/// A user that may do everything elsewhere; only with passwords that are made up.
const DEMO: &str = "democlient";
const ANONYMOUS_GROUP: &str = "unauthenticated";

/// Where the administrator's first password comes from.
#[derive(Debug)]
pub enum FirstPassword {
    /// The content of `plugin_opt_password_init_file`: its first line.
    File(Zeroizing<String>),
    /// The environment's `MOSQUITTO_DYNSEC_PASSWORD`.
    Environment(Zeroizing<String>),
    /// It is made up.
    MadeUp,
}

/// What is made.
#[derive(Debug)]
pub struct Initial {
    /// What goes into the file.
    pub security: DynamicSecurity,
    /// What goes into a file beside it, for the owner alone: the passwords that were made up.
    pub passwords: Option<Zeroizing<String>>,
}

/// Why nothing was made.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InitialError {
    /// The file has no first line.
    #[error("the password's file is empty")]
    Empty,
    /// The environment's is too short.
    #[error("MOSQUITTO_DYNSEC_PASSWORD must be at least {SHORTEST} characters")]
    Short,
    /// No hash could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Makes clients, groups and roles to begin with.
///
/// # Errors
/// Where the first password is none.
pub fn make(first: FirstPassword) -> Result<Initial, InitialError> {
    let mut model = Model {
        defaults: Defaults {
            publish_client_send: false,
            publish_client_receive: true,
            subscribe: false,
            unsubscribe: true,
        },
        ..Model::default()
    };
    for (name, description, rules) in ROLES {
        let mut role = Role::new(texts(None, Some(description)), true);
        for (about, topic) in *rules {
            role.add(*about, Rule { topic: (*topic).to_owned(), priority: 0, allow: true });
        }
        model.roles.insert((*name).into(), Arc::new(role));
    }
    let description = "If unauthenticated access is allowed, this group can be used to define roles for clients that \
                       connect without a password.";
    let group = Group { texts: texts(Some("Unauthenticated group"), Some(description)), ..Group::default() };
    let anonymous: Arc<str> = ANONYMOUS_GROUP.into();
    model.groups.insert(Arc::clone(&anonymous), Arc::new(group));
    model.anonymous_group = Some(anonymous);
    let passwords = add_clients(&mut model, first)?;
    Ok(Initial { security: DynamicSecurity { model, warnings: Vec::new() }, passwords })
}

fn add_clients(model: &mut Model, first: FirstPassword) -> Result<Option<Zeroizing<String>>, InitialError> {
    let (password, is_made_up) = match first {
        FirstPassword::File(content) => {
            let line = content.lines().next().unwrap_or_default().trim_end();
            (Zeroizing::new(line.to_owned()), false)
        }
        FirstPassword::Environment(password) if password.len() < SHORTEST => return Err(InitialError::Short),
        FirstPassword::Environment(password) => (password, false),
        FirstPassword::MadeUp => (made_up()?, true),
    };
    if password.is_empty() {
        return Err(InitialError::Empty);
    }
    let roles = ["super-admin", "sys-observe", "topic-observe"];
    add_client(model, ADMIN, "Admin user", &password, &roles)?;
    if !is_made_up {
        return Ok(None);
    }
    let demo = made_up()?;
    let text = "Demonstration client with full read/write access to the '#' topic hierarchy.";
    add_client(model, DEMO, text, &demo, &["client"])?;
    let mut said = Zeroizing::new(String::with_capacity(128));
    // To a text nothing fails to be written.
    let _ = writeln!(said, "{ADMIN} {}\n{DEMO} {}", *password, *demo);
    Ok(Some(said))
}

fn add_client(
    model: &mut Model,
    name: &str,
    text: &str,
    password: &str,
    roles: &[&str],
) -> Result<(), InitialError> {
    let hash = PasswordHash::new(Scheme::default(), password.as_bytes())?;
    let mut names = Names::default();
    for role in roles {
        names.add(&(*role).into(), NO_PRIORITY);
    }
    let client =
        Client { texts: texts(Some(text), None), password: Some(hash), roles: names, ..Client::default() };
    model.clients.insert(name.into(), Arc::new(client));
    Ok(())
}

fn texts(name: Option<&str>, description: Option<&str>) -> Texts {
    Texts { name: name.map(str::to_owned), description: description.map(str::to_owned) }
}

/// 80 characters are a number of them that divides 240: each is as likely as the others.
fn made_up() -> Result<Zeroizing<String>, HashError> {
    let mut password = Zeroizing::new(String::with_capacity(MADE_UP));
    while password.len() < MADE_UP {
        let mut bytes = Zeroizing::new([0; MADE_UP]);
        rand::fill(&mut bytes[..]).map_err(|_| HashError::Random)?;
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 240);
        let missing = MADE_UP - password.len();
        password.extend(
            fair.take(missing).map(|byte| char::from(CHARACTERS[usize::from(*byte) % CHARACTERS.len()])),
        );
    }
    Ok(password)
}

type Rules = &'static [(About, &'static str)];

const fn everything(topic: &'static str) -> [(About, &'static str); 4] {
    [
        (About::PublishClientSend, topic),
        (About::PublishClientReceive, topic),
        (About::SubscribePattern, topic),
        (About::UnsubscribePattern, topic),
    ]
}

/// Name, description and what is allowed.
const ROLES: &[(&str, &str, Rules)] = &[
    ("client", "Read/write access to the full application topic hierarchy.", &everything("#")),
    (
        "broker-admin",
        "Grants access to administer general broker configuration.",
        &everything("$CONTROL/broker/#"),
    ),
    (
        "dynsec-admin",
        "Grants access to administer clients/groups/roles.",
        &everything("$CONTROL/dynamic-security/#"),
    ),
    ("super-admin", "Grants access to administer all kind of broker controls", &everything("$CONTROL/#")),
    (
        "sys-notify",
        "Allow bridges to publish connection state messages.",
        &[(About::PublishClientSend, "$SYS/broker/connection/%c/state")],
    ),
    (
        "sys-observe",
        "Observe the $SYS topic hierarchy.",
        &[(About::PublishClientReceive, "$SYS/#"), (About::SubscribePattern, "$SYS/#")],
    ),
    (
        "topic-observe",
        "Read only access to the full application topic hierarchy.",
        &[
            (About::PublishClientReceive, "#"),
            (About::SubscribePattern, "#"),
            (About::UnsubscribePattern, "#"),
        ],
    ),
];
