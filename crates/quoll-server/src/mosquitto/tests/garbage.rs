//! Nothing that a file may contain makes the reader panic, and each fault has a place that is there.

use proptest::prelude::*;

use super::super::table::OPTIONS;
use super::{Texts, read};

fn name() -> impl Strategy<Value = String> {
    (0..OPTIONS.len()).prop_map(|index| OPTIONS[index].name.replace('*', "config_file"))
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop_oneof![
            Just("true"), Just("0"), Just("1"), Just("-1"), Just("1883"), Just("0x"), Just("65536"), Just("tlsv1.2"),
            Just("lazy"), Just("file"), Just("file x"), Just("5 9 1"), Just("1 2 3"), Just("\"a b\" both 1 x/ y/"),
            Just("\"\" out 0 a b"), Just("# in 2"), Just("mosquitto_acl_file.so"), Just("h:1 :2 [::1]:3"), Just("3,4"),
            Just("2w"), Just("9999999999999999999999d"), Just("\""), Just("\"\""), Just("x  # y"), Just(""),
        ].prop_map(String::from),
        1 => "\\PC{0,20}",
        1 => ".{0,20}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (name(), value()).prop_map(|(name, value)| format!("{name} {value}")),
        1 => ".{0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_lines_make_it_panic(lines in proptest::collection::vec(line(), 0..30), end in "(\r)?\n") {
        let text = lines.join(&end);
        match read(&text) {
            Ok(configuration) => {
                prop_assert!(!configuration.listeners.is_empty());
                prop_assert!(configuration.warnings.iter().all(|complaint| complaint.is_warning()));
            }
            Err(complaints) => {
                prop_assert!(complaints.iter().any(|complaint| !complaint.is_warning()));
                for complaint in complaints {
                    let line = text.split('\n').nth(complaint.place.line as usize - 1);
                    let length = line.map_or(0, |line| line.chars().count() as u32);
                    prop_assert!(complaint.place.column <= length + 1, "{complaint}\n{text}");
                    let _ = complaint.hint();
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = Texts::default().with("m.conf", "include_dir d\n").with("d/x.conf", &bytes).read();
    }
}
