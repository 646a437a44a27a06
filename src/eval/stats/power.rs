//! What a number of items can show, before anything is measured.

use super::verdict::{LEVEL, MOST_ITEMS, power_point, upper_point};

/// The smallest true difference in accuracy that McNemar's exact test finds with a chance of 80 % ([`super::POWER`]), when
/// `flip_share` of the items flip, either way, and the test is one of `comparisons` (level 0.05 by their number, Bonferroni's and
/// Holm's first step). `None` where it finds not even flips that all go one way, and without an item, a comparison, or a share
/// above 0 and up to 1.
///
/// It solves `n d = z_level sqrt(n f) + z_power sqrt(n (f - d^2)) + 1` (Miettinen 1968, "The matched pairs design in the case of
/// all-or-none responses", Biometrics 24; Connor 1987, "Sample size for testing differences in proportions for the paired-sample
/// design", Biometrics 43) for d. The 1 is the correction for continuity (Edwards 1948, "Note on the correction for continuity in
/// testing the significance of the difference between correlated proportions"): without it the exact test has a power of 76 to
/// 81 %, with it 80 to 86 %, and more where only a handful of flips is expected.
pub fn detectable(items: u64, flip_share: f64, comparisons: u64) -> Option<f64> {
    let shortfall = shortfall(flip_share, comparisons)?;
    let items = items as f64;
    if items == 0.0 || shortfall(items, flip_share) > 0.0 {
        return None;
    }
    // The shortfall falls as the difference grows.
    let (mut low, mut high) = (0.0, flip_share);
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return Some(high);
        }
        if shortfall(items, middle) > 0.0 { low = middle } else { high = middle }
    }
}

/// The number of items with which the test of [`detectable`] finds a true `difference`. `None` for a difference of 0 or above
/// `flip_share`, and where [`detectable`] has none for other reasons than the items.
pub fn items_for(difference: f64, flip_share: f64, comparisons: u64) -> Option<u64> {
    let difference = difference.abs();
    let shortfall = shortfall(flip_share, comparisons)?;
    if !(difference > 0.0 && difference <= flip_share) {
        return None;
    }
    // d n - s sqrt(n) - 1 = 0, s what the shortfall of one item is made of.
    let s = shortfall(1.0, difference) + difference - 1.0;
    let root = (s + (s * s + 4.0 * difference).sqrt()) / (2.0 * difference);
    let items = (root * root).ceil();
    (items <= MOST_ITEMS).then_some(items as u64)
}

/// By how many flips a difference falls short of being found, by items and difference.
fn shortfall(flip_share: f64, comparisons: u64) -> Option<impl Fn(f64, f64) -> f64> {
    if !(flip_share > 0.0 && flip_share <= 1.0) || comparisons == 0 {
        return None;
    }
    let (level, power) = (upper_point(LEVEL / comparisons as f64), power_point());
    Some(move |items: f64, difference: f64| {
        let spread = (flip_share - difference * difference).max(0.0);
        items.sqrt() * (level * flip_share.sqrt() + power * spread.sqrt()) + 1.0 - items * difference
    })
}

#[cfg(test)]
mod tests {
    use bitworth_quant::random::SplitMix64;

    use super::super::paired_accuracy;
    use super::super::test_help::near;
    use super::*;

    // scipy.optimize.brentq on the equation with scipy.stats.norm.
    #[test]
    fn the_smallest_difference_solves_the_equation() {
        near(detectable(100, 0.1, 1).unwrap(), 0.09730268038222699);
        near(detectable(250, 0.3, 1).unwrap(), 0.10055423639633254);
        near(detectable(1000, 0.02, 12).unwrap(), 0.017548588323874584);
        near(detectable(1000, 0.1, 1).unwrap(), 0.028980435223419868);
        near(detectable(14_042, 0.05, 8).unwrap(), 0.006818348123031345);
    }

    // The same, solved for the items and rounded up. The exact test's power there, summed over binomials (scipy.stats.binom):
    // 0.8007, 0.8196, 0.8023, 0.9269, 0.8007.
    #[test]
    fn the_number_of_items_solves_the_equation() {
        assert_eq!(items_for(0.01, 0.1, 1), Some(8046));
        assert_eq!(items_for(-0.02, 0.05, 12), Some(1814));
        assert_eq!(items_for(0.05, 0.3, 1), Some(980));
        assert_eq!(items_for(0.1, 0.1, 1), Some(96));
        assert_eq!(items_for(0.003, 0.04, 30), Some(71_262));
    }

    #[test]
    fn both_are_of_one_equation() {
        for (items, share, comparisons) in [(300, 0.2, 1), (1267, 0.07, 40), (50, 0.9, 3), (1_000_000, 0.5, 1)] {
            let difference = detectable(items, share, comparisons).unwrap();
            let again = items_for(difference, share, comparisons).unwrap();
            assert!(again.abs_diff(items) <= 1, "{items}: {again}");
        }
    }

    #[test]
    fn what_no_test_finds_has_no_number() {
        // Ten flips expected: too few at the level 0.05 / 20, whichever way they go.
        assert_eq!(detectable(100, 0.1, 20), None);
        assert!(detectable(0, 0.5, 1).is_none() && detectable(5, 1.0, 1).is_none() && detectable(9, 1.0, 1).is_some());
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            assert_eq!((detectable(100, share, 1), items_for(0.01, share, 1)), (None, None));
        }
        assert_eq!((detectable(100, 0.1, 0), items_for(0.01, 0.1, 0)), (None, None));
        for difference in [0.0, 0.11, f64::NAN, f64::INFINITY, 1e-300] {
            assert_eq!(items_for(difference, 0.1, 1), None);
        }
    }

    /// scipy.stats.binom gives the exact test a power of 0.80698 here; 4000 experiments have a standard error of 0.0062.
    #[test]
    fn four_of_five_experiments_find_that_difference() {
        let (items, share) = (1000, 0.1);
        let difference = detectable(items, share, 1).unwrap();
        let mut random = SplitMix64::new(11);
        let mut flip = || match random.unit() {
            u if u < (share + difference) / 2.0 => (false, true),
            u if u < share => (true, false),
            _ => (true, true),
        };
        let found = (0..4000)
            .filter(|_| {
                let pairs: Vec<(bool, bool)> = (0..items).map(|_| flip()).collect();
                paired_accuracy(&pairs).unwrap().p_value < LEVEL
            })
            .count();
        assert!((3150..=3310).contains(&found), "{found} of 4000");
    }
}
