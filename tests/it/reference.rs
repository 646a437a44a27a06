//! References that are kept: a comparison with one is the comparison with the walked model, and one of something else is refused.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bitworth::engine::cpu::Cpu;
use bitworth::engine::sweep::{self, Lane, Resume, SweepLimits, SweepOptions};
use bitworth::measure::reference::lane::{Kept, ReferenceSource, score};
use bitworth::measure::reference::store::HiddenType;
use bitworth::measure::text::TextWindows;
use bitworth::measure::{Watch, models};
use bitworth::text::tokenizer::Tokenizer;
use serde_json::Value;

use crate::common::{StopAfter, json, run};

const DEMO: &str = "demo:demo-model";
const TEXT: [&str; 6] = ["--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "6"];

fn compare(dir: &Path, more: &[&str]) -> Value {
    json(dir, &[&["compare", DEMO, "@q4_0", "@q8_0", "--device", "cpu"], &TEXT[..], more].concat())
}

/// Why a comparison is refused; nothing is printed but one error.
#[track_caller]
fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
    assert!(!error.contains("panicked"), "{args:?}: {error}");
    error
}

#[track_caller]
fn has(error: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

/// All that was measured: lanes without where they come from.
fn measured(document: &Value) -> (Value, Value) {
    let mut reference = document["reference"].clone();
    reference.as_object_mut().unwrap().remove("from");
    (reference, document["candidates"].clone())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn a_stored_reference_gives_the_numbers_of_a_walked_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let walked = compare(dir, &["--save-reference", "a.ref"]);
    assert_eq!(measured(&compare(dir, &[])), measured(&walked), "keeping changes nothing");
    let stored = compare(dir, &["--reference", "a.ref", "--save-reference", "b.ref", "--threads", "1"]);
    assert_eq!(measured(&stored), measured(&walked), "to the last bit");
    assert_eq!(stored["reference"]["from"]["type"], "f32");
    assert_eq!(stored["reference"]["from"]["store"]["arithmetic"], "f32");
    let [a, b] = ["a.ref", "b.ref"].map(|name| std::fs::read(dir.join(name)).unwrap());
    assert!(a == b, "what is kept of a stored reference is that reference");
    // From perplexity, and cut into other passes.
    json(dir, &[&["perplexity", DEMO, "--device", "cpu", "--save-reference", "c.ref"], &TEXT[..]].concat());
    assert!(a == std::fs::read(dir.join("c.ref")).unwrap());
    // A part of its windows.
    let part = ["compare", DEMO, "@q4_0", "--device", "cpu", "--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "2"];
    let [walked, stored] = [&[][..], &["--reference", "a.ref"]].map(|more| json(dir, &[&part[..], more].concat()));
    assert_eq!(measured(&stored), measured(&walked));
}

/// The lanes behind a stored reference keep their numbers: each file gets its own lane's tensors.
#[test]
fn files_made_beside_a_stored_reference_are_what_quantize_makes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    compare(dir, &["--save-reference", "a.ref", "--save-logits", "a.logits"]);
    json(dir, &["quantize", DEMO, "--to", "q4_0,q8_0", "--out", "quantized"]);
    for (kind, file) in [("--reference", "a.ref"), ("--logits", "a.logits")] {
        let written = compare(dir, &[kind, file, "--write", file.trim_start_matches("a.")]);
        for made in written["written"].as_array().unwrap() {
            let made = dir.join(made["path"].as_str().unwrap());
            let expected = dir.join("quantized").join(made.file_name().unwrap());
            assert!(std::fs::read(&made).unwrap() == std::fs::read(&expected).unwrap(), "{kind}: {}", made.display());
        }
        assert_eq!(written["written"].as_array().unwrap().len(), 2);
    }
    let layers = [&["compare", DEMO, "@q4_0", "--device", "cpu", "--layers", "--reference", "a.ref"], &TEXT[..]].concat();
    has(&refusal(dir, &layers), &["stored reference", "layers"]);
    json(dir, &["quantize", DEMO, "--to", "q8_0", "--prune-layers", "1", "--out", "short.gguf"]);
    let short = [&["compare", DEMO, "short.gguf", "--device", "cpu", "--layers"], &TEXT[..]].concat();
    has(&refusal(dir, &short), &["blocks", "cannot be compared block by block"]);
    let resumed = compare(dir, &["--save-reference", "b.ref", "--resume", "state"]);
    assert_eq!(measured(&resumed), measured(&compare(dir, &[])));
    let [a, b] = ["a.ref", "b.ref"].map(|name| std::fs::read(dir.join(name)).unwrap());
    assert!(a == b && !dir.join("state").exists());
}

#[test]
fn a_reference_in_f16_is_within_its_rounding() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let walked = compare(dir, &["--save-reference", "a.ref", "--reference-type", "f16"]);
    let stored = compare(dir, &["--reference", "a.ref"]);
    assert_eq!(stored["reference"]["from"]["type"], "f16");
    let ppl = |document: &Value| number(&document["reference"]["ppl"]);
    assert!((ppl(&stored) / ppl(&walked) - 1.0).abs() < 1e-4, "{} {}", ppl(&stored), ppl(&walked));
    for (a, b) in stored["candidates"].as_array().unwrap().iter().zip(walked["candidates"].as_array().unwrap()) {
        let (a, b) = (number(&a["kld_mean"]), number(&b["kld_mean"]));
        assert!((a - b).abs() < 1e-6 + 0.01 * b, "{a} {b}");
    }
}

#[test]
fn a_logits_file_gives_what_its_coding_leaves_of_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let walked = compare(dir, &["--save-logits", "a.logits"]);
    let stored = compare(dir, &["--logits", "a.logits"]);
    assert_eq!(stored["reference"]["from"]["logits"]["windows"], 6);
    let near = |key: &str, [a, b]: [&Value; 2], bound: f64| {
        let (a, b) = (number(&a[key]), number(&b[key]));
        assert!((a - b).abs() <= bound, "{key}: {a} {b}");
    };
    // A code is 16 / 65535 nats at most, and errors of half a code are as often up as down.
    near("ppl", [&stored["reference"], &walked["reference"]], 1e-3);
    for (i, b) in walked["candidates"].as_array().unwrap().iter().enumerate() {
        let a = &stored["candidates"][i];
        near("ppl", [a, b], 0.0);
        near("kld_mean", [a, b], 2e-5);
        near("delta_p_rms", [a, b], 1e-4);
        near("top1_agreement", [a, b], 0.0);
        assert_eq!(a["reverse_kld_mean"], Value::Null, "the file does not say");
    }
    // Kept from hidden states, it is the same file.
    compare(dir, &["--save-reference", "a.ref"]);
    compare(dir, &["--reference", "a.ref", "--save-logits", "b.logits"]);
    let [a, b] = ["a.logits", "b.logits"].map(|name| std::fs::read(dir.join(name)).unwrap());
    assert!(a == b);
}

#[test]
fn a_reference_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    json(
        dir,
        &[&["perplexity", DEMO, "--device", "cpu", "--save-reference", "a.ref", "--save-logits", "a.logits"], &TEXT[..]].concat(),
    );
    json(dir, &["quantize", DEMO, "--to", "q8_0", "--out", "q8.gguf"]);
    std::fs::write(dir.join("other.txt"), "The flag of Podwick is golden. ".repeat(200)).unwrap();
    let with = |more: &[&str]| refusal(dir, &[&["compare", DEMO, "@q4_0", "--device", "cpu"], more].concat());
    let other = ["--text", "other.txt", "--ctx", "64", "--chunks", "6"];
    has(&with(&[&other[..], &["--reference", "a.ref"]].concat()), &["a.ref", "other tokens", "of sequence 0"]);
    has(&with(&[&other[..], &["--logits", "a.logits"]].concat()), &["a.logits", "another text", "of window 0"]);
    let wide = ["--text", "demo:data/eval.txt", "--ctx", "32"];
    has(&with(&[&wide[..], &["--reference", "a.ref"]].concat()), &["a.ref", "windows of 64", "windows of 32"]);
    has(&with(&[&wide[..], &["--logits", "a.logits"]].concat()), &["a.logits", "--ctx 64"]);
    let many = ["--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "7"];
    has(&with(&[&many[..], &["--reference", "a.ref"]].concat()), &["holds 6 sequences", "--chunks 6"]);
    has(&with(&[&many[..], &["--logits", "a.logits"]].concat()), &["holds 6 windows", "--chunks 6"]);
    let head = [&["compare", "q8.gguf", DEMO, "--device", "cpu", "--reference", "a.ref"], &TEXT[..]].concat();
    has(&refusal(dir, &head), &["a.ref", "another head"]);
    has(&with(&[&TEXT[..], &["--reference", "a.logits"]].concat()), &["a.logits", "no reference store"]);
    has(&with(&[&TEXT[..], &["--logits", "a.ref"]].concat()), &["a.ref", "no logits file"]);
    has(&with(&[&TEXT[..], &["--reference", "missing"]].concat()), &["missing: "]);
    has(&with(&[&TEXT[..], &["--reference", "a.ref", "--logits", "a.logits"]].concat()), &["cannot be used with"]);
    has(&with(&[&TEXT[..], &["--logits", "a.logits", "--save-logits", "b.logits"]].concat()), &["cannot be used with"]);
    has(&with(&[&TEXT[..], &["--reference-type", "f16"]].concat()), &["--save-reference"]);
    // Neither may take the place of what it is made from, nor of anything else.
    has(&with(&[&TEXT[..], &["--save-reference", "other.txt"]].concat()), &["other.txt", "no reference store"]);
    has(&with(&[&TEXT[..], &["--save-logits", "a.ref"]].concat()), &["a.ref", "no logits file"]);
    has(&with(&[&TEXT[..], &["--reference", "a.ref", "--save-reference", "a.ref"]].concat()), &["a.ref", "to be read"]);
    has(&with(&[&TEXT[..], &["--save-reference", "missing/a.ref"]].concat()), &["missing/a.ref"]);
    let mut broken = std::fs::read(dir.join("a.ref")).unwrap();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(dir.join("b.ref"), broken).unwrap();
    has(&with(&[&TEXT[..], &["--reference", "b.ref"]].concat()), &["b.ref: at byte", "checksum of sequence"]);
}

#[test]
fn a_reference_is_kept_by_a_sweep_that_was_stopped_behind_a_pass_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = bitworth::eval::demo::materialize(dir.path()).unwrap().join("demo-model");
    let checkpoint = std::sync::Arc::new(bitworth_quant::Checkpoint::open(&model).unwrap());
    let text = bitworth::eval::demo::file("data/eval.txt").unwrap();
    let text = std::str::from_utf8(text).unwrap();
    let text = TextWindows::windows(&Tokenizer::new(&checkpoint).unwrap(), text, 64, Some(6)).unwrap();
    let lanes: [Lane; 1] = [models::reference(&checkpoint)];
    let row = 4 * checkpoint.hparams().embedding_length;
    let limits = SweepLimits { activation_bytes: 200 * row, ..SweepLimits::default() };
    let plan = sweep::plan(&Cpu::new(), &lanes, &text.sequences, &limits).unwrap();
    assert_eq!(plan.passes.len(), 2);
    let keep = |name: &str, options: &SweepOptions<'_>, source: &ReferenceSource, rows: u64| {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(rows, &stop);
        let watch = Watch { progress: &progress, stop: &stop };
        let kept = Kept {
            store: Some((dir.path().join(name), HiddenType::F32)),
            logits: Some(dir.path().join(format!("{name}.logits"))),
        };
        score(&Cpu::new(), &lanes, &text, options, source, &kept, watch).map_err(|e| e.to_string())
    };
    let bytes = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let whole = SweepOptions { limits, ..SweepOptions::default() };
    let expected = keep("a", &whole, &ReferenceSource::Walked, u64::MAX).unwrap();
    let folder = dir.path().join("state");
    let resumed = SweepOptions { resume: Some(Resume { folder: &folder, every_layer: true, renews: false }), ..whole };
    let steps = (checkpoint.hparams().block_count + 1) * plan.rows_computed;
    let error = keep("b", &resumed, &ReferenceSource::Walked, steps as u64 * 3 / 4).unwrap_err();
    assert!(error.contains("interrupted") && folder.join("pass-00000.scores").exists(), "{error}");
    assert!(!dir.path().join("b").exists());
    // What was scored against another reference is not gone on with.
    let store = ReferenceSource::store(&dir.path().join("a"), &lanes[0], &text, "cpu").unwrap();
    has(&keep("b", &resumed, &store, u64::MAX).unwrap_err(), &["state of another sweep", "reference"]);
    assert_eq!(keep("b", &resumed, &ReferenceSource::Walked, u64::MAX).unwrap(), expected);
    assert!(bytes("a") == bytes("b") && bytes("a.logits") == bytes("b.logits"));
}
