//! The local socket between a running node and the commands: "this changed", and questions that only a live node can
//! answer. Files and databases are the truth; without a node every command still works.
//!
//! One JSON object a line, each answered by one. The socket lies in the home folder, which is its owner's alone.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::doctor::evidence::Encounter;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::encounters::Whose;
use crate::home::Home;

/// A line longer than this is nobody's question. A status of 20,000 connections is an answer, and those are not bounded.
const LONGEST_QUESTION: u64 = 64 * 1024;
/// Questions that may be open at once; more wait. A run over a fleet has one open for each device that it waits for.
const QUESTIONS_AT_ONCE: usize = 256;
/// A node that does not answer a plain question within this is not answering. Long: a question may wait for a reading of
/// everything on a small machine that a run over a fleet keeps busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times that a question is asked where the node hung up before it answered: it had waited for a busy asker's line.
const ATTEMPTS: u32 = 3;
/// Room for a socket's path in the system's structure, less a little.
const LONGEST_SOCKET_PATH: usize = 100;

/// What a command asks of a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Question {
    /// Files or databases changed: look at them again. Answered when what changed is in force.
    Changed,
    /// How is it going?
    Status,
    /// Wait until a certificate has been seen at the door.
    WaitFor {
        /// Its serial number, as Easy-RSA writes it.
        serial: String,
        /// For how long, in milliseconds.
        within_ms: u64,
    },
    /// End the connections made with a certificate or a password, so that their device comes anew.
    Part {
        /// Its serial number, or the password's id.
        serial: String,
    },
    /// Keep somebody out from now on, until the node stops: the registry cannot be written.
    KeepOut {
        /// A name in the registry, or a certificate's serial number.
        who: String,
    },
    /// What was seen of a device at the door.
    Encounters(Whose),
    /// A connection that is about to be made by a command is no device's.
    Disregard {
        /// Where it comes from.
        peer: SocketAddr,
    },
}

/// What a node answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The change is in force.
    InForce {
        /// Connections that it ended.
        ended: usize,
    },
    /// See [`Status`].
    Status(Status),
    /// The certificate was seen.
    Seen(Seen),
    /// It was not, in the time given; what was seen in its place.
    NotSeen {
        /// Failed handshakes from the time of waiting, newest last: address and reason.
        failed: Vec<String>,
    },
    /// See [`Question::Encounters`].
    Encountered {
        /// Oldest first.
        encounters: Vec<Encounter>,
    },
    /// The node could not do it.
    Failed {
        /// Why.
        why: String,
    },
}

/// A node at a glance.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) host: String,
    pub(crate) listeners: Vec<String>,
    pub(crate) connections: Vec<Seen>,
}

/// A connection, as the node sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Identity: the certificate's common name, or a user name.
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) address: String,
    /// The certificate's serial number, where there is one.
    pub(crate) serial: Option<String>,
    /// When it connected, in milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// What answers questions: the node.
#[async_trait]
pub(crate) trait Respond: Send + Sync + 'static {
    async fn respond(&self, question: Question) -> Answer;
}

/// A socket's place. Where the path is too long for the system, a short one to the same file is used.
struct Place {
    path: PathBuf,
    _folder: Option<File>,
}

fn place(home: &Home) -> io::Result<Place> {
    let path = home.socket();
    if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return Ok(Place { path, _folder: None });
    }
    let folder = File::open(home.dir())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join("quoll.sock");
    Ok(Place { path: short, _folder: Some(folder) })
}

/// Listens; the caller holds the home's lock, so a socket that is there is a dead node's.
pub(crate) fn listen(home: &Home) -> io::Result<UnixListener> {
    let place = place(home)?;
    match std::fs::remove_file(&place.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&place.path)?;
    std::fs::set_permissions(home.socket(), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, node: Arc<dyn Respond>) {
    let room = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &*node).await {
                        tracing::debug!(%error, "a question on the local socket broke off");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the local socket does not accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, node: &dyn Respond) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LONGEST_QUESTION)).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.map_err(io::Error::other)??;
    let answer = match line.as_deref().map(serde_json::from_str::<Question>) {
        None => return Ok(()),
        Some(Ok(question)) => node.respond(question).await,
        Some(Err(error)) => Answer::Failed { why: format!("that is no question: {error}") },
    };
    let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    text.push(b'\n');
    timeout(PATIENCE, write.write_all(&text)).await.map_err(io::Error::other)?
}

/// Asks the node of this home. `None` where none is running.
pub(crate) async fn ask(home: &Home, question: &Question) -> io::Result<Option<Answer>> {
    let patience = match question {
        Question::WaitFor { within_ms, .. } => PATIENCE + Duration::from_millis(*within_ms),
        _ => PATIENCE,
    };
    let mut attempt = 1;
    loop {
        match ask_once(home, question, patience).await {
            Err(error) if attempt < ATTEMPTS && hung_up(&error) => attempt += 1,
            other => return other,
        }
    }
}

/// Whether the other side closed the socket without an answer. Every question may be asked twice.
fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

async fn ask_once(home: &Home, question: &Question, patience: Duration) -> io::Result<Option<Answer>> {
    let place = place(home)?;
    let stream = match UnixStream::connect(&place.path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(question).map_err(io::Error::other)?;
    text.push(b'\n');
    let mut line = String::new();
    timeout(patience, async {
        write.write_all(&text).await?;
        BufReader::new(read).read_line(&mut line).await
    })
    .await
    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the running node does not answer"))??;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the running node hung up"));
    }
    serde_json::from_str(&line).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    #[async_trait]
    impl Respond for Echo {
        async fn respond(&self, question: Question) -> Answer {
            match question {
                Question::Changed => Answer::InForce { ended: 3 },
                other => Answer::Failed { why: format!("{other:?}") },
            }
        }
    }

    async fn answers_in(home: &Home) {
        assert!(ask(home, &Question::Changed).await.unwrap().is_none(), "no node, no answer");
        let server = tokio::spawn(serve(listen(home).unwrap(), Arc::new(Echo)));
        let answer = ask(home, &Question::Changed).await.unwrap().unwrap();
        assert!(matches!(answer, Answer::InForce { ended: 3 }), "{answer:?}");
        let mode = std::fs::metadata(home.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        server.abort();
        server.await.unwrap_err();
        assert!(ask(home, &Question::Changed).await.unwrap().is_none(), "a dead node's socket is no node");
        listen(home).expect("a dead node's socket is replaced");
    }

    #[tokio::test]
    async fn a_question_is_answered_and_a_dead_node_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        answers_in(&Home::choose(Some(dir.path().to_owned())).unwrap()).await;
    }

    /// A node that hangs up on the first who ask is asked again; one that always does is said to.
    #[tokio::test]
    async fn a_node_that_hangs_up_is_asked_again() {
        for (hangs_up, answers) in [(2, true), (u32::MAX, false)] {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::choose(Some(dir.path().to_owned())).unwrap();
            let listener = listen(&home).unwrap();
            let server = tokio::spawn(async move {
                for _ in 0..hangs_up {
                    drop(listener.accept().await.unwrap());
                }
                serve(listener, Arc::new(Echo)).await;
            });
            let answer = ask(&home, &Question::Changed).await;
            assert_eq!(matches!(answer, Ok(Some(Answer::InForce { .. }))), answers, "{answer:?}");
            server.abort();
        }
    }

    #[tokio::test]
    async fn a_home_with_a_long_path_works_too() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a-rather-long-name".repeat(8));
        std::fs::create_dir(&deep).unwrap();
        answers_in(&Home::choose(Some(deep)).unwrap()).await;
    }

    #[tokio::test]
    async fn garbage_on_the_socket_is_answered_not_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(dir.path().to_owned())).unwrap();
        let server = tokio::spawn(serve(listen(&home).unwrap(), Arc::new(Echo)));
        for garbage in ["\n", "{\n", "{\"ask\":\"explode\"}\n", "\u{fffd}\u{0}\n"] {
            let mut stream = UnixStream::connect(home.socket()).await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await.unwrap();
            assert!(answer.contains("\"failed\""), "{garbage:?}: {answer}");
        }
        server.abort();
    }
}
