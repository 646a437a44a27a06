//! One decoder block: the only forward function there is. What differs between architectures is a field of
//! [`BlockTraits`](bitworth_quant::arch::BlockTraits), a hyper-parameter, or the presence of a tensor.
//!
//! It knows neither files nor layers' order: `sweep` walks it layer by layer over a data set, `generate` token by token.

mod attention;
mod delta_net;
mod feed_forward;
mod graph;
mod layer_input;
mod mamba2;
mod short_conv;
mod workspace;

use std::ops::Range;

use crate::backend::{Backend, Map, RopeShape, RunList};
use crate::error::Result;
use crate::model::{BlockWeights, Embedding, Linear, Mixer, NormWeights};
use crate::observe::{Observed, Observer, Site};
use crate::state::{KvCache, RecurrentState, ResidentKv, RowCopy, SequenceState};
pub use graph::{Batch, Graph, Positional};
pub use layer_input::layer_input;
use workspace::Scratch;
pub use workspace::{LayerSpace, Workspace};

/// Which products and which attention a step wants: of many rows, each computed alone (scoring), or of few rows at the speed of
/// memory (decoding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowCount {
    /// [`Backend::matmul`] and [`Backend::attention`]
    Many,
    /// [`Backend::matvec`] and [`Backend::attention_few`]
    Few,
}

/// Where keys and values are copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSource {
    /// The step that is being computed.
    Step,
    /// Those that earlier steps of the block kept.
    Kept,
}

/// Copies of keys and values for sequences that do not lie in one piece in a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KvCopies {
    /// For later steps: from the step's rows to those that are kept.
    pub keep: Vec<RowCopy>,
    /// What this step sees: to the joined rows, and from where; empty where it sees its own.
    pub join: Vec<(KvSource, RowCopy)>,
}

/// What the rows of a step see of their sequences' past, for one block; the spans of the step's [`Batch`] count its rows.
pub struct Past<'a, B: Backend> {
    /// What attention sees.
    pub kv: KvPast<'a, B>,
    /// What a mixer with a state begins with, where the block has one.
    pub states: Option<&'a mut RecurrentState<B>>,
    /// The rows by sequence, with the slots of their states.
    pub runs: &'a RunList<B>,
    /// The block's input beside the stream, where it has one: `[T, d]`.
    pub input: Option<&'a B::Buffer>,
}

impl<'a, B: Backend> Past<'a, B> {
    /// Decoding: the states of the sequences, which the step advances; those of the block whose keys the block uses.
    pub fn resident(state: &'a mut SequenceState<B>, runs: &'a RunList<B>, input: Option<&'a B::Buffer>) -> Self {
        Self { kv: KvPast::Resident(&mut state.kv), states: state.recurrent.as_mut(), runs, input }
    }
}

/// Keys and values of the past.
pub enum KvPast<'a, B: Backend> {
    /// Decoding: those of all tokens of the sequences.
    Resident(&'a mut ResidentKv<B>),
    /// Scoring: what the step's rows need of earlier steps of the block.
    Chunked(Chunked<'a, B>),
}

/// Keys and values that the rows of a chunk see.
pub struct Chunked<'a, B: Backend> {
    /// Keys and values that earlier chunks kept for later ones.
    pub kept: &'a mut KvCache<B>,
    /// Room for the keys and values of whole sequences.
    pub joined: &'a mut KvCache<B>,
    /// What is copied where.
    pub copies: &'a KvCopies,
    /// The step's keys and values that blocks have in common.
    pub lent: Lent<'a, B>,
}

/// Keys and values of a step that later blocks use, too.
pub enum Lent<'a, B: Backend> {
    /// The block has its own, for itself.
    No,
    /// It has its own, and leaves them here.
    Given(&'a mut KvCache<B>),
    /// It has none, and takes these.
    Taken(&'a KvCache<B>),
}

/// What all blocks of a step have in common.
pub struct Step<'a, B: Backend> {
    /// Where it runs.
    pub backend: &'a B,
    /// The model's constants.
    pub graph: &'a Graph<B>,
    /// Its rows.
    pub batch: &'a Batch<B>,
    /// How its products are computed.
    pub rows: RowCount,
    /// Who is told of what goes into the matrices; then the step holds whole sequences.
    pub observer: Option<&'a dyn Observer<B>>,
    /// The number of its first row among all rows of the pass, for the observer.
    pub first: usize,
}

impl<B: Backend> Step<'_, B> {
    fn linear(&self, x: &B::Buffer, w: &Linear<B>, out: &mut B::Buffer) -> Result<()> {
        let count = self.batch.rows;
        match self.rows {
            RowCount::Many => self.backend.matmul(x, 0..count, &w.weight, w.rows.clone(), out)?,
            RowCount::Few => self.backend.matvec(x, 0..count, &w.weight, w.rows.clone(), out)?,
        }
        if let Some(bias) = &w.bias {
            self.backend.add_bias(out, count, bias)?;
        }
        Ok(())
    }

    /// Tells of all rows of `x`, which go into the matrices of `site`.
    fn observe(&self, block: usize, site: Site, x: &B::Buffer, cols: usize) -> Result<()> {
        self.observe_parts(block, site, x, cols, &[(0, 0..self.batch.rows)])
    }

    fn observe_parts(&self, block: usize, site: Site, x: &B::Buffer, cols: usize, parts: &[(usize, Range<usize>)]) -> Result<()> {
        self.tell(&Observed { block, site, x, cols, parts, first: self.first, rows: None })
    }

    fn tell(&self, observed: &Observed<'_, B>) -> Result<()> {
        self.observer.map_or(Ok(()), |observer| observer.observe(self.backend, observed))
    }

    fn norm(&self, x: &B::Buffer, norm: &NormWeights<B>, out: &mut B::Buffer) -> Result<()> {
        self::norm(self.backend, self.graph, x, self.batch.rows, norm, out)
    }

    fn rotate(&self, x: &mut B::Buffer, heads: usize, head_dim: usize, first: usize, block: usize) -> Result<()> {
        let h = &self.graph.hparams;
        if !h.rope_blocks[block] {
            return Ok(());
        }
        let local = self.graph.local_table.as_ref().filter(|_| h.window_of(block).is_some());
        let dim = if local.is_some() { h.rope_local_dim } else { h.rope_dim };
        let shape = RopeShape { rows: self.batch.rows, heads, head_dim, first, dim, pairs: h.rope_pairs };
        Ok(self.backend.rope(x, shape, local.unwrap_or(&self.graph.table), &self.batch.angles)?)
    }

    /// Adds what the mixer or the feed-forward network has put into `ws.projected` to the residual stream.
    fn join(&self, post_norm: Option<&NormWeights<B>>, ws: &mut Scratch<B>, x: &mut B::Buffer) -> Result<()> {
        let h = &self.graph.hparams;
        let len = self.batch.rows * h.embedding_length;
        match post_norm {
            None => self.backend.add(x, &ws.projected, h.residual_scale, len)?,
            Some(norm) => {
                let (kind, rows) = (self.graph.traits.norm, self.batch.rows);
                self.backend.norm(kind, &ws.projected, rows, &norm.gain, h.post_norm_epsilon, &mut ws.post_normed)?;
                self.backend.add(x, &ws.post_normed, h.residual_scale, len)?;
            }
        }
        Ok(())
    }
}

/// The norm that the architecture uses: `[T, H] -> [T, H]`.
pub fn norm<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    x: &B::Buffer,
    rows: usize,
    norm: &NormWeights<B>,
    out: &mut B::Buffer,
) -> Result<()> {
    backend.norm(graph.traits.norm, x, rows, &norm.gain, graph.hparams.norm_epsilon, out)?;
    if let Some(bias) = &norm.bias {
        backend.add_bias(out, rows, bias)?;
    }
    Ok(())
}

/// The embeddings of tokens at their positions: what goes into the first block.
pub fn embed<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    embedding: &Embedding<B>,
    tokens: &B::Indices,
    batch: &Batch<B>,
    x: &mut B::Buffer,
) -> Result<()> {
    let h = &graph.hparams;
    backend.embed(&embedding.tokens, tokens, batch.rows, x)?;
    if h.embedding_scale != 1.0 {
        backend.map(Map::Scale(h.embedding_scale), x, batch.rows * h.embedding_length)?;
    }
    if let Some(positions) = &embedding.positions {
        backend.add_rows(x, batch.rows, positions, &batch.positions)?;
    }
    if let Some(norm) = &embedding.norm {
        let mut normed = backend.alloc(batch.rows * h.embedding_length)?;
        backend.norm(graph.traits.norm, x, batch.rows, norm, h.norm_epsilon, &mut normed)?;
        backend.copy(&normed, 0, x, 0, batch.rows * h.embedding_length)?;
    }
    Ok(())
}

/// What follows the product with the output matrix: the bias of the tokens that are the columns, the scale of the logits and
/// their cap. `logits [rows, cols]`, in place.
pub fn finish_logits<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    logits: &mut B::Buffer,
    [rows, cols]: [usize; 2],
    bias: Option<&B::Weight>,
) -> Result<()> {
    let (h, len) = (&graph.hparams, rows * cols);
    if let Some(bias) = bias {
        backend.add_bias(logits, rows, bias)?;
    }
    if h.logit_scale != 1.0 {
        backend.map(Map::Scale(h.logit_scale), logits, len)?;
    }
    if h.logit_softcap != 0.0 {
        backend.map(Map::Softcap(h.logit_softcap), logits, len)?;
    }
    Ok(())
}

/// Runs one block over the rows of `step`, in place: `x [T, H] -> [T, H]`.
///
/// # Errors
/// A device that fails, and whatever the observer returns.
pub fn block<B: Backend>(
    step: &Step<'_, B>,
    weights: &BlockWeights<B>,
    mut past: Past<'_, B>,
    ws: &mut Workspace<B>,
    x: &mut B::Buffer,
) -> Result<()> {
    let Workspace { normed, scratch } = ws;
    if let Some(norm) = &weights.mixer_norm {
        step.norm(x, norm, normed)?;
    }
    for mixer in &weights.mixers {
        let input = if weights.mixer_norm.is_some() { &*normed } else { &*x };
        match mixer {
            Mixer::Attention(attention) => step.attend(attention, weights.index, &mut past, scratch, input)?,
            Mixer::DeltaNet(net) => step.delta_net(net, weights.index, &mut past, scratch, input)?,
            Mixer::Mamba2(mamba) => step.mamba2(mamba, weights.index, &mut past, scratch, input)?,
            Mixer::ShortConv(conv) => step.short_conv(conv, weights.index, &mut past, scratch, input)?,
        }
        step.join(weights.mixer_post_norm.as_ref(), scratch, x)?;
    }
    if let Some(network) = &weights.feed_forward {
        let shares = step.graph.hparams.parallel;
        let input = if shares { &*normed } else { pre_norm(step, weights.ffn_norm.as_ref(), x, normed)? };
        step.feed_forward(network, weights.index, scratch, [input, x])?;
        step.join(weights.ffn_post_norm.as_ref(), scratch, x)?;
    }
    if let (Some(gate), Some(input)) = (&weights.layer_gate, past.input) {
        step.read_beside(gate, weights.index, input, scratch, x)?;
    }
    match weights.output_scale {
        None => Ok(()),
        Some(scale) => {
            let len = step.batch.rows * step.graph.hparams.embedding_length;
            Ok(step.backend.map(Map::Scale(scale), x, len)?)
        }
    }
}

/// What a part of the block reads: the norm of `x`, or `x` itself where the model has no norm there.
fn pre_norm<'a, B: Backend>(
    step: &Step<'_, B>,
    norm: Option<&NormWeights<B>>,
    x: &'a B::Buffer,
    normed: &'a mut B::Buffer,
) -> Result<&'a B::Buffer> {
    match norm {
        None => Ok(x),
        Some(norm) => {
            step.norm(x, norm, normed)?;
            Ok(normed)
        }
    }
}
