//! Power cuts and full disks, before any change of a file that the program makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::{complaint, tool};

/// What meets the program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    /// SIGKILL.
    PowerCut,
    /// No room from then on.
    DiskFull,
}

/// Runs the program so that it meets this before its change of this number, from 0.
pub(crate) fn strike(mut command: Command, blow: Blow, at: usize) -> Output {
    let name = match blow {
        Blow::PowerCut => "POWER_CUT_AT",
        Blow::DiskFull => "DISK_FULL_AT",
    };
    command.env("LD_PRELOAD", library()).env(name, at.to_string()).output().unwrap()
}

/// Builds what is preloaded, once.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Test programs that run at once do not take each other's half-written one.
        let name = format!("power_cut-{}.so", std::process::id());
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/power_cut.c");
        let to = built.display().to_string();
        let made = tool("gcc", &["-shared", "-fPIC", "-O1", "-Wall", "-o", &to, source, "-ldl"]);
        assert!(made.status.success(), "{}", complaint(&made));
        let kept = built.with_file_name("power_cut.so");
        std::fs::rename(&built, &kept).unwrap();
        kept
    })
}
