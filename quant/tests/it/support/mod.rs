//! What the tests of files, plans and the quantizer share: where the oracle is, where the fixtures are.

pub mod manifest;
pub mod memory;
#[path = "../../../../tests/it/skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use bitworth_quant::checkpoint::Checkpoint;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::recipe::Recipe;

/// A committed fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

/// The file that llama.cpp's converter (b11434) makes of `fixtures/hf/llama31_gqa` with `--outtype bf16`: converted here and held
/// to the SHA-256 of its bytes, so that its 1.7 MiB need not be committed.
pub fn bf16_file() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let model = Checkpoint::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa")).unwrap();
        let own = folder.join(format!("llama31_gqa.bf16.{}.gguf", std::process::id()));
        let output = Output::of(&model, &Recipe::find("bf16").unwrap(), &PlanOptions::default(), &own).unwrap();
        quantize(&model, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
        let expected = "8730bca89dbbb2763049abdc5e67b26be32e615aa6dc65f18cdda64c029d8e9e";
        assert_eq!(manifest::sha256(&std::fs::read(&own).unwrap()), expected);
        // One name for every run, so that they do not pile up; renamed, as another process may be reading it.
        let path = folder.join("llama31_gqa.bf16.gguf");
        std::fs::rename(own, &path).unwrap();
        path
    };
    MADE.get_or_init(make).clone()
}

/// A file of the oracle, or `None` (and a line that says why) where it is not at hand. With `CI` set, absence is a failure.
pub fn oracle(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BITWORTH_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let path = root.join("oracle").join(name);
    if path.exists() {
        return Some(path);
    }
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf");
    let committed = match name.split_once('/') {
        Some(("models", model)) => Some(committed.join(model)).filter(|dir| dir.join("model.safetensors").exists()),
        Some(("manifests", file)) => Some(committed.join(file)).filter(|file| file.exists()),
        _ => None,
    };
    if committed.is_some() {
        return committed;
    }
    skip::skip("golden data (../shared, or what BITWORTH_SHARED names)", &format!("{} is missing", path.display()));
    None
}

/// Golden models that are not read yet, each with what its refusal names.
pub fn refused() -> Vec<(&'static str, &'static str)> {
    let rows = include_str!("../../fixtures/refused.tsv").lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split_once('\t').unwrap()).collect()
}

/// Whether a golden model is one of those.
pub fn is_refused(name: &str) -> bool {
    refused().iter().any(|(refused, _)| *refused == name)
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Takes out of an output's metadata the keys that llama.cpp's layout has not, so that the file is the converter's.
pub fn without_own_keys(mut output: bitworth_quant::quantize::Output) -> bitworth_quant::quantize::Output {
    for (key, _) in bitworth_quant::convert::facts::own_keys(&output.metadata).iter() {
        output.metadata.remove(key);
    }
    output
}
