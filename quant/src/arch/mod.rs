//! Architectures as data: one file and one row of [`ARCHITECTURES`] each. A row serves conversion (names, shapes and layout
//! of the tensors, metadata keys) and the engine (which kind of norm, rope and MLP its one forward function uses).
//!
//! Absent: code that runs a model, and any `if arch == ...` elsewhere. What differs between architectures is a field here.

mod apertus;
mod biases;
mod class;
mod cohere2;
mod command_r;
mod deepseek2;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod hunyuan_dense;
mod hunyuan_moe;
mod lfm2;
mod lfm2moe;
mod llama;
mod llama4;
mod mamba2;
mod minimax_m2;
mod mistral3;
mod muse_glimmer;
mod nemotron_h;
mod nemotron_h_moe;
mod olmo2;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen35;
mod qwen35moe;
mod qwen3moe;
mod qwen3next;
mod qwen3vl;
mod qwen3vlmoe;
mod role;
mod rule;
mod seed_oss;
mod smollm3;
mod spec;
mod stablelm;
mod starcoder2;
mod traits;

use crate::{Error, Result};

pub(crate) use biases::matrix_of;
use class::CLASS;
pub use class::{ExpertGroups, HeadDim, HfClass, HfRouting, HfWindow, NormEpsilon, Normalizes};
pub(crate) use role::{Numbers, match_pattern};
pub use role::{ROLES, Role};
pub use rule::{Dim, Factor, Presence, TensorRule, Tiled, Transform};
use spec::COMMON;
pub(crate) use spec::neutral;
pub use spec::{ArchSpec, MtpBlocks, NeutralKey, Spared, Stated};
use traits::BLOCK;
pub use traits::{
    AttentionGate, AttentionScale, BlockTraits, EmbeddingScale, Gating, HeadNorms, LocalRope, LogitScale, LongRope, Mlp, Norm,
    QueryTemperature, Recurs, Residual, RopePairing, Rotated, Shapes, Weighs, Windowed, YarnLog,
};

/// Every architecture that can be read.
pub const ARCHITECTURES: &[&ArchSpec] = &[
    &llama::LLAMA,
    &apertus::APERTUS,
    &cohere2::COHERE2,
    &command_r::COMMAND_R,
    &deepseek2::DEEPSEEK2,
    &ernie4_5::ERNIE4_5,
    &ernie4_5_moe::ERNIE4_5_MOE,
    &exaone4::EXAONE4,
    &falcon_h1::FALCON_H1,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &gemma4::GEMMA4,
    &glm4::GLM4,
    &glm4moe::GLM4MOE,
    &gpt2::GPT2,
    &gpt_oss::GPT_OSS,
    &granite::GRANITE,
    &granite_hybrid::GRANITE_HYBRID,
    &hunyuan_dense::HUNYUAN_DENSE,
    &hunyuan_moe::HUNYUAN_MOE,
    &lfm2::LFM2,
    &lfm2moe::LFM2MOE,
    &llama4::LLAMA4,
    &mamba2::MAMBA2,
    &minimax_m2::MINIMAX_M2,
    &mistral3::MISTRAL3,
    &muse_glimmer::MUSE_GLIMMER,
    &nemotron_h::NEMOTRON_H,
    &nemotron_h_moe::NEMOTRON_H_MOE,
    &olmo2::OLMO2,
    &phi3::PHI3,
    &phimoe::PHIMOE,
    &qwen2::QWEN2,
    &qwen2moe::QWEN2MOE,
    &qwen3::QWEN3,
    &qwen35::QWEN35,
    &qwen35moe::QWEN35MOE,
    &qwen3moe::QWEN3MOE,
    &qwen3next::QWEN3NEXT,
    &qwen3vl::QWEN3VL,
    &qwen3vlmoe::QWEN3VLMOE,
    &seed_oss::SEED_OSS,
    &smollm3::SMOLLM3,
    &stablelm::STABLELM,
    &starcoder2::STARCODER2,
];

/// The architecture of a class name in `config.json`, and the class. Of a class that wraps language models of several kinds,
/// `text_type` says which; of one whose models are of several architectures, `has_key`, which is asked for a key.
///
/// # Errors
/// [`Error::Unsupported`]; [`Error::Unknown`] with all known class names, or with all kinds of language model that the class can
/// wrap.
pub fn find_hf(
    class: &str,
    text_type: Option<&str>,
    has_key: impl Fn(&str) -> bool,
) -> Result<(&'static ArchSpec, &'static HfClass)> {
    let class = RENAMED.iter().find(|(theirs, _)| *theirs == class).map_or(class, |(_, ours)| *ours);
    let classes = || ARCHITECTURES.iter().flat_map(|arch| arch.hf.iter().map(|hf| (*arch, hf)));
    let named: Vec<_> = classes().filter(|(_, hf)| hf.name == class).collect();
    let fits = |hf: &HfClass| hf.text_types.is_empty() || text_type.is_some_and(|kind| hf.text_types.contains(&kind));
    let told = |hf: &HfClass| hf.told_by.is_some_and(&has_key);
    let found = named.iter().find(|(_, hf)| fits(hf) && told(hf));
    match found.or_else(|| named.iter().find(|(_, hf)| fits(hf) && hf.told_by.is_none())) {
        Some(&found) => Ok(found),
        None if named.is_empty() => {
            not_computed(class)?;
            Err(Error::unknown("architecture", class, classes().map(|(_, hf)| hf.name)))
        }
        None => {
            let known = named.iter().flat_map(|(_, hf)| hf.text_types.iter().copied());
            Err(Error::unknown(TEXT_KIND, text_type.unwrap_or_default(), known))
        }
    }
}

/// What errors call the `model_type` of a `text_config`.
pub(crate) const TEXT_KIND: &str = "kind of text_config";

/// Classes that transformers 5 calls otherwise than published models do.
const RENAMED: &[(&str, &str)] = &[("PhimoeForCausalLM", "PhiMoEForCausalLM")];

/// Architectures that are known and not computed: what GGUF files and classes call them, and what they need.
const NOT_COMPUTED: &[(&[&str], &str)] = &[(
    &["gemma3n", "Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"],
    "it needs several residual streams side by side (AltUp), a path of low rank beside attention (LAuReL) and feed-forward \
     networks that cut most of their numbers to 0",
)];

fn not_computed(name: &str) -> Result<()> {
    match NOT_COMPUTED.iter().find(|(names, _)| names.contains(&name)) {
        Some(&(_, what)) => Err(Error::unsupported("architecture", name, what)),
        None => Ok(()),
    }
}

/// The architecture of `general.architecture` in a GGUF file.
///
/// # Errors
/// [`Error::Unknown`] with all known names; [`Error::Unsupported`].
pub fn find_gguf(name: &str) -> Result<&'static ArchSpec> {
    not_computed(name)?;
    ARCHITECTURES
        .iter()
        .find(|arch| arch.name == name)
        .copied()
        .ok_or_else(|| Error::unknown("architecture", name, ARCHITECTURES.iter().map(|arch| arch.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_name_finds_its_own_row() {
        for arch in ARCHITECTURES {
            assert_eq!(find_gguf(arch.name).unwrap().name, arch.name);
            assert!(!arch.hf.is_empty(), "{}", arch.name);
            for class in arch.hf {
                let told = |key: &str| class.told_by == Some(key);
                let found = find_hf(class.name, class.text_types.first().copied(), told).unwrap();
                assert_eq!((found.0.name, found.1.text_types), (arch.name, class.text_types));
            }
        }
    }

    #[test]
    fn an_unknown_architecture_is_refused_with_the_known_ones() {
        let error = find_hf("MambaForCausalLM", None, |_| false).unwrap_err().to_string();
        assert!(error.contains("MambaForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
        for name in ["Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"] {
            let error = find_hf(name, Some("gemma3n_text"), |_| false).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("AltUp") && !error.contains("known:"), "{error}");
        }
        assert!(find_gguf("gemma3n").unwrap_err().to_string().contains("AltUp"));
        let error = find_gguf("mamba").unwrap_err().to_string();
        assert!(error.contains("\"mamba\"") && error.contains("known: llama"), "{error}");
    }

    #[test]
    fn defaults_are_json() {
        for (key, text) in ARCHITECTURES.iter().flat_map(|arch| arch.hf).flat_map(|class| class.defaults) {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{key}: {text}");
        }
    }

    #[test]
    fn both_names_of_a_tensor_lead_to_one_rule() {
        for arch in ARCHITECTURES {
            for rule in arch.tensors {
                let (by_gguf, _) = arch.match_gguf(&rule.role.gguf_name(3)).unwrap();
                assert_eq!(by_gguf.role, rule.role);
                if rule.hf.is_some() {
                    let name = rule.hf_part(3, 5);
                    let mut found = arch.match_hf(&name).filter(|(_, found, _)| found.role == rule.role);
                    let (_, _, numbers) = found.next().unwrap();
                    assert_eq!(numbers.block.is_some(), rule.role.per_block(), "{name}");
                    assert_eq!(numbers.part.is_some(), matches!(rule.transform, Transform::Stack(_)), "{name}");
                    assert!(found.next().is_none(), "{name} leads to two rules of one role");
                }
            }
        }
    }

    #[test]
    fn a_file_tensor_that_is_split_is_split_by_every_rule_it_serves() {
        for arch in ARCHITECTURES {
            for rule in arch.tensors.iter().filter(|rule| rule.hf.is_some()) {
                // A block has experts or none.
                let apart = |other: &TensorRule| {
                    let pair = [rule.presence, other.presence];
                    pair.contains(&Presence::Dense) && pair.contains(&Presence::Experts)
                };
                let served = arch.tensors.iter().filter(|other| other.hf == rule.hf && !apart(other)).count();
                let split = !matches!(rule.transform, Transform::Same | Transform::AddOne | Transform::Stack(_));
                assert!(served == 1 || split, "{}: {:?}", arch.name, rule.hf);
            }
        }
    }
}
