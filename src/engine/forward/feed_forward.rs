//! What follows the mixer: a network of two or three matrices, or a mixture of such networks.

use bitworth_quant::arch::{Mlp, Weighs};
use bitworth_quant::hparams::Xielu;

use super::workspace::Scratch;
use super::{RowCount, Step};
use crate::backend::{Backend, CombineShape, Gate, Map, Terms};
use crate::error::Result;
use crate::model::{Beside, BlockWeights, Dense, Experts, FeedForward, Stack};
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

    /// Experts beside a dense network (Gemma 4): `normed [T, H]`, and another norm of `x [T, H]` for the experts, and a third for
    /// the router `-> ws.projected [T, H]`.
    fn both(
        &self,
        experts: &Experts<B>,
        beside: &Beside<B>,
        block: usize,
        ws: &mut Scratch<B>,
        [normed, x]: [&B::Buffer; 2],
    ) -> Result<()> {
        let (h, backend, rows) = (&self.graph.hparams, self.backend, self.batch.rows);
        let Some([mut routed, mut input]) = ws.beside.take() else { return Ok(()) };
        backend.norm(self.graph.traits.norm, x, rows, &beside.router_gain, h.norm_epsilon, &mut routed)?;
        self.norm(x, &beside.experts_norm, &mut input)?;
        self.experts(experts, block, ws, [&routed, &input])?;
        self.norm(&ws.projected, &beside.experts_post_norm, &mut routed)?;

        self.observe(block, Site::FeedForward, normed, h.embedding_length)?;
        let (down, width) = ((block, Site::FeedForwardDown), h.feed_forward_length.of(block));
        self.dense(&beside.network, down, width, normed, [&mut ws.gate, &mut ws.up], &mut ws.post_normed)?;
        self.norm(&ws.post_normed, &beside.post_norm, &mut ws.projected)?;
        backend.add(&mut ws.projected, &routed, 1.0, rows * h.embedding_length)?;
        ws.beside = Some([routed, input]);
        Ok(())
    }

    /// A mixture of experts, each computed for the rows that are sent to it, by a router that may read something else: `routed,
    /// normed [T, H] -> ws.projected [T, H]`.
    fn experts(&self, experts: &Experts<B>, block: usize, ws: &mut Scratch<B>, [routed, normed]: [&B::Buffer; 2]) -> Result<()> {
        let (h, backend, count) = (&self.graph.hparams, self.backend, self.batch.rows);
        let (width, inner, used) = (h.embedding_length, h.expert_feed_forward_length, h.expert_used_count);
        let Some(space) = &mut ws.experts else { return Ok(()) };
        self.observe(block, Site::Router, routed, width)?;
        self.linear(routed, &experts.router, &mut space.scores)?;
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
        if let Some(scales) = &experts.scales {
            let of = |slot: u32| scales[routes.experts[slot as usize] as usize];
            factors.iter_mut().zip(&routes.slots).for_each(|(factor, &slot)| *factor *= of(slot));
        }
        let index = backend.indices(&routes.experts)?;
        let stack = |stack: &Stack<B>, x: &B::Buffer, rows: usize, out: &mut B::Buffer| -> Result<()> {
            for (expert, slots) in &routes.groups {
                let first = expert * stack.stride + stack.first;
                let w_rows = first..first + rows;
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

    /// The network of a block, whose norm of the stream `x` is `normed`.
    pub(super) fn feed_forward(
        &self,
        weights: &BlockWeights<B>,
        ws: &mut Scratch<B>,
        normed: &B::Buffer,
        x: &B::Buffer,
    ) -> Result<()> {
        match &weights.feed_forward {
            FeedForward::Experts(experts) => match &experts.beside {
                None => self.experts(experts, weights.index, ws, [normed, normed]),
                Some(beside) => self.both(experts, beside, weights.index, ws, [normed, x]),
            },
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
pub(super) fn gate_of(mlp: Mlp) -> Option<Gate> {
    match mlp {
        Mlp::SwiGlu => Some(Gate::Silu),
        Mlp::GeGlu => Some(Gate::Gelu),
        Mlp::SwiGluOai => Some(Gate::ClampedSilu),
        Mlp::Gelu | Mlp::Xielu => None,
    }
}
