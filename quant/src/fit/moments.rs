//! Sums of products of the columns of an input: in groups of columns where all pairs of them would be too many, and of experts
//! that share what they do not have. Absent: collecting them, and shrinking them (see the module above).

use std::ops::Range;

use rayon::prelude::*;

/// Rows of activations that one column needs at least; with fewer no feedback is used.
const ROWS_PER_COLUMN: f64 = 0.25;

/// Sums of products of the columns of an input, from two halves of the text (its windows alternate).
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Columns, `K`.
    pub cols: usize,
    /// Columns of a group; the last group may have fewer. Products of columns of different groups are not known and count as 0.
    /// `K` or more where all products are known.
    pub width: usize,
    /// Each half's matrices, one `[width, width]` a group, one behind the other, row-major, both halves of a matrix filled.
    pub sums: [Vec<f32>; 2],
    /// Rows that were summed.
    pub counts: [u64; 2],
}

impl Moments {
    /// How many sums there are of one half.
    pub fn sums_of(cols: usize, width: usize) -> usize {
        column_groups(cols, width).map(|group| group.len() * group.len()).sum()
    }

    /// Whether there are rows enough to learn from.
    pub fn has_enough_rows(&self) -> bool {
        self.count() as f64 >= ROWS_PER_COLUMN * self.cols as f64 && !self.counts.contains(&0)
    }

    /// All of them together: what all experts of a block have seen. `None` of none.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn pool(all: &[Self]) -> Option<Self> {
        let first = all.first()?;
        assert!(all.iter().all(|one| one.cols == first.cols && one.width == first.width));
        let sums = [0, 1].map(|half| {
            // In order, in f64: the same for every number of threads.
            let sum = |i: usize| all.iter().map(|one| f64::from(one.sums[half][i])).sum::<f64>() as f32;
            (0..first.sums[half].len()).into_par_iter().map(sum).collect()
        });
        let counts = [0, 1].map(|half| all.iter().map(|one| one.counts[half]).sum());
        Some(Self { cols: first.cols, width: first.width, sums, counts })
    }

    /// An expert's own rows and `K` rows more as all experts have seen them: `H_e + n_0 H_pool / n_pool` of `n_e + n_0` rows,
    /// with `n_0 = K`. An expert that saw few rows becomes what all are.
    ///
    /// # Panics
    /// If the sizes differ.
    #[must_use]
    pub fn with_pool(&self, pool: &Self) -> Self {
        assert!(self.cols == pool.cols && self.width == pool.width);
        let (added, all) = (self.cols as u64, pool.count());
        if all == 0 {
            return self.clone();
        }
        let share = added as f64 / all as f64;
        let sums = [0, 1].map(|half| {
            let (own, pool) = (&self.sums[half], &pool.sums[half]);
            let sum = |(&own, &pool): (&f32, &f32)| (f64::from(own) + share * f64::from(pool)) as f32;
            own.par_iter().zip(pool.par_iter()).map(sum).collect()
        });
        let first = ((share * pool.counts[0] as f64).round() as u64).min(added);
        Self { sums, counts: [self.counts[0] + first, self.counts[1] + added - first], ..*self }
    }

    /// Rows of both halves.
    pub(super) fn count(&self) -> u64 {
        self.counts[0] + self.counts[1]
    }

    /// The sum of products of two columns in one half.
    pub(super) fn sum(&self, half: usize, i: usize, j: usize) -> f32 {
        let start = i / self.width * self.width;
        if j / self.width * self.width != start {
            return 0.0;
        }
        let len = self.width.min(self.cols - start);
        // Every group before this one has `width` columns, and so `width` rows of as many sums.
        self.sums[half][start * self.width + (i - start) * len + (j - start)]
    }

    /// The means of products of a group, of both halves.
    pub(super) fn means(&self, group: &Range<usize>) -> Vec<f32> {
        let (at, count) = (group.start * self.width, self.count().max(1) as f64);
        let [a, b] = [0, 1].map(|half| &self.sums[half][at..][..group.len() * group.len()]);
        a.par_iter().zip(b.par_iter()).map(|(&a, &b)| ((f64::from(a) + f64::from(b)) / count) as f32).collect()
    }

    /// The mean square of every column; `None` where nothing went in, or nothing that is a number.
    pub(super) fn importance(&self) -> Option<Vec<f32>> {
        let count = self.count().max(1) as f64;
        let mean = |i: usize| ((f64::from(self.sum(0, i, i)) + f64::from(self.sum(1, i, i))) / count) as f32;
        let importance: Vec<f32> = (0..self.cols).map(mean).collect();
        let usable = importance.iter().all(|v| v.is_finite()) && importance.iter().any(|&v| v > 0.0);
        usable.then_some(importance)
    }

    /// Whether the sums are as many as there should be.
    pub(super) fn is_whole(&self) -> bool {
        self.width > 0 && self.sums.iter().all(|sums| sums.len() == Self::sums_of(self.cols, self.width))
    }
}

/// The columns of each group where they go in groups of `width`; the last one may be narrower.
pub fn column_groups(cols: usize, width: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let width = width.max(1);
    (0..cols).step_by(width).map(move |start| start..(start + width).min(cols))
}
