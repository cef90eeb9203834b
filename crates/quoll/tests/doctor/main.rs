//! The doctor names the cause of whatever is provoked: virtual devices against real servers, real nodes and real brokers.
//!
//! | room | what is provoked |
//! |---|---|
//! | [`numbers`] | every number and return code of facts §7.4, at servers that are not ours |
//! | [`node`] | what goes wrong at a node of ours; what `--fix` mends, and takes back where it does not help |
//! | [`nobody`] | devices that lie, hang, or are somebody else; a house without a broker |
//! | [`house`], [`office`], [`servers`] | the stage |

#![allow(clippy::unwrap_used, reason = "a test may")]

mod house;
mod nobody;
mod node;
mod numbers;
mod office;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use quoll_fleet::doctor::rules::RULES;

use house::{Case, Says};

const HOST: &str = "127.0.0.1";

fn all() -> Vec<&'static Case> {
    [numbers::CASES, node::CASES, node::ec::CASES, nobody::CASES, nobody::BIG_CA]
        .into_iter()
        .flatten()
        .collect()
}

/// A room that provokes, and what it is called.
type Part = (&'static str, fn());

const PARTS: [Part; 5] = [
    ("at a node", node::at_a_node_every_fault_is_named_and_what_is_safe_is_mended),
    ("numbers", numbers::the_doctor_names_the_cause_of_every_number_and_return_code),
    ("nobody", nobody::without_a_broker_and_an_honest_device_what_can_be_known_is_said),
    ("ecdsa", node::ec::ecdsa_is_switched_on_where_the_ca_or_the_server_needs_it),
    ("large ca", nobody::a_ca_that_the_chip_cannot_compute_with_is_named),
];

/// They wait more than they work, so they run side by side, however few threads tests have.
#[test]
fn the_doctor_names_the_cause_of_whatever_is_provoked() {
    std::thread::scope(|scope| {
        let running = PARTS.map(|(name, part)| {
            (name, std::thread::Builder::new().name(name.into()).spawn_scoped(scope, part).unwrap())
        });
        let failed: Vec<_> =
            running.into_iter().filter_map(|(name, part)| part.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "what went wrong with these is said above: {failed:?}");
    });
}

/// Each part holds its devices against its own cases of the table, so the table is what was provoked.
#[test]
fn every_rule_of_the_doctor_is_provoked() {
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    let provoked: BTreeSet<_> = all().iter().map(|case| case.rule).collect();
    assert_eq!(rules, provoked);
}

#[test]
fn every_number_and_return_code_of_the_facts_is_provoked() {
    let provoked: BTreeSet<i32> = all()
        .iter()
        .filter_map(|case| match case.says {
            Says::Number(number) => Some(number),
            _ => None,
        })
        .collect();
    let facts = [
        -1000, -1001, -1002, -1005, 0, 1, 6, 23, 27, 50, 49, 54, 55, 56, 57, 62, 296, 298, 304, 307, 326, 372,
    ];
    let rules = RULES.iter().flat_map(|rule| rule.numbers).copied();
    for number in rules.chain(facts) {
        assert!(provoked.contains(&number), "{number} is not provoked");
    }
    for code in [-5, -4, -2, 1, 2, 3, 4, 5] {
        assert!(all().iter().any(|case| case.says == Says::Code(code)), "rc {code} is not provoked");
    }
}
