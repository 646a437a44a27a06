//! The tokenizer of every golden model: the keys that llama.cpp's converter wrote, and the reference's token ids both from
//! the directory's own `tokenizer.json` and from the one rebuilt from those keys.

use std::path::{Path, PathBuf};

use bitworth_quant::Result;
use bitworth_quant::gguf::{Metadata, Value};
use bitworth_quant::vocab::{Algorithm, TokenType, TokenizerInput, Vocab, hf};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokenizers::Tokenizer;

use crate::support;
use crate::support::manifest::{expected_pairs, found_pairs};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf").join(name)
}

/// The committed tokenizers and every golden model, each with its manifest if the converter could write it.
fn models() -> Vec<(PathBuf, Option<PathBuf>)> {
    let mut found: Vec<_> =
        ["llama31_gqa", "phi3"].map(|name| (fixture(name), Some(fixture(&format!("{name}.f32.json"))))).into();
    let (Some(models), Some(manifests)) = (support::oracle("models"), support::oracle("manifests")) else { return found };
    for entry in std::fs::read_dir(models).unwrap() {
        let dir = entry.unwrap().path();
        if support::is_refused(dir.file_name().unwrap().to_str().unwrap()) {
            continue;
        }
        let manifest = manifests.join(format!("{}.f32.json", dir.file_name().unwrap().to_str().unwrap()));
        found.push((dir, Some(manifest).filter(|path| path.exists())));
    }
    assert!(found.len() >= 45);
    assert!(found.iter().filter(|(_, manifest)| manifest.is_some()).count() >= 43);
    found
}

/// The keys that are made of a directory's tokenizer, without opening its tensors.
fn keys(dir: &Path) -> Result<Metadata> {
    keys_of(dir, None, None)
}

/// The same for another class or size than `config.json` says.
fn keys_of(dir: &Path, class: Option<&str>, vocab_size: Option<u32>) -> Result<Metadata> {
    let mut config = support::json(&dir.join("config.json"));
    if let Some(Json::Object(text)) = config.get("text_config").cloned() {
        text.into_iter().for_each(|(key, value)| config[key] = value);
    }
    let model = TokenizerInput {
        dir,
        class: class.unwrap_or_else(|| config["architectures"][0].as_str().unwrap()),
        vocab_size: vocab_size.unwrap_or_else(|| config["vocab_size"].as_u64().unwrap() as u32),
        config: config.as_object().unwrap(),
    };
    let mut m = Metadata::new();
    hf::add_keys(&model, &mut m)?;
    Ok(m)
}

#[test]
fn every_tokenizer_has_the_converters_keys() {
    for (dir, manifest) in models() {
        let Some(manifest) = manifest else { continue };
        let mut expected: Vec<(String, Json)> = expected_pairs(&support::json(&manifest));
        expected.retain(|(key, _)| key.starts_with("tokenizer."));
        // Keys of our own are tried with the other ones (see `convert`).
        let mut found = found_pairs(&keys(&dir).unwrap());
        found.retain(|(key, _)| key.starts_with("tokenizer."));
        assert_eq!(found, expected, "{}", dir.display());
    }
}

/// Both the directory's own tokenizer and the one rebuilt from `vocab` give the reference's ids.
fn check_ids(dir: &Path, vocab: &Vocab) {
    let rebuilt = serde_json::to_vec(&vocab.to_tokenizer_json().unwrap()).unwrap();
    let rebuilt = Tokenizer::from_bytes(rebuilt).unwrap();
    let own = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let cases = support::json(&dir.join("golden.json"))["tokenizer_cases"].take();
    assert!(cases.as_array().unwrap().len() > 5);
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (tokenizer, what) in [(&own, "own"), (&rebuilt, "rebuilt")] {
            let found = |special| json!(tokenizer.encode(text, special).unwrap().get_ids());
            assert_eq!(found(false), case["ids"], "{}, {what}: {text:?}", dir.display());
            assert_eq!(found(true), case["with_special"], "{}, {what}: {text:?}", dir.display());
        }
    }
}

#[test]
fn the_keys_give_the_reference_ids() {
    for (dir, _) in models() {
        check_ids(&dir, &Vocab::from_metadata(&dir, &keys(&dir).unwrap()).unwrap());
    }
}

/// A copy of the SentencePiece fixture.
fn copy() -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "golden.json"] {
        std::fs::copy(fixture("phi3").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn edit(dir: &TempDir, name: &str, change: impl FnOnce(&mut Json)) {
    let path = dir.path().join(name);
    let mut json = if path.exists() { support::json(&path) } else { json!({}) };
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

fn vocab(dir: &TempDir, class: &str, vocab_size: Option<u32>) -> Vocab {
    Vocab::from_metadata(dir.path(), &keys_of(dir.path(), Some(class), vocab_size).unwrap()).unwrap()
}

const LLAMA: &str = "LlamaForCausalLM";
const PHI3: &str = "Phi3ForCausalLM";

#[test]
fn added_tokens_replace_pieces_as_the_class_wants() {
    let dir = copy();
    edit(&dir, "added_tokens.json", |t| *t = json!({"<extra>": 300, "<far>": 5000}));
    edit(&dir, "tokenizer_config.json", |c| {
        c["added_tokens_decoder"]["301"] = json!({"content": "▁x", "special": false});
        c["added_tokens_decoder"]["302"] = json!({"content": "<|odd|>"});
    });
    edit(&dir, "tokenizer.json", |t| {
        t["added_tokens"].as_array_mut().unwrap().push(json!({"id": 303, "content": "<json>", "special": true}));
    });
    let at = |vocab: &Vocab, ids: &[usize]| -> Vec<_> {
        let Algorithm::SentencePiece { scores, .. } = &vocab.algorithm else { panic!() };
        ids.iter().map(|&id| (vocab.tokens[id].clone(), vocab.types[id], scores[id])).collect()
    };
    let token = |text: &str, kind, score| (text.to_owned(), kind, score);
    use TokenType::{Control, Normal, Unused, UserDefined};

    let piece = vocab(&dir, PHI3, None).tokens[299].clone();
    let phi3 = at(&vocab(&dir, PHI3, None), &[299, 300, 301, 302, 303, 397]);
    assert_eq!(
        phi3[1..5],
        [
            token("<extra>", UserDefined, -1000.0),
            token("▁x", UserDefined, -1000.0),
            token("<|odd|>", UserDefined, -1000.0),
            token("<json>", Control, -1000.0),
        ]
    );
    assert_eq!(phi3[5], token("<|endoftext|>", Control, -1000.0));
    assert_eq!(phi3[0], token(&piece, Normal, phi3[0].2));
    assert!(phi3[0].2 < 0.0 && phi3[0].2 > -1000.0);

    let llama = at(&vocab(&dir, LLAMA, Some(402)), &[301, 302, 303, 401]);
    assert_eq!(llama[..2], [token(" x", UserDefined, -1000.0), token("<|odd|>", Control, -1000.0)]);
    assert_eq!((llama[2].1, &llama[3]), (Normal, &token("[PAD401]", Unused, -10000.0)));
}

#[test]
fn ids_beyond_the_vocabulary_are_left_out() {
    let dir = copy();
    let found = keys_of(dir.path(), Some(LLAMA), Some(390)).unwrap();
    assert_eq!(found.strings("tokenizer.ggml.tokens").unwrap().len(), 390);
    assert_eq!(found.get("tokenizer.ggml.eos_token_id"), None);
    assert_eq!(found.get("tokenizer.ggml.bos_token_id"), Some(&Value::U32(1)));
}

#[test]
fn a_llama_without_tokenizer_model_keeps_its_merges_under_a_key_of_our_own() {
    let dir = copy();
    std::fs::remove_file(dir.path().join("tokenizer.model")).unwrap();
    let found = keys_of(dir.path(), Some(LLAMA), None).unwrap();
    let mut vocab = Vocab::from_metadata(dir.path(), &found).unwrap();
    assert_eq!((vocab.types[3], vocab.types[2], vocab.types[397]), (TokenType::Byte, TokenType::Normal, TokenType::Control));
    check_ids(dir.path(), &vocab);

    let Algorithm::SentencePiece { merges, .. } = &mut vocab.algorithm else { panic!() };
    assert!(merges.take().is_some());
    let error = vocab.to_tokenizer_json().unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.scores: are all the same"), "{error}");
}

/// A golden model's tokenizer as transformers 5 saves it: no `tokenizer.model`, no list of added tokens in
/// `tokenizer_config.json`, a mask token behind the vocabulary, and Gemma's split by spaces that are not there any more.
fn saved_by_transformers_5(from: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["config.json", "tokenizer.json", "golden.json"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let old = support::json(&from.join("tokenizer_config.json"));
    let vocab_size = support::json(&dir.path().join("config.json"))["vocab_size"].take();
    edit(&dir, "tokenizer_config.json", |c| {
        *c = json!({"backend": "tokenizers", "is_local": true, "mask_token": "<mask>", "tokenizer_class": "TokenizersBackend"});
        for name in ["bos_token", "eos_token", "pad_token", "unk_token", "add_prefix_space"] {
            let token = old.get(name).map(|token| token.get("content").unwrap_or(token).clone());
            token.into_iter().for_each(|token| c[name] = token);
        }
    });
    edit(&dir, "tokenizer.json", |t| {
        if t["normalizer"]["type"] == "Replace" {
            t["pre_tokenizer"] =
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
        }
        let known = t["model"]["vocab"].as_object().unwrap().len() as u64;
        let added = t["added_tokens"].as_array_mut().unwrap();
        let next = added.iter().filter_map(|token| token["id"].as_u64()).map(|id| id + 1).fold(known, u64::max);
        if Some(next) == vocab_size.as_u64() {
            added.push(json!({"id": next, "content": "<mask>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}));
        }
    });
    dir
}

#[test]
fn what_transformers_5_saves_without_tokenizer_model_gives_the_same_tokens_and_ids() {
    let (Some(models), Some(manifests)) = (support::oracle("models"), support::oracle("manifests")) else { return };
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(models).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap().to_owned();
        let llama = keys(&from).is_ok_and(|keys| keys.get("bitworth.tokenizer.merges").is_some());
        if support::is_refused(&name) || !from.join("tokenizer.model").exists() || llama {
            continue;
        }
        let dir = saved_by_transformers_5(&from);
        let keys = keys(dir.path()).unwrap();
        let mut vocab = Vocab::from_metadata(dir.path(), &keys).unwrap();
        check_ids(dir.path(), &vocab);
        let class = support::json(&from.join("config.json"))["architectures"][0].take();
        // Of Llama and its kin the converter itself takes such folders, with other types and no scores.
        if keys.get("tokenizer.ggml.scores").is_some_and(|scores| *scores == constant(-1000.0, vocab.len())) {
            continue;
        }
        seen.push(class.as_str().unwrap().to_owned());
        // What the converter made of the tokenizer.model.
        let manifest = manifests.join(format!("{name}.f32.json"));
        let expected: Vec<(String, Json)> = expected_pairs(&support::json(&manifest));
        for key in ["model", "tokens", "token_type", "bos_token_id", "eos_token_id", "add_bos_token", "add_space_prefix"] {
            let key = format!("tokenizer.ggml.{key}");
            let find = |pairs: &[(String, Json)]| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
            assert_eq!(find(&found_pairs(&keys)), find(&expected), "{name}: {key}");
        }
        // By the scores alone, as llama.cpp merges.
        let Algorithm::SentencePiece { merges, .. } = &mut vocab.algorithm else { panic!("{name}") };
        assert!(merges.take().is_some());
        check_ids(dir.path(), &vocab);
    }
    for class in ["GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", PHI3] {
        assert!(seen.iter().any(|seen| seen == class), "{class}: {seen:?}");
    }
}

fn constant(score: f32, count: usize) -> Value {
    Value::Array(bitworth_quant::gguf::Array::F32(vec![score; count]))
}

#[test]
fn files_that_a_class_does_not_take_are_refused_with_the_reason() {
    let check = |class: &str, vocab_size: Option<u32>, change: &dyn Fn(&TempDir), said: &str| {
        let dir = copy();
        change(&dir);
        let error = keys_of(dir.path(), Some(class), vocab_size).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    let without_model = |dir: &TempDir| std::fs::remove_file(dir.path().join("tokenizer.model")).unwrap();
    let without = |dir: &TempDir| {
        without_model(dir);
        edit(dir, "tokenizer.json", |t| t["model"]["byte_fallback"] = json!(false));
    };
    check("GemmaForCausalLM", None, &without, "tokenizer.model: is missing; GemmaForCausalLM needs a SentencePiece model");
    check("Starcoder2ForCausalLM", None, &|_| {}, "tokenizer.json: has byte_fallback");
    let gpt2 = |dir: &TempDir| edit(dir, "tokenizer_config.json", |c| c["tokenizer_class"] = json!("GPT2Tokenizer"));
    check(PHI3, None, &gpt2, "tokenizer.json: has byte_fallback");
    check(LLAMA, Some(u32::MAX), &|_| {}, "config.json: vocab_size: is 4294967295");
    let cut = |dir: &TempDir| std::fs::write(dir.path().join("tokenizer.model"), [0x0a, 0x7f]).unwrap();
    check(LLAMA, None, &cut, "tokenizer.model: is no SentencePiece model that can be read: 127 bytes are wanted");
    let error = keys_of(&fixture("llama31_gqa"), Some("Glm4ForCausalLM"), None).unwrap_err().to_string();
    assert!(error.contains("has no added token <|endoftext|>"), "{error}");
}

#[test]
fn a_long_piece_is_refused_before_its_merges_are_sought() {
    let mut vocab = vocab(&copy(), LLAMA, None);
    vocab.tokens[350] = "a".repeat(513);
    let error = vocab.to_tokenizer_json().unwrap_err().to_string();
    assert!(error.contains("token 350 has 513 bytes; at most 512"), "{error}");
}

/// The tokenizers of a directory and of the keys made of it give the same ids for these texts.
#[track_caller]
fn check_same_ids(dir: &Path, class: &str, texts: &[&str]) {
    let keys = keys_of(dir, Some(class), None).unwrap();
    assert!(matches!(keys.get("bitworth.tokenizer.json"), Some(Value::String(_))));
    let rebuilt = Vocab::from_metadata(dir, &keys).unwrap().to_tokenizer_json().unwrap();
    let rebuilt = Tokenizer::from_bytes(serde_json::to_vec(&rebuilt).unwrap()).unwrap();
    let own = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    for text in texts {
        let ids = |tokenizer: &Tokenizer| tokenizer.encode(*text, false).unwrap().get_ids().to_vec();
        assert_eq!(ids(&rebuilt), ids(&own), "{text:?}");
    }
}

#[test]
fn what_llama_cpp_has_no_key_for_is_kept_under_one_of_our_own() {
    let byte_level = TempDir::new().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture("llama31_gqa").join(name), byte_level.path().join(name)).unwrap();
    }
    edit(&byte_level, "tokenizer.json", |t| t["normalizer"] = json!({"type": "NFC"}));
    check_same_ids(byte_level.path(), LLAMA, &["e\u{301}cole", "\u{e9}cole", "plain"]);

    let sentencepiece = copy();
    edit(&sentencepiece, "tokenizer.json", |t| {
        for token in t["added_tokens"].as_array_mut().unwrap() {
            token["rstrip"] = json!(true);
        }
        t["normalizer"] = Json::Null;
        t["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    });
    check_same_ids(sentencepiece.path(), PHI3, &["a  b", "x<|endoftext|> \n y", "<s> the", " the <s>the"]);
}

#[test]
fn vocabularies_that_cannot_be_reproduced_are_refused_by_name() {
    let sound = keys(&fixture("llama31_gqa")).unwrap();
    let check = |key: &str, value: Option<&str>, said: &[&str]| {
        let mut m = Metadata::new();
        for (name, old) in sound.iter().filter(|(name, _)| *name != key) {
            m.set(name, old.clone());
        }
        if let Some(value) = value {
            m.set(key, Value::String(value.to_owned()));
        }
        let error = Vocab::from_metadata(Path::new("m.gguf"), &m).unwrap_err().to_string();
        for part in said.iter().chain(&["m.gguf", key]) {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    const MODEL: &str = "tokenizer.ggml.model";
    check(MODEL, Some("bert"), &["WordPiece"]);
    check(MODEL, Some("t5"), &["Unigram"]);
    check(MODEL, Some("rwkv"), &["RWKV"]);
    check(MODEL, Some("none"), &["has no tokenizer"]);
    check(MODEL, Some("plamo2"), &["\"plamo2\""]);
    check(MODEL, None, &["has no tokenizer"]);
    const PRE: &str = "tokenizer.ggml.pre";
    check(PRE, Some("chameleon"), &["\"chameleon\" is not supported", "llama-bpe"]);
    check(PRE, None, &["missing"]);
    check("bitworth.tokenizer.json", Some("[]"), &["no JSON object"]);
}
