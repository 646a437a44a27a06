//! A share of a job: windows and items are dealt out to several machines or days, and the records joined are those of the whole.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bitworth_quant::message::Message;
use serde::{Serialize, Serializer};

/// The k-th of n disjoint shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// From 1 on.
    number: usize,
    of: usize,
}

impl Slice {
    /// The whole.
    pub const WHOLE: Self = Self { number: 1, of: 1 };
    /// The most shares.
    pub const MOST: usize = 1 << 20;

    /// Share `number`, from 1 on, of `of`.
    ///
    /// # Errors
    /// No such share.
    pub fn new(number: usize, of: usize) -> Result<Self, Message> {
        match of {
            1..=Self::MOST if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => {
                Err(format!("there is no slice {number}/{of}: give K/N with K from 1 to N, and N at most {}", Self::MOST).into())
            }
        }
    }

    /// Whether it is all there is.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Its number, from 1 on, and how many there are.
    pub fn parts(self) -> (usize, usize) {
        (self.number, self.of)
    }

    /// Whether it is the first, which also does what cannot be divided.
    pub fn is_first(self) -> bool {
        self.number == 1
    }

    /// Which of `count` things are its own: neighbours, as many as the others have, or one more or less.
    pub fn range(self, count: usize) -> Range<usize> {
        let end = |number: usize| (count as u128 * number as u128 / self.of as u128) as usize;
        end(self.number - 1)..end(self.number)
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Serialize for Slice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Slice {
    type Err = Message;

    fn from_str(text: &str) -> Result<Self, Message> {
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.trim().parse().ok()?, n.trim().parse().ok()?)));
        let (number, of) = numbers.ok_or_else(|| Message::from(format!("{text:?} is no slice: give K/N, as 2/3")))?;
        Self::new(number, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_everything_once_and_in_order() {
        for of in [1, 2, 3, 5, 7, 64, 1000] {
            for count in (0..200).chain([usize::MAX]) {
                let ranges: Vec<Range<usize>> = (1..=of).map(|k| Slice::new(k, of).unwrap().range(count)).collect();
                assert_eq!((ranges[0].start, ranges[of - 1].end), (0, count));
                assert!(ranges.windows(2).all(|two| two[0].end == two[1].start), "{count} in {of}");
                let sizes = || ranges.iter().map(ExactSizeIterator::len);
                assert!(count == usize::MAX || sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{count} in {of}");
            }
        }
    }

    #[test]
    fn only_shares_that_there_are_can_be_asked_for() {
        assert_eq!("2/3".parse::<Slice>().unwrap(), Slice::new(2, 3).unwrap());
        for wrong in ["0/3", "4/3", "1/0", "1", "a/b", "", "-1/2", "1/9999999"] {
            assert!(wrong.parse::<Slice>().is_err(), "{wrong}");
        }
    }
}
