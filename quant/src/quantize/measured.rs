//! The error report of a tensor that stands in a file already: its bytes are read again and compared with the source. What is
//! absent: encoding (see `rows`, which measures on the way).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;

use super::report::{Fitting, Sums, TensorReport};
use super::rows::{SourceRows, decode, piece_rows, row_bytes, rows_per_expert};
use crate::checkpoint::Source;
use crate::plan::PlanEntry;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Weights that are compared at a time.
const WEIGHTS: usize = 4 << 20;

/// What only the one who encoded a tensor knows of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// One weight per column, for tensors of several matrices one run of columns after another.
    pub importance: Option<&'a [f32]>,
    /// How it was fitted.
    pub fit: Option<Fitting>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What is known of the tensor of an entry.
pub type KnownOf<'a> = &'a dyn Fn(&PlanEntry) -> Known<'a>;

/// A file, and where in it the tensor begins.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) file: &'a File,
    pub(super) at: u64,
}

/// The report of a `tensor` of `source` that became what `entry` says.
pub(super) fn report(
    source: &dyn Source,
    tensor: &Tensor,
    entry: &PlanEntry,
    place: &Place<'_>,
    known: Known<'_>,
) -> Result<TensorReport> {
    let cols = tensor.cols();
    let (from_bytes, to_bytes) = (row_bytes(source, tensor, tensor.dtype)?, row_bytes(source, tensor, entry.to)?);
    let (piece, copied) = (piece_rows(tensor), entry.to == tensor.dtype);
    // Weights of fewer columns are of another tensor.
    let importance = known.importance.filter(|weights| weights.len() >= cols * (tensor.rows() / rows_per_expert(tensor)));
    let at_once = (WEIGHTS / cols.max(1) / piece * piece).max(piece);
    let mut all = Sums { seconds: known.seconds, ..Sums::default() };
    for first in (0..tensor.rows()).step_by(at_once) {
        let rows = first..tensor.rows().min(first + at_once);
        let stored = SourceRows::read(source, tensor, rows.clone())?;
        let mut bytes = vec![0; if copied { 0 } else { rows.len() * to_bytes }];
        let mut file = place.file;
        let read = file.seek(SeekFrom::Start(place.at + (first * to_bytes) as u64)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| Error::io(place.path, e))?;
        let one = |(p, stored): (usize, &[u8])| {
            let count = stored.len() / from_bytes;
            let (mut buffer, mut back) = (vec![0.0; count * cols], vec![0.0; count * cols]);
            let weights = decode(tensor.dtype, stored, &mut buffer);
            let decoded = if copied {
                weights
            } else {
                entry.to.decode_row(&bytes[p * piece * to_bytes..][..count * to_bytes], &mut back);
                &back
            };
            let mut sums = Sums::default();
            for (r, (x, y)) in weights.chunks_exact(cols).zip(decoded.chunks_exact(cols)).enumerate() {
                let expert = (first + p * piece + r) / rows_per_expert(tensor);
                sums.add_row(x, y, importance.map(|weights| &weights[expert * cols..][..cols]));
            }
            sums
        };
        // Added in the order of the rows, whatever the number of threads.
        let pieces: Vec<Sums> = stored.par_chunks(piece * from_bytes).enumerate().map(one).collect();
        pieces.iter().for_each(|sums| all.add(sums));
    }
    Ok(TensorReport { fit: known.fit, ..TensorReport::new(entry, &all) })
}
