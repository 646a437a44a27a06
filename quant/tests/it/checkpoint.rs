//! A checkpoint is the same model whichever file it is opened from, gives rows in GGUF order, and says which tensor or key
//! is at fault where it cannot be opened.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bitworth_quant::arch::{ARCHITECTURES, Role};
use bitworth_quant::checkpoint::{Container, TensorBytes};
use bitworth_quant::gguf::{Array, GgufFile, Metadata, Value};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, Split, quantize};
use bitworth_quant::{Checkpoint, DType, Plan, Recipe};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa")
}

/// A copy of the fixture that a test may change.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(fixture().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// Changes a JSON file of `dir`.
fn edit(dir: &TempDir, name: &str, change: impl FnOnce(&mut Json)) {
    let path = dir.path().join(name);
    let mut json = support::json(&path);
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// Writes `checkpoint` unchanged but for `metadata` to a GGUF file.
fn write_gguf(checkpoint: &Checkpoint, metadata: Metadata, path: &Path) {
    let plan = Plan::of(checkpoint, &Recipe::find("bf16").unwrap(), &PlanOptions::default()).unwrap();
    let output = Output { plan, path: path.to_owned(), metadata, imatrix: None, split: Split::None };
    quantize(checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
}

fn open_error(path: &Path) -> String {
    match Checkpoint::open(path) {
        Ok(_) => panic!("{} should not open", path.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_directory_and_its_gguf_are_the_same_model() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    let hf = Checkpoint::open(&fixture()).unwrap();
    write_gguf(&hf, hf.output_metadata().unwrap(), &path);
    let gguf = Checkpoint::open(&path).unwrap();

    assert_eq!((hf.name(), gguf.name()), ("llama31_gqa", "model"));
    assert_eq!(hf.arch().name, gguf.arch().name);
    assert_eq!(hf.hparams(), gguf.hparams());
    assert_eq!(hf.metadata(), gguf.metadata());
    assert_eq!(hf.parameter_count(), gguf.parameter_count());
    let bytes: usize = hf.tensors().iter().map(|t| hf.read(t, 0..t.rows()).unwrap().len()).sum();
    assert_eq!(hf.total_bytes(), bytes as u64);

    // The vocabularies differ in nothing but the path they name in messages.
    let (a, b) = (hf.vocab().unwrap(), gguf.vocab().unwrap());
    assert_eq!((&a.tokens, &a.types, &a.algorithm), (&b.tokens, &b.types, &b.algorithm));
    assert_eq!((a.bos, a.eos, a.unk, a.pad, a.add_bos, a.add_eos), (b.bos, b.eos, b.unk, b.pad, b.add_bos, b.add_eos));
    assert_eq!((a.bos, a.eos, a.unk, a.pad, a.add_bos, a.add_eos), (Some(382), Some(383), None, None, true, false));
}

#[test]
fn a_tokenizer_is_kept_or_rebuilt_with_the_same_rules() {
    let hf = Checkpoint::open(&fixture()).unwrap();
    let kept = hf.tokenizer_json().unwrap();
    assert_eq!(kept, support::json(&fixture().join("tokenizer.json")));

    let rebuilt = hf.vocab().unwrap().to_tokenizer_json().unwrap();
    for part in ["normalizer", "pre_tokenizer", "decoder", "added_tokens", "truncation", "padding"] {
        assert_eq!(rebuilt[part], kept[part], "{part}");
    }
    assert_eq!(rebuilt["post_processor"]["single"], kept["post_processor"]["single"]);
    assert_eq!(rebuilt["post_processor"]["special_tokens"], kept["post_processor"]["special_tokens"]);
    for part in ["type", "merges", "ignore_merges", "byte_fallback", "unk_token"] {
        assert_eq!(rebuilt["model"][part], kept["model"][part], "{part}");
    }
    // The rebuilt model has the added tokens too, so that each keeps its id.
    let mut vocab = kept["model"]["vocab"].clone();
    for token in kept["added_tokens"].as_array().unwrap() {
        vocab[token["content"].as_str().unwrap()] = token["id"].clone();
    }
    assert_eq!(rebuilt["model"]["vocab"], vocab);
}

#[test]
fn rows_come_in_gguf_order_whichever_of_them_are_asked_for() {
    let checkpoint = Checkpoint::open(&fixture()).unwrap();
    let row = |tensor: &str, row: usize| {
        let tensor = checkpoint.tensor(tensor).unwrap();
        checkpoint.read(tensor, row..row + 1).unwrap().to_vec()
    };
    let q = checkpoint.tensor_of(Role::AttnQ, 1).unwrap();
    assert_eq!((q.name.as_str(), q.cols(), q.rows(), q.dtype), ("blk.1.attn_q.weight", 256, 256, DType::BF16));
    let whole = checkpoint.read(q, 0..256).unwrap();
    assert!(matches!(whole, TensorBytes::Owned(_)));
    let file = bitworth_quant::safetensors::HfTensors::open(&fixture()).unwrap();
    let stored = file.get("model.layers.1.self_attn.q_proj.weight").unwrap().bytes();
    for r in 0..256 {
        // Heads of 64 rows: row 2i of a head is its row i in the file, row 2i + 1 is row i + 32.
        let from = r / 64 * 64 + r % 2 * 32 + r % 64 / 2;
        assert_eq!(row("blk.1.attn_q.weight", r), stored[from * 512..(from + 1) * 512], "row {r}");
    }
    assert_eq!(checkpoint.read(q, 30..70).unwrap()[..], whole[30 * 512..70 * 512]);
    assert!(checkpoint.read(q, 7..7).unwrap().is_empty());

    let v = checkpoint.tensor("blk.1.attn_v.weight").unwrap();
    let part = checkpoint.read(v, 5..9).unwrap();
    assert!(matches!(part, TensorBytes::Mapped(..)));
    assert_eq!(part[..], file.get("model.layers.1.self_attn.v_proj.weight").unwrap().bytes()[5 * 512..9 * 512]);
}

#[test]
fn asking_for_what_is_not_there_is_an_error() {
    let checkpoint = Checkpoint::open(&fixture()).unwrap();
    let norm = checkpoint.require("output_norm.weight", &[256]).unwrap();
    let error = checkpoint.read(norm, 0..2).err().unwrap().to_string();
    assert!(error.contains("output_norm.weight: has 1 rows; rows 0 to 2"), "{error}");
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = checkpoint.read(norm, 1..0);
    assert!(backwards.is_err());
    let error = checkpoint.require("output_norm.weight", &[128]).unwrap_err().to_string();
    assert!(error.contains("output_norm.weight") && error.contains("[256]") && error.contains("[128]"), "{error}");
    let error = checkpoint.require("output.weight", &[256, 384]).unwrap_err().to_string();
    assert!(error.contains("output.weight: is missing"), "{error}");
}

#[test]
fn both_spellings_of_the_configuration_are_the_same_model() {
    let dir = copy();
    edit(&dir, "config.json", |c| {
        let mut rope = c["rope_scaling"].take();
        rope["rope_theta"] = c["rope_theta"].take();
        c["rope_parameters"] = rope;
        c["dtype"] = c["torch_dtype"].take();
    });
    let (v4, v5) = (Checkpoint::open(&fixture()).unwrap(), Checkpoint::open(dir.path()).unwrap());
    assert_eq!(v4.hparams(), v5.hparams());
    let factors = |c: &Checkpoint| c.read(c.tensor_of(Role::RopeFreqs, 0).unwrap(), 0..1).unwrap().to_vec();
    assert_eq!(factors(&v4), factors(&v5));
}

/// Changes `config.json` of a copy and expects an error that contains each of `said`.
fn check_config(change: impl FnOnce(&mut Json), said: &[&str]) {
    let dir = copy();
    edit(&dir, "config.json", change);
    let error = open_error(dir.path());
    for text in said {
        assert!(error.contains(text), "{text:?} is not in: {error}");
    }
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused_by_name() {
    check_config(
        |c| c["intermediate_size"] = json!(128),
        &["model.safetensors", "model.layers.0.mlp.down_proj.weight", "[256, 256]", "[128, 256]"],
    );
    check_config(|c| c["vocab_size"] = json!(385), &["model.embed_tokens.weight", "[256, 384]", "[256, 385]"]);
    check_config(|c| c["num_hidden_layers"] = json!(1), &["model.layers.1.", "is of block 1", "1 blocks"]);
    check_config(
        |c| c["num_hidden_layers"] = json!(3),
        &["blk.2.attn_k.weight: is missing", "model.layers.2.self_attn.k_proj.weight", "8 more", "blk.2.ffn_down.weight"],
    );
    check_config(|c| c["tie_word_embeddings"] = json!(false), &["lm_head.weight", "tie_word_embeddings"]);
    check_config(|c| c["head_dim"] = json!(32), &["self_attn.k_proj.weight", "[256, 128]", "[256, 64]"]);
    check_config(|c| c["architectures"] = json!(["BloomForCausalLM"]), &["unknown architecture", "LlamaForCausalLM"]);
    check_config(|c| *c = json!([1]), &["config.json", "is no JSON object"]);
}

#[test]
fn a_path_without_a_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(open_error(&dir.path().join("absent")).contains("absent"));
    assert!(open_error(dir.path()).contains("has no config.json"));
    std::fs::write(dir.path().join("config.json"), "{ \"architectures\": [").unwrap();
    assert!(open_error(dir.path()).contains("config.json: is no JSON"));
    std::fs::write(dir.path().join("config.json"), [b'{', 0xff]).unwrap();
    assert!(open_error(dir.path()).contains("is not UTF-8: line 1, byte 1"));
}

#[test]
fn a_tensor_no_rule_knows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let hf = Checkpoint::open(&fixture()).unwrap();
    write_gguf(&hf, hf.output_metadata().unwrap(), &path);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(19).position(|w| w == b"blk.1.attn_v.weight").unwrap();
    bytes[at..at + 19].copy_from_slice(b"blk.1.attn_x.weight");
    std::fs::write(&path, bytes).unwrap();
    let error = open_error(&path);
    assert!(error.contains("blk.1.attn_x.weight") && error.contains("no tensor of the architecture llama"), "{error}");
}

/// Changes the metadata of a GGUF of the fixture and opens it.
fn open_with(change: impl FnOnce(&mut Metadata)) -> bitworth_quant::Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let hf = Checkpoint::open(&fixture()).unwrap();
    let mut metadata = hf.output_metadata().unwrap();
    change(&mut metadata);
    write_gguf(&hf, metadata, &path);
    Checkpoint::open(&path)
}

/// Expects an error on opening that contains `said`.
fn check_gguf(key: &str, value: Option<Value>, said: &str) {
    let opened = open_with(|m| match value {
        Some(value) => m.set(key, value),
        None => drop(m.remove(key)),
    });
    let error = opened.err().unwrap().to_string();
    assert!(error.contains(key) || key == "general.architecture", "{key}: {error}");
    assert!(error.contains(said), "{key}: {error}");
}

#[test]
fn gguf_metadata_that_make_no_model_are_refused_by_key() {
    check_gguf("general.architecture", None, "is missing");
    check_gguf("general.architecture", Some(Value::String("mamba".into())), "unknown architecture \"mamba\"");
    check_gguf("llama.block_count", None, "is missing");
    check_gguf("llama.attention.head_count", Some(Value::U32(0)), "between 1 and");
    check_gguf("llama.rope.scaling.type", Some(Value::String("ntk".into())), "not supported");
    let error = open_with(|m| m.set("llama.vocab_size", Value::U32(400))).err().unwrap().to_string();
    assert!(error.contains("token_embd.weight") && error.contains("[256, 400]"), "{error}");
}

/// Changes the metadata of a GGUF: it opens, but its vocabulary does not, for the reason `said`.
fn check_vocab(key: &str, value: Option<Value>, said: &str) {
    let checkpoint = open_with(|m| match value {
        Some(value) => m.set(key, value),
        None => drop(m.remove(key)),
    })
    .unwrap();
    for error in [checkpoint.vocab().unwrap_err(), checkpoint.tokenizer_json().unwrap_err()] {
        assert!(error.to_string().contains(said), "{key}: {error}");
    }
}

#[test]
fn a_vocabulary_that_is_not_understood_is_an_error_when_asked_for() {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    check_vocab("tokenizer.ggml.model", None, "no tokenizer");
    check_vocab("tokenizer.ggml.model", text("llama"), "tokenizer.ggml.scores: is missing");
    check_vocab("tokenizer.ggml.model", text("rwkv"), "(rwkv) are not supported");
    check_vocab("tokenizer.ggml.pre", text("whitespace"), "the pre-tokenizer \"whitespace\" is not supported; known: llama-bpe");
    check_vocab("tokenizer.ggml.tokens", None, "is missing");
    check_vocab("tokenizer.ggml.merges", None, "is missing");
    check_vocab("tokenizer.ggml.token_type", Some(Value::Array(Array::I32(vec![1; 383]))), "383 entries for 384 tokens");
    check_vocab("tokenizer.ggml.token_type", Some(Value::Array(Array::I32(vec![7; 384]))), "token 0 the type 7");
    check_vocab("tokenizer.ggml.bos_token_id", Some(Value::U32(384)), "is 384, but there are 384 tokens");
    check_vocab("tokenizer.ggml.add_bos_token", Some(Value::U32(1)), "not a boolean");
}

/// A name in Latin-1 and a token that is half a character, as old converters wrote them.
#[test]
fn strings_that_are_not_utf8_are_kept_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let hf = Checkpoint::open(&fixture()).unwrap();
    let mut metadata = hf.output_metadata().unwrap();
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().to_vec();
    let mut tokens: Vec<Vec<u8>> = tokens.into_iter().map(String::into_bytes).collect();
    tokens[70] = vec![0xe4, 0xbd];
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Bytes(tokens.clone())));
    metadata.set("general.name", Value::Bytes(b"Mod\xe8le".to_vec()));
    write_gguf(&hf, metadata, &path("in.gguf"));

    let stranger = Checkpoint::open(&path("in.gguf")).unwrap();
    assert_eq!(stranger.hparams().vocab_size, hf.hparams().vocab_size);
    write_gguf(&stranger, stranger.output_metadata().unwrap(), &path("out.gguf"));
    let kept = GgufFile::open(&path("out.gguf")).unwrap().metadata;
    assert_eq!(kept.get("general.name"), Some(&Value::Bytes(b"Mod\xe8le".to_vec())));
    assert_eq!(kept.get("tokenizer.ggml.tokens"), Some(&Value::Array(Array::Bytes(tokens))));
    let error = stranger.vocab().err().unwrap().to_string();
    assert!(error.contains("tokenizer.ggml.tokens") && error.contains("entry 70 is not UTF-8"), "{error}");
}

#[test]
fn a_rebuilt_tokenizer_needs_whole_merges_and_distinct_tokens() {
    let check = |key: &str, value: Value, said: &str| {
        let checkpoint = open_with(|m| m.set(key, value)).unwrap();
        let error = checkpoint.tokenizer_json().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    let strings = |list: &[&str]| Value::Array(Array::String(list.iter().map(|&s| s.to_owned()).collect()));
    check("tokenizer.ggml.merges", strings(&["h e", "he"]), "merge 1, \"he\", is not two tokens");
    check("tokenizer.ggml.merges", strings(&["h e r"]), "more than two");
    check("tokenizer.ggml.merges", strings(&["q qqq"]), "does not exist");
    check("tokenizer.ggml.tokens", strings(&vec!["same"; 384]), "tokens 0 and 1 are both \"same\"");
}

#[test]
fn the_default_of_add_bos_is_the_pre_tokenizers() {
    let with = |pre: &str| {
        let checkpoint = open_with(|m| {
            m.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
            m.remove("tokenizer.ggml.add_bos_token");
        });
        checkpoint.unwrap().vocab().unwrap().add_bos
    };
    assert_eq!((with("llama-bpe"), with("gpt-2")), (true, false));
}

/// Changes a tokenizer file of a copy: the model opens, the vocabulary does not, for the reason `said`.
fn check_tokenizer(file: &str, change: impl FnOnce(&mut Json), said: &str) {
    let dir = copy();
    edit(&dir, file, change);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let error = checkpoint.vocab().unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
    assert_eq!(checkpoint.output_metadata().unwrap_err().to_string(), error);
}

#[test]
fn a_tokenizer_that_is_not_understood_is_refused_with_its_reason() {
    const FILE: &str = "tokenizer.json";
    check_tokenizer(FILE, |t| t["model"]["type"] = json!("Unigram"), "Unigram vocabularies (t5) are not supported");
    check_tokenizer(FILE, |t| t["model"]["type"] = json!("WordPiece"), "WordPiece");
    check_tokenizer(FILE, |t| t["model"]["byte_fallback"] = json!(true), "SentencePiece");
    check_tokenizer(FILE, |t| t["model"] = json!(null), "has no model");
    check_tokenizer(FILE, |t| t["model"]["vocab"] = json!(null), "has no model.vocab");
    check_tokenizer(FILE, |t| t["model"]["vocab"]["!"] = json!(384), "\"!\" has the id 384");
    check_tokenizer(FILE, |t| t["model"]["vocab"]["!"] = json!(1), "gives the id 1 to both");
    check_tokenizer(FILE, |t| t["model"]["merges"] = json!([["a"]]), "merge 0 is not two tokens");
    check_tokenizer(FILE, |t| t["pre_tokenizer"] = json!({"type": "Metaspace"}), "its pre_tokenizer is not known: Metaspace");
    check_tokenizer(FILE, |t| t["normalizer"] = json!({"type": "Lowercase"}), "the normalizer Lowercase is not supported");
    check_tokenizer("config.json", |c| c["pad_token_id"] = json!(-1), "pad_token_id: is -1");
    let dir = copy();
    std::fs::remove_file(dir.path().join(FILE)).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().vocab().unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: is missing"), "{error}");
}

#[test]
fn added_tokens_and_gaps_get_the_converters_types() {
    let dir = copy();
    edit(&dir, "tokenizer.json", |t| {
        t["model"]["vocab"].as_object_mut().unwrap().remove("!");
        t["model"]["merges"] = json!([["a b", "c"], "d e"]);
        for (id, content, special) in [(380, "<tool>", false), (381, "<|odd|>", false)] {
            t["added_tokens"].as_array_mut().unwrap().push(json!({"id": id, "content": content, "special": special}));
        }
    });
    edit(&dir, "tokenizer_config.json", |c| {
        c["unk_token"] = json!("a");
        c["extra_special_tokens"] = json!({"image_token": "b"});
        c["added_tokens_decoder"] = json!({"379": {"content": "▁x", "special": false, "normalized": true}});
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let gap = support::json(&fixture().join("tokenizer.json"))["model"]["vocab"]["!"].as_u64().unwrap() as usize;
    let Some(Value::Array(Array::I32(types))) = checkpoint.metadata().get("tokenizer.ggml.token_type") else { panic!() };
    let tokens = checkpoint.metadata().strings("tokenizer.ggml.tokens").unwrap();
    let at = |id: usize| (tokens[id].as_str(), types[id]);
    assert_eq!(at(gap), (format!("[PAD{gap}]").as_str(), 5));
    assert_eq!((at(379), at(380), at(381), at(382)), ((" x", 4), ("<tool>", 4), ("<|odd|>", 3), ("<|begin_of_text|>", 3)));
    for named in ["a", "b"] {
        let id = tokens.iter().position(|t| t == named).unwrap();
        assert_eq!(types[id], 3, "{named}, named as special, is a control token");
    }
    assert_eq!(checkpoint.metadata().strings("tokenizer.ggml.merges").unwrap(), ["aĠb c", "d e"]);
}

#[test]
fn a_gguf_of_llama_cpp_opens_with_the_same_hyper_parameters() {
    let (Some(hf), Some(gguf)) = (support::oracle("models/llama31_gqa"), support::oracle("keep/public.llama31_gqa.bf16.gguf"))
    else {
        return;
    };
    let (hf, gguf) = (Checkpoint::open(&hf).unwrap(), Checkpoint::open(&gguf).unwrap());
    assert_eq!(hf.hparams(), gguf.hparams());
    for tensor in gguf.tensors() {
        let ours = hf.tensor(&tensor.name).unwrap();
        assert_eq!(ours.shape, tensor.shape, "{}", tensor.name);
        if ours.dtype == tensor.dtype {
            assert_eq!(hf.read(ours, 0..ours.rows()).unwrap()[..], gguf.read(tensor, 0..tensor.rows()).unwrap()[..]);
        }
    }
}

#[test]
fn a_gguf_of_llama_cpp_has_the_vocabulary_of_the_directory() {
    for (model, file) in [("llama31_gqa", "public.llama31_gqa.bf16.gguf"), ("llama2_mha", "public.llama2_mha.f16.gguf")] {
        let (Some(hf), Some(gguf)) = (support::oracle(&format!("models/{model}")), support::oracle(&format!("keep/{file}")))
        else {
            return;
        };
        let (hf, checkpoint) = (Checkpoint::open(&hf).unwrap(), Checkpoint::open(&gguf).unwrap());
        let (a, b) = (hf.vocab().unwrap(), checkpoint.vocab().unwrap());
        assert_eq!((&a.tokens, &a.types, &a.algorithm), (&b.tokens, &b.types, &b.algorithm), "{model}");
        assert_eq!((a.bos, a.eos, a.unk, a.add_bos), (b.bos, b.eos, b.unk, b.add_bos), "{model}");
        assert_eq!(checkpoint.output_metadata().unwrap(), GgufFile::open(&gguf).unwrap().metadata);
    }
}

/// A copy of an oracle model whose `config.json` a test may change.
fn oracle_copy(name: &str) -> Option<TempDir> {
    let model = support::oracle(&format!("models/{name}"))?;
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    Some(dir)
}

/// Changes the configuration of an oracle model and expects an error that contains each of `said`.
fn check_oracle_config(name: &str, change: impl FnOnce(&mut Json), said: &[&str]) {
    let Some(dir) = oracle_copy(name) else { return };
    edit(&dir, "config.json", change);
    let error = open_error(dir.path());
    for text in said {
        assert!(error.contains(text), "{name}: {text:?} is not in: {error}");
    }
}

#[test]
fn experts_that_are_missing_or_too_many_are_named() {
    let experts = "model.layers.0.block_sparse_moe.experts";
    check_oracle_config("mixtral", |c| c["num_local_experts"] = json!(5), &["experts.4.w1.weight: is missing"]);
    check_oracle_config("mixtral", |c| c["num_local_experts"] = json!(3), &["experts.3.w1.weight: is number 3", "there are 3"]);
    check_oracle_config("mixtral", |c| c["num_local_experts"] = json!(0), &[experts, "has no place in block 0", "no experts"]);
    check_oracle_config("mixtral", |c| c["num_experts_per_tok"] = json!(9), &["expert_used_count: is 9", "4 experts"]);
    check_oracle_config("qwen3_moe", |c| c["num_experts"] = json!(null), &["num_experts: is missing"]);
    check_oracle_config("deepseek_v2", |c| c["first_k_dense_replace"] = json!(0), &["layers.0.mlp.down_proj", "has experts"]);
    check_oracle_config("deepseek_v2", |c| c["first_k_dense_replace"] = json!(2), &["layers.1.mlp.experts", "has no experts"]);
    check_oracle_config("gpt_oss", |c| c["num_local_experts"] = json!(3), &["mlp.experts.down_proj", "[128, 128, 3]"]);
    // One expert's tensor under another name.
    let Some(dir) = oracle_copy("mixtral") else { return };
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"model.layers.1.block_sparse_moe.experts.2.w3.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at + name.len() - 11] = b'7';
    std::fs::write(path, bytes).unwrap();
    let error = open_error(dir.path());
    assert!(error.contains("experts.2.w3.weight: is missing") && error.contains("4 such tensors"), "{error}");
}

/// Gives tensors of an oracle model's folder other names, of the same length. What its index says is removed.
fn rename(dir: &TempDir, names: &[(&str, &str)]) {
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            let (header, data) = bytes.split_at(8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
            let mut header = header.to_vec();
            for (from, to) in names {
                assert_eq!(from.len(), to.len());
                while let Some(at) = header.windows(from.len()).position(|found| found == from.as_bytes()) {
                    header[at..at + from.len()].copy_from_slice(to.as_bytes());
                }
            }
            std::fs::write(&path, [&header[..], data].concat()).unwrap();
        } else if name.ends_with(".index.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn folders_without_what_the_configuration_counts_say_what_is_missing() {
    let mtp = |count: i64| move |c: &mut Json| c["text_config"]["mtp_num_hidden_layers"] = json!(count);
    check_oracle_config("qwen35", mtp(2), &["mtp_num_hidden_layers", "counts 2 blocks", "tensors of 1"]);
    check_oracle_config("qwen35", mtp(-1), &["mtp_num_hidden_layers", "is -1", "from 0 to"]);
    check_oracle_config("qwen35", |c| c["text_config"] = json!(null), &["text_config", "is missing or has no model_type"]);
    let plain = |c: &mut Json| c["architectures"] = json!(["Qwen3_5ForCausalLM"]);
    check_oracle_config("qwen35", plain, &["text_config: an object is not supported", "whose class is another"]);
    // Without the count they are left out, and that is known.
    let Some(dir) = oracle_copy("qwen35") else { return };
    edit(&dir, "config.json", mtp(0));
    let parts = Checkpoint::open(dir.path()).unwrap().left_out();
    assert!(parts.tensors > 0 && parts.uncounted > 1, "{parts:?}");
    // One of their tensors is missing: its name is that of such files.
    let Some(dir) = oracle_copy("qwen35") else { return };
    rename(&dir, &[("\"mtp.fc.weight", "\"visual.weight")]);
    let error = open_error(dir.path());
    assert!(error.contains("(in safetensors files: mtp.fc.weight; of a block that predicts further tokens)"), "{error}");
    // Encoders alone, and with blocks for further tokens.
    let text = [("\"model.language_model.", "\"model.visual.modelxx."), ("\"lm_head.", "\"visual.h")];
    let further = [
        ("\"mtp.layers.", "\"visual.abc."),
        ("\"mtp.pre_fc_norm_", "\"visual.pre_norm_"),
        ("\"mtp.norm.", "\"visual.n."),
        ("\"mtp.fc.", "\"visual."),
    ];
    for others in [&further[..], &[]] {
        let Some(dir) = oracle_copy("qwen35") else { return };
        rename(&dir, &[&text, others].concat());
        let error = open_error(dir.path());
        assert!(error.contains("has no tensor of a language model; its "), "{error}");
    }
}

#[test]
fn an_encoder_that_is_described_and_missing_is_named() {
    let audio = |c: &mut Json| c["audio_config"] = json!({"hidden_size": 64});
    check_oracle_config("gemma4_e2b", audio, &["config.json", "audio_config", "no tensor of it", "take this key out"]);
    // Nothing is missing where nothing is described.
    let Some(dir) = oracle_copy("gemma4_e2b") else { return };
    edit(&dir, "config.json", |c| c["audio_config"] = json!(null));
    Checkpoint::open(dir.path()).unwrap();
    let Some(dir) = oracle_copy("gemma3_wrap") else { return };
    rename(&dir, &[("\"vision_tower.", "\"audio_tower.x"), ("\"multi_modal_projector.", "\"audio_tower.xxxxxxxxxx")]);
    let error = open_error(dir.path());
    assert!(error.contains("config.json") && error.contains("vision_config") && error.contains("no tensor of it"), "{error}");
    edit(&dir, "config.json", |c| _ = c.as_object_mut().unwrap().remove("vision_config"));
    Checkpoint::open(dir.path()).unwrap();
}

#[test]
fn what_a_missing_key_means_to_transformers_is_not_passed_over() {
    let without = |c: &mut Json| _ = c.as_object_mut().unwrap().remove("mamba_norm_before_gate");
    check_oracle_config("falcon_h1", without, &["mamba_norm_before_gate", "is missing, which means true"]);
    check_oracle_config("falcon_h1", |c| c["mamba_norm_before_gate"] = json!(true), &["mamba_norm_before_gate", "is true"]);
    // The shared experts are there, and the configuration says that there are none.
    let none = |c: &mut Json| c["moe_num_shared_experts"] = json!(0);
    check_oracle_config("ernie4_5_moe", none, &["shared_experts", "has no shared experts"]);
    check_oracle_config("ernie4_5_moe", |c| c["moe_norm_min"] = json!(0.1), &["moe_norm_min", "the least sum"]);
}

#[test]
fn shapes_of_changed_tensors_are_checked_as_they_are_stored() {
    check_oracle_config("gpt2", |c| c["n_inner"] = json!(200), &["mlp.c_fc.bias", "[384]", "[200]"]);
    check_oracle_config("deepseek_v3", |c| c["v_head_dim"] = json!(30), &["self_attn", "has the shape"]);
    check_oracle_config("gpt_oss", |c| c["head_dim"] = json!(34), &["self_attn", "has the shape"]);
    check_oracle_config("stablelm_qknorm", |c| c["num_attention_heads"] = json!(8), &["self_attn", "has the shape"]);
    check_oracle_config("phi3", |c| c["num_key_value_heads"] = json!(4), &["qkv_proj.weight", "[256, 768]", "[256, 512]"]);
    check_oracle_config("gemma2", |c| c["attn_logit_softcapping"] = json!("50"), &["attn_logit_softcapping: is \"50\""]);
    check_oracle_config("phi3_longrope", |c| c["partial_rotary_factor"] = json!(0.5), &["short_factor: has 16 numbers for 8"]);
}

/// An oracle model of every class.
const ONE_OF_EACH: &[&str] = &[
    "apertus",
    "cohere_qknorm",
    "cohere2",
    "deepseek_v2",
    "deepseek_v3",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone4",
    "falcon_h1",
    "gemma",
    "gemma2",
    "gemma3_pattern",
    "gemma3_wrap",
    "gemma4",
    "gemma4_e2b",
    "gemma4_moe",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "gpt2",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "granite",
    "granite_hybrid",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "lfm2",
    "lfm2_moe",
    "llama4",
    "llama4_text",
    "llama_linear_bias",
    "mamba2",
    "minimax_m2",
    "ministral3",
    "mistral3",
    "mistral3_ministral",
    "mistral_nemo",
    "mixtral",
    "muse_glimmer",
    "nemotron_h",
    "nemotron_h_moe",
    "olmo2",
    "olmo3",
    "phi4_mini",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen35",
    "qwen35_moe",
    "qwen35_moe_text",
    "qwen35_text",
    "qwen3_next",
    "qwen3_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "seed_oss",
    "smollm3",
    "stablelm_qknorm",
    "starcoder2",
];

#[test]
fn every_class_has_a_model_among_them() {
    let mut classes = Vec::new();
    for name in ONE_OF_EACH {
        let Some(dir) = support::oracle(&format!("models/{name}")) else { return };
        classes.push(support::json(&dir.join("config.json"))["architectures"][0].clone());
    }
    for class in ARCHITECTURES.iter().flat_map(|arch| arch.hf) {
        assert!(classes.contains(&json!(class.name)), "ONE_OF_EACH names no model of {}", class.name);
    }
}

#[test]
fn no_number_in_a_configuration_makes_a_panic() {
    for name in ONE_OF_EACH {
        let Some(dir) = oracle_copy(name) else { return };
        // Not what is tested here, and slow.
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        let sound = support::json(&dir.path().join("config.json"));
        let numbers = sound.as_object().unwrap().iter().filter(|(_, value)| value.is_number());
        for key in numbers.map(|(key, _)| key) {
            for value in [json!(0), json!(3), json!(2147483648u32), json!(0.3)] {
                edit(&dir, "config.json", |c| c[key] = value);
                if let Ok(checkpoint) = Checkpoint::open(dir.path()) {
                    for tensor in checkpoint.tensors() {
                        checkpoint.read(tensor, 0..tensor.rows()).unwrap();
                    }
                }
                std::fs::write(dir.path().join("config.json"), sound.to_string()).unwrap();
            }
        }
    }
}

#[test]
fn a_file_of_an_unknown_architecture_opens_as_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let hf = Checkpoint::open(&fixture()).unwrap();
    let mut metadata = hf.output_metadata().unwrap();
    metadata.set("general.architecture", Value::String("mamba".into()));
    metadata.set("mamba.block_count", Value::U32(2));
    write_gguf(&hf, metadata, &path);
    assert!(open_error(&path).contains("unknown architecture \"mamba\""));
    let container = Container::open(&path).unwrap();
    assert_eq!(container.tensors().len(), hf.tensors().len());
    let name = "blk.1.attn_v.weight";
    let encoded = |source: &dyn bitworth_quant::quantize::Source| {
        bitworth_quant::quantize::encode_tensor(source, name, DType::Q4_0, None).unwrap()
    };
    assert_eq!(encoded(&container), encoded(&hf));
}

/// Experts as transformers 5 saves them stand as rows; as published, they are transposed. Both are the same model.
#[test]
fn experts_stand_either_way_where_their_shape_tells() {
    let Some(dir) = oracle_copy("qwen3_vl_moe") else { return };
    let published = Checkpoint::open(dir.path()).unwrap();
    let files = bitworth_quant::safetensors::HfTensors::open(dir.path()).unwrap();
    let turned = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(dir.path().join(name), turned.path().join(name)).unwrap();
    }
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in files.tensors() {
        let (mut shape, mut bytes) = (tensor.shape.clone(), tensor.bytes().to_vec());
        if let (true, [count, rows, cols]) = (tensor.name.contains("mlp.experts."), &tensor.shape[..]) {
            let at = |(e, c, r): (usize, usize, usize)| (e * rows * cols + r * cols + c) * 2;
            let order = (0..*count).flat_map(|e| (0..*cols).flat_map(move |c| (0..*rows).map(move |r| (e, c, r))));
            bytes = order.map(at).flat_map(|at| [tensor.bytes()[at], tensor.bytes()[at + 1]]).collect();
            shape = vec![*count, *cols, *rows];
        }
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [data.len(), data.len() + bytes.len()]});
        header.insert(tensor.name.clone(), entry);
        data.extend(bytes);
    }
    let header = Json::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(turned.path().join("model.safetensors"), file).unwrap();
    let saved = Checkpoint::open(turned.path()).unwrap();
    for tensor in published.tensors() {
        let other = saved.tensor(&tensor.name).unwrap();
        let rows = || 0..tensor.rows();
        assert!(published.read(tensor, rows()).unwrap()[..] == saved.read(other, rows()).unwrap()[..], "{}", tensor.name);
    }
}
