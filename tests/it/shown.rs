//! What a user sees of every architecture: one golden model of each goes through `inspect`, `convert`, `quantize`, `compare` and
//! `generate --chat`, and what they say is held to llama.cpp's manifests. Absent: logits and tokenizers (see `logits`,
//! `tokenizer`), and all other golden models (see the tests of `quant`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitworth_quant::arch::ARCHITECTURES;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common;

/// A template of our own, which any tokenizer has the characters for.
const TEMPLATE: &str =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}model:\n{% endif %}";

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The first golden model of every architecture that the converter wrote a file of, by the architecture's name.
fn one_of_each(models: &Path) -> BTreeMap<&'static str, PathBuf> {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    let mut found = BTreeMap::new();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let class = read(&dir.join("config.json"))["architectures"][0].clone();
        let manifest = models.join(format!("../manifests/{name}.f32.json"));
        let is_plain = read(&dir.join("golden.json")).get("source_format").is_none();
        let quantized = models.join(format!("../quant/{name}.json"));
        let is_quantized = quantized.exists() && read(&quantized)["runs"]["Q4_K_M"]["tensors"].is_object();
        if common::is_refused(name) || !is_plain || !manifest.exists() || !is_quantized {
            continue;
        }
        let arch = read(&manifest)["metadata"]["general.architecture"]["value"].clone();
        let arch = ARCHITECTURES.iter().find(|known| arch == known.name);
        let arch = arch.unwrap_or_else(|| panic!("{name}: {class} has a manifest of an unknown architecture"));
        found.entry(arch.name).or_insert(dir);
    }
    for arch in ARCHITECTURES {
        assert!(found.contains_key(arch.name), "no golden model of {}", arch.name);
    }
    found
}

/// Name, type, shape, bytes and hash of each tensor of a file, as `inspect` shows them.
fn tensors(here: &Path, file: &str) -> Vec<Value> {
    let shown = common::json(here, &["inspect", file, "--hash"]);
    shown["tensors"].as_array().unwrap().clone()
}

#[test]
fn every_architecture_is_shown_converted_quantized_compared_and_talked_to() {
    let Some(models) = common::shared("oracle/models") else { return };
    let failed: Vec<String> = one_of_each(&models)
        .into_iter()
        .filter_map(|(arch, dir)| {
            let checked = std::panic::catch_unwind(|| check(arch, &dir));
            checked.is_err().then(|| format!("{arch} ({})", dir.display()))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn check(arch: &str, dir: &Path) {
    let temp = TempDir::new().unwrap();
    let here = temp.path();
    let name = dir.file_name().unwrap().to_str().unwrap();
    std::fs::create_dir(here.join(name)).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, here.join(name).join(path.file_name().unwrap())).unwrap();
    }
    // The only template there: a GGUF file takes the one in the configuration, if there is any.
    let config = here.join(name).join("tokenizer_config.json");
    let mut settings = read(&config);
    settings.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(config, settings.to_string()).unwrap();
    std::fs::write(here.join(name).join("chat_template.jinja"), TEMPLATE).unwrap();
    let oracle = |path: String| read(&dir.join("../..").join(path));

    // The directory, as a page and as JSON.
    let shown = common::json(here, &["inspect", name]);
    assert_eq!(shown["metadata"]["general.architecture"], arch);
    let page = common::run(here, &["inspect", name]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains(arch) && page.contains("token_embd.weight"), "{page}");

    // The converted file, tensor by tensor, is the converter's.
    common::json(here, &["convert", name, "--to", "f32", "--out", "whole.gguf"]);
    let manifest = oracle(format!("manifests/{name}.f32.json"));
    let expected: Vec<Value> = manifest["tensors"].as_array().unwrap().clone();
    assert_eq!(tensors(here, "whole.gguf"), expected);

    // So is the quantized one, made of the directory at once, of llama-quantize.
    common::json(here, &["quantize", name, "--to", "q4_k_m", "--out", "gguf"]);
    let small = format!("gguf/{name}-Q4_K_M.gguf");
    let found: BTreeMap<String, Value> = tensors(here, &small)
        .into_iter()
        .map(|t| (t["name"].as_str().unwrap().to_owned(), json!([t["type"], t["sha256"]])))
        .collect();
    // The golden data has what it quantized.
    for (tensor, what) in oracle(format!("quant/{name}.json"))["runs"]["Q4_K_M"]["tensors"].as_object().unwrap() {
        assert_eq!(found.get(tensor), Some(what), "{tensor}");
    }

    // What is stored in full loses nothing, what has 4 bits something.
    let facts = read(&dir.join("golden.json"));
    std::fs::write(here.join("text.txt"), facts["text_a"].as_str().unwrap().repeat(4)).unwrap();
    let told = common::json(
        here,
        &["compare", name, "whole.gguf", &small, "--text", "text.txt", "--ctx", "32", "--chunks", "2", "--device", "cpu"],
    );
    let of = |candidate: usize, what: &str| told["candidates"][candidate][what].as_f64().unwrap();
    assert_eq!((of(0, "kld_mean"), of(0, "top1_agreement")), (0.0, 1.0), "{told}");
    assert!(of(1, "kld_mean") > 0.0 && of(1, "ppl").is_finite(), "{told}");

    // Both are asked the same chat, and answer alike.
    std::fs::write(here.join("asked.txt"), "user: Hello\nmodel:\n").unwrap();
    let prompt = common::json(here, &["tokenize", name, "--text", "asked.txt", "--no-bos"])["tokens"].clone();
    let talk = |model: &str| {
        let said =
            common::json(here, &["generate", model, "--chat", "--prompt", "Hello", "--max-tokens", "4", "--device", "cpu"]);
        assert_eq!(said["prompt_tokens"], prompt, "{model}");
        said["tokens"].clone()
    };
    assert_eq!(talk(name), talk("whole.gguf"));
}
