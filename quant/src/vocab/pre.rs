//! Pre-tokenizers: how text is cut before byte-pair merging. One table says for each name that llama.cpp has for one how to
//! build it. Absent: telling which of them a `tokenizer.json` has (see `recognize`), and normalizers, which no GGUF key of
//! byte-level BPE can hold.

use serde_json::{Value, json};

/// A pre-tokenizer.
#[derive(Debug)]
pub struct PreTokenizer {
    /// llama.cpp's names for it (`src/llama-vocab.cpp`, b11434).
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

pub(super) const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN35: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const YOUTU_SCRIPTS: &str = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const YOUTU_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Han apart from other letters, which otherwise are cut as GPT-4o's are.
const KIMI_K2: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Numbers in groups of three, the first group shorter.
const AFMOE_NUMBERS: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";
const AFMOE_SCRIPTS: &str =
    "[一-鿿㐀-䶿豈-\u{faff}぀-ゟ゠-ヿ･-ﾟ⼀-\u{2fdf}เ-\u{e7f}\u{e80}-\u{eff}ក-\u{17ff}က-႟ꩠ-ꩿꧠ-\u{a9ff}가-\u{d7af}ᄀ-ᇿ]+";
const SPARK_WORDS: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
const DEEPSEEK3_WORDS: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Numbers, Chinese and Japanese, everything else.
pub(super) const DEEPSEEK3: &[Step] =
    &[Step::Split(r"\p{N}{1,3}"), Step::Split("[一-龥぀-ゟ゠-ヿ]+"), Step::Split(DEEPSEEK3_WORDS)];
/// Letters of scripts with upper and lower case.
pub(super) const DEEPSEEK_LETTERS: Step = Step::Split(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
);
/// Chinese and Korean.
pub(super) const DEEPSEEK_HAN: Step = Step::Split("[一-龥ࠀ-一가-\u{d7ff}]+");
pub(super) const DEEPSEEK_PUNCTUATION: Step = Step::Split("\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+");
pub(super) const DEEPSEEK_LLM: &[Step] =
    &[Step::Split(r"[\r\n]"), DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, Step::Split(r"\s+$"), DEEPSEEK_HAN, Step::Split(r"\p{N}+")];
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// Every pre-tokenizer that is known.
pub const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        ignore_merges: true,
        add_bos: true,
        ..steps(&[Step::Split(LLAMA3)])
    },
    PreTokenizer { names: &["glm4", "glm5"], ignore_merges: true, ..steps(&[Step::Split(LLAMA3)]) },
    PreTokenizer { names: &["smaug-bpe", "dbrx", "chatglm-bpe"], ..steps(&[Step::Split(LLAMA3)]) },
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
        ..steps(&[Step::Gpt2])
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        ..steps(&[Step::Digits, Step::Gpt2])
    },
    PreTokenizer {
        names: &["qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open", "grok-2"],
        ..steps(&[Step::Split(QWEN2)])
    },
    PreTokenizer { names: &["tekken"], ignore_merges: true, add_bos: true, ..steps(&[Step::Split(TEKKEN)]) },
    PreTokenizer { names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], ..steps(&[Step::Split(GPT4O)]) },
    PreTokenizer { names: &["tiny_aya", "cohere2moe"], ..steps(&[Step::Split(r"\d{1,3}(?=(?:\d{3})*\b)"), Step::Split(GPT4O)]) },
    PreTokenizer { names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], ..steps(DEEPSEEK3) },
    PreTokenizer { names: &["qwen35"], ..steps(&[Step::Split(QWEN35)]) },
    PreTokenizer { names: &["seed-coder"], ..steps(&[Step::Split(SEED_CODER)]) },
    PreTokenizer { names: &["bailingmoe", "bailingmoe2", "llada-moe"], ..steps(&[Step::Split(BAILING)]) },
    PreTokenizer { names: &["jais-2"], ..steps(&[Step::Split(JAIS2)]) },
    PreTokenizer { names: &["ufakzeka"], ..steps(&[Step::Split(UFAKZEKA)]) },
    PreTokenizer { names: &["laguna"], ..steps(&[Step::Split(r"[^\n]+|[\n]+"), Step::Split(QWEN2)]) },
    PreTokenizer { names: &["exaone-moe"], ..steps(&[Step::Split(EXAONE_MOE)]) },
    PreTokenizer { names: &["minicpm5"], ignore_merges: true, ..steps(&[Step::Split(r"\p{N}{1,3}"), Step::Split(MINICPM5)]) },
    PreTokenizer { names: &["youtu"], ignore_merges: true, ..steps(&[Step::Split(YOUTU_SCRIPTS), Step::Split(YOUTU_WORDS)]) },
    PreTokenizer { names: &["kimi-k2"], ..steps(&[Step::Split(KIMI_K2)]) },
    PreTokenizer { names: &["superbpe"], ..steps(&[Step::Split(r"\p{N}+"), Step::Split(r"(?=(\d{3})+(?!\d))")]) },
    PreTokenizer {
        names: &["afmoe"],
        ..steps(&[Step::Split(AFMOE_NUMBERS), Step::Split(AFMOE_SCRIPTS), Step::Split(DEEPSEEK3_WORDS)])
    },
    PreTokenizer {
        names: &["spark2_5"],
        ..steps(&[Step::Split(r"\p{N}{1,3}"), Step::Split("[一-龥぀-ゟ゠-ヿ]+"), Step::Split(SPARK_WORDS), Step::Split(r"\p{N}")])
    },
    PreTokenizer { names: &["deepseek-llm"], ..steps(DEEPSEEK_LLM) },
    PreTokenizer {
        names: &["deepseek-coder"],
        ..steps(&[Step::Split(r"[\r\n]"), Step::Split(r"\s?\p{L}+"), Step::Split(r"\s?\p{P}+"), DEEPSEEK_HAN, Step::Digits])
    },
    PreTokenizer { names: &["bloom", "poro-chat", "gpt3-finnish"], ..steps(&[Step::Split(BLOOM)]) },
    PreTokenizer { names: &["viking"], ..steps(&[Step::Split(BLOOM), Step::Digits]) },
    PreTokenizer {
        names: &["falcon"],
        ..steps(&[Step::Split(r"[\p{P}\$\+<=>\^~\|`]+"), Step::Gpt2, Step::Split("[0-9][0-9][0-9]")])
    },
    PreTokenizer {
        names: &["default"],
        ..steps(&[Step::Split(r"[\p{P}\$\+<=>\^~\|]+"), Step::Gpt2, Step::Split(r"\p{N}+"), Step::Split("[0-9][0-9][0-9]")])
    },
];

const fn steps(steps: &'static [Step<'static>]) -> PreTokenizer {
    PreTokenizer { names: &[], steps, ignore_merges: false, add_bos: false }
}

/// The pre-tokenizer of a name in `tokenizer.ggml.pre`.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PRE_TOKENIZERS.iter().flat_map(|pre| pre.names.iter().copied())
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

    /// The pieces that a pre-tokenizer makes, before they are encoded.
    fn pieces(name: &str, text: &str) -> Vec<String> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};
        let built: tokenizers::PreTokenizerWrapper = serde_json::from_value(find(name).unwrap().to_json()).unwrap();
        let mut cut = PreTokenizedString::from(text);
        built.pre_tokenize(&mut cut).unwrap();
        let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (begin, end), _)| text[begin..end].to_owned()).collect()
    }

    #[test]
    fn every_pre_tokenizer_can_be_built_and_keeps_the_text() {
        let text = "I'LL pay 12345,67 €  to\r\n\n 東京's HTTPServer  ٣٤٥٦ \u{e9}e\u{301}!?\t x";
        for name in names() {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
        }
    }

    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        assert_eq!(pieces(name, text), expected, "{name}");
    }

    #[test]
    fn what_sets_the_expressions_apart() {
        check("llama-bpe", "12345 it'S", &["123", "45", " it", "'S"]);
        check("qwen2", "123 e\u{301}x", &["1", "2", "3", " e", "\u{301}x"]);
        check("qwen35", "12 e\u{301}x", &["1", "2", " e\u{301}x"]);
        check("gpt-4o", "HTTPServer's 1234", &["HTTPServer's", " ", "123", "4"]);
        check("tekken", "aB's 12", &["a", "B", "'s", " ", "1", "2"]);
        check("smollm", "a 12", &["a", " ", "1", "2"]);
        check("gpt-2", "a 12  b", &["a", " 12", " ", " b"]);
        check("seed-coder", "!\n1", &["!", "\n", "1"]);
        check("kimi-k2", "x東京 1234", &["x", "東京", " ", "123", "4"]);
        check("superbpe", "1234567 a b", &["1", "234", "567", " a b"]);
        check("afmoe", "12345 東京x", &["12", "345", " ", "東京", "x"]);
        check("tiny_aya", "12345", &["12", "345"]);
        check("laguna", "a \n\nb", &["a", " ", "\n\n", "b"]);
        check("deepseek-v3", "1234 x.y", &["123", "4", " x", ".y"]);
    }

    #[test]
    fn every_name_stands_once() {
        let all: Vec<_> = names().collect();
        for name in &all {
            assert_eq!(all.iter().filter(|n| n == &name).count(), 1, "{name}");
        }
    }
}
