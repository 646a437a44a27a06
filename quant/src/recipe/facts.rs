//! What a rule may ask about: the tensor, its place among the layers, its model. What is absent: the conditions themselves
//! (see `when`) and counting layers (see `plan`).

use serde::Deserialize;

use crate::gguf::{Array, Metadata, Value};

/// What a tensor is for, as far as the choice of its encoding cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The head: `output.weight`, or the token embedding of a model without one.
    Output,
    /// The token embedding of a model with a head of its own.
    TokenEmbd,
    /// Query projection.
    AttnQ,
    /// Key projection.
    AttnK,
    /// Value projection, or a fused one that holds the values (`attn_qkv`, `attn_kv_b`).
    AttnV,
    /// Output projection of attention.
    AttnOutput,
    /// Up projection of the MLP or of its experts.
    FfnUp,
    /// Gate projection of the MLP or of its experts.
    FfnGate,
    /// Down projection of the MLP or of its experts.
    FfnDown,
    /// Anything else.
    Other,
}

/// Whole names with a category.
const NAMED: [(&str, Category); 3] = [
    ("output.weight", Category::Output),
    ("token_embd.weight", Category::TokenEmbd),
    ("per_layer_token_embd.weight", Category::TokenEmbd),
];

/// Parts of names with a category; the first that occurs decides.
const PARTS: [(&str, Category); 9] = [
    ("attn_qkv.weight", Category::AttnV),
    ("attn_kv_b.weight", Category::AttnV),
    ("attn_v.weight", Category::AttnV),
    ("attn_k.weight", Category::AttnK),
    ("attn_q.weight", Category::AttnQ),
    ("attn_output.weight", Category::AttnOutput),
    ("ffn_up", Category::FfnUp),
    ("ffn_gate", Category::FfnGate),
    ("ffn_down", Category::FfnDown),
];

impl Category {
    /// The category that a tensor's GGUF name gives it, a tied head not considered.
    pub fn of(name: &str) -> Self {
        let named = NAMED.iter().find(|(whole, _)| *whole == name);
        let found = named.or_else(|| PARTS.iter().find(|(part, _)| name.contains(part)));
        found.map_or(Self::Other, |&(_, category)| category)
    }
}

/// All that a rule may ask about a tensor and its model.
#[derive(Debug, Clone, Copy)]
pub struct TensorFacts<'a> {
    /// GGUF name.
    pub name: &'a str,
    /// What the tensor is for; the embedding of a model without a head is [`Category::Output`].
    pub category: Category,
    /// Row length in weights.
    pub cols: usize,
    /// Number of weights.
    pub weights: u64,
    /// Whether it holds the matrices of several experts.
    pub stacked: bool,
    /// How many tensors of its category were met before, and how many layers there are by that count.
    pub visit: Count,
    /// Its number among the layers as llama-quantize reads it for the MLP: the visit, but the number in the name where the
    /// model has experts. `None` where that name has none.
    pub layer: Option<Count>,
    /// The number in its name and the number of blocks of the model; `None` outside the blocks.
    pub block: Option<Count>,
    /// Whether there is an importance matrix.
    pub imatrix: bool,
    /// The model.
    pub model: &'a ModelFacts,
}

/// A number among so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// From 0.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

/// What rules may ask about the model as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`, as `llama`.
    pub arch: String,
    /// `{arch}.block_count`.
    pub block_count: usize,
    /// `{arch}.attention.head_count` of the first layer.
    pub head_count: usize,
    /// `{arch}.attention.head_count_kv` of the first layer.
    pub head_count_kv: usize,
    /// `{arch}.expert_count`, 0 where the model has none.
    pub expert_count: usize,
}

impl ModelFacts {
    /// The facts that GGUF metadata state. Keys that are missing or no numbers count as 0 (key heads: as many as heads), as
    /// rules then take the model for a plain one; whether a model is sound is checked where it is opened.
    pub fn of(metadata: &Metadata) -> Self {
        let arch = metadata.str("general.architecture").unwrap_or_default().to_owned();
        let number = |stem: &str| {
            let key = format!("{arch}.{stem}");
            let number = metadata.u64(&key).or_else(|| first_of(metadata.get(&key)?));
            number.and_then(|n| usize::try_from(n).ok())
        };
        let head_count = number("attention.head_count").unwrap_or(0);
        Self {
            block_count: number("block_count").unwrap_or(0),
            head_count,
            head_count_kv: number("attention.head_count_kv").unwrap_or(head_count),
            expert_count: number("expert_count").unwrap_or(0),
            arch,
        }
    }

    /// Whether llama.cpp calls the model a 70B: by architecture and number of layers (its `load_arch_hparams`), for
    /// `llama` only with grouped queries, which tell Llama-2-70B from LLaMA-65B.
    pub(super) fn is_70b(&self) -> bool {
        const LAYERS_OF_70B: [(&str, usize); 6] =
            [("llama", 80), ("llama-embed", 80), ("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68)];
        let known = LAYERS_OF_70B.contains(&(self.arch.as_str(), self.block_count));
        known && (!self.arch.starts_with("llama") || self.head_count != self.head_count_kv)
    }

    /// How many query heads share a key head (llama.cpp's `n_gqa`); 0 without key heads.
    pub(super) fn heads_per_key(&self) -> usize {
        self.head_count.checked_div(self.head_count_kv).unwrap_or(0)
    }
}

/// The first element of an array of numbers, as models with layers of several kinds have them.
fn first_of(value: &Value) -> Option<u64> {
    match value {
        Value::Array(Array::U32(v)) => v.first().map(|&n| n.into()),
        Value::Array(Array::I32(v)) => v.first().and_then(|&n| n.try_into().ok()),
        Value::Array(Array::U64(v)) => v.first().copied(),
        Value::Array(Array::I64(v)) => v.first().and_then(|&n| n.try_into().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_follow_names() {
        let check = |name, category| assert_eq!(Category::of(name), category, "{name}");
        check("output.weight", Category::Output);
        check("blk.3.attn_output.weight", Category::AttnOutput);
        check("token_embd.weight", Category::TokenEmbd);
        check("blk.0.attn_qkv.weight", Category::AttnV);
        check("blk.0.attn_v.weight", Category::AttnV);
        check("blk.0.attn_v.bias", Category::Other);
        check("blk.10.ffn_down_exps.weight", Category::FfnDown);
        check("blk.10.ffn_gate_shexp.weight", Category::FfnGate);
        check("output_norm.weight", Category::Other);
    }

    #[test]
    fn facts_come_from_metadata_whether_numbers_or_one_a_layer() {
        let mut metadata = Metadata::new();
        assert_eq!(ModelFacts::of(&metadata).heads_per_key(), 0);
        metadata.set("general.architecture", Value::String("a".into()));
        metadata.set("a.block_count", Value::U32(3));
        metadata.set("a.attention.head_count", Value::Array(Array::I32(vec![8, 4, 4])));
        let facts = ModelFacts { arch: "a".into(), block_count: 3, head_count: 8, head_count_kv: 8, expert_count: 0 };
        assert_eq!(ModelFacts::of(&metadata), facts);
        metadata.set("a.attention.head_count_kv", Value::U32(2));
        metadata.set("a.expert_count", Value::U32(16));
        assert_eq!(ModelFacts::of(&metadata), ModelFacts { head_count_kv: 2, expert_count: 16, ..facts });
        assert_eq!(ModelFacts::of(&metadata).heads_per_key(), 4);
    }
}
