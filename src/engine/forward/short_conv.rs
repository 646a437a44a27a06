//! Short convolutions between two gates (LFM2; transformers 5.24, `modeling_lfm2.py`): `C conv(B x)` of three projections.

use super::workspace::Scratch;
use super::{Past, Step};
use crate::backend::{Backend, ConvFilter, Gate};
use crate::error::Result;
use crate::model::ShortConv;
use crate::observe::Site;

impl<B: Backend> Step<'_, B> {
    /// A short convolution over the rows of `normed`, up to its output projection, into the workspace.
    pub(super) fn short_conv(
        &self,
        conv: &ShortConv<B>,
        block: usize,
        past: &mut Past<'_, B>,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
    ) -> Result<()> {
        let (width, backend) = (self.graph.hparams.embedding_length, self.backend);
        let Some(state) = past.states.as_deref_mut() else { return Ok(()) };
        let len = self.batch.rows * width;
        self.observe(block, Site::Attention, normed, width)?;
        self.linear(normed, &conv.gate_in, &mut ws.gate)?;
        self.linear(normed, &conv.projection, &mut ws.up)?;
        backend.gate(Gate::Product, &mut ws.gate, &ws.up, len)?;
        let filter = ConvFilter { weight: &conv.conv, bias: None, silu: false };
        backend.conv(&mut ws.gate, filter, past.runs, &mut state.conv)?;
        self.linear(normed, &conv.gate_out, &mut ws.up)?;
        backend.gate(Gate::Product, &mut ws.gate, &ws.up, len)?;
        self.observe(block, Site::StateOutput, &ws.gate, width)?;
        self.linear(&ws.gate, &conv.output, &mut ws.projected)
    }
}
