//! Whether a GGUF file derives from a model: each of its tensors beside what the model's weights give in the same encoding. What
//! is absent: the metadata, and how the file came by its choice of encodings.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::encode::encode_rows_of;
use super::rows::row_bytes;
use crate::checkpoint::Source;
use crate::progress::Unit;
use crate::tensor::Tensor;
use crate::{DType, Error, Imatrix, Progress, Result};

/// Weights that are compared at a time.
const WEIGHTS: usize = 4 << 20;
/// Of tensors that differ by rounding only, at most this part of the blocks does: fused multiply-add changes a search where two
/// choices are as good as each other.
const BLOCKS: f64 = 0.05;
/// And their error is at most this much larger than that of ours.
const ERROR: f64 = 1.01;

/// How a tensor of the file stands to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The same bytes.
    Same,
    /// A few blocks differ, and the weights are as near to the model's as ours: another compiler's or processor's rounding.
    Rounding,
    /// Other weights.
    Other,
    /// The model's tensor has another shape.
    Shape,
    /// The model has no such tensor.
    Unknown,
    /// The file has no such tensor.
    Missing,
}

impl Match {
    /// Whether the tensor derives from the model.
    pub fn holds(self) -> bool {
        matches!(self, Self::Same | Self::Rounding)
    }
}

/// What was found of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorMatch {
    /// GGUF name.
    pub tensor: String,
    /// Encoding in the file; in the model, of one that is missing.
    pub dtype: DType,
    /// The verdict.
    pub found: Match,
    /// Blocks of the encoding (weights, of floats), and how many differ.
    pub blocks: u64,
    /// See [`Self::blocks`].
    pub blocks_that_differ: u64,
    /// Root of the mean squared distance of the file's weights from the model's.
    pub rmse: f64,
    /// The same of what the model gives in that encoding.
    pub own_rmse: f64,
    /// Largest distance of the file's weights from those.
    pub max_difference: f64,
}

impl TensorMatch {
    /// What was found, in words.
    pub fn sentence(&self) -> String {
        let differ = format!("{} of {} blocks differ", self.blocks_that_differ, self.blocks);
        match self.found {
            Match::Same => "the same".to_owned(),
            Match::Rounding => format!("equal but for rounding: {differ}, by {:.2e} at most", self.max_difference),
            Match::Other => format!("other weights: {differ}, error {:.3e} where {:.3e} was to be", self.rmse, self.own_rmse),
            Match::Shape => "has another shape in the model".to_owned(),
            Match::Unknown => "is no tensor of the model".to_owned(),
            Match::Missing => "is missing in the file".to_owned(),
        }
    }
}

/// Compares every tensor of `file` with what `base` gives in the same encoding, with the importance of columns where there is a
/// matrix, and names those of `base` that the file lacks.
///
/// # Errors
/// A file that cannot be read, an importance matrix of another model, [`Error::Cancelled`].
pub fn verify(
    file: &dyn Source,
    base: &dyn Source,
    imatrix: Option<&Imatrix>,
    cancel: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<TensorMatch>> {
    progress.start(file.tensors().iter().map(Tensor::elements).sum(), Unit::Items, "verifying");
    let mut found = Vec::with_capacity(file.tensors().len());
    for tensor in file.tensors() {
        // As blocks, where both have the same ones.
        let kept = base.kept_tensors().iter().find(|own| own.name == tensor.name && own.dtype == tensor.dtype);
        let own = kept.or_else(|| base.tensors().iter().find(|own| own.name == tensor.name));
        found.push(match own {
            None => without(tensor, Match::Unknown),
            Some(own) if own.cols() != tensor.cols() || own.rows() != tensor.rows() => without(tensor, Match::Shape),
            Some(own) => compare((file, tensor), (base, own), imatrix, cancel, progress)?,
        });
    }
    let lacks = |own: &&Tensor| file.tensors().iter().all(|tensor| tensor.name != own.name);
    found.extend(base.tensors().iter().filter(lacks).map(|own| without(own, Match::Missing)));
    progress.finish();
    Ok(found)
}

/// Of a tensor that there is nothing to compare with.
fn without(tensor: &Tensor, found: Match) -> TensorMatch {
    let name = tensor.name.clone();
    TensorMatch {
        tensor: name,
        dtype: tensor.dtype,
        found,
        blocks: 0,
        blocks_that_differ: 0,
        rmse: 0.0,
        own_rmse: 0.0,
        max_difference: 0.0,
    }
}

/// What is summed over rows.
#[derive(Clone, Copy, Default)]
struct Sums {
    differ: u64,
    file: f64,
    own: f64,
    max: f64,
}

fn compare(
    (file, tensor): (&dyn Source, &Tensor),
    (base, own): (&dyn Source, &Tensor),
    imatrix: Option<&Imatrix>,
    cancel: &AtomicBool,
    progress: &dyn Progress,
) -> Result<TensorMatch> {
    let dtype = tensor.dtype;
    let bytes = row_bytes(file, tensor, dtype)?;
    let at_once = (WEIGHTS / tensor.cols().max(1)).max(1);
    let mut sums = Sums::default();
    for first in (0..tensor.rows()).step_by(at_once) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let rows = first..tensor.rows().min(first + at_once);
        let stored = file.read(tensor, rows.clone())?;
        let made = encode_rows_of(base, own, rows.clone(), dtype, imatrix)?;
        progress.advance((rows.len() * tensor.cols()) as u64);
        if dtype.is_carried() {
            sums.differ += stored.iter().zip(&made).filter(|(a, b)| a != b).count() as u64;
            continue;
        }
        let source = base.read(own, rows)?;
        let own_bytes = row_bytes(base, own, own.dtype)?;
        let each = stored.par_chunks(bytes).zip(made.par_chunks(bytes)).zip(source.par_chunks(own_bytes));
        // Summed in the order of the rows, whatever the number of threads.
        let of_rows: Vec<Sums> =
            each.map(|((stored, made), source)| of_row(dtype, own.dtype, tensor.cols(), [stored, made, source])).collect();
        for row in of_rows {
            sums.differ += row.differ;
            sums.file += row.file;
            sums.own += row.own;
            sums.max = sums.max.max(row.max);
        }
    }
    let weights = tensor.elements().max(1);
    let blocks = weights / dtype.block_len() as u64;
    let root = |sum: f64| (sum / weights as f64).sqrt();
    let near = sums.differ as f64 <= BLOCKS * blocks as f64 && root(sums.file) <= ERROR * root(sums.own);
    Ok(TensorMatch {
        tensor: tensor.name.clone(),
        dtype,
        found: match sums.differ {
            0 => Match::Same,
            _ if near && !dtype.is_float() && !dtype.is_carried() => Match::Rounding,
            _ => Match::Other,
        },
        blocks,
        blocks_that_differ: sums.differ,
        rmse: root(sums.file),
        own_rmse: root(sums.own),
        max_difference: sums.max,
    })
}

/// A row as it is in the file, as it was made, and in the model.
fn of_row(dtype: DType, own: DType, cols: usize, [stored, made, source]: [&[u8]; 3]) -> Sums {
    let block = dtype.block_bytes();
    let differ = stored.chunks(block).zip(made.chunks(block)).filter(|(a, b)| a != b).count() as u64;
    let decoded = |dtype: DType, bytes: &[u8]| {
        let mut values = vec![0.0; cols];
        dtype.decode_row(bytes, &mut values);
        values
    };
    let [stored, made, source] = [decoded(dtype, stored), decoded(dtype, made), decoded(own, source)];
    let mut sums = Sums { differ, ..Sums::default() };
    for ((&y, &z), &x) in stored.iter().zip(&made).zip(&source) {
        let (y, z, x) = (f64::from(y), f64::from(z), f64::from(x));
        sums.file += (y - x) * (y - x);
        sums.own += (z - x) * (z - x);
        sums.max = sums.max.max((y - z).abs());
    }
    sums
}
