//! A Hugging Face directory opened as a checkpoint gives the metadata, tensors and bytes that llama.cpp's converter wrote.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use quant::checkpoint::Tensor;
use quant::gguf::{Array, Metadata, Value};
use quant::progress::Silent;
use quant::quantize::{Output, quantize};
use quant::{Checkpoint, Recipe};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

const OUTTYPES: [&str; 3] = ["f32", "bf16", "f16"];

/// A committed Hugging Face fixture, and the manifest of what the converter made of it.
fn fixture(name: &str, outtype: &str) -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf");
    (root.join(name), root.join(format!("{name}.{outtype}.json")))
}

/// The same of an oracle model.
fn oracle(name: &str, outtype: &str) -> Option<(PathBuf, PathBuf)> {
    Some((support::oracle(&format!("models/{name}"))?, support::oracle(&format!("manifests/{name}.{outtype}.json"))?))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A metadata value as the manifests describe it.
fn describe(value: &Value) -> Json {
    let scalar = |kind: &str, value: Json| json!({"type": kind, "value": value});
    let array =
        |of: &str, length: usize, bytes: Vec<u8>| json!({"type": "ARRAY", "of": of, "length": length, "sha256": sha256(&bytes)});
    match value {
        Value::U32(v) => scalar("UINT32", json!(v)),
        Value::I32(v) => scalar("INT32", json!(v)),
        Value::F32(v) => scalar("FLOAT32", json!(f64::from(*v))),
        Value::Bool(v) => scalar("BOOL", json!(v)),
        Value::String(v) => scalar("STRING", json!(v)),
        Value::Array(Array::String(list)) => {
            let bytes = list.iter().flat_map(|s| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()).collect();
            array("STRING", list.len(), bytes)
        }
        Value::Array(Array::I32(list)) => array("INT32", list.len(), list.iter().flat_map(|v| v.to_le_bytes()).collect()),
        other => panic!("no converter of ours writes {other:?}"),
    }
}

/// The metadata under `outtype` as ordered pairs, without those of the tokenizer where `tokenizer` is false.
fn found_pairs(metadata: &Metadata, tokenizer: bool) -> Vec<(String, Json)> {
    let pairs = metadata.iter().filter(|(key, _)| tokenizer || !key.starts_with("tokenizer."));
    pairs.map(|(key, value)| (key.to_owned(), describe(value))).collect()
}

fn expected_pairs(manifest: &Json, tokenizer: bool) -> Vec<(String, Json)> {
    let pairs = manifest["metadata"].as_object().unwrap().iter();
    let pairs = pairs.filter(|(key, _)| tokenizer || !key.starts_with("tokenizer."));
    pairs
        .map(|(key, value)| {
            let mut value = value.clone();
            if value["type"] == "ARRAY" {
                value.as_object_mut().unwrap().remove("value");
            }
            (key.clone(), value)
        })
        .collect()
}

/// Opens `dir`, converts it, and compares metadata, tensors and the whole file with `manifest`.
fn check((dir, manifest): (PathBuf, PathBuf), outtype: &str) {
    let manifest = support::json(&manifest);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let recipe = Recipe::find(outtype).unwrap();

    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("out.gguf");
    let output = Output::of(&checkpoint, recipe, &path).unwrap();
    assert_eq!(found_pairs(&output.metadata, true), expected_pairs(&manifest, true), "{}", dir.display());
    quantize(&checkpoint, &[output], &AtomicBool::new(false), &Silent).unwrap();

    let file = quant::gguf::GgufFile::open(&path).unwrap();
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
fn the_fixture_converts_to_the_converters_bytes() {
    for outtype in OUTTYPES {
        check(fixture("llama31_gqa", outtype), outtype);
    }
}

#[test]
fn the_oracles_byte_level_llamas_convert_to_the_converters_bytes() {
    for name in ["llama31_gqa", "llama_linear_bias", "llama_yi"] {
        for outtype in OUTTYPES {
            if let Some(paths) = oracle(name, outtype) {
                check(paths, outtype);
            }
        }
    }
}

#[test]
fn a_sentencepiece_model_has_weights_and_metadata_but_no_vocabulary_yet() {
    let Some((dir, manifest)) = oracle("llama2_mha", "f32") else { return };
    let manifest = support::json(&manifest);
    let checkpoint = Checkpoint::open(&dir).unwrap();

    let error = checkpoint.vocab().unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.model") && error.contains("SentencePiece") && error.contains("only byte-level BPE"),
        "{error}"
    );
    assert_eq!(checkpoint.output_metadata().unwrap_err().to_string(), error);

    let mut metadata = checkpoint.metadata().clone();
    metadata.set("general.file_type", Value::U32(0));
    assert_eq!(found_pairs(&metadata, false), expected_pairs(&manifest, false));
    let expected = manifest["tensors"].as_array().unwrap();
    assert_eq!(checkpoint.tensors().len(), expected.len());
    for (tensor, expected) in checkpoint.tensors().iter().zip(expected) {
        assert_eq!(json!([tensor.name, tensor.shape]), json!([expected["name"], expected["shape"]]));
        let widened = as_f32_bytes(&checkpoint, tensor);
        assert_eq!(sha256(&widened), expected["sha256"], "{}", tensor.name);
    }
}

/// A tensor's weights as little-endian f32.
fn as_f32_bytes(checkpoint: &Checkpoint, tensor: &Tensor) -> Vec<u8> {
    let bytes = checkpoint.read(tensor, 0..tensor.rows()).unwrap();
    let mut weights = vec![0f32; tensor.elements() as usize];
    tensor.dtype.decode_row(&bytes, &mut weights);
    weights.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[test]
fn the_demo_model_becomes_a_file_of_the_expected_size() {
    let Some(oracle) = support::oracle("models") else { return };
    let dir = oracle.join("../../demo/demo-model");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let recipe = Recipe::find("f16").unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("demo.gguf");
    let output = Output::of(&checkpoint, recipe, &path).unwrap();
    quantize(&checkpoint, &[output], &AtomicBool::new(false), &Silent).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4_100_320);
}
