//! Gated delta nets (Yang et al. 2024): a convolution over queries, keys and values, a recurrence along the rows of each
//! sequence, and a gate on what comes out.

use bitworth_quant::arch::Recurs;

use super::workspace::Scratch;
use super::{Past, Step};
use crate::backend::{Backend, ColumnCopy, Columns, ConvFilter, Gate, Norm, RecurInputs, RecurShape, Recurrence};
use crate::error::Result;
use crate::model::DeltaNet;
use crate::observe::Site;

/// What is added to the square of the length of queries and keys (transformers 5.23, `l2norm` in `modeling_qwen3_next.py`).
const LENGTH_EPSILON: f32 = 1e-6;

impl<B: Backend> Step<'_, B> {
    /// A gated delta net over the rows of `normed`, up to its output projection, into the workspace.
    pub(super) fn delta_net(
        &self,
        net: &DeltaNet<B>,
        block: usize,
        past: &mut Past<'_, B>,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
    ) -> Result<()> {
        let (h, backend, rows) = (&self.graph.hparams, self.backend, self.batch.rows);
        let (Some(r), Some(state)) = (h.recurrent_of(block), past.states.as_deref_mut()) else { return Ok(()) };
        self.observe(block, Site::Attention, normed, h.embedding_length)?;
        self.linear(normed, &net.projection, &mut ws.raw)?;
        let filter = ConvFilter { weight: &net.conv, bias: None, silu: true };
        backend.conv(&mut ws.raw, filter, past.runs, &mut state.conv)?;

        let (keys, values) = (r.keys(), r.values());
        let part = |first, count| ColumnCopy {
            from: Columns { stride: 2 * keys + values, first },
            to: Columns { stride: count, first: 0 },
            rows,
            count,
            repeat: 1,
        };
        // A length is the root of the mean of squares times that of the width.
        let epsilon = LENGTH_EPSILON / r.key_dim as f32;
        for (first, gain, out) in [(0, &net.query_norm, &mut ws.q), (keys, &net.key_norm, &mut ws.k)] {
            backend.copy_columns(&ws.raw, &mut ws.attended, part(first, keys))?;
            backend.norm(Norm::Rms, &ws.attended, rows * r.key_heads, gain, epsilon, out)?;
        }
        backend.copy_columns(&ws.raw, &mut ws.v, part(2 * keys, values))?;
        self.linear(normed, &net.decay, &mut ws.decays)?;
        self.linear(normed, &net.rate, &mut ws.rates)?;
        let shape = RecurShape {
            kind: Recurrence::Delta,
            heads: r.heads,
            key_heads: r.key_heads,
            key_dim: r.key_dim,
            value_dim: r.value_dim,
            tiled: self.graph.traits.recurs == Recurs::DeltaNet { tiled: true },
        };
        let inputs = RecurInputs { q: &ws.q, k: &ws.k, gate: &ws.decays, beta: Some(&ws.rates), parameters: &net.parameters };
        backend.recur(inputs, shape, past.runs, &mut state.heads, &mut ws.v)?;

        backend.norm(Norm::Rms, &ws.v, rows * r.heads, &net.norm, h.norm_epsilon, &mut ws.attended)?;
        self.linear(normed, &net.gate, &mut ws.gate)?;
        backend.gate(Gate::Silu, &mut ws.gate, &ws.attended, rows * values)?;
        self.observe(block, Site::StateOutput, &ws.gate, values)?;
        self.linear(&ws.gate, &net.output, &mut ws.projected)
    }
}
