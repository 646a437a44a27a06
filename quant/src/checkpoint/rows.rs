//! Rows of tensors that checkpoints store otherwise than GGUF does: as floats, or as GGUF's blocks of the same grid. Absent: the
//! ways to store them (see `crate::packed`).

use std::ops::Range;
use std::sync::Arc;

use super::change::Change;
use super::walk::Walk;
use crate::DType;
use crate::mmap::FileMap;
use crate::packing::{Fp4, Packed};
use crate::safetensors::HfTensor;
use crate::tensor::Tensor;

/// Parts of one shape, one behind the other.
#[derive(Clone)]
pub(super) struct PackedRows {
    parts: Vec<Arc<dyn Packed>>,
    /// Columns of a part in the file.
    cols: usize,
    /// Weights of a part in the file.
    weights: usize,
    /// Where each weight is; of a single part.
    walk: Option<Walk>,
    change: Option<Change>,
}

impl PackedRows {
    /// Of tensors of the same shape; a walk and a change are for one alone. Floats among them count as such rows too.
    pub(super) fn new(tensors: &[&HfTensor], walk: Option<Walk>, change: Option<Change>) -> crate::Result<Self> {
        let mut parts: Vec<Arc<dyn Packed>> = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            match tensor.packing() {
                Some(packed) => parts.push(Arc::clone(packed)),
                None => parts.push(Arc::new(Plain { dtype: tensor.dtype()?, tensor: (*tensor).clone(), cols: cols_of(tensor) })),
            }
        }
        let first = tensors.first();
        let weights = first.map_or(0, |tensor| tensor.shape.iter().product());
        Ok(Self { parts, cols: first.map_or(1, |tensor| cols_of(tensor)), weights, walk, change })
    }

    /// Of one matrix, or some, in their order.
    pub(super) fn of(packed: Arc<dyn Packed>, cols: usize, weights: usize) -> Self {
        Self { parts: vec![packed], cols, weights, walk: None, change: None }
    }

    /// The parts as GGUF's blocks of that type, where all are such and move in whole runs.
    pub(super) fn blocks(&self, dtype: DType) -> Option<Vec<&Fp4>> {
        let parts: Option<Vec<&Fp4>> = self.parts.iter().map(|part| part.fp4().filter(|fp4| fp4.dtype() == dtype)).collect();
        let run = parts.as_ref()?.first()?.run();
        let moves = self.walk.as_ref().is_none_or(|walk| walk.goes_by(run));
        parts.filter(|_| moves && self.change.is_none() && self.cols.is_multiple_of(run))
    }

    /// The factors of blocks and of what is multiplied by them, where they are not 1: one of all parts, or one each.
    pub(super) fn factors(&self) -> [Option<Vec<f32>>; 2] {
        /// numpy's bounds, by which the converter leaves ones out (`_write_scale_tensor`, `_write_scales_tensor`).
        const NEAR: [f32; 2] = [1e-6, 1e-6 + 1e-5];
        let parts: Vec<&Fp4> = self.parts.iter().filter_map(|part| part.fp4()).collect();
        [0, 1].map(|which| {
            let of_part = |part: &&Fp4| match part.factors()[which] {
                [] => vec![1.0],
                factors => factors.to_vec(),
            };
            let factors: Vec<f32> = parts.iter().flat_map(of_part).collect();
            let near = NEAR[usize::from(factors.len() > 1)];
            factors.iter().any(|factor| (factor - 1.0).abs() > near).then_some(factors)
        })
    }

    /// Whether the parts have the weights of the tensor.
    pub(super) fn fits(&self, tensor: &Tensor) -> bool {
        let Some(weights) = tensor.cols().checked_mul(tensor.rows()) else { return false };
        let whole = match &self.walk {
            Some(walk) => self.parts.len() == 1 && walk.fits(weights, self.weights),
            None => self.weights > 0 && self.parts.len().checked_mul(self.weights) == Some(weights),
        };
        whole && (tensor.dtype == DType::F32 || self.blocks(tensor.dtype).is_some())
    }

    /// The bytes of some rows.
    pub(super) fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Vec<u8> {
        let weights = rows.start * tensor.cols()..rows.end * tensor.cols();
        if let Some(blocks) = self.blocks(tensor.dtype) {
            return self.encoded(&blocks, tensor.dtype, weights);
        }
        let fill = |out: &mut [f32]| {
            self.decode(weights.clone(), out);
            if let Some(change) = &self.change {
                change.apply(out, tensor, rows.clone());
            }
        };
        let mut out = vec![0; 4 * weights.len()];
        match bytemuck::try_cast_slice_mut(&mut out) {
            Ok(values) if cfg!(target_endian = "little") => fill(values),
            _ => {
                let mut values = vec![0.0; weights.len()];
                fill(&mut values);
                out = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            }
        }
        out
    }

    /// Where weight `index` is in its part, and how many from there on lie one behind the other.
    fn run(&self, index: usize) -> (usize, usize) {
        self.walk.as_ref().map_or((index, self.weights - index), |walk| walk.run(index))
    }

    /// The part that a weight is in, and its number there.
    fn part(&self, weight: usize) -> (usize, usize) {
        if self.walk.is_some() { (0, weight) } else { (weight / self.weights, weight % self.weights) }
    }

    fn decode(&self, weights: Range<usize>, out: &mut [f32]) {
        let cols = self.cols;
        let mut at = weights.start;
        // Whole rows that wait to be decoded together, and where they go.
        let (mut rows, mut part_of_rows, mut rows_at) = (Vec::new(), 0, 0);
        let flush = |rows: &mut Vec<usize>, part: usize, at: usize, out: &mut [f32]| {
            if !rows.is_empty() {
                self.parts[part].decode_rows(rows, &mut out[at..at + rows.len() * cols]);
                rows.clear();
            }
        };
        while at < weights.end {
            let (part, index) = self.part(at);
            let (from, run) = self.run(index);
            let run = run.min(weights.end - at);
            let (row, col) = (from / cols, from % cols);
            if col == 0 && run >= cols {
                if rows.is_empty() || part != part_of_rows {
                    flush(&mut rows, part_of_rows, rows_at, out);
                    (part_of_rows, rows_at) = (part, at - weights.start);
                }
                rows.extend(row..row + run / cols);
                at += run / cols * cols;
            } else {
                flush(&mut rows, part_of_rows, rows_at, out);
                let n = run.min(cols - col);
                self.parts[part].decode(row, col..col + n, &mut out[at - weights.start..][..n]);
                at += n;
            }
        }
        flush(&mut rows, part_of_rows, rows_at, out);
    }

    fn encoded(&self, parts: &[&Fp4], dtype: DType, weights: Range<usize>) -> Vec<u8> {
        let run = parts.first().map_or(1, |part| part.run());
        let mut out = Vec::with_capacity(weights.len() / dtype.block_len() * dtype.block_bytes());
        for block in weights.step_by(dtype.block_len()) {
            let (part, index) = self.part(block);
            let runs = (0..dtype.block_len() / run).map(|i| self.run(index + i * run).0 / run);
            parts[part].append_block(runs, &mut out);
        }
        out
    }

    /// Calls `f` with the larger parts of files that `rows` of the tensor are made from.
    pub(super) fn each_part(&self, tensor: &Tensor, rows: Range<usize>, f: &impl Fn(&FileMap, &Range<usize>)) {
        let (first, end) = (rows.start * tensor.cols(), rows.end * tensor.cols());
        for (i, part) in self.parts.iter().enumerate() {
            let (start, stop) = match &self.walk {
                Some(walk) => {
                    let extent = walk.extent(first..end, self.weights);
                    (extent.start, extent.end)
                }
                None => (first.max(i * self.weights), end.min((i + 1) * self.weights)),
            };
            if start < stop {
                let offset = if self.walk.is_some() { 0 } else { i * self.weights };
                let rows = (start - offset) / self.cols..(stop - offset).div_ceil(self.cols);
                part.each_part(rows, &mut |map, range| f(map, &range));
            }
        }
    }
}

/// The length of a tensor's rows.
fn cols_of(tensor: &HfTensor) -> usize {
    tensor.shape.last().copied().unwrap_or(1)
}

/// A matrix of floats among others that are stored otherwise.
struct Plain {
    tensor: HfTensor,
    dtype: DType,
    cols: usize,
}

impl Packed for Plain {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let width = self.dtype.block_bytes();
        let first = row * self.cols;
        self.dtype.decode_row(&self.tensor.bytes()[(first + cols.start) * width..(first + cols.end) * width], out);
    }

    fn label(&self) -> Option<String> {
        None
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        let row = self.cols * self.dtype.block_bytes();
        f(&self.tensor.map, self.tensor.span().within(rows.start * row..rows.end * row));
    }
}
