//! What a person sees while the node runs: a table that redraws itself on a terminal, lines elsewhere.

use std::collections::{HashMap, VecDeque};
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use crossterm::{cursor, queue, terminal};

use crate::node::{Node, Row};
use crate::telemetry::Said;

/// A person reads no faster.
const REDRAW_EVERY: Duration = Duration::from_secs(1);
/// Of a payload, what fits beside the other columns.
const TELEMETRY_SHOWN: usize = 44;
/// Log lines kept until the next redraw; more than this at once nobody reads.
const LOG_LINES_KEPT: usize = 200;

/// Where log lines go: straight to standard error, or above the table while there is one.
#[derive(Clone, Default)]
pub(crate) struct LogSink(Arc<Mutex<Sink>>);

#[derive(Default)]
struct Sink {
    held: Option<VecDeque<Vec<u8>>>,
}

impl LogSink {
    fn hold(&self, hold: bool) {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = sink.held.take();
        sink.held = hold.then(VecDeque::new);
        drop(sink);
        for line in left.into_iter().flatten() {
            std::io::stderr().write_all(&line).ok();
        }
    }

    fn take(&self) -> Vec<Vec<u8>> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.held.as_mut().map(|held| held.drain(..).collect()).unwrap_or_default()
    }
}

impl Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut sink.held {
            Some(held) => {
                if held.len() == LOG_LINES_KEPT {
                    held.pop_front();
                }
                held.push_back(bytes.to_vec());
            }
            None => {
                drop(sink);
                std::io::stderr().write_all(bytes)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shows the devices until it is dropped or `stop` ends.
pub(crate) async fn show(
    node: Arc<Node>,
    sink: LogSink,
    plain: bool,
    telemetry: bool,
    stop: impl Future<Output = ()>,
) {
    if plain || !std::io::stdout().is_terminal() {
        lines(node, telemetry, stop).await;
    } else {
        table(node, sink, stop).await;
    }
}

/// A line for each device that comes or goes, and for its telemetry where that is wanted.
async fn lines(node: Arc<Node>, telemetry: bool, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut before: HashMap<String, Row> = HashMap::new();
    loop {
        for row in node.rows() {
            let old = before.get(&row.name);
            if old.is_none_or(|old| old.online != row.online) && (row.online || old.is_some()) {
                let state = if row.online { "online" } else { "offline" };
                let line = format!(
                    "{}  {state}  {}  {}\n",
                    row.name,
                    row.rung,
                    row.client.as_deref().unwrap_or("-")
                );
                crate::output::print(&line).ok();
            }
            let news = row.telemetry.is_some() && old.is_none_or(|old| old.telemetry != row.telemetry);
            if telemetry
                && news
                && let Some(Said { topic, text, .. }) = &row.telemetry
            {
                crate::output::print(&format!("{}  {topic}  {text}\n", row.name)).ok();
            }
            before.insert(row.name.clone(), row);
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW_EVERY) => {}
            () = &mut stop => return,
        }
    }
}

async fn table(node: Arc<Node>, sink: LogSink, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    sink.hold(true);
    let mut height = 0;
    loop {
        let text = render(&node.rows());
        height = redraw(height, &sink.take(), &text).unwrap_or(0);
        tokio::select! {
            () = tokio::time::sleep(REDRAW_EVERY) => {}
            () = &mut stop => break,
        }
    }
    sink.hold(false);
}

/// Replaces the last picture by a new one; log lines stay above it. Returns the lines of the new one.
fn redraw(height: u16, log: &[Vec<u8>], text: &str) -> std::io::Result<u16> {
    let mut out = std::io::stdout().lock();
    if height > 0 {
        queue!(
            out,
            cursor::MoveToPreviousLine(height),
            terminal::Clear(terminal::ClearType::FromCursorDown)
        )?;
    }
    for line in log {
        out.write_all(line)?;
    }
    let rows = usize::from(terminal::size().map_or(24, |(_, rows)| rows));
    // What is taller than the screen could not be taken back.
    let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(u16::try_from(lines.len()).unwrap_or(u16::MAX))
}

fn render(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no devices yet; add one with: quoll device add NAME --at ADDRESS\n(Ctrl-C stops the broker)"
            .into();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["DEVICE", "", "RUNG", "CONNECTED FROM", "EXPIRES", "LAST TELEMETRY"]);
    for row in rows {
        let telemetry = row.telemetry.as_ref().map(|Said { topic, text, .. }| {
            format!("{}  {}", topic.rsplit('/').next().unwrap_or(topic), brief(text))
        });
        table.add_row([
            row.name.clone(),
            if row.online { "online".into() } else { row.state.clone() },
            row.rung.clone(),
            row.client.clone().unwrap_or_default(),
            row.expires.clone().unwrap_or_default(),
            telemetry.unwrap_or_default(),
        ]);
    }
    let online = rows.iter().filter(|row| row.online).count();
    format!("{table}\n{online} of {} online   (Ctrl-C stops the broker)", rows.len())
}

/// A payload on a table's line: without the time, which is now, and without JSON's quotes.
fn brief(text: &str) -> String {
    let mut value = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let plain = match value.as_object_mut() {
        Some(object) => {
            object.shift_remove("Time");
            value.to_string().replace('"', "")
        }
        None => text.to_owned(),
    };
    plain.chars().take(TELEMETRY_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_is_shown_without_its_time_and_quotes() {
        assert_eq!(brief(r#"{"Time":"2026","ENERGY":{"Power":5}}"#), "{ENERGY:{Power:5}}");
        assert_eq!(brief("ON"), "ON");
        assert_eq!(brief(&"x".repeat(500)).len(), TELEMETRY_SHOWN);
    }
}
