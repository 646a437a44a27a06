//! Where the bytes of a tensor are, and how rows of it are read: views of mapped files where the file has them in this
//! order, else gathered for the rows asked for. Absent: which tensor comes from where (see `hf`, `gguf`).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::change::Change;
use super::rows::PackedRows;
use super::walk::Walk;
use crate::mmap::{FileMap, Span, evict, release, will_need};
use crate::tensor::Tensor;
use crate::tensor_bytes::{Pages, TensorBytes};
use crate::{DType, Error, Result};

/// The bytes of one tensor.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) row_bytes: usize,
    place: Place,
}

/// Where the bytes of a tensor are.
#[derive(Clone)]
pub(super) enum Place {
    /// In a mapped file, in the order needed.
    Mapped(Span),
    /// In a mapped file, each weight where the walk says.
    Strided(Span, Walk),
    /// In mapped files, parts of equal size one behind the other.
    Stacked(Vec<Span>),
    /// In a mapped file, as weights of this type, in the order needed or each where the walk says, that are changed on the way.
    Changed(Span, DType, Option<Walk>, Change),
    /// In mapped files, stored otherwise than in GGUF (see `crate::packed`).
    Packed(PackedRows),
    /// Made from the configuration.
    Computed(Vec<u8>),
}

impl Stored {
    /// The bytes, where they are in no file.
    pub(super) fn computed(&self) -> &[u8] {
        match &self.place {
            Place::Computed(bytes) => bytes,
            _ => &[],
        }
    }

    /// Where they are in a file as they are needed.
    pub(super) fn span(&self) -> Option<Span> {
        match &self.place {
            Place::Mapped(span) => Some(span.clone()),
            _ => None,
        }
    }

    /// `path` is for messages.
    ///
    /// # Errors
    /// The rows are not whole blocks, or the file's bytes are not those of such a tensor.
    pub(super) fn new(path: &Path, tensor: &Tensor, place: Place) -> Result<Self> {
        let row_bytes = tensor.dtype.row_bytes(tensor.cols()).ok_or_else(|| {
            let what = format!("rows of {} weights are not whole blocks of {}", tensor.cols(), tensor.dtype);
            Error::tensor(path, &tensor.name, what)
        })?;
        let stored = Self { row_bytes, place };
        if stored.fits(tensor) {
            return Ok(stored);
        }
        let what = format!("its shape {:?} does not fit the file's bytes; the file is broken", tensor.shape);
        Err(Error::tensor(path, &tensor.name, what))
    }

    fn fits(&self, tensor: &Tensor) -> bool {
        let Some(bytes) = self.row_bytes.checked_mul(tensor.rows()) else { return false };
        match &self.place {
            Place::Mapped(span) => span.range.len() == bytes,
            Place::Computed(made) => made.len() == bytes,
            Place::Stacked(parts) => {
                let part = parts.first().map_or(0, |part| part.range.len());
                part > 0 && parts.iter().all(|p| p.range.len() == part) && part.checked_mul(parts.len()) == Some(bytes)
            }
            Place::Strided(span, strides) => {
                let weights = tensor.cols().checked_mul(tensor.rows());
                weights.is_some_and(|n| strides.fits(n, span.range.len() / tensor.dtype.block_bytes()))
            }
            Place::Changed(span, stored, walk, _) => {
                let weights = tensor.cols() * tensor.rows();
                let fits = |walk: &Walk| walk.fits(weights, span.range.len() / stored.block_bytes());
                stored.row_bytes(weights) == Some(span.range.len()) && walk.as_ref().is_none_or(fits)
            }
            Place::Packed(packed) => packed.fits(tensor),
        }
    }

    /// Has the system begin to read what `rows` of the tensor are made from. A request only.
    pub(super) fn will_need(&self, tensor: &Tensor, rows: Range<usize>) {
        self.each_part(tensor, rows, will_need);
    }

    /// Says that what `rows` of the tensor are made from is not needed for now. A request only.
    pub(super) fn release(&self, tensor: &Tensor, rows: Range<usize>, pages: Pages) {
        self.each_part(tensor, rows, |map, range| match pages {
            Pages::Unmapped => release(map, range),
            Pages::Evicted => evict(map, range),
        });
    }

    /// Calls `f` with the parts of mapped files that `rows` of the tensor are made from; norms are left out.
    fn each_part(&self, tensor: &Tensor, rows: Range<usize>, f: impl Fn(&FileMap, &Range<usize>)) {
        let part = rows.start * self.row_bytes..rows.end * self.row_bytes;
        match &self.place {
            Place::Mapped(span) => f(&span.map, &span.within(part)),
            Place::Strided(span, strides) => f(&span.map, &span.within(strided_bytes(span, strides, tensor, &rows))),
            Place::Stacked(parts) => {
                let size = parts.first().map_or(1, |part| part.range.len());
                for (i, span) in parts.iter().enumerate() {
                    let (start, end) = (part.start.max(i * size), part.end.min((i + 1) * size));
                    if start < end {
                        f(&span.map, &span.within(start - i * size..end - i * size));
                    }
                }
            }
            Place::Packed(packed) => packed.each_part(tensor, rows, &f),
            // Norms, and what is in memory.
            Place::Changed(..) | Place::Computed(_) => {}
        }
    }

    /// `rows` lie within the tensor.
    pub(super) fn read(&self, tensor: &Tensor, rows: Range<usize>) -> TensorBytes {
        let part = rows.start * self.row_bytes..rows.end * self.row_bytes;
        match &self.place {
            Place::Mapped(span) => part_of(span, part),
            Place::Computed(bytes) => TensorBytes::Owned(bytes[part].to_vec()),
            Place::Stacked(parts) => stacked(parts, part),
            Place::Strided(span, strides) => {
                let from = span.within(strided_bytes(span, strides, tensor, &rows));
                let weights = rows.start * tensor.cols()..rows.end * tensor.cols();
                let out = strided(span.bytes(), strides, tensor.dtype.block_bytes(), weights);
                // What was copied need not stay in memory too.
                release(&span.map, &from);
                TensorBytes::Owned(out)
            }
            Place::Changed(span, stored, walk, change) => {
                TensorBytes::Owned(changed(span.bytes(), (*stored, walk.as_ref(), change), tensor, rows))
            }
            Place::Packed(packed) => {
                let out = packed.read(tensor, rows.clone());
                packed.each_part(tensor, rows, &|map: &FileMap, range: &Range<usize>| release(map, range));
                TensorBytes::Owned(out)
            }
        }
    }
}

fn part_of(span: &Span, part: Range<usize>) -> TensorBytes {
    TensorBytes::Mapped(Arc::clone(&span.map), span.within(part))
}

/// A range of the bytes of all parts; a view where it lies within one.
fn stacked(parts: &[Span], range: Range<usize>) -> TensorBytes {
    let part_bytes = parts.first().map_or(1, |part| part.range.len());
    let (first, start) = (range.start / part_bytes, range.start % part_bytes);
    if let Some(part) = parts.get(first).filter(|_| start + range.len() <= part_bytes) {
        return part_of(part, start..start + range.len());
    }
    let mut out = Vec::with_capacity(range.len());
    for (i, part) in parts.iter().enumerate().skip(first) {
        let (start, end) = (range.start.max(i * part_bytes), range.end.min((i + 1) * part_bytes));
        if start >= end {
            break;
        }
        out.extend_from_slice(&part.bytes()[start - i * part_bytes..end - i * part_bytes]);
    }
    TensorBytes::Owned(out)
}

/// The bytes of a span that rows of a tensor are among.
fn strided_bytes(span: &Span, strides: &Walk, tensor: &Tensor, rows: &Range<usize>) -> Range<usize> {
    let width = tensor.dtype.block_bytes();
    let weights = rows.start * tensor.cols()..rows.end * tensor.cols();
    let extent = strides.extent(weights, span.range.len() / width);
    extent.start * width..extent.end * width
}

fn strided(bytes: &[u8], strides: &Walk, width: usize, weights: Range<usize>) -> Vec<u8> {
    let (mut at, end) = (weights.start, weights.end);
    let mut out = Vec::with_capacity((end - at) * width);
    while at < end {
        let (from, run) = strides.run(at);
        let run = run.min(end - at);
        out.extend_from_slice(&bytes[from * width..(from + run) * width]);
        at += run;
    }
    out
}

/// PyTorch computes in f32 and rounds to the stored type; the converter widens BF16 before, so what comes out stays F32.
fn changed(
    bytes: &[u8],
    (stored, walk, change): (DType, Option<&Walk>, &Change),
    tensor: &Tensor,
    rows: Range<usize>,
) -> Vec<u8> {
    let weights = rows.start * tensor.cols()..rows.end * tensor.cols();
    let width = stored.block_bytes();
    let mut values = vec![0.0; weights.len()];
    match walk {
        None => stored.decode_row(&bytes[weights.start * width..weights.end * width], &mut values),
        Some(walk) => stored.decode_row(&strided(bytes, walk, width, weights), &mut values),
    }
    change.apply(&mut values, tensor, rows);
    let mut out = vec![0; values.len() * tensor.dtype.block_bytes()];
    tensor.dtype.encode_row(&values, None, &mut out);
    out
}
