//! SIGUSR2: the subscriptions, filter by filter, and where retained messages are, written to the log.

use std::collections::BTreeMap;

use quoll_server::Handle;

/// Lines at most: a log is no place for a million of them.
const MOST: usize = 10_000;

/// Writes them.
pub(super) async fn print(handle: &Handle) {
    let mut tree: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sessions = handle.sessions().await;
    for subscriber in &sessions {
        let session = &subscriber.session;
        let away = if session.conn.is_none() { ", away" } else { "" };
        for (filter, options) in &subscriber.subscriptions {
            let who = format!("{} (q{}{away})", session.client_id.escape_debug(), options.qos as u8);
            tree.entry(filter.as_str().escape_debug().to_string()).or_default().push(who);
        }
    }
    let filters = tree.len();
    let retained = handle.retained_topics();
    for topic in &retained {
        tree.entry(topic.as_str().escape_debug().to_string()).or_default().push("(r)".to_owned());
    }
    tracing::info!(
        "Subscriptions: {filters} filters of {} sessions; {} retained messages (r)",
        sessions.len(),
        retained.len()
    );
    let more = tree.len().saturating_sub(MOST);
    for (filter, mut clients) in tree.into_iter().take(MOST) {
        clients.sort_unstable();
        tracing::info!("{filter}: {}", clients.join(", "));
    }
    if more > 0 {
        tracing::info!("and {more} more");
    }
}
