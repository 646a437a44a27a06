//! One decoder block: the only forward function there is. What differs between architectures is a field of [`BlockTraits`], a
//! hyper-parameter, or the presence of a tensor.
//!
//! It knows neither files nor layers' order: `sweep` walks it layer by layer over a data set, `generate` token by token.

use std::ops::Range;

use bitworth_quant::HParams;
use bitworth_quant::arch::{BlockTraits, Mlp};

use super::backend::{AttentionInputs, AttentionShape, Backend, ColumnCopy, Columns, CombineShape, Gate, Map, RopeShape, Terms};
use super::error::Result;
use super::model::{Block, Dense, Embedding, Experts, FeedForward, Latent, Linear, Norm, Projections, Queries, Stack, Variant};
use super::observe::{Observed, Observer, Site};
use super::rope::{LengthClasses, Rope};
use super::routing;

/// Which matmul a step wants: many rows, each computed alone (scoring), or few rows at the speed of memory (decoding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// [`Backend::matmul`]
    Many,
    /// [`Backend::matvec`]
    Few,
}

/// The constants of a model that every block uses.
pub struct Graph<B: Backend> {
    traits: &'static BlockTraits,
    hparams: HParams,
    rope: Rope,
    /// Angles by position.
    table: B::Buffer,
    /// The same for blocks with a sliding window, where those have their own.
    local_table: Option<B::Buffer>,
}

impl<B: Backend> Graph<B> {
    /// For sequences of the lengths in `classes`.
    pub fn new(backend: &B, variant: &Variant, rope: Rope, classes: &LengthClasses) -> Result<Self> {
        let traits = variant.checkpoint().block_traits()?;
        let (table, local_table) = Self::tables(backend, &rope, classes)?;
        Ok(Self { traits, hparams: variant.hparams().clone(), rope, table, local_table })
    }

    fn tables(backend: &B, rope: &Rope, classes: &LengthClasses) -> Result<(B::Buffer, Option<B::Buffer>)> {
        let local = rope.local_table(classes).map(|table| backend.upload(&table)).transpose()?;
        Ok((backend.upload(&rope.table(classes))?, local))
    }

    /// Makes it one for sequences of other lengths.
    pub fn retable(&mut self, backend: &B, classes: &LengthClasses) -> Result<()> {
        (self.table, self.local_table) = Self::tables(backend, &self.rope, classes)?;
        Ok(())
    }

    /// The model's hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The model's rotary embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }
}

/// Where the rows of one step stand.
pub struct Batch<B: Backend> {
    /// Number of rows T.
    pub rows: usize,
    /// Position of each row in its sequence.
    pub positions: B::Indices,
    /// The same in the table of angles.
    pub angles: B::Indices,
    /// For each row the first and the one-past-last key row that it sees.
    pub spans: B::Indices,
    /// The same for sliding windows, by their width.
    pub windows: Vec<(usize, B::Indices)>,
}

impl<B: Backend> Batch<B> {
    /// From lists, one entry a row (two for `spans`), for models with windows of these widths. A row's own key is the last that
    /// it sees.
    pub fn new(backend: &B, positions: &[u32], angles: &[u32], spans: &[u32], widths: &[usize]) -> Result<Self> {
        let within = |width: usize| {
            let (pairs, _) = spans.as_chunks::<2>();
            let first = |end: u32| end.saturating_sub(u32::try_from(width).unwrap_or(u32::MAX));
            pairs.iter().flat_map(|&[start, end]| [start.max(first(end)), end]).collect::<Vec<u32>>()
        };
        let windows = widths.iter().map(|&width| Ok((width, backend.indices(&within(width))?)));
        Ok(Self {
            rows: positions.len(),
            positions: backend.indices(positions)?,
            angles: backend.indices(angles)?,
            spans: backend.indices(spans)?,
            windows: windows.collect::<Result<_>>()?,
        })
    }

    fn spans(&self, window: Option<usize>) -> &B::Indices {
        let list = window.and_then(|width| self.windows.iter().find(|(known, _)| *known == width));
        list.map_or(&self.spans, |(_, spans)| spans)
    }
}

/// Keys and values of earlier steps, for one block.
pub struct KvCache<B: Backend> {
    /// `[capacity, kv_heads * key_width]`
    pub k: B::Buffer,
    /// `[capacity, kv_heads * value_width]`
    pub v: B::Buffer,
}

/// Copies of a step's new keys and values into a cache: `(row of the step, row of the cache, rows)`.
pub type CacheWrites = [(usize, usize, usize)];

/// Where keys and values are copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The step that is being computed.
    Step,
    /// Those that earlier steps of the block kept.
    Kept,
}

/// Copies of keys and values for sequences that do not lie in one piece in a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyCopies {
    /// For later steps: `(row of the step, row where it is kept, rows)`.
    pub keep: Vec<(usize, usize, usize)>,
    /// What this step sees: `(from where, row there, row of the joined ones, rows)`; empty where it sees its own.
    pub join: Vec<(KeySource, usize, usize, usize)>,
}

/// Which keys and values the rows of a step see, and so what their spans count.
pub enum Keys<'a, B: Backend> {
    /// Those of a cache, after the step's own were added.
    Cached(&'a mut KvCache<B>, &'a CacheWrites),
    /// The step's own, or joined ones.
    #[allow(missing_docs)]
    Joined { kept: &'a mut KvCache<B>, joined: &'a mut KvCache<B>, copies: &'a KeyCopies },
}

impl<B: Backend> KvCache<B> {
    /// Room for so many rows.
    pub fn new(backend: &B, h: &HParams, rows: usize) -> Result<Self> {
        let wide = |columns: usize| backend.alloc(rows * h.kv_heads() * columns);
        Ok(Self { k: wide(h.key_width())?, v: wide(h.value_width())? })
    }

    /// Takes rows of keys and values.
    fn take(&mut self, backend: &B, h: &HParams, from: [&B::Buffer; 2], [at, to, len]: [usize; 3]) -> Result<()> {
        let (wide_k, wide_v) = (h.kv_heads() * h.key_width(), h.kv_heads() * h.value_width());
        backend.copy(from[0], at * wide_k, &mut self.k, to * wide_k, len * wide_k)?;
        Ok(backend.copy(from[1], at * wide_v, &mut self.v, to * wide_v, len * wide_v)?)
    }
}

/// Buffers that every block of a step reuses.
pub struct Workspace<B: Backend> {
    /// What a part of the block reads.
    normed: B::Buffer,
    scratch: Scratch<B>,
}

/// What a part of the block writes.
struct Scratch<B: Backend> {
    q: B::Buffer,
    k: B::Buffer,
    v: B::Buffer,
    /// Queries or keys before their norm, and what latent attention makes of them in between.
    raw: B::Buffer,
    latent: B::Buffer,
    compressed: B::Buffer,
    attended: B::Buffer,
    /// What goes into the residual stream, and its norm.
    projected: B::Buffer,
    post_normed: B::Buffer,
    gate: B::Buffer,
    up: B::Buffer,
    experts: Option<ExpertSpace<B>>,
}

/// Buffers of mixtures of experts; a slot is a row together with one of its experts.
struct ExpertSpace<B: Backend> {
    scores: B::Buffer,
    /// `[slots, H]`
    gathered: B::Buffer,
    gate: B::Buffer,
    up: B::Buffer,
    /// `[slots, H]`
    out: B::Buffer,
}

impl<B: Backend> Workspace<B> {
    /// For steps of up to `rows` rows.
    pub fn new(backend: &B, h: &HParams, rows: usize) -> Result<Self> {
        let buffer = |columns: usize| backend.alloc(rows * columns);
        let (queries, keys) = (h.head_count * h.key_width(), h.kv_heads() * h.key_width());
        let dense = h.feed_forward_length.max(h.shared_feed_forward_length);
        let experts = if h.expert_count > 0 {
            let slot = |columns: usize| buffer(h.expert_used_count * columns);
            Some(ExpertSpace {
                scores: buffer(h.expert_count)?,
                gathered: slot(h.embedding_length)?,
                gate: slot(h.expert_feed_forward_length)?,
                up: slot(h.expert_feed_forward_length)?,
                out: slot(h.embedding_length)?,
            })
        } else {
            None
        };
        let scratch = Scratch {
            q: buffer(queries)?,
            k: buffer(keys)?,
            v: buffer(h.kv_heads() * h.value_width())?,
            raw: buffer(queries.max(keys).max(Self::latent(h)))?,
            latent: buffer(Self::latent(h))?,
            compressed: buffer(Self::latent(h))?,
            attended: buffer(h.head_count * h.value_width())?,
            projected: buffer(h.embedding_length)?,
            post_normed: buffer(h.embedding_length)?,
            gate: buffer(dense)?,
            up: buffer(dense)?,
            experts,
        };
        Ok(Self { normed: buffer(h.embedding_length)?, scratch })
    }

    /// Numbers of all buffers together, for each row.
    pub fn columns(h: &HParams) -> usize {
        let (queries, keys) = (h.head_count * h.key_width(), h.kv_heads() * h.key_width());
        let dense = h.feed_forward_length.max(h.shared_feed_forward_length);
        let slot = 2 * (h.embedding_length + h.expert_feed_forward_length);
        let experts = if h.expert_count > 0 { h.expert_count + h.expert_used_count * slot } else { 0 };
        let attention = queries + keys + h.kv_heads() * h.value_width() + h.head_count * h.value_width();
        let latent = queries.max(keys).max(Self::latent(h)) + 2 * Self::latent(h);
        attention + latent + 3 * h.embedding_length + 2 * dense + experts
    }

    /// Columns of what latent attention compresses.
    fn latent(h: &HParams) -> usize {
        h.mla.map_or(0, |mla| mla.q_lora_rank.max(mla.kv_lora_rank + h.rope_dim))
    }

    /// The widest buffer's columns: what limits the rows of a step.
    pub fn widest(h: &HParams) -> usize {
        let slots = h.expert_used_count * h.embedding_length.max(h.expert_feed_forward_length);
        [
            h.embedding_length,
            h.head_count * h.key_width(),
            h.head_count * h.value_width(),
            h.feed_forward_length,
            h.shared_feed_forward_length,
            h.expert_count,
            slots,
            Self::latent(h),
        ]
        .into_iter()
        .max()
        .unwrap_or(1)
    }
}

/// What the parts of a step have in common.
struct Step<'a, B: Backend> {
    backend: &'a B,
    graph: &'a Graph<B>,
    batch: &'a Batch<B>,
    rows: Rows,
    observer: Option<&'a dyn Observer<B>>,
}

impl<B: Backend> Step<'_, B> {
    fn linear(&self, x: &B::Buffer, w: &Linear<B>, out: &mut B::Buffer) -> Result<()> {
        let count = self.batch.rows;
        match self.rows {
            Rows::Many => self.backend.matmul(x, 0..count, &w.weight, w.rows.clone(), out)?,
            Rows::Few => self.backend.matvec(x, 0..count, &w.weight, w.rows.clone(), out)?,
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
        match self.observer {
            None => Ok(()),
            Some(observer) => observer.observe(self.backend, &Observed { block, site, x, cols, parts }),
        }
    }

    fn norm(&self, x: &B::Buffer, norm: &Norm<B>, out: &mut B::Buffer) -> Result<()> {
        self::norm(self.backend, self.graph, x, self.batch.rows, norm, out)
    }

    fn rotate(&self, x: &mut B::Buffer, heads: usize, head_dim: usize, first: usize, block: usize) -> Result<()> {
        let h = &self.graph.hparams;
        if !h.rope_blocks[block] {
            return Ok(());
        }
        let local = self.graph.local_table.as_ref().filter(|_| h.window_of(block).is_some());
        let shape = RopeShape { rows: self.batch.rows, heads, head_dim, first, dim: h.rope_dim, pairs: self.graph.traits.rope };
        Ok(self.backend.rope(x, shape, local.unwrap_or(&self.graph.table), &self.batch.angles)?)
    }

    /// Queries, keys and values of the rows of `normed`, rotated, into the workspace.
    fn project(&self, weights: &Block<B>, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let h = &self.graph.hparams;
        self.observe(weights.index, Site::Attention, normed, h.embedding_length)?;
        match &weights.projections {
            Projections::Latent(latent) => self.project_latent(latent, weights.index, ws, normed),
            Projections::Plain { q, k, v } => {
                self.linear(normed, v, &mut ws.v)?;
                let parts = [(q, &weights.q_norm, h.head_count), (k, &weights.k_norm, h.head_count_kv)];
                for ((linear, norm, heads), out) in parts.into_iter().zip([&mut ws.q, &mut ws.k]) {
                    match norm {
                        None => self.linear(normed, linear, out)?,
                        Some(norm) => {
                            self.linear(normed, linear, &mut ws.raw)?;
                            let count = if norm.together { self.batch.rows } else { self.batch.rows * heads };
                            let kind = self.graph.traits.norm;
                            self.backend.norm(kind, &ws.raw, count, &norm.gain, h.norm_epsilon, out)?;
                        }
                    }
                    self.rotate(out, heads, h.head_dim, 0, weights.index)?;
                }
                Ok(())
            }
        }
    }

    /// Multi-head latent attention's queries, keys and values, expanded: keys are the products with the compressed ones beside
    /// a rotated part that all heads share.
    fn project_latent(&self, latent: &Latent<B>, block: usize, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let (h, backend, count) = (&self.graph.hparams, self.backend, self.batch.rows);
        let Some(mla) = h.mla else { return Ok(()) };
        let (kind, epsilon) = (self.graph.traits.norm, self.graph.traits.latent_norm_epsilon);
        let (key, plain) = (mla.key_length, mla.key_length - h.rope_dim);
        match &latent.queries {
            Queries::Plain(linear) => self.linear(normed, linear, &mut ws.q)?,
            Queries::Compressed { down, norm, up } => {
                self.linear(normed, down, &mut ws.raw)?;
                backend.norm(kind, &ws.raw, count, norm, epsilon, &mut ws.compressed)?;
                self.observe(block, Site::CompressedQueries, &ws.compressed, mla.q_lora_rank)?;
                self.linear(&ws.compressed, up, &mut ws.q)?;
            }
        }
        self.rotate(&mut ws.q, h.head_count, key, plain, block)?;

        let both = mla.kv_lora_rank + h.rope_dim;
        self.linear(normed, &latent.down, &mut ws.raw)?;
        self.rotate(&mut ws.raw, 1, both, mla.kv_lora_rank, block)?;
        let shared = Columns { stride: both, first: mla.kv_lora_rank };
        let to = |first| Columns { stride: key, first };
        let heads = count * h.head_count;
        let copy = ColumnCopy { from: shared, to: to(plain), rows: heads, count: h.rope_dim, repeat: h.head_count };
        backend.copy_columns(&ws.raw, &mut ws.k, copy)?;
        let tight = |stride| Columns { stride, first: 0 };
        let (from, to_latent) = (tight(both), tight(mla.kv_lora_rank));
        let copy = ColumnCopy { from, to: to_latent, rows: count, count: mla.kv_lora_rank, repeat: 1 };
        backend.copy_columns(&ws.raw, &mut ws.latent, copy)?;
        backend.norm(kind, &ws.latent, count, &latent.norm, epsilon, &mut ws.compressed)?;
        self.linear(&ws.compressed, &latent.keys, &mut ws.raw)?;
        let copy = ColumnCopy { from: tight(plain), to: to(0), rows: heads, count: plain, repeat: 1 };
        backend.copy_columns(&ws.raw, &mut ws.k, copy)?;
        self.linear(&ws.compressed, &latent.values, &mut ws.v)
    }

    /// Attention of the rows of `normed`, up to its output projection, into the workspace.
    fn attend(&self, weights: &Block<B>, keys: Keys<'_, B>, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let (h, backend) = (&self.graph.hparams, self.backend);
        self.project(weights, ws, normed)?;
        let shape = AttentionShape {
            heads: h.head_count,
            kv_heads: h.kv_heads(),
            head_dim: h.key_width(),
            value_dim: h.value_width(),
            scale: h.attention_scale,
            softcap: h.attention_softcap,
        };
        let own = [&ws.k, &ws.v];
        let [k, v] = match keys {
            Keys::Cached(cache, writes) => {
                for &(from, to, len) in writes {
                    cache.take(backend, h, own, [from, to, len])?;
                }
                [&cache.k, &cache.v]
            }
            Keys::Joined { kept, joined, copies } => {
                for &(from, to, len) in &copies.keep {
                    kept.take(backend, h, own, [from, to, len])?;
                }
                for &(source, from, to, len) in &copies.join {
                    let source = if source == KeySource::Step { own } else { [&kept.k, &kept.v] };
                    joined.take(backend, h, source, [from, to, len])?;
                }
                if copies.join.is_empty() { own } else { [&joined.k, &joined.v] }
            }
        };
        let (spans, sinks) = (self.batch.spans(h.window_of(weights.index)), weights.sinks.as_ref());
        let inputs = AttentionInputs { q: &ws.q, k, v, spans, sinks };
        backend.attention(inputs, self.batch.rows, shape, &mut ws.attended)?;
        if self.observer.is_some() && h.mla.is_some() {
            self.observe_latent(weights.index, ws, spans, shape)?;
        }
        self.observe(weights.index, Site::AttentionOutput, &ws.attended, h.head_count * h.value_width())?;
        self.linear(&ws.attended, &weights.attn_output, &mut ws.projected)
    }

    /// Tells of what would meet the matrices of keys and values if they were absorbed, as GGUF has them: one head after the
    /// other, the queries without their rotated part, and the compressed values that the head gathers. For whole sequences.
    fn observe_latent(&self, block: usize, ws: &Scratch<B>, spans: &B::Indices, shape: AttentionShape) -> Result<()> {
        let (h, backend, rows) = (&self.graph.hparams, self.backend, self.batch.rows);
        let Some(mla) = h.mla else { return Ok(()) };
        let (key, plain, rank) = (mla.key_length, mla.key_length - h.rope_dim, mla.kv_lora_rank);
        let buffer = |columns: usize| backend.alloc(rows * columns);
        let (mut q, mut k, mut gathered) = (buffer(key)?, buffer(key)?, buffer(rank)?);
        let one = AttentionShape { heads: 1, kv_heads: 1, value_dim: rank, ..shape };
        let tight = |stride| Columns { stride, first: 0 };
        for head in 0..h.head_count {
            let from = Columns { stride: h.head_count * key, first: head * key };
            let part = |count: usize| ColumnCopy { from, to: tight(count), rows, count, repeat: 1 };
            backend.copy_columns(&ws.q, &mut q, part(plain))?;
            self.observe_parts(block, Site::LatentKeys, &q, plain, &[(head, 0..rows)])?;
            backend.copy_columns(&ws.q, &mut q, part(key))?;
            backend.copy_columns(&ws.k, &mut k, part(key))?;
            let inputs = AttentionInputs { q: &q, k: &k, v: &ws.compressed, spans, sinks: None };
            backend.attention(inputs, rows, one, &mut gathered)?;
            self.observe_parts(block, Site::LatentValues, &gathered, rank, &[(head, 0..rows)])?;
        }
        Ok(())
    }

    /// A network without experts: `x [T, H] -> out [T, H]`.
    fn dense(
        &self,
        network: &Dense<B>,
        (block, down): (usize, Site),
        width: usize,
        x: &B::Buffer,
        [gate, up]: [&mut B::Buffer; 2],
        out: &mut B::Buffer,
    ) -> Result<()> {
        let len = self.batch.rows * width;
        self.linear(x, &network.up, up)?;
        match (&network.gate, gate_of(self.graph.traits.mlp)) {
            (Some(linear), Some(f)) => {
                self.linear(x, linear, gate)?;
                self.backend.gate(f, gate, up, len)?;
                self.observe(block, down, gate, width)?;
                self.linear(gate, &network.down, out)
            }
            _ => {
                self.backend.map(Map::Gelu, up, len)?;
                self.observe(block, down, up, width)?;
                self.linear(up, &network.down, out)
            }
        }
    }

    /// A mixture of experts, each computed for the rows that are sent to it: `normed [T, H] -> ws.projected [T, H]`.
    fn experts(&self, experts: &Experts<B>, block: usize, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let (h, backend, count) = (&self.graph.hparams, self.backend, self.batch.rows);
        let (width, inner, used) = (h.embedding_length, h.expert_feed_forward_length, h.expert_used_count);
        let Some(space) = &mut ws.experts else { return Ok(()) };
        self.observe(block, Site::Router, normed, width)?;
        self.linear(normed, &experts.router, &mut space.scores)?;
        let scores = backend.read(&space.scores, 0..count * h.expert_count)?;
        let routes = routing::route(&scores, h.expert_count, used, experts.choice_bias.as_deref(), &h.routing);
        let slots = count * used;
        backend.gather(normed, &backend.indices(&routes.rows)?, slots, width, &mut space.gathered)?;
        let index = backend.indices(&routes.experts)?;
        let stack = |stack: &Stack<B>, x: &B::Buffer, rows: usize, out: &mut B::Buffer| -> Result<()> {
            for (expert, slots) in &routes.groups {
                let w_rows = expert * rows..(expert + 1) * rows;
                match self.rows {
                    Rows::Many => backend.matmul(x, slots.clone(), &stack.weight, w_rows, out)?,
                    Rows::Few => backend.matvec(x, slots.clone(), &stack.weight, w_rows, out)?,
                }
            }
            if let Some(bias) = &stack.bias {
                backend.add_rows(out, slots, bias, &index)?;
            }
            Ok(())
        };
        self.observe_parts(block, Site::Experts, &space.gathered, width, &routes.groups)?;
        stack(&experts.gate, &space.gathered, inner, &mut space.gate)?;
        stack(&experts.up, &space.gathered, inner, &mut space.up)?;
        if let Some(f) = gate_of(self.graph.traits.mlp) {
            backend.gate(f, &mut space.gate, &space.up, slots * inner)?;
        }
        self.observe_parts(block, Site::ExpertsDown, &space.gate, inner, &routes.groups)?;
        stack(&experts.down, &space.gate, width, &mut space.out)?;
        let (places, weights) = (backend.indices(&routes.slots)?, backend.upload(&routes.weights)?);
        let terms = Terms { x: &space.out, slots: &places, weights: &weights };
        let shape = CombineShape { rows: count, per_row: used, cols: width, accumulate: false };
        backend.combine(terms, shape, &mut ws.projected)?;

        let Some(shared) = &experts.shared else { return Ok(()) };
        let inner = h.shared_feed_forward_length;
        self.dense(&shared.network, (block, Site::SharedDown), inner, normed, [&mut ws.gate, &mut ws.up], &mut space.out)?;
        let Some(gate) = &shared.gate else {
            return Ok(backend.add(&mut ws.projected, &space.out, 1.0, count * width)?);
        };
        self.linear(normed, gate, &mut space.scores)?;
        let weights: Vec<f32> = backend.read(&space.scores, 0..count)?.into_iter().map(routing::sigmoid).collect();
        let rows = backend.indices(&(0..count as u32).collect::<Vec<_>>())?;
        let terms = Terms { x: &space.out, slots: &rows, weights: &backend.upload(&weights)? };
        Ok(backend.combine(terms, CombineShape { per_row: 1, accumulate: true, ..shape }, &mut ws.projected)?)
    }

    fn feed_forward(&self, weights: &Block<B>, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        match &weights.feed_forward {
            FeedForward::Experts(experts) => self.experts(experts, weights.index, ws, normed),
            FeedForward::Dense(dense) => {
                let h = &self.graph.hparams;
                self.observe(weights.index, Site::FeedForward, normed, h.embedding_length)?;
                let (down, width) = ((weights.index, Site::FeedForwardDown), h.feed_forward_length);
                self.dense(dense, down, width, normed, [&mut ws.gate, &mut ws.up], &mut ws.projected)
            }
        }
    }

    /// Adds what attention or the feed-forward network has put into `ws.projected` to the residual stream.
    fn join(&self, post_norm: Option<&Norm<B>>, ws: &mut Scratch<B>, x: &mut B::Buffer) -> Result<()> {
        let h = &self.graph.hparams;
        let len = self.batch.rows * h.embedding_length;
        match post_norm {
            None => self.backend.add(x, &ws.projected, h.residual_scale, len)?,
            Some(norm) => {
                self.norm(&ws.projected, norm, &mut ws.post_normed)?;
                self.backend.add(x, &ws.post_normed, h.residual_scale, len)?;
            }
        }
        Ok(())
    }
}

/// The function of a gated network; `None` for one without a gate.
fn gate_of(mlp: Mlp) -> Option<Gate> {
    match mlp {
        Mlp::SwiGlu => Some(Gate::Silu),
        Mlp::GeGlu => Some(Gate::Gelu),
        Mlp::SwiGluOai => Some(Gate::ClampedSilu),
        Mlp::Gelu => None,
    }
}

/// The norm that the architecture uses: `[T, H] -> [T, H]`.
pub fn norm<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    x: &B::Buffer,
    rows: usize,
    norm: &Norm<B>,
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
    Ok(())
}

/// What follows the product with the output matrix: the scale of the logits and their cap.
pub fn finish_logits<B: Backend>(backend: &B, graph: &Graph<B>, logits: &mut B::Buffer, len: usize) -> Result<()> {
    let h = &graph.hparams;
    if h.logit_scale != 1.0 {
        backend.map(Map::Scale(h.logit_scale), logits, len)?;
    }
    if h.logit_softcap != 0.0 {
        backend.map(Map::Softcap(h.logit_softcap), logits, len)?;
    }
    Ok(())
}

/// Runs one block over the rows of `batch`, in place: `x [T, H] -> [T, H]`.
///
/// What the spans of `batch` count rows of is said by `keys`. An observer is told of what goes into the matrices; its steps hold
/// whole sequences.
#[allow(clippy::too_many_arguments)]
pub fn block<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    weights: &Block<B>,
    batch: &Batch<B>,
    keys: Keys<'_, B>,
    rows: Rows,
    ws: &mut Workspace<B>,
    x: &mut B::Buffer,
    observer: Option<&dyn Observer<B>>,
) -> Result<()> {
    let step = Step { backend, graph, batch, rows, observer };
    let Workspace { normed, scratch } = ws;
    {
        let input = pre_norm(&step, weights.attn_norm.as_ref(), x, normed)?;
        step.attend(weights, keys, scratch, input)?;
    }
    step.join(weights.attn_post_norm.as_ref(), scratch, x)?;
    let shares = graph.hparams.parallel;
    let input = if shares { &*normed } else { pre_norm(&step, weights.ffn_norm.as_ref(), x, normed)? };
    step.feed_forward(weights, scratch, input)?;
    step.join(weights.ffn_post_norm.as_ref(), scratch, x)
}

/// What a part of the block reads: the norm of `x`, or `x` itself where the model has no norm there.
fn pre_norm<'a, B: Backend>(
    step: &Step<'_, B>,
    norm: Option<&Norm<B>>,
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
