//! `quantize` and `convert` with their options, as a user types them. Absent: bytes against llama.cpp's (see the `quant` crate's
//! tests).

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{bitworth, json, parquet, run};

/// A folder with the demo model's folder as `demo-model`.
fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    dir
}

/// A shape small enough to make in no time, with rows of whole blocks.
const SHAPE: &str = r#"
architectures = ["LlamaForCausalLM"]
hidden_size = 256
intermediate_size = 512
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
vocab_size = 300
max_position_embeddings = 64
rms_norm_eps = 1e-5
"#;

#[track_caller]
fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn types(dir: &Path, file: &str) -> Vec<(String, String)> {
    let shown = json(dir, &["inspect", file]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    shown["tensors"].as_array().unwrap().iter().map(|t| (text(&t["name"]), text(&t["type"]))).collect()
}

#[test]
fn options_choose_types_and_keys() {
    let world = world();
    let dir = world.path();
    let options = ["--tensor-type", "ffn_down=q5_k", "--output-tensor-type", "q8_0", "--override-kv", "general.name=str:other"];
    let fixed = ["quantize", "demo-model", "--to", "q4_k_m", "--out", "a.gguf", "--prune-layers", "1"];
    json(dir, &[&fixed[..], &options].concat());
    let shown = types(dir, "a.gguf");
    let of = |name: &str| shown.iter().find(|(n, _)| n == name).map(|(_, dtype)| dtype.as_str());
    assert_eq!(of("blk.0.ffn_down.weight"), Some("Q5_K"));
    assert_eq!(of("token_embd.weight"), Some("Q8_0"), "the head is tied to it");
    assert_eq!(of("blk.0.attn_q.weight"), Some("Q4_K"));
    let metadata = json(dir, &["inspect", "a.gguf"])["metadata"].clone();
    assert_eq!(metadata["general.name"], "other");
    assert_eq!(metadata["llama.block_count"], 2, "one of three is pruned");
    assert!(of("blk.1.attn_q.weight").is_some() && of("blk.2.attn_q.weight").is_none());
    std::fs::write(dir.join("types.txt"), "attn_q=q8_0 attn_k=q8_0").unwrap();
    let (pattern, file) = (["--tensor-type", "attn_q=q6_k"], ["--tensor-type-file", "types.txt"]);
    for (order, expected) in [([pattern, file].concat(), "Q6_K"), ([file, pattern].concat(), "Q8_0")] {
        json(dir, &[&["quantize", "demo-model", "--to", "q4_0", "--out", "c.gguf"], &order[..]].concat());
        let shown = types(dir, "c.gguf");
        let of = |name: &str| shown.iter().find(|(n, _)| n == name).map(|(_, dtype)| dtype.as_str());
        assert_eq!((of("blk.0.attn_q.weight"), of("blk.0.attn_k.weight")), (Some(expected), Some("Q8_0")));
    }
    let refused = run(dir, &["quantize", "demo-model", "--to", "q4_0", "--out", "b.gguf", "--tensor-type", "atn_v=q8_0"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("atn_v") && !dir.join("b.gguf").exists(), "{error}");
}

#[test]
fn the_dry_run_says_types_reasons_and_size_and_what_lacks_an_importance_matrix() {
    let world = world();
    let dir = world.path();
    let output = run(dir, &["quantize", "demo-model", "--to", "q4_k_m,iq2_xxs", "--dry-run"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in ["Q6_K", "a layer that gets more bits", "bits per weight", "--imatrix"] {
        assert!(text.contains(part), "{text}");
    }
    let made = json(dir, &["quantize", "demo-model", "--to", "q4_k_m", "--out", "m"]);
    let plan = json(dir, &["quantize", "demo-model", "--to", "q4_k_m", "--dry-run"]);
    assert_eq!(plan[0]["bpw"], made[0]["bpw"]);
    let refused = run(dir, &["quantize", "demo-model", "--to", "iq2_xxs", "--out", "x"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("--imatrix"), "{error}");
}

#[test]
fn every_size_says_whether_it_is_of_files_or_of_tensors() {
    let world = world();
    let dir = world.path();
    let said = |args: &[&str]| String::from_utf8(run(dir, args).stdout).unwrap();
    let mib = |files: &[PathBuf]| files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>() as f64 / 1_048_576.0;
    for command in [["quantize", "demo-model", "--to", "q4_0"], ["convert", "demo-model", "--to", "f16"]] {
        let text = said(&[&command[..], &["--out", "one.gguf"]].concat());
        let size = mib(&[dir.join("one.gguf")]);
        assert!(text.contains(&format!(" {size:.1} MiB in 1 file ")) && text.contains(" bits per weight in tensors "), "{text}");
    }
    let text = said(&["convert", "demo-model", "--to", "f16", "--out", "cut.gguf", "--split-max-size", "1M"]);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let parts: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains("cut-0000")).collect();
    let size = mib(&parts);
    assert!(parts.len() > 1 && text.contains(&format!(" {size:.1} MiB in {} files ", parts.len())), "{text}");
    // Without metadata and padding it is less than the file.
    let bytes = json(dir, &["inspect", "one.gguf"])["bytes"].as_u64().unwrap();
    assert!(bytes < dir.join("one.gguf").metadata().unwrap().len());
    assert!(said(&["inspect", "one.gguf"]).contains(&format!(" weights in tensors of {bytes} bytes, ")));
    let plan = said(&["quantize", "demo-model", "--to", "f16", "--dry-run"]);
    assert!(plan.contains(&format!(" tensors of {bytes} bytes, ")), "{plan}");
}

#[test]
fn a_model_in_parts_is_the_same_model_and_keeps_its_parts() {
    let world = world();
    let dir = world.path();
    let whole = json(dir, &["convert", "demo-model", "--to", "f16", "--out", "whole.gguf", "--sha256"]);
    assert_eq!(whole["sha256"].as_str().unwrap().len(), 64);
    let parts = json(dir, &["convert", "demo-model", "--to", "f16", "--out", "split.gguf", "--split-max-size", "1M"]);
    let parts = parts["parts"].as_array().unwrap();
    assert!(parts.len() > 2, "{parts:?}");
    let first = parts[0]["path"].as_str().unwrap();
    assert!(first.contains("split-00001-of-"), "{first}");
    for (model, out, option) in [("whole.gguf", "a.gguf", &[][..]), (first, "b.gguf", &[]), (first, "c.gguf", &["--keep-split"])]
    {
        json(dir, &[&["quantize", model, "--to", "q4_0", "--out", out], option].concat());
    }
    assert_eq!(read(dir.join("a.gguf")), read(dir.join("b.gguf")));
    let kept = format!("c-00001-of-{:05}.gguf", parts.len());
    let (mut kept, mut one) = (types(dir, &kept), types(dir, "a.gguf"));
    kept.sort();
    one.sort();
    assert_eq!(kept, one);
}

#[test]
fn the_report_has_a_row_for_every_file_and_tensor() {
    let world = world();
    let dir = world.path();
    json(dir, &["quantize", "demo-model", "--to", "q8_0,q2_k", "--out", "out", "--report", "lost.parquet"]);
    let report = parquet(&dir.join("lost.parquet"));
    for column in ["recipe", "tensor", "to", "reason", "rmse", "max_abs_error", "cosine", "weighted_error", "encode_seconds"] {
        assert!(report.names().iter().any(|name| name == column), "{column}");
    }
    let tensors = types(dir, "out/demo-model-Q2_K.gguf").len();
    assert_eq!(report.len(), 2 * tensors);
}

#[test]
fn nothing_that_is_read_or_no_gguf_file_is_replaced() {
    let world = world();
    let dir = world.path();
    json(dir, &["convert", "demo-model", "--to", "f16", "--out", "m.gguf"]);
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    let refuse = |args: &[&str], file: &str, expected: &str| {
        let before = read(dir.join(file));
        let output = run(dir, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(expected), "{args:?}: {error}");
        assert!(read(dir.join(file)) == before, "{args:?}");
    };
    let quantize = ["quantize", "m.gguf", "--to", "q4_0", "--out"];
    refuse(&[&quantize[..], &["m.gguf"]].concat(), "m.gguf", "to be read");
    refuse(&[&quantize[..], &["a.gguf", "--report", "m.gguf"]].concat(), "m.gguf", "no parquet file");
    refuse(&[&quantize[..], &["a.gguf", "--report", "notes.txt"]].concat(), "notes.txt", "no parquet file");
    refuse(&["convert", "demo-model", "--to", "f16", "--out", "notes.txt"], "notes.txt", "no GGUF file");
    let config = "demo-model/config.json";
    refuse(&["convert", "demo-model", "--to", "f16", "--out", config], config, "no GGUF file");
    refuse(&["convert", "demo-model", "--to", "q8_0", "--out", "b.gguf", "--pure"], config, "use `bitworth quantize` instead");
    assert!(!dir.join("a.gguf").exists() && !dir.join("b.gguf").exists());
}

#[test]
fn a_weight_that_is_no_number_is_named_and_not_even_a_folder_is_left() {
    let world = world();
    let dir = world.path();
    json(dir, &["convert", "demo-model", "--to", "f32", "--out", "m.gguf"]);
    let mut bytes = read(dir.join("m.gguf"));
    let last = types(dir, "m.gguf").pop().unwrap().0;
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(dir.join("m.gguf"), bytes).unwrap();
    let args = ["quantize", "m.gguf", "--to", "q4_k_m,f16", "--out", "a/b"];
    let output = run(dir, &args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in ["m.gguf", last.as_str(), "row", "NaN", "--allow-non-finite"] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    assert!(!dir.join("a").exists());
    json(dir, &[&args[..], &["--allow-non-finite"]].concat());
}

#[test]
fn a_killed_run_goes_on_where_it_was_and_gives_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("small.toml"), SHAPE).unwrap();
    json(dir, &["synth", "--shape", "small.toml", "--layers", "24", "--to", "f16", "--out", "m.gguf"]);
    let run_one = ["quantize", "m.gguf", "--to", "iq4_xs,q4_k_m", "--threads", "1", "--resume", "--out"];
    json(dir, &[&run_one[..], &["whole"]].concat());
    for wait in [20, 60, 120] {
        let mut child = bitworth(dir).args(run_one).arg("cut").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        let done = run(dir, &[&run_one[..], &["cut"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        for name in ["m-IQ4_XS.gguf", "m-Q4_K_M.gguf"] {
            assert!(read(dir.join("cut").join(name)) == read(dir.join("whole").join(name)), "{name} after {wait} ms");
        }
        assert_eq!(std::fs::read_dir(dir.join("cut")).unwrap().count(), 2, "nothing else is left");
        std::fs::remove_dir_all(dir.join("cut")).unwrap();
    }
}
