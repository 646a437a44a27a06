//! What blocks read beside the stream (Gemma 4's embeddings by layer): made of a token's embedding and of its row in a table of
//! the block's, and added to the stream through a gate.

use super::Step;
use super::workspace::{LayerSpace, Scratch};
use crate::backend::{Backend, Map};
use crate::error::Result;
use crate::model::{LayerGate, LayerInput, gate_of};
use crate::observe::Site;

/// Makes the input of a block in `space.input`, where the tokens' rows of the table are, of the embeddings in `space.embedded`.
///
/// # Errors
/// A device that fails.
pub fn layer_input<B: Backend>(step: &Step<'_, B>, input: &LayerInput<B>, space: &mut LayerSpace<B>) -> Result<()> {
    let (h, backend, rows) = (&step.graph.hparams, step.backend, step.batch.rows);
    let (width, len) = (h.layer_input_length, rows * h.layer_input_length);
    step.linear(&space.embedded, &input.projection, &mut space.projected)?;
    backend.map(Map::Scale(1.0 / (h.embedding_length as f32).sqrt()), &mut space.projected, len)?;
    backend.norm(step.graph.traits.norm, &space.projected, rows, &input.norm, h.norm_epsilon, &mut space.normed)?;
    backend.map(Map::Scale((width as f32 / 2.0).sqrt()), &mut space.input, len)?;
    Ok(backend.add(&mut space.input, &space.normed, std::f32::consts::FRAC_1_SQRT_2, len)?)
}

impl<B: Backend> Step<'_, B> {
    /// Adds what a block makes of its input beside the stream.
    pub(super) fn read_beside(
        &self,
        weights: &LayerGate<B>,
        block: usize,
        input: &B::Buffer,
        ws: &mut Scratch<B>,
        x: &mut B::Buffer,
    ) -> Result<()> {
        let h = &self.graph.hparams;
        self.observe(block, Site::LayerGate, x, h.embedding_length)?;
        self.linear(x, &weights.gate, &mut ws.gate)?;
        if let Some(f) = gate_of(self.graph.traits.mlp) {
            self.backend.gate(f, &mut ws.gate, input, self.batch.rows * h.layer_input_length)?;
        }
        self.observe(block, Site::LayerProjection, &ws.gate, h.layer_input_length)?;
        self.linear(&ws.gate, &weights.projection, &mut ws.projected)?;
        self.join(Some(&weights.post_norm), ws, x)
    }
}
