//! How much worse than before each measure may become without being a regression, as users write it: `decode=5%`.

use std::fmt;
use std::str::FromStr;

use bitworth_quant::message::Message;

use super::Measure;

/// Every measure under the name that users write.
pub const NAMES: &[(&str, Measure)] = &[
    ("size", Measure::Bytes),
    ("ppl", Measure::Perplexity),
    ("bits_per_byte", Measure::BitsPerByte),
    ("kld", Measure::Divergence),
    ("top1", Measure::Agreement),
    ("accuracy", Measure::Accuracy),
    ("prefill", Measure::Prefill),
    ("decode", Measure::Decode),
    ("memory", Measure::Memory),
    ("energy", Measure::Energy),
];

/// What is tolerated of one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Of which measure.
    pub measure: Measure,
    /// How much.
    pub bound: Bound,
}

/// How much worse something may become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// So many hundredths of the old value; for shares, which are percentages themselves, so many points.
    Percent(f64),
    /// The change itself: of a ratio the part above or below 1, else the difference.
    Plain(f64),
}

impl FromStr for Tolerance {
    type Err = Message;

    /// Reads `decode=5%` or `kld=0.001`.
    fn from_str(text: &str) -> Result<Self, Message> {
        let fail = |what: String| Message::from(format!("{text:?}: {what}"));
        let Some((name, bound)) = text.split_once('=') else {
            return Err(fail("write a measure and what is tolerated of it, as in decode=5%".into()));
        };
        let known = NAMES.iter().find(|(own, _)| *own == name.trim());
        let measure = known.map(|(_, measure)| *measure).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(own, _)| *own).collect();
            fail(format!("{:?} is no measure; there are {}", name.trim(), names.join(", ")))
        })?;
        let (number, percent) = match bound.trim().strip_suffix('%') {
            Some(number) => (number.trim(), true),
            None => (bound.trim(), false),
        };
        let value =
            number.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(|| {
                fail(format!("{:?} is no percentage and no number from 0 on, such as 5% or 0.05", bound.trim()))
            })?;
        if !percent && value >= 1.0 && measure != Measure::Divergence {
            return Err(fail(format!("{value} would tolerate everything; write {value}% for a percentage")));
        }
        Ok(Self { measure, bound: if percent { Bound::Percent(value) } else { Bound::Plain(value) } })
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, measure)| *measure == self.measure).map_or("?", |(name, _)| name);
        match self.bound {
            Bound::Percent(value) => write!(f, "{name} {value} %"),
            Bound::Plain(value) => write!(f, "{name} {value}"),
        }
    }
}

impl Tolerance {
    /// Whether a change of this size (a ratio or a difference, as the measure has it) from `old` is within what is tolerated. The
    /// last digits of 1.05 less 1 are not held against a bound of 5 %.
    pub(super) fn allows(&self, change: f64, old: f64) -> bool {
        let size = if self.measure.is_ratio() { (change - 1.0).abs() } else { change.abs() };
        let bound = match self.bound {
            Bound::Plain(bound) => bound,
            Bound::Percent(percent) if self.measure == Measure::Divergence => percent / 100.0 * old.abs(),
            Bound::Percent(percent) => percent / 100.0,
        };
        size <= bound * (1.0 + 1e-9)
    }
}

/// What is tolerated where nobody says otherwise. A start of the program has one figure of memory: the growth of what is
/// resident, in which chance has a part (stacks of threads, what the allocator keeps, mapped pages that were read), and no
/// repetition shows how large it is, as those of a speed do. So it is held to more than
/// [`RUN_TO_RUN`](super::RUN_TO_RUN): to the 5 % within which what the engine should take and what a counting allocator counts
/// agree (`tests/memory.rs`).
const DEFAULTS: &[Tolerance] = &[Tolerance { measure: Measure::Memory, bound: Bound::Percent(5.0) }];

/// What is tolerated of several measures; of one that is named twice, the later word counts. Unless they are named, 5 % more
/// memory is, and every size: who changes a recipe knows that sizes change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tolerances(Vec<Tolerance>);

impl Tolerances {
    /// These.
    pub fn new(all: impl IntoIterator<Item = Tolerance>) -> Self {
        Self(all.into_iter().collect())
    }

    pub(super) fn allow(&self, measure: Measure, change: f64, old: f64) -> bool {
        let named = self.0.iter().rev().find(|t| t.measure == measure);
        match named.or_else(|| DEFAULTS.iter().find(|t| t.measure == measure)) {
            Some(tolerance) => tolerance.allows(change, old),
            None => measure == Measure::Bytes,
        }
    }

    /// Each in words.
    pub(super) fn words(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// What is tolerated of measures that are not named, in words.
    pub(super) fn default_words(&self) -> Vec<String> {
        let is_named = |measure: Measure| self.0.iter().any(|t| t.measure == measure);
        DEFAULTS.iter().filter(|t| !is_named(t.measure)).map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, within: (f64, f64), beyond: (f64, f64)) {
        let tolerances = Tolerances::new([text.parse().unwrap()]);
        let measure = text.parse::<Tolerance>().unwrap().measure;
        assert!(tolerances.allow(measure, within.0, within.1) && !tolerances.allow(measure, beyond.0, beyond.1), "{text}");
    }

    #[test]
    fn bounds_are_of_ratios_shares_and_old_values() {
        check("decode=5%", (0.95, 80.0), (0.949, 80.0));
        check("memory = 0.05", (1.05, 1e9), (1.06, 1e9));
        check("kld=10%", (0.001, 0.01), (0.0011, 0.01));
        check("kld=0.5", (0.5, 0.01), (0.51, 0.01));
        check("top1=1%", (-0.01, 0.9), (-0.011, 0.9));
        check("size=0", (1.0, 5.0), (1.000001, 5.0));
    }

    #[test]
    fn without_a_word_sizes_may_grow_and_memory_by_little_and_nothing_else() {
        let none = Tolerances::default();
        assert!(none.allow(Measure::Bytes, 2.0, 1.0));
        assert!(NAMES.iter().skip(1).all(|(_, measure)| !none.allow(*measure, 0.5, 1.0)));
        assert!(none.allow(Measure::Memory, 1.05, 1e9) && !none.allow(Measure::Memory, 1.051, 1e9));
        assert!(!none.allow(Measure::Energy, 0.96, 1.0) && !none.allow(Measure::Decode, 0.96, 1.0));
        assert_eq!((none.words(), none.default_words()), (Vec::<String>::new(), vec!["memory 5 %".to_owned()]));
        let named = Tolerances::new(["memory=1%".parse().unwrap()]);
        assert!(!named.allow(Measure::Memory, 1.02, 1e9) && named.default_words().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text: &str| text.parse::<Tolerance>().unwrap_err().to_string();
        assert!(
            error("speed=5%").contains("\"speed\" is no measure; there are size, ppl, bits_per_byte"),
            "{}",
            error("speed=5%")
        );
        assert!(error("decode").contains("as in decode=5%"));
        assert!(error("decode=fast").contains("\"fast\" is no percentage"));
        assert!(error("decode=-1%").contains("no number from 0 on") && error("decode=NaN").contains("no number"));
        assert!(error("decode=5").contains("write 5%"));
    }
}
