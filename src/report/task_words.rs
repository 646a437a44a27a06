//! Words and numbers for what lanes lost in tasks, the same in tables and in sentences.

use bitworth_eval::stats::{Interval, Verdict};

use crate::tasks::{TaskComparison, TaskScore, verdict_name};

/// A verdict with what follows from it.
pub(crate) fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Undecided { items: Some(items) } => format!("undecided; {items} items would decide"),
        other => verdict_name(other).to_owned(),
    }
}

/// What a lane is that is not worse, with the margin in points, for nobody should take it for more.
pub(crate) fn not_worse(margin: f64) -> String {
    format!("not worse by more than the margin of {margin} points")
}

/// How many items would decide what is undecided now, of one comparison or of several.
pub(crate) fn would_decide(verdicts: impl IntoIterator<Item = Verdict>) -> String {
    let items = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::Undecided { items } => Some(items),
        _ => None,
    });
    let items: Vec<Option<u64>> = items.collect();
    let known = || items.iter().copied().flatten();
    match (known().min(), known().max()) {
        (Some(least), Some(most)) if items.contains(&None) || least == most => {
            let more = if items.contains(&None) { " or more" } else { "" };
            format!("{least} items{more} would decide")
        }
        (Some(least), Some(most)) => format!("{least} to {most} items would decide"),
        _ => "it is not known how many items would decide".to_owned(),
    }
}

/// Whether values are shares of right items, which people read in points of a hundred.
fn is_share(score: &TaskScore) -> bool {
    (0.0..=1.0).contains(&score.accuracy.value)
}

/// What values are multiplied by, and their digits.
pub(crate) fn unit(score: &TaskScore) -> (f64, usize) {
    if is_share(score) { (100.0, 1) } else { (1.0, 4) }
}

/// A number with its sign and `digits` decimals. What rounds to 0 has no sign.
pub(crate) fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:+.digits$}");
    let is_zero = text.bytes().all(|byte| !(b'1'..=b'9').contains(&byte));
    if is_zero { format!("{:.digits$}", 0.0) } else { text }
}

/// A difference from the reference: points where values are shares of right items, else in the metric's unit.
pub(crate) fn difference_number(score: &TaskScore, comparison: &TaskComparison) -> String {
    let (factor, digits) = unit(score);
    signed(factor * comparison.paired.difference.value, digits)
}

/// The same with its unit.
pub(crate) fn difference_words(score: &TaskScore, comparison: &TaskComparison) -> String {
    let points = if is_share(score) { " points" } else { "" };
    difference_number(score, comparison) + points
}

/// The two ends of an interval.
pub(crate) fn range(interval: Option<Interval>, show: impl Fn(f64) -> String) -> String {
    interval.map_or(String::new(), |i| format!("{} to {}", show(i.low), show(i.high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undecided_says_how_many_items_would_decide() {
        let words = |items: &[Option<u64>]| would_decide(items.iter().map(|&items| Verdict::Undecided { items }));
        assert_eq!(words(&[Some(26)]), "26 items would decide");
        assert_eq!(words(&[Some(26), Some(26)]), "26 items would decide");
        assert_eq!(words(&[Some(34884), Some(26), Some(52)]), "26 to 34884 items would decide");
        assert_eq!(words(&[Some(52), None, Some(26)]), "26 items or more would decide");
        assert_eq!(words(&[None]), "it is not known how many items would decide");
        // What is decided needs no more.
        assert_eq!(would_decide([Verdict::Worse, Verdict::Undecided { items: Some(5) }]), "5 items would decide");
    }

    #[test]
    fn margins_are_told_as_they_were_given() {
        assert_eq!(not_worse(0.5), "not worse by more than the margin of 0.5 points");
        assert_eq!(not_worse(2.0), "not worse by more than the margin of 2 points");
    }
}
