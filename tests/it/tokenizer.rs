//! Token ids: as the reference tokenizer gives them, from a directory and from the GGUF made of it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bitworth::tokenizer::{SpecialText, Tokenizer};
use quant::plan::Choices;
use quant::progress::Silent;
use quant::quantize::{Options, Output, quantize};
use quant::{Checkpoint, Recipe};
use serde_json::Value;
use tempfile::TempDir;

use crate::common;

/// Golden models with SentencePiece and with byte-level BPE vocabularies.
const MODELS: &[&str] = &["llama2_mha", "llama31_gqa", "llama_linear_bias", "llama_yi"];

fn to_gguf(checkpoint: &Checkpoint, path: &Path) -> Checkpoint {
    let output = Output::of(checkpoint, &Recipe::find("f32").unwrap(), &Choices::default(), path).unwrap();
    quantize(checkpoint, &[output], &Options::default(), &AtomicBool::new(false), &Silent).unwrap();
    Checkpoint::open(path).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn directory_and_gguf_give_the_reference_ids() {
    let dir = TempDir::new().unwrap();
    for name in MODELS {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf").join(name);
        let model = if here.exists() { Some(here) } else { common::shared(&format!("oracle/models/{name}")) };
        let Some(model) = model else { continue };
        let checkpoint = Checkpoint::open(&model).unwrap();
        let gguf = to_gguf(&checkpoint, &dir.path().join(format!("{name}.gguf")));
        let golden: Value = serde_json::from_slice(&std::fs::read(model.join("golden.json")).unwrap()).unwrap();
        let cases = golden["tokenizer_cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for checkpoint in [&checkpoint, &gguf] {
            let tokenizer = Tokenizer::new(checkpoint).unwrap();
            for case in cases {
                let text = case["text"].as_str().unwrap();
                let what = format!("{}: {text:?}", checkpoint.path().display());
                assert_eq!(tokenizer.encode(text, SpecialText::Parse).unwrap(), ids(&case["ids"]), "{what}");
                assert_eq!(tokenizer.encode_prompt(text, SpecialText::Parse).unwrap(), ids(&case["with_special"]), "{what}");
            }
        }
    }
}

#[test]
fn the_demo_gguf_tokenizes_every_demo_text_as_the_directory() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let checkpoint = Checkpoint::open(&world.join("demo-model")).unwrap();
    let gguf = to_gguf(&checkpoint, &dir.path().join("demo.gguf"));
    let (a, b) = (Tokenizer::new(&checkpoint).unwrap(), Tokenizer::new(&gguf).unwrap());
    for file in ["data/eval.txt", "data/calib.txt"] {
        let text = std::fs::read_to_string(world.join(file)).unwrap();
        for special in [SpecialText::Parse, SpecialText::Plain] {
            let ids = a.encode(&text, special).unwrap();
            assert_eq!(ids, b.encode(&text, special).unwrap(), "{file}");
            assert_eq!(a.decode(&ids).unwrap(), text, "{file}");
        }
    }
}

#[test]
fn special_text_is_a_token_or_plain_text_as_asked() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let tokenizer = Tokenizer::new(&Checkpoint::open(&world.join("demo-model")).unwrap()).unwrap();
    let text = "<|endoftext|>";
    assert_eq!(tokenizer.encode(text, SpecialText::Parse).unwrap(), [0]);
    let plain = tokenizer.encode(text, SpecialText::Plain).unwrap();
    assert!(plain.len() > 1 && !plain.contains(&0), "{plain:?}");
}

#[test]
fn ends_count_the_bytes_of_the_text() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let tokenizer = Tokenizer::new(&Checkpoint::open(&world.join("demo-model")).unwrap()).unwrap();
    let text = "The fläg of Podwick 🏁 is golden.\n";
    let (ids, ends) = tokenizer.encode_with_ends(text, SpecialText::Plain).unwrap();
    assert_eq!(ids, tokenizer.encode(text, SpecialText::Plain).unwrap());
    assert!(ends.is_sorted());
    assert_eq!(ends.last(), Some(&text.len()));
}
