//! The examples run, and show what they promise. Cargo builds them with the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(name: &str, arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_bitworth"));
    let example: PathBuf = program.with_file_name("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let output = Command::new(&example).args(arguments).output();
    let output =
        output.unwrap_or_else(|e| panic!("{}: {e}; `cargo test` builds it, `cargo build --examples` too", example.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_run() {
    let quantized = run("quantize", &[]);
    assert!(quantized.contains("BF16 -> ") && quantized.contains("model.gguf: "), "{quantized}");
    let scored = run("score", &[]);
    assert!(scored.lines().count() == 4 && scored.contains("@q2_k"), "{scored}");
    let report = run("report", &[]);
    assert!(report.contains("q4_k_m") && report.contains("report.html"), "{report}");
}
