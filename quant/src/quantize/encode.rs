//! The bytes of one tensor in another encoding, for those who quantize on the fly. What is absent: files.

use std::ops::Range;

use rayon::prelude::*;

use super::output::importance_of;
use super::rows::{self, Encoder, SourceRows, WantedEncoding};
use crate::checkpoint::Source;
use crate::tensor::Tensor;
use crate::{DType, Error, Imatrix, Result};

/// The bytes of `rows` of one tensor in another encoding, for those who quantize on the fly; the same as
/// [`quantize`](super::quantize) writes.
///
/// # Errors
/// As [`quantize`](super::quantize); and [`Error::Tensor`] where the source has no such tensor or not so many rows, or its rows
/// do not divide into blocks.
pub fn encode_rows(source: &dyn Source, name: &str, rows: Range<usize>, to: DType, imatrix: Option<&Imatrix>) -> Result<Vec<u8>> {
    let tensor = source.tensors().iter().find(|t| t.name == name);
    let tensor = tensor.ok_or_else(|| Error::tensor(source.path(), name, "there is no such tensor"))?;
    encode_rows_of(source, tensor, rows, to, imatrix)
}

/// [`encode_rows`] of a tensor in either of the source's forms.
pub(super) fn encode_rows_of(
    source: &dyn Source,
    tensor: &Tensor,
    rows: Range<usize>,
    to: DType,
    imatrix: Option<&Imatrix>,
) -> Result<Vec<u8>> {
    /// Fewer than in a run, because all threads share one tensor.
    const BLOCK_WEIGHTS: usize = 64 << 10;
    let importance = match imatrix {
        Some(imatrix) => importance_of(imatrix, &tensor.name, &tensor.shape, tensor.dtype, to)?,
        None => None,
    };
    let row_bytes = rows::row_bytes(source, tensor, to)?;
    let block_rows = rows::block_rows(tensor, BLOCK_WEIGHTS);
    let encodings = [WantedEncoding { dtype: to, importance }];
    let encoder = Encoder { source, allow_non_finite: false, clock: None };
    let mut out = vec![0; row_bytes.saturating_mul(rows.len())];
    out.par_chunks_mut((block_rows * row_bytes).max(1)).enumerate().try_for_each(|(block, out)| {
        let first = rows.start + block * block_rows;
        let stored = SourceRows::read(source, tensor, first..first + out.len() / row_bytes)?;
        let encoded = encoder.encode(tensor, first, &stored, &encodings)?;
        out.copy_from_slice(if to == tensor.dtype { &stored } else { &encoded[0].bytes });
        Ok(())
    })?;
    Ok(out)
}

/// [`encode_rows`] of a whole tensor.
///
/// # Errors
/// As there.
pub fn encode_tensor(source: &dyn Source, name: &str, to: DType, imatrix: Option<&Imatrix>) -> Result<Vec<u8>> {
    let rows = source.tensors().iter().find(|t| t.name == name).map_or(0, Tensor::rows);
    encode_rows(source, name, 0..rows, to, imatrix)
}
