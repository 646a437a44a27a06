//! Which lanes another one beats in everything, and in what.

use super::{Lanes, Standing};
use crate::number::{bytes, significant};
use crate::pareto::{beats, divergence_cost};
use crate::speeds::SpeedSummary;
use crate::summary::Summary;

impl Lanes<'_> {
    /// The lane that beats this one in everything, as far as the scored sequences show it: of several the nearest to the
    /// reference, then the smallest.
    pub(super) fn beaten_by(&self, a: usize) -> Option<usize> {
        let better = |b: &usize| {
            let timed = sure(&self.rows[a]).is_some() && sure(&self.rows[*b]).is_some();
            let costs = costs(&self.rows[*b], timed).zip(costs(&self.rows[a], timed));
            self.keys[a].same_run(self.keys[*b]) && costs.is_some_and(|(b, a)| beats(&b, &a)) && self.is_as_near(*b, a)
        };
        let rank = |b: &usize| (self.rows[*b].kld.map_or(f64::INFINITY, |k| k.mean.value), self.rows[*b].bytes);
        (0..self.rows.len()).filter(better).min_by(|x, y| rank(x).0.total_cmp(&rank(y).0).then(rank(x).1.cmp(&rank(y).1)))
    }

    /// Whether a lane is shown to be at least as near to the reference as another one: it is the reference, it is without loss,
    /// or their paired differences say so.
    fn is_as_near(&self, b: usize, a: usize) -> bool {
        self.rows[b].is_reference
            || Standing::of(&self.rows[b]) == Standing::Lossless
            || self.differences(b, a).is_some_and(|d| d.show_none() || d.show_the_first_nearer())
    }

    pub(super) fn dominated(&self) -> Vec<String> {
        let say = |a: usize| {
            let b = self.beaten_by(a)?;
            let apart = self.differences(b, a).is_none_or(|d| d.show_the_first_nearer());
            let better = better_in(&self.rows[b], &self.rows[a], apart);
            Some(format!("{} is dominated by {}: {better}.", self.labels[a], self.labels[b]))
        };
        (0..self.rows.len()).filter(|i| !self.rows[*i].is_reference).filter_map(say).collect()
    }
}

/// The decode speed, unless the machine drifted for so long that nothing may rest on it.
fn sure(row: &Summary) -> Option<SpeedSummary> {
    row.decode.filter(|speed| !speed.is_unsure())
}

/// What a lane costs: size, divergence and, where `timed`, the time of a token.
fn costs(row: &Summary, timed: bool) -> Option<Vec<f64>> {
    let mut costs = vec![row.bytes as f64, divergence_cost(row.kld?.mean.value)];
    if timed {
        costs.push(1.0 / sure(row)?.tps);
    }
    Some(costs)
}

/// In what `better` beats `worse`.
fn better_in(better: &Summary, worse: &Summary, apart: bool) -> String {
    let size = if better.bytes < worse.bytes { "smaller" } else { "no larger" };
    let mut parts = vec![format!("it is {size} ({} against {})", bytes(better.bytes), bytes(worse.bytes))];
    if let (Some(b), Some(w)) = (better.kld, worse.kld) {
        let (b, w) = (b.mean.value, w.mean.value);
        let nearer = match apart {
            _ if divergence_cost(b) == divergence_cost(w) => "as near to the reference",
            true => "nearer to the reference",
            false => "as near to the reference by perplexity, KLD and top-1 agreement",
        };
        parts.push(format!("{nearer} (KLD {} against {})", significant(b, 3), significant(w, 3)));
    }
    if let (Some(b), Some(w)) = (sure(better), sure(worse)) {
        let faster = if b.slowest > w.fastest { "faster" } else { "as fast, within the spread of the timings" };
        parts.push(format!("{faster} ({} against {} tokens/s)", significant(b.tps, 3), significant(w.tps, 3)));
    }
    match parts.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => parts.concat(),
    }
}
