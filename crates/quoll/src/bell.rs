//! Rings for a running node: what changed in the files is put into force. Without a node there is nobody to tell.

use crate::control::{self, Answer, Question};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;

/// Tells the node, if one runs; how many connections it ended.
pub(crate) async fn ring(home: &Home) -> Outcome<Option<usize>> {
    let partial = |why: String| {
        Failure::new(Exit::Partial, "it is done, but the running node has not taken it over")
            .why(why)
            .hint("it looks at the files each second; if its log goes on complaining, restart it")
    };
    match control::ask(home, &Question::Changed).await {
        Ok(None) => Ok(None),
        Ok(Some(Answer::InForce { ended })) => Ok(Some(ended)),
        Ok(Some(Answer::Failed { why })) => Err(partial(why)),
        Ok(Some(_)) => Err(partial("it answered another question".into())),
        Err(error) => Err(partial(error.to_string())),
    }
}
