//! The weights of one block on a device, as values. Absent: reading them (`load`) and computing with them (`forward`).

use std::ops::Range;
use std::sync::Arc;

use bitworth_quant::arch::Mlp;

use crate::backend::{Backend, Gate};

/// `y = W x (+ b)` on a device, with some of the rows of a matrix.
pub struct Linear<B: Backend> {
    /// `[*, K]`, as stored; shared where the head is the token embedding, and between the parts of a fused matrix.
    pub weight: Arc<B::Weight>,
    /// The N rows of W that are meant.
    pub rows: Range<usize>,
    /// `[N]`, where the model has one.
    pub bias: Option<B::Weight>,
    /// K.
    pub cols: usize,
}

/// A norm on a device.
pub struct NormWeights<B: Backend> {
    /// `[H]`, or `[heads, head_dim]`.
    pub gain: B::Weight,
    /// `[H]`, where the model has one.
    pub bias: Option<B::Weight>,
}

/// A norm of queries or keys on a device.
pub struct HeadNorm<B: Backend> {
    /// `[head_dim]`, `[heads, head_dim]` or `[heads * head_dim]`.
    pub gain: B::Weight,
    /// Whether all heads of a row are one vector to it.
    pub together: bool,
}

/// Where queries, keys and values come from.
pub enum Projections<B: Backend> {
    /// A matrix each. Where there is none for values, the keys are the values, before they are normalized and rotated.
    #[allow(missing_docs)]
    Plain { q: Linear<B>, k: Linear<B>, v: Option<Linear<B>> },
    /// One for queries. Keys and values are those of an earlier block.
    Queries(Linear<B>),
    /// Compressed keys and values.
    Latent(Latent<B>),
}

/// Multi-head latent attention (DeepSeek-AI 2024, section 2.1), as it is before absorption.
pub struct Latent<B: Backend> {
    /// Queries.
    pub queries: Queries<B>,
    /// To compressed keys and values, and the rotated part of the key behind them.
    pub down: Linear<B>,
    /// Gain of the norm of what is compressed.
    pub norm: B::Weight,
    /// To the keys' parts that are not rotated: `[heads * width, rank]`.
    pub keys: Linear<B>,
    /// To the values: `[heads * width, rank]`.
    pub values: Linear<B>,
}

/// Queries of latent attention.
pub enum Queries<B: Backend> {
    /// From the block's input.
    Plain(Linear<B>),
    /// Compressed in between.
    #[allow(missing_docs)]
    Compressed { down: Linear<B>, norm: B::Weight, up: Linear<B> },
}

/// A feed-forward network.
pub struct Dense<B: Backend> {
    /// The gate, where the architecture has one.
    pub gate: Option<Linear<B>>,
    /// Up projection.
    pub up: Linear<B>,
    /// Down projection.
    pub down: Linear<B>,
}

/// The matrices of all experts, one behind the other.
pub struct Stack<B: Backend> {
    /// `[experts * N, K]`
    pub weight: Arc<B::Weight>,
    /// `[experts, N]`, where the model has one.
    pub bias: Option<B::Weight>,
    /// Rows from one expert's to the next's: more than N where gate and up are in one tensor.
    pub stride: usize,
    /// The first of an expert's N rows among those.
    pub first: usize,
}

/// The network that all tokens share.
pub struct Shared<B: Backend> {
    /// Its weight is the sigmoid of this product; 1 where there is none.
    pub gate: Option<Linear<B>>,
    /// The network.
    pub network: Dense<B>,
}

/// A mixture of experts.
pub struct Experts<B: Backend> {
    /// Scores of the experts.
    pub router: Linear<B>,
    /// What is added to the scores to choose, on the host.
    pub choice_bias: Option<Vec<f32>>,
    /// Gates, where the architecture has them.
    pub gate: Option<Stack<B>>,
    /// Up projections.
    pub up: Stack<B>,
    /// Down projections.
    pub down: Stack<B>,
    /// From the stream to what they read and from what they write back to it, where that is narrower.
    pub latent: Option<[Linear<B>; 2]>,
    /// The network beside them, where the model has one.
    pub shared: Option<Shared<B>>,
    /// Factors on the weights of the experts, on the host.
    pub scales: Option<Vec<f32>>,
    /// A dense network beside them that reads another norm, where the model has one.
    pub beside: Option<Beside<B>>,
}

/// A dense network beside experts: both read norms of their own of the same stream, and the norms of what they put out are added
/// (Gemma 4).
pub struct Beside<B: Backend> {
    /// The network; it reads the block's norm before the feed-forward network.
    pub network: Dense<B>,
    /// Norm behind it.
    pub post_norm: NormWeights<B>,
    /// Gain of the norm before the router.
    pub router_gain: B::Weight,
    /// Norm before the experts.
    pub experts_norm: NormWeights<B>,
    /// Norm behind them.
    pub experts_post_norm: NormWeights<B>,
}

/// What makes the input of a block beside the stream: `(norm(P e / sqrt H) + sqrt d t) / sqrt 2` of the embedding e of a token
/// and its row t in a table of the block's (Gemma 4).
pub struct LayerInput<B: Backend> {
    /// P: `[d, H]`
    pub projection: Linear<B>,
    /// Gain of the norm: `[d]`.
    pub norm: B::Weight,
}

/// How a block reads its input beside the stream: `norm(W (gelu(G x) * input))` is added to the stream.
pub struct LayerGate<B: Backend> {
    /// G: `[d, H]`
    pub gate: Linear<B>,
    /// W: `[H, d]`
    pub projection: Linear<B>,
    /// Norm behind it.
    pub post_norm: NormWeights<B>,
}

/// What follows attention.
#[allow(missing_docs)]
pub enum FeedForward<B: Backend> {
    Dense(Dense<B>),
    Experts(Box<Experts<B>>),
}

/// What a block mixes the tokens of a sequence with. What a sequence carries from token to token is its
/// [`SequenceState`](crate::state::SequenceState).
pub enum Mixer<B: Backend> {
    /// Softmax attention over the keys and values of all earlier tokens.
    Attention(Attention<B>),
    /// A gated delta net.
    DeltaNet(DeltaNet<B>),
    /// Mamba-2.
    Mamba2(Mamba2<B>),
    /// A short convolution.
    ShortConv(ShortConv<B>),
}

/// The weights of Mamba-2 (Dao and Gu 2024).
pub struct Mamba2<B: Backend> {
    /// What lets the outputs through.
    pub gate: Linear<B>,
    /// Values, keys and queries, before the convolution.
    pub projection: Linear<B>,
    /// Steps of the heads.
    pub steps: Linear<B>,
    /// `[channels, conv_kernel]`
    pub conv: B::Weight,
    /// `[channels]`, where the model has one.
    pub conv_bias: Option<B::Buffer>,
    /// `[3, heads]`: see [`RecurInputs`](crate::backend::RecurInputs).
    pub parameters: B::Buffer,
    /// Gains of the norm of what the gate lets through, by groups: `[groups, values / groups]`; some models have none.
    pub norm: Option<B::Weight>,
    /// Output projection.
    pub output: Linear<B>,
}

/// The weights of a short convolution between two gates (LFM2).
pub struct ShortConv<B: Backend> {
    /// The gate on what is convolved.
    pub gate_in: Linear<B>,
    /// The gate on what comes out.
    pub gate_out: Linear<B>,
    /// What is convolved.
    pub projection: Linear<B>,
    /// `[H, conv_kernel]`
    pub conv: B::Weight,
    /// Output projection.
    pub output: Linear<B>,
}

/// The weights of a gated delta net (Yang et al. 2024).
pub struct DeltaNet<B: Backend> {
    /// Queries, keys and values, before the convolution.
    pub projection: Linear<B>,
    /// What lets the outputs through.
    pub gate: Linear<B>,
    /// Decays of the heads.
    pub decay: Linear<B>,
    /// Their rates.
    pub rate: Linear<B>,
    /// `[channels, conv_kernel]`
    pub conv: B::Weight,
    /// `[3, heads]`: see [`RecurInputs`](crate::backend::RecurInputs).
    pub parameters: B::Buffer,
    /// Gains by which the norm of a query divides it by its length and by the root of its width: `[1, key_dim]`.
    pub query_norm: B::Weight,
    /// The same of a key, which is divided by its length alone.
    pub key_norm: B::Weight,
    /// Gain of the norm of a head's output: `[value_dim]`.
    pub norm: B::Weight,
    /// Output projection.
    pub output: Linear<B>,
}

/// The weights of attention.
pub struct Attention<B: Backend> {
    /// Queries, keys and values.
    pub projections: Projections<B>,
    /// Norm of the queries, where the model has one: of each head, or of all together.
    pub q_norm: Option<HeadNorm<B>>,
    /// The same of the keys.
    pub k_norm: Option<HeadNorm<B>>,
    /// The same of the values.
    pub v_norm: Option<HeadNorm<B>>,
    /// Scores of keys without values, one a head, where the model has them.
    pub sinks: Option<B::Buffer>,
    /// What lets the outputs of the heads through, where the model has a gate.
    pub gate: Gated<B>,
    /// Output projection.
    pub output: Linear<B>,
}

/// The sigmoid gate on the outputs of attention.
pub enum Gated<B: Backend> {
    /// There is none.
    No,
    /// The matrix of queries has it, head by head, behind each query.
    BehindQueries,
    /// A matrix of its own.
    Own(Linear<B>),
}

/// The weights of one transformer block on a device.
pub struct BlockWeights<B: Backend> {
    /// Its number.
    pub index: usize,
    /// Norm before the mixer; some models have none.
    pub mixer_norm: Option<NormWeights<B>>,
    /// What mixes tokens: one as a rule, in some models two that read the same, or none where a block is a feed-forward network
    /// alone.
    pub mixers: Vec<Mixer<B>>,
    /// Norm behind the mixer, where the model has one.
    pub mixer_post_norm: Option<NormWeights<B>>,
    /// Norm before the feed-forward network, where the model has one.
    pub ffn_norm: Option<NormWeights<B>>,
    /// The feed-forward network, where the block has one.
    pub feed_forward: Option<FeedForward<B>>,
    /// Norm behind it, where the model has one.
    pub ffn_post_norm: Option<NormWeights<B>>,
    /// What reads the block's input beside the stream, where the model has one.
    pub layer_gate: Option<LayerGate<B>>,
    /// Factor on what the block puts out, where the model has one.
    pub output_scale: Option<f32>,
}

/// The function of a gated network; `None` for one without a gate.
pub(crate) fn gate_of(mlp: Mlp) -> Option<Gate> {
    match mlp {
        Mlp::SwiGlu => Some(Gate::Silu),
        Mlp::GeGlu => Some(Gate::Gelu),
        Mlp::SwiGluOai => Some(Gate::ClampedSilu),
        Mlp::Gelu | Mlp::Xielu | Mlp::ReluSquared => None,
    }
}
