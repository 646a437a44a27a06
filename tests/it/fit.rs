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

#[test]
fn lanes_are_fitted_as_files_are() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "4096"];
    json(dir, &[&["quantize", "demo-model", "--to", "q3_k_m", "--out", "f.gguf", "--device", "cpu"], &fit[..]].concat());
    let text = ["--ctx", "256", "--chunks", "8", "--device", "cpu"];
    let lanes = ["compare", "demo-model", "@q3_k_m", "@q3_k_m+fit", "f.gguf", "--text", "data/eval.txt"];
    let compared = json(dir, &[&lanes[..], &fit, &text].concat());
    let of = |lane: usize, key: &str| compared["candidates"][lane][key].clone();
    assert_eq!([of(0, "name"), of(1, "name")], ["@q3_k_m", "@q3_k_m+fit"]);
    assert_eq!(of(1, "kld_mean"), of(2, "kld_mean"), "the lane is the file that quantize makes");
    assert!(of(1, "kld_mean").as_f64().unwrap() < 0.8 * of(0, "kld_mean").as_f64().unwrap(), "{compared}");

    // A run keeps the file, and knows what it was fitted to.
    let toml = |tokens: usize| {
        format!(
            "model = \"demo-model\"\nrecipes = [\"q3_k_m\", \"q3_k_m+fit\"]\n[fit]\ntexts = [\"data/calib.txt\"]\nctx = 256\n\
             tokens = {tokens}\n[text]\nfile = \"data/eval.txt\"\nctx = 256\nchunks = 8\nbits_per_byte = false\n"
        )
    };
    std::fs::write(dir.join("r.toml"), toml(4096)).unwrap();
    let run = ["run", "r.toml", "--out", "out", "--device", "cpu"];
    let first = json(dir, &run);
    let bytes = |file: &str| std::fs::read(dir.join(file)).unwrap();
    assert!(bytes("out/models/demo-model-Q3_K_M+FIT.gguf") == bytes("f.gguf"));
    let kld = |document: &Value| {
        let rows = document["summary"].as_array().unwrap();
        rows.iter().find(|row| row["lane"] == "q3_k_m+fit").unwrap()["kld_mean"].clone()
    };
    assert_eq!(kld(&first), of(1, "kld_mean"));
    assert_eq!(kld(&json(dir, &run)), kld(&first));
    std::fs::write(dir.join("r.toml"), toml(2048)).unwrap();
    let refused = |args: &[&str], said: &str| {
        let output = common::run(dir, args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(said), "{args:?}: {message}");
    };
    refused(&run, "q3_k_m+fit");
    refused(&lanes, "--fit");
    refused(&[&["compare", "demo-model", "@q3_k_m", "--text", "data/eval.txt"], &fit[..]].concat(), "q4_k_m+fit");
    let written = [&lanes[..], &fit, &text, &["--write", "w"]].concat();
    refused(&written, "quantize --fit");

    // A text that weights were fitted to is no test of them, and is flagged: of this job's, and of files.
    let on_itself = common::run(dir, &[&["compare", "demo-model", "f.gguf", "--text", "data/calib.txt"], &text[..]].concat());
    let message = String::from_utf8_lossy(&on_itself.stderr).into_owned();
    assert!(on_itself.status.success() && message.contains("fitted to it"), "{message}");
}
