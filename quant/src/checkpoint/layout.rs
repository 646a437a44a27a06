//! The transforms of architectures as layouts: which shape a tensor must have in the safetensors file, and how its weights
//! are walked to come out in GGUF's order.
//!
//! Absent: reading (see `place`) and finding the tensors (see `hf`).

use super::walk::{Strides, Walk};
use crate::HParams;
use crate::arch::{Dim, RopePairing, Tiled, Transform};
use crate::hparams::Recurrent;

/// A tensor as the safetensors file must hold it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its shape, row length first; of a stack, that of one part.
    pub(super) shape: Vec<usize>,
    /// The walk that gives GGUF's order; `None` where it has that order.
    pub(super) strides: Option<Walk>,
}

/// What an [`Transform::EitherWay`] is by the shape that the file has, row length first; others are what they are. `None` where
/// rows are as long as columns, so that the shape does not say.
pub(super) fn resolve(transform: Transform, shape: &[usize], found: &[usize]) -> Option<Transform> {
    let Transform::EitherWay(half) = transform else { return Some(transform) };
    let cols = shape.first().copied().unwrap_or(1);
    let rows = shape.get(1).copied().unwrap_or(1) * if half.is_some() { 2 } else { 1 };
    let as_rows = found.first() == Some(&cols);
    let found = match half {
        None if as_rows => Transform::Same,
        None => Transform::Transpose,
        Some(half) if as_rows => Transform::Half(half),
        Some(half) => Transform::TransposeHalf(half),
    };
    (cols != rows).then_some(found)
}

/// The layout in the file of a tensor that has `shape` in GGUF: C columns, R rows, and of three dimensions so many matrices.
pub(super) fn layout(transform: Transform, shape: &[usize], h: &HParams, block: usize) -> Layout {
    let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
    let (cols, rows, matrices) = (dim(0), dim(1), dim(2));
    let walk = |front: [usize; 2], first: usize, digits: Vec<(usize, usize)>| {
        let shape = front.into_iter().chain(shape.iter().skip(2).copied()).collect();
        Layout { shape, strides: Some(Walk(vec![Strides { first, digits }])) }
    };
    match transform {
        Transform::Same
        | Transform::Filled(_)
        | Transform::AddOne
        | Transform::NegExp
        | Transform::Scaled(_)
        | Transform::ScaledStateInputs(_) => Layout { shape: shape.to_vec(), strides: None },
        Transform::Flat | Transform::NegExpFlat => Layout { shape: vec![shape.iter().product()], strides: None },
        Transform::Stack(_) => Layout { shape: shape[..shape.len().saturating_sub(1)].to_vec(), strides: None },
        Transform::InterleaveQueryHeads => interleaved(shape, h.head_count.of(block)),
        Transform::InterleaveKeyHeads => interleaved(shape, h.head_count_kv.of(block)),
        Transform::HalveQueryHeads | Transform::HalveKeyHeads if h.rope_pairs == RopePairing::Adjacent => {
            Layout { shape: shape.to_vec(), strides: None }
        }
        Transform::HalveQueryHeads => halved(shape, h.head_count.of(block), h.rope_dim),
        Transform::HalveKeyHeads => halved(shape, h.head_count_kv.of(block), h.rope_dim),
        Transform::Squeeze => Layout { shape: vec![cols, 1, rows], strides: None },
        Transform::Tile(_) | Transform::NegExpTiled | Transform::QueriesKeysValues | Transform::ValueGates => {
            let whole = Layout { shape: shape.to_vec(), strides: None };
            h.recurrent.as_ref().filter(|r| r.key_heads > 0).map_or(whole, |r| value_heads(transform, shape, r))
        }
        // [R, C, n]
        Transform::Transpose | Transform::EitherWay(None) => {
            walk([rows, cols], 0, vec![(cols, rows), (rows, 1), (matrices, cols * rows)])
        }
        // [2R, C, n]
        Transform::TransposeAlternate(first) => {
            walk([2 * rows, cols], first, vec![(cols, 2 * rows), (rows, 2), (matrices, 2 * rows * cols)])
        }
        // [C, 2R, n]
        Transform::Half(half) => walk([cols, 2 * rows], half * rows * cols, vec![(rows * cols, 1), (matrices, 2 * rows * cols)]),
        // [2R, C, n]
        Transform::TransposeHalf(half) | Transform::EitherWay(Some(half)) => {
            walk([2 * rows, cols], half * rows, vec![(cols, 2 * rows), (rows, 1), (matrices, 2 * rows * cols)])
        }
        // [C, 2R, n]
        Transform::AlternateRows(first) => {
            walk([cols, 2 * rows], first * cols, vec![(cols, 1), (rows, 2 * cols), (matrices, 2 * rows * cols)])
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
    Layout { shape: shape.to_vec(), strides: Some(Walk(vec![Strides { first: 0, digits }])) }
}

/// Of every head the even rows of those that are rotated, then the odd ones, then the others. Of a bias, the weights.
fn halved(shape: &[usize], heads: usize, rotated: usize) -> Layout {
    let (row, units) = match shape {
        [cols, rows] => (*cols, *rows),
        _ => (1, shape.iter().product()),
    };
    let head = units / heads.max(1);
    let rotated = rotated.min(head);
    let parts = |head_first: usize| {
        let turned = Strides { first: head_first * row, digits: vec![(row, 1), (rotated / 2, 2 * row), (2, row)] };
        let rest = Strides { first: (head_first + rotated) * row, digits: vec![((head - rotated) * row, 1)] };
        [turned, rest].into_iter().filter(|part| part.digits.iter().all(|&(count, _)| count > 0))
    };
    Layout { shape: shape.to_vec(), strides: Some(Walk((0..heads).flat_map(|number| parts(number * head)).collect())) }
}

/// Layouts of what has heads of values, of which each key has as many.
fn value_heads(transform: Transform, shape: &[usize], r: &Recurrent) -> Layout {
    let (cols, rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
    let (keys, of_key, dim) = (r.key_heads, r.heads / r.key_heads, r.value_dim);
    // `unit` weights of a head lie one behind the other; in the file those of a key are neighbours.
    let tiled = |unit: usize, first: usize| Strides { first, digits: vec![(unit, 1), (keys, of_key * unit), (of_key, unit)] };
    let as_is = |first: usize, count: usize| Strides { first, digits: vec![(count, 1)] };
    let layout = |shape: Vec<usize>, walk: Vec<Strides>| Layout { shape, strides: Some(Walk(walk)) };
    let behind_keys = 2 * r.keys() * cols;
    // Rows of the file for each key: query, key, values, gates.
    let group = 2 * r.key_dim + 2 * of_key * dim;
    let grouped =
        |first: usize, count: usize| Strides { first: first * cols, digits: vec![(count * cols, 1), (keys, group * cols)] };
    match transform {
        Transform::Tile(Tiled::Rows) => layout(shape.to_vec(), vec![tiled(dim * cols, 0)]),
        Transform::Tile(Tiled::Columns) => {
            let mut strides = tiled(dim, 0);
            strides.digits.push((rows, cols));
            layout(shape.to_vec(), vec![strides])
        }
        Transform::Tile(Tiled::RowsBehindKeys) => {
            layout(shape.to_vec(), vec![as_is(0, behind_keys), tiled(dim * cols, behind_keys)])
        }
        Transform::Tile(Tiled::Convolution) => {
            layout(vec![cols, 1, rows], vec![as_is(0, behind_keys), tiled(dim * cols, behind_keys)])
        }
        Transform::QueriesKeysValues => layout(
            vec![cols, keys * group],
            vec![grouped(0, r.key_dim), grouped(r.key_dim, r.key_dim), grouped(2 * r.key_dim, of_key * dim)],
        ),
        Transform::ValueGates => layout(vec![cols, keys * group], vec![grouped(2 * r.key_dim + of_key * dim, of_key * dim)]),
        // Of a vector a number is a head, of a matrix a row.
        _ if shape.len() < 2 => layout(shape.to_vec(), vec![tiled(1, 0)]),
        _ => layout(shape.to_vec(), vec![tiled(cols, 0)]),
    }
}

/// A part of the matrix of `rank` columns that holds, for every head, its key rows and its value rows.
fn expanded(rank: usize, (h, block): (&HParams, usize), mut digits: Vec<(usize, usize)>, first: usize) -> Layout {
    let head_rows = Dim::MlaKey.size(h, block) + Dim::MlaValue.size(h, block);
    let heads = h.head_count.of(block);
    digits.push((heads, head_rows * rank));
    Layout { shape: vec![rank, heads * head_rows], strides: Some(Walk(vec![Strides { first, digits }])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_way_experts_stand_follows_from_the_shape_or_is_refused() {
        let either = Transform::EitherWay;
        let check = |half, found: &[usize], expected| assert_eq!(resolve(either(half), &[256, 32, 4], found).unwrap(), expected);
        check(Some(1), &[256, 64, 4], Transform::Half(1));
        check(Some(0), &[64, 256, 4], Transform::TransposeHalf(0));
        check(None, &[256, 32, 4], Transform::Same);
        check(None, &[32, 256, 4], Transform::Transpose);
        for (half, shape) in [(Some(0), [64, 32, 4]), (None, [64, 64, 4])] {
            assert_eq!(resolve(either(half), &shape, &[64, 64, 4]), None);
        }
    }
}
