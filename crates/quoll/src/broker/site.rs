//! What a listener with `protocol http_api` shows: `$SYS`, listeners and version as JSON under `/api/v1/`, and the files of
//! its `http_dir`. Read-only.
//!
//! As with Mosquitto everybody may read it who reaches the port, unless the listener has a password file or dynamic
//! security: then user name and password are asked for (RFC 7617), and of `$SYS` is shown what the user may receive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use quoll_mqtt::TopicName;
use quoll_server::http::Credentials;
use quoll_server::{Handle, HttpAnswer, HttpBody, HttpRequest, Site};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::doors::{Claim, DoorOf, Doors, Keeper};

/// What files are, by the ends of their names. Others are handed out as bytes, which browsers save.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("wasm", "application/wasm"),
];

/// Passwords of visitors under examination at a time.
const HASHING: usize = 2;

/// What all sites tell of the broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Set when it runs.
    server: OnceLock<(Handle, Arc<ArcSwap<Doors>>)>,
    listeners: ArcSwap<Value>,
}

impl Board {
    /// From now on the figures of this server are told, to those whom these doors let in.
    pub(super) fn run(&self, server: &Handle, keeper: &Keeper) {
        // It runs once.
        let _ = self.0.server.set((server.clone(), Arc::clone(&keeper.doors)));
    }

    /// The listeners that there are from now on.
    pub(crate) fn put_up(&self, listeners: Vec<Value>) {
        self.0.listeners.store(Arc::new(json!({ "listeners": listeners })));
    }

    /// The listeners that there are.
    pub(crate) fn listeners(&self) -> Arc<Value> {
        self.0.listeners.load_full()
    }
}

/// The site of one listener.
#[derive(Debug)]
pub(crate) struct StatusSite {
    listener: String,
    folder: Option<PathBuf>,
    board: Board,
    hashing: Semaphore,
}

impl StatusSite {
    pub(crate) fn new(listener: &str, folder: Option<PathBuf>, board: &Board) -> Self {
        Self { listener: listener.to_owned(), folder, board: board.clone(), hashing: Semaphore::new(HASHING) }
    }

    /// The user name, where one was proven; `Err` where somebody has to say who he is.
    async fn visitor(
        &self,
        door: &Arc<DoorOf>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, ()> {
        if !door.door.asks_for_passwords() {
            return Ok(None);
        }
        let username = credentials.map(|it| it.username.clone());
        let password = credentials.map(|it| Zeroizing::new(it.password.to_vec()));
        let claim =
            Claim { username: username.clone(), client_id: String::new(), password, certified: false };
        if door.lets_in(claim, &self.hashing).await { Ok(username) } else { Err(()) }
    }

    /// `$SYS`, as far as this user may receive it: numbers as numbers.
    fn figures(server: &Handle, door: &DoorOf, username: Option<&str>) -> Value {
        let grants = door.door.grants(username, "");
        let topics = server.sys_topics();
        let may = |topic: &str| TopicName::parse(topic).is_ok_and(|topic| grants.may_receive(&topic));
        let shown = topics.into_iter().filter(|(topic, _)| may(topic));
        Value::Object(shown.map(|(topic, text)| (topic, number_or_text(text))).collect::<Map<_, _>>())
    }

    async fn file(&self, path: &str) -> HttpAnswer {
        let Some(folder) = self.folder.clone() else { return not_found() };
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&folder, &path));
        match opened.await.ok().flatten() {
            Some((file, length, content_type)) => HttpAnswer {
                status: "200 OK",
                content_type,
                headers: "Cache-Control: no-cache\r\n",
                body: HttpBody::File(file, length),
            },
            None => not_found(),
        }
    }
}

#[async_trait]
impl Site for StatusSite {
    async fn answer(&self, request: &HttpRequest) -> HttpAnswer {
        let Some((server, doors)) = self.board.0.server.get() else { return not_yet() };
        let Some(door) = doors.load().get(&self.listener).cloned() else { return not_yet() };
        let Ok(username) = self.visitor(&door, request.credentials.as_ref()).await else {
            let mut answer =
                HttpAnswer::text("401 Unauthorized", "a user name and a password are needed here");
            answer.headers = "WWW-Authenticate: Basic realm=\"MQTT broker\", charset=\"UTF-8\"\r\n";
            return answer;
        };
        match request.path.as_str() {
            "/api/v1/systree" => json_answer(&Self::figures(server, &door, username.as_deref())),
            "/api/v1/listeners" => json_answer(&self.board.listeners()),
            "/api/v1/version" => json_answer(&json!({
                "version": super::MOSQUITTO,
                "broker": format!("quoll {}", env!("CARGO_PKG_VERSION")),
            })),
            path if path.starts_with("/api/") => not_found(),
            path => self.file(path).await,
        }
    }
}

fn number_or_text(text: String) -> Value {
    match (text.parse::<u64>(), text.parse::<f64>()) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => text.into(),
    }
}

fn json_answer(value: &Value) -> HttpAnswer {
    HttpAnswer {
        status: "200 OK",
        content_type: "application/json",
        headers: "Cache-Control: no-store\r\n",
        body: HttpBody::Bytes(format!("{value}\n").into_bytes()),
    }
}

/// The port is open a moment before all else is.
fn not_yet() -> HttpAnswer {
    let mut answer = HttpAnswer::text("503 Service Unavailable", "the broker is starting");
    answer.headers = "Retry-After: 1\r\n";
    answer
}

fn not_found() -> HttpAnswer {
    HttpAnswer::text("404 Not Found", "there is nothing of this name")
}

/// A file of the folder, whatever links there are in it; of a folder in it its `index.html`. Names that begin with a dot
/// are nobody's business.
fn open(folder: &Path, path: &str) -> Option<(File, u64, &'static str)> {
    let mut wanted = folder.to_owned();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if name.starts_with('.') || name.contains('\\') {
            return None;
        }
        wanted.push(name);
    }
    if wanted.is_dir() {
        wanted.push("index.html");
    }
    let real = fs::canonicalize(&wanted).ok()?;
    if !real.starts_with(fs::canonicalize(folder).ok()?) {
        return None;
    }
    // Looked at before it is opened: a FIFO would not be opened before somebody writes to it.
    if !fs::metadata(&real).ok()?.is_file() {
        return None;
    }
    let file = File::open(&real).ok()?;
    let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    let end = wanted.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    let content_type =
        TYPES.iter().find(|(known, _)| *known == end).map_or("application/octet-stream", |it| it.1);
    Some((file, length, content_type))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn files_come_from_the_folder_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("www");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(home.path().join("secret.txt"), "s").unwrap();
        fs::write(folder.join("index.html"), "<p>").unwrap();
        fs::write(folder.join("sub/a b.CSS"), "p{}").unwrap();
        fs::write(folder.join(".hidden"), "h").unwrap();
        std::os::unix::fs::symlink(home.path().join("secret.txt"), folder.join("out.txt")).unwrap();
        std::os::unix::fs::symlink(folder.join("index.html"), folder.join("in.html")).unwrap();
        std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
        for (path, found) in [
            ("/", Some(("text/html; charset=utf-8", 3))),
            ("/index.html", Some(("text/html; charset=utf-8", 3))),
            ("//in.html", Some(("text/html; charset=utf-8", 3))),
            ("/sub/a b.CSS", Some(("text/css; charset=utf-8", 3))),
            ("/sub", None),
            ("/nothing", None),
            ("/../secret.txt", None),
            ("/sub/../../secret.txt", None),
            ("/./index.html", None),
            ("/..\\secret.txt", None),
            ("/out.txt", None),
            ("/.hidden", None),
            ("/pipe", None),
        ] {
            let opened = open(&folder, path).map(|(_, length, content_type)| (content_type, length));
            assert_eq!(opened, found, "{path}");
        }
    }

    #[test]
    fn figures_are_numbers_and_words_are_words() {
        for (text, value) in [("12", json!(12)), ("0.50", json!(0.5)), ("9 seconds", json!("9 seconds"))] {
            assert_eq!(number_or_text(text.to_owned()), value);
        }
    }
}
