//! What GPTQ and AWQ share: matrices stored by columns, with a scale and a zero point for each row of each group of columns.

use std::ops::Range;

use super::{Floats, Found, Packed, word};
use crate::Result;
use crate::mmap::{FileMap, Span};
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

/// Where the code of a weight is: the first word, the step from word to word, and the bit.
pub(super) type Place = (usize, usize, usize);

/// A matrix in groups of columns.
pub(super) struct Grouped {
    pub(super) bits: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) groups: usize,
    pub(super) group_of: GroupOf,
    pub(super) codes: Span,
    /// Of a row and a column.
    pub(super) code_at: fn(&Self, usize, usize) -> Place,
    pub(super) zeros: Span,
    /// Of a row and a group.
    pub(super) zero_at: fn(&Self, usize, usize) -> Place,
    /// What is added to stored zero points.
    pub(super) zero_offset: i32,
    /// `[groups, rows]`
    pub(super) scales: Floats,
}

impl Grouped {
    /// Reads the number of `bits` bits at a place.
    fn number(&self, bytes: &[u8], (first, step, bit): Place) -> i32 {
        let (at, off) = (first + bit / 32 * step, bit % 32);
        let mut value = word(bytes, at) >> off;
        if off + self.bits > 32 {
            value |= word(bytes, at + step) << (32 - off);
        }
        (value & ((1 << self.bits) - 1)) as i32
    }

    /// Scale and zero point of a row in a group.
    fn group(&self, row: usize, group: usize) -> (f32, i32) {
        let zero = self.number(self.zeros.bytes(), (self.zero_at)(self, row, group)) + self.zero_offset;
        (self.scales.get(group * self.rows + row), zero)
    }

    fn value(&self, row: usize, col: usize, (scale, zero): (f32, i32)) -> f32 {
        scale * (self.number(self.codes.bytes(), (self.code_at)(self, row, col)) - zero) as f32
    }
}

impl Packed for Grouped {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let mut known = (usize::MAX, (0.0, 0));
        for (col, out) in cols.zip(out) {
            let group = self.group_of.group(col);
            if known.0 != group {
                known = (group, self.group(row, group));
            }
            *out = self.value(row, col, known.1);
        }
    }

    fn decode_rows(&self, rows: &[usize], out: &mut [f32]) {
        /// Columns at a time, so that words that rows share are read while they are at hand.
        const COLS: usize = 32;
        // Of each group, those of each row.
        let groups: Vec<(f32, i32)> =
            (0..self.groups).flat_map(|group| rows.iter().map(move |&row| self.group(row, group))).collect();
        for first in (0..self.cols).step_by(COLS) {
            for (n, &row) in rows.iter().enumerate() {
                for col in first..self.cols.min(first + COLS) {
                    out[n * self.cols + col] = self.value(row, col, groups[self.group_of.group(col) * rows.len() + n]);
                }
            }
        }
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        // Every row is spread over the whole tensor; it is needed with the first and until the last.
        if rows.start == 0 || rows.end == self.rows {
            f(&self.codes.map, self.codes.range.clone());
        }
    }
}
