//! Models of random weights: the same bytes for any number of threads and everywhere, and files that open.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::convert::config::Config;
use bitworth_quant::hex::hex;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, Source, quantize};
use bitworth_quant::synth::Synth;
use bitworth_quant::{Checkpoint, DType, Recipe};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support;

fn synth(changes: &[(&str, Value)], seed: u64) -> bitworth_quant::Result<Synth> {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 64,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    });
    for (key, value) in changes {
        config[key] = value.clone();
    }
    let keys = config.as_object().unwrap().clone();
    Synth::new("tiny", &Config::parse(PathBuf::from("tiny.toml"), keys)?, seed)
}

fn file(synth: &Synth, recipe: &str, threads: usize, folder: &Path) -> Vec<u8> {
    let path = folder.join(format!("{recipe}-{threads}.gguf"));
    let output = Output::of(synth, &Recipe::find(recipe).unwrap(), &PlanOptions::default(), &path).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| quantize(synth, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent)).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let synth = synth(&[], 0).unwrap();
    for recipe in ["f16", "q4_0"] {
        assert!(file(&synth, recipe, 1, folder.path()) == file(&synth, recipe, 5, folder.path()), "{recipe}");
    }
}

#[test]
fn the_bytes_are_the_same_on_every_machine_and_other_for_other_seeds() {
    let weights = |seed| {
        let synth = synth(&[], seed).unwrap();
        let read = |tensor: &Tensor| synth.read(tensor, 0..tensor.rows()).unwrap().to_vec();
        let hash = Sha256::digest(synth.tensors().iter().flat_map(read).collect::<Vec<u8>>());
        hex(&hash[..8])
    };
    assert_eq!(weights(0), "251d1b3d5d9a5089");
    assert_eq!(weights(1), "21f9ceb2b4428e90");
}

#[test]
fn any_rows_are_those_of_the_whole() {
    let synth = synth(&[], 0).unwrap();
    for tensor in synth.tensors() {
        let whole = synth.read(tensor, 0..tensor.rows()).unwrap();
        let row_bytes = whole.len() / tensor.rows();
        for rows in [0..0, 0..1, tensor.rows() / 3..tensor.rows()] {
            let expected = &whole[rows.start * row_bytes..rows.end * row_bytes];
            assert!(*synth.read(tensor, rows).unwrap() == *expected, "{}", tensor.name);
        }
        let error = synth.read(tensor, 0..tensor.rows() + 1).err().unwrap().to_string();
        assert!(error.contains(&tensor.name) && error.contains("rows"), "{error}");
    }
}

#[test]
fn a_file_opens_with_all_tensors_and_a_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    for (tied, output_tensors) in [(true, 0), (false, 1)] {
        let synth = synth(&[("tie_word_embeddings", json!(tied))], 0).unwrap();
        file(&synth, "q6_k", 2, folder.path());
        let checkpoint = Checkpoint::open(&folder.path().join("q6_k-2.gguf")).unwrap();
        assert_eq!(checkpoint.hparams().head_count_kv.of(0), 2);
        assert_eq!(checkpoint.parameter_count(), synth.parameter_count());
        assert_eq!(checkpoint.tensor("blk.1.ffn_down.weight").unwrap().dtype, DType::Q6_K);
        assert_eq!(checkpoint.tensor("rope_freqs.weight").unwrap().shape, [32]);
        assert_eq!(checkpoint.tensors().iter().filter(|t| t.name == "output.weight").count(), output_tensors);
        let vocab = checkpoint.vocab().unwrap();
        assert_eq!((vocab.len(), vocab.tokens[256].as_str(), vocab.eos), (300, "<|endoftext|>", Some(256)));
        checkpoint.tokenizer_json().unwrap();
    }
}

#[test]
fn a_shape_that_cannot_be_made_is_refused() {
    for (key, value, expected) in [
        ("vocab_size", json!(256), "vocab_size: is 256"),
        ("num_hidden_layers", json!(1 << 20), "num_hidden_layers: is 1048576"),
        ("num_local_experts", json!(8), "num_experts_per_tok: is missing"),
        ("architectures", json!(["NoSuchModel"]), "LlamaForCausalLM"),
    ] {
        let error = synth(&[(key, value)], 0).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// What stands in published files, of use or not, stands in a model of their shape, but for what no key of the configuration
/// speaks of: biases and the like, blocks that predict further tokens, and factors of weights in NVFP4, which are of the
/// checkpoint and not of the shape.
#[test]
fn a_shape_has_the_tensors_that_the_converter_writes() {
    let (Some(models), Some(manifests)) = (support::oracle("models"), support::oracle("manifests")) else { return };
    // Lengths of 1 at the end say nothing.
    let lengths = |shape: &[usize]| shape.iter().rev().skip_while(|&&length| length == 1).copied().collect::<Vec<_>>();
    let shape_of = |tensor: &Value| serde_json::from_value::<Vec<usize>>(tensor["shape"].clone()).unwrap();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(models).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let manifest = manifests.join(format!("{name}.f32.json"));
        // llama.cpp has no form for some.
        if support::is_refused(&name) || !manifest.exists() {
            continue;
        }
        let config = Config::read(&support::oracle(&format!("models/{name}")).unwrap()).unwrap();
        let synth = Synth::new(&name, &config, 0).unwrap();
        let made: HashMap<&str, &[usize]> = synth.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
        let manifest = support::json(&manifest);
        let mut written = HashSet::new();
        for tensor in manifest["tensors"].as_array().unwrap() {
            let tensor_name = tensor["name"].as_str().unwrap();
            written.insert(tensor_name);
            match made.get(tensor_name) {
                Some(shape) if lengths(shape) != lengths(&shape_of(tensor)) => {
                    wrong.push(format!("{name}: {tensor_name} is {shape:?}"))
                }
                None if ![".bias", ".scale", ".input_scale"].iter().any(|end| tensor_name.ends_with(end)) => {
                    wrong.push(format!("{name}: {tensor_name} is missing"))
                }
                _ => {}
            }
        }
        wrong.extend(made.keys().filter(|made| !written.contains(*made)).map(|made| format!("{name}: {made} is too many")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
