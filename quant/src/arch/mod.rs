//! Architectures as data: one file and one row of [`ARCHITECTURES`] each. A row serves conversion (names, shapes and row
//! order of the tensors, metadata keys) and the engine (which kind of norm, rope and MLP its one forward function uses).
//!
//! Absent: code that runs a model, and any `if arch == ...` elsewhere. What differs between architectures is a field here.

mod llama;
mod role;

use crate::convert::config::Config;
use crate::gguf::Metadata;
use crate::{Error, HParams, Result};

pub use role::{ROLES, Role};
pub(crate) use role::{fill, match_pattern};

/// Every architecture that can be read.
pub const ARCHITECTURES: &[&ArchSpec] = &[&llama::LLAMA];

/// One architecture.
#[derive(Debug)]
pub struct ArchSpec {
    /// `general.architecture` in a GGUF file, and the prefix of its metadata keys.
    pub name: &'static str,
    /// Class names in `config.json` (`architectures[0]`).
    pub hf: &'static [&'static str],
    /// Every tensor the architecture can have.
    pub tensors: &'static [TensorRule],
    /// Normalization before attention, before the MLP and before the head.
    pub norm: Norm,
    /// How rotary embedding pairs the components of a head, in the row order of a GGUF file.
    pub rope: RopePairing,
    /// The feed-forward network.
    pub mlp: Mlp,
    /// Keys of `config.json` that would change the result and that only the values listed leave alone.
    pub neutral: &'static [NeutralKey],
    /// The metadata keys that only this architecture's converter writes, after those all text models have.
    pub extra_keys: fn(&Config, &mut Metadata) -> Result<()>,
    /// What this architecture's converter changes in the tokenizer's keys, after they are written.
    pub tokenizer_keys: fn(&Config, &mut Metadata),
    /// Tensors that stand in no Hugging Face file and are computed from the configuration; they come first in the file.
    pub computed: fn(&Config) -> Result<Vec<ComputedTensor>>,
}

/// One tensor (or one per block) of an architecture.
#[derive(Debug)]
pub struct TensorRule {
    /// What it is for; gives the GGUF name.
    pub role: Role,
    /// Name in a safetensors file, `{}` for the block; `None` for computed tensors.
    pub hf: Option<&'static str>,
    /// Shape in GGUF order: row length first.
    pub shape: &'static [Dim],
    /// Row order, relative to the safetensors file.
    pub rows: RowOrder,
    /// Whether a model can do without.
    pub presence: Presence,
}

/// A dimension of a tensor, by the hyper-parameter that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// `embedding_length`
    Embd,
    /// `feed_forward_length`
    FeedForward,
    /// `vocab_size`
    Vocab,
    /// `head_count * head_dim`: all query heads.
    Queries,
    /// `head_count_kv * head_dim`: all key heads.
    Keys,
    /// `head_count_kv * value_dim`: all value heads.
    Values,
    /// `head_count * value_dim`: what attention puts out.
    AttnOutput,
    /// `rope_dim / 2`: the rotated pairs of a head.
    RopePairs,
}

impl Dim {
    /// The dimension's size in a model.
    pub fn size(self, h: &HParams) -> usize {
        match self {
            Self::Embd => h.embedding_length,
            Self::FeedForward => h.feed_forward_length,
            Self::Vocab => h.vocab_size,
            Self::Queries => h.head_count * h.head_dim,
            Self::Keys => h.head_count_kv * h.head_dim,
            Self::Values => h.head_count_kv * h.value_dim,
            Self::AttnOutput => h.head_count * h.value_dim,
            Self::RopePairs => h.rope_dim / 2,
        }
    }
}

/// How the rows of a GGUF tensor are ordered relative to the safetensors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// The same.
    Same,
    /// Within each query head, the two halves interleaved, so that rope pairs become adjacent.
    InterleaveQueryHeads,
    /// The same for key heads.
    InterleaveKeyHeads,
}

/// Whether a model can do without a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every model has it.
    Required,
    /// The computation that uses it is skipped where it is absent (biases, rope factors).
    Optional,
    /// The token embedding takes its place where it is absent (the output matrix of tied models).
    TiedToTokenEmbd,
}

/// Normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * gain` (Zhang and Sennrich 2019).
    Rms,
}

/// How rotary embedding pairs the components of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Components 2i and 2i+1.
    Adjacent,
    /// Components i and i + rope_dim / 2 (NeoX order).
    Halves,
}

/// The feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))` (Shazeer 2020).
    SwiGlu,
}

/// A key of `config.json` that is understood only at the values that leave the computation alone.
#[derive(Debug)]
pub struct NeutralKey {
    /// The key.
    pub key: &'static str,
    /// Accepted values as JSON text; `null` and absence are always accepted.
    pub accepted: &'static [&'static str],
}

/// A tensor that is computed from the configuration.
#[derive(Debug)]
pub struct ComputedTensor {
    /// What it is for.
    pub role: Role,
    /// Its values; it has one dimension and is stored as F32.
    pub values: Vec<f32>,
}

impl ArchSpec {
    /// The rule for a role.
    pub fn rule(&self, role: Role) -> Option<&'static TensorRule> {
        self.tensors.iter().find(|rule| rule.role == role)
    }

    /// The rule and the block of a tensor by its name in a safetensors file.
    pub fn match_hf(&self, name: &str) -> Option<(&'static TensorRule, Option<usize>)> {
        self.tensors.iter().find_map(|rule| Some((rule, match_pattern(rule.hf?, name)?)))
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

impl TensorRule {
    /// The shape in GGUF order that a model with these hyper-parameters needs.
    pub fn shape(&self, h: &HParams) -> Vec<usize> {
        self.shape.iter().map(|dim| dim.size(h)).collect()
    }

    /// The name in a safetensors file of block `block`; the GGUF name for computed tensors.
    pub fn hf_name(&self, block: usize) -> String {
        self.hf.map_or_else(|| self.role.gguf_name(block), |pattern| fill(pattern, block))
    }
}

/// The architecture of a class name in `config.json`.
///
/// # Errors
/// [`Error::Unknown`] with all known class names.
pub fn find_hf(class: &str) -> Result<&'static ArchSpec> {
    ARCHITECTURES
        .iter()
        .find(|arch| arch.hf.contains(&class))
        .copied()
        .ok_or_else(|| Error::unknown("architecture", class, ARCHITECTURES.iter().flat_map(|arch| arch.hf.iter().copied())))
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
                assert_eq!(find_hf(class).unwrap().name, arch.name);
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
    fn both_names_of_a_tensor_lead_to_one_rule() {
        for arch in ARCHITECTURES {
            for rule in arch.tensors {
                let (by_gguf, _) = arch.match_gguf(&rule.role.gguf_name(3)).unwrap();
                assert_eq!(by_gguf.role, rule.role);
                if rule.hf.is_some() {
                    let (by_hf, block) = arch.match_hf(&rule.hf_name(3)).unwrap();
                    assert_eq!((by_hf.role, block.is_some()), (rule.role, rule.role.per_block()));
                }
            }
        }
    }
}
