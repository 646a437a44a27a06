//! Attention, plain and latent: queries, keys and values of the rows of a step, and what the heads gather.

use bitworth_quant::arch::HeadNorms;

use super::workspace::Scratch;
use super::{Chunked, KvPast, KvSource, Lent, Past, RowCount, Step};
use crate::backend::{AttentionInputs, AttentionShape, Backend, ColumnCopy, Columns, CombineShape, Gate, Terms};
use crate::error::Result;
use crate::model::{Attention, Gated, HeadNorm, Latent, Linear, Projections, Queries};
use crate::observe::Site;
use crate::state::{KvColumns, RowCopy};

impl<B: Backend> Step<'_, B> {
    /// Queries, keys and values of the rows of `normed`, rotated, into the workspace.
    fn project(&self, attention: &Attention<B>, block: usize, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let h = &self.graph.hparams;
        self.observe(block, Site::Attention, normed, h.embedding_length)?;
        match &attention.projections {
            Projections::Latent(latent) => self.project_latent(latent, block, ws, normed),
            Projections::Queries(q) => {
                let heads = h.head_count.of(block);
                self.rotated(Some(q), attention.q_norm.as_ref(), (heads, block), normed, [&mut ws.raw, &mut ws.q])?;
                self.temper(block, ws)
            }
            Projections::Plain { q, k, v } => {
                if let Gated::BehindQueries = attention.gate {
                    self.linear(normed, v.as_ref().unwrap_or(k), &mut ws.v)?;
                    return self.project_gated(attention, (q, k), block, ws, normed);
                }
                let (heads, kv_heads) = (h.head_count.of(block), h.head_count_kv.of(block));
                self.rotated(Some(q), attention.q_norm.as_ref(), (heads, block), normed, [&mut ws.raw, &mut ws.q])?;
                let values = v.as_ref().unwrap_or(k);
                match &attention.v_norm {
                    None => self.linear(normed, values, &mut ws.v)?,
                    Some(_) => {
                        self.linear(normed, values, &mut ws.raw)?;
                        let shape = (kv_heads, h.value_dim.of(block));
                        self.head_norm(attention.v_norm.as_ref(), shape, &ws.raw, &mut ws.v)?;
                    }
                }
                // Values that are keys have left those there.
                let k = Some(k).filter(|_| v.is_some() || attention.v_norm.is_none());
                self.rotated(k, attention.k_norm.as_ref(), (kv_heads, block), normed, [&mut ws.raw, &mut ws.k])?;
                self.temper(block, ws)
            }
        }
    }

    /// Queries or keys of `heads` heads, normalized and rotated, in `out`; without a matrix, of what is in `raw`.
    fn rotated(
        &self,
        linear: Option<&Linear<B>>,
        norm: Option<&HeadNorm<B>>,
        (heads, block): (usize, usize),
        normed: &B::Buffer,
        [raw, out]: [&mut B::Buffer; 2],
    ) -> Result<()> {
        let dim = self.graph.hparams.head_dim.of(block);
        if norm.is_none() {
            match linear {
                Some(linear) => self.linear(normed, linear, out)?,
                None => self.head_norm(None, (heads, dim), raw, out)?,
            }
            return self.rotate(out, heads, dim, 0, block);
        }
        if let Some(linear) = linear {
            self.linear(normed, linear, raw)?;
        }
        if self.graph.traits.head_norms == HeadNorms::BeforeRope {
            self.head_norm(norm, (heads, dim), raw, out)?;
            return self.rotate(out, heads, dim, 0, block);
        }
        self.rotate(raw, heads, dim, 0, block)?;
        self.head_norm(norm, (heads, dim), raw, out)
    }

    /// Queries times the factor of their positions, in blocks that have one.
    fn temper(&self, block: usize, ws: &mut Scratch<B>) -> Result<()> {
        let h = &self.graph.hparams;
        let Some((slots, weights)) = self.batch.factors(h.temperature_of(block)) else { return Ok(()) };
        let cols = h.head_count.of(block) * h.head_dim.of(block);
        let shape = CombineShape { rows: self.batch.rows, per_row: 1, cols, accumulate: false };
        self.backend.combine(Terms { x: &ws.q, slots, weights }, shape, &mut ws.raw)?;
        Ok(self.backend.copy(&ws.raw, 0, &mut ws.q, 0, shape.rows * shape.cols)?)
    }

    /// Queries with their gates beside them, head by head, and keys.
    fn project_gated(
        &self,
        attention: &Attention<B>,
        (q, k): (&Linear<B>, &Linear<B>),
        block: usize,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
    ) -> Result<()> {
        let (h, backend, rows) = (&self.graph.hparams, self.backend, self.batch.rows);
        let (heads, kv_heads, dim) = (h.head_count.of(block), h.head_count_kv.of(block), h.head_dim.of(block));
        self.linear(normed, q, &mut ws.raw)?;
        let part = |first| ColumnCopy {
            from: Columns { stride: 2 * dim, first },
            to: Columns { stride: dim, first: 0 },
            rows: rows * heads,
            count: dim,
            repeat: 1,
        };
        backend.copy_columns(&ws.raw, &mut ws.attended, part(0))?;
        backend.copy_columns(&ws.raw, &mut ws.gate, part(dim))?;
        self.head_norm(attention.q_norm.as_ref(), (heads, dim), &ws.attended, &mut ws.q)?;
        self.rotate(&mut ws.q, heads, dim, 0, block)?;
        self.linear(normed, k, &mut ws.raw)?;
        self.head_norm(attention.k_norm.as_ref(), (kv_heads, dim), &ws.raw, &mut ws.k)?;
        self.rotate(&mut ws.k, kv_heads, dim, 0, block)
    }

    /// The norm of heads of a width, where the model has one; else they are copied.
    fn head_norm(
        &self,
        norm: Option<&HeadNorm<B>>,
        (heads, dim): (usize, usize),
        x: &B::Buffer,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let (h, rows) = (&self.graph.hparams, self.batch.rows);
        let Some(norm) = norm else { return Ok(self.backend.copy(x, 0, out, 0, rows * heads * dim)?) };
        let count = if norm.together { rows } else { rows * heads };
        Ok(self.backend.norm(self.graph.traits.norm, x, count, &norm.gain, h.norm_epsilon, out)?)
    }

    /// Multi-head latent attention's queries, keys and values, expanded: keys are the products with the compressed ones beside
    /// a rotated part that all heads share.
    fn project_latent(&self, latent: &Latent<B>, block: usize, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        let (h, backend, count) = (&self.graph.hparams, self.backend, self.batch.rows);
        let Some(mla) = h.mla else { return Ok(()) };
        let (kind, epsilon) = (self.graph.traits.norm, self.graph.traits.latent_norm_epsilon);
        let (key, plain, heads) = (mla.key_length, mla.key_length - h.rope_dim, h.head_count.of(block));
        match &latent.queries {
            Queries::Plain(linear) => self.linear(normed, linear, &mut ws.q)?,
            Queries::Compressed { down, norm, up } => {
                self.linear(normed, down, &mut ws.raw)?;
                backend.norm(kind, &ws.raw, count, norm, epsilon, &mut ws.compressed)?;
                self.observe(block, Site::CompressedQueries, &ws.compressed, mla.q_lora_rank)?;
                self.linear(&ws.compressed, up, &mut ws.q)?;
            }
        }
        self.rotate(&mut ws.q, heads, key, plain, block)?;

        let both = mla.kv_lora_rank + h.rope_dim;
        self.linear(normed, &latent.down, &mut ws.raw)?;
        self.rotate(&mut ws.raw, 1, both, mla.kv_lora_rank, block)?;
        let shared = Columns { stride: both, first: mla.kv_lora_rank };
        let to = |first| Columns { stride: key, first };
        let rows = count * heads;
        let copy = ColumnCopy { from: shared, to: to(plain), rows, count: h.rope_dim, repeat: heads };
        backend.copy_columns(&ws.raw, &mut ws.k, copy)?;
        let tight = |stride| Columns { stride, first: 0 };
        let (from, to_latent) = (tight(both), tight(mla.kv_lora_rank));
        let copy = ColumnCopy { from, to: to_latent, rows: count, count: mla.kv_lora_rank, repeat: 1 };
        backend.copy_columns(&ws.raw, &mut ws.latent, copy)?;
        backend.norm(kind, &ws.latent, count, &latent.norm, epsilon, &mut ws.compressed)?;
        self.linear(&ws.compressed, &latent.keys, &mut ws.raw)?;
        let copy = ColumnCopy { from: tight(plain), to: to(0), rows, count: plain, repeat: 1 };
        backend.copy_columns(&ws.raw, &mut ws.k, copy)?;
        self.linear(&ws.compressed, &latent.values, &mut ws.v)
    }

    /// Attention of the rows of `normed`, up to its output projection, into the workspace.
    pub(super) fn attend(
        &self,
        attention: &Attention<B>,
        block: usize,
        past: &mut Past<'_, B>,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
    ) -> Result<()> {
        let (h, backend) = (&self.graph.hparams, self.backend);
        self.project(attention, block, ws, normed)?;
        let shape = AttentionShape {
            heads: h.head_count.of(block),
            kv_heads: h.kv_heads(block),
            head_dim: h.key_width(block),
            value_dim: h.value_width(block),
            scale: h.attention_scale,
            softcap: h.attention_softcap,
        };
        let own = [&ws.k, &ws.v];
        let [k, v] = match &mut past.kv {
            KvPast::Resident(kv) => {
                if h.has_own_keys(block) {
                    kv.advance(backend, own, past.runs)?;
                }
                [&kv.cache.k, &kv.cache.v]
            }
            KvPast::Chunked(Chunked { kept, joined, copies, lent }) => {
                let columns = KvColumns::of(h, h.kv_blocks[block]);
                let own = match lent {
                    Lent::No => own,
                    Lent::Given(kv) => {
                        kv.take(backend, columns, own, RowCopy { from: 0, to: 0, len: self.batch.rows })?;
                        own
                    }
                    Lent::Taken(kv) => [&kv.k, &kv.v],
                };
                for &copy in &copies.keep {
                    kept.take(backend, columns, own, copy)?;
                }
                for &(source, copy) in &copies.join {
                    let source = if source == KvSource::Step { own } else { [&kept.k, &kept.v] };
                    joined.take(backend, columns, source, copy)?;
                }
                if copies.join.is_empty() { own } else { [&joined.k, &joined.v] }
            }
        };
        let (spans, sinks) = (self.batch.spans(h.window_of(block)), attention.sinks.as_ref());
        let inputs = AttentionInputs { q: &ws.q, k, v, spans, sinks };
        match self.rows {
            RowCount::Many => backend.attention(inputs, self.batch.rows, shape, &mut ws.attended)?,
            RowCount::Few => backend.attention_few(inputs, self.batch.rows, shape, &mut ws.attended)?,
        }
        if self.observer.is_some() && h.mla.is_some() {
            self.observe_latent(block, ws, spans, shape)?;
        }
        let width = shape.heads * shape.value_dim;
        match &attention.gate {
            Gated::No => {
                self.observe(block, Site::AttentionOutput, &ws.attended, width)?;
                return self.linear(&ws.attended, &attention.output, &mut ws.projected);
            }
            Gated::BehindQueries => {}
            Gated::Own(gate) => self.linear(normed, gate, &mut ws.gate)?,
        }
        backend.gate(Gate::Sigmoid, &mut ws.gate, &ws.attended, self.batch.rows * width)?;
        self.observe(block, Site::AttentionOutput, &ws.gate, width)?;
        self.linear(&ws.gate, &attention.output, &mut ws.projected)
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
        for head in 0..shape.heads {
            let from = Columns { stride: shape.heads * key, first: head * key };
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
}
