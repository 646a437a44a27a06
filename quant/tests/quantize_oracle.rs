//! From Hugging Face directories to finished files: what llama.cpp's converter and quantizer make of the oracle's models,
//! byte for byte. Of files that only the oracle's hashes speak for, the hash of the whole file is compared.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quant::plan::Choices;
use quant::progress::Silent;
use quant::quantize::{Options, Output, quantize};
use quant::{Checkpoint, Recipe};
use sha2::{Digest, Sha256};
use support::{json, oracle};

fn sha256(path: &Path) -> String {
    Sha256::digest(std::fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

/// What the file of that recipe should hash to, by the oracle's manifests.
fn expected(model: &str, recipe: &Recipe) -> Option<String> {
    let (file, run) = if recipe.default.is_float() {
        (format!("manifests/{model}.{}.json", recipe.name), None)
    } else {
        (format!("quant/{model}.json"), Some(recipe.file_stem_suffix()))
    };
    let manifest = json(&oracle(&file)?);
    let entry = run.map_or(&manifest, |run| &manifest["runs"][run]);
    entry["file_sha256"].as_str().map(str::to_owned)
}

/// Makes the files of all recipes that fit, of which the oracle has the hash, from one model in one go, as [`quantize`] does,
/// and compares their hashes.
fn check(model: &str, source: &str, at_least: usize, fits: impl Fn(&Recipe) -> bool) {
    let Some(path) = oracle(source) else { return };
    let known = |r: &&Arc<Recipe>| !r.only_copy && fits(r) && expected(model, r).is_some();
    let recipes: Vec<Arc<Recipe>> = Recipe::all().iter().filter(known).cloned().collect();
    assert!(recipes.len() >= at_least, "{} recipes", recipes.len());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let outputs: Vec<_> =
        recipes.iter().map(|r| Output::of(&checkpoint, r, &Choices::default(), &dir.path().join(&r.name)).unwrap()).collect();
    quantize(&checkpoint, &outputs, &Options::default(), &AtomicBool::new(false), &Silent).unwrap();
    for (recipe, output) in recipes.iter().zip(&outputs) {
        let expected = expected(model, recipe).unwrap_or_else(|| panic!("no hash for {model} {}", recipe.name));
        assert_eq!(sha256(&output.path), expected, "{model} {}:\n{}", recipe.name, output.plan);
    }
}

fn all(_: &Recipe) -> bool {
    true
}

/// Recipes that do not ask for floats.
fn quantized(recipe: &Recipe) -> bool {
    !recipe.default.is_float()
}

#[test]
fn llama31_gqa_with_a_tied_head_and_rope_factors() {
    check("llama31_gqa", "models/llama31_gqa", 26, all);
}

#[test]
fn llama_yi_in_three_shards() {
    check("llama_yi", "models/llama_yi", 26, all);
}

#[test]
fn llama_linear_bias_with_biases() {
    check("llama_linear_bias", "models/llama_linear_bias", 10, all);
}

#[test]
fn llama2_mha_with_uneven_rows_from_a_gguf() {
    check("llama2_mha", "keep/public.llama2_mha.f16.gguf", 23, quantized);
}

/// A GGUF made by llama.cpp as the source: each quantized file must be the one made from the checkpoint.
#[test]
fn a_gguf_file_gives_the_same_quantized_files_as_its_checkpoint() {
    let Some(path) = oracle("models/llama31_gqa") else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let gguf = Checkpoint::open(&support::fixture("llama31_gqa.bf16.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for recipe in Recipe::all().iter().filter(|r| quantized(r) && expected("llama31_gqa", r).is_some()) {
        let made = [("a", &checkpoint), ("b", &gguf)].map(|(name, source)| {
            let output = Output::of(source, recipe, &Choices::default(), &dir.path().join(name)).unwrap();
            quantize(source, std::slice::from_ref(&output), &Options::default(), &AtomicBool::new(false), &Silent).unwrap();
            sha256(&output.path)
        });
        assert_eq!(made[0], made[1], "{}", recipe.name);
    }
}

/// llama-quantize can be asked for floats too, and then orders tensors as it does for every other type.
#[test]
fn a_gguf_file_becomes_floats_as_llama_quantize_makes_them() {
    let Some(manifest) = oracle("quant/llama31_gqa.json") else { return };
    let runs = &json(&manifest)["runs"];
    let gguf = Checkpoint::open(&support::fixture("llama31_gqa.bf16.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["f16", "bf16"] {
        let recipe = Recipe::find(name).unwrap();
        let output = Output::of(&gguf, &recipe, &Choices::default(), &dir.path().join(name)).unwrap();
        quantize(&gguf, std::slice::from_ref(&output), &Options::default(), &AtomicBool::new(false), &Silent).unwrap();
        assert_eq!(sha256(&output.path), runs[recipe.file_stem_suffix()]["file_sha256"].as_str().unwrap(), "{name}");
    }
}
