//! Where llama.cpp's converter (b11434, `set_vocab` of each class under `conversion/`) looks for a model's vocabulary and
//! what it adds of its own, by class name in `config.json`. A class that is not listed has byte-level BPE in `tokenizer.json`
//! and nothing of its own.

use serde_json::Value as Json;

use super::input::TokenizerInput;
use super::key;
use crate::gguf::{Array, Metadata, Value};
use crate::json::read_json;

/// A kind of tokenizer file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// SentencePiece in `tokenizer.model`, with added tokens beside it.
    SentencePiece,
    /// The same, with added tokens taken as they are named, without the corrections made for Gemma.
    SentencePiecePhi3,
    /// SentencePiece turned into BPE with byte fallback in `tokenizer.json`.
    ByteFallback,
    /// The same with its merges (Gemma 4).
    ByteFallbackMerges,
    /// The same in the place of a `tokenizer.model` that transformers 5 did not save. The converter has no such way.
    ByteFallbackScored,
    /// Byte-level BPE in `tokenizer.json`.
    ByteLevel,
}

/// What a class has of its own.
#[derive(Debug)]
pub(super) struct ClassRule {
    /// Class names in `config.json` (`architectures[0]`).
    pub classes: &'static [&'static str],
    /// The files that are tried, in order.
    pub sources: &'static [Source],
    /// A `tokenizer_class` in `tokenizer_config.json` that means byte-level BPE, whatever `sources` say.
    pub byte_level_class: Option<&'static str>,
    /// The number of tokens is filled up to a multiple of this; `config.json` can say another one by this key.
    pub pad_to: (u32, Option<&'static str>),
    /// Whether `add_prefix_space` of `tokenizer_config.json` is written.
    pub space_prefix: bool,
    /// Special tokens by kind and text, where no file names one of that kind. The tokens must exist.
    pub special_tokens: &'static [(&'static str, &'static str)],
    /// Tokens that are shown though they are special, because a chat is read by them.
    pub visible: &'static [&'static str],
    /// Changes to the keys at the end, by the file that was read and the model.
    pub finish: fn(Source, &TokenizerInput, &mut Metadata),
}

const PLAIN: ClassRule = ClassRule {
    classes: &[],
    sources: &[Source::ByteLevel],
    byte_level_class: None,
    pad_to: (1, None),
    space_prefix: false,
    special_tokens: &[],
    visible: &[],
    finish: |_, _, _| {},
};

/// Every class that differs from [`PLAIN`].
const CLASS_RULES: &[ClassRule] = &[
    ClassRule {
        classes: &[
            "LlamaForCausalLM",
            "LLaMAForCausalLM",
            "MistralForCausalLM",
            "MixtralForCausalLM",
            "SmolLM3ForCausalLM",
            "GraniteForCausalLM",
            "GraniteMoeForCausalLM",
            "ArceeForCausalLM",
            "ApertusForCausalLM",
            "Ministral3ForCausalLM",
            "Mistral3ForConditionalGeneration",
        ],
        sources: &[Source::SentencePiece, Source::ByteFallback, Source::ByteLevel],
        space_prefix: true,
        finish: finish_llama,
        ..PLAIN
    },
    ClassRule {
        classes: &["Qwen2ForCausalLM", "Qwen3ForCausalLM", "DeepseekForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteLevel],
        ..PLAIN
    },
    ClassRule {
        classes: &["GemmaForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteFallbackScored],
        finish: |source, model, m| {
            // Meant for CodeGemma, written for all; its other tokens have no keys.
            m.set(key::EOT, Value::U32(107));
            no_space_prefix(source, model, m);
        },
        ..PLAIN
    },
    ClassRule {
        classes: &["Gemma2ForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteFallbackScored],
        finish: no_space_prefix,
        ..PLAIN
    },
    ClassRule {
        classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
        sources: &[Source::SentencePiece, Source::ByteFallbackScored, Source::ByteLevel],
        finish: no_space_prefix,
        ..PLAIN
    },
    ClassRule {
        classes: &["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"],
        sources: &[Source::ByteFallbackMerges],
        visible: &["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"],
        finish: |_, _, m| {
            m.set(key::ADD_SPACE_PREFIX, Value::Bool(false));
            m.set(key::ADD_BOS, Value::Bool(true));
        },
        ..PLAIN
    },
    ClassRule {
        classes: &["Phi3ForCausalLM", "PhiMoEForCausalLM"],
        // Of Phi 4, transformers 5 saves no class that says so.
        sources: &[Source::SentencePiecePhi3, Source::ByteFallbackScored, Source::ByteLevel],
        byte_level_class: Some("GPT2Tokenizer"),
        ..PLAIN
    },
    ClassRule {
        classes: &["Glm4ForCausalLM", "Glm4vForConditionalGeneration"],
        special_tokens: &[("eos", "<|endoftext|>"), ("eot", "<|user|>"), ("unk", "<|endoftext|>"), ("bos", "<|endoftext|>")],
        ..PLAIN
    },
    ClassRule {
        classes: &["Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM", "Glm4vMoeForConditionalGeneration"],
        special_tokens: &[("bos", "[gMASK]"), ("eot", "<|user|>"), ("unk", "<|endoftext|>"), ("eom", "<|observation|>")],
        ..PLAIN
    },
    ClassRule {
        classes: &["Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteFallbackScored],
        space_prefix: true,
        ..PLAIN
    },
    ClassRule {
        classes: &["Mamba2ForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteLevel],
        pad_to: (16, Some("pad_vocab_size_multiple")),
        ..PLAIN
    },
    ClassRule {
        classes: &["GraniteMoeHybridForCausalLM"],
        sources: &[Source::SentencePiece, Source::ByteLevel],
        pad_to: (8, None),
        ..PLAIN
    },
    ClassRule { classes: &["NemotronHForCausalLM"], pad_to: (8, None), ..PLAIN },
    ClassRule { classes: &["HunYuanDenseV1ForCausalLM"], finish: finish_hunyuan, ..PLAIN },
    ClassRule {
        classes: &["MuseGlimmerForConditionalGeneration"],
        finish: |_, _, m| {
            let Some(Value::Array(Array::String(tokens))) = m.get(key::TOKENS) else { return };
            if let Some(id) = tokens.iter().position(|token| token == "<|eot|>") {
                m.set(key::EOT, Value::U32(id as u32));
            }
        },
        ..PLAIN
    },
    // The converter overwrites what the published configurations say.
    ClassRule {
        classes: &["HunYuanMoEV1ForCausalLM"],
        finish: |_, model, m| {
            if model.vocab_size > 127_959 {
                m.set(key::BOS, Value::U32(127_959));
            }
        },
        ..PLAIN
    },
];

/// The rule for a class.
pub(super) fn find(class: &str) -> &'static ClassRule {
    CLASS_RULES.iter().find(|rule| rule.classes.contains(&class)).unwrap_or(&PLAIN)
}

/// The converter knows CodeLlama by its size, and small Granite models by theirs, which SmolLM2 shares.
fn finish_llama(_: Source, model: &TokenizerInput, m: &mut Metadata) {
    match model.vocab_size {
        32016 => m.set(key::EOT, Value::U32(32010)),
        49152 => m.set(key::ADD_BOS, Value::Bool(false)),
        _ => {}
    }
}

/// Gemma's SentencePiece models put no space before a text.
fn no_space_prefix(source: Source, _: &TokenizerInput, m: &mut Metadata) {
    if matches!(source, Source::SentencePiece | Source::ByteFallbackScored) {
        m.set(key::ADD_SPACE_PREFIX, Value::Bool(false));
    }
}

/// The first of several ends that Hunyuan's `generation_config.json` names ends a turn.
fn finish_hunyuan(_: Source, model: &TokenizerInput, m: &mut Metadata) {
    let id = |value: Option<&Json>| value.and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
    let Ok(Some(generation)) = read_json(&model.dir.join("generation_config.json")) else { return };
    if let Some(Json::Array(ends)) = generation.get("eos_token_id")
        && ends.len() > 1
        && let Some(eot) = id(ends.first())
    {
        m.set(key::EOT, Value::U32(eot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_stands_once() {
        let all: Vec<_> = CLASS_RULES.iter().flat_map(|rule| rule.classes).collect();
        for class in &all {
            assert_eq!(all.iter().filter(|c| c == &class).count(), 1, "{class}");
        }
    }

    #[test]
    fn sizes_that_the_converter_knows_change_the_keys_of_llama_alone() {
        for (class, size, expected) in [
            ("LlamaForCausalLM", 32016, vec![(key::EOT, Value::U32(32010))]),
            ("GraniteForCausalLM", 49152, vec![(key::ADD_BOS, Value::Bool(false))]),
            ("LlamaForCausalLM", 32000, vec![]),
            ("Starcoder2ForCausalLM", 49152, vec![]),
        ] {
            let mut m = Metadata::new();
            let config = serde_json::Map::new();
            let model = TokenizerInput { dir: std::path::Path::new("."), class, vocab_size: size, config: &config };
            (find(class).finish)(Source::ByteLevel, &model, &mut m);
            assert_eq!(m.iter().map(|(key, value)| (key, value.clone())).collect::<Vec<_>>(), expected, "{class}");
        }
    }
}
