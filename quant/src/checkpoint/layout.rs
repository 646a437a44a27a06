//! The transforms of architectures as layouts: which shape a tensor must have in the safetensors file, and how its weights
//! are walked to come out in GGUF's order.
//!
//! Absent: reading (see `place`) and finding the tensors (see `hf`).

use super::place::Strides;
use crate::HParams;
use crate::arch::{Dim, Transform};

/// A tensor as the safetensors file must hold it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its shape, row length first; of a stack, that of one part.
    pub(super) shape: Vec<usize>,
    /// The walk that gives GGUF's order; `None` where it has that order.
    pub(super) strides: Option<Strides>,
}

/// The layout in the file of a tensor that has `shape` in GGUF: C columns, R rows, and of three dimensions so many matrices.
pub(super) fn layout(transform: Transform, shape: &[usize], h: &HParams, block: usize) -> Layout {
    let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
    let (cols, rows, matrices) = (dim(0), dim(1), dim(2));
    let walk = |front: [usize; 2], first: usize, digits: Vec<(usize, usize)>| {
        let shape = front.into_iter().chain(shape.iter().skip(2).copied()).collect();
        Layout { shape, strides: Some(Strides { first, digits }) }
    };
    match transform {
        Transform::Same | Transform::AddOne | Transform::Mxfp4 { .. } => Layout { shape: shape.to_vec(), strides: None },
        Transform::Stack(_) => Layout { shape: shape[..shape.len().saturating_sub(1)].to_vec(), strides: None },
        Transform::InterleaveQueryHeads => interleaved(shape, h.head_count.of(block)),
        Transform::InterleaveKeyHeads => interleaved(shape, h.head_count_kv.of(block)),
        // [R, C, n]
        Transform::Transpose => walk([rows, cols], 0, vec![(cols, rows), (rows, 1), (matrices, cols * rows)]),
        // [2R, C, n]
        Transform::TransposeAlternate(first) => {
            walk([2 * rows, cols], first, vec![(cols, 2 * rows), (rows, 2), (matrices, 2 * rows * cols)])
        }
        // [2R, C, n]
        Transform::TransposeHalf(half) => {
            walk([2 * rows, cols], half * rows, vec![(cols, 2 * rows), (rows, 1), (matrices, 2 * rows * cols)])
        }
        // [2C, R]
        Transform::Alternate(first) => walk([2 * cols, rows], first, vec![(cols, 2), (rows, 2 * cols)]),
        // Of [rank, heads * (key + value)]: key columns, rank rows, a matrix a head.
        Transform::ExpandedKeys => expanded(rows, (h, block), vec![(cols, rows), (rows, 1)], 0),
        // Rank columns, value rows, a matrix a head, each behind the head's key rows.
        Transform::ExpandedValues => expanded(cols, (h, block), vec![(cols, 1), (rows, cols)], Dim::MlaKey.size(h, block) * cols),
    }
}

/// The halves of every head one behind the other, which become alternating rows. Of a bias, which is one row, the weights
/// are permuted; of a matrix, the rows.
fn interleaved(shape: &[usize], heads: usize) -> Layout {
    let (row, units) = match shape {
        [cols, rows] => (*cols, *rows),
        _ => (1, shape.iter().product()),
    };
    let half = units / heads.max(1) / 2;
    let digits = vec![(row, 1), (2, half * row), (half, row), (heads, 2 * half * row)];
    Layout { shape: shape.to_vec(), strides: Some(Strides { first: 0, digits }) }
}

/// A part of the matrix of `rank` columns that holds, for every head, its key rows and its value rows.
fn expanded(rank: usize, (h, block): (&HParams, usize), mut digits: Vec<(usize, usize)>, first: usize) -> Layout {
    let head_rows = Dim::MlaKey.size(h, block) + Dim::MlaValue.size(h, block);
    let heads = h.head_count.of(block);
    digits.push((heads, head_rows * rank));
    Layout { shape: vec![rank, heads * head_rows], strides: Some(Strides { first, digits }) }
}
