//! Candidates of another model, which `run`, `compare`, `eval` and `score` leave out by name.

use std::path::Path;

use serde_json::Value;

use crate::common::{self, json};
use crate::job::{TEXT_A, job, refusal, world, write};

/// The model `m` as `other`, in which the tokens 600 and 601 have each other's words.
fn other_words(dir: &Path) {
    std::fs::create_dir(dir.join("other")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(dir.join("m").join(file), dir.join("other").join(file)).unwrap();
    }
    let words = std::fs::read_to_string(dir.join("m/tokenizer.json")).unwrap();
    let mut words: Value = serde_json::from_str(&words).unwrap();
    let vocab = words["model"]["vocab"].as_object_mut().unwrap();
    let (first, second) = {
        let mut names = vocab.iter().filter(|(_, id)| [600, 601].map(Value::from).contains(id)).map(|(name, _)| name.clone());
        (names.next().unwrap(), names.next().unwrap())
    };
    let (a, b) = (vocab[&first].clone(), vocab[&second].clone());
    vocab[&first] = b;
    vocab[&second] = a;
    write(dir, "other/tokenizer.json", &words.to_string());
}

#[test]
fn a_candidate_of_another_model_is_left_out_by_name_or_refused() {
    let dir = world();
    let dir = dir.path();
    other_words(dir);
    let config = format!("model = \"m\"\ncandidates = [\"@q8_0\", \"other\"]\n{TEXT_A}");
    write(dir, "job.toml", &config);
    let args = ["run", "job.toml", "--no-speed", "--device", "cpu", "--out"];
    let output = common::run(dir, &[&args[..], &["out"]].concat());
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && notes.contains("left out: other: token 600"), "{notes}");
    for page in ["out/report.html", "out/report.md"] {
        let page = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(page.contains("Left out") && page.contains("token 600"), "{page}");
    }
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.contains("left out: other: token 600"), "the file is named once: {stdout}");
    let again = json(dir, &["report", "out"]);
    assert_eq!((&again["left_out"][0]["candidate"], again["summary"].as_array().unwrap().len()), (&"other".into(), 2));
    assert!(again["left_out"][0]["reason"].as_str().unwrap().contains("token 600"));
    assert!(refusal(dir, &["run", "job.toml", "--no-speed", "--out", "strict", "--strict"]).contains("other"));
    // Once it is a version of the model, it is a lane and not left out any more.
    std::fs::copy(dir.join("m/tokenizer.json"), dir.join("other/tokenizer.json")).unwrap();
    let document = job(dir, &config, "out");
    assert_eq!((document["left_out"].as_array().unwrap().len(), document["summary"].as_array().unwrap().len()), (0, 3));
    assert_eq!(json(dir, &["report", "out"])["left_out"].as_array().unwrap().len(), 0);
}

/// A candidate of another model is left out by a command whose candidates are arguments, as by a run.
#[track_caller]
fn check_left_out(command: &str, more: &[&str]) {
    let dir = world();
    let dir = dir.path();
    other_words(dir);
    write(dir, "r.jsonl", "{\"context\": \"the sun\", \"continuation\": \" is\"}\n");
    let cpu = ["--device", "cpu"];
    let document = json(dir, &[&[command, "m", "other", "@q4_0"], more, &cpu].concat());
    let alone = json(dir, &[&[command, "m", "@q4_0"], more, &cpu].concat());
    for measured in ["reference", "candidates", "results", "lanes"] {
        assert_eq!(document[measured], alone[measured], "{measured}");
    }
    let left_out = &document["left_out"];
    assert_eq!((left_out.as_array().map(Vec::len), &left_out[0]["candidate"]), (Some(1), &"other".into()));
    assert!(left_out[0]["reason"].as_str().unwrap().starts_with("other: token 600"), "{left_out}");
    assert_eq!(alone["left_out"].as_array().map(Vec::len), Some(0));
    let output = common::run(dir, &[&[command, "m", "other", "@q4_0"], more, &cpu].concat());
    let [shown, notes] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!((output.status.code(), shown.matches("left out: other: token 600").count()), (Some(0), 1), "{shown}");
    assert!(notes.contains("left out: other: token 600"), "{notes}");
    let refused = |models: &[&str], option: &[&str]| refusal(dir, &[&[command, "m"], models, more, option].concat());
    assert!(refused(&["other", "@q4_0"], &["--strict"]).contains("other: token 600"));
    let nothing = refused(&["other"], &[]);
    assert!(nothing.contains("nothing is left to compare: other: token 600"), "{nothing}");
    // What does not open is no model of any kind.
    let missing = refused(&["no/such", "@q4_0"], &[]);
    assert!(missing.contains("no/such: there is no such file or folder"), "{missing}");
}

#[test]
fn compare_leaves_out_what_is_no_version_of_the_model() {
    check_left_out("compare", &["--text", "a.txt", "--ctx", "64", "--chunks", "2"]);
}

#[test]
fn eval_leaves_out_what_is_no_version_of_the_model() {
    check_left_out("eval", &["--tasks", "facts", "--limit", "3"]);
}

#[test]
fn score_leaves_out_what_is_no_version_of_the_model() {
    check_left_out("score", &["--requests", "r.jsonl", "--out", "scores.parquet"]);
}

#[test]
fn a_comparison_without_one_of_its_candidates_keeps_what_it_has_asked_for() {
    let dir = world();
    let dir = dir.path();
    other_words(dir);
    json(dir, &["quantize", "m", "--to", "q8_0", "--out", "q.gguf"]);
    let text = ["--text", "a.txt", "--ctx", "64", "--chunks", "2", "--device", "cpu"];
    let floor = json(dir, &[&["compare", "q.gguf", "other", "m", "--noise-floor"], &text[..]].concat());
    assert_eq!((floor["candidates"].as_array().map(Vec::len), &floor["candidates"][0]["name"]), (Some(1), &"m".into()));
    assert!(floor["noise_floor"]["name"].as_str().is_some_and(|name| name.ends_with(" (q8)")), "{floor}");
    json(dir, &[&["compare", "m", "other", "@q4_0", "--records", "kept"], &text[..]].concat());
    json(dir, &[&["compare", "m", "other", "@q4_0", "--out", "out"], &text[..]].concat());
    for folder in ["kept", "out"] {
        let report = json(dir, &["report", folder]);
        assert_eq!(report["summary"].as_array().map(Vec::len), Some(2), "{folder}");
        assert_eq!(report["left_out"][0]["candidate"], "other", "{folder}");
    }
    // Nothing shows that a candidate which was not measured keeps a bound.
    for more in [&[][..], &["--out", "out"]] {
        let gate = common::run(dir, &[&["compare", "m", "other", "@q4_0", "--max-kld", "9"], &text[..], more].concat());
        let error = String::from_utf8_lossy(&gate.stderr).into_owned();
        assert!(gate.status.code() == Some(1) && error.contains("other: was left out, so"), "{error}");
    }
}
