//! Models of random weights, as the program makes them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::engine::cpu::Cpu;
use bitworth::engine::model::Variant;
use bitworth::engine::sweep;
use bitworth_quant::Checkpoint;
use bitworth_quant::progress::Silent;
use tempfile::TempDir;

use crate::common;

const TINY: &str = "architectures = [\"LlamaForCausalLM\"]\nhidden_size = 256\nintermediate_size = 512\nnum_hidden_layers = 1
num_attention_heads = 4\nnum_key_value_heads = 2\nvocab_size = 300\ntie_word_embeddings = true\n";

#[test]
fn a_shape_file_becomes_models_that_can_be_scored() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    let args = ["synth", "--shape", "tiny.toml", "--layers", "3", "--to", "f16,q4_0", "--out", "models"];
    let made = common::json(dir.path(), &args);
    assert_eq!(made["shape"], "tiny");
    for (i, recipe) in ["f16", "q4_0"].into_iter().enumerate() {
        let file = Path::new("models").join(format!("tiny-{}.gguf", recipe.to_uppercase()));
        assert_eq!((&made["files"][i]["recipe"], &made["files"][i]["file"]), (&recipe.into(), &file.to_str().unwrap().into()));
        let checkpoint = Checkpoint::open(&dir.path().join(file)).unwrap();
        assert_eq!(checkpoint.hparams().block_count, 3);
        assert_eq!(made["parameters"], checkpoint.parameter_count());
        check_logits(checkpoint);
    }
}

/// Every token's logits are numbers and no two tokens of the text predict alike.
fn check_logits(checkpoint: Checkpoint) {
    let vocab = checkpoint.hparams().vocab_size;
    let variant = Variant::Stored(Arc::new(checkpoint));
    let mut all = Vec::new();
    let keep = |_: usize, logits: Vec<f32>| {
        all.extend(logits);
        Ok(())
    };
    sweep::logits(&Cpu::new(), &variant, &[vec![40, 41, 299, 256]], &Silent, &AtomicBool::new(false), keep).unwrap();
    assert_eq!(all.len(), 4 * vocab);
    assert!(all.iter().all(|l| l.is_finite()));
    let tops: std::collections::BTreeSet<u32> =
        all.chunks(vocab).map(|row| row.iter().copied().fold(f32::MIN, f32::max).to_bits()).collect();
    assert_eq!(tops.len(), 4);
}

#[test]
fn one_recipe_may_name_its_file() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    let synth = ["synth", "--shape", "tiny.toml", "--out"];
    common::json(dir.path(), &[&synth[..], &["here/a.gguf"]].concat());
    common::json(dir.path(), &[&synth[..], &["here"]].concat());
    let read = |name: &str| std::fs::read(dir.path().join("here").join(name)).unwrap();
    assert!(read("a.gguf") == read("tiny-F16.gguf"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    std::fs::write(dir.path().join("broken.toml"), "hidden_size = \n").unwrap();
    for (args, expected) in [
        (&["llama-9b", "--out", "a.gguf"][..], "known: llama-1b, llama-3b, llama-8b"),
        (&["broken.toml", "--out", "a.gguf"], "broken.toml"),
        (&["tiny.toml", "--out", "a.gguf", "--to", "f16,q4_0"], "2 recipes need a folder"),
        (&["tiny.toml", "--out", "a.gguf", "--to", "q4_9"], "unknown recipe"),
        (&["tiny.toml", "--out", "a.gguf", "--layers", "0"], "num_hidden_layers: is 0"),
    ] {
        let output = common::run(dir.path(), &[&["synth", "--shape"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(error.contains(expected), "{args:?}: {error}");
        assert!(!dir.path().join("a.gguf").exists(), "{args:?}");
    }
}
