//! The two ends of a model on a device: the embeddings, and the final norm with the output matrix.

use std::ops::Range;
use std::sync::Arc;

use bitworth_quant::arch::Role;

use super::load::Loader;
use super::reader::{Reader, f32_tensor};
use super::weights::{Linear, NormWeights};
use crate::backend::Backend;
use crate::error::Result;

/// The final norm and the output matrix, or some of its rows, on a device.
pub struct OutputHead<B: Backend> {
    /// The final norm.
    pub norm: NormWeights<B>,
    /// `[V, H]`; the token embedding where the model ties them.
    pub output: Linear<B>,
    /// What is added to the logits, where the model has it.
    pub bias: Option<OutputBias>,
}

/// What is added to logits, one number a token.
pub struct OutputBias(Vec<f32>);

impl OutputBias {
    /// Reads it, where the model has one.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn of(reader: &Reader<'_>) -> Result<Option<Self>> {
        Ok(reader.decoded(Role::OutputBias, 0)?.map(Self))
    }

    /// That of some tokens on a device, in their order.
    ///
    /// # Errors
    /// A device that fails.
    pub fn of_tokens<B: Backend>(&self, backend: &B, tokens: impl Iterator<Item = usize>) -> Result<B::Weight> {
        let numbers: Vec<f32> = tokens.map(|token| self.0[token]).collect();
        Ok(backend.weight(f32_tensor(1, numbers.len(), &numbers))?)
    }
}

impl<B: Backend> OutputHead<B> {
    /// Reads the head onto the device; a tied one is the embedding, where the caller has that there.
    pub fn load(backend: &B, reader: &Reader<'_>, embedding: Option<&Embedding<B>>) -> Result<Self> {
        let h = reader.variant.hparams();
        let mut output = match embedding.filter(|_| reader.variant.output_role() == Role::TokenEmbd) {
            Some(Embedding { tokens, .. }) => {
                Linear { weight: tokens.clone(), bias: None, rows: 0..h.vocab_size, cols: h.embedding_length }
            }
            None => output_rows(backend, reader, 0..h.vocab_size)?,
        };
        let bias = OutputBias::of(reader)?;
        output.bias = bias.as_ref().map(|bias| bias.of_tokens(backend, 0..h.vocab_size)).transpose()?;
        Ok(Self { norm: output_norm(backend, reader)?, output, bias })
    }
}

/// The norm before the output matrix.
///
/// # Errors
/// A tensor that is missing or cannot be read; a device that fails.
pub fn output_norm<B: Backend>(backend: &B, reader: &Reader<'_>) -> Result<NormWeights<B>> {
    let load = Loader { backend, reader, block: 0 };
    let gain = reader.variant.checkpoint().block_traits()?.output_norm;
    Ok(NormWeights { gain: load.weight(gain)?, bias: load.optional(Role::OutputNormBias)? })
}

/// The rows of the output matrix for some tokens.
///
/// # Errors
/// As [`output_norm`].
pub fn output_rows<B: Backend>(backend: &B, reader: &Reader<'_>, tokens: Range<usize>) -> Result<Linear<B>> {
    let tensor = reader.rows(reader.variant.require(reader.variant.output_role(), 0)?, tokens)?;
    let (rows, cols) = (tensor.rows, tensor.cols);
    Ok(Linear { weight: Arc::new(backend.matrix(tensor, reader.arithmetic)?), rows: 0..rows, bias: None, cols })
}

/// The embeddings on a device.
pub struct Embedding<B: Backend> {
    /// `[V, H]`, or the rows of some tokens.
    pub tokens: Arc<B::Weight>,
    /// Learned positions `[context, H]`, where the model has them.
    pub positions: Option<B::Weight>,
    /// Gains of the norm of embeddings, all 1, where the model has that norm.
    pub norm: Option<B::Weight>,
}

impl<B: Backend> Embedding<B> {
    /// Reads the embeddings onto the device; for products too, where they are the output matrix.
    pub fn load(backend: &B, reader: &Reader<'_>) -> Result<Self> {
        let load = Loader { backend, reader, block: 0 };
        let tokens = match reader.variant.output_role() {
            Role::TokenEmbd => load.linear(Role::TokenEmbd, None)?.weight,
            _ => Arc::new(load.weight(Role::TokenEmbd)?),
        };
        Self::with(&load, tokens)
    }

    /// Reads the embeddings of some tokens onto the device.
    pub fn of_tokens(backend: &B, reader: &Reader<'_>, tokens: &[u32]) -> Result<Self> {
        let load = Loader { backend, reader, block: 0 };
        let picked = Arc::new(backend.weight(reader.picked(Role::TokenEmbd, tokens)?)?);
        Self::with(&load, picked)
    }

    fn with(load: &Loader<'_, B>, tokens: Arc<B::Weight>) -> Result<Self> {
        let h = load.reader.variant.hparams();
        let ones = |width: usize| load.backend.weight(f32_tensor(1, width, &vec![1.0; width]));
        let norm = if h.norms_embeddings { Some(ones(h.embedding_length)?) } else { None };
        Ok(Self { tokens, positions: load.optional(Role::PositionEmbd)?, norm })
    }
}
