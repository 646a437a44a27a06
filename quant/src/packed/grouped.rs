//! What GPTQ and AWQ share: matrices stored by columns, with a scale and a zero point for each row of each group of columns.

use std::ops::Range;

use super::{Floats, Found, word};
use crate::Result;
use crate::mmap::{FileMap, Span};
use crate::packing::Packed;
use crate::safetensors::HfTensor;

/// Which group a column is of.
pub(super) enum GroupOf {
    /// Each run of this many neighbouring columns is a group.
    Size(usize),
    /// As the words of this tensor say, all of which are groups.
    Listed(Span),
}

impl GroupOf {
    pub(super) fn group(&self, col: usize) -> usize {
        match self {
            Self::Size(size) => col / size,
            Self::Listed(list) => word(list.bytes(), col) as usize,
        }
    }

    /// The groups that a tensor of words lists for columns, each below `groups`; where the list is the usual one it is not kept.
    ///
    /// # Errors
    /// A number that is no group.
    pub(super) fn listed(found: &Found, list: &HfTensor, groups: usize, size: usize) -> Result<Self> {
        found.check_type(list, &["I32"])?;
        let cols = list.shape.iter().product();
        let (mut usual, bytes) = (true, list.bytes());
        for col in 0..cols {
            let group = word(bytes, col) as i32;
            if usize::try_from(group).map_or(true, |group| group >= groups) {
                let what = format!("says group {group} for column {col}, but there are {groups} (counted from 0)");
                return Err(found.error(list, what));
            }
            usual &= group as usize == col / size;
        }
        Ok(if usual { Self::Size(size) } else { Self::Listed(list.span()) })
    }
}

/// Where a code is: the word, and the bit in it.
pub(super) type Place = (usize, usize);

/// A matrix in groups of columns.
pub(super) struct Grouped {
    pub(super) bits: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) groups: usize,
    pub(super) group_of: GroupOf,
    pub(super) codes: Span,
    /// What a column adds to the place of a code.
    pub(super) col_at: fn(&Self, usize) -> Place,
    /// And a row.
    pub(super) row_at: fn(&Self, usize) -> Place,
    /// From a word to the next, for numbers across words.
    pub(super) step: usize,
    pub(super) zeros: Span,
    /// Of a row and a group.
    pub(super) zero_at: fn(&Self, usize, usize) -> Place,
    /// What is added to stored zero points.
    pub(super) zero_offset: i32,
    /// `[groups, rows]`
    pub(super) scales: Floats,
}

impl Grouped {
    /// Reads the number at a place.
    fn number(&self, bytes: &[u8], (at, off): Place, step: usize) -> i32 {
        let mut value = word(bytes, at) >> off;
        if off + self.bits > 32 {
            value |= word(bytes, at + step) << (32 - off);
        }
        (value & ((1 << self.bits) - 1)) as i32
    }

    /// Scale and zero point of a row in a group.
    fn group(&self, row: usize, group: usize) -> (f32, i32) {
        let zero = self.number(self.zeros.bytes(), (self.zero_at)(self, row, group), 1) + self.zero_offset;
        (self.scales.get(group * self.rows + row), zero)
    }

    /// Decodes the columns `cols` of some rows into `[rows, cols]`.
    fn decode_part(&self, rows: &[usize], cols: Range<usize>, out: &mut [f32]) {
        /// Columns at a time, so that words that rows share are read while they are at hand.
        const COLS: usize = 32;
        let bytes = self.codes.bytes();
        // Of each group, those of each row.
        let groups: Vec<(f32, i32)> =
            (0..self.groups).flat_map(|group| rows.iter().map(move |&row| self.group(row, group))).collect();
        let of_rows: Vec<Place> = rows.iter().map(|&row| (self.row_at)(self, row)).collect();
        for first in cols.clone().step_by(COLS) {
            let some = first..cols.end.min(first + COLS);
            let of_cols: Vec<(Place, usize)> =
                some.clone().map(|col| ((self.col_at)(self, col), self.group_of.group(col) * rows.len())).collect();
            for (n, &(row_word, row_bit)) in of_rows.iter().enumerate() {
                let at = n * cols.len() + first - cols.start;
                for (out, &((word, bit), group)) in out[at..at + some.len()].iter_mut().zip(&of_cols) {
                    let (scale, zero) = groups[group + n];
                    *out = scale * (self.number(bytes, (word + row_word, bit + row_bit), self.step) - zero) as f32;
                }
            }
        }
    }
}

impl Packed for Grouped {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        self.decode_part(&[row], cols, out);
    }

    fn decode_rows(&self, rows: &[usize], out: &mut [f32]) {
        self.decode_part(rows, 0..self.cols, out);
    }

    fn label(&self) -> Option<String> {
        Some(format!("int{}", self.bits))
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        // Every row is spread over the whole tensor; it is needed with the first and until the last.
        if rows.start == 0 || rows.end == self.rows {
            f(&self.codes.map, self.codes.range.clone());
        }
    }
}
