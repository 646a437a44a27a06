//! What follows the mixer: a network of two or three matrices, or a mixture of such networks.

use bitworth_quant::arch::{Mlp, Weighs};
use bitworth_quant::hparams::Xielu;

use super::workspace::Scratch;
use super::{RowCount, Step};
use crate::backend::{Backend, CombineShape, Gate, Map, Terms};
use crate::error::Result;
use crate::model::{BlockWeights, Dense, Experts, FeedForward, Stack};
use crate::observe::Site;
use crate::routing;

impl<B: Backend> Step<'_, B> {
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
                self.backend.map(self.function(block), up, len)?;
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
        let (rows, mut factors) = (backend.indices(&routes.rows)?, routes.weights.clone());
        match self.graph.traits.weighs {
            Weighs::Outputs => backend.gather(normed, &rows, slots, width, &mut space.gathered)?,
            Weighs::Inputs => {
                let terms = Terms { x: normed, slots: &rows, weights: &backend.upload(&routes.slot_weights())? };
                let shape = CombineShape { rows: slots, per_row: 1, cols: width, accumulate: false };
                backend.combine(terms, shape, &mut space.gathered)?;
                factors.fill(1.0);
            }
        }
        let index = backend.indices(&routes.experts)?;
        let stack = |stack: &Stack<B>, x: &B::Buffer, rows: usize, out: &mut B::Buffer| -> Result<()> {
            for (expert, slots) in &routes.groups {
                let w_rows = expert * rows..(expert + 1) * rows;
                match self.rows {
                    RowCount::Many => backend.matmul(x, slots.clone(), &stack.weight, w_rows, out)?,
                    RowCount::Few => backend.matvec(x, slots.clone(), &stack.weight, w_rows, out)?,
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
        let (places, weights) = (backend.indices(&routes.slots)?, backend.upload(&factors)?);
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

    /// The function of a network without a gate.
    fn function(&self, block: usize) -> Map {
        match self.graph.hparams.xielu.get(block) {
            None => Map::Gelu,
            Some(&Xielu { alpha_p, alpha_n, beta, eps }) => Map::Xielu { alpha_p, alpha_n, beta, eps },
        }
    }

    pub(super) fn feed_forward(&self, weights: &BlockWeights<B>, ws: &mut Scratch<B>, normed: &B::Buffer) -> Result<()> {
        match &weights.feed_forward {
            FeedForward::Experts(experts) => self.experts(experts, weights.index, ws, normed),
            FeedForward::Dense(dense) => {
                let h = &self.graph.hparams;
                self.observe(weights.index, Site::FeedForward, normed, h.embedding_length)?;
                let (down, width) = ((weights.index, Site::FeedForwardDown), h.feed_forward_length.of(weights.index));
                self.dense(dense, down, width, normed, [&mut ws.gate, &mut ws.up], &mut ws.projected)
            }
        }
    }
}

/// The function of a gated network; `None` for one without a gate.
fn gate_of(mlp: Mlp) -> Option<Gate> {
    match mlp {
        Mlp::SwiGlu => Some(Gate::Silu),
        Mlp::GeGlu => Some(Gate::Gelu),
        Mlp::SwiGluOai => Some(Gate::ClampedSilu),
        Mlp::Gelu | Mlp::Xielu => None,
    }
}
