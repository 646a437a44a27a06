//! Runs that end early and are taken up: the same bytes in the end, or begun anew with a reason.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitworth_quant::gguf::Value;
use bitworth_quant::progress::Unit;
use bitworth_quant::quantize::{Output, QuantizeOptions, Split, Written, quantize};
use bitworth_quant::{DType, Error, Progress};

use super::{in_a_process_of_its_own, names_in, run};
use crate::support::memory::{Memory, output_of};

/// Set in the process that is to end in the middle, to the folder to write in.
const VARIABLE: &str = "BITWORTH_TEST_KILLED_IN";

/// Eight matrices of eight blocks each, with the blocks of [`small_blocks`].
fn source() -> Memory {
    Memory::of_matrices(&["a", "b", "c", "d", "e", "f", "g", "h"], 512)
}

fn small_blocks() -> QuantizeOptions<'static> {
    QuantizeOptions { max_memory: 0, ..QuantizeOptions::default() }
}

/// Two outputs, the second split and in another order.
fn outputs(source: &Memory, dir: &Path) -> Vec<Output> {
    let first = output_of(source, &dir.join("first.gguf"), |_| DType::Q8_0);
    let mut second = output_of(source, &dir.join("second.gguf"), |_| DType::Q4_0);
    second.plan.entries.reverse();
    second.split = Split::Limits { max_bytes: None, max_tensors: Some(3), metadata_alone: false };
    vec![first, second]
}

/// Stops a run after so many blocks.
struct After<F: Fn() + Sync> {
    blocks: AtomicU64,
    then: F,
}

impl<F: Fn() + Sync> Progress for After<F> {
    fn start(&self, _total: u64, _unit: Unit, _what: &str) {}
    fn advance(&self, _delta: u64) {
        if self.blocks.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.then)();
        }
    }
    fn finish(&self) {}
}

fn stopped_after(blocks: u64, source: &Memory, outputs: &[Output], options: &QuantizeOptions) -> Error {
    let cancel = AtomicBool::new(false);
    let progress = After { blocks: AtomicU64::new(blocks), then: || cancel.store(true, Ordering::Relaxed) };
    // Few threads, so that few blocks are under way and the run does not end before it is stopped.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let made = pool.install(|| quantize(source, outputs, options, &cancel, &progress));
    made.expect_err("the run ended before it was stopped")
}

fn contents(made: &[Written]) -> Vec<Vec<u8>> {
    made.iter().flat_map(|made| &made.files).map(|file| std::fs::read(&file.path).unwrap()).collect()
}

/// What the outputs should be.
fn expected(source: &Memory) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    contents(&run(source, &outputs(source, dir.path()), &small_blocks()).unwrap())
}

#[test]
fn a_run_that_was_stopped_is_taken_up_tensor_by_tensor() {
    let source = source();
    let expected = expected(&source);
    let clock = || 0.0;
    let silent = Mutex::new(Vec::new());
    let note = |text: &str| silent.lock().unwrap().push(text.to_owned());
    let options =
        QuantizeOptions { resume: true, sha256: true, report: Some(&clock), note: &note, sync_bytes: 1 << 16, ..small_blocks() };
    let whole = tempfile::tempdir().unwrap();
    let uninterrupted = run(&source, &outputs(&source, whole.path()), &options).unwrap();
    for blocks in [1, 20, 65, 100] {
        let dir = tempfile::tempdir().unwrap();
        let outputs = outputs(&source, dir.path());
        let error = stopped_after(blocks, &source, &outputs, &options).to_string();
        assert!(error.contains("first.gguf is unfinished and kept"), "{error}");
        let unfinished = [
            ".first.gguf.partial",
            ".first.gguf.partial.json",
            ".second-00001-of-00003.gguf.partial",
            ".second-00001-of-00003.gguf.partial.json",
            ".second-00002-of-00003.gguf.partial",
            ".second-00003-of-00003.gguf.partial",
        ];
        assert_eq!(names_in(dir.path()), unfinished);

        source.reads.lock().unwrap().clear();
        let made = run(&source, &outputs, &options).unwrap();
        assert!(contents(&made) == expected, "after {blocks} blocks");
        for (made, uninterrupted) in made.iter().zip(&uninterrupted) {
            assert_eq!(made.report, uninterrupted.report);
            assert!(made.files.iter().map(|f| &f.sha256).eq(uninterrupted.files.iter().map(|f| &f.sha256)));
        }
        let reads = source.reads.lock().unwrap().len() as u64;
        assert!(reads <= 64 - (blocks / 2).saturating_sub(8) / 8 * 8, "{reads} of 64 blocks read after {blocks} were written");
        assert_eq!(names_in(dir.path()).len(), 4, "no journal is left");
    }
    assert_eq!(*silent.lock().unwrap(), [""; 0]);
}

#[test]
fn a_killed_run_is_taken_up() {
    let options = QuantizeOptions { resume: true, sync_bytes: 1, ..small_blocks() };
    if let Some(dir) = std::env::var_os(VARIABLE) {
        let (dir, source) = (PathBuf::from(dir), source());
        let blocks = std::fs::read_to_string(dir.join("blocks")).unwrap().parse().unwrap();
        // As a signal would: nothing is tidied up.
        let progress = After { blocks: AtomicU64::new(blocks), then: || std::process::abort() };
        quantize(&source, &outputs(&source, &dir), &options, &AtomicBool::new(false), &progress).unwrap();
        unreachable!("the run ended before it was killed");
    }
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    for blocks in [1, 9, 20, 20, 5] {
        std::fs::write(dir.path().join("blocks"), blocks.to_string()).unwrap();
        let status = in_a_process_of_its_own("pipeline::resume::a_killed_run_is_taken_up", (VARIABLE, dir.path()), "");
        assert!(!status.success());
    }
    let made = run(&source, &outputs(&source, dir.path()), &options).unwrap();
    assert!(contents(&made) == expected(&source));
    assert_eq!(names_in(dir.path()).len(), 1 + 4);
}

#[test]
fn what_does_not_fit_is_begun_anew_and_said() {
    type Change = fn(&mut Memory, &mut Output, &Path);
    let changes: &[(&str, Change)] = &[
        ("with other settings", |_, output, _| output.metadata.set("a", Value::Bool(true))),
        ("with other settings", |_, output, _| output.plan.entries[3].to = DType::Q4_0),
        ("from another model", |source, _, dir| {
            std::fs::write(dir.join("model"), "of another size").unwrap();
            source.set("a", 3, 0.25);
        }),
        ("from another model", |source, _, _| {
            source.identity = b"another seed".to_vec();
            source.set("a", 3, 0.25);
        }),
        ("has lost bytes", |_, _, dir| {
            let partial = std::fs::OpenOptions::new().write(true).open(dir.join(".a.gguf.partial")).unwrap();
            partial.set_len(4096).unwrap();
        }),
        ("has lost bytes", |_, _, dir| std::fs::remove_file(dir.join(".a.gguf.partial")).unwrap()),
        ("its journal is broken", |_, _, dir| std::fs::write(dir.join(".a.gguf.partial.json"), "{").unwrap()),
        ("has no journal", |_, _, dir| std::fs::remove_file(dir.join(".a.gguf.partial.json")).unwrap()),
    ];
    for (why, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source();
        source.files = vec![dir.path().join("model")];
        std::fs::write(&source.files[0], "model").unwrap();
        let mut output = output_of(&source, &dir.path().join("a.gguf"), |_| DType::Q8_0);
        let notes = Mutex::new(Vec::new());
        let note = |text: &str| notes.lock().unwrap().push(text.to_owned());
        let options = QuantizeOptions { resume: true, note: &note, ..small_blocks() };
        stopped_after(40, &source, std::slice::from_ref(&output), &options);
        assert_eq!(*notes.lock().unwrap(), [""; 0]);

        change(&mut source, &mut output, dir.path());
        let made = run(&source, std::slice::from_ref(&output), &options).unwrap();
        let notes = notes.lock().unwrap();
        assert!(notes.len() == 1 && notes[0].contains("a.gguf: begun anew: ") && notes[0].contains(why), "{why}: {notes:?}");
        output.path = dir.path().join("fresh.gguf");
        let fresh = run(&source, &[output], &small_blocks()).unwrap();
        assert!(contents(&made) == contents(&fresh), "{why}");
    }
}

/// What one run was allowed to write, the next may not be.
#[test]
fn weights_that_are_no_numbers_are_not_taken_up_where_they_are_not_allowed() {
    let mut source = source();
    source.set("a", 5, f32::NAN);
    let dir = tempfile::tempdir().unwrap();
    let output = output_of(&source, &dir.path().join("a.gguf"), |_| DType::Q8_0);
    let options = QuantizeOptions { resume: true, ..small_blocks() };
    stopped_after(40, &source, std::slice::from_ref(&output), &QuantizeOptions { allow_non_finite: true, ..options });
    let error = run(&source, &[output], &options).unwrap_err().to_string();
    assert!(error.contains("tensor a: row 0, column 5: the weight is NaN"), "{error}");
}

#[test]
fn without_resuming_nothing_is_taken_up_and_nothing_left() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let outputs = outputs(&source, dir.path());
    stopped_after(40, &source, &outputs, &QuantizeOptions { resume: true, ..small_blocks() });
    let error = stopped_after(40, &source, &outputs, &small_blocks());
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(names_in(dir.path()), [""; 0]);

    stopped_after(40, &source, &outputs, &QuantizeOptions { resume: true, ..small_blocks() });
    let made = run(&source, &outputs, &small_blocks()).unwrap();
    assert!(contents(&made) == expected(&source));
    assert_eq!(names_in(dir.path()).len(), 4);
}

#[test]
fn an_output_is_taken_up_whatever_else_is_written() {
    let source = source();
    let dir = tempfile::tempdir().unwrap();
    let outputs = outputs(&source, dir.path());
    let options = QuantizeOptions { resume: true, ..small_blocks() };
    stopped_after(100, &source, &outputs, &options);
    let expected = expected(&source);
    let second = contents(&run(&source, &outputs[1..], &options).unwrap());
    assert!(second == expected[1..]);
    assert!(contents(&run(&source, &outputs[..1], &options).unwrap()) == expected[..1]);
}
