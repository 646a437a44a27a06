//! What a comparison allows to say of a lane: worse, not worse by more than a margin, or neither yet.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Paired, normal};

/// The level of tests: a difference counts whose adjusted two-sided p is below it.
pub const LEVEL: f64 = 0.05;

/// The chance of finding a difference that is there, wherever numbers of items are named.
pub const POWER: f64 = 0.8;

/// More items than this are no plan.
pub(super) const MOST_ITEMS: f64 = 1e12;

/// How a lane stands to its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It lost more than chance explains, and perhaps more than the margin.
    Worse,
    /// It lost less than the margin, if anything.
    NotWorse,
    /// The items do not say.
    Undecided {
        /// About how many items of the same kind would say it; `None` where that cannot be told.
        items: Option<u64>,
    },
}

/// Judges a comparison. `adjusted_p` is its two-sided p among all comparisons made ([`super::holm`]); `margin` is the loss that
/// does not matter, in the values' unit (0.01 for a point of accuracy).
///
/// - [`Verdict::NotWorse`]: the lower end of the 95 % interval lies above `-margin`. This is a test of non-inferiority at the
///   one-sided level of 2.5 %, which ICH E9 (1998, Statistical Principles for Clinical Trials, 5.5) asks for. Tests of
///   equivalence take 90 % intervals, thus 5 %; the stricter level keeps one interval for all that is shown. It is per
///   comparison: the correction for many comparisons guards [`Verdict::Worse`] alone.
/// - [`Verdict::Worse`]: not that, the lane lost, and `adjusted_p` is below [`LEVEL`].
/// - A loss that is significant and wholly within the margin is `NotWorse`: whoever names a margin says that such a loss does not
///   matter (Piaggio and others 2012, "Reporting of noninferiority and equivalence randomized trials", figure 1). Difference and
///   p stand beside it.
/// - [`Verdict::Undecided`] otherwise, with the number of items that give one of the two with the chance [`POWER`] if the lane's
///   true difference is the one seen: `(z_level + z_power)^2 s^2 / d^2`, s^2 the variance of an item that the interval is made
///   of, d the difference to 0 or to `-margin`, whichever needs fewer. For `Worse` the level is [`LEVEL`] by what the correction
///   made of p; where that is 1, the correction may be larger and the number is the least.
///
/// A margin of 0 or below leaves `NotWorse` to lanes that are better. Nothing that is not a number decides anything.
pub fn verdict(paired: &Paired, adjusted_p: f64, margin: f64) -> Verdict {
    if paired.difference.low().is_some_and(|low| low > -margin) {
        Verdict::NotWorse
    } else if adjusted_p < LEVEL && paired.difference.value < 0.0 {
        Verdict::Worse
    } else {
        Verdict::Undecided { items: enough(paired, adjusted_p, margin) }
    }
}

/// The number of items that decide, as [`verdict`] says.
fn enough(paired: &Paired, adjusted_p: f64, margin: f64) -> Option<u64> {
    let error = paired.interval_error()?;
    let difference = paired.difference.value;
    let correction = (adjusted_p / paired.p_value).max(1.0);
    let needed = |distance: f64, level: f64| {
        let factor = (level + power_point()) * error / distance;
        (distance > 0.0).then_some(paired.items as f64 * factor * factor)
    };
    let worse = needed(-difference, upper_point(LEVEL / correction));
    let not_worse = needed(difference + margin, normal());
    let items = [worse, not_worse].into_iter().flatten().min_by(f64::total_cmp)?.ceil();
    // Ends that just miss give fewer items than there are, as the tests are not exactly normal.
    (items <= MOST_ITEMS).then(|| (items as u64).max(paired.items + 1))
}

/// The normal point above which half of `level` lies.
pub(super) fn upper_point(level: f64) -> f64 {
    -Normal::standard().inverse_cdf((level / 2.0).clamp(0.0, 0.5))
}

/// The normal point below which [`POWER`] lies.
pub(super) fn power_point() -> f64 {
    Normal::standard().inverse_cdf(POWER)
}

#[cfg(test)]
mod tests {
    use super::super::{PairedItem, PairedTest, paired};
    use super::*;

    fn flips(items: usize, only_reference: usize, only_lane: usize) -> Paired {
        let one = |reference, lane| PairedItem { reference, lane, cluster: None };
        let mut all = vec![one(1.0, 1.0); items - only_reference - only_lane];
        all.extend(vec![one(1.0, 0.0); only_reference]);
        all.extend(vec![one(0.0, 1.0); only_lane]);
        paired(&all).unwrap()
    }

    fn undecided(items: u64) -> Verdict {
        Verdict::Undecided { items: Some(items) }
    }

    #[test]
    fn a_significant_loss_is_worse() {
        let pair = flips(120, 14, 4);
        assert_eq!(verdict(&pair, pair.p_value, 0.01), Verdict::Worse);
        assert_eq!(verdict(&pair, 0.05, 0.01), undecided(190));
        // A gain is not.
        let pair = flips(120, 4, 14);
        assert_eq!(verdict(&pair, pair.p_value, 0.01), Verdict::NotWorse);
        assert_eq!(verdict(&pair, pair.p_value, -0.05), undecided(1036));
    }

    #[test]
    fn a_loss_wholly_within_the_margin_is_not_worse_however_significant() {
        let pair = flips(100_000, 600, 480);
        assert!(pair.p_value < 0.001);
        assert_eq!(verdict(&pair, pair.p_value, 0.005), Verdict::NotWorse);
        // The interval begins at -0.001844.
        assert_eq!(verdict(&pair, pair.p_value, 0.00185), Verdict::NotWorse);
        assert_eq!(verdict(&pair, pair.p_value, 0.00184), Verdict::Worse);
    }

    // The formula in NumPy with scipy.stats.norm, rounded up.
    #[test]
    fn an_undecided_comparison_says_how_many_items_would_decide() {
        // Three comparisons: 221 items for a loss at the level 0.05 / 3.
        let pair = flips(120, 14, 4);
        assert_eq!(verdict(&pair, 3.0 * pair.p_value, 0.01), undecided(221));
        assert_eq!(verdict(&flips(60, 3, 3), 1.0, 0.02), undecided(2144));
        assert_eq!(verdict(&flips(100, 0, 0), 1.0, 0.01), undecided(755));
        // 7591 for a loss, 2733 for none beyond the margin.
        let pair = flips(400, 12, 9);
        assert_eq!(verdict(&pair, pair.p_value, 0.02), undecided(2733));
        assert_eq!(verdict(&pair, pair.p_value, 0.0), undecided(7591));
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        let nothing = Verdict::Undecided { items: None };
        // No loss and no margin: no number of items shows either.
        assert_eq!(verdict(&flips(60, 3, 3), 1.0, 0.0), nothing);
        assert_eq!(verdict(&flips(60, 3, 3), 1.0, f64::NAN), nothing);
        assert_eq!(verdict(&flips(60, 3, 3), 1.0, 1e-9), nothing);
        // A p-value that is none.
        assert_eq!(verdict(&flips(120, 14, 4), f64::NAN, 0.0), undecided(166));
        // One cluster, and a value that is not finite.
        let one = |lane| PairedItem { reference: 1.0, lane, cluster: Some(1) };
        let cluster = paired(&[one(0.0), one(0.0)]).unwrap();
        assert_eq!(verdict(&cluster, cluster.p_value, 0.5), nothing);
        let infinite = paired(&[one(f64::NEG_INFINITY), PairedItem { cluster: None, ..one(1.0) }]).unwrap();
        assert_eq!(infinite.test, PairedTest::PairedT);
        assert_eq!(verdict(&infinite, infinite.p_value, 0.5), nothing);
    }

    #[test]
    fn a_verdict_has_its_name() {
        let json = |v: Verdict| serde_json::to_string(&v).unwrap();
        assert_eq!(json(Verdict::NotWorse), r#"{"verdict":"not_worse"}"#);
        assert_eq!(json(undecided(5)), r#"{"verdict":"undecided","items":5}"#);
    }
}
