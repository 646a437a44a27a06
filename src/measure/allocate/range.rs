//! How far predictions may be off: what each unit loses varies between windows of the text, and what units lose together is not
//! the sum of what each loses alone.
//!
//! Of the first the standard errors of the table tell. All units were measured on the same windows, and where one loses much the
//! others do: the ends are added up as if all of them erred alike, which is the most that they can (the error of a sum is at
//! most the sum of errors, however they hang together). Of the second the rows of all units in one type tell, beside the sum of
//! the units' own: at small losses about 1, at large ones several times the sum. Absent from the range: that the choice itself
//! seeks out what was measured too low, and that another text loses otherwise; a measurement on a text of its own has both.

use bitworth_eval::sensitivity::Sensitivity;
use bitworth_eval::stats::{Interval, student_interval};
use bitworth_quant::allocate::{Cost, isotonic};

/// What a unit loses in a type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranged {
    /// The mean.
    pub value: f64,
    /// Its 95 % interval by windows; `None` with one window.
    pub range: Option<Interval>,
}

impl Ranged {
    /// `ratio` times the measured loss, at least zero, with its interval over so many windows; `None` if nothing was measured.
    pub fn of(row: &Sensitivity, ratio: f64, windows: u64) -> Option<Self> {
        let value = row.kld?;
        let at_least_zero = |loss: f64| (ratio * loss).max(0.0);
        let range = row.kld_error.and_then(|error| student_interval(value, error, windows));
        let range = range.map(|Interval { low, high }| Interval { low: at_least_zero(low), high: at_least_zero(high) });
        Some(Self { value: at_least_zero(value), range })
    }
}

/// By unit and type: bytes, and what `of` says that each loses, falling with bytes. `None` where it says nothing of one. Losses
/// that are larger everywhere stay so: means of neighbours keep the order of tables.
pub fn costs(sizes: &[Vec<u64>], losses: &[Vec<Ranged>], of: impl Fn(&Ranged) -> Option<f64>) -> Option<Vec<Vec<Cost>>> {
    let unit = |(sizes, losses): (&Vec<u64>, &Vec<Ranged>)| {
        let cost = |(&bytes, loss): (&u64, &Ranged)| Some(Cost { bytes, loss: of(loss)? });
        let mut own = sizes.iter().zip(losses).map(cost).collect::<Option<Vec<Cost>>>()?;
        isotonic(&mut own);
        Some(own)
    };
    sizes.iter().zip(losses).map(unit).collect()
}

/// What units lose together over the sum of what each loses alone, by that sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Logarithms of the sum and of the ratio, by the sum.
    known: Vec<(f64, f64)>,
}

impl Joined {
    /// Of sums, and what all units of each lost together. What lost nothing says nothing.
    pub fn new(measured: Vec<(f64, f64)>) -> Self {
        let measured = measured.into_iter().filter(|(sum, whole)| *sum > 0.0 && *whole > 0.0);
        let mut known: Vec<(f64, f64)> = measured.map(|(sum, whole)| (libm::log(sum), libm::log(whole / sum))).collect();
        known.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { known }
    }

    /// The ratio at a sum: between measured ones straight in logarithms, beyond them as at the last. `None` where none is known.
    pub fn ratio(&self, sum: f64) -> Option<f64> {
        let (first, last) = (self.known.first()?, self.known.last()?);
        let at = libm::log(sum.max(f64::MIN_POSITIVE)).clamp(first.0, last.0);
        let above = self.known.iter().position(|(known, _)| *known >= at)?;
        let (to, from) = (self.known[above], self.known[above.saturating_sub(1)]);
        let share = if to.0 > from.0 { (at - from.0) / (to.0 - from.0) } else { 1.0 };
        Some(libm::exp(from.1 + (to.1 - from.1) * share))
    }

    /// The range of a sum whose ends by windows are `ends`: from the less to the more of what is added up and what is lost
    /// together.
    pub fn range(&self, sum: f64, ends: Interval) -> Option<Interval> {
        let ratio = self.ratio(sum)?;
        Some(Interval { low: ends.low * ratio.min(1.0), high: ends.high * ratio.max(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kld: f64, kld_error: Option<f64>) -> Sensitivity {
        let (unit, to) = ("attn_v".to_owned(), "q3_k".to_owned());
        Sensitivity { unit, block: Some(0), to, bytes: 1, err: 0.1, kld: Some(kld), kld_error, shared: false }
    }

    #[test]
    fn the_range_of_a_loss_is_students_over_windows() {
        // Expected: scipy.stats.t.ppf(0.975, 3) is 3.1824463052837078.
        let half = 0.01 * 3.182_446_305_283_707_8;
        let Ranged { value, range } = Ranged::of(&row(0.1, Some(0.01)), 2.0, 4).unwrap();
        let range = range.unwrap();
        assert!((value - 0.2).abs() < 1e-15);
        assert!((range.low - 2.0 * (0.1 - half)).abs() < 1e-9 && (range.high - 2.0 * (0.1 + half)).abs() < 1e-9, "{range:?}");
        // Noise around zero: the lower end is zero, the upper one is not.
        let noise = Ranged::of(&row(-0.001, Some(0.01)), 1.0, 4).unwrap();
        assert_eq!((noise.value, noise.range.unwrap().low), (0.0, 0.0));
        assert!(noise.range.unwrap().high > 0.03);
        assert_eq!(Ranged::of(&row(0.1, None), 1.0, 1).unwrap().range, None);
    }

    #[test]
    fn what_units_lose_together_is_read_between_what_was_measured() {
        let joined = Joined::new(vec![(1.0, 4.0), (0.01, 0.01), (0.0, 0.0)]);
        let near = |sum, expected: f64| {
            let ratio = joined.ratio(sum).unwrap();
            assert!((ratio / expected - 1.0).abs() < 1e-12, "{sum}: {ratio}");
        };
        // Half of the way in logarithms is the root of the ratio.
        for (sum, expected) in [(0.1, 2.0), (1.0, 4.0), (7.0, 4.0), (0.01, 1.0), (0.0, 1.0)] {
            near(sum, expected);
        }
        let ends = Interval { low: 0.08, high: 0.12 };
        let range = joined.range(0.1, ends).unwrap();
        assert!((range.high / 0.24 - 1.0).abs() < 1e-12 && range.low.to_bits() == 0.08f64.to_bits(), "{range:?}");
        // Units that make up for each other widen it downward.
        let range = Joined::new(vec![(0.1, 0.05)]).range(0.1, ends).unwrap();
        assert!((range.low / 0.04 - 1.0).abs() < 1e-12 && (range.high / 0.12 - 1.0).abs() < 1e-12, "{range:?}");
        assert_eq!(Joined::new(Vec::new()).range(0.1, ends), None);
    }
}
