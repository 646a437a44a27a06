//! How the quantizer runs: the same bytes however many threads and however little memory, split files as llama.cpp's tools
//! make them, resuming, failures, and the error report.

mod failures;
mod report;
mod resume;
mod same_bytes;
mod split;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, Source, Written, quantize};

fn run(source: &dyn Source, outputs: &[Output], options: &QuantizeOptions) -> bitworth_quant::Result<Vec<Written>> {
    quantize(source, outputs, options, &AtomicBool::new(false), &Silent)
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs the test of that name in a process of its own, with `variable` set, by way of a shell that has run `before`.
fn in_a_process_of_its_own(test: &str, variable: (&str, &Path), before: &str) -> std::process::ExitStatus {
    let script = format!("{before} exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    command.env(variable.0, variable.1).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().unwrap()
}
