//! What makes the inputs that blocks have beside the stream, on a device: of one block for some tokens, or of all blocks for all.

use std::sync::Arc;

use bitworth_quant::arch::Role;

use super::load::Loader;
use super::reader::Reader;
use super::weights::{LayerInput, Linear};
use crate::backend::Backend;
use crate::error::Result;

impl<B: Backend> LayerInput<B> {
    /// Reads what a block's input is made with, and the block's part of the rows of some tokens: `[tokens, d]`; `None` where
    /// blocks have no such input.
    ///
    /// # Errors
    /// A tensor that is missing or cannot be read; a device that fails.
    pub fn load(backend: &B, reader: &Reader<'_>, block: usize, tokens: &[u32]) -> Result<Option<(Self, B::Weight)>> {
        let width = reader.variant.hparams().layer_input_length;
        if width == 0 {
            return Ok(None);
        }
        let part = block * width..(block + 1) * width;
        let tensor = reader.rows(reader.variant.require(Role::PerLayerModelProj, 0)?, part.clone())?;
        let (rows, cols) = (tensor.rows, tensor.cols);
        let weight = Arc::new(backend.matrix(tensor, reader.arithmetic)?);
        let projection = Linear { weight, rows: 0..rows, bias: None, cols };
        let norm = Loader { backend, reader, block: 0 }.weight(Role::PerLayerProjNorm)?;
        let table = backend.weight(reader.columns(Role::PerLayerTokenEmbd, tokens, part)?)?;
        Ok(Some((Self { projection, norm }, table)))
    }
}

/// The same for all blocks and all tokens.
pub struct InputTables<B: Backend> {
    /// `[V, blocks * d]`
    pub tokens: B::Weight,
    /// By block.
    pub blocks: Vec<LayerInput<B>>,
}

impl<B: Backend> InputTables<B> {
    /// Reads them; `None` where blocks have no such input.
    ///
    /// # Errors
    /// As [`LayerInput::load`].
    pub fn load(backend: &B, reader: &Reader<'_>) -> Result<Option<Self>> {
        let h = reader.variant.hparams();
        if h.layer_input_length == 0 {
            return Ok(None);
        }
        let load = Loader { backend, reader, block: 0 };
        let Linear { weight, cols, .. } = load.linear(Role::PerLayerModelProj, None)?;
        let input = |block: usize| {
            let rows = block * h.layer_input_length..(block + 1) * h.layer_input_length;
            let projection = Linear { weight: weight.clone(), rows, bias: None, cols };
            Ok(LayerInput { projection, norm: load.weight(Role::PerLayerProjNorm)? })
        };
        let blocks = (0..h.block_count).map(input).collect::<Result<_>>()?;
        Ok(Some(Self { tokens: load.weight(Role::PerLayerTokenEmbd)?, blocks }))
    }
}
