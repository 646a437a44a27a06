//! Sums of products of the columns of an input: in groups of columns where all pairs of them would be too many, and of experts
//! that share what they do not have. Absent: collecting them, and shrinking them (see the module above).

use std::ops::Range;

use rayon::prelude::*;

/// Rows of activations that one column needs at least; with fewer no feedback is used.
const ROWS_PER_COLUMN: f64 = 0.25;

/// Sums of products of the columns of an input, from parts of the text: of one text its windows in turn, of several each one.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Columns, `K`.
    pub cols: usize,
    /// Columns of a group; the last group may have fewer. Products of columns of different groups are not known and count as 0.
    /// `K` or more where all products are known.
    pub width: usize,
    /// Each part's matrices, one `[width, width]` a group, one behind the other, row-major, both halves of a matrix filled.
    pub sums: Vec<Vec<f32>>,
    /// Rows that were summed of each part.
    pub counts: Vec<u64>,
    /// Parts that are left out in turn to judge what was fitted to the others: of one text the second, of several all.
    pub left_out: Range<usize>,
}

impl Moments {
    /// How many sums there are of one part.
    pub fn sums_of(cols: usize, width: usize) -> usize {
        column_groups(cols, width).map(|group| group.len() * group.len()).sum()
    }

    /// Whether there are rows enough to learn from, and more than one part has some.
    pub fn has_enough_rows(&self) -> bool {
        let seen = self.counts.iter().filter(|&&count| count > 0).count();
        self.count() as f64 >= ROWS_PER_COLUMN * self.cols as f64 && seen > 1
    }

    /// All of them together: what all experts of a block have seen. `None` of none.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn pool(all: &[Self]) -> Option<Self> {
        let first = all.first()?;
        let is_alike = |one: &Self| one.cols == first.cols && one.width == first.width && one.counts.len() == first.counts.len();
        assert!(all.iter().all(is_alike));
        let parts = 0..first.counts.len();
        let sums = parts.clone().map(|part| -> Vec<f32> {
            // In order, in f64: the same for every number of threads.
            let sum = |i: usize| all.iter().map(|one| f64::from(one.sums[part][i])).sum::<f64>() as f32;
            (0..first.sums[part].len()).into_par_iter().map(sum).collect()
        });
        let sums = sums.collect();
        let counts = parts.map(|part| all.iter().map(|one| one.counts[part]).sum()).collect();
        Some(Self { cols: first.cols, width: first.width, sums, counts, left_out: first.left_out.clone() })
    }

    /// An expert's own rows and `K` rows more as all experts have seen them: `H_e + n_0 H_pool / n_pool` of `n_e + n_0` rows,
    /// with `n_0 = K`. An expert that saw few rows becomes what all are.
    ///
    /// # Panics
    /// If the sizes differ.
    #[must_use]
    pub fn with_pool(&self, pool: &Self) -> Self {
        assert!(self.cols == pool.cols && self.width == pool.width && self.counts.len() == pool.counts.len());
        let (added, all) = (self.cols as u64, pool.count());
        if all == 0 {
            return self.clone();
        }
        let share = added as f64 / all as f64;
        let sums = self.sums.iter().zip(&pool.sums).map(|(own, pool)| -> Vec<f32> {
            let sum = |(&own, &pool): (&f32, &f32)| (f64::from(own) + share * f64::from(pool)) as f32;
            own.par_iter().zip(pool.par_iter()).map(sum).collect()
        });
        let (mut seen, mut before) = (0u64, 0u64);
        let counts = self.counts.iter().zip(&pool.counts).map(|(own, pool)| {
            // Rounded from the first part on, so that they are `added` together.
            seen += pool;
            let until = ((share * seen as f64).round() as u64).min(added);
            own + until - std::mem::replace(&mut before, until)
        });
        Self { sums: sums.collect(), counts: counts.collect(), left_out: self.left_out.clone(), ..*self }
    }

    /// Rows of all parts.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of products of two columns in one part.
    pub(super) fn sum(&self, part: usize, i: usize, j: usize) -> f32 {
        let start = i / self.width * self.width;
        if j / self.width * self.width != start {
            return 0.0;
        }
        let len = self.width.min(self.cols - start);
        // Every group before this one has `width` columns, and so `width` rows of as many sums.
        self.sums[part][start * self.width + (i - start) * len + (j - start)]
    }

    /// The means of products of a group, of all parts.
    pub(super) fn means(&self, group: &Range<usize>) -> Vec<f32> {
        let (at, count) = (group.start * self.width, self.count().max(1) as f64);
        let mean = |i: usize| (self.sums.iter().map(|sums| f64::from(sums[at + i])).sum::<f64>() / count) as f32;
        (0..group.len() * group.len()).into_par_iter().map(mean).collect()
    }

    /// The means of products of some columns `[columns, columns]` in one part, and in all others together; `None` where one of
    /// both has no rows.
    pub(super) fn means_apart(&self, part: usize, columns: &[u32]) -> Option<(Vec<f32>, Vec<f32>)> {
        let others: Vec<usize> = (0..self.counts.len()).filter(|&other| other != part).collect();
        let means = |parts: &[usize]| -> Option<Vec<f32>> {
            let count = parts.iter().map(|&part| self.counts[part]).sum::<u64>() as f32;
            let sum = |i: u32, j: u32| parts.iter().map(|&part| f64::from(self.sum(part, i as usize, j as usize))).sum::<f64>();
            let row = |&i: &u32| columns.iter().map(move |&j| sum(i, j) as f32 / count);
            (count > 0.0).then(|| columns.iter().flat_map(row).collect())
        };
        Some((means(&[part])?, means(&others)?))
    }

    /// The mean square of every column; `None` where nothing went in, or nothing that is a number.
    pub(super) fn importance(&self) -> Option<Vec<f32>> {
        let count = self.count().max(1) as f64;
        let sum = |i: usize| (0..self.sums.len()).map(|part| f64::from(self.sum(part, i, i))).sum::<f64>();
        let mean = |i: usize| (sum(i) / count) as f32;
        let importance: Vec<f32> = (0..self.cols).map(mean).collect();
        let usable = importance.iter().all(|v| v.is_finite()) && importance.iter().any(|&v| v > 0.0);
        usable.then_some(importance)
    }

    /// Whether the sums are as many as there should be.
    pub(super) fn is_whole(&self) -> bool {
        let sums = Self::sums_of(self.cols, self.width);
        self.width > 0 && self.sums.len() == self.counts.len() && self.sums.iter().all(|part| part.len() == sums)
    }
}

/// The columns of each group where they go in groups of `width`; the last one may be narrower.
pub fn column_groups(cols: usize, width: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let width = width.max(1);
    (0..cols).step_by(width).map(move |start| start..(start + width).min(cols))
}
