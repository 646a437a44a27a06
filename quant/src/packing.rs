//! What readers of rows know of weights that published checkpoints do not store as floats: what decodes them, and blocks that
//! GGUF has too.
//!
//! Absent: the ways to store weights, and finding them among tensors (see `packed`).

use std::ops::Range;

use crate::DType;
use crate::formats::fp4;
use crate::mmap::{FileMap, Span};

/// Weights that are stored otherwise than as floats: a matrix, or several of one shape whose rows count on.
pub(crate) trait Packed: Send + Sync {
    /// Decodes the weights `cols` of row `row`.
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]);

    /// Decodes whole rows, in this order, into `[rows, cols]`.
    fn decode_rows(&self, rows: &[usize], out: &mut [f32]) {
        let cols = out.len() / rows.len().max(1);
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(cols.max(1))) {
            self.decode(row, 0..cols, out);
        }
    }

    /// Calls `f` with the larger parts of files that these rows are made from.
    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>));

    /// What the field calls weights that are stored so, as `fp8` or `int4`; `None` where they are floats.
    fn label(&self) -> Option<String>;

    /// The same as blocks that GGUF has too.
    fn fp4(&self) -> Option<&Fp4> {
        None
    }
}

/// Matrices of 4-bit floats, one behind the other: what the formats of these share. Codes of two weights a byte, the even one in
/// the low bits, a scale of one byte for each run of weights, and in some a factor for each matrix. GGUF has the same grids in
/// blocks of another order.
pub(crate) struct Fp4 {
    /// Half a byte a weight.
    pub(crate) codes: Span,
    /// A byte for each run.
    pub(crate) scales: Span,
    /// [`DType::MXFP4`] (runs of 32 with a power of two) or [`DType::NVFP4`] (runs of 16 with an 8-bit float).
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    pub(crate) matrix_rows: usize,
    /// Of all matrices together, or one each; empty where there is none.
    pub(crate) factors: Vec<f32>,
    /// The same of what is multiplied by them, which nothing here needs.
    pub(crate) input_factors: Vec<f32>,
}

impl Fp4 {
    /// The type of GGUF's blocks.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Weights that share a scale.
    pub(crate) fn run(&self) -> usize {
        if self.dtype == DType::MXFP4 { 32 } else { 16 }
    }

    /// See the fields.
    pub(crate) fn factors(&self) -> [&[f32]; 2] {
        [&self.factors, &self.input_factors]
    }

    /// The scale of a run of weights, by its number in the file, and its codes.
    fn stored(&self, run: usize) -> (u8, &[u8]) {
        let bytes = self.run() / 2;
        (self.scales.bytes()[run], &self.codes.bytes()[run * bytes..(run + 1) * bytes])
    }

    /// Appends a block of GGUF's that is made of runs of weights, by their numbers in the file.
    pub(crate) fn append_block(&self, runs: impl Iterator<Item = usize> + Clone, out: &mut Vec<u8>) {
        // The sign of NVFP4's scales means nothing.
        let mask = if self.dtype == DType::MXFP4 { 0xff } else { 0x7f };
        out.extend(runs.clone().map(|run| self.stored(run).0 & mask));
        for run in runs {
            let (_, codes) = self.stored(run);
            let code = |weight: usize| codes[weight / 2] >> (4 * (weight % 2)) & 0xf;
            out.extend((0..codes.len()).map(|i| code(i) | code(i + codes.len()) << 4));
        }
    }

    fn factor(&self, row: usize) -> f32 {
        match self.factors[..] {
            [] => 1.0,
            [one] => one,
            ref each => each[row / self.matrix_rows],
        }
    }
}

impl Packed for Fp4 {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let (run, factor) = (self.run(), self.factor(row));
        let mut at = cols.start;
        while at < cols.end {
            let end = cols.end.min((at / run + 1) * run);
            let (scale, codes) = self.stored((row * self.cols + at) / run);
            // What a scale cannot be makes weights that are no numbers, which are refused where they are met.
            let broken = self.dtype == DType::NVFP4 && (scale & 0x7f == 0x7f || scale > 0x80);
            let scale = if broken { f32::NAN } else { fp4::half_scale(self.dtype, scale) };
            for (col, out) in (at..end).zip(&mut out[at - cols.start..]) {
                let code = codes[col % run / 2] >> (4 * (col % 2)) & 0xf;
                *out = f32::from(fp4::VALUES[usize::from(code)]) * scale * factor;
            }
            at = end;
        }
    }

    fn label(&self) -> Option<String> {
        Some(self.dtype.name().to_lowercase())
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        let row = self.cols / 2;
        f(&self.codes.map, self.codes.within(rows.start * row..rows.end * row));
    }

    fn fp4(&self) -> Option<&Fp4> {
        Some(self)
    }
}
