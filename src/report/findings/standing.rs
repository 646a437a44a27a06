//! How a lane stands to its reference, by perplexity, divergence and agreement together, and what a text could have shown.

use std::collections::BTreeSet;

use super::percent_change;
use crate::number::{percent, significant};
use crate::pareto::divergence_cost;
use crate::summary::Summary;

/// The largest loss of perplexity that may stay unseen where a lane is said to be as good as the reference: 1 %, which lies
/// between types that are taken for the original and those that are not (Llama 2 70B, by llama.cpp's README of its perplexity
/// tool: Q5_K_M 0.40 %, Q4_K_M 1.20 %). A text that cannot show it tells neither of them from the original.
pub const RESOLUTION: f64 = 0.01;
/// The largest mean divergence of such a lane, in nats per token: on text that the reference itself would write, perplexity grows
/// by the exp of the divergence, and exp(0.01) is the loss of [`RESOLUTION`].
pub const DIVERGENCE: f64 = 0.01;
/// The least agreement of the likeliest tokens of such a lane: who takes the likeliest token gets another one in one of twenty
/// places at most. Near ties flip with any rounding, so that all is too much to ask: the demo model, whose text has many of them,
/// changes 3.4 % of its likeliest tokens in Q8_0 and 8.8 % in Q6_K.
pub const AGREEMENT: f64 = 0.95;
/// Of fewer sequences than this, an interval rests on their few differences alone: it is told with a warning, and nothing is
/// called as good on the strength of it.
pub const FEW: u64 = 8;

/// How a lane stands to its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the reference.
    Reference,
    /// Its divergence is no more than rounding.
    Lossless,
    /// The paired interval of the ratio of perplexities holds 1, is narrow and rests on [`FEW`] sequences or more, and neither
    /// divergence nor agreement contradict.
    AsGood,
    /// The interval holds 1 but is too wide, or rests on too few sequences, to say more; divergence and agreement show no
    /// more than a small change.
    Unresolved,
    /// The interval holds 1, but divergence or agreement show a change that this perplexity does not.
    Changed,
    /// The interval lies above 1.
    Worse,
    /// The interval lies below 1.
    Lower,
    /// There is nothing to compare.
    Unknown,
}

impl Standing {
    /// How the lane of a row stands.
    pub fn of(row: &Summary) -> Self {
        let interval = row.ppl_ratio.and_then(|r| r.interval);
        match (row.kld, interval) {
            _ if row.is_reference => Self::Reference,
            (Some(kld), _) if divergence_cost(kld.mean.value) == 0.0 => Self::Lossless,
            (_, None) => Self::Unknown,
            (_, Some(i)) if i.low > 1.0 => Self::Worse,
            (_, Some(i)) if i.high < 1.0 => Self::Lower,
            _ if shows_a_change(row) => Self::Changed,
            // What was not compared token by token contradicts nothing, but shows nothing either.
            (Some(_), Some(_)) if row.sequences >= FEW && resolution(row).is_some_and(|half| half <= RESOLUTION) => Self::AsGood,
            _ => Self::Unresolved,
        }
    }

    /// Whether the lane was shown to be as good as the reference.
    pub fn is_as_good(self) -> bool {
        matches!(self, Self::Lossless | Self::AsGood)
    }
}

/// Whether divergence or agreement speak against a lane that is as good as the reference.
fn shows_a_change(row: &Summary) -> bool {
    row.kld.is_some_and(|kld| kld.mean.value > DIVERGENCE) || row.top1.is_some_and(|top1| top1.value < AGREEMENT)
}

/// Half of the width of the interval of the perplexities' ratio: losses below this cannot be seen.
pub fn resolution(row: &Summary) -> Option<f64> {
    row.ppl_ratio?.interval.map(|i| 0.5 * (i.high - i.low))
}

/// What the scored sequences could show of a lane: `losses under 2.4 % cannot be seen in 4 windows`.
pub(super) fn limits(row: &Summary) -> Option<String> {
    let least = significant(100.0 * resolution(row)?, 2);
    let windows = if row.sequences == 1 { "window" } else { "windows" };
    Some(format!("losses under {least} % cannot be seen in {} {windows}", row.sequences))
}

/// Divergence and agreement in words: `KLD 0.0300, the same likeliest token in 88.0 % of places`.
pub(super) fn predictions(row: &Summary) -> String {
    let kld = row.kld.map(|kld| format!("KLD {}", significant(kld.mean.value, 3)));
    let top1 = row.top1.map(|top1| format!("the same likeliest token in {} of places", percent(top1.value)));
    kld.into_iter().chain(top1).collect::<Vec<_>>().join(", ")
}

/// How a lane stands to the reference, as the beginning of a sentence; `None` where nothing was compared.
pub(super) fn words(row: &Summary) -> Option<String> {
    let ratio = row.ppl_ratio.map(percent_change).unwrap_or_default();
    let (limits, seen) = (limits(row).unwrap_or_default(), predictions(row));
    Some(match Standing::of(row) {
        Standing::Reference | Standing::Unknown => return None,
        Standing::Lossless => "predicts as the reference does, up to rounding".to_owned(),
        Standing::AsGood => format!("as good as the reference: perplexity {ratio}, {limits}; {seen}"),
        Standing::Unresolved if row.kld.is_none() => {
            format!("perplexity {ratio} tells no difference from the reference, but {limits}")
        }
        Standing::Unresolved => {
            format!("perplexity {ratio} tells no difference from the reference, but {limits}; {seen}, a small change at most")
        }
        Standing::Changed => {
            format!("changed, though perplexity ({ratio}) does not show it, as {limits}: {seen}")
        }
        Standing::Worse => format!("worse than the reference: perplexity {ratio}"),
        Standing::Lower => format!("changed, though not for the worse: perplexity {ratio}"),
    })
}

/// The warning of intervals that rest on few sequences, of all texts or of one; `None` where there are enough, or nothing was
/// scored.
pub fn few_windows<'a>(rows: impl IntoIterator<Item = &'a Summary> + Clone) -> Option<String> {
    let all = few_sequences(rows.clone().into_iter().map(|row| row.sequences));
    all.or_else(|| {
        let texts = rows.into_iter().flat_map(|row| &row.texts).filter(|text| (1..FEW).contains(&text.sequences));
        let names: BTreeSet<&str> = texts.map(|text| text.name.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| {
            format!(
                "Fewer than {FEW} windows were scored of {names}: intervals of such a text by itself rest on its few differences \
                 and are unsure themselves."
            )
        })
    })
}

/// The same of the numbers of scored sequences, one a lane.
pub(crate) fn few_sequences(counts: impl Iterator<Item = u64>) -> Option<String> {
    let least = counts.filter(|count| *count > 0).min().filter(|count| *count < FEW)?;
    let windows = if least == 1 { "window" } else { "windows" };
    Some(match least {
        1 => "Only 1 window was scored: there are no intervals, and nothing can be told apart.".to_owned(),
        _ => format!(
            "Only {least} {windows} were scored: intervals of fewer than {FEW} rest on their few differences and are unsure \
             themselves."
        ),
    })
}

/// The ratio of decode speeds in words, or why it is left out; `None` where one of them was not timed, or where their timings
/// overlap.
pub(super) fn speed_ratio(row: &Summary, reference: &Summary) -> Option<String> {
    let (own, other) = (row.decode?, reference.decode?);
    if own.is_unsure() || other.is_unsure() {
        return Some("its decode speed is not compared, as the machine drifted".to_owned());
    }
    let shape = row.timed.as_ref().and_then(|timed| timed.shape.as_ref());
    let of = shape.map(|shape| format!(" (in the shape of {shape})")).unwrap_or_default();
    let apart = own.slowest > other.fastest || own.fastest < other.slowest;
    apart.then(|| format!("{} times the decode speed{of}", significant(own.tps / other.tps, 3)))
}
