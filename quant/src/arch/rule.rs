//! One tensor of an architecture as data: its role, its name and layout in a Hugging Face file, its shape by
//! hyper-parameters, and whether a model can do without.
//!
//! Absent: reading files (`checkpoint` carries the transforms out) and the rules themselves (one file an architecture).

use super::role::fill;
use super::{Gating, Role};
use crate::HParams;

/// One tensor (or one per block) of an architecture. A role can have two rules where checkpoints hold it in two forms.
#[derive(Debug, Clone, Copy)]
pub struct TensorRule {
    /// What it is for; gives the GGUF name.
    pub role: Role,
    /// Name in a safetensors file, the first `{}` for the block, the second for the part of a [`Transform::Stack`]; `None`
    /// for computed tensors.
    pub hf: Option<&'static str>,
    /// Shape in GGUF order: row length first.
    pub shape: &'static [Dim],
    /// How the GGUF tensor comes from what the safetensors file holds.
    pub transform: Transform,
    /// Whether a model can do without.
    pub presence: Presence,
}

/// A tensor that every model has, stored in a safetensors file as in GGUF.
pub(super) const fn tensor(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { role, hf: Some(hf), shape, transform: Transform::Same, presence: Presence::Required }
}

/// A tensor that some models have.
pub(super) const fn optional(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Optional, ..tensor(role, hf, shape) }
}

/// A tensor that is changed on the way.
pub(super) const fn changed(role: Role, hf: &'static str, shape: &'static [Dim], transform: Transform) -> TensorRule {
    TensorRule { transform, ..tensor(role, hf, shape) }
}

/// A tensor of blocks without experts.
pub(super) const fn dense(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Dense, ..tensor(role, hf, shape) }
}

/// A tensor that some of those blocks have.
pub(super) const fn dense_optional(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::DenseOptional, ..tensor(role, hf, shape) }
}

/// A tensor of blocks with experts.
pub(super) const fn routed(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Experts, ..tensor(role, hf, shape) }
}

/// The tensor of a block with experts, of a model that can do without shared ones.
pub(super) const fn shared(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::SharedExperts, ..tensor(role, hf, shape) }
}

/// The tensor of a block with experts, stored one file tensor an expert.
pub(super) const fn experts(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Experts, ..changed(role, hf, shape, Transform::Stack(Dim::Experts)) }
}

/// A tensor of blocks with attention.
pub(super) const fn attention(role: Role, hf: &'static str, shape: &'static [Dim], transform: Transform) -> TensorRule {
    TensorRule { presence: Presence::Attention, ..changed(role, hf, shape, transform) }
}

/// A tensor of blocks with a mixer that carries a state.
pub(super) const fn recurrent(role: Role, hf: &'static str, shape: &'static [Dim], transform: Transform) -> TensorRule {
    TensorRule { presence: Presence::Recurrent, ..changed(role, hf, shape, transform) }
}

/// A tensor that some of those blocks have.
pub(super) const fn recurrent_optional(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::RecurrentOptional, ..tensor(role, hf, shape) }
}

/// A tensor of blocks that predict further tokens.
pub(super) const fn mtp(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Mtp, ..tensor(role, hf, shape) }
}

/// A norm of blocks that predict further tokens, stored as the difference from 1.
pub(super) const fn mtp_changed(role: Role, hf: &'static str) -> TensorRule {
    TensorRule { presence: Presence::Mtp, ..changed(role, hf, &[Dim::Embd], Transform::AddOne) }
}

/// A tensor that some of those blocks have.
pub(super) const fn mtp_optional(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::MtpOptional, ..tensor(role, hf, shape) }
}

/// A tensor of blocks with experts that is changed on the way.
pub(super) const fn routed_changed(role: Role, hf: &'static str, shape: &'static [Dim], transform: Transform) -> TensorRule {
    TensorRule { presence: Presence::Experts, ..changed(role, hf, shape, transform) }
}

/// A tensor of models whose blocks have inputs of their own beside the stream.
pub(super) const fn layered(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::LayerInputs, ..tensor(role, hf, shape) }
}

/// A tensor made from the configuration.
pub(super) const fn computed(role: Role, shape: &'static [Dim]) -> TensorRule {
    TensorRule { role, hf: None, shape, transform: Transform::Same, presence: Presence::Optional }
}

/// An output matrix, for which the token embedding stands in where it is absent.
pub(super) const fn head(hf: &'static str) -> TensorRule {
    TensorRule { presence: Presence::TiedToTokenEmbd, ..tensor(Role::Output, hf, &[Dim::Embd, Dim::Vocab]) }
}

/// A dimension of a tensor, by the hyper-parameter that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// `embedding_length`
    Embd,
    /// `feed_forward_length`
    FeedForward,
    /// Twice `embedding_length`.
    TwiceEmbd,
    /// `2 * feed_forward_length`: gate and up in one.
    GateUp,
    /// `vocab_size`
    Vocab,
    /// `context_length`: learned positions.
    Positions,
    /// `attention.key_length`: the width of a head.
    HeadDim,
    /// `attention.head_count`
    Heads,
    /// `attention.head_count_kv`
    KvHeads,
    /// `head_count * head_dim`: all query heads.
    Queries,
    /// `head_count_kv * head_dim`: all key heads.
    Keys,
    /// `head_count_kv * value_dim`: all value heads.
    Values,
    /// Queries, keys and values in one.
    Qkv,
    /// `head_count * value_dim`: what attention puts out.
    AttnOutput,
    /// `rope_dim / 2`: the rotated pairs of a head.
    RopePairs,
    /// `expert_count`
    Experts,
    /// `expert_feed_forward_length`
    ExpertFeedForward,
    /// Gate and up of an expert in one.
    ExpertGateUp,
    /// What goes into an expert and comes out: `embedding_length`, or less where it is compressed.
    ExpertEmbd,
    /// `moe_latent_size`: the same where it is compressed.
    ExpertLatent,
    /// The width of all shared experts together.
    SharedFeedForward,
    /// `2 * head_count * head_dim`: all query heads, each with its gate behind it.
    QueriesAndGates,
    /// Tokens that the convolution of a mixer with a state sees.
    ConvKernel,
    /// Columns that go through it.
    ConvChannels,
    /// Heads of such a mixer.
    StateHeads,
    /// Twice as many.
    TwiceStateHeads,
    /// Groups of keys of such a mixer.
    StateGroups,
    /// The values of the heads that share a group's keys.
    StateGroupValues,
    /// What goes into Mamba-2: gates, what is convolved, and the steps of the heads.
    StateInputs,
    /// Three times `embedding_length`: two gates and what goes through a short convolution.
    ThriceEmbd,
    /// All their values.
    StateValues,
    /// The width of one value.
    StateValueDim,
    /// `attention.q_lora_rank`: compressed queries of multi-head latent attention.
    QRank,
    /// `attention.kv_lora_rank`: compressed keys and values of the same.
    KvRank,
    /// The compressed keys and values and the rotated part of the key beside them.
    KvRankAndRope,
    /// `head_count * key_length_mla`: its queries when expanded.
    MlaQueries,
    /// The part of such a key that is not rotated.
    MlaKey,
    /// `value_length_mla`: the width of a value head when expanded.
    MlaValue,
    /// `head_count * value_length_mla`: what it puts out.
    MlaOutput,
    /// `embedding_length_per_layer_input`: what a block reads beside the stream.
    LayerInput,
    /// The same for all blocks together.
    LayerInputs,
    /// 1
    One,
}

impl Dim {
    /// The dimension's size in a block of a model; 0 where the model has nothing of the kind.
    pub fn size(self, h: &HParams, block: usize) -> usize {
        let mla = |size: fn(&crate::hparams::Mla) -> usize| h.mla.as_ref().map_or(0, size);
        let state = |size: fn(&crate::hparams::Recurrent) -> usize| h.recurrent.as_ref().map_or(0, size);
        match self {
            Self::Embd => h.embedding_length,
            Self::FeedForward => h.feed_forward_length.of(block),
            Self::TwiceEmbd => 2 * h.embedding_length,
            Self::GateUp => 2 * h.feed_forward_length.of(block),
            Self::Vocab => h.vocab_size,
            Self::Positions => h.context_length,
            Self::HeadDim => h.head_dim.of(block),
            Self::Heads => h.head_count.of(block),
            Self::KvHeads => h.head_count_kv.of(block),
            Self::Queries => h.head_count.of(block) * h.head_dim.of(block),
            Self::Keys => h.head_count_kv.of(block) * h.head_dim.of(block),
            Self::Values => h.head_count_kv.of(block) * h.value_dim.of(block),
            Self::Qkv => {
                (h.head_count.of(block) + h.head_count_kv.of(block)) * h.head_dim.of(block)
                    + h.head_count_kv.of(block) * h.value_dim.of(block)
            }
            Self::AttnOutput => h.head_count.of(block) * h.value_dim.of(block),
            Self::RopePairs => h.rope_dim / 2,
            Self::Experts => h.expert_count,
            Self::ExpertFeedForward => h.expert_feed_forward_length,
            Self::ExpertGateUp => 2 * h.expert_feed_forward_length,
            Self::SharedFeedForward => h.shared_feed_forward_length,
            Self::ExpertEmbd => h.expert_embedding_length(),
            Self::ExpertLatent => h.expert_latent_length,
            Self::QueriesAndGates => 2 * h.head_count.of(block) * h.head_dim.of(block),
            Self::ConvKernel => state(|r| r.conv_kernel),
            Self::ConvChannels => h.recurrent.as_ref().map_or(0, |r| r.conv_channels(h.embedding_length)),
            Self::StateHeads => state(|r| r.heads),
            Self::TwiceStateHeads => 2 * state(|r| r.heads),
            Self::StateGroups => state(|r| r.key_heads),
            Self::StateGroupValues => state(|r| r.values() / r.key_heads.max(1)),
            Self::StateInputs => h.recurrent.as_ref().map_or(0, |r| r.values() + r.conv_channels(h.embedding_length) + r.heads),
            Self::ThriceEmbd => 3 * h.embedding_length,
            Self::StateValues => state(|r| r.values()),
            Self::StateValueDim => state(|r| r.value_dim),
            Self::QRank => mla(|m| m.q_lora_rank),
            Self::KvRank => mla(|m| m.kv_lora_rank),
            Self::KvRankAndRope => mla(|m| m.kv_lora_rank) + h.rope_dim,
            Self::MlaQueries => h.head_count.of(block) * mla(|m| m.key_length),
            Self::MlaKey => mla(|m| m.key_length).saturating_sub(h.rope_dim),
            Self::MlaValue => mla(|m| m.value_length),
            Self::MlaOutput => h.head_count.of(block) * mla(|m| m.value_length),
            Self::LayerInput => h.layer_input_length,
            Self::LayerInputs => h.block_count * h.layer_input_length,
            Self::One => 1,
        }
    }
}

/// How a GGUF tensor comes from what a safetensors file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    /// It is the same.
    Same,
    /// Within each query head, the two halves of the rows interleaved, so that rope pairs become adjacent.
    InterleaveQueryHeads,
    /// The same for key heads.
    InterleaveKeyHeads,
    /// Where the model pairs halves of heads (see `HParams::rope_pairs`), of the rotated rows of each query head first every even
    /// one, then every odd one, so that adjacent pairs become those of halves; elsewhere the same.
    HalveQueryHeads,
    /// The same for key heads.
    HalveKeyHeads,
    /// Rows and columns of each matrix exchanged.
    Transpose,
    /// Of a matrix stored transposed, every second column, from this one (0 or 1): gate and up that alternate.
    TransposeAlternate(usize),
    /// This half of the rows of each matrix (0 or 1): gate and up one behind the other.
    Half(usize),
    /// Of a matrix stored transposed, this half of the columns (0 or 1): gate and up one behind the other.
    TransposeHalf(usize),
    /// As [`Self::Transpose`] (with a number as [`Self::TransposeHalf`]), unless the file's shape says that rows are rows: then
    /// it is the same, or this [`Self::Half`].
    EitherWay(Option<usize>),
    /// Every second column, from this one (0 or 1).
    Alternate(usize),
    /// Every second row of each matrix, from this one (0 or 1): gate and up that alternate.
    AlternateRows(usize),
    /// 1 added to every weight: norms stored as the difference from 1.
    AddOne,
    /// A vector of one number throughout, made where another tensor stands: the value of a key of the configuration, or 1.
    Filled(Option<&'static str>),
    /// Every weight multiplied by these, one behind the other.
    Scaled(&'static [Factor]),
    /// The same of what goes into Mamba-2, and then each of its five parts by its own factor, `ssm_multipliers`: gates, values,
    /// keys, queries and steps.
    ScaledStateInputs(&'static [Factor]),
    /// The dimension of 1 in the middle of the weights of a convolution left out.
    Squeeze,
    /// The heads of values brought from the order of the keys that they share (all of the first key, all of the second, ...) to
    /// one in which those of one key are not neighbours (the first of each key, the second of each, ...). llama.cpp wants them
    /// so.
    Tile(Tiled),
    /// `-exp(x)`, of heads that are tiled.
    NegExpTiled,
    /// `-exp(x)`.
    NegExp,
    /// `-exp(x)` of a vector.
    NegExpFlat,
    /// Of a vector, the weights in their order.
    Flat,
    /// Of rows that hold, key by key, its query, the key, its values and their gates: all queries, then all keys, then all
    /// values.
    QueriesKeysValues,
    /// Of the same, the gates.
    ValueGates,
    /// So many tensors of the file, the second `{}` of the name counting them, one behind the other.
    Stack(Dim),
    /// Of the matrix that expands compressed keys and values, each head's rows for the key, transposed.
    ExpandedKeys,
    /// Of the same, each head's rows for the value.
    ExpandedValues,
}

/// A factor on the weights of a tensor, by the key of `config.json` that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// The key's value.
    Key(&'static str),
    /// So manieth entry of the key's list, from 0.
    Item(&'static str, usize),
}

/// Where the heads of values stand that are tiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiled {
    /// A row (or of a vector a number) is a head.
    Heads,
    /// So many rows as a value is wide are a head.
    Rows,
    /// So many columns are.
    Columns,
    /// So many rows, behind those of all queries and keys.
    RowsBehindKeys,
    /// The same of the weights of a convolution, with a dimension of 1 in their middle.
    Convolution,
}

/// Whether a model can do without a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every model has it.
    Required,
    /// Blocks without experts have it.
    Dense,
    /// Some of those have it.
    DenseOptional,
    /// Blocks with experts have it.
    Experts,
    /// Some of those have it.
    ExpertsOptional,
    /// Blocks with experts have it, in models with shared ones.
    SharedExperts,
    /// Blocks with attention have it.
    Attention,
    /// Blocks with a mixer that carries a state have it.
    Recurrent,
    /// Some of those have it.
    RecurrentOptional,
    /// Blocks with experts have it whose router is a sigmoid.
    SigmoidRouter,
    /// Models with latent attention have it that do not compress queries.
    PlainQueries,
    /// Models with latent attention have it that compress queries.
    CompressedQueries,
    /// Blocks with keys of their own have it; others may have it, and do not use it.
    OwnKeys,
    /// Of those, the ones with a window have it. In the others keys may be the values too.
    OwnValues,
    /// Models have it whose blocks have inputs of their own beside the stream.
    LayerInputs,
    /// Models have it whose experts read and write something narrower than the stream.
    LatentExperts,
    /// Blocks that predict further tokens have it.
    Mtp,
    /// Some of them have it.
    MtpOptional,
    /// Models have it whose feed-forward network does not read the norm of attention.
    Sequential,
    /// The computation that uses it is skipped where it is absent (biases, rope factors).
    Optional,
    /// The token embedding takes its place where it is absent (the output matrix of tied models).
    TiedToTokenEmbd,
}

impl Presence {
    /// Whether block `block` of a model must have the tensor.
    pub fn required(self, h: &HParams, block: usize) -> bool {
        match self {
            Self::Required => true,
            Self::Dense => h.has_dense_network(block),
            Self::Experts => h.has_experts(block),
            Self::SharedExperts => h.has_experts(block) && h.shared_feed_forward_length > 0,
            Self::Attention => h.has_attention(block),
            Self::Recurrent => h.recurrent_of(block).is_some(),
            Self::SigmoidRouter => h.has_experts(block) && h.routing.gating == Gating::Sigmoid,
            Self::Sequential => !h.parallel,
            Self::PlainQueries => !compresses_queries(h),
            Self::CompressedQueries => compresses_queries(h),
            Self::OwnKeys => h.has_own_keys(block),
            Self::OwnValues => {
                let differ = h.head_dim.of(block) != h.value_dim.of(block);
                h.has_own_keys(block) && (differ || h.window_of(block).is_some())
            }
            Self::LayerInputs => h.layer_input_length > 0,
            Self::LatentExperts => h.has_experts(block) && h.expert_latent_length > 0,
            Self::Mtp => h.is_mtp(block),
            Self::DenseOptional
            | Self::ExpertsOptional
            | Self::RecurrentOptional
            | Self::MtpOptional
            | Self::Optional
            | Self::TiedToTokenEmbd => false,
        }
    }

    /// Whether published files have the tensor in block `block`: where it is required, and where they hold it for no use: keys
    /// in blocks of Gemma 4 that use those of earlier ones, the embedding and the output matrix once more in GLM's blocks for
    /// further tokens.
    pub fn stored(self, h: &HParams, block: usize) -> bool {
        match self {
            Self::OwnKeys | Self::OwnValues => h.has_attention(block),
            Self::MtpOptional => h.is_mtp(block),
            other => other.required(h, block),
        }
    }

    /// Why block `block` of a model must not have the tensor, where it must not: what the block is instead.
    pub fn misplaced(self, h: &HParams, block: usize) -> Option<&'static str> {
        match self {
            Self::Dense | Self::DenseOptional if h.has_experts(block) => Some("has experts"),
            Self::Dense | Self::DenseOptional if !h.has_dense_network(block) => Some("has no feed-forward network"),
            Self::Experts | Self::ExpertsOptional | Self::SharedExperts | Self::LatentExperts if !h.has_experts(block) => {
                Some("has no experts")
            }
            Self::SharedExperts if h.shared_feed_forward_length == 0 => Some("has no shared experts"),
            Self::LatentExperts if h.expert_latent_length == 0 => Some("has experts that read the stream itself"),
            Self::Attention if !h.has_attention(block) => Some("has no attention"),
            Self::Recurrent | Self::RecurrentOptional if h.recurrent_of(block).is_none() => Some("carries no state"),
            Self::Mtp | Self::MtpOptional if !h.is_mtp(block) => Some("does not predict further tokens"),
            Self::LayerInputs if h.layer_input_length == 0 => Some("has no inputs beside the stream"),
            Self::Sequential if h.parallel => Some("has attention and feed-forward network side by side"),
            Self::PlainQueries if compresses_queries(h) => Some("compresses queries"),
            Self::CompressedQueries if !compresses_queries(h) => Some("does not compress queries"),
            _ => None,
        }
    }
}

fn compresses_queries(h: &HParams) -> bool {
    h.mla.is_some_and(|mla| mla.q_lora_rank > 0)
}

impl TensorRule {
    /// The shape in GGUF order that a block of a model with these hyper-parameters needs; `block` does not matter to tensors that
    /// are there once.
    pub fn shape(&self, h: &HParams, block: usize) -> Vec<usize> {
        self.shape.iter().map(|dim| dim.size(h, block)).collect()
    }

    /// The name in a safetensors file of block `block` and part 0; the GGUF name for computed tensors.
    pub fn hf_name(&self, block: usize) -> String {
        self.hf_part(block, 0)
    }

    /// The same for part `part` of a [`Transform::Stack`].
    pub fn hf_part(&self, block: usize, part: usize) -> String {
        self.hf.map_or_else(|| self.role.gguf_name(block), |pattern| fill(pattern, &[block, part]))
    }
}
