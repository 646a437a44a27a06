//! Token ids: as the reference tokenizer gives them, from a directory and from the GGUF made of it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bitworth::text::tokenizer::{Heads, SpecialText, Tokenizer};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::random::SplitMix64;
use bitworth_quant::vocab::{Algorithm, TokenType};
use bitworth_quant::{Checkpoint, Recipe};
use serde_json::Value;
use tempfile::TempDir;

use crate::common;

/// The committed fixtures and every golden model.
fn models() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf");
    let mut models = Vec::new();
    for folder in [Some(fixtures), common::shared("oracle/models")].into_iter().flatten() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let dir = entry.unwrap().path();
            let name = dir.file_name().unwrap().to_str().unwrap();
            if common::is_refused(name) {
                continue;
            }
            if dir.join("golden.json").exists() && dir.join("model.safetensors").exists() {
                models.push(dir);
            }
        }
    }
    models.sort();
    models
}

/// A model's tokenizers: the directory's, and the one of the GGUF made of it.
fn tokenizers(model: &Path, work: &TempDir) -> Vec<(String, Tokenizer)> {
    let checkpoint = Checkpoint::open(model).unwrap();
    let path = work.path().join(format!("{}.gguf", model.file_name().unwrap().to_str().unwrap()));
    let from_gguf = Tokenizer::new(&to_gguf(&checkpoint, &path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    vec![(model.display().to_string(), Tokenizer::new(&checkpoint).unwrap()), (path.display().to_string(), from_gguf)]
}

fn to_gguf(checkpoint: &Checkpoint, path: &Path) -> Checkpoint {
    let output = Output::of(checkpoint, &Recipe::find("f32").unwrap(), &PlanOptions::default(), path).unwrap();
    quantize(checkpoint, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    Checkpoint::open(path).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn directory_and_gguf_give_the_reference_ids() {
    let work = TempDir::new().unwrap();
    let models = models();
    let expected = if common::shared("oracle/models").is_some() { 43 } else { 1 };
    assert!(models.len() >= expected, "{}", models.len());
    for model in &models {
        let golden: Value = serde_json::from_slice(&std::fs::read(model.join("golden.json")).unwrap()).unwrap();
        let cases = golden["tokenizer_cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for (name, tokenizer) in tokenizers(model, &work) {
            for case in cases {
                let text = case["text"].as_str().unwrap();
                let what = format!("{name}: {text:?}");
                assert_eq!(tokenizer.encode(text, SpecialText::Parse).unwrap(), ids(&case["ids"]), "{what}");
                assert_eq!(tokenizer.encode_prompt(text, SpecialText::Parse).unwrap(), ids(&case["with_special"]), "{what}");
                let plain = tokenizer.encode(text, SpecialText::Plain).unwrap();
                assert_eq!(tokenizer.decode(&plain).unwrap(), text, "{what}");
            }
        }
    }
}

/// A token that only `tokenizer.json` calls special is kept whole by the directory and by the GGUF made of it, though its type
/// in the file stays that of an ordinary one, as llama.cpp's converter has it.
#[test]
fn a_token_that_only_the_json_calls_special_is_kept_whole() {
    for name in ["gemma2", "gemma3_text", "llama2_mha"] {
        let Some(model) = common::shared(&format!("oracle/models/{name}")) else { return };
        let work = TempDir::new().unwrap();
        let dir = work.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        for entry in std::fs::read_dir(model).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        let path = dir.join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let added: HashSet<u64> = json["added_tokens"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect();
        // The last ordinary token, whatever it is, becomes special.
        let vocab = json["model"]["vocab"].as_object().unwrap();
        let ordinary = vocab.iter().filter(|(text, id)| {
            text.len() > 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) && !added.contains(&id.as_u64().unwrap())
        });
        let (text, id) =
            ordinary.max_by_key(|(_, id)| id.as_u64()).map(|(text, id)| (text.clone(), id.as_u64().unwrap())).unwrap();
        let check = |json: &mut Value, content: &str| {
            let token = serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true});
            let added = json["added_tokens"].as_array_mut().unwrap();
            added.retain(|token| token["id"] != id);
            added.push(token);
            std::fs::write(&path, json.to_string()).unwrap();
            let checkpoint = Checkpoint::open(&dir).unwrap();
            assert_eq!(checkpoint.vocab().unwrap().types[id as usize], TokenType::Normal, "{name}");
            let said = format!("before{content}behind {content} {text}");
            let tokenizers = tokenizers(&dir, &work);
            let found: Vec<Vec<u32>> =
                tokenizers.iter().map(|(_, tokenizer)| tokenizer.encode(&said, SpecialText::Parse).unwrap()).collect();
            let count = found[0].iter().filter(|&&found| u64::from(found) == id).count();
            assert_eq!(count, said.matches(content).count(), "{name}: {content} in {:?}", found[0]);
            assert_eq!(found[0], found[1], "{name}: {content}");
        };
        check(&mut json, &text);
        // And with a text that tokenizer.model does not know, whose own piece is no token any more.
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        vocab.remove(&text);
        vocab.insert("<turn_begin>".into(), id.into());
        let parts = |merge: &Value| match merge {
            Value::String(both) => both.split(' ').map(str::to_owned).collect::<Vec<_>>(),
            pair => [0, 1].map(|i| pair[i].as_str().unwrap().to_owned()).to_vec(),
        };
        let uses = |merge: &Value| parts(merge).contains(&text) || parts(merge).concat() == text;
        json["model"]["merges"].as_array_mut().unwrap().retain(|merge| !uses(merge));
        check(&mut json, "<turn_begin>");
    }
}

/// Texts that are the same on every machine.
struct Random(SplitMix64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// A text of the pieces that tokenizers stumble over; `special` are the texts of a vocabulary's special tokens.
    fn text(&mut self, special: &[&str]) -> String {
        const WORDS: &[&str] =
            &["the", "Wörter", "straße", "ΑΒγ", "привет", "İstanbul", "iPhone", "x", "CamelCase", "नमस्ते", "สวัสดี", "שלום"];
        const ENDINGS: &[&str] = &["'s", "'S", "'LL", "'re", "'ſ", "'", "’s", "'d", "'VE"];
        const BLANKS: &[&str] =
            &[" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u{a0}", "\u{3000}", "\u{85}", "\u{200b}", "\u{2028}"];
        const CJK: &[&str] = &["我想在", "東京", "カタカナ", "ひらがな", "한국어", "，。", "龥", "ｱｲｳ"];
        const MARKS: &[&str] = &[
            "e\u{301}",
            "o\u{308}\u{323}",
            "\u{301}",
            "🦙",
            "👩\u{200d}💻",
            "🏳\u{fe0f}\u{200d}🌈",
            "🇩🇪",
            "\0",
            "\u{1b}",
            "\u{feff}",
            "\u{fffd}",
        ];
        const PUNCTUATION: &[&str] =
            &["...", "!?", "/*", "//", "<|", "|>", "&&", "$", "€", "«", "`", "~", "_", "\\n", "(", "…", "<0x0A>", "£½"];
        let mut text = String::new();
        for _ in 0..1 + self.below(12) {
            match self.below(9) {
                0 => text += self.of(WORDS),
                1 => text += self.of(ENDINGS),
                2 | 3 => text += self.of(BLANKS),
                4 => text += self.of(CJK),
                5 => text += self.of(MARKS),
                6 => text += self.of(PUNCTUATION),
                7 => (0..1 + self.below(9)).for_each(|_| text += self.of(&["0", "1", "3", "9", "٣", "५", "²", "Ⅷ"])),
                _ if self.below(2) == 0 && !special.is_empty() => text += self.of(special),
                _ => text.extend(char::from_u32(self.below(0x1_1000) as u32)),
            }
        }
        text
    }
}

#[test]
fn directory_and_gguf_agree_on_unusual_texts() {
    let work = TempDir::new().unwrap();
    let mut seen = HashSet::new();
    for model in models().iter() {
        if !seen.insert(std::fs::read(model.join("tokenizer.json")).unwrap()) {
            continue;
        }
        let checkpoint = Checkpoint::open(model).unwrap();
        let vocab = checkpoint.vocab().unwrap();
        let special: Vec<&str> = vocab
            .types
            .iter()
            .zip(&vocab.tokens)
            .filter(|(t, _)| **t == TokenType::Control)
            .map(|(_, token)| token.as_str())
            .collect();
        let sentencepiece = matches!(vocab.algorithm, Algorithm::SentencePiece { .. });
        let [(name, a), (_, b)] = &tokenizers(model, &work)[..] else { panic!() };
        let mut random = Random(SplitMix64::new(0));
        for _ in 0..200 {
            let text = random.text(&special);
            for mode in [SpecialText::Parse, SpecialText::Plain] {
                let ids = a.encode(&text, mode).unwrap();
                assert_eq!(ids, b.encode(&text, mode).unwrap(), "{name}, {mode:?}: {text:?}");
                assert_eq!(a.decode(&ids).unwrap(), b.decode(&ids).unwrap(), "{name}, {mode:?}: {text:?}");
                // SentencePiece's sign for a space is all that is lost of a text.
                if mode == SpecialText::Plain && !(sentencepiece && text.contains('▁')) {
                    assert_eq!(a.decode(&ids).unwrap(), text, "{name}");
                }
            }
        }
    }
    assert!(!seen.is_empty());
}

/// A context of several unusual texts and ordinary words, and what follows it: the same as both as one text.
#[test]
fn what_follows_a_context_is_tokenized_as_with_all_of_it() {
    let work = TempDir::new().unwrap();
    let (mut seen, mut shortened, mut reused) = (HashSet::new(), 0, 0);
    for model in models().iter() {
        if !seen.insert(std::fs::read(model.join("tokenizer.json")).unwrap()) {
            continue;
        }
        let checkpoint = Checkpoint::open(model).unwrap();
        let vocab = checkpoint.vocab().unwrap();
        let special: Vec<&str> =
            vocab.types.iter().zip(&vocab.tokens).filter(|(t, _)| **t == TokenType::Control).map(|(_, t)| t.as_str()).collect();
        let mut random = Random(SplitMix64::new(1));
        for (name, tokenizer) in tokenizers(model, &work) {
            let example = |_| format!("{} Question: who is it?\nAnswer: the miller. ", random.text(&special));
            let stem: String = (0..8).map(example).collect();
            let modes = [SpecialText::Parse, SpecialText::Plain];
            let mut heads = modes.map(|mode| (mode, Heads::new(&tokenizer, mode)));
            for _ in 0..30 {
                // Behind all of the same examples, some of them, or none.
                let known = [stem.len(), stem.len(), random.below(stem.len()), 0][random.below(4)];
                let known = (0..=known).rev().find(|&at| stem.is_char_boundary(at)).unwrap();
                let mut context = stem[..known].to_owned();
                for _ in 0..random.below(6) {
                    context += &random.text(&special);
                    context +=
                        random.of(&[" Question: who is it? The answer is", "\n\n", " 12345678901234567890123456789", " ", ""]);
                }
                let next = random.text(&special);
                for (mode, heads) in &mut heads {
                    let (mode, head) = (*mode, heads.next(&context).unwrap());
                    assert_eq!(head.ids, tokenizer.encode(&context, mode).unwrap(), "{name}, {mode:?}: {context:?}");
                    shortened += usize::from(head.is_shortened());
                    for next in [next.as_str(), " A", "7", " ", "\u{301}x", ""] {
                        let found = tokenizer.encode_behind((&head, &context), next, mode).unwrap();
                        let whole = tokenizer.encode(&format!("{context}{next}"), mode).unwrap();
                        assert_eq!(found, whole, "{name}, {mode:?}: {context:?} and {next:?}");
                    }
                }
            }
            reused += heads.iter().map(|(_, heads)| heads.reused()).sum::<usize>();
        }
    }
    assert!(reused > 100, "a known beginning was taken {reused} times");
    assert!(shortened > 100, "the short way was taken {shortened} times");
}

#[test]
fn the_demo_gguf_tokenizes_every_demo_text_as_the_directory() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let checkpoint = Checkpoint::open(&world.join("demo-model")).unwrap();
    let gguf = to_gguf(&checkpoint, &dir.path().join("demo.gguf"));
    let (a, b) = (Tokenizer::new(&checkpoint).unwrap(), Tokenizer::new(&gguf).unwrap());
    for file in ["data/eval.txt", "data/calib.txt"] {
        let text = std::fs::read_to_string(world.join(file)).unwrap();
        for special in [SpecialText::Parse, SpecialText::Plain] {
            let ids = a.encode(&text, special).unwrap();
            assert_eq!(ids, b.encode(&text, special).unwrap(), "{file}");
            assert_eq!(a.decode(&ids).unwrap(), text, "{file}");
        }
    }
}

#[test]
fn special_text_is_a_token_or_plain_text_as_asked() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let tokenizer = Tokenizer::new(&Checkpoint::open(&world.join("demo-model")).unwrap()).unwrap();
    let text = "<|endoftext|>";
    assert_eq!(tokenizer.encode(text, SpecialText::Parse).unwrap(), [0]);
    let plain = tokenizer.encode(text, SpecialText::Plain).unwrap();
    assert!(plain.len() > 1 && !plain.contains(&0), "{plain:?}");
}

#[test]
fn ends_count_the_bytes_of_the_text() {
    let dir = TempDir::new().unwrap();
    let world = bitworth::eval::demo::materialize(dir.path()).unwrap();
    let tokenizer = Tokenizer::new(&Checkpoint::open(&world.join("demo-model")).unwrap()).unwrap();
    let text = "The fläg of Podwick 🏁 is golden.\n";
    let (ids, ends) = tokenizer.encode_with_ends(text, SpecialText::Plain).unwrap();
    assert_eq!(ids, tokenizer.encode(text, SpecialText::Plain).unwrap());
    assert!(ends.is_sorted());
    assert_eq!(ends.last(), Some(&text.len()));
}
