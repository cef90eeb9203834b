//! Acts on the CA go into the audit trail of `fleet.db`: what is about to be done before it is done, and how it went.
//! Where the trail cannot be written, the act is refused.

use quoll_fleet::registry::Registry;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::trouble;

/// An act that is in the trail as begun.
pub(crate) struct Audit {
    registry: Registry,
    verb: String,
    subject: String,
}

impl Audit {
    /// Notes what is about to be done to whom. Called when nothing can refuse the act any more but the folder itself:
    /// a wrong passphrase is no act.
    pub(crate) fn begin(home: &Home, verb: &str, subject: &str, detail: &Value) -> Outcome<Self> {
        home.ensure()?;
        let refused = |failure: Failure| Failure {
            what: format!("{verb} was refused, because the audit trail cannot be written: {}", failure.what),
            ..failure
        };
        let registry = Registry::open(&home.fleet_db())
            .map_err(|error| refused(trouble::registry(error)))?
            .acting_as(&actor());
        registry
            .record(&format!("{verb}.begun"), subject, detail)
            .map_err(|error| refused(trouble::registry(error)))?;
        Ok(Self { registry, verb: verb.to_owned(), subject: subject.to_owned() })
    }

    /// Notes how the act went, and hands it on.
    pub(crate) fn end<T>(self, outcome: Outcome<T>, detail: impl FnOnce(&T) -> Value) -> Outcome<T> {
        let (word, detail) = match &outcome {
            Ok(done) => ("done", detail(done)),
            Err(failure) => ("failed", json!({ "what": failure.what })),
        };
        let noted = self.registry.record(&format!("{}.{word}", self.verb), &self.subject, &detail);
        let done = outcome?;
        noted.map_err(|error| {
            let failure = trouble::registry(error);
            Failure {
                exit: Exit::Partial,
                what: format!("it is done, but the audit trail does not say so: {}", failure.what),
                ..failure
            }
        })?;
        Ok(done)
    }
}

/// Who acts: the user of this process, as far as the environment tells.
fn actor() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok())
        .filter(|name| !name.is_empty() && name.len() <= 64 && !name.contains(char::is_control));
    format!("cli:{}", name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw())))
}
