//! A Hugging Face directory opened as a checkpoint gives the metadata, tensors and bytes that llama.cpp's converter wrote.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bitworth_quant::arch::{ARCHITECTURES, Presence, Role};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::{Checkpoint, Recipe};
use serde_json::{Value as Json, json};

use crate::support;
use crate::support::manifest::{check_pairs, sha256};

const OUTTYPES: [&str; 3] = ["f32", "bf16", "f16"];
/// Oracle models that llama.cpp's layout cannot represent: blocks with and without experts in no set order.
const NO_FORM_IN_GGUF: &[&str] = &["qwen2_moe_mixed", "qwen3_moe_mixed"];

/// Oracle models in encodings that the converter does not read.
const NOT_READ_BY_THE_CONVERTER: &[&str] = &["fmt_awq", "fmt_ct_mxfp4"];

/// Golden models that lie in this repository alone.
const COMMITTED: &[&str] = &["glm4v", "glm4v_moe"];

/// A committed Hugging Face fixture, and the manifest of what the converter made of it.
fn fixture(name: &str, outtype: &str) -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf");
    (root.join(name), root.join(format!("{name}.{outtype}.json")))
}

/// The same of an oracle model.
fn oracle(name: &str, outtype: &str) -> Option<(PathBuf, PathBuf)> {
    Some((support::oracle(&format!("models/{name}"))?, support::oracle(&format!("manifests/{name}.{outtype}.json"))?))
}

/// Opens `dir`, converts it, and compares metadata, tensors and the whole file with `manifest`.
fn check((dir, manifest): (PathBuf, PathBuf), outtype: &str) {
    let manifest = support::json(&manifest);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let recipe = Recipe::find(outtype).unwrap();

    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("out.gguf");
    let whole = Output::of(&checkpoint, &recipe, &PlanOptions::default(), &path).unwrap();
    quantize(&checkpoint, std::slice::from_ref(&whole), &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    // What was written is the same model.
    assert_eq!(Checkpoint::open(&path).unwrap().hparams(), checkpoint.hparams(), "{}", dir.display());

    // Without what the converter leaves out it is the converter's file.
    let output = support::without_own_keys(whole);
    check_pairs(&output.metadata, &manifest, &format!("{} as {outtype}", dir.display()));
    quantize(&checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();

    let file = bitworth_quant::gguf::GgufFile::open(&path).unwrap();
    let found: Vec<Json> = file
        .tensors
        .iter()
        .map(|t| {
            json!({"name": t.name, "type": t.dtype.name(), "shape": t.shape, "bytes": t.bytes,
                "sha256": sha256(&file.bytes(t))})
        })
        .collect();
    assert_eq!(found, *manifest["tensors"].as_array().unwrap(), "{}", dir.display());
    assert_eq!(sha256(&std::fs::read(&path).unwrap()), manifest["file_sha256"], "{} as {outtype}", dir.display());
}

#[test]
fn the_fixtures_convert_to_the_converters_bytes() {
    for name in [&["llama31_gqa"], COMMITTED].concat() {
        for outtype in OUTTYPES {
            check(fixture(name, outtype), outtype);
        }
    }
}

/// The names of all oracle models that are read; none where the oracle is not at hand.
fn oracle_models() -> Vec<String> {
    let Some(dir) = support::oracle("models") else { return Vec::new() };
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.chain(COMMITTED.iter().map(|&name| name.to_owned())).collect();
    names.retain(|name| !support::is_refused(name));
    names.sort();
    names.dedup();
    assert!(names.len() > 40);
    names
}

/// A golden model whose class or encoding is not read yet is refused by its name, and leaves the list once it opens.
#[test]
fn models_that_are_not_read_yet_are_refused_by_name() {
    for (name, what) in support::refused() {
        let Some(dir) = support::oracle(&format!("models/{name}")) else { return };
        let error = Checkpoint::open(&dir).err().unwrap_or_else(|| panic!("{name} opens: take it out of refused.tsv"));
        let error = error.to_string();
        assert!(error.contains("config.json") && error.contains(what), "{name}: {error}");
    }
}

/// Runs `check` for every oracle model that GGUF can represent, and says all for which it fails.
fn for_all_models(check: impl Fn(&str)) {
    let names = oracle_models();
    let run = |name: &&String| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(name))).is_err();
    let wanted = names.iter().filter(|name| !NO_FORM_IN_GGUF.contains(&name.as_str()));
    let failed: Vec<&String> = wanted.filter(run).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_oracle_model_converts_to_the_converters_bytes() {
    for_all_models(|name| {
        for outtype in OUTTYPES.iter().filter(|_| !NOT_READ_BY_THE_CONVERTER.contains(&name)) {
            check(oracle(name, outtype).unwrap(), outtype);
        }
    });
}

#[test]
fn rows_read_alone_are_those_of_the_whole() {
    for_all_models(|name| {
        let checkpoint = Checkpoint::open(&support::oracle(&format!("models/{name}")).unwrap()).unwrap();
        for tensor in checkpoint.tensors() {
            let (rows, whole) = (tensor.rows(), checkpoint.read(tensor, 0..tensor.rows()).unwrap());
            let row_bytes = whole.len() / rows;
            for range in [rows / 2..rows / 2 + 1, rows / 3..rows, 0..rows - 1, rows..rows] {
                let part = checkpoint.read(tensor, range.clone()).unwrap();
                assert_eq!(part[..], whole[range.start * row_bytes..range.end * row_bytes], "{name}: {}", tensor.name);
            }
        }
    });
}

/// llama.cpp builds another pre-tokenizer than the files have, and does not limit steps.
const NEMOTRON: &[&str] = &["bitworth.tokenizer.json", "bitworth.ssm.time_step_min"];

/// The oracle models whose files need keys of our own, and which. All others are the converter's files to the last byte.
const OWN_KEYS: &[(&str, &[&str])] = &[
    ("gemma2_scalar", &["bitworth.rope.freq_base", "bitworth.attention.scale"]),
    ("gemma3_pattern", &["bitworth.attention.sliding_window_blocks", "bitworth.attention.scale"]),
    ("glm4_moe_lite", &["bitworth.expert_gating_func"]),
    ("gpt_oss_yarn", &["bitworth.rope.scaling.yarn_truncate"]),
    ("llama4", &["bitworth.attention.chunk_size", "bitworth.attention.temperature_floor"]),
    ("mistral_swa", &["bitworth.attention.sliding_window"]),
    ("nemotron_h", NEMOTRON),
    ("nemotron_h_moe", NEMOTRON),
    ("phimoe", &["bitworth.rope.scaling.magnitude"]),
    ("qwen2_moe_mixed", &["bitworth.expert_weights_norm", "bitworth.expert_blocks"]),
    ("qwen2_swa", &["bitworth.attention.sliding_window", "bitworth.attention.sliding_window_blocks"]),
    ("qwen3_moe_mixed", &["bitworth.expert_blocks"]),
    ("smollm3_nope", &["bitworth.rope.blocks"]),
    ("starcoder2", &["bitworth.attention.sliding_window"]),
];

#[test]
fn only_models_that_would_become_others_get_keys_of_our_own() {
    for name in oracle_models() {
        let checkpoint = Checkpoint::open(&support::oracle(&format!("models/{name}")).unwrap()).unwrap();
        let own = bitworth_quant::convert::facts::own_keys(checkpoint.metadata());
        let found: Vec<&str> = own.iter().map(|(key, _)| key).collect();
        let expected = OWN_KEYS.iter().find(|(model, _)| *model == name).map_or(&[][..], |(_, keys)| keys);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_model_that_llama_cpp_has_no_form_for_converts_to_a_file_that_is_the_same_model() {
    for name in NO_FORM_IN_GGUF {
        let Some(dir) = support::oracle(&format!("models/{name}")) else { return };
        let checkpoint = Checkpoint::open(&dir).unwrap();
        assert!(bitworth_quant::convert::facts::has_no_form_in_llama_cpp(checkpoint.metadata()), "{name}");
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("out.gguf");
        let output = Output::of(&checkpoint, &Recipe::find("f32").unwrap(), &PlanOptions::default(), &path).unwrap();
        quantize(&checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().hparams(), checkpoint.hparams(), "{name}");
    }
}

/// `config.json` as transformers 5 writes it: everything about rotary embedding in one object.
fn in_the_spelling_of_transformers_5(config: &mut Json) {
    let config = if config["text_config"].is_object() { &mut config["text_config"] } else { config };
    let keys = config.as_object_mut().unwrap();
    let described = keys.remove("rope_scaling").filter(|v| !v.is_null()).or_else(|| keys.remove("rope_parameters"));
    let mut rope = described.unwrap_or(json!({}));
    if let Some(kind) = rope.as_object_mut().unwrap().remove("type") {
        rope["rope_type"] = kind;
    }
    for key in ["rope_theta", "partial_rotary_factor"] {
        if let Some(value) = keys.remove(key) {
            rope[key] = value;
        }
    }
    if let Some(local) = keys.remove("rope_local_base_freq") {
        rope = json!({"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": local}});
    }
    keys.insert("rope_parameters".to_owned(), rope);
}

#[test]
fn both_spellings_of_the_configuration_give_the_same_metadata() {
    let out = tempfile::tempdir().unwrap();
    for_all_models(|name| {
        let dir = support::oracle(&format!("models/{name}")).unwrap();
        let copy = out.path().join(name);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let mut config = support::json(&dir.join("config.json"));
        in_the_spelling_of_transformers_5(&mut config);
        std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
        let (v4, v5) = (Checkpoint::open(&dir).unwrap(), Checkpoint::open(&copy).unwrap());
        for (v4, v5) in v4.metadata().iter().zip(v5.metadata().iter()) {
            assert_eq!(v4, v5, "{name}");
        }
        assert_eq!(v4.metadata(), v5.metadata(), "{name}");
    });
}

#[test]
fn every_rule_has_a_golden_model() {
    let mut tried: HashSet<(&str, Role)> = HashSet::new();
    // Some stand among the fixtures alone.
    let fixtures = ["gemma4_bias", "glm4_moe_lite_bias", "llama4_text", "nemotron_h_bias"].map(str::to_owned);
    let models = oracle_models();
    let fixtures = fixtures.iter().filter(|_| !models.is_empty());
    for name in models.iter().chain(fixtures) {
        if let Ok(checkpoint) = Checkpoint::open(&support::oracle(&format!("models/{name}")).unwrap()) {
            tried.extend(checkpoint.tensors().iter().map(|t| (checkpoint.arch().name, t.role().unwrap().0)));
        }
    }
    if tried.is_empty() {
        return;
    }
    for arch in ARCHITECTURES {
        for rule in arch.tensors {
            // The output matrix has the same rule everywhere, and some have only models that tie it; Llama 3's factors are made
            // by one function for all who can have them. What a key says to be there (biases, norms of heads) is the same
            // wherever it is. Of Granite 4's hybrids there is no golden model with dense blocks, and of Nemotron 3 none whose
            // experts are narrower than the stream.
            let stated = arch.stated.iter().any(|stated| stated.roles.contains(&rule.role));
            let unseen = match rule.presence {
                Presence::Dense => arch.name == "granitehybrid",
                presence => presence == Presence::LatentExperts,
            };
            let elsewhere = stated && tried.iter().any(|(_, role)| *role == rule.role);
            assert!(
                matches!(rule.role, Role::Output | Role::RopeFreqs)
                    || unseen
                    || elsewhere
                    || tried.contains(&(arch.name, rule.role)),
                "{}: {:?} is in no golden model",
                arch.name,
                rule.role
            );
        }
    }
}

#[test]
fn the_demo_model_becomes_a_file_of_the_expected_size() {
    let Some(oracle) = support::oracle("models") else { return };
    let dir = oracle.join("../../demo/demo-model");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let recipe = Recipe::find("f16").unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("demo.gguf");
    let output = Output::of(&checkpoint, &recipe, &PlanOptions::default(), &path).unwrap();
    quantize(&checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4_100_320);
}

/// convert_hf_to_gguf.py --outtype q8_0 and tq2_0 (b11434), by the hashes of its files: the order, the exceptions and the types
/// are not those of llama-quantize.
#[test]
fn the_types_that_the_converter_quantizes_to_itself_are_its_bytes() {
    for (name, outtype, hash) in [
        ("mixtral", "q8_0", "cde97ae832685a421f275275f883758ae20b39ee7a2cca003246576a40e612e7"),
        ("mixtral", "tq2_0", "2d345d00dd697a088bd8d48d65cd9b4e8b8b2a0f6b8c6342f0adda1536a1614a"),
        ("gemma2", "q8_0", "526ccfdc3e4280c654f6ea1d22247a8da3cf2debebed6f21fab302ff86a23123"),
        ("gemma2", "tq2_0", "1193fb2e800b2da9542f45e3321ffa828ae87809b5b84dc8f5cdf084d90c7f3c"),
        ("phi3", "q8_0", "1483e723295c46147803859afb5c8c65a516937b17b657ef77f5d69a2122f9e3"),
        ("phi3", "tq2_0", "0229cf403cc3a1861ecac2b010e7f4f5d37ab5451aa45ebc30e0ef88f85a0b69"),
    ] {
        let Some(dir) = support::oracle(&format!("models/{name}")) else { return };
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("out.gguf");
        let choices = PlanOptions { as_converter: true, ..PlanOptions::default() };
        let output = Output::of(&checkpoint, &Recipe::find(outtype).unwrap(), &choices, &path).unwrap();
        quantize(&checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
        assert_eq!(sha256(&std::fs::read(&path).unwrap()), hash, "{name} as {outtype}");
    }
}

/// What the converter knows nothing of is refused, and not passed over.
#[test]
fn options_that_the_converter_has_not_are_refused_for_its_types() {
    let checkpoint = Checkpoint::open(&fixture("llama31_gqa", "f32").0).unwrap();
    let choices = PlanOptions { as_converter: true, pure: true, ..PlanOptions::default() };
    let make = |recipe: &str| Output::of(&checkpoint, &Recipe::find(recipe).unwrap(), &choices, Path::new("out.gguf")).err();
    let error = make("q8_0").unwrap().to_string();
    assert!(error.starts_with("pure ") && error.contains("use the command quantize instead"), "{error}");
    assert!(make("q4_k_m").is_none() && make("f16").is_none());
}
