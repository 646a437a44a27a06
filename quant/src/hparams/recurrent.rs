//! The sizes of mixers that carry a state from token to token: gated delta nets, Mamba-2 and short convolutions.
//!
//! Absent: what they compute (the engine does) and what their tensors are called (see `arch`).

use super::HParams;

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
