//! A block of rows of one tensor on its way from one encoding to others. What is absent: files and plans.

use std::ops::Range;

use rayon::prelude::*;

use super::Source;
use crate::checkpoint::{Tensor, TensorBytes};
use crate::{DType, Error, Result};

/// Weights per block: 16 MiB as f32, enough for all processors to have work, little enough for any machine.
const BLOCK_WEIGHTS: usize = 4 << 20;
/// Weights per piece of parallel work, about a quarter of a millisecond of the fastest encoder.
const PIECE_WEIGHTS: usize = 64 << 10;
/// Largest finite f16. Scales of quantized blocks are f16 and never larger than the largest weight of the block, so only
/// weights beyond this can make an encoding overflow.
const F16_MAX: f32 = 65504.0;

/// The rows of `tensor` in blocks; every block has at least one row.
pub(super) fn blocks(tensor: &Tensor) -> impl Iterator<Item = Range<usize>> + use<> {
    let (rows, step) = (tensor.rows(), (BLOCK_WEIGHTS / tensor.cols()).max(1));
    (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
}

/// Bytes of a row of `tensor` in the encoding `dtype`.
pub(super) fn row_bytes(source: &dyn Source, tensor: &Tensor, dtype: DType) -> Result<usize> {
    dtype.row_bytes(tensor.cols()).ok_or_else(|| {
        let what = format!("rows of {} weights do not divide into {dtype} blocks of {}", tensor.cols(), dtype.block_len());
        Error::tensor(source.path(), &tensor.name, what)
    })
}

/// Some rows of a tensor: as they are stored, as f32, and in the encoding asked for last. Its buffers are used again.
#[derive(Default)]
pub(super) struct RowBlock {
    rows: Range<usize>,
    stored: Option<TensorBytes>,
    weights: Vec<f32>,
    /// The largest magnitude among the weights.
    largest: f32,
    encoded: Vec<u8>,
}

impl RowBlock {
    /// Reads and decodes `rows` of `tensor`. A weight that is infinite or not a number is an error.
    pub(super) fn load(&mut self, source: &dyn Source, tensor: &Tensor, rows: Range<usize>) -> Result<()> {
        let stored = source.read(tensor, rows.clone())?;
        let row_bytes = row_bytes(source, tensor, tensor.dtype)?;
        if stored.len() != rows.len() * row_bytes {
            let what = format!("{} bytes were read for {} rows of {row_bytes} bytes", stored.len(), rows.len());
            return Err(Error::tensor(source.path(), &tensor.name, what));
        }
        let cols = tensor.cols();
        self.weights.resize(rows.len() * cols, 0.0);
        let piece_rows = (PIECE_WEIGHTS / cols).max(1);
        let pieces = self.weights.par_chunks_mut(piece_rows * cols).zip(stored.par_chunks(piece_rows * row_bytes));
        let largest = pieces.map(|(weights, bytes)| {
            tensor.dtype.decode_row(bytes, weights);
            largest_magnitude(weights)
        });
        // NaN would be lost in a float maximum; as bits, infinities and NaN are above all finite magnitudes.
        let largest = largest.reduce(|| 0, u32::max);
        if largest >= f32::INFINITY.to_bits() {
            let what = "use a checkpoint without such weights";
            return Err(self.not_finite(source, tensor, &rows, &self.weights, &format!("in the source; {what}")));
        }
        self.largest = f32::from_bits(largest);
        self.rows = rows;
        self.stored = Some(stored);
        Ok(())
    }

    /// The rows in the encoding `to`: the stored bytes themselves where that is how they are stored.
    pub(super) fn encoded(&mut self, source: &dyn Source, tensor: &Tensor, to: DType) -> Result<&[u8]> {
        if to != tensor.dtype {
            self.encode(source, tensor, to)?;
        }
        Ok(match &self.stored {
            Some(stored) if to == tensor.dtype => stored,
            _ => &self.encoded,
        })
    }

    fn encode(&mut self, source: &dyn Source, tensor: &Tensor, to: DType) -> Result<()> {
        let (cols, row_bytes) = (tensor.cols(), row_bytes(source, tensor, to)?);
        self.encoded.resize(self.rows.len() * row_bytes, 0);
        let piece_rows = (PIECE_WEIGHTS / cols).max(1);
        let pieces = self.weights.par_chunks(piece_rows * cols).zip(self.encoded.par_chunks_mut(piece_rows * row_bytes));
        pieces.for_each(|(weights, bytes)| {
            for (row, out) in weights.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
                to.encode_row(row, None, out);
            }
        });
        if self.largest <= F16_MAX {
            return Ok(());
        }
        let mut back = vec![0.0; self.weights.len()];
        to.decode_row(&self.encoded, &mut back);
        if largest_magnitude(&back) >= f32::INFINITY.to_bits() {
            let what = format!("as {to}, because the weights are as large as {:e}; choose bf16 or f32", self.largest);
            return Err(self.not_finite(source, tensor, &self.rows, &back, &what));
        }
        Ok(())
    }

    /// The error for the first weight among `weights` that is not finite.
    fn not_finite(&self, source: &dyn Source, tensor: &Tensor, rows: &Range<usize>, weights: &[f32], what: &str) -> Error {
        let at = weights.iter().position(|w| !w.is_finite()).unwrap_or(0);
        let (row, column) = (rows.start + at / tensor.cols(), at % tensor.cols());
        let what = format!("row {row}, column {column}: the weight is {} {what}", weights[at]);
        Error::tensor(source.path(), &tensor.name, what)
    }

    /// Bytes of the rows in the source.
    pub(super) fn source_bytes(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.len() as u64)
    }

    /// Where the rows begin within the tensor in the encoding `dtype`.
    pub(super) fn offset(&self, tensor: &Tensor, dtype: DType) -> u64 {
        let row_bytes = tensor.cols() / dtype.block_len() * dtype.block_bytes();
        self.rows.start as u64 * row_bytes as u64
    }
}

/// The largest magnitude, as bits (which order as magnitudes do, NaN above infinity above all numbers).
fn largest_magnitude(weights: &[f32]) -> u32 {
    weights.iter().fold(0, |largest, w| largest.max(w.abs().to_bits()))
}
