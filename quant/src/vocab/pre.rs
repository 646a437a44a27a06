//! Pre-tokenizers: how text is cut before byte-pair merging. One table says for each what llama.cpp calls it, how it looks
//! in a `tokenizer.json`, and so how to recognize it and how to build it again.
//!
//! llama.cpp's converter tells pre-tokenizers apart by a hash over the token ids of a sample text, which knows published
//! vocabularies only. Here the structure decides: the regular expressions and the flag `ignore_merges`. Several names can
//! share a structure; the first name of the first row is the one given. Absent: normalizers, which no GGUF key of byte-level
//! BPE can hold.

use serde_json::{Map, Value, json};

/// A pre-tokenizer.
#[derive(Debug)]
pub struct PreTokenizer {
    /// llama.cpp's names for it (`src/llama-vocab.cpp`, b11434); the first is the one we write.
    pub names: &'static [&'static str],
    /// What is done to the text, in order. Byte-level encoding follows.
    pub steps: &'static [Step<'static>],
    /// Whether a piece that is a token as it stands is taken without merging.
    pub ignore_merges: bool,
    /// Whether a begin-of-text token is added where a file does not say.
    pub add_bos: bool,
}

/// One step. Each cuts the pieces that the step before has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Every match of the expression becomes a piece, and so does what is between matches.
    Split(&'a str),
    /// Every digit becomes a piece.
    Digits,
    /// GPT-2's expression, which the `tokenizers` crate knows by itself.
    Gpt2,
}

const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Every pre-tokenizer that is known.
pub const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
        steps: &[Step::Split(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
    },
    PreTokenizer { names: &["glm4", "glm5"], steps: &[Step::Split(LLAMA3)], ignore_merges: true, add_bos: false },
    PreTokenizer {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe"],
        steps: &[Step::Split(LLAMA3)],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
        ],
        steps: &[Step::Gpt2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        steps: &[Step::Digits, Step::Gpt2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan", "solar-open", "grok-2"],
        steps: &[Step::Split(QWEN2)],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer { names: &["tekken"], steps: &[Step::Split(TEKKEN)], ignore_merges: true, add_bos: true },
    PreTokenizer { names: &["gpt-4o", "llama4", "kanana2"], steps: &[Step::Split(GPT4O)], ignore_merges: false, add_bos: false },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense"],
        steps: &[Step::Split(r"\p{N}{1,3}"), Step::Split("[一-龥぀-ゟ゠-ヿ]+"), Step::Split(DEEPSEEK3)],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["default"],
        steps: &[Step::Split(r"[\p{P}\$\+<=>\^~\|]+"), Step::Gpt2, Step::Split(r"\p{N}+"), Step::Split("[0-9][0-9][0-9]")],
        ignore_merges: false,
        add_bos: false,
    },
];

/// The pre-tokenizer of a name in `tokenizer.ggml.pre`.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PRE_TOKENIZERS.iter().flat_map(|pre| pre.names.iter().copied())
}

/// llama.cpp's name for the `pre_tokenizer` of a `tokenizer.json`.
///
/// # Errors
/// What about its structure is not known.
pub(super) fn recognize(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static str, String> {
    let mut parts = Vec::new();
    flatten(pre_tokenizer, &mut parts)?;
    let mut steps = Vec::new();
    let mut byte_level = false;
    for part in parts {
        if byte_level {
            return Err("byte-level encoding is not its last step".to_owned());
        }
        match read_step(part)? {
            Read::Step(step) => steps.push(step),
            Read::ByteLevel { regex } => {
                byte_level = true;
                steps.extend(regex.then_some(Step::Gpt2));
            }
        }
    }
    if !byte_level {
        return Err("it has no byte-level encoding".to_owned());
    }
    PRE_TOKENIZERS
        .iter()
        .find(|pre| pre.steps == steps.as_slice() && pre.ignore_merges == ignore_merges)
        .map(|pre| pre.names[0])
        .ok_or_else(|| format!("its steps {steps:?} with ignore_merges {ignore_merges} are none of: {}", first_names()))
}

fn first_names() -> String {
    PRE_TOKENIZERS.iter().map(|pre| pre.names[0]).collect::<Vec<_>>().join(", ")
}

/// A sequence's members, however nested.
fn flatten<'a>(value: &'a Value, parts: &mut Vec<&'a Map<String, Value>>) -> Result<(), String> {
    let object = value.as_object().ok_or("it is missing")?;
    if object.get("type").and_then(Value::as_str) != Some("Sequence") {
        parts.push(object);
        return Ok(());
    }
    let members = object.get("pretokenizers").and_then(Value::as_array).ok_or("a Sequence has no pretokenizers")?;
    members.iter().try_for_each(|member| flatten(member, parts))
}

enum Read<'a> {
    Step(Step<'a>),
    ByteLevel { regex: bool },
}

fn read_step(part: &Map<String, Value>) -> Result<Read<'_>, String> {
    let flag = |name, default| part.get(name).and_then(Value::as_bool).unwrap_or(default);
    match part.get("type").and_then(Value::as_str) {
        Some("ByteLevel") if flag("add_prefix_space", true) => Err("ByteLevel with add_prefix_space is not supported".to_owned()),
        Some("ByteLevel") => Ok(Read::ByteLevel { regex: flag("use_regex", true) }),
        Some("Digits") if flag("individual_digits", false) => Ok(Read::Step(Step::Digits)),
        Some("Split") if part.get("behavior").and_then(Value::as_str) == Some("Isolated") && !flag("invert", false) => {
            let regex = part.get("pattern").and_then(|p| p.get("Regex")).and_then(Value::as_str);
            regex.map(|r| Read::Step(Step::Split(r))).ok_or_else(|| "a Split has no Regex".to_owned())
        }
        Some("Split") => Err("a Split that is inverted or not Isolated is not supported".to_owned()),
        Some(other) => Err(format!("{other} is not supported")),
        None => Err("a step has no type".to_owned()),
    }
}

impl PreTokenizer {
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn to_json(&self) -> Value {
        let byte_level =
            |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        // GPT-2's expression and the encoding are one step where nothing stands between them.
        let (last, before) = match self.steps.split_last() {
            Some((Step::Gpt2, before)) => (byte_level(true), before),
            _ => (byte_level(false), self.steps),
        };
        let mut parts: Vec<Value> = before
            .iter()
            .map(|step| match step {
                Step::Split(regex) => split(regex),
                Step::Digits => json!({"type": "Digits", "individual_digits": true}),
                Step::Gpt2 => split(GPT2),
            })
            .collect();
        if parts.is_empty() {
            return last;
        }
        parts.push(last);
        json!({"type": "Sequence", "pretokenizers": parts})
    }
}

/// GPT-2's expression, for where other steps follow it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let all: Vec<_> = names().collect();
        for name in &all {
            assert_eq!(all.iter().filter(|n| n == &name).count(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_built_is_recognized_as_the_first_row_of_its_structure() {
        // Here GPT-2's expression stands before other steps and is spelled out, which no published tokenizer.json does.
        for pre in PRE_TOKENIZERS.iter().filter(|pre| pre.names != ["default"]) {
            let expected =
                PRE_TOKENIZERS.iter().find(|p| p.steps == pre.steps && p.ignore_merges == pre.ignore_merges).map(|p| p.names[0]);
            assert_eq!(recognize(&pre.to_json(), pre.ignore_merges).ok(), expected);
        }
    }

    fn check_refused(pre_tokenizer: Value, what: &str) {
        let error = recognize(&pre_tokenizer, false).unwrap_err();
        assert!(error.contains(what), "{pre_tokenizer}: {error}");
    }

    #[test]
    fn an_unknown_structure_is_refused_with_its_reason() {
        let byte_level = || json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        check_refused(Value::Null, "missing");
        check_refused(json!({"type": "Whitespace"}), "Whitespace is not supported");
        check_refused(json!({"type": "Sequence"}), "no pretokenizers");
        check_refused(json!({"type": "Digits", "individual_digits": true}), "no byte-level");
        check_refused(json!({"type": "Digits", "individual_digits": false}), "Digits is not supported");
        check_refused(json!({"type": "ByteLevel", "add_prefix_space": true}), "add_prefix_space");
        check_refused(
            json!({"type": "Sequence", "pretokenizers": [byte_level(), {"type": "Digits", "individual_digits": true}]}),
            "last step",
        );
        let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
        check_refused(json!({"type": "Sequence", "pretokenizers": [split, byte_level()]}), "none of: llama-bpe");
        let removed = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Removed", "invert": true});
        check_refused(json!({"type": "Sequence", "pretokenizers": [removed, byte_level()]}), "not Isolated");
    }
}
