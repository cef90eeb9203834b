//! SIGUSR2: the subscriptions, filter by filter, written to the log.

use std::collections::BTreeMap;

use quoll_server::Handle;

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
    tracing::info!("Subscriptions: {} filters of {} sessions", tree.len(), sessions.len());
    for (filter, mut clients) in tree {
        clients.sort_unstable();
        tracing::info!("{filter}: {}", clients.join(", "));
    }
}
