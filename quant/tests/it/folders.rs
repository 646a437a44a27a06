//! Folders and files as people have them: shards without an index, names without a prefix, other files in the place of weights,
//! tokenizers in old files; adapters; parts of GGUF files; and whether a file derives from a model.

use std::path::{Path, PathBuf};

use bitworth_quant::checkpoint::{Adapter, Container};
use bitworth_quant::gguf::{Metadata, Value};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Match, Output, QuantizeOptions, Source, Split, TensorMatch, quantize, verify};
use bitworth_quant::safetensors::HfTensors;
use bitworth_quant::{Checkpoint, DType, Recipe};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa")
}

/// A copy of a model's folder without some of its files.
fn copy(from: &Path, without: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if !without.contains(&entry.file_name().to_str().unwrap()) {
            std::fs::write(dir.path().join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
    dir
}

type Raw = (String, &'static str, Vec<usize>, Vec<u8>);

fn tensors() -> Vec<Raw> {
    let files = HfTensors::open(&fixture()).unwrap();
    files.tensors().iter().map(|t| (t.name.clone(), "BF16", t.shape.clone(), t.bytes().to_vec())).collect()
}

fn write_safetensors(path: &Path, tensors: &[Raw]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [data.len(), data.len() + bytes.len()]});
        header.insert(name.clone(), entry);
        data.extend_from_slice(bytes);
    }
    let header = Json::Object(header).to_string();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

/// A folder whose weights lie in files of these names, in equal parts.
fn sharded(names: &[&str]) -> TempDir {
    let dir = copy(&fixture(), &["model.safetensors"]);
    let tensors = tensors();
    for (name, part) in names.iter().zip(tensors.chunks(tensors.len().div_ceil(names.len()))) {
        write_safetensors(&dir.path().join(name), part);
    }
    dir
}

fn refused(path: &Path, said: &[&str]) {
    let error = Checkpoint::open(path).err().unwrap_or_else(|| panic!("opens; {said:?} was to be said")).to_string();
    for said in said {
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
}

/// Both are the same model: metadata, and all weights.
fn check_same(a: &Checkpoint, b: &Checkpoint) {
    // What follows from the name of the folder is not asked for.
    let own = |key: &&str| !key.starts_with("general.") || ["general.architecture", "general.file_type"].contains(key);
    let keys = |m: &Metadata| m.iter().map(|(key, _)| key.to_owned()).filter(|key| own(&key.as_str())).collect::<Vec<_>>();
    assert_eq!(keys(a.metadata()), keys(b.metadata()));
    for key in keys(a.metadata()) {
        assert!(a.metadata().get(&key) == b.metadata().get(&key), "{key}");
    }
    for tensor in a.tensors() {
        let rows = 0..tensor.rows();
        let other = b.tensor(&tensor.name).unwrap();
        assert!(a.read(tensor, rows.clone()).unwrap()[..] == b.read(other, rows).unwrap()[..], "{}", tensor.name);
    }
}

#[test]
fn numbered_shards_need_no_index() {
    let whole = Checkpoint::open(&fixture()).unwrap();
    for names in [
        &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"][..],
        &["model-00001-of-00001.safetensors"],
        &["model.fp16.safetensors"],
    ] {
        check_same(&Checkpoint::open(sharded(names).path()).unwrap(), &whole);
    }
    // What llama.cpp's converter passes over.
    let dir = copy(&fixture(), &[]);
    std::fs::write(dir.path().join("consolidated.safetensors"), b"of another form").unwrap();
    check_same(&Checkpoint::open(dir.path()).unwrap(), &whole);
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let lacking = sharded(&["model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors"]);
    refused(lacking.path(), &["2 of 4 shards", "model.safetensors.index.json", "2, 4"]);
    let of_two = sharded(&["model-00001-of-00001.safetensors", "model-00001-of-00002.safetensors"]);
    refused(of_two.path(), &["more than one model", "model.safetensors.index.json"]);
    let many = sharded(&["model-00001-of-60000.safetensors"]);
    refused(many.path(), &["1 of 60000", "2, 3, 4, 5, 6, 7, 8, 9, ..."]);
}

/// Which of them counts nothing says.
#[test]
fn weights_that_are_there_twice_are_refused() {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let dir = sharded(&names);
    let all = tensors();
    let half = all.len().div_ceil(2);
    let file = |i: usize| names[i / half];
    let map: serde_json::Map<String, Json> = all.iter().enumerate().map(|(i, t)| (t.0.clone(), file(i).into())).collect();
    std::fs::write(dir.path().join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    Checkpoint::open(dir.path()).unwrap();
    write_safetensors(&dir.path().join("model.safetensors"), &all);
    refused(dir.path(), &["model.safetensors: stands beside", "left over"]);

    let dir = copy(&fixture(), &["model.safetensors"]);
    let mut again = all.iter().find(|t| t.0 == "model.norm.weight").unwrap().clone();
    again.0 = "norm.weight".to_owned();
    write_safetensors(&dir.path().join("model.safetensors"), &[&all[..], &[again]].concat());
    refused(dir.path(), &["tensor norm.weight: is the same weight as model.norm.weight"]);
}

#[test]
fn folders_with_other_weights_say_what_to_do() {
    for (file, said) in [
        ("pytorch_model.bin", "save_pretrained"),
        ("adapter_config.json", "LoRA"),
        ("model.Q4_K_M.gguf", "GGUF"),
        ("consolidated.safetensors", "Mistral's"),
        ("notes.txt", "Hugging Face checkpoint"),
    ] {
        let dir = copy(&fixture(), &["model.safetensors"]);
        std::fs::write(dir.path().join(file), b"x").unwrap();
        refused(dir.path(), &["model.safetensors", said]);
    }
}

#[test]
fn tensors_of_a_model_without_its_head_lack_the_prefix() {
    let dir = copy(&fixture(), &["model.safetensors"]);
    let bare = |(name, dtype, shape, bytes): Raw| (name.strip_prefix("model.").unwrap_or(&name).to_owned(), dtype, shape, bytes);
    write_safetensors(&dir.path().join("model.safetensors"), &tensors().into_iter().map(bare).collect::<Vec<_>>());
    check_same(&Checkpoint::open(dir.path()).unwrap(), &Checkpoint::open(&fixture()).unwrap());
}

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4f4b1f6f\nsize 4976698672\n";

#[test]
fn what_stands_in_the_place_of_a_file_is_named() {
    for (content, said) in [
        (POINTER, "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><head>", "HTML"),
        (b"", "empty"),
        (&[0; 4096], "zeros"),
        (b"PK\x03\x04 and more", "ZIP"),
    ] {
        let dir = copy(&fixture(), &["model.safetensors"]);
        std::fs::write(dir.path().join("model.safetensors"), content).unwrap();
        refused(dir.path(), &["model.safetensors", said]);
        let file = dir.path().join("m.gguf");
        std::fs::write(&file, content).unwrap();
        refused(&file, &["m.gguf", said]);
        let config = copy(&fixture(), &["config.json"]);
        std::fs::write(config.path().join("config.json"), content).unwrap();
        refused(config.path(), &["config.json", said]);
        let tokenizer = copy(&fixture(), &["tokenizer.json"]);
        std::fs::write(tokenizer.path().join("tokenizer.json"), content).unwrap();
        let error = Checkpoint::open(tokenizer.path()).and_then(|model| model.vocab().map(drop)).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains(said), "{error}");
    }
    let dir = copy(&fixture(), &["config.json"]);
    let text = std::fs::read(fixture().join("config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), [b"\xef\xbb\xbf", &text[..]].concat()).unwrap();
    refused(dir.path(), &["config.json", "byte-order mark"]);
    std::fs::write(dir.path().join("config.json"), b"\xff\xfe{\0}\0").unwrap();
    refused(dir.path(), &["config.json", "UTF-16"]);
    let Some(dir) = support::oracle("models/llama2_mha") else { return };
    let dir = copy(&dir, &[]);
    std::fs::write(dir.path().join("tokenizer.model"), POINTER).unwrap();
    let error = Checkpoint::open(dir.path()).and_then(|model| model.vocab().map(drop)).unwrap_err().to_string();
    assert!(error.contains("tokenizer.model") && error.contains("git lfs pull"), "{error}");
}

/// As slow tokenizers saved it; the converter gives both the same keys.
#[test]
fn a_vocabulary_and_merges_stand_in_for_tokenizer_json() {
    for (name, class) in [("gpt2", "GPT2Tokenizer"), ("qwen2", "Qwen2Tokenizer")] {
        let Some(dir) = support::oracle(&format!("models/{name}")) else { return };
        let old = copy(&dir, &["tokenizer.json"]);
        let tokenizer = support::json(&dir.join("tokenizer.json"));
        let mut vocab = tokenizer["model"]["vocab"].clone();
        for token in tokenizer["added_tokens"].as_array().unwrap() {
            vocab[token["content"].as_str().unwrap()] = token["id"].clone();
        }
        let merge = |merge: &Json| match merge {
            Json::Array(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            text => text.as_str().unwrap().to_owned(),
        };
        let merges: Vec<String> = tokenizer["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
        std::fs::write(old.path().join("vocab.json"), vocab.to_string()).unwrap();
        std::fs::write(old.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
        let path = old.path().join("tokenizer_config.json");
        let mut config = support::json(&path);
        config["tokenizer_class"] = json!(class);
        let mut decoder = serde_json::Map::new();
        for token in tokenizer["added_tokens"].as_array().unwrap() {
            decoder.insert(token["id"].to_string(), token.clone());
        }
        config["added_tokens_decoder"] = Json::Object(decoder);
        std::fs::write(&path, config.to_string()).unwrap();
        let (made, published) = (Checkpoint::open(old.path()).unwrap(), Checkpoint::open(&dir).unwrap());
        if class == "GPT2Tokenizer" {
            check_same(&made, &published);
        } else {
            // Unlike the golden model's, Qwen 2's own tokenizer composes characters.
            assert_eq!(made.tokenizer_json().unwrap()["normalizer"], json!({"type": "NFC"}));
            for end in ["pre", "tokens", "token_type", "merges", "eos_token_id", "padding_token_id"] {
                let key = format!("tokenizer.ggml.{end}");
                assert!(made.metadata().get(&key) == published.metadata().get(&key), "{key}");
            }
        }
        // A class whose rules are not known.
        config["tokenizer_class"] = json!("RobertaTokenizer");
        std::fs::write(&path, config.to_string()).unwrap();
        let error = Checkpoint::open(old.path()).unwrap().vocab().err().unwrap().to_string();
        assert!(error.contains("RobertaTokenizer") && error.contains("save_pretrained"), "{error}");
    }
}

#[test]
fn ids_of_padding_and_end_beyond_the_tokens_count_as_absent() {
    let dir = copy(&fixture(), &[]);
    let path = dir.path().join("config.json");
    let mut config = support::json(&path);
    config["pad_token_id"] = json!(384);
    std::fs::write(&path, config.to_string()).unwrap();
    let model = Checkpoint::open(dir.path()).unwrap();
    let vocab = model.vocab().unwrap();
    assert_eq!((vocab.pad, vocab.eos), (None, Some(383)));
    let beyond = bitworth_quant::vocab::ids_beyond_the_tokens(model.metadata());
    assert_eq!(beyond, [("tokenizer.ggml.padding_token_id", 384)]);
    let mut metadata = model.metadata().clone();
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(4_294_967_290));
    let vocab = bitworth_quant::vocab::Vocab::from_metadata(Path::new("m.gguf"), &metadata).unwrap();
    assert_eq!((vocab.pad, vocab.eos), (None, None));
}

/// A LoRA adapter of rank 2 for `module`, and a bias-free head trained whole, with what is to be changed in its configuration.
fn adapter(module: &str, cols: usize, rows: usize, change: impl FnOnce(&mut Json)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["v_proj"], "bias": "none",
        "fan_in_fan_out": false, "use_dora": false, "rank_pattern": {}, "alpha_pattern": {}});
    change(&mut config);
    std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
    let floats = |n: usize, by: f32| (0..n).flat_map(|i| ((i % 13) as f32 * by - 0.5).to_le_bytes()).collect();
    let name = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    let tensors =
        [(name("A"), "F32", vec![2, cols], floats(2 * cols, 0.125)), (name("B"), "F32", vec![rows, 2], floats(2 * rows, 0.25))];
    write_safetensors(&dir.path().join("adapter_model.safetensors"), &tensors);
    dir
}

const V: &str = "model.layers.0.self_attn.v_proj";

fn merged(adapters: &[(&TempDir, f32)]) -> bitworth_quant::Result<Vec<f32>> {
    let adapters: Vec<Adapter> =
        adapters.iter().map(|(dir, scale)| Adapter { path: dir.path().to_owned(), scale: *scale }).collect();
    let model = Checkpoint::with_adapters(&fixture(), &adapters)?;
    let tensor = model.tensor("blk.0.attn_v.weight").unwrap();
    let mut values = vec![0.0; tensor.cols() * tensor.rows()];
    tensor.dtype.decode_row(&model.read(tensor, 0..tensor.rows())?, &mut values);
    Ok(values)
}

#[test]
fn adapters_are_added_to_the_weights() {
    let plain = merged(&[]).unwrap();
    let sound = adapter(V, 256, 128, |_| {});
    let of = |i: usize, by: f32| (i % 13) as f32 * by - 0.5;
    let product = |i: usize| {
        let (row, col) = (i / 256, i % 256);
        of(2 * row, 0.25) * of(col, 0.125) + of(2 * row + 1, 0.25) * of(256 + col, 0.125)
    };
    let check = |found: Vec<f32>, scale: f32| {
        for (i, value) in found.into_iter().enumerate() {
            assert_eq!(value, plain[i] + product(i) * scale, "{i}");
        }
    };
    check(merged(&[(&sound, 1.0)]).unwrap(), 3.0);
    check(merged(&[(&sound, 0.5)]).unwrap(), 1.5);
    let rooted = adapter(V, 256, 128, |c| c["use_rslora"] = json!(true));
    check(merged(&[(&rooted, 1.0)]).unwrap(), (6.0 / 2f64.sqrt()) as f32);
    let patterned = adapter(V, 256, 128, |c| c["alpha_pattern"] = json!({"self_attn.v_proj": 1}));
    check(merged(&[(&patterned, 1.0)]).unwrap(), 0.5);
    let twice = merged(&[(&sound, 1.0), (&sound, 1.0)]).unwrap();
    assert!(twice.iter().enumerate().all(|(i, value)| *value == plain[i] + product(i) * 3.0 + product(i) * 3.0));
}

#[test]
fn adapters_of_other_models_and_kinds_are_refused() {
    let refused = |dir: &TempDir, said: &[&str]| {
        let error = merged(&[(dir, 1.0)]).err().unwrap_or_else(|| panic!("opens; {said:?} was to be said")).to_string();
        assert!(said.iter().all(|said| error.contains(said)), "{said:?}: {error}");
    };
    refused(&adapter("model.layers.9.self_attn.v_proj", 256, 128, |_| {}), &["lora_A", "model.layers.9"]);
    refused(&adapter(V, 128, 128, |_| {}), &["lora_A", "[2, 128]", "[128, 256]"]);
    refused(&adapter(V, 256, 64, |_| {}), &["lora_B", "[64, 2]"]);
    refused(&adapter(V, 256, 128, |c| c["use_dora"] = json!(true)), &["adapter_config.json", "use_dora"]);
    refused(&adapter(V, 256, 128, |c| c["peft_type"] = json!("IA3")), &["peft_type", "IA3"]);
    refused(&adapter(V, 256, 128, |c| c["r"] = json!(0)), &["r: is 0"]);
    refused(&adapter(V, 256, 128, |c| c["r"] = json!(8)), &["r: is 8", "v_proj", "rank 2"]);
    refused(&adapter(V, 256, 128, |c| c["use_rslora"] = json!("true")), &["use_rslora", "true or false"]);
    refused(&adapter(V, 256, 128, |c| c["alpha_pattern"] = json!([1])), &["alpha_pattern", "an object"]);
    for (key, value) in [
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("olora")),
        ("alora_invocation_tokens", json!([1, 2])),
        ("layer_replication", json!([[0, 1]])),
        ("use_bdlora", json!(true)),
    ] {
        refused(&adapter(V, 256, 128, |c| c[key] = value), &["adapter_config.json", key]);
    }
    merged(&[(&adapter(V, 256, 128, |c| c["init_lora_weights"] = json!("gaussian")), 1.0)]).unwrap();
    refused(&copy(&fixture(), &[]), &["adapter_config.json"]);
}

fn write(
    source: &dyn bitworth_quant::checkpoint::Model,
    recipe: &str,
    path: &Path,
    choices: &PlanOptions,
    split: Split,
) -> PathBuf {
    let output = Output::of(source, &Recipe::find(recipe).unwrap(), choices, path).unwrap();
    let output = Output { split, ..output };
    let made = quantize(source, &[output], &QuantizeOptions::default(), &false.into(), &Silent).unwrap();
    made[0].path.clone()
}

/// As llama.cpp's gguf-split, both ways: the joined parts are the file to the last byte.
#[test]
fn parts_are_joined_to_the_file_that_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama31_gqa.Q4_K_M.gguf");
    let copying = PlanOptions { as_converter: true, ..PlanOptions::default() };
    let split = Split::Limits { max_bytes: None, max_tensors: Some(7), metadata_alone: false };
    let parts = write(&Container::open(&original).unwrap(), "copy", &dir.path().join("parts.gguf"), &copying, split);
    assert!(parts.ends_with("parts-00001-of-00003.gguf"), "{}", parts.display());
    let joined = write(&Container::open(&parts).unwrap(), "copy", &dir.path().join("joined.gguf"), &copying, Split::None);
    assert!(std::fs::read(joined).unwrap() == std::fs::read(original).unwrap());
}

fn verified(file: &Path, base: &dyn Source) -> Vec<TensorMatch> {
    verify(&Container::open(file).unwrap(), base, None, &false.into(), &Silent).unwrap()
}

/// The file is llama-quantize's.
#[test]
fn a_file_is_told_to_derive_from_its_base_or_not() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/llama31_gqa.Q4_K_M.gguf");
    let base = Checkpoint::open(&fixture()).unwrap();
    assert!(verified(&file, &base).iter().all(|t| t.found == Match::Same && t.blocks_that_differ == 0 && t.rmse == t.own_rmse));
    // One block of one tensor changed, by a little and by much.
    let bytes = std::fs::read(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let changed = |by: &dyn Fn(&mut Vec<u8>, usize)| {
        let gguf = bitworth_quant::GgufFile::open(&file).unwrap();
        let tensor = gguf.tensors.iter().find(|t| t.dtype == DType::Q4_K).unwrap();
        let stored = gguf.bytes(tensor);
        let at = bytes.windows(stored.len()).position(|w| w == &stored[..]).unwrap();
        let mut bytes = bytes.clone();
        by(&mut bytes, at);
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, bytes).unwrap();
        (tensor.name.clone(), verified(&path, &base))
    };
    let found = |(name, found): (String, Vec<TensorMatch>)| {
        let others = found.iter().filter(|t| t.tensor != name);
        let changed: Vec<&TensorMatch> = others.filter(|t| t.found != Match::Same).collect();
        assert!(changed.is_empty(), "{name}: {changed:?}");
        found.into_iter().find(|t| t.tensor == name).unwrap()
    };
    let little = found(changed(&|bytes, at| bytes[at + 20] ^= 1));
    assert_eq!((little.found, little.blocks_that_differ), (Match::Rounding, 1));
    assert!(little.found.holds() && little.max_difference > 0.0);
    let much = found(changed(&|bytes, at| (0..100).for_each(|i| bytes[at + 144 * i + 20] ^= 0xff)));
    assert!(much.found == Match::Other && !much.found.holds() && much.rmse > much.own_rmse);
    let other = verified(&file, &Checkpoint::open(&fixture().with_file_name("phi4_mini")).unwrap());
    assert!(
        other.iter().any(|t| t.found == Match::Shape) && other.iter().any(|t| matches!(t.found, Match::Unknown | Match::Missing))
    );
}
