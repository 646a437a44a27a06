//! The sizes of mixers that carry a state from token to token: gated delta nets, Mamba-2 and short convolutions.
//!
//! Absent: what they compute (the engine does) and what their tensors are called (see `arch`).

use super::HParams;
use super::keys::{MAX_BLOCKS, MAX_WIDTH, MetadataReader};
use crate::Result;
use crate::arch::Recurs;

/// Wider convolutions and longer keys than any model has.
const MAX_KERNEL: u64 = 64;
const MAX_KEY: u64 = 1 << 12;

/// What a mixer with a state computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecurrentKind {
    /// A gated delta net (Yang et al. 2024): a convolution, then `S <- g S`, `S <- S + k (beta (v - S^T k))^T`, `o = S^T q`.
    DeltaNet,
    /// Mamba-2 (Dao and Gu 2024): a convolution, then `S <- exp(dt a) S + b (dt x)^T`, `y = S^T c + d x`.
    Mamba2,
    /// A gated convolution over few tokens, and no more (LFM2).
    ShortConv,
}

/// A mixer that carries a state. Heads share the keys of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recurrent {
    /// What it computes.
    pub kind: RecurrentKind,
    /// Tokens that the convolution sees, its own included: at least 2.
    pub conv_kernel: usize,
    /// Heads, each with values of its own; 0 for [`RecurrentKind::ShortConv`], as all that follow.
    pub heads: usize,
    /// Groups of keys; divides `heads`.
    pub key_heads: usize,
    /// Width of a key: rows of the state of a head.
    pub key_dim: usize,
    /// Width of a value: columns of the state of a head.
    pub value_dim: usize,
}

impl Recurrent {
    /// Columns of all values.
    pub fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Columns of all keys.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Columns that go through the convolution, in a model of this width.
    pub fn conv_channels(&self, embedding_length: usize) -> usize {
        match self.kind {
            RecurrentKind::ShortConv => embedding_length,
            RecurrentKind::DeltaNet | RecurrentKind::Mamba2 => 2 * self.keys() + self.values(),
        }
    }

    /// Numbers of the state of the convolution: the tokens before the present one.
    pub fn conv_state(&self, embedding_length: usize) -> usize {
        (self.conv_kernel - 1) * self.conv_channels(embedding_length)
    }

    /// Numbers of the states of all heads.
    pub fn head_state(&self) -> usize {
        self.heads * self.key_dim * self.value_dim
    }
}

impl HParams {
    /// The mixer with a state of a block, where it has one.
    pub fn recurrent_of(&self, block: usize) -> Option<&Recurrent> {
        self.recurrent.as_ref().filter(|_| self.recurrent_blocks.get(block).copied().unwrap_or(false))
    }
}

impl MetadataReader<'_> {
    /// The mixer with a state, and which of the `stored` blocks have it: none of those that predict further tokens, which stand
    /// behind the first `blocks`.
    pub(super) fn recurrent(&self, blocks: usize, stored: usize) -> Result<(Option<Recurrent>, Vec<bool>)> {
        const LAYERS: &str = "attention.recurrent_layers";
        let found = match self.arch.block.recurs {
            Recurs::Never => return Ok((None, vec![false; stored])),
            Recurs::DeltaNet { .. } => self.heads_with_state(RecurrentKind::DeltaNet)?,
        };
        let recurs = match self.blocks(LAYERS, stored)? {
            Some(listed) if listed[blocks..].contains(&true) => {
                return Err(self.error(LAYERS, "names a block that predicts further tokens"));
            }
            Some(listed) => listed,
            None => {
                let interval = self.optional_size("full_attention_interval", MAX_BLOCKS)?.unwrap_or(4);
                (0..stored).map(|block| block < blocks && !(block + 1).is_multiple_of(interval)).collect()
            }
        };
        Ok((Some(found), recurs))
    }

    fn heads_with_state(&self, kind: RecurrentKind) -> Result<Recurrent> {
        let (kernel, inner) = ("ssm.conv_kernel", "ssm.inner_size");
        let conv_kernel = self.size(kernel, MAX_KERNEL)?;
        if conv_kernel < 2 {
            return Err(self.error(kernel, format!("is {conv_kernel}, but must be at least 2")));
        }
        let heads = self.size("ssm.time_step_rank", MAX_WIDTH)?;
        let key_heads = self.size("ssm.group_count", MAX_WIDTH)?;
        let values = self.size(inner, MAX_WIDTH)?;
        if !heads.is_multiple_of(key_heads) || !values.is_multiple_of(heads) {
            let what = format!("{key_heads} groups do not divide {heads} heads, or those not an inner size of {values}");
            return Err(self.error("ssm.group_count", what));
        }
        let found = Recurrent {
            kind,
            conv_kernel,
            heads,
            key_heads,
            key_dim: self.size("ssm.state_size", MAX_KEY)?,
            value_dim: values / heads,
        };
        if (2 * found.keys() + found.values()) as u64 > MAX_WIDTH {
            return Err(self.error(inner, format!("all keys and values together are wider than {MAX_WIDTH}")));
        }
        Ok(found)
    }
}
