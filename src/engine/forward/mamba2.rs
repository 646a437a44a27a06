//! Mamba-2 (Dao and Gu 2024): a convolution over values, keys and queries, a recurrence along the rows of each sequence, and a
//! gated norm of what comes out.

use super::workspace::Scratch;
use super::{Past, Step};
use crate::backend::{Backend, ColumnCopy, Columns, ConvFilter, Gate, Norm, RecurInputs, RecurShape, Recurrence};
use crate::error::Result;
use crate::model::Mamba2;
use crate::observe::Site;

impl<B: Backend> Step<'_, B> {
    /// Mamba-2 over the rows of `normed`, up to its output projection, into the workspace.
    pub(super) fn mamba2(
        &self,
        mamba: &Mamba2<B>,
        block: usize,
        past: &mut Past<'_, B>,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
    ) -> Result<()> {
        let (h, backend, rows) = (&self.graph.hparams, self.backend, self.batch.rows);
        let (Some(r), Some(state)) = (h.recurrent_of(block), past.states.as_deref_mut()) else { return Ok(()) };
        self.observe(block, Site::Attention, normed, h.embedding_length)?;
        self.linear(normed, &mamba.projection, &mut ws.raw)?;
        let filter = ConvFilter { weight: &mamba.conv, bias: mamba.conv_bias.as_ref(), silu: true };
        backend.conv(&mut ws.raw, filter, past.runs, &mut state.conv)?;

        let (keys, values) = (r.keys(), r.values());
        for (first, count, out) in [(0, values, &mut ws.v), (values, keys, &mut ws.k), (values + keys, keys, &mut ws.q)] {
            let from = Columns { stride: values + 2 * keys, first };
            let to = Columns { stride: count, first: 0 };
            backend.copy_columns(&ws.raw, out, ColumnCopy { from, to, rows, count, repeat: 1 })?;
        }
        self.linear(normed, &mamba.steps, &mut ws.decays)?;
        let [dt_min, dt_max] = r.step_limits;
        let shape = RecurShape {
            kind: Recurrence::Scan { dt_min, dt_max },
            heads: r.heads,
            key_heads: r.key_heads,
            key_dim: r.key_dim,
            value_dim: r.value_dim,
            tiled: false,
        };
        let inputs = RecurInputs { q: &ws.q, k: &ws.k, gate: &ws.decays, beta: None, parameters: &mamba.parameters };
        backend.recur(inputs, shape, past.runs, &mut state.heads, &mut ws.v)?;

        self.linear(normed, &mamba.gate, &mut ws.gate)?;
        backend.gate(Gate::Silu, &mut ws.gate, &ws.v, rows * values)?;
        let out = match &mamba.norm {
            None => &ws.gate,
            Some(gain) => {
                backend.norm(Norm::Rms, &ws.gate, rows * r.key_heads, gain, h.norm_epsilon, &mut ws.attended)?;
                &ws.attended
            }
        };
        self.observe(block, Site::StateOutput, out, values)?;
        self.linear(out, &mamba.output, &mut ws.projected)
    }
}
