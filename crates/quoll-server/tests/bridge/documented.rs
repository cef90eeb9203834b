//! The examples of docs/bridges.md are configurations that can be used.

use quoll_server::mosquitto::{Disk, Surroundings, read};

use crate::subject::configuration;

#[test]
fn each_example_of_the_page_is_read_without_a_fault() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bridges.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut examples = vec![String::new()];
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(line) => examples.last_mut().unwrap().push_str(&format!("{line}\n")),
            None if line.is_empty() => {}
            None => examples.push(String::new()),
        }
    }
    let examples: Vec<_> = examples.into_iter().filter(|it| it.contains("connection ")).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let surroundings = Surroundings { host_name: "here".into(), persistence_location: None };
        let read = read(&configuration(&example), &Disk, &surroundings);
        let read = read.unwrap_or_else(|faults| panic!("{example}: {faults:?}"));
        assert_eq!(read.bridges.len(), 1, "{example}");
        assert!(read.warnings.is_empty(), "{example}: {:?}", read.warnings);
    }
}
