//! Chats: the model's template from a directory and from the GGUF made of it, in `generate`, `eval` and `run`.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{bitworth, json, run};

const TEMPLATE: &str = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}model ({{ strftime_now('%d %b %Y') }}):\n{% endif %}";

/// The demo world, with `template` in the model's `tokenizer_config.json`.
fn world(template: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    let path = dir.path().join("demo-model/tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = template.into();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path, config.to_string()).unwrap();
    dir
}

/// The ids of a text, without a start token.
fn ids(dir: &Path, text: &str) -> Value {
    std::fs::write(dir.join("text.txt"), text).unwrap();
    json(dir, &["tokenize", "demo-model", "--text", "text.txt", "--no-bos"])["tokens"].clone()
}

#[test]
fn directory_and_gguf_are_asked_the_same_chat() {
    let world = world(TEMPLATE);
    let dir = world.path();
    json(dir, &["convert", "demo-model", "--to", "f32", "--out", "demo.gguf"]);
    let expected = ids(dir, "<|endoftext|>system: Be brief.\n<|endoftext|>user: Hello\nmodel (29 Feb 2024):\n");
    for model in ["demo-model", "demo.gguf"] {
        let args = ["generate", model, "--chat", "--prompt", "Hello", "--system", "Be brief.", "--date", "2024-02-29"];
        let made = json(dir, &[&args[..], &["--max-tokens", "4", "--device", "cpu"]].concat());
        assert_eq!(made["prompt_tokens"], expected, "{model}");
    }
}

#[test]
fn tasks_asked_as_chats_have_names_of_their_own() {
    let world = world(TEMPLATE);
    let dir = world.path();
    let args = ["eval", "demo-model", "--tasks", "facts,sums", "--limit", "4", "--device", "cpu"];
    let names = |result: Value| -> Vec<String> {
        result["results"].as_array().unwrap().iter().map(|row| row["task"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(json(dir, &args)), ["facts", "sums"]);
    assert_eq!(names(json(dir, &[&args[..], &["--chat"]].concat())), ["facts+chat", "sums+chat"]);

    let config = "model = \"demo-model\"\n[tasks]\nnames = [\"facts\"]\nlimit = 4\nchat = ";
    for chat in ["false", "true"] {
        std::fs::write(dir.join("run.toml"), format!("{config}{chat}\n")).unwrap();
        let done = run(dir, &["run", "run.toml", "--out", chat, "--device", "cpu", "--quiet"]);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        let header = std::fs::read_to_string(dir.join(chat).join("summary.csv")).unwrap();
        assert_eq!(header.contains("facts+chat"), chat == "true", "{header}");
    }
    let both = run(dir, &["run", "run.toml", "--out", "false", "--device", "cpu", "--quiet"]);
    assert_eq!(both.status.code(), Some(0), "a task asked as a chat is another task, which is added");
    let header = std::fs::read_to_string(dir.join("false/summary.csv")).unwrap();
    assert!(header.contains(",facts+chat,") && !header.contains(",facts,"), "{header}");
    let all = run(dir, &["report", "false", "--out", "all", "--quiet"]);
    assert_eq!(all.status.code(), Some(0));
    let header = std::fs::read_to_string(dir.join("all/summary.csv")).unwrap();
    assert!(header.contains(",facts,") && header.contains(",facts+chat,"), "what was done before is kept: {header}");
}

#[track_caller]
fn check_refused(dir: &Path, args: &[&str], expected: &[&str]) {
    let output = run(dir, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    for part in expected {
        assert!(error.contains(part), "{args:?}: {error:?} lacks {part:?}");
    }
}

#[test]
fn what_cannot_be_asked_as_a_chat_is_refused_with_the_reason() {
    let refusing =
        "{% for m in messages %}\n{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}";
    let world = world(refusing);
    let dir = world.path();
    check_refused(dir, &["generate", "demo:demo-model", "--chat", "--prompt", "x"], &["chat template", "has none"]);
    let asked = ["generate", "demo-model", "--chat", "--prompt", "x", "--system", "y"];
    check_refused(dir, &asked, &["demo-model", "line 2", "raise_exception", "no system"]);
    check_refused(dir, &["generate", "demo-model", "--prompt", "x", "--system", "y"], &["--chat"]);
    check_refused(dir, &["generate", "demo-model", "--chat", "--prompt", "x", "--date", "soon"], &["soon", "2024-07-26"]);
    check_refused(dir, &["eval", "demo-model", "--tasks", "grammar", "--chat"], &["grammar", "whole texts"]);
    check_refused(dir, &["eval", "demo:demo-model", "--tasks", "facts", "--chat"], &["has none"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = TempDir::new().unwrap();
    // More than a pipe holds.
    std::fs::write(dir.path().join("long.txt"), "word and word. ".repeat(20_000)).unwrap();
    let mut command = bitworth(dir.path());
    command.args(["tokenize", "demo:demo-model", "--text", "long.txt", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
