//! Hyper-parameters of a model, read (in `read`) from GGUF metadata keys and nothing else, so that a safetensors directory
//! (through the metadata its conversion would have) and a GGUF file give the same values.
//!
//! Absent: what depends on the architecture (see `arch`) and anything about the tokenizer but the size of the vocabulary.

mod attention;
mod experts;
mod keys;
mod per_block;
mod read;
mod recurrent;
mod rope;

use crate::arch::{Gating, RopePairing};
pub use per_block::PerBlock;

/// How positions are stretched beyond the context the model was first trained on. Divisors by frequency are not here: they are
/// tensors (`rope_freqs.weight`, `rope_factors_long.weight`, `rope_factors_short.weight`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// The divisor, above 0.
        factor: f32,
    },
    /// A larger base for sequences beyond the original context, by their length (NTK-aware interpolation, as transformers
    /// computes it).
    Dynamic {
        /// How fast the base grows, above 0.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023).
    Yarn(Yarn),
}

/// The constants of YaRN (Peng et al. 2023, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f32,
    /// Weight of the unscaled high frequencies, 1 in the paper.
    pub extrapolation: f32,
    /// Turns within the original context above which frequencies stay as they are.
    pub beta_fast: f32,
    /// Turns below which they are divided.
    pub beta_slow: f32,
    /// Whether the ends of the ramp between the two are rounded outwards to whole pairs.
    pub truncate: bool,
}

/// Attention that does not see all earlier tokens, in some blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// What it sees.
    pub sight: Sight,
    /// Which blocks have it.
    pub blocks: Vec<bool>,
}

/// Which tokens attention with a window sees, a token itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The last so many.
    Last(usize),
    /// Those of the same chunk of so many, counted from the beginning of the sequence (Llama 4).
    Chunk(usize),
}

impl Sight {
    /// Most tokens that a token sees.
    pub fn width(self) -> usize {
        match self {
            Self::Last(width) | Self::Chunk(width) => width,
        }
    }

    /// The first key row that a row sees, where the sequence's keys begin at row `start` and its own key is the last before
    /// `end`.
    pub fn first(self, start: u32, end: u32) -> u32 {
        let width = u32::try_from(self.width()).unwrap_or(u32::MAX);
        match self {
            Self::Last(_) => start.max(end.saturating_sub(width)),
            Self::Chunk(_) => start + end.saturating_sub(start + 1) / width.max(1) * width,
        }
    }
}

/// A factor on queries that grows with their position: `1 + scale ln(1 + floor((position + offset) / floor))` (Llama 4,
/// Ministral 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// Weight of the logarithm.
    pub scale: f32,
    /// Positions after which it grows.
    pub floor: usize,
    /// What is added to positions, which count from 0.
    pub offset: usize,
}

/// The function of a feed-forward network that goes by parameters (xIELU, Huang and Schlag 2024), as it is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xielu {
    /// Weight of the square of positive numbers.
    pub alpha_p: f32,
    /// Weight of the exponential of the others.
    pub alpha_n: f32,
    /// Weight of the number itself.
    pub beta: f32,
    /// The exponent's upper limit.
    pub eps: f32,
}

/// How a router's scores become experts and weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// The function of the scores.
    pub gating: Gating,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalizes: bool,
    /// What is added to that sum.
    pub sum_epsilon: f32,
    /// What the weights are multiplied by then.
    pub scale: f32,
    /// Groups of neighbouring experts; 1 where there are none.
    pub groups: usize,
    /// Groups from which experts are chosen.
    pub groups_used: usize,
    /// Of [`Gating::SparseMixer`], half of how far below the best a score may lie to count, in parts of the larger one.
    pub jitter: f32,
}

/// The sizes of multi-head latent attention (DeepSeek-AI 2024, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mla {
    /// Width of compressed queries; 0 where queries are not compressed.
    pub q_lora_rank: usize,
    /// Width of compressed keys and values.
    pub kv_lora_rank: usize,
    /// Width of an expanded key head.
    pub key_length: usize,
    /// Width of an expanded value head.
    pub value_length: usize,
}

/// What a mixer with a state computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecurrentKind {
    /// A gated delta net (Yang et al. 2024): a convolution, then `S <- g S`, `S <- S + k (beta (v - S^T k))^T`, `o = S^T q`.
    DeltaNet,
    /// Mamba-2 (Dao and Gu 2024): a convolution, then `S <- exp(dt a) S + b (dt x)^T`, `y = S^T c + d x`.
    Mamba2,
    /// A gated convolution over few tokens, and no more (LFM2).
    ShortConv,
}

/// A mixer that carries a state. Heads share the keys of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// What it computes.
    pub kind: RecurrentKind,
    /// Tokens that the convolution sees, its own included: at least 2.
    pub conv_kernel: usize,
    /// Heads, each with values of its own; 0 for [`RecurrentKind::ShortConv`], as all that follow.
    pub heads: usize,
    /// Groups of keys; divides `heads`.
    pub key_heads: usize,
    /// Width of a key: rows of the state of a head.
    pub key_dim: usize,
    /// Width of a value: columns of the state of a head.
    pub value_dim: usize,
    /// The least and the most that a step of [`RecurrentKind::Mamba2`] can be.
    pub step_limits: [f32; 2],
}

impl Recurrent {
    /// Columns of all values.
    pub fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Columns of all keys.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Columns that go through the convolution, in a model of this width.
    pub fn conv_channels(&self, embedding_length: usize) -> usize {
        match self.kind {
            RecurrentKind::ShortConv => embedding_length,
            RecurrentKind::DeltaNet | RecurrentKind::Mamba2 => 2 * self.keys() + self.values(),
        }
    }

    /// Numbers of the state of the convolution: the tokens before the present one.
    pub fn conv_state(&self, embedding_length: usize) -> usize {
        (self.conv_kernel - 1) * self.conv_channels(embedding_length)
    }

    /// Numbers of the states of all heads.
    pub fn head_state(&self) -> usize {
        self.heads * self.key_dim * self.value_dim
    }
}

/// The sizes and constants of one model. All have been checked: none is zero where it must not be, and products of two of
/// them fit `usize` with room to spare.
#[derive(Debug, Clone, PartialEq)]
pub struct HParams {
    /// Decoder blocks.
    pub block_count: usize,
    /// Blocks behind them that predict further tokens (multi-token prediction): they are converted and quantized, and take no
    /// part in the computation.
    pub mtp_block_count: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Width H of the residual stream.
    pub embedding_length: usize,
    /// Width F of the feed-forward network.
    pub feed_forward_length: PerBlock<usize>,
    /// Query heads.
    pub head_count: PerBlock<usize>,
    /// Key and value heads; divides `head_count`.
    pub head_count_kv: PerBlock<usize>,
    /// Width of a query or key head (`attention.key_length`).
    pub head_dim: PerBlock<usize>,
    /// Width of a value head (`attention.value_length`).
    pub value_dim: PerBlock<usize>,
    /// Epsilon inside the root of normalization.
    pub norm_epsilon: f32,
    /// The same of the norms behind attention and feed-forward network.
    pub post_norm_epsilon: f32,
    /// Whether embeddings are normalized, without weights.
    pub norms_embeddings: bool,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// The same in blocks with a sliding window, where it is another; positions are not stretched there.
    pub rope_local_base: Option<f32>,
    /// How they pair the components of a head, in the row order of a GGUF file.
    pub rope_pairs: RopePairing,
    /// Components of a head that are rotated: even, at most `head_dim`.
    pub rope_dim: usize,
    /// The same in blocks with a sliding window, where those have their own base.
    pub rope_local_dim: usize,
    /// Stretching of positions.
    pub rope_scaling: RopeScaling,
    /// Positions the model was first trained on.
    pub rope_original_context: usize,
    /// Factor on the cosines and sines of rotary embedding.
    pub rope_magnitude: f32,
    /// The same in sequences beyond the original context.
    pub rope_long_magnitude: f32,
    /// Which blocks rotate.
    pub rope_blocks: Vec<bool>,
    /// Attention that does not see all earlier tokens, where the model has it.
    pub window: Option<Window>,
    /// For each block the one whose keys and values its attention sees: itself, or an earlier one of its kind.
    pub kv_blocks: Vec<usize>,
    /// Factor on q.k before the softmax.
    pub attention_scale: f32,
    /// A factor on queries by position, where the model has it.
    pub temperature: Option<Temperature>,
    /// Which blocks have it.
    pub temperature_blocks: Vec<bool>,
    /// Whether a sigmoid gate lets the outputs of attention through.
    pub gates_attention: bool,
    /// Whether queries and keys of blocks that rotate are normalized without weights behind it (Llama 4).
    pub unweighted_head_norms: bool,
    /// The parameters of the feed-forward network's function by block, where it has some; empty else.
    pub xielu: Vec<Xielu>,
    /// Attention scores s become `c tanh(s / c)` with this c; 0 where they stay as they are.
    pub attention_softcap: f32,
    /// The same for logits.
    pub logit_softcap: f32,
    /// Factor on logits, before they are capped.
    pub logit_scale: f32,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// Width of what each block reads of a token beside the stream (`embedding_length_per_layer_input`); 0 where there is
    /// nothing.
    pub layer_input_length: usize,
    /// Factor on what attention and feed-forward network add to the residual stream.
    pub residual_scale: f32,
    /// Whether attention and feed-forward network read the same norm.
    pub parallel: bool,
    /// Tokens V.
    pub vocab_size: usize,
    /// Experts of a block; 0 where the model has none.
    pub expert_count: usize,
    /// Experts that a token uses.
    pub expert_used_count: usize,
    /// Which blocks have experts in place of one feed-forward network.
    pub expert_blocks: Vec<bool>,
    /// Whether blocks with experts have a dense network beside them.
    pub dense_beside_experts: bool,
    /// How experts are chosen.
    pub routing: Routing,
    /// Width of the feed-forward network of one expert.
    pub expert_feed_forward_length: usize,
    /// Width of what experts read and write where that is compressed; 0 where it is the stream.
    pub expert_latent_length: usize,
    /// Width of that of all shared experts together; 0 where there are none.
    pub shared_feed_forward_length: usize,
    /// Multi-head latent attention, where the model has it.
    pub mla: Option<Mla>,
    /// The mixer that carries a state, where the model has one.
    pub recurrent: Option<Recurrent>,
    /// Which blocks have it.
    pub recurrent_blocks: Vec<bool>,
}

impl HParams {
    /// Blocks that a file has, those that predict further tokens included.
    pub fn stored_block_count(&self) -> usize {
        self.block_count + self.mtp_block_count
    }

    /// Whether a block is one that predicts further tokens.
    pub fn is_mtp(&self, block: usize) -> bool {
        (self.block_count..self.stored_block_count()).contains(&block)
    }

    /// Whether a block has experts in place of one feed-forward network.
    pub fn has_experts(&self, block: usize) -> bool {
        self.expert_blocks.get(block).copied().unwrap_or(false)
    }

    /// Whether a block has a feed-forward network without experts.
    pub fn has_dense_network(&self, block: usize) -> bool {
        !self.has_experts(block) && self.feed_forward_length.of(block) > 0
    }

    /// Width of what experts read and write.
    pub fn expert_embedding_length(&self) -> usize {
        if self.expert_latent_length > 0 { self.expert_latent_length } else { self.embedding_length }
    }

    /// What attention of a block sees, where that is not all.
    pub fn window_of(&self, block: usize) -> Option<Sight> {
        self.window.as_ref().filter(|w| w.blocks.get(block).copied().unwrap_or(false)).map(|w| w.sight)
    }

    /// The factor on queries by position of a block, where it has one.
    pub fn temperature_of(&self, block: usize) -> Option<&Temperature> {
        self.temperature.as_ref().filter(|_| self.temperature_blocks.get(block).copied().unwrap_or(false))
    }

    /// The mixer with a state of a block, where it has one.
    pub fn recurrent_of(&self, block: usize) -> Option<&Recurrent> {
        self.recurrent.as_ref().filter(|_| self.recurrent_blocks.get(block).copied().unwrap_or(false))
    }

    /// The largest that `size` gives for a block: how much room what serves all blocks needs.
    pub fn largest(&self, size: impl Fn(usize) -> usize) -> usize {
        (0..self.block_count).map(size).max().unwrap_or(0)
    }

    /// Width of a query or key head as attention of a block computes it: expanded, where it is stored compressed.
    pub fn key_width(&self, block: usize) -> usize {
        self.mla.map_or_else(|| self.head_dim.of(block), |mla| mla.key_length)
    }

    /// The same for values.
    pub fn value_width(&self, block: usize) -> usize {
        self.mla.map_or_else(|| self.value_dim.of(block), |mla| mla.value_length)
    }

    /// Whether a block has attention.
    pub fn has_attention(&self, block: usize) -> bool {
        self.head_count_kv.of(block) > 0
    }

    /// Whether attention of a block sees keys and values of its own, and not those of an earlier block.
    pub fn has_own_keys(&self, block: usize) -> bool {
        self.has_attention(block) && self.kv_blocks.get(block).is_none_or(|&of| of == block)
    }

    /// Whether attention of a block behind `last` sees the keys and values of `block`, which is not behind that.
    pub fn lends_keys(&self, block: usize, last: usize) -> bool {
        self.kv_blocks.iter().skip(last + 1).any(|&of| of == block)
    }

    /// Key and value heads as attention of a block computes them.
    pub fn kv_heads(&self, block: usize) -> usize {
        if self.mla.is_some() && self.has_attention(block) { self.head_count.of(block) } else { self.head_count_kv.of(block) }
    }
}

/// Prefix of the keys that say what llama.cpp's layout has no key for, or another meaning of; llama.cpp passes over them. The
/// rest of the name is that of the architecture's own key, which it stands in for.
pub(crate) const OWN_PREFIX: &str = "bitworth.";
