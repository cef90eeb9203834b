//! `quoll doctor --fix`: does what a verdict calls safe, looks whether it helped, and takes it back where it did not.
//!
//! Settings alone, each with a way back (see [`Repair`]); never a key or a certificate.

use quoll_fleet::device::Device;
use quoll_fleet::doctor::{Evidence, Health, Repair, Verdict, diagnose};
use quoll_fleet::registry::Registry;
use quoll_tasmota::HttpConsole;
use serde_json::json;

use super::Common;
use crate::doctor::{self, Practice, ask};
use crate::failure::{Failure, Outcome};
use crate::trouble;

/// Causes that are repaired one after the other: what one hid may be repairable, too.
const CAUSES: usize = 3;

/// What `--fix` did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// What was done and stays.
    pub(super) repaired: Vec<Repair>,
    /// What was done and taken back, since it did not help.
    pub(super) put_back: Vec<Repair>,
    /// What could not be taken back, and why.
    pub(super) not_put_back: Vec<String>,
}

/// One device under repair.
pub(super) struct Surgery<'a> {
    pub(super) common: &'a Common,
    pub(super) practice: &'a Practice,
    pub(super) registry: Registry,
    pub(super) device: &'a Device,
    pub(super) console: &'a HttpConsole,
}

impl Surgery<'_> {
    /// Repairs cause after cause until the device is well or nothing is left that is safe. Where it is not connected
    /// then, everything is taken back: it ends as it was found.
    pub(super) async fn operate(
        &self,
        evidence: Evidence,
        verdict: Verdict,
    ) -> Outcome<(Evidence, Verdict, Done)> {
        let before = evidence.device.clone();
        let (mut evidence, mut verdict) = (evidence, verdict);
        let mut done = Done::default();
        let mut causes: Vec<&'static str> = Vec::new();
        while let Some(cause) = verdict.cause.as_ref().map(|finding| finding.rule) {
            // A device in the middle of a restart forgets what it was told last, so each is done twice before it counts as
            // of no use.
            let again = causes.iter().filter(|known| **known == cause).count();
            let distinct = causes.iter().collect::<std::collections::BTreeSet<_>>().len();
            let Some(patience) = doctor::RETURN_PATIENCE.get(again) else { break };
            if again == 0 && distinct == CAUSES {
                break;
            }
            let repairs = safe(&verdict);
            if repairs.is_empty() {
                if causes.is_empty() {
                    eprintln!("quoll: note: there is nothing that --fix may do about it");
                }
                break;
            }
            causes.push(cause);
            let was_ill = verdict.health == Health::Ill;
            let mut restarts = false;
            let failures = ask::failed_attempts(self.console).await.unwrap_or_default();
            for repair in repairs {
                self.say(&repair.words());
                match doctor::repair(self.device, self.console, &repair).await {
                    Ok(over_it) => restarts |= over_it,
                    Err(failure) => {
                        self.take_back(&before, &mut done).await?;
                        return Err(told(failure, &done));
                    }
                }
                self.record("device.repaired", &repair)?;
                if !done.repaired.contains(&repair) {
                    done.repaired.push(repair);
                }
            }
            if was_ill || restarts {
                self.say("waiting until it is back");
                if restarts && !was_ill {
                    // Its old connection is still there.
                    doctor::wait_for_restart(self.console, *patience).await;
                }
                doctor::wait_until_back(self.practice, self.device, self.console, &failures, *patience).await;
            }
            evidence = self.practice.examine(self.device, self.console).await;
            verdict = diagnose(&evidence);
            if !was_ill || !is_ill(&verdict) {
                break;
            }
        }
        if is_ill(&verdict) {
            self.take_back(&before, &mut done).await?;
        }
        Ok((evidence, verdict, done))
    }

    /// Last done, first taken back. What has no way back, such as a restart, stays done.
    async fn take_back(
        &self,
        before: &quoll_fleet::doctor::evidence::DeviceSide,
        done: &mut Done,
    ) -> Outcome {
        let all = std::mem::take(&mut done.repaired);
        for repair in all.into_iter().rev() {
            let Some(command) = repair.undo(before) else {
                done.repaired.insert(0, repair);
                continue;
            };
            self.say(&format!("it did not help; taking back: {}", repair.words()));
            match doctor::put_back(self.device, self.console, &repair, &command).await {
                Ok(()) => {
                    self.record("device.repair-taken-back", &repair)?;
                    done.put_back.push(repair);
                }
                Err(failure) => {
                    let why = failure.why.as_deref().unwrap_or("no reason was given");
                    done.not_put_back.push(format!("{}: {why}", repair.words()));
                    done.repaired.insert(0, repair);
                }
            }
        }
        Ok(())
    }

    fn record(&self, verb: &str, repair: &Repair) -> Outcome {
        let detail = json!({ "repair": repair.words() });
        self.registry.record(verb, self.device.name.as_str(), &detail).map_err(trouble::registry)?;
        Ok(())
    }

    fn say(&self, text: &str) {
        if self.common.is_for_people() {
            eprintln!("  ..  {text}");
        }
    }
}

fn is_ill(verdict: &Verdict) -> bool {
    matches!(verdict.health, Health::Ill | Health::Unexplained)
}

/// What the cause calls safe; of warnings, all.
fn safe(verdict: &Verdict) -> Vec<Repair> {
    let mut repairs: Vec<Repair> =
        verdict.cause.iter().filter_map(|finding| finding.repair.clone()).collect();
    if !is_ill(verdict) {
        for repair in verdict.also.iter().filter_map(|finding| finding.repair.clone()) {
            if !repairs.contains(&repair) {
                repairs.push(repair);
            }
        }
    }
    repairs
}

/// A failure in mid-repair, with what became of the steps before it.
fn told(failure: Failure, done: &Done) -> Failure {
    if done.put_back.is_empty() && done.not_put_back.is_empty() {
        return failure;
    }
    let back: Vec<String> = done.put_back.iter().map(Repair::words).collect();
    let mut hint =
        format!("taken back: {}", if back.is_empty() { "nothing".into() } else { back.join("; ") });
    if !done.not_put_back.is_empty() {
        hint.push_str(&format!("; not taken back: {}", done.not_put_back.join("; ")));
    }
    failure.hint(hint)
}
