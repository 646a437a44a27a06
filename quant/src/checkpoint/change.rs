//! Arithmetic that the converter does on weights on their way from the file, in its rounding.
//!
//! Absent: which tensors are changed (see `hf`), and reading them (see `place`, `rows`).

use std::ops::Range;

use crate::DType;
use crate::tensor::Tensor;

/// What becomes of each weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// 1 is added.
    AddOne,
    /// `-exp(x)`.
    NegExp,
    /// It is multiplied by each of these.
    Scale(Vec<f32>),
    /// The same, and then by the factor of its part. Each part comes with the row that it ends before.
    ScaleParts(Vec<f32>, Vec<(usize, f32)>),
}

impl Change {
    /// Changes the weights of `rows` of the tensor.
    pub(super) fn apply(&self, values: &mut [f32], tensor: &Tensor, rows: Range<usize>) {
        match self {
            Self::AddOne => values.iter_mut().for_each(|v| *v += 1.0),
            Self::NegExp => values.iter_mut().for_each(|v| *v = -exp(*v)),
            Self::Scale(factors) => factors.iter().for_each(|&factor| scale(values, factor, tensor.dtype)),
            Self::ScaleParts(factors, parts) => {
                factors.iter().for_each(|&factor| scale(values, factor, tensor.dtype));
                let mut start = 0;
                for &(end, factor) in parts {
                    let within = |row: usize| (row.clamp(rows.start, rows.end) - rows.start) * tensor.cols();
                    scale(&mut values[within(start)..within(end)], factor, tensor.dtype);
                    start = end;
                }
            }
        }
    }
}

/// Multiplied in f32 and rounded to what PyTorch keeps in between.
fn scale(values: &mut [f32], factor: f32, kept: DType) {
    let mut bytes = vec![0; kept.block_bytes()];
    for value in values {
        *value *= factor;
        if kept != DType::F32 {
            let mut rounded = [0.0];
            kept.encode_row(&[*value], None, &mut bytes);
            kept.decode_row(&bytes, &mut rounded);
            [*value] = rounded;
        }
    }
}

/// The exponential, rounded once.
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}
