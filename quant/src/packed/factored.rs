//! Rows of any encoding of GGUF times factors that stand beside them: what llama.cpp's `.scale` tensors mean.

use std::ops::Range;

use crate::DType;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;

/// Matrices of one encoding, one behind the other, each with a factor, or all with one.
pub(crate) struct Factored {
    pub(crate) rows: Span,
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    pub(crate) row_bytes: usize,
    pub(crate) matrix_rows: usize,
    pub(crate) factors: Vec<f32>,
}

impl Packed for Factored {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let factor = self.factors[if self.factors.len() == 1 { 0 } else { row / self.matrix_rows }];
        let bytes = &self.rows.bytes()[row * self.row_bytes..(row + 1) * self.row_bytes];
        if cols.len() == self.cols {
            self.dtype.decode_row(bytes, out);
        } else {
            let mut whole = vec![0.0; self.cols];
            self.dtype.decode_row(bytes, &mut whole);
            out.copy_from_slice(&whole[cols]);
        }
        out.iter_mut().for_each(|value| *value *= factor);
    }

    fn label(&self) -> Option<String> {
        None
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        f(&self.rows.map, self.rows.within(rows.start * self.row_bytes..rows.end * self.row_bytes));
    }
}
