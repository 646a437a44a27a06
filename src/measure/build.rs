//! Which commit a release is built of, for the sessions in `run.json` and beside records (`BITWORTH_COMMIT`, unless the builder
//! has set it). Other builds say none: they would be made again behind every commit.

use std::io::{self, Write};
use std::path::Path;

/// What the crate reads; a builder who sets it is believed.
const COMMIT: &str = "BITWORTH_COMMIT";

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo:rerun-if-changed=build.rs")?;
    writeln!(cargo, "cargo:rerun-if-env-changed={COMMIT}")?;
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || std::env::var_os(COMMIT).is_some() {
        return Ok(());
    }
    let git = Path::new("../../.git");
    for file in ["HEAD", "logs/HEAD"].map(|name| git.join(name)).iter().filter(|file| file.exists()) {
        writeln!(cargo, "cargo:rerun-if-changed={}", file.display())?;
    }
    match head(git).as_deref().and_then(|commit| commit.get(..12)) {
        Some(commit) => writeln!(cargo, "cargo:rustc-env={COMMIT}={commit}"),
        None => Ok(()),
    }
}

/// The commit that is checked out, by git's own files.
fn head(git: &Path) -> Option<String> {
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head) };
    std::fs::read_to_string(git.join(name)).ok().or_else(|| {
        let packed = std::fs::read_to_string(git.join("packed-refs")).ok()?;
        packed.lines().find_map(|line| Some(line.strip_suffix(name)?.trim().to_owned()))
    })
}
