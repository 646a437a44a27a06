//! Names, authorship, sampling defaults, special tokens and chat templates come out as gguf-py derives them, over variants
//! of one model directory (see `fixtures/hf/gguf_py.py`).

use std::path::Path;

use bitworth_quant::Checkpoint;
use bitworth_quant::gguf::{Array, Value};
use serde_json::{Value as Json, json};

use crate::support;

const JSON_FILES: [&str; 4] = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
/// What gguf-py is not asked for: the model's own keys and the token lists.
const LEFT_OUT: [&str; 9] = [
    "general.architecture",
    "general.type",
    "general.file_type",
    "general.quantization_version",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
];

/// Lays a case's changes over the fixture and opens it in a directory of the case's name.
fn check(root: &Path, case: &Json) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa");
    let dir = root.join(case["directory"].as_str().unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::rename(root.join("model.safetensors"), dir.join("model.safetensors")).unwrap();
    for name in JSON_FILES {
        std::fs::copy(fixture.join(name), dir.join(name)).unwrap();
    }
    for (name, change) in case["changes"].as_object().unwrap() {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = match change {
            Json::String(text) => text.clone(),
            change => {
                let mut json = if path.exists() { support::json(&path) } else { json!({}) };
                for (key, value) in change.as_object().unwrap() {
                    json[key] = value.clone();
                }
                json.to_string()
            }
        };
        std::fs::write(path, text).unwrap();
    }

    let checkpoint = Checkpoint::open(&dir).unwrap();
    let metadata = checkpoint.output_metadata().unwrap();
    let kept = metadata.iter().filter(|(key, _)| !key.starts_with("llama.") && !LEFT_OUT.contains(key));
    let found: Vec<Json> = kept.map(|(key, value)| json!([key, plain(value)])).collect();
    assert_eq!(found, *case["expected"].as_array().unwrap(), "{} with {}", case["directory"], case["changes"]);
    std::fs::rename(dir.join("model.safetensors"), root.join("model.safetensors")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

fn plain(value: &Value) -> Json {
    match value {
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::F32(v) => json!(f64::from(*v)),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::Array(Array::String(v)) => json!(v),
        other => panic!("no key of this kind holds {other:?}"),
    }
}

#[test]
fn derived_keys_are_those_of_gguf_py() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf");
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures.join("llama31_gqa/model.safetensors"), root.path().join("model.safetensors")).unwrap();
    let cases = support::json(&fixtures.join("gguf_py.json"));
    assert!(cases.as_array().unwrap().len() > 60);
    for case in cases.as_array().unwrap() {
        check(root.path(), case);
    }
}
