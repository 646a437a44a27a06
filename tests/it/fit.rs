//! `quantize --fit`: the same types and sizes, and less lost than with the importance matrix of the same text.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{self, json};

/// What the loss must fall by at least, as a share, on text that nothing was fitted to.
const GAINS: [(&str, f64); 4] = [("q4_k_m", 0.30), ("q3_k_m", 0.40), ("q2_k", 0.50), ("q4_0", 0.40)];

fn names() -> String {
    GAINS.map(|(recipe, _)| recipe).join(",")
}

fn kld(dir: &Path, files: &[String]) -> Vec<f64> {
    let mut args = vec!["compare", "demo-model"];
    args.extend(files.iter().map(String::as_str));
    args.extend(["--text", "data/eval.txt", "--ctx", "256", "--chunks", "32", "--device", "cpu"]);
    let compared = json(dir, &args);
    let rows = compared["candidates"].as_array().unwrap();
    rows.iter().map(|row| row["kld_mean"].as_f64().unwrap()).collect()
}

/// Name, encoding and shape of every tensor of a file.
fn tensors(dir: &Path, file: &str) -> Vec<(Value, Value, Value)> {
    let about = json(dir, &["inspect", file]);
    let row = |t: &Value| (t["name"].clone(), t["type"].clone(), t["shape"].clone());
    about["tensors"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn fitted_files_lose_less_than_those_of_the_importance_matrix() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let text = ["--ctx", "256", "--device", "cpu"];
    json(dir, &[&["imatrix", "demo-model", "--text", "data/calib.txt", "--out", "i.gguf"], &text[..]].concat());
    json(dir, &["quantize", "demo-model", "--to", &names(), "--imatrix", "i.gguf", "--out", "plain"]);
    let fitted = json(
        dir,
        &[
            "quantize",
            "demo-model",
            "--to",
            &names(),
            "--fit",
            "data/calib.txt",
            "--fit-ctx",
            "256",
            "--out",
            "fit",
            "--device",
            "cpu",
        ],
    );
    let file = |folder: &str, recipe: &str| format!("{folder}/demo-model-{}.gguf", recipe.to_uppercase());
    for (recipe, _) in GAINS {
        let (plain, fit) = (file("plain", recipe), file("fit", recipe));
        assert_eq!(tensors(dir, &plain), tensors(dir, &fit), "{recipe}");
    }
    assert!(fitted["fitted"].as_array().unwrap().iter().any(|t| t["fitted"].as_u64().unwrap() > 0));
    let both = GAINS.iter().flat_map(|(recipe, _)| [file("plain", recipe), file("fit", recipe)]).collect::<Vec<_>>();
    for (pair, (recipe, gain)) in kld(dir, &both).chunks_exact(2).zip(GAINS) {
        assert!(pair[1] <= (1.0 - gain) * pair[0], "{recipe}: KLD {} and {} fitted", pair[0], pair[1]);
    }
}

#[test]
fn a_text_that_is_too_short_and_options_that_do_not_go_with_it_are_refused() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    std::fs::write(dir.join("short.txt"), "Too short.").unwrap();
    for (more, expected) in [(&["--fit", "short.txt"][..], "short.txt"), (&["--fit", "data/calib.txt", "--sha256"], "--sha256")] {
        let args = [&["quantize", "demo-model", "--to", "q4_0", "--out", "out", "--device", "cpu"], more].concat();
        let output = common::run(dir, &args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!dir.join("out").exists());
    }
}
