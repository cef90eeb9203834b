//! How much memory there is: the machine's, or what a container or the service manager (`MemoryMax=`) leaves us.

use std::path::Path;

/// Where control groups are shown (cgroups(7)).
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process can have; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok();
    let groups = groups.and_then(|text| of_groups(&text, Path::new(GROUPS)));
    machine.into_iter().chain(groups).min()
}

/// Of meminfo (proc_meminfo(5)): `MemTotal:        948276 kB`.
fn of_machine(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that one of our groups, or one above it, may use. A line is `0::/path` in version 2, `4:memory:/path` in version 1.
fn of_groups(text: &str, root: &Path) -> Option<u64> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (folder, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            some if some.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let own = folder.join(path.trim_start_matches('/'));
        let limit = |place: &Path| -> Option<u64> {
            std::fs::read_to_string(place.join(file)).ok()?.trim().parse().ok() // "max": none
        };
        own.ancestors().take_while(|place| place.starts_with(&folder)).filter_map(limit).min()
    };
    text.lines().filter_map(of_line).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_kilobytes() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:         948276 kB\n"), Some(948_276 * 1024));
        for wrong in ["", "MemTotal:", "MemTotal: lots kB", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(of_machine(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_least_of_the_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("system.slice/memory.max", "5000\n");
        put("system.slice/quoll.service/memory.max", "max\n");
        put("memory/docker/x/memory.limit_in_bytes", "3000\n");
        put("memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        for (text, least) in [
            ("0::/system.slice/quoll.service\n", Some(5000)),
            ("5:devices:/docker/x\n4:cpu,memory:/docker/x\n0::/\n", Some(3000)),
            ("4:memory:/docker\n", Some(9_223_372_036_854_771_712)),
            ("0::/elsewhere\n", None),
            ("nonsense\n", None),
        ] {
            assert_eq!(of_groups(text, root.path()), least, "{text}");
        }
    }
}
