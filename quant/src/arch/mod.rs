//! Architectures as data: one file and one row of [`ARCHITECTURES`] each. A row serves conversion (names, shapes and layout
//! of the tensors, metadata keys) and the engine (which kind of norm, rope and MLP its one forward function uses).
//!
//! Absent: code that runs a model, and any `if arch == ...` elsewhere. What differs between architectures is a field here.

mod cohere2;
mod command_r;
mod deepseek2;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod gpt2;
mod gpt_oss;
mod granite;
mod llama;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod role;
mod rule;
mod smollm3;
mod stablelm;
mod starcoder2;
mod traits;

use std::borrow::Cow;

use crate::convert::config::Config;
use crate::convert::{FileType, keys};
use crate::gguf::Metadata;
use crate::{Error, Result};

pub(crate) use phi3::original_context as longrope_original_context;
pub(crate) use role::{Numbers, fill, match_pattern};
pub use role::{ROLES, Role};
pub use rule::{Dim, Mxfp4Rows, Presence, TensorRule, Transform};
pub(crate) use traits::BLOCK;
pub use traits::{
    AttentionScale, BlockTraits, EmbeddingScale, Gating, LogitScale, Mlp, Norm, Residual, RopePairing, Rotated, Windowed,
};

/// Every architecture that can be read.
pub const ARCHITECTURES: &[&ArchSpec] = &[
    &llama::LLAMA,
    &cohere2::COHERE2,
    &command_r::COMMAND_R,
    &deepseek2::DEEPSEEK2,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &glm4::GLM4,
    &gpt2::GPT2,
    &gpt_oss::GPT_OSS,
    &granite::GRANITE,
    &olmo2::OLMO2,
    &phi3::PHI3,
    &qwen2::QWEN2,
    &qwen2moe::QWEN2MOE,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3MOE,
    &smollm3::SMOLLM3,
    &stablelm::STABLELM,
    &starcoder2::STARCODER2,
];

/// One architecture.
#[derive(Debug)]
pub struct ArchSpec {
    /// `general.architecture` in a GGUF file, and the prefix of its metadata keys.
    pub name: &'static str,
    /// The classes that `config.json` can name (`architectures[0]`).
    pub hf: &'static [HfClass],
    /// What files may leave out at the beginning of names (GPT-2's bare model is published without the name of its wrapper).
    pub prefix: &'static str,
    /// Every tensor the architecture can have. Those that come from one file tensor are written in this order.
    pub tensors: &'static [TensorRule],
    /// What its block computes.
    pub block: BlockTraits,
    /// Keys of `config.json` that would change the result and that only the values listed leave alone.
    pub neutral: &'static [NeutralKey],
    /// Keys that are refused for most architectures and that this one's conversion understands.
    pub understood: &'static [&'static str],
    /// Keys of `config.json` that say which optional tensors there are.
    pub stated: &'static [Stated],
    /// Tensors of the safetensors files of tied models that conversion leaves out, because another takes their place.
    pub dropped: &'static [&'static str],
    /// Adds the metadata keys that describe the computation, in the converter's order.
    pub keys: fn(&Config, FileType, &mut Metadata) -> Result<()>,
    /// Tensors that stand in no Hugging Face file and are computed from the configuration; they come first in the file, and
    /// so do the keys that are added with them.
    pub computed: fn(&Config, &mut Metadata) -> Result<Vec<ComputedTensor>>,
}

/// What most rows have in common.
const COMMON: ArchSpec = ArchSpec {
    name: "",
    hf: &[],
    prefix: "",
    tensors: &[],
    block: BLOCK,
    neutral: &[],
    understood: &[],
    stated: &[],
    dropped: &[],
    keys: keys::add_base,
    computed: |_, _| Ok(Vec::new()),
};

/// A class of transformers and what it takes for keys that `config.json` leaves out (transformers 5.23, `configuration_*.py`).
#[derive(Debug)]
pub struct HfClass {
    /// Its name in `architectures`.
    pub name: &'static str,
    /// The width of a head.
    pub head_dim: HeadDim,
    /// The keys that can hold the context length; the first that is there counts.
    pub context_keys: &'static [&'static str],
    /// The context length; `None` where the configuration must say it.
    pub context_length: Option<u32>,
    /// The width of the feed-forward network in multiples of the embedding; `None` where the configuration must say it.
    pub feed_forward_factor: Option<u32>,
    /// The key of the epsilon of normalization, and its value.
    pub norm: NormEpsilon,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base of the rotary frequencies of blocks with a sliding window, where it differs.
    pub local_rope_theta: Option<f64>,
    /// The part of a head that is rotated; `None` where it is always the whole.
    pub partial_rotary: Option<f64>,
    /// The kinds of rotary scaling that conversion carries over.
    pub scalings: &'static [&'static str],
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// Further keys that `config.json` can leave out, with what they mean then, as JSON text.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Which blocks have a sliding window, and how wide it is.
    pub window: HfWindow,
    /// The key whose value is one over the square of the factor on q.k, and its default; `None` where the width of a head
    /// gives that.
    pub attention_scalar: Option<(&'static str, f64)>,
    /// How experts are chosen.
    pub routing: HfRouting,
}

/// What most classes have in common.
const CLASS: HfClass = HfClass {
    name: "",
    head_dim: HeadDim::Stated,
    context_keys: &["max_position_embeddings"],
    context_length: None,
    feed_forward_factor: None,
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-6),
    rope_theta: 10000.0,
    local_rope_theta: None,
    partial_rotary: None,
    scalings: &["default", "linear", "dynamic", "yarn"],
    tied: false,
    defaults: &[],
    window: HfWindow::None,
    attention_scalar: None,
    routing: HfRouting { gating: Gating::Softmax, normalizes: Normalizes::Always, groups: ExpertGroups::Never },
};

/// The width of a head where `config.json` does not have `head_dim`, and whether the metadata say it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadDim {
    /// What the query heads divide the embedding into; said only where `config.json` has the key.
    Stated,
    /// What the query heads divide the embedding into; always said.
    Even,
    /// The same whatever `config.json` has; never said.
    Ignored,
    /// This; always said.
    Fixed(u32),
    /// The value of another key; always said.
    Of(&'static str),
}

/// The epsilon inside the root of normalization.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormEpsilon {
    /// Of RMS normalization: its key in `config.json` and its value where the key is missing.
    Rms(&'static str, f64),
    /// Of layer normalization.
    Layer(&'static str, f64),
}

/// How transformers' class finds the blocks with a sliding window. `layer_types` says it where the class reads that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HfWindow {
    /// No block has one.
    None,
    /// All, of the width `sliding_window` (`null` means none).
    All,
    /// All, if `use_sliding_window` says so.
    AllIfUsed,
    /// `layer_types`, else all but every so manieth, by `sliding_window_pattern` or this.
    Pattern(usize),
    /// If `use_sliding_window` says so: `layer_types`, else those from `max_window_layers` on.
    FromMaxWindowLayers,
    /// If `use_sliding_window` says so: `layer_types`, else every second from the first on below `max_window_layers`.
    AlternateBelowMaxWindowLayers,
    /// If `use_sliding_window` says so: `layer_types`, else those that do not rotate.
    Unrotated,
}

impl HfWindow {
    /// Whether the class reads a key of `config.json` for its window.
    pub(crate) fn understands(self, key: &str) -> bool {
        match key {
            // Classes without a window pass over its width.
            "sliding_window" => true,
            "layer_types" => !matches!(self, Self::None | Self::All | Self::AllIfUsed),
            _ => false,
        }
    }
}

/// How transformers' class chooses experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HfRouting {
    /// How scores become weights.
    pub gating: Gating,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalizes: Normalizes,
    /// Whether experts are chosen by groups.
    pub groups: ExpertGroups,
}

/// Whether the weights of the chosen experts are divided by their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalizes {
    /// Whatever the configuration says.
    Always,
    /// Whatever the configuration says.
    Never,
    /// As `norm_topk_prob` says.
    Key,
}

/// Whether experts are chosen by groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertGroups {
    /// Never.
    Never,
    /// Always; the configuration says how many.
    Always,
    /// Where `topk_method` is `group_limited_greedy`.
    ByMethod,
}

/// A key of `config.json` that is understood only at the values that leave the computation alone.
#[derive(Debug, Clone, Copy)]
pub struct NeutralKey {
    /// The key.
    pub key: &'static str,
    /// Accepted values as JSON text; `null` and absence are always accepted.
    pub accepted: &'static [&'static str],
}

/// A key of `config.json` that says whether some optional tensors are there.
#[derive(Debug)]
pub struct Stated {
    /// The key.
    pub key: &'static str,
    /// What transformers takes where it is missing.
    pub default: bool,
    /// The tensors.
    pub roles: &'static [Role],
}

/// A tensor that is computed from the configuration.
#[derive(Debug)]
pub struct ComputedTensor {
    /// What it is for.
    pub role: Role,
    /// Its values; it has one dimension and is stored as F32.
    pub values: Vec<f32>,
}

/// `key` is understood only at `accepted`.
pub(crate) const fn neutral(key: &'static str, accepted: &'static [&'static str]) -> NeutralKey {
    NeutralKey { key, accepted }
}

impl ArchSpec {
    /// The rule for a role.
    pub fn rule(&self, role: Role) -> Option<&'static TensorRule> {
        self.tensors.iter().find(|rule| rule.role == role)
    }

    /// The rules that a tensor of a safetensors file serves, by its name: none, one, or several where it is split.
    pub(crate) fn match_hf<'a>(&self, name: &'a str) -> impl Iterator<Item = (usize, &'static TensorRule, Numbers)> + use<'a> {
        let rules = self.tensors.iter().enumerate();
        rules.filter_map(move |(i, rule)| Some((i, rule, rule.hf_patterns().find_map(|p| match_pattern(p, name))?)))
    }

    /// The name of a tensor of a safetensors file, with the prefix where it is left out.
    pub(crate) fn whole_name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let bare = !self.prefix.is_empty() && self.match_hf(name).next().is_none();
        if bare { format!("{}{name}", self.prefix).into() } else { name.into() }
    }

    /// The rule and the block of a tensor by its GGUF name.
    pub fn match_gguf(&self, name: &str) -> Option<(&'static TensorRule, Option<usize>)> {
        let (role, block) = Role::parse(name)?;
        Some((self.rule(role)?, block))
    }

    /// A metadata key of this architecture: `key("block_count")` is `llama.block_count`.
    pub fn key(&self, stem: &str) -> String {
        format!("{}.{stem}", self.name)
    }
}

/// The architecture of a class name in `config.json`, and the class.
///
/// # Errors
/// [`Error::Unknown`] with all known class names.
pub fn find_hf(class: &str) -> Result<(&'static ArchSpec, &'static HfClass)> {
    let mut classes = ARCHITECTURES.iter().flat_map(|arch| arch.hf.iter().map(|hf| (*arch, hf)));
    classes.find(|(_, hf)| hf.name == class).ok_or_else(|| {
        Error::unknown("architecture", class, ARCHITECTURES.iter().flat_map(|arch| arch.hf.iter().map(|hf| hf.name)))
    })
}

/// The architecture of `general.architecture` in a GGUF file.
///
/// # Errors
/// [`Error::Unknown`] with all known names.
pub fn find_gguf(name: &str) -> Result<&'static ArchSpec> {
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
                assert_eq!(find_hf(class.name).unwrap().0.name, arch.name);
            }
        }
    }

    #[test]
    fn an_unknown_architecture_is_refused_with_the_known_ones() {
        let error = find_hf("MambaForCausalLM").unwrap_err().to_string();
        assert!(error.contains("MambaForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
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
                let served = arch.tensors.iter().filter(|other| other.hf == rule.hf).count();
                let split = !matches!(rule.transform, Transform::Same | Transform::AddOne | Transform::Stack(_));
                assert!(served == 1 || split, "{}: {:?}", arch.name, rule.hf);
            }
        }
    }
}
