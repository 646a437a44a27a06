//! Speeds of other programs and of models of a real shape: what stands in for a lane, what is kept when a program fails, and how
//! tables and sentences say it. Nothing counts as drifted here, because other tests run beside.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{json, run};

/// A program that prints what llama-bench prints, for the test that it is asked for: prefills take a second, decoding two.
#[cfg(unix)]
const FAKE: &str = r#"#!/bin/sh
prompt=0 generate=0 depth=0
while [ $# -gt 0 ]; do
    case $1 in
        -p) prompt=$2 ;;
        -n) generate=$2 ;;
        -d) depth=$2 ;;
        -m) file=$2 ;;
    esac
    shift
done
head -c 4 "$file" | grep -q GGUF || { echo "error: not a GGUF file" >&2; exit 1; }
seconds=$((generate > 0 ? 2 : 1))
printf '{"build_commit": "abc", "build_number": 7, "backends": "Fake", "n_prompt": %s, ' "$prompt"
printf '"n_gen": %s, "n_depth": %s, ' "$generate" "$depth"
printf '"samples_ns": [ %s000000000 ]}\n' "$seconds"
"#;

fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    json(dir.path(), &["quantize", "demo:demo-model", "--to", "q8_0,q4_0", "--out", "."]);
    dir
}

#[cfg(unix)]
fn program(dir: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const BENCH: [&str; 10] =
    ["bench", "demo-model-Q8_0.gguf", "demo-model-Q4_0.gguf", "--device", "cpu", "-r", "2", "-p", "8", "-n4"];

/// What `bench` says with a program of `text` as llama-bench: its document, or its error.
#[cfg(unix)]
fn bench(dir: &Path, engine: &str, text: &str) -> (Option<Value>, String) {
    program(dir, "fake", text);
    let args = [&BENCH[..], &["--engine", engine, "--llama-bench", "./fake", "--json"]].concat();
    let output = run(dir, &args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 2)), "{said}");
    (output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap()), said)
}

#[cfg(unix)]
fn told(document: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = document["results"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "model"), text(row, "engine"), text(row, "test"))).collect()
}

#[cfg(unix)]
#[test]
fn another_program_is_timed_on_the_same_files_and_named() {
    let dir = world();
    let (document, said) = bench(dir.path(), "bitworth,llama-bench", FAKE);
    let document = document.unwrap_or_else(|| panic!("{said}"));
    let row = |model: &str, engine: &str, test: &str| (model.to_owned(), engine.to_owned(), test.to_owned());
    let of = |model: &str| {
        let theirs = "llama-bench b7 (abc), Fake";
        [row(model, "bitworth", "pp8"), row(model, "bitworth", "tg4"), row(model, theirs, "pp8"), row(model, theirs, "tg4")]
    };
    assert_eq!(told(&document), [of("demo-model-Q8_0"), of("demo-model-Q4_0")].concat());
    for row in document["results"].as_array().unwrap().iter().filter(|row| row["engine"] != "bitworth") {
        let expected = if row["phase"] == "decode" { 2.0 } else { 1.0 };
        assert!(row["seconds"].as_array().unwrap().iter().all(|seconds| seconds == expected), "{row}");
        assert_eq!((&row["arithmetic"], &row["memory_bytes"]), (&"own".into(), &Value::Null));
    }
}

#[cfg(unix)]
#[test]
fn a_program_that_fails_takes_nothing_from_the_other() {
    let dir = world();
    let failures = [
        ("#!/bin/sh\necho no such backend >&2\nexit 3\n", "no such backend"),
        ("#!/bin/sh\necho '| model | size |'\n", "llama-bench"),
        ("#!/bin/sh\nexit 0\n", "0 lines"),
    ];
    for (text, what) in failures {
        let (document, said) = bench(dir.path(), "bitworth,llama-bench", text);
        let document = document.unwrap_or_else(|| panic!("{said}"));
        assert!(said.contains(what) && said.contains("not timed"), "{said}");
        assert!(told(&document).len() == 4 && told(&document).iter().all(|row| row.1 == "bitworth"), "{document}");
        let (none, said) = bench(dir.path(), "llama-bench", text);
        assert!(none.is_none() && said.contains(what) && said.contains("fake"), "{said}");
    }
    let output = run(dir.path(), &[&BENCH[..], &["--engine", "llama-bench", "--llama-bench", "missing/llama-bench"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("no such program") && said.contains("--llama-bench"), "{said}");
    let output = run(dir.path(), &["bench", "demo:demo-model", "--engine", "llama-bench", "-r", "1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("GGUF files only"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_run_is_compared_by_the_program_that_its_files_are_for() {
    let dir = world();
    let dir = dir.path();
    program(dir, "fake", FAKE);
    let config = "model = \"demo:demo-model\"\nrecipes = [\"q8_0\"]\n[text]\nfile = \"demo:data/eval.txt\"\nctx = 64\n\
                  chunks = 8\n[speed]\nprompt = 8\ngenerate = 4\nrepetitions = 2\n\
                  drift_bound = 10.0\nengine = [\"bitworth\", \"llama-bench\"]\n\
                  llama_bench = \"./fake\"\n";
    std::fs::write(dir.join("job.toml"), config).unwrap();
    let document = json(dir, &["run", "job.toml", "--device", "cpu", "--out", "out"]);
    let rows = document["summary"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        // 4 tokens in two seconds, 8 in one; the reference is a directory, of which a file was made.
        assert_eq!((row["decode_tps"].as_f64(), row["prefill_tps"].as_f64()), (Some(2.0), Some(8.0)), "{row}");
        assert_eq!(row["speed_engine"].as_str(), Some("llama-bench b7 (abc), Fake"));
        assert!(row["speed_shape"].is_null());
    }
    assert!(dir.join("out/timed").read_dir().unwrap().count() == 1, "the reference's file alone");
    let page = std::fs::read_to_string(dir.join("out/report.md")).unwrap();
    assert!(page.contains("decode (bitworth)") && page.contains("of llama-bench b7 (abc), Fake"), "{page}");
    assert!(!page.contains("times the decode speed"), "the same speed is no difference: {page}");
}

#[test]
fn speeds_of_a_shape_stand_in_for_those_of_a_small_model_and_say_so() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let shape = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 384, "rms_norm_eps": 1e-5, "max_position_embeddings": 64
    });
    std::fs::create_dir(dir.join("tiny")).unwrap();
    std::fs::write(dir.join("tiny/config.json"), shape.to_string()).unwrap();
    let config = |more: &str| {
        let config = format!(
            "model = \"demo:demo-model\"\nrecipes = [\"q8_0\", \"q4_k_m\"]\n[text]\nfile = \"demo:data/eval.txt\"\nctx = 64\n\
             chunks = 8\n[speed]\nprompt = 8\ngenerate = 4\nrepetitions = 2\n\
             drift_bound = 10.0\nshape = \"tiny/config.json\"\n{more}"
        );
        std::fs::write(dir.join("job.toml"), config).unwrap();
    };
    config("");
    let args = ["run", "job.toml", "--device", "cpu", "--out", "out"];
    let plan = json(dir, &[&args[..], &["--dry-run"]].concat());
    let timings = plan["models"][0]["timings"].as_array().unwrap();
    let document = json(dir, &args);
    for row in document["summary"].as_array().unwrap() {
        assert!(row["decode_tps"].as_f64().unwrap() > 0.0 && row["speed_engine"] == "bitworth", "{row}");
        assert_eq!(row["speed_shape"].as_str(), Some("tiny"));
    }
    let mut files: Vec<String> =
        dir.join("out/timed").read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["tiny-BF16.gguf", "tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"]);
    for (timing, file) in timings.iter().zip(["tiny-BF16.gguf", "tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf"]) {
        let bytes = dir.join("out/timed").join(file).metadata().unwrap().len();
        assert_eq!((timing["shape"]["name"].as_str(), timing["shape"]["bytes"].as_u64()), (Some("tiny"), Some(bytes)), "{file}");
    }
    let types = json(dir, &["inspect", "out/timed/tiny-Q4_K_M.gguf"]);
    assert!(types.to_string().contains("Q4_K") && types.to_string().contains("Q6_K"), "the recipe's own types: {types}");
    for file in ["report.md", "report.html"] {
        let text = std::fs::read_to_string(dir.join("out").join(file)).unwrap();
        assert!(text.contains("models of the shape tiny with random weights"), "{file}: {text}");
    }
    let page = std::fs::read_to_string(dir.join("out/report.html")).unwrap();
    assert!(page.contains("decode speed of a tiny-shaped model"), "the chart says so, too");

    // A finished run is not timed again, and another shape is another run.
    let again = json(dir, &args);
    assert_eq!(again["summary"], document["summary"]);
    let refused = |more: &str, what: &str| {
        config(more);
        let output = run(dir, &args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(what), "{said}");
    };
    std::fs::write(dir.join("tiny/config.json"), shape.to_string().replace("512", "1024")).unwrap();
    refused("", "speed");
    refused("depth = 100\n", "context of 64");
    config("");
    let text = std::fs::read_to_string(dir.join("job.toml")).unwrap().replace("tiny/config.json", "llama-9b");
    std::fs::write(dir.join("job.toml"), text).unwrap();
    let output = run(dir, &args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("llama-9b") && said.contains("llama-8b"), "{said}");
}
