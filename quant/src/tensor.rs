//! A tensor of a model: its name, encoding and shape.
//!
//! Absent: its bytes (see `tensor_bytes`) and what they decode to (see `formats`).

use crate::DType;
use crate::arch::Role;

/// One tensor of a checkpoint, under its GGUF name.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// GGUF name, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Encoding in the source.
    pub dtype: DType,
    /// Shape as GGUF stores it: `shape[0]` is the row length (columns), the last the slowest.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Length of a row (input columns K of a matmul).
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Number of weights.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// What the tensor is for, and its block; `None` for a name outside the table of roles.
    pub fn role(&self) -> Option<(Role, Option<usize>)> {
        Role::parse(&self.name)
    }
}
