//! What running a model takes beside its weights, from its hyper-parameters alone: columns of the buffers of a step, and bytes
//! that decoding keeps. The buffers themselves are allocated by these figures (`forward::Workspace`). Absent: weights, and how a
//! sweep is cut (see `sweep::plan`).

use bitworth_quant::HParams;
use bitworth_quant::hparams::RecurrentKind;

use crate::cpu::PRODUCT_SCRATCH;
use crate::state::{KvColumns, StateColumns};

/// Most rows of a prompt that go through the model at once in decoding.
pub const PROMPT_ROWS: usize = 512;

const F32: u64 = size_of::<f32>() as u64;

/// Columns of each buffer that the blocks of a step reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkspaceColumns {
    /// What a part of the block reads.
    pub normed: usize,
    /// Queries of all heads.
    pub q: usize,
    /// Keys of all heads that have their own.
    pub k: usize,
    /// Their values.
    pub v: usize,
    /// Queries or keys before their norm, and what latent attention makes of them in between.
    pub raw: usize,
    /// What latent attention compresses; 0 without it.
    pub latent: usize,
    /// What the heads have gathered.
    pub attended: usize,
    /// Gates of the heads of a mixer with a state, twice; 0 without one.
    pub state_gates: usize,
    /// What goes into the residual stream, and its norm.
    pub projected: usize,
    /// The gate of a network without experts, or of the shared one, and as many columns beside it.
    pub gate: usize,
    /// Those of a mixture of experts.
    pub experts: Option<ExpertColumns>,
    /// What blocks read beside the stream, thrice, and the embedding that it is made of; 0 where there is nothing.
    pub layer_input: [usize; 2],
}

/// Columns of the buffers of a mixture of experts, for each row: a row has as many slots as experts are used for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertColumns {
    /// Scores of the experts.
    pub scores: usize,
    /// What goes into the experts, and what comes out.
    pub outer: usize,
    /// Gates, and as many columns beside them.
    pub inner: usize,
    /// What the router and the experts read where a dense network beside them reads something else, both; 0 elsewhere.
    pub normed: usize,
}

impl WorkspaceColumns {
    /// Those of a model.
    pub fn of(h: &HParams) -> Self {
        let q = h.largest(|block| h.head_count.of(block) * h.key_width(block));
        let KvColumns { k, v } = KvColumns::largest(h);
        let (state_keys, state_values) = h.recurrent.map_or((0, 0), |r| (r.keys(), r.values()));
        let channels = h.recurrent.map_or(0, |r| r.conv_channels(h.embedding_length));
        let attended = h.largest(|block| h.head_count.of(block) * h.value_width(block));
        // A short convolution has what it convolves there, and its gates.
        let convolved = h.recurrent.filter(|r| r.kind == RecurrentKind::ShortConv).map_or(0, |_| channels);
        let network = h.feed_forward_length.max().max(h.shared_feed_forward_length);
        let gate = network.max(state_values).max(convolved).max(h.layer_input_length);
        let latent = h.mla.map_or(0, |mla| mla.q_lora_rank.max(mla.kv_lora_rank + h.rope_dim));
        Self {
            normed: h.embedding_length,
            q: q.max(state_keys),
            k: k.max(state_keys),
            v: v.max(state_values),
            // Queries may have their gates beside them.
            raw: if h.gates_attention { (2 * q).max(k).max(channels) } else { q.max(k).max(v).max(latent).max(channels) },
            latent,
            attended: attended.max(state_keys).max(state_values),
            state_gates: h.recurrent.map_or(0, |r| r.heads),
            projected: h.embedding_length,
            gate: if h.gates_attention { gate.max(attended) } else { gate },
            experts: (h.expert_count > 0).then(|| ExpertColumns {
                scores: h.expert_count,
                outer: h.expert_used_count * h.embedding_length,
                inner: h.expert_used_count * h.expert_feed_forward_length,
                normed: if h.dense_beside_experts { h.embedding_length } else { 0 },
            }),
            layer_input: if h.layer_input_length > 0 { [h.layer_input_length, h.embedding_length] } else { [0, 0] },
        }
    }

    /// The columns of all buffers: some stand there twice.
    fn each(&self) -> impl Iterator<Item = usize> {
        let block = [self.normed, self.q, self.k, self.v, self.raw, self.latent, self.latent, self.attended];
        let stream = [self.projected, self.projected, self.gate, self.gate, self.state_gates, self.state_gates];
        let experts = self.experts.map(|e| [e.scores, e.outer, e.inner, e.inner, e.outer, e.normed, e.normed]);
        let [input, embedded] = self.layer_input;
        let beside = [input, input, input, embedded];
        block.into_iter().chain(stream).chain(experts.into_iter().flatten()).chain(beside)
    }

    /// Numbers of all buffers together, for each row.
    pub fn total(&self) -> usize {
        self.each().sum()
    }

    /// The widest buffer's columns: what limits the rows of a step.
    pub fn widest(&self) -> usize {
        self.each().max().unwrap_or(1).max(1)
    }
}

/// How a model decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Tokens of each sequence, prompt and answer together.
    pub context: u64,
    /// Sequences at a time.
    pub sequences: u64,
    /// Threads that compute on the CPU; 0 where a graphics device computes.
    pub threads: u64,
}

/// Bytes that decoding takes beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodingFootprint {
    /// States of all sequences: keys and values, and what mixers with a state keep.
    pub state: u64,
    /// Buffers of the computation.
    pub compute: u64,
}

/// As [`Generator::new`](crate::generate::Generator::new) allocates: a workspace and the residual stream of some rows, angles for
/// every position, logits of every sequence. On the CPU also what products and attention keep there: decoded weights, and each
/// thread's keys, values and scores of one head.
pub fn decoding(h: &HParams, usage: &Decoding) -> DecodingFootprint {
    let Decoding { context, sequences, threads } = *usage;
    let rows = (PROMPT_ROWS as u64).min(context).max(sequences);
    let columns = WorkspaceColumns::of(h).total() + h.embedding_length + h.block_count * h.layer_input_length;
    let local = if h.rope_local_base.is_some() { h.rope_local_dim } else { 0 };
    let angles = context * (h.rope_dim + local) as u64;
    let logits = sequences * h.vocab_size as u64;
    let only_experts = !h.dense_beside_experts && h.expert_blocks.iter().all(|&experts| experts);
    let dense = if only_experts { 0 } else { h.feed_forward_length.max() };
    let feed_forward = dense.max(h.expert_feed_forward_length * h.expert_count.min(1)).max(h.shared_feed_forward_length);
    let attended = h.largest(|block| h.head_count.of(block) * h.value_width(block));
    // What a product reads of a row, and the rows of its weights: a mixer with a state and gates of attention have more of these.
    let values = h.recurrent.map_or(0, |r| r.values());
    let widest = feed_forward.max(h.embedding_length).max(attended).max(values) as u64;
    let channels = h.recurrent.map_or(0, |r| r.conv_channels(h.embedding_length));
    let gated = if h.gates_attention { 2 * h.largest(|block| h.head_count.of(block) * h.key_width(block)) } else { 0 };
    let longest = widest.max(channels as u64).max(gated as u64);
    let head = h.largest(|block| h.key_width(block) + h.value_width(block));
    let scratch = PRODUCT_SCRATCH;
    let decoded = (scratch.decoded as u64).min(longest * h.embedding_length as u64) * threads.min(1);
    let tiles = threads * (context * (head + scratch.tile_rows) as u64 + scratch.tile_columns as u64 * widest);
    let keys: u64 = (0..h.block_count).map(|block| KvColumns::of(h, block).total() as u64).sum();
    let states: u64 = (0..h.block_count).filter_map(|block| StateColumns::of(h, block)).map(|c| c.total() as u64).sum();
    DecodingFootprint {
        state: (keys * context + states) * sequences * F32,
        compute: (rows * columns as u64 + angles + logits + decoded + tiles) * F32,
    }
}
