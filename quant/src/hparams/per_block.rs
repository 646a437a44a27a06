//! A size that can differ from block to block.

/// One value for all blocks, or one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerBlock<T>(Sizes<T>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sizes<T> {
    Same(T),
    /// Not all the same, so not empty.
    Each(Vec<T>),
}

impl<T: Copy + Ord> PerBlock<T> {
    /// The same in every block.
    pub const fn uniform(value: T) -> Self {
        Self(Sizes::Same(value))
    }

    /// The values of the blocks in their order; `None` where there are none.
    pub fn each(values: Vec<T>) -> Option<Self> {
        let first = *values.first()?;
        let same = values.iter().all(|&value| value == first);
        Some(if same { Self::uniform(first) } else { Self(Sizes::Each(values)) })
    }

    /// The value of a block; the largest for a block that is not there.
    pub fn of(&self, block: usize) -> T {
        match &self.0 {
            Sizes::Same(value) => *value,
            Sizes::Each(values) => values.get(block).copied().unwrap_or_else(|| self.max()),
        }
    }

    /// The largest, for what all blocks share.
    pub fn max(&self) -> T {
        match &self.0 {
            Sizes::Same(value) => *value,
            Sizes::Each(values) => values.iter().copied().fold(values[0], T::max),
        }
    }

    /// The value, where all blocks have the same.
    pub fn same(&self) -> Option<T> {
        match self.0 {
            Sizes::Same(value) => Some(value),
            Sizes::Each(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_own_values() {
        let each = PerBlock::each(vec![4, 8, 2]).unwrap();
        assert_eq!([each.of(0), each.of(1), each.of(2), each.of(3), each.max()], [4, 8, 2, 8, 8]);
        assert_eq!(each.same(), None);
    }

    #[test]
    fn values_that_do_not_differ_are_one() {
        assert_eq!(PerBlock::each(vec![4, 4]), Some(PerBlock::uniform(4)));
        assert_eq!(PerBlock::uniform(4).same(), Some(4));
        assert_eq!(PerBlock::<usize>::each(Vec::new()), None);
    }
}
