//! What follows the mixer: a network of two or three matrices, or a mixture of such networks.

use bitworth_quant::arch::{Mlp, Weighs};
use bitworth_quant::hparams::Xielu;

use super::workspace::Scratch;
use super::{RowCount, Step};
use crate::backend::{Backend, CombineShape, Map, Terms};
use crate::error::Result;
use crate::model::{Beside, Dense, Experts, FeedForward, Stack, gate_of};
use crate::observe::{Observed, Site};
use crate::routing::{self, Routes};

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
        let (inner, used) = (h.expert_feed_forward_length, h.expert_used_count);
        // Of what the experts read and write.
        let width = h.expert_embedding_length();
        let Some(space) = &mut ws.experts else { return Ok(()) };
        self.observe(block, Site::Router, routed, h.embedding_length)?;
        self.linear(routed, &experts.router, &mut space.scores)?;
        let scores = backend.read(&space.scores, 0..count * h.expert_count)?;
        let routes = routing::route(&scores, h.expert_count, used, experts.choice_bias.as_deref(), &h.routing);
        let slots = count * used;
        if let Some([down, _]) = &experts.latent {
            self.linear(normed, down, &mut ws.post_normed)?;
        }
        let input = if experts.latent.is_some() { &ws.post_normed } else { normed };
        let (rows, mut factors) = (backend.indices(&routes.rows)?, routes.weights.clone());
        match self.graph.traits.weighs {
            Weighs::Outputs => backend.gather(input, &rows, slots, width, &mut space.gathered)?,
            Weighs::Inputs => {
                let terms = Terms { x: input, slots: &rows, weights: &backend.upload(&routes.slot_weights())? };
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
        self.observe_routed((block, Site::Experts), &space.gathered, width, &routes)?;
        stack(&experts.up, &space.gathered, inner, &mut space.up)?;
        let through = match (&experts.gate, gate_of(self.graph.traits.mlp)) {
            (Some(gate), Some(f)) => {
                stack(gate, &space.gathered, inner, &mut space.gate)?;
                backend.gate(f, &mut space.gate, &space.up, slots * inner)?;
                &space.gate
            }
            _ => {
                backend.map(self.function(block), &mut space.up, slots * inner)?;
                &space.up
            }
        };
        self.observe_routed((block, Site::ExpertsDown), through, inner, &routes)?;
        stack(&experts.down, through, width, &mut space.out)?;
        let (places, weights) = (backend.indices(&routes.slots)?, backend.upload(&factors)?);
        let terms = Terms { x: &space.out, slots: &places, weights: &weights };
        let shape = CombineShape { rows: count, per_row: used, cols: width, accumulate: false };
        match &experts.latent {
            None => backend.combine(terms, shape, &mut ws.projected)?,
            Some([_, up]) => {
                backend.combine(terms, shape, &mut ws.post_normed)?;
                self.observe(block, Site::LatentExperts, &ws.post_normed, width)?;
                self.linear(&ws.post_normed, up, &mut ws.projected)?;
            }
        }

        let Some(shared) = &experts.shared else { return Ok(()) };
        let (inner, width) = (h.shared_feed_forward_length, h.embedding_length);
        self.dense(&shared.network, (block, Site::SharedDown), inner, normed, [&mut ws.gate, &mut ws.up], &mut space.out)?;
        let Some(gate) = &shared.gate else {
            return Ok(backend.add(&mut ws.projected, &space.out, 1.0, count * width)?);
        };
        self.linear(normed, gate, &mut space.scores)?;
        let weights: Vec<f32> = backend.read(&space.scores, 0..count)?.into_iter().map(routing::sigmoid).collect();
        let rows = backend.indices(&(0..count as u32).collect::<Vec<_>>())?;
        let terms = Terms { x: &space.out, slots: &rows, weights: &backend.upload(&weights)? };
        let shape = CombineShape { rows: count, per_row: 1, cols: width, accumulate: true };
        Ok(backend.combine(terms, shape, &mut ws.projected)?)
    }

    /// Tells of rows `x` on their way to experts.
    fn observe_routed(&self, (block, site): (usize, Site), x: &B::Buffer, cols: usize, routes: &Routes) -> Result<()> {
        let (parts, rows) = (&routes.groups[..], Some(&routes.rows[..]));
        self.tell(&Observed { block, site, x, cols, parts, first: self.first, rows })
    }

    /// The function of a network without a gate.
    fn function(&self, block: usize) -> Map {
        match self.graph.hparams.xielu.get(block) {
            None if self.graph.traits.mlp == Mlp::ReluSquared => Map::ReluSquared,
            None => Map::Gelu,
            Some(&Xielu { alpha_p, alpha_n, beta, eps }) => Map::Xielu { alpha_p, alpha_n, beta, eps },
        }
    }

    /// The network of a block, whose norm of the stream `x` is `normed`.
    pub(super) fn feed_forward(
        &self,
        network: &FeedForward<B>,
        block: usize,
        ws: &mut Scratch<B>,
        [normed, x]: [&B::Buffer; 2],
    ) -> Result<()> {
        match network {
            FeedForward::Experts(experts) => match &experts.beside {
                None => self.experts(experts, block, ws, [normed, normed]),
                Some(beside) => self.both(experts, beside, block, ws, [normed, x]),
            },
            FeedForward::Dense(dense) => {
                let h = &self.graph.hparams;
                self.observe(block, Site::FeedForward, normed, h.embedding_length)?;
                let (down, width) = ((block, Site::FeedForwardDown), h.feed_forward_length.of(block));
                self.dense(dense, down, width, normed, [&mut ws.gate, &mut ws.up], &mut ws.projected)
            }
        }
    }
}
