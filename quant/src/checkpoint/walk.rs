//! Walks over the weights of a tensor: where in the file each one lies, where that has them in another order than is needed.
//!
//! Absent: which walk a tensor takes (see `layout`), and reading by it (see `place`, `rows`).

use std::ops::Range;

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

/// A walk over the weights of a tensor in their order: an odometer, its fastest digit first. A step of a digit moves by
/// its stride within the file.
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
