//! The signing process: holds the CA key while `quoll up` prepares and while virtual devices are enrolled, and nothing
//! else does. The broker's process starts it, asks it on a pipe, and sees certificates, never the key
//! (docs/architecture.md, decision 14).
//!
//! One JSON object a line in each direction. It ends when its standard input does.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::cli::{Common, ServerArgs};
use crate::config::Settings;
use crate::enrolment::{self, Desk, Wish};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::workshop::{self, Workshop};

/// Enrolments under way at a time: they mostly wait for restarting devices.
const ENROLMENTS_AT_ONCE: usize = 16;

/// What the signing process is started with.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sign {
    #[command(flatten)]
    server: ServerArgs,
    /// There is a terminal to ask for the passphrase on.
    #[arg(long)]
    may_ask: bool,
}

/// What it is asked to do.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Job {
    /// Make CA and server certificate where they are missing.
    Prepare,
    /// Enrol a device.
    Enrol(Wish),
}

/// What it says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(crate) enum Said {
    /// All is there.
    Prepared { ca_made: bool, server_made: bool, passphrase_in: Option<PathBuf> },
    /// A step of an enrolment.
    Step { device: String, text: String },
    /// The device is proven.
    Enrolled { device: String },
    /// The job failed; the device it was about, if it was about one.
    Failed { device: String, exit: u8, what: String, why: Option<String>, hint: Option<String> },
}

impl Said {
    fn failed(device: &str, failure: &Failure) -> Self {
        Self::Failed {
            device: device.to_owned(),
            exit: failure.exit as u8,
            what: failure.what.clone(),
            why: failure.why.clone(),
            hint: failure.hint.clone(),
        }
    }
}

/// Runs as the signing process.
pub(crate) async fn run(common: &Common, sign: &Sign) -> Outcome {
    // The CA's key must not outlive the process that needed it, even if that one is killed in mid-work.
    let with_parent = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    with_parent.map_err(|error| Failure::new(Exit::System, "cannot be tied to the node").why(error))?;
    let home = common.home()?;
    let settings = common.settings(&home, &sign.server)?;
    let source = common.passphrase(&home).may_ask(sign.may_ask);
    let mut desk: Option<Arc<Desk>> = None;
    let mut workshop: Option<Workshop> = None;
    let at_once = Arc::new(Semaphore::new(ENROLMENTS_AT_ONCE));
    let mut jobs = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = jobs.next_line().await {
        let job = serde_json::from_str(&line).map_err(|error| {
            Failure::new(Exit::Usage, "the signing process was asked nonsense").why(error)
        })?;
        match job {
            Job::Prepare => match prepare(&home, &settings, source.clone()) {
                Ok((open, said)) => {
                    workshop = Some(open);
                    say(&said);
                }
                Err(failure) => say(&Said::failed("", &failure)),
            },
            Job::Enrol(wish) => {
                let open = desk.clone().map_or_else(
                    || {
                        let mut bench = match workshop.take() {
                            Some(open) => open,
                            None => Workshop::open(&settings, source.clone())?,
                        };
                        Desk::open(&home, &settings, &mut bench).map(Arc::new)
                    },
                    Ok,
                );
                match open {
                    Ok(open) => {
                        desk = Some(Arc::clone(&open));
                        let at_once = Arc::clone(&at_once);
                        tokio::spawn(async move {
                            let _place = at_once.acquire_owned().await;
                            say(&enrol(&open, &wish).await);
                        });
                    }
                    Err(failure) => say(&Said::failed(&wish.name, &failure)),
                }
            }
        }
    }
    Ok(())
}

async fn enrol(desk: &Desk, wish: &Wish) -> Said {
    let device = wish.name.clone();
    let step = |text: &str| say(&Said::Step { device: device.clone(), text: text.to_owned() });
    match enrolment::enrol(desk, wish, step).await {
        Ok(_) => Said::Enrolled { device },
        Err(failure) => Said::failed(&device, &failure),
    }
}

fn prepare(
    home: &Home,
    settings: &Settings,
    source: crate::passphrase::PassphraseSource,
) -> Outcome<(Workshop, Said)> {
    let folder = settings.pki.display().to_string();
    let audit = Audit::begin(home, "ca.init", &folder, &json!({ "by": "up" }))?;
    let done = Workshop::open_or_create(settings, source, None)
        .and_then(|(mut workshop, made)| workshop.ensure_server().map(|server| (workshop, made, server)));
    let (workshop, made, server_made) =
        audit.end(done, |(_, made, server)| json!({ "ca_made": made.ca, "server_made": server }))?;
    Ok((workshop, Said::Prepared { ca_made: made.ca, server_made, passphrase_in: made.passphrase_in }))
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        // Whoever asked may have gone; then nobody listens.
        crate::output::print(&format!("{line}\n")).ok();
    }
}

/// The broker's end of the pipe.
pub(crate) struct Signer {
    child: Child,
    jobs: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Signer {
    /// Starts the process, with the same home, pki folder and server arguments.
    pub(crate) fn start(
        common: &Common,
        home: &Home,
        settings: &Settings,
        server: &ServerArgs,
        may_ask: bool,
    ) -> Outcome<Self> {
        let fail =
            |error: std::io::Error| Failure::new(Exit::System, "cannot start the signing process").why(error);
        let program = std::env::current_exe().map_err(fail)?;
        let mut command = Command::new(program);
        command.arg("--home").arg(home.dir()).arg("--pki").arg(&settings.pki);
        if let Some(file) = common.passphrase_file() {
            command.arg("--passphrase-file").arg(file);
        }
        command.arg("sign");
        if let Some(host) = &server.host {
            command.arg("--host").arg(host);
        }
        for address in &settings.mqtts {
            command.arg("--listen").arg(address.to_string());
        }
        for address in &settings.pinned {
            command.arg("--pinned").arg(address.to_string());
        }
        if may_ask {
            command.arg("--may-ask");
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(fail)?;
        let (Some(jobs), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(Exit::System, "the signing process has no pipes"));
        };
        Ok(Self { child, jobs, answers: BufReader::new(answers).lines() })
    }

    /// Makes CA and server certificate where they are missing.
    pub(crate) async fn prepare(&mut self) -> Outcome<Said> {
        self.ask(&Job::Prepare).await?;
        match self.hear().await? {
            Said::Failed { exit, what, why, hint, .. } => {
                Err(Failure { exit: Exit::from_code(exit), what, why, hint })
            }
            said => Ok(said),
        }
    }

    /// Enrols devices, several at once; `hear` is told of each step, and of each end, good or bad.
    pub(crate) async fn enrol(
        &mut self,
        wishes: Vec<Wish>,
        mut hear: impl FnMut(&str, Result<&str, &Failure>),
    ) -> Outcome {
        let mut open = wishes.len();
        for wish in wishes {
            self.ask(&Job::Enrol(wish)).await?;
        }
        while open > 0 {
            match self.hear().await? {
                Said::Step { device, text } => hear(&device, Ok(&text)),
                Said::Failed { device, exit, what, why, hint } => {
                    open -= 1;
                    hear(&device, Err(&Failure { exit: Exit::from_code(exit), what, why, hint }));
                }
                Said::Enrolled { .. } => open -= 1,
                Said::Prepared { .. } => {}
            }
        }
        Ok(())
    }

    async fn ask(&mut self, job: &Job) -> Outcome {
        let mut line =
            serde_json::to_vec(job).map_err(|error| Failure::new(Exit::System, "cannot ask").why(error))?;
        line.push(b'\n');
        self.jobs.write_all(&line).await.map_err(|_| gone())
    }

    async fn hear(&mut self) -> Outcome<Said> {
        let Ok(Some(line)) = self.answers.next_line().await else { return Err(gone()) };
        serde_json::from_str(&line).map_err(|error| gone().why(error))
    }

    /// Ends it.
    pub(crate) async fn end(mut self) {
        drop(self.jobs);
        self.child.wait().await.ok();
    }
}

fn gone() -> Failure {
    Failure::new(Exit::System, "the signing process has ended")
        .hint("run the command again; it goes on where it stopped")
}

/// Whether `up` needs the signing process before it can listen.
pub(crate) fn must_prepare(settings: &Settings) -> Outcome<bool> {
    if !workshop::is_made(settings) {
        return Ok(true);
    }
    let pki = workshop::open_pki(settings)?;
    let name = workshop::server_name(settings)?;
    Ok(pki.certificate(&name).map_err(crate::trouble::pki)?.is_none())
}
