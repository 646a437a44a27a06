//! What the decoder block of an architecture computes, as data that the engine's one forward function reads, with what a GGUF
//! file leaves unsaid because llama.cpp has it in its code.
//!
//! Absent: sizes (see `HParams`) and which tensors there are (the rules of the architecture say).

use super::Role;

/// What the block of an architecture computes. Biases, norms of heads, sinks and the like need no entry: a model has their
/// tensors or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockTraits {
    /// Normalization, wherever the block has one.
    pub norm: Norm,
    /// How rotary embedding pairs the components of a head, in the row order of a GGUF file.
    pub rope: RopePairing,
    /// The same in models whose rotary embedding has sections (for positions by time, height and width), where it differs.
    pub rope_in_sections: Option<RopePairing>,
    /// The blocks that rotate.
    pub rotated: Rotated,
    /// The blocks that a sliding window is for, where the model has one.
    pub windowed: Windowed,
    /// Tokens of a chunk that attention with a window does not look beyond, where the file does not say a window.
    pub chunk: Option<usize>,
    /// How blocks with a window rotate, where the file does not say.
    pub local_rope: LocalRope,
    /// What LongRoPE divides frequencies by in sequences beyond the original context.
    pub long_rope: LongRope,
    /// The mixer that carries a state.
    pub recurs: Recurs,
    /// What lets the outputs of attention through.
    pub attention_gate: AttentionGate,
    /// Where the logarithm of YaRN goes that a file weighs by a key.
    pub yarn_log: YarnLog,
    /// The factor on queries by position.
    pub temperature: QueryTemperature,
    /// The norms of queries and keys.
    pub head_norms: HeadNorms,
    /// Whether values are normalized without weights, head by head.
    pub normalizes_values: bool,
    /// The factor on q.k.
    pub attention_scale: AttentionScale,
    /// The feed-forward network, dense or of an expert.
    pub mlp: Mlp,
    /// How attention and feed-forward network are joined.
    pub residual: Residual,
    /// The norm before the feed-forward network; most files name it by its own role.
    pub ffn_norm: Role,
    /// The norm before the output matrix.
    pub output_norm: Role,
    /// Whether embeddings are normalized, without weights.
    pub norms_embeddings: bool,
    /// Epsilon of the norms behind attention and feed-forward network, where it is another and the file does not say.
    pub post_norm_epsilon: Option<f32>,
    /// The factor on token embeddings.
    pub embedding_scale: EmbeddingScale,
    /// What `logit_scale` does.
    pub logit_scale: LogitScale,
    /// How experts are chosen.
    pub gating: Gating,
    /// Whether the weights of the chosen experts are divided by their sum, where the file does not say.
    pub normalizes_experts: bool,
    /// What is added to the sum that those weights are divided by: transformers' constant.
    pub expert_sum_epsilon: f32,
    /// Shared experts beside the others, where the file does not say.
    pub shared_experts: usize,
    /// Whether blocks with experts have a dense network beside them, each with its own norms.
    pub dense_beside_experts: bool,
    /// What the weights of the chosen experts multiply.
    pub weighs: Weighs,
    /// Whether sizes differ from block to block.
    pub shapes: Shapes,
    /// Epsilon of the norms of compressed queries, keys and values: transformers' constant, whatever the configuration says.
    pub latent_norm_epsilon: f32,
}

/// What most architectures have in common.
pub(crate) const BLOCK: BlockTraits = BlockTraits {
    norm: Norm::Rms,
    rope: RopePairing::Halves,
    rope_in_sections: None,
    rotated: Rotated::All,
    windowed: Windowed::All,
    chunk: None,
    local_rope: LocalRope::Same,
    long_rope: LongRope::Long,
    recurs: Recurs::Never,
    attention_gate: AttentionGate::None,
    yarn_log: YarnLog::AttentionScale,
    temperature: QueryTemperature::Never,
    head_norms: HeadNorms::BeforeRope,
    normalizes_values: false,
    attention_scale: AttentionScale::Head,
    mlp: Mlp::SwiGlu,
    residual: Residual::Sequential,
    ffn_norm: Role::FfnNorm,
    output_norm: Role::OutputNorm,
    norms_embeddings: false,
    post_norm_epsilon: None,
    embedding_scale: EmbeddingScale::Key,
    logit_scale: LogitScale::Multiplies,
    gating: Gating::Softmax,
    normalizes_experts: true,
    // DeepSeek-V3's; where transformers has none it is lost in the rounding.
    expert_sum_epsilon: 1e-20,
    shared_experts: 0,
    dense_beside_experts: false,
    weighs: Weighs::Outputs,
    shapes: Shapes::Uniform,
    latent_norm_epsilon: 1e-6,
};

/// Normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * gain` (Zhang and Sennrich 2019).
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps) * gain + bias` (Ba et al. 2016); some models have no bias.
    Layer,
}

/// Whether the numbers of heads and the width of the feed-forward network may differ from block to block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shapes {
    /// They are the same; a file that lists them is refused.
    Uniform,
    /// A file may list them, 0 for a block that has nothing of the kind.
    ByBlock,
    /// There is neither attention nor a feed-forward network; a file says 0.
    NoneOfThem,
}

/// How rotary embedding pairs the components of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Components 2i and 2i+1.
    Adjacent,
    /// Components i and i + rope_dim / 2 (NeoX order).
    Halves,
}

/// Which blocks apply rotary embedding, where the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// All.
    All,
    /// None: positions are learned.
    Never,
    /// All but every so manieth.
    AllBut(usize),
    /// Those with a sliding window.
    Windowed,
    /// Those with a sliding window in models that have one, else all.
    WindowedOrAll,
    /// All, or none where the key `rope.scaling.finetuned` says false (Granite 4).
    Finetuned,
}

/// How blocks with a window rotate, where the file does not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LocalRope {
    /// As all others.
    Same,
    /// By a base of their own, and positions are not stretched.
    Base(f32),
    /// By the same base, but positions are not stretched.
    Unscaled,
}

/// Which of LongRoPE's divisors (Ding et al. 2024) sequences beyond the original context have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongRope {
    /// Those for long sequences.
    Long,
    /// Those for short ones too: transformers' class never asks for the others (`modeling_phimoe.py`, 5.24).
    ShortAlways,
}

/// The mixer with a state that some blocks have in place of attention (see [`Recurrent`](crate::hparams::Recurrent)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recurs {
    /// There is none.
    Never,
    /// A gated delta net, whose heads of values are tiled or keep the order of their keys.
    #[allow(missing_docs)]
    DeltaNet { tiled: bool },
    /// A short convolution (LFM2), in blocks without keys.
    ShortConv,
    /// Mamba-2, beside attention in all blocks, or in blocks that have no keys and, where a block is one part alone, no
    /// feed-forward network.
    #[allow(missing_docs)]
    Mamba2 { beside_attention: bool },
}

/// The sigmoid gate on the outputs of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionGate {
    /// There is none.
    None,
    /// The matrix of queries has it, head by head, behind each query.
    BehindQueries,
    /// It has a matrix of its own.
    Own,
}

/// Where the logarithm of YaRN goes that the key `rope.scaling.yarn_log_multiplier` weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YarnLog {
    /// Its square is in the scale of attention (DeepSeek).
    AttentionScale,
    /// The factor on cosines and sines is divided by it (Mistral).
    Magnitude,
}

/// The factor on queries by position (see [`Temperature`](crate::hparams::Temperature)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QueryTemperature {
    /// There is none.
    Never,
    /// In all blocks, as the file says; it grows after each length of the original context.
    Key,
    /// In the blocks that do not rotate; this, where the file does not say.
    #[allow(missing_docs)] // as in Temperature
    Unrotated { scale: f32, floor: usize },
}

/// The norms of queries and keys, in models that have their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// Before they are rotated.
    BeforeRope,
    /// Behind.
    AfterRope,
    /// Behind, in blocks that rotate; without weights, so that a key says whether the model has them (Llama 4).
    AfterRopeUnweighted,
}

/// What the weights of the chosen experts multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighs {
    /// What comes out of them.
    Outputs,
    /// What goes into them.
    Inputs,
}

/// Which blocks have the sliding window, where the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windowed {
    /// All.
    All,
    /// All but every so manieth.
    AllBut(usize),
}

/// The factor on q.k before the softmax, where the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionScale {
    /// One over the root of the width of a head.
    Head,
    /// 1.
    One,
    /// One over the root of the width of a head, but in models of this many blocks of the width of the embedding by the number of
    /// heads.
    EvenHeadAt(usize),
}

/// The feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))` (Shazeer 2020).
    SwiGlu,
    /// The same with the tanh form of GELU.
    GeGlu,
    /// `down(gelu(up(x)))`, the tanh form of GELU (Hendrycks and Gimpel 2016).
    Gelu,
    /// `down(max(up(x), 0)^2)` (So et al. 2021).
    ReluSquared,
    /// `down(xielu(up(x)))` (Huang and Schlag 2024), with parameters by block.
    Xielu,
    /// gpt-oss's: `down((clamp(up(x)) + 1) * g * sigmoid(1.702 g))` with `g = min(gate(x), 7)`, up clamped to -7 .. 7.
    SwiGluOai,
}

/// How attention and feed-forward network are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The feed-forward network reads the sum of its block's input and attention.
    Sequential,
    /// Both read the same norm of the block's input.
    Parallel,
    /// One or the other, as the key `use_parallel_residual` says.
    Key,
    /// A block is a mixer or a feed-forward network, never both (Nemotron-H).
    OneOfThem,
}

/// The factor on token embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// What the key `embedding_scale` says; 1 where there is none.
    Key,
    /// The root of the embedding's width.
    RootOfWidth,
}

/// What the key `logit_scale` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitScale {
    /// Logits are multiplied by it.
    Multiplies,
    /// Logits are divided by it.
    Divides,
}

/// How the router's scores become the weights of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts, of which the largest are chosen. With groups, those of the groups with the largest maxima
    /// (DeepSeek-AI 2024, V2).
    Softmax,
    /// Sigmoid of each score. A bias decides who is chosen, but not the weight; with groups, those of the groups with the
    /// largest sums of two (DeepSeek-AI 2024, V3).
    Sigmoid,
    /// Softmax over the scores of the chosen.
    SoftmaxOfChosen,
    /// Two experts, the second the best of those that remain. Each has its share of a softmax over the scores that are not far
    /// below its own (Liu et al. 2024, "GRIN: GRadient-INformed MoE").
    SparseMixer,
}

impl Gating {
    /// The value of `expert_gating_func` (llama.cpp's `llama_expert_gating_func_type`); 0 leaves it to the architecture.
    pub fn number(self) -> u32 {
        match self {
            Self::Softmax => 1,
            Self::Sigmoid => 2,
            Self::SoftmaxOfChosen => 3,
            Self::SparseMixer => 0,
        }
    }

    /// The gating of a value of `expert_gating_func`.
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Softmax, Self::Sigmoid, Self::SoftmaxOfChosen].into_iter().find(|g| u64::from(g.number()) == number)
    }
}
