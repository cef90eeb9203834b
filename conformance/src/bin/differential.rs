//! Two clients against Quoll and Debian's Mosquitto in lock-step; see `src/differential`.
//!
//! ```text
//! cargo run --release --manifest-path conformance/Cargo.toml --bin differential -- [EXCHANGES [SEED [PAIRS]]]
//! ```
//!
//! Starts a pair of brokers for each worker, plays scenarios until so many exchanges are done (default 1,000,000; seed 1),
//! prints each kind of unexplained difference once, shrunk, and how often each rule of `differences.toml` explained one.
//! Ends with 1 when something was not explained.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use conformance::difference::exchanges;
use conformance::differential::compare::{Counts, Rule};
use conformance::differential::generate::Generator;
use conformance::differential::pair::{Finding, Pair, shape};
use conformance::subject::twins;

/// Steps of a scenario, unless a difference ends it.
const STEPS: usize = 60;

/// Pairs of brokers at a time.
const PAIRS: usize = 4;

/// Kinds of unexplained differences after which the search ends: there is enough to do.
const ENOUGH: usize = 40;

#[derive(Default)]
struct Results {
    exchanges: AtomicU64,
    scenarios: AtomicU64,
    kinds: AtomicUsize,
    counts: Mutex<Counts>,
    findings: Mutex<BTreeMap<String, u64>>,
}

fn main() -> ExitCode {
    let number =
        |place: usize, or: u64| std::env::args().nth(place).and_then(|it| it.parse().ok()).unwrap_or(or);
    let (goal, seed, pairs) = (number(1, 1_000_000), number(2, 1), number(3, PAIRS as u64));
    let rules = match exchanges() {
        Ok(rules) => rules,
        Err(error) => {
            eprintln!("differential: {error}");
            return ExitCode::FAILURE;
        }
    };
    let results = Results::default();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..pairs {
            scope.spawn(|| work(goal, seed, &rules, &results));
        }
    });
    report(&results, begin);
    if results.kinds.load(Ordering::Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(goal: u64, seed: u64, rules: &[Rule], results: &Results) {
    let (quoll, mosquitto) = twins();
    let mut pair = Pair::new([quoll.address, mosquitto.address]);
    while results.exchanges.load(Ordering::Relaxed) < goal && results.kinds.load(Ordering::Relaxed) < ENOUGH {
        let number = results.scenarios.fetch_add(1, Ordering::Relaxed);
        let scenario_seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let course = pair.explore(&mut Generator::new(scenario_seed), STEPS, rules);
        results.exchanges.fetch_add(course.exchanges, Ordering::Relaxed);
        if !course.explained.is_empty() {
            let mut counts = results.counts.lock().expect("no worker panics while it counts");
            for id in course.explained {
                *counts.entry(id).or_default() += 1;
            }
        }
        if let Some(finding) = course.finding {
            tell(&mut pair, finding, number, rules, results);
        }
    }
}

/// Prints the first finding of its kind, shrunk; counts the others.
fn tell(pair: &mut Pair, finding: Finding, number: u64, rules: &[Rule], results: &Results) {
    let kind = shape(&finding.difference);
    {
        let mut findings = results.findings.lock().expect("no worker panics while it counts");
        let count = findings.entry(kind.clone()).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
    }
    results.kinds.fetch_add(1, Ordering::Relaxed);
    let shrunk = pair.shrink(finding, rules);
    let steps: Vec<String> = shrunk.steps.iter().map(|it| format!("  {it:?}")).collect();
    println!(
        "\nscenario {number}: {kind}\n{}\n  quoll only:     {:?}\n  mosquitto only: {:?}\n  found: {}",
        steps.join("\n"),
        shrunk.difference.quoll,
        shrunk.difference.mosquitto,
        shrunk.found.iter().filter(|it| !it.starts_with("since:")).cloned().collect::<Vec<_>>().join(" ")
    );
}

fn report(results: &Results, begin: Instant) {
    let exchanges = results.exchanges.load(Ordering::Relaxed);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "\n{exchanges} exchanges in {} scenarios, {seconds:.0} s, {:.0} a second",
        results.scenarios.load(Ordering::Relaxed),
        exchanges as f64 / seconds
    );
    let counts = results.counts.lock().expect("no worker panics while it counts");
    println!("explained by differences.toml: {}", counts.values().sum::<u64>());
    for (id, count) in counts.iter() {
        println!("  {count:>8}  {id}");
    }
    let findings = results.findings.lock().expect("no worker panics while it counts");
    println!("not explained: {}", findings.values().sum::<u64>());
    for (kind, count) in findings.iter() {
        println!("  {count:>8}  {kind}");
    }
}
