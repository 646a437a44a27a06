//! From Hugging Face directories to finished files: what llama.cpp's converter and quantizer make of the oracle's models,
//! byte for byte. Of files that only the oracle's hashes speak for, the hash of the whole file is compared; of files made with
//! an importance matrix, which name its path, the hash of each tensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth_quant::gguf::GgufFile;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::{Checkpoint, Imatrix, Recipe};
use serde_json::Value;

use crate::support;
use crate::support::{json, oracle};

fn sha256(path: &Path) -> String {
    support::manifest::sha256(&std::fs::read(path).unwrap())
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
    // The fixtures have some models with the hashes of their plain files alone.
    let all_known = oracle(&format!("quant/{model}.json")).is_some();
    assert!(!all_known || recipes.len() >= at_least, "{} recipes", recipes.len());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let outputs: Vec<_> =
        recipes.iter().map(|r| Output::of(&checkpoint, r, &PlanOptions::default(), &dir.path().join(&r.name)).unwrap()).collect();
    quantize(&checkpoint, &outputs, &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
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
    let gguf = Checkpoint::open(&support::bf16_file()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for recipe in Recipe::all().iter().filter(|r| quantized(r) && expected("llama31_gqa", r).is_some()) {
        let made = [("a", &checkpoint), ("b", &gguf)].map(|(name, source)| {
            let output = Output::of(source, recipe, &PlanOptions::default(), &dir.path().join(name)).unwrap();
            quantize(source, std::slice::from_ref(&output), &QuantizeOptions::default(), &AtomicBool::new(false), &Silent)
                .unwrap();
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
    let gguf = Checkpoint::open(&support::bf16_file()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["f16", "bf16"] {
        let recipe = Recipe::find(name).unwrap();
        let output = Output::of(&gguf, &recipe, &PlanOptions::default(), &dir.path().join(name)).unwrap();
        quantize(&gguf, std::slice::from_ref(&output), &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
        assert_eq!(sha256(&output.path), runs[recipe.file_stem_suffix()]["file_sha256"].as_str().unwrap(), "{name}");
    }
}

/// One run of llama-quantize on the F32 file of a model, made again.
struct Run<'a> {
    /// `TYPE` or `TYPE+imatrix`.
    name: &'a str,
    expected: &'a Value,
    output: Output,
}

/// What the oracle's runs say of a model, made from `source` with one read in `folder`. Runs that llama-quantize refused are
/// another test's.
fn runs<'a>(model: &str, source: &Checkpoint, manifest: &'a Value, folder: &Path) -> Vec<Run<'a>> {
    let imatrix = manifest["runs"].as_object().unwrap().keys().any(|name| name.ends_with("+imatrix"));
    let imatrix = imatrix.then(|| Arc::new(Imatrix::open(&oracle(&format!("quant/imatrix/{model}.gguf")).unwrap()).unwrap()));
    let made = manifest["runs"].as_object().unwrap().iter().filter(|(_, expected)| expected.get("error").is_none());
    made.map(|(name, expected)| {
        let (recipe, imatrix) = match name.strip_suffix("+imatrix") {
            None => (name.as_str(), None),
            Some(recipe) => (recipe, imatrix.clone()),
        };
        let choices = PlanOptions { imatrix, ..PlanOptions::default() };
        let output = Output::of(source, &Recipe::find(recipe).unwrap(), &choices, &folder.join(name)).unwrap();
        Run { name, expected, output }
    })
    .collect()
}

/// The type and the hash of every tensor of a file.
fn tensors(path: &Path) -> HashMap<String, (String, String)> {
    let file = GgufFile::open(path).unwrap();
    let of = |t: &bitworth_quant::gguf::TensorEntry| (t.dtype.name().to_owned(), support::manifest::sha256(&file.bytes(t)));
    file.tensors.iter().map(|t| (t.name.clone(), of(t))).collect()
}

/// The F32 file of a model as the converter writes it.
fn f32_file(model: &str, folder: &Path) -> PathBuf {
    let checkpoint = Checkpoint::open(&oracle(&format!("models/{model}")).unwrap()).unwrap();
    let path = folder.join("f32.gguf");
    let output = Output::of(&checkpoint, &Recipe::find("f32").unwrap(), &PlanOptions::default(), &path).unwrap();
    let output = support::without_own_keys(output);
    quantize(&checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    path
}

/// Makes all runs of a model again, on one thread and on four, and compares; how many there were.
fn check_all_runs(model: &str) -> usize {
    let manifest = json(&oracle(&format!("quant/{model}.json")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let f32_path = f32_file(model, folder.path());
    assert_eq!(sha256(&f32_path), manifest["source"].as_str().unwrap(), "{model}");
    let source = Checkpoint::open(&f32_path).unwrap();
    let runs = runs(model, &source, &manifest, folder.path());
    let outputs: Vec<Output> = runs.iter().map(|run| run.output.clone()).collect();
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| quantize(&source, &outputs, &QuantizeOptions::default(), &AtomicBool::new(false), &Silent)).unwrap();
        for Run { name, expected, output } in &runs {
            if let Some(hash) = expected["file_sha256"].as_str() {
                assert_eq!(sha256(&output.path), hash, "{model} {name} on {threads} threads:\n{}", output.plan);
                continue;
            }
            // Tensors that the oracle leaves out are those of the source.
            let mut wanted = tensors(&f32_path);
            for (tensor, type_and_hash) in expected["tensors"].as_object().unwrap() {
                let [dtype, hash] = [0, 1].map(|i| type_and_hash[i].as_str().unwrap().to_owned());
                wanted.insert(tensor.clone(), (dtype, hash));
            }
            let found = tensors(&output.path);
            for (tensor, wanted) in &wanted {
                assert_eq!(found.get(tensor), Some(wanted), "{model} {name} on {threads} threads: {tensor}");
            }
            assert_eq!(found.len(), wanted.len(), "{model} {name}");
        }
    }
    runs.len()
}

#[test]
fn every_run_of_llama_quantize_is_made_again_byte_for_byte() {
    let Some(folder) = oracle("quant") else { return };
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<String> = names
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    models.retain(|model| !support::is_refused(model));
    models.sort();
    let made: usize = models.iter().map(|model| check_all_runs(model)).sum();
    assert!(made > 870, "{made} runs");
}
