//! What llama.cpp's converter wrote, as the oracle's manifests record it. Absent: tensors.

use bitworth_quant::gguf::{Array, Metadata, Value};
use bitworth_quant::hex::hex;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// In hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
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
        Value::Array(Array::Bool(list)) => array("BOOL", list.len(), list.iter().map(|&v| u8::from(v)).collect()),
        Value::Array(Array::I32(list)) => array("INT32", list.len(), list.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Value::Array(Array::F32(list)) => array("FLOAT32", list.len(), list.iter().flat_map(|v| v.to_le_bytes()).collect()),
        other => panic!("no converter of ours writes {other:?}"),
    }
}

/// The metadata are those of the manifest, in its order; the first that differs is named.
pub fn check_pairs(metadata: &Metadata, manifest: &Json, what: &str) {
    let (found, expected) = (found_pairs(metadata), expected_pairs(manifest));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{what}");
    }
    let beyond = |list: &[(String, Json)], other: usize| list.iter().skip(other).map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(beyond(&found, expected.len()), beyond(&expected, found.len()), "{what}");
}

/// Metadata as ordered pairs.
pub fn found_pairs(metadata: &Metadata) -> Vec<(String, Json)> {
    metadata.iter().map(|(key, value)| (key.to_owned(), describe(value))).collect()
}

/// The same of a manifest.
pub fn expected_pairs(manifest: &Json) -> Vec<(String, Json)> {
    let pairs = manifest["metadata"].as_object().unwrap().iter();
    pairs
        .map(|(key, value)| {
            let mut value = value.clone();
            if value["type"] == "ARRAY" {
                value.as_object_mut().unwrap().remove("value");
            }
            // The reader of JSON is not exact in the last bit.
            if let Some(number) = value["value"].as_f64().filter(|_| value["type"] == "FLOAT32") {
                value["value"] = json!(f64::from(number as f32));
            }
            (key.clone(), value)
        })
        .collect()
}
