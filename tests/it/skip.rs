//! Skipping a test, or a part of it, for lack of something: said, counted, and in CI a failure. The tests of every crate take
//! this file in; what is lacking, and whether it may be, is theirs to know.

use std::io::Write;

/// Says that the running test skips something for lack of `what`, and why. `scripts/test.sh` names a file in `BITWORTH_SKIPPED`,
/// because cargo shows nothing that a passing test says; every call adds a line to it.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and in CI nothing may be skipped");
    #[allow(clippy::print_stderr)]
    {
        eprintln!("skipped: {why}");
    }
    let Some(path) = std::env::var_os("BITWORTH_SKIPPED") else { return };
    let thread = std::thread::current();
    let test = thread.name().expect("the test's own thread, which has its name");
    let line = format!("{what}\t{}::{test}\t{why}\n", env!("CARGO_CRATE_NAME"));
    // One write, so that the lines of tests that run at the same time stay whole.
    std::fs::File::options().append(true).create(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
}
