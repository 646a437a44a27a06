//! Where the bytes of a tensor are, and how rows of it are read: views of mapped files where the file has them in this
//! order, else gathered for the rows asked for. Absent: which tensor comes from where (see `hf`, `gguf`).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::rows::PackedRows;
use crate::mmap::{FileMap, Span, evict, release, will_need};
use crate::tensor::{Pages, Tensor, TensorBytes};
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

/// A walk over the weights of a tensor in their order, part after part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk(pub(super) Vec<Strides>);

impl Walk {
    /// The part that weight `index` is in, and its number there.
    fn part(&self, mut index: usize) -> (&Strides, usize) {
        for part in &self.0[..self.0.len() - 1] {
            let weights = part.weights();
            if index < weights {
                return (part, index);
            }
            index -= weights;
        }
        (&self.0[self.0.len() - 1], index)
    }

    /// The weight of the file for weight `index`, and how many from there on lie one behind the other.
    pub(super) fn run(&self, index: usize) -> (usize, usize) {
        let (part, index) = self.part(index);
        (part.position(index), part.run(index))
    }

    /// See [`Strides::extent`]; of several parts, all.
    pub(super) fn extent(&self, weights: Range<usize>, available: usize) -> Range<usize> {
        match &self.0[..] {
            [whole] => whole.extent(weights, available),
            _ => 0..available,
        }
    }

    /// Whether it goes on in whole runs of `run` weights that begin at multiples of that.
    pub(super) fn goes_by(&self, run: usize) -> bool {
        self.0.iter().all(|part| {
            let whole = |number: usize| number.is_multiple_of(run);
            let by_ones = part.digits.first().is_some_and(|&(extent, stride)| stride == 1 && whole(extent));
            by_ones && whole(part.first) && part.digits.iter().skip(1).all(|&(_, stride)| whole(stride))
        })
    }

    /// Whether the walk has `weights` weights, and all of them are within a file tensor of `available`.
    pub(super) fn fits(&self, weights: usize, available: usize) -> bool {
        let counts = self.0.iter().try_fold(0usize, |sum, part| {
            let count = part.digits.iter().try_fold(1usize, |n, &(extent, _)| n.checked_mul(extent))?;
            part.fits(count, available).then_some(())?;
            sum.checked_add(count)
        });
        !self.0.is_empty() && counts == Some(weights)
    }
}

/// A walk over the weights of a tensor in their order: an odometer whose digits, the fastest first, each move so many
/// weights within the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strides {
    /// Where the first weight is.
    pub(super) first: usize,
    /// `(extent, stride)` of every digit.
    pub(super) digits: Vec<(usize, usize)>,
}

impl Strides {
    /// How many weights it has.
    fn weights(&self) -> usize {
        self.digits.iter().map(|&(extent, _)| extent).product()
    }

    /// The weight of the file for weight `index`.
    fn position(&self, index: usize) -> usize {
        let mut rest = index;
        let moved = self.digits.iter().map(|&(extent, stride)| {
            let digit = rest % extent;
            rest /= extent;
            digit * stride
        });
        self.first + moved.sum::<usize>()
    }

    /// How many weights from `index` on lie one behind the other in the file.
    fn run(&self, index: usize) -> usize {
        match self.digits[0] {
            (extent, 1) => extent - index % extent,
            _ => 1,
        }
    }

    /// Which of the file's `available` weights the weights of this range are among: whole steps of the slowest digit, all
    /// where that has but one.
    fn extent(&self, weights: Range<usize>, available: usize) -> Range<usize> {
        let Some((&(extent, stride), faster)) = self.digits.split_last() else { return 0..available };
        if extent == 1 || weights.is_empty() {
            return 0..available;
        }
        let step: usize = faster.iter().map(|&(extent, _)| extent).product();
        let (first, last) = (weights.start / step, (weights.end - 1) / step);
        (first * stride).min(available)..((last + 1) * stride).min(available)
    }

    /// Whether the walk has `weights` weights, and all of them are within a file tensor of `available`.
    fn fits(&self, weights: usize, available: usize) -> bool {
        let count = self.digits.iter().try_fold(1usize, |n, &(extent, _)| n.checked_mul(extent));
        let last = self
            .digits
            .iter()
            .try_fold(self.first, |at, &(extent, stride)| extent.checked_sub(1)?.checked_mul(stride)?.checked_add(at));
        !self.digits.is_empty() && count == Some(weights) && last.is_some_and(|last| last < available)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(strides: &Strides, expected: &[usize]) {
        assert!(strides.fits(expected.len(), expected.iter().max().unwrap() + 1), "{strides:?}");
        let found: Vec<usize> = (0..expected.len()).map(|i| strides.position(i)).collect();
        assert_eq!(found, expected, "{strides:?}");
    }

    #[test]
    fn strides_walk_the_fastest_digit_first() {
        check(&Strides { first: 0, digits: vec![(2, 3), (3, 1), (2, 6)] }, &[0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        check(&Strides { first: 1, digits: vec![(2, 4), (2, 2)] }, &[1, 5, 3, 7]);
    }

    #[test]
    fn the_extent_of_some_weights_is_whole_steps_of_the_slowest_digit() {
        let strides = Strides { first: 0, digits: vec![(2, 3), (3, 1), (2, 6)] };
        for (weights, expected) in [(0..1, 0..6), (5..6, 0..6), (5..7, 0..12), (6..12, 6..12), (3..3, 0..12)] {
            assert_eq!(strides.extent(weights.clone(), 12), expected, "{weights:?}");
        }
        assert_eq!(Strides { first: 0, digits: vec![(2, 3), (3, 1), (1, 6)] }.extent(0..1, 6), 0..6);
    }

    #[test]
    fn a_walk_that_leaves_the_file_or_has_other_weights_does_not_fit() {
        let strides = Strides { first: 1, digits: vec![(2, 4), (2, 2)] };
        assert!(strides.fits(4, 8));
        assert!(!strides.fits(4, 7) && !strides.fits(5, 8));
        for digits in [vec![], vec![(0, 1)], vec![(usize::MAX, 2), (2, 2)]] {
            assert!(!Strides { first: 0, digits }.fits(0, usize::MAX));
        }
    }
}
