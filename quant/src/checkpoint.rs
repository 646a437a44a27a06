//! A model on disk, opened read-only and memory-mapped: a safetensors directory or a GGUF file behind one type.
//!
//! Tensors come under their GGUF names, in GGUF shapes, with rows permuted as GGUF wants them, whichever the source. What
//! is absent: decoding to f32 (see `formats`), choosing types (see `plan`) and running (the engine).

use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::Mmap;

use crate::DType;

/// Encoded bytes of a tensor or of some of its rows: a view into the mapped file where the file has them as they are
/// needed, else an own copy.
#[derive(Clone)]
pub enum TensorBytes {
    /// A range of a mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
    /// Bytes made for this call (permuted rows, computed tensors, freshly quantized weights).
    Owned(Vec<u8>),
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

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
}
