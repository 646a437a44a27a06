//! What the numbers allow to say, in sentences: how each lane stands to the reference and to the next larger lane, which lanes
//! another one beats in everything, which cannot be told apart, where the tasks show a difference, and what follows from it.
//! Decided on paired differences, as every lane saw the same tokens and items.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::export::{task, task_names};
use crate::gather::{Gathered, Key, LaneRecords};
use crate::number::{bytes, percent, significant};
use crate::pareto::{beats, divergence_cost};
use crate::sheet::labels;
use crate::summary::Summary;
use bitworth_eval::stats::{self, Cluster, Estimate, PairedAccuracy};

/// The sentences, by subject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    /// The answer: which lane is the smallest that is as good as the reference. One sentence a run.
    pub answers: Vec<String>,
    /// How each lane stands; by row, empty where nothing was compared.
    pub verdicts: Vec<String>,
    /// What each lane is good for; by row.
    pub uses: Vec<String>,
    /// Lanes that another lane beats in size, divergence and (where timed) speed.
    pub dominated: Vec<String>,
    /// Lanes whose divergences cannot be told apart.
    pub ties: Vec<String>,
    /// Which tasks lose first as lanes get smaller, and which do not lose. One sentence a run.
    pub skills: Vec<String>,
    /// Where tasks show a difference from the reference, and where not.
    pub tasks: Vec<String>,
}

/// How a lane stands to its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the reference.
    Reference,
    /// Its divergence is no more than rounding.
    Lossless,
    /// The interval of the paired ratio of perplexities holds 1.
    Tied,
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
            (_, Some(i)) if i.contains(1.0) => Self::Tied,
            (_, Some(i)) if i.low > 1.0 => Self::Worse,
            (_, Some(_)) => Self::Lower,
        }
    }

    /// Whether no difference from the reference can be seen in perplexity.
    fn is_as_good(self) -> bool {
        matches!(self, Self::Lossless | Self::Tied)
    }
}

/// Draws the conclusions; `rows` are the summaries of the lanes in `gathered`.
pub fn findings(gathered: &Gathered, rows: &[Summary]) -> Findings {
    let lanes = Lanes {
        keys: gathered.lanes.iter().map(|l| &l.key).collect(),
        sums: gathered.lanes.iter().map(divergence_sums).collect(),
        rows,
        labels: labels(rows),
    };
    Findings {
        answers: lanes.answers(),
        verdicts: (0..rows.len()).map(|i| lanes.verdict(i)).collect(),
        uses: (0..rows.len()).map(|i| lanes.good_for(i)).collect(),
        dominated: lanes.dominated(),
        ties: lanes.ties(),
        skills: lanes.skills(),
        tasks: tasks(rows, &lanes.labels),
    }
}

/// Tokens and the sum of the divergences of every sequence, by its number.
pub type DivergenceSums = BTreeMap<u32, Cluster>;

/// The sums of a lane's divergences; `None` where it was compared with no reference.
pub fn divergence_sums(lane: &LaneRecords) -> Option<DivergenceSums> {
    let sum = |(number, s): (&u32, &bitworth_eval::record::Sequence)| {
        let sum = s.against.as_ref()?.kld.iter().sum();
        Some((*number, Cluster { sum, count: u64::from(s.tokens) }))
    };
    lane.scored().iter().map(sum).collect::<Option<DivergenceSums>>().filter(|sums| !sums.is_empty())
}

/// Mean difference (first less second) per token, on the sequences that both have with as many tokens.
pub fn mean_difference(first: &DivergenceSums, second: &DivergenceSums) -> Option<Estimate> {
    let difference = |(number, own): (&u32, &Cluster)| {
        let other = second.get(number).filter(|o| o.count == own.count)?;
        Some(Cluster { sum: own.sum - other.sum, count: own.count })
    };
    stats::mean(&first.iter().filter_map(difference).collect::<Vec<_>>())
}

/// The lanes of a report, ready to be compared.
struct Lanes<'a> {
    keys: Vec<&'a Key>,
    sums: Vec<Option<DivergenceSums>>,
    rows: &'a [Summary],
    labels: Vec<String>,
}

impl Lanes<'_> {
    /// Mean difference of two lanes' divergences; `None` where they were not measured against the same reference.
    fn difference(&self, first: usize, second: usize) -> Option<Estimate> {
        let same = self.keys[first].same_run(self.keys[second]);
        mean_difference(self.sums[first].as_ref().filter(|_| same)?, self.sums[second].as_ref()?)
    }

    /// Whether the paired interval of the lanes' difference holds 0.
    fn cannot_be_told_apart(&self, first: usize, second: usize) -> bool {
        self.difference(first, second).and_then(|d| d.interval).is_some_and(|i| i.contains(0.0))
    }

    fn ties(&self) -> Vec<String> {
        let tied = |i: usize| -> Vec<&str> {
            (i + 1..self.rows.len()).filter(|j| self.cannot_be_told_apart(i, *j)).map(|j| self.labels[j].as_str()).collect()
        };
        let say = |i: usize| match tied(i)[..] {
            [] => None,
            [one] => Some(format!("{} and {one}", self.labels[i])),
            ref many => Some(format!("{} and each of {}", self.labels[i], many.join(", "))),
        };
        (0..self.rows.len()).filter_map(say).collect()
    }

    /// The row of the reference that a lane was measured against.
    fn reference_of(&self, i: usize) -> Option<usize> {
        (0..self.rows.len()).find(|j| self.rows[*j].is_reference && self.keys[*j].same_run(self.keys[i]))
    }

    /// The lane of the same run that is the next larger one, other than the reference: rows go from large to small.
    fn next_larger(&self, i: usize) -> Option<usize> {
        i.checked_sub(1).filter(|j| !self.rows[*j].is_reference && self.keys[*j].same_run(self.keys[i]))
    }

    fn answers(&self) -> Vec<String> {
        let say = |reference: usize| {
            let run: Vec<usize> = (0..self.rows.len()).filter(|i| self.keys[*i].same_run(self.keys[reference])).collect();
            let compared = || {
                run.iter().copied().filter(|i| !matches!(Standing::of(&self.rows[*i]), Standing::Reference | Standing::Unknown))
            };
            let smaller = |i: &usize| self.rows[*i].bytes < self.rows[reference].bytes;
            let as_good = compared().filter(smaller).filter(|i| Standing::of(&self.rows[*i]).is_as_good());
            let name = &self.labels[reference];
            if let Some(i) = as_good.min_by_key(|i| self.rows[*i].bytes) {
                return Some(format!(
                    "{} is the smallest that cannot be told apart from {name} by perplexity: {}.",
                    self.labels[i],
                    self.numbers(i, reference)
                ));
            }
            let nearest = compared().filter(smaller).min_by(|a, b| {
                let kld = |i: &usize| self.rows[*i].kld.map_or(f64::INFINITY, |k| k.mean.value);
                kld(a).total_cmp(&kld(b))
            })?;
            Some(format!(
                "Every smaller lane can be told apart from {name} by perplexity; {} is the nearest: {}.",
                self.labels[nearest],
                self.numbers(nearest, reference)
            ))
        };
        (0..self.rows.len()).filter(|i| self.rows[*i].is_reference).filter_map(say).collect()
    }

    /// Size, perplexity and agreement of a lane beside its reference.
    fn numbers(&self, i: usize, reference: usize) -> String {
        let row = &self.rows[i];
        let share = row.bytes as f64 / self.rows[reference].bytes.max(1) as f64;
        let mut parts = vec![format!("{}, {} of the size", bytes(row.bytes), percent(share))];
        if let Some(ratio) = row.ppl_ratio {
            parts.push(format!("perplexity {}", change(ratio)));
        }
        if let Some(top1) = row.top1 {
            parts.push(format!("the same likeliest token in {} of places", percent(top1.value)));
        }
        if let (Some(own), Some(other)) = (row.decode, self.rows[reference].decode) {
            parts.push(format!("{} times the decode speed", significant(own.tps / other.tps, 3)));
        }
        parts.join("; ")
    }

    /// How a lane stands to the reference and to the next larger lane.
    fn verdict(&self, i: usize) -> String {
        let row = &self.rows[i];
        let ratio = row.ppl_ratio.map(change).unwrap_or_default();
        let mut parts = vec![match Standing::of(row) {
            Standing::Reference | Standing::Unknown => return String::new(),
            Standing::Lossless => "predicts as the reference does, up to rounding".to_owned(),
            Standing::Tied => format!("cannot be told apart from the reference by perplexity ({ratio})"),
            Standing::Worse => format!("worse than the reference: perplexity {ratio}"),
            Standing::Lower => format!("changed, though not for the worse: perplexity {ratio}"),
        }];
        if let Some((larger, difference)) = self.next_larger(i).and_then(|j| Some((j, self.difference(i, j)?))) {
            let (label, show) = (&self.labels[larger], |v: f64| significant(v.abs(), 3));
            let range = |low: f64, high: f64| format!("{} – {}", show(low), show(high));
            parts.extend(difference.interval.map(|interval| match interval {
                i if i.contains(0.0) => format!("its divergence cannot be told apart from that of {label}, the next larger"),
                i if i.low > 0.0 => {
                    format!(
                        "worse than {label}, the next larger, by a KLD of {} ({})",
                        show(difference.value),
                        range(i.low, i.high)
                    )
                }
                i => format!(
                    "nearer to the reference than {label}, the next larger, by a KLD of {} ({})",
                    show(difference.value),
                    range(i.high, i.low)
                ),
            }));
        }
        parts.join("; ") + "."
    }

    /// What a lane is good for, in one sentence that the paired intervals carry.
    fn good_for(&self, i: usize) -> String {
        let row = &self.rows[i];
        let standing = Standing::of(row);
        // A copy without loss is not told to be exchanged for the original that is to be replaced.
        let better =
            self.beaten_by(i).filter(|b| !(row.is_reference || standing == Standing::Lossless && self.rows[*b].is_reference));
        if let Some(better) = better {
            return format!("Better take {}.", self.labels[better]);
        }
        let smaller_as_good = || {
            (0..self.rows.len()).any(|j| {
                self.rows[j].bytes < row.bytes && self.keys[j].same_run(self.keys[i]) && Standing::of(&self.rows[j]).is_as_good()
            })
        };
        match standing {
            Standing::Reference => "What the others are measured against.".to_owned(),
            Standing::Unknown => String::new(),
            Standing::Lossless | Standing::Tied if self.reference_of(i).is_none() => String::new(),
            Standing::Lossless => "Predicts as the original, up to rounding.".to_owned(),
            Standing::Tied if !smaller_as_good() => {
                "The smallest that cannot be told apart from the original by perplexity: the one to begin with.".to_owned()
            }
            Standing::Tied => "Cannot be told apart from the original by perplexity.".to_owned(),
            Standing::Worse | Standing::Lower => {
                let tied = self.next_larger(i).filter(|j| self.cannot_be_told_apart(i, *j));
                match (tied, row.ppl_ratio) {
                    (Some(larger), _) => format!("As near to the original as {}, and smaller.", self.labels[larger]),
                    (None, Some(ratio)) => format!("Perplexity {}: where nothing larger fits.", change(ratio)),
                    (None, None) => String::new(),
                }
            }
        }
    }

    /// The lane that beats this one in everything: of several the nearest to the reference, then the smallest.
    fn beaten_by(&self, a: usize) -> Option<usize> {
        let better = |b: &usize| {
            let timed = self.rows[a].decode.is_some() && self.rows[*b].decode.is_some();
            let costs = costs(&self.rows[*b], timed).zip(costs(&self.rows[a], timed));
            self.keys[a].same_run(self.keys[*b]) && costs.is_some_and(|(b, a)| beats(&b, &a))
        };
        let rank = |b: &usize| (self.rows[*b].kld.map_or(f64::INFINITY, |k| k.mean.value), self.rows[*b].bytes);
        (0..self.rows.len()).filter(better).min_by(|x, y| rank(x).0.total_cmp(&rank(y).0).then(rank(x).1.cmp(&rank(y).1)))
    }

    /// The order in which tasks lose: each from the largest lane below which every lane does worse than the reference.
    fn skills(&self) -> Vec<String> {
        let say = |reference: usize| {
            let lanes: Vec<usize> = (0..self.rows.len())
                .filter(|i| *i != reference && self.keys[*i].same_run(self.keys[reference]))
                .filter(|i| self.rows[*i].bytes < self.rows[reference].bytes)
                .collect();
            let smallest = *lanes.last()?;
            let (mut losing, mut holding) = (Vec::new(), Vec::new());
            for name in task_names(self.rows) {
                let pair = |i: &usize| task(&self.rows[*i], &name)?.against_reference;
                if lanes.iter().all(|i| pair(i).is_none()) {
                    continue;
                }
                let worse = |i: &&usize| pair(i).is_some_and(|p| is_apart(&p) && p.difference.value < 0.0);
                match lanes.iter().rev().take_while(worse).last() {
                    None => holding.push(name),
                    Some(&first) => {
                        let points = |i: usize| pair(&i).map_or(0.0, |p| 100.0 * p.difference.value);
                        let (there, last) = (points(first), points(smallest));
                        losing.push((first, name, there, last));
                    }
                }
            }
            losing.sort_by(|a, b| a.0.cmp(&b.0).then(a.3.total_cmp(&b.3)));
            let mut parts: Vec<String> = Vec::new();
            for (first, name, there, last) in losing {
                let further =
                    if first == smallest { String::new() } else { format!(", {last:+.1} with {}", self.labels[smallest]) };
                let verb = if parts.is_empty() { " pays first," } else { "" };
                parts.push(format!("{name}{verb} from {} down ({there:+.1} points{further})", self.labels[first]));
            }
            if !holding.is_empty() {
                parts.push(format!("no loss can be told in {}", holding.join(", ")));
            }
            (!parts.is_empty()).then(|| format!("Of the tasks {}.", parts.join("; ")))
        };
        (0..self.rows.len()).filter(|i| self.rows[*i].is_reference).filter_map(say).collect()
    }

    fn dominated(&self) -> Vec<String> {
        let say = |a: usize| {
            let b = self.beaten_by(a)?;
            let apart = !self.cannot_be_told_apart(b, a);
            let better = better_in(&self.rows[b], &self.rows[a], apart);
            Some(format!("{} is dominated by {}: {better}.", self.labels[a], self.labels[b]))
        };
        (0..self.rows.len()).filter(|i| !self.rows[*i].is_reference).filter_map(say).collect()
    }
}

/// A ratio as a change in percent with its interval: `+0.11 % (+0.06 % to +0.17 %)`.
pub fn change(ratio: Estimate) -> String {
    let percents = ratio.map(|v| 100.0 * (v - 1.0));
    let parts = [Some(percents.value), percents.low(), percents.high()];
    let decimals = if parts.iter().flatten().any(|v| v.abs() < 0.1) { 3 } else { 2 };
    let show = |v: f64| format!("{v:+.decimals$} %");
    let range = percents.interval.map_or(String::new(), |i| format!(" ({} to {})", show(i.low), show(i.high)));
    show(percents.value) + &range
}

/// What a lane costs: size, divergence and, where `timed`, the time of a token.
fn costs(row: &Summary, timed: bool) -> Option<Vec<f64>> {
    let mut costs = vec![row.bytes as f64, divergence_cost(row.kld?.mean.value)];
    if timed {
        costs.push(1.0 / row.decode?.tps);
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
            false => "as near to the reference as can be told",
        };
        parts.push(format!("{nearer} (KLD {} against {})", significant(b, 3), significant(w, 3)));
    }
    if let (Some(b), Some(w)) = (better.decode, worse.decode) {
        let faster = if b.slowest > w.fastest { "faster" } else { "as fast, within the spread of the timings" };
        parts.push(format!("{faster} ({} against {} tokens/s)", significant(b.tps, 3), significant(w.tps, 3)));
    }
    match parts.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => parts.concat(),
    }
}

/// Whether two lanes can be told apart in a task, at the level of the report's intervals.
pub(super) fn is_apart(pair: &PairedAccuracy) -> bool {
    pair.p_value < 0.05
}

fn tasks(rows: &[Summary], labels: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    for name in task_names(rows) {
        let pairs = || rows.iter().zip(labels).filter_map(|(row, label)| Some((label, task(row, &name)?.against_reference?)));
        let differ: Vec<String> = pairs()
            .filter(|(_, pair)| is_apart(pair))
            .map(|(label, pair)| {
                let points = 100.0 * pair.difference.value;
                format!("{label} {points:+.1} points (p = {})", significant(pair.p_value, 2))
            })
            .collect();
        let Some(items) = pairs().map(|(_, pair)| pair.items).max() else {
            continue;
        };
        sentences.push(match differ.is_empty() {
            true => format!("{name} ({items} items): no lane can be told from the reference."),
            false => format!("{name} ({items} items), against the reference: {}.", differ.join(", ")),
        });
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Report;
    use crate::gather::gather;
    use bitworth_eval::record::{Body, Record};
    use bitworth_eval::sample;

    fn findings_of(records: &[Record]) -> Findings {
        Report::new(records).unwrap().findings
    }

    #[test]
    fn a_smaller_nearer_and_faster_lane_dominates() {
        let mut records = sample::records();
        for record in &mut records {
            // Give iq4_xs, which is smaller and nearer than q4_0, more speed as well.
            if let (Body::Speed(speed), "iq4_xs") = (&mut record.body, record.origin.lane.as_str()) {
                speed.seconds /= 2.0;
            }
        }
        let dominated = findings_of(&records).dominated;
        let q4_0 = dominated.iter().find(|s| s.starts_with("q4_0 ")).unwrap();
        assert!(q4_0.contains("dominated by iq4_xs: it is smaller (1.19 MB against 1.25 MB), nearer"), "{q4_0}");
        assert!(q4_0.contains("and faster (2480 against"), "{q4_0}");
        assert!(!findings_of(&sample::records()).dominated.iter().any(|s| s.starts_with("q4_0 ")), "it is faster there");
        assert!(dominated.iter().all(|s| !s.starts_with("bf16")), "the reference is not dominated");
    }

    #[test]
    fn tasks_are_told_in_the_order_in_which_they_lose() {
        let mut records = sample::records();
        for record in &mut records {
            let lane = record.origin.lane.clone();
            if let Body::Item(item) = &mut record.body {
                let spoiled = match item.task.as_str() {
                    "grammar" => ["q2_k", "iq2_xxs"].contains(&lane.as_str()) && item.item % 5 == 0,
                    // One that recovers farther down loses only from there on where nothing does.
                    "arithmetic" => {
                        ["q6_k", "iq4_xs", "q3_k_m", "q2_k", "iq2_xxs"].contains(&lane.as_str()) && item.item % 3 == 0
                    }
                    _ => lane == "iq2_xxs" && item.task == "facts" && item.item % 2 == 0,
                };
                item.correct &= !spoiled;
            }
        }
        let skills = findings_of(&records).skills;
        let [told] = &skills[..] else { panic!("{skills:?}") };
        // The sample's facts lose from q2_k down by themselves.
        let order = [
            "Of the tasks arithmetic pays first, from iq4_xs down (-",
            "; facts from q2_k down (-",
            "; grammar from q2_k down (-",
        ];
        let places: Vec<usize> =
            order.iter().map(|part| told.find(part).unwrap_or_else(|| panic!("{told} lacks {part}"))).collect();
        assert!(places.is_sorted(), "{told}");
        assert!(told.ends_with("; no loss can be told in sums."), "{told}");
    }

    #[test]
    fn a_lossless_copy_that_is_larger_than_the_reference_has_a_better_choice() {
        let mut records = sample::records();
        records.retain(|r| ["bf16", "q8_0"].contains(&r.origin.lane.as_str()) && !matches!(r.body, Body::Speed(_)));
        for record in records.iter_mut().filter(|r| r.origin.lane == "q8_0") {
            match &mut record.body {
                Body::Lane(lane) => lane.bytes = 4_100_320,
                Body::Sequence(sequence) => sequence.against.as_mut().unwrap().kld.fill(-5e-10),
                _ => {}
            }
        }
        let dominated = findings_of(&records).dominated;
        assert_eq!(
            dominated,
            ["q8_0 is dominated by bf16: it is smaller (4.07 MB against 4.10 MB) and as near to the reference (KLD 0 against \
                 -5.00e-10)."]
        );
    }

    #[test]
    fn without_timings_size_and_divergence_decide() {
        let mut records = sample::records();
        records.retain(|r| !matches!(r.body, Body::Speed(_)));
        let q4_0 = findings_of(&records).dominated.into_iter().find(|s| s.starts_with("q4_0 ")).unwrap();
        assert!(q4_0.contains("iq4_xs") && !q4_0.contains("tokens/s"), "{q4_0}");
    }

    /// The sample with lane `copy` made of lane `of`, its divergences changed by `change(token)`.
    fn with_copy(of: &str, change: impl Fn(usize) -> f64) -> Vec<Record> {
        let mut records = sample::records();
        let mut copy: Vec<Record> = records.iter().filter(|r| r.origin.lane == of).cloned().collect();
        for record in &mut copy {
            record.origin.lane = "copy".into();
            if let Body::Sequence(sequence) = &mut record.body {
                let kld = &mut sequence.against.as_mut().unwrap().kld;
                let shift = change(sequence.sequence as usize);
                kld.iter_mut().for_each(|k| *k += shift);
            }
        }
        records.extend(copy);
        records
    }

    #[track_caller]
    fn check_tie(change: impl Fn(usize) -> f64, expected: bool) {
        let ties = findings_of(&with_copy("q4_0", change)).ties;
        let found = ties.iter().any(|t| t == "copy and q4_0" || t == "q4_0 and copy");
        assert_eq!(found, expected, "{ties:?}");
    }

    #[test]
    fn lanes_are_tied_when_the_paired_interval_holds_zero() {
        check_tie(|_| 0.0, true);
        check_tie(|sequence| if sequence % 2 == 0 { 1e-4 } else { -1e-4 }, true);
        // Far less than the interval of either lane alone, but the same in every sequence.
        check_tie(|sequence| 2e-6 + 1e-9 * sequence as f64, false);
    }

    #[test]
    fn the_difference_is_signed_and_needs_the_same_sequences() {
        let gathered = gather(&with_copy("q4_0", |_| 0.5)).unwrap();
        let sums = |name: &str| divergence_sums(gathered.lanes.iter().find(|l| l.key.lane == name).unwrap());
        let (mut copy, own) = (sums("copy").unwrap(), sums("q4_0").unwrap());
        let difference = mean_difference(&copy, &own).unwrap();
        assert!((difference.value - 0.5).abs() < 1e-12, "{difference:?}");
        copy.values_mut().for_each(|c| c.count += 1);
        assert_eq!(mean_difference(&copy, &own), None);
        assert_eq!(sums("bf16"), None, "the reference was compared with nothing");
    }

    /// The findings of a run in which the lane's perplexity differs in each sequence from the reference's as `change(sequence)`
    /// says.
    fn with_nll(lane: &str, change: impl Fn(u32) -> f64) -> (Findings, usize) {
        let mut records = sample::records();
        let reference: std::collections::BTreeMap<u32, f64> = records
            .iter()
            .filter(|r| r.origin.lane == "bf16")
            .filter_map(|r| r.as_sequence().map(|s| (s.sequence, s.nll_sum)))
            .collect();
        for record in records.iter_mut().filter(|r| r.origin.lane == lane) {
            if let Body::Sequence(s) = &mut record.body {
                s.nll_sum = reference[&s.sequence] + change(s.sequence);
            }
        }
        let report = Report::new(&records).unwrap();
        let place = report.rows.iter().position(|r| r.lane == lane).unwrap();
        (report.findings, place)
    }

    #[test]
    fn verdicts_follow_the_paired_interval_of_the_perplexities() {
        let (findings, q6_k) = with_nll("q6_k", |s| if s % 2 == 0 { 0.1 } else { -0.1 });
        assert!(
            findings.verdicts[q6_k].starts_with("cannot be told apart from the reference by perplexity (+0.000 % (-0.02"),
            "{:?}",
            findings.verdicts[q6_k]
        );
        assert_eq!(
            findings.uses[q6_k],
            "The smallest that cannot be told apart from the original by perplexity: the one to begin with."
        );
        assert!(
            findings.answers[0].starts_with(
                "q6_k is the smallest that cannot be told apart from bf16 by perplexity: 1.70 \
             MB, 41.9 % of the size; perplexity +0.000 %"
            ),
            "{:?}",
            findings.answers
        );
        // Each sequence a little worse is worse, however small the change.
        let (findings, q6_k) = with_nll("q6_k", |s| 0.1 + 0.001 * f64::from(s));
        assert!(
            findings.verdicts[q6_k].starts_with(
                "worse than the reference: perplexity +0.102 % (+0.098 % to +0.106 %); worse \
             than q8_0, the next larger, by a KLD of 0.000347"
            ),
            "{:?}",
            findings.verdicts[q6_k]
        );
        assert!(
            findings.answers[0]
                .starts_with("Every smaller lane can be told apart from bf16 by perplexity; q8_0 is the nearest: 2.20 MB"),
            "{:?}",
            findings.answers
        );
        let (findings, q6_k) = with_nll("q6_k", |s| -0.1 - 0.001 * f64::from(s));
        assert!(
            findings.verdicts[q6_k].starts_with("changed, though not for the worse: perplexity -0.102 % ("),
            "{:?}",
            findings.verdicts[q6_k]
        );
    }

    #[test]
    fn a_lane_with_no_reference_has_no_verdict() {
        let mut records = sample::records();
        records.retain(|r| r.origin.lane != "bf16");
        records.iter_mut().for_each(|r| {
            if let Body::Sequence(s) = &mut r.body {
                s.against = None
            }
        });
        let findings = findings_of(&records);
        assert!(findings.verdicts.iter().all(String::is_empty) && findings.answers.is_empty(), "{findings:?}");
    }

    #[test]
    fn tasks_name_the_lanes_that_differ_and_say_when_none_does() {
        let mut records = sample::records();
        for record in &mut records {
            if let (Body::Item(item), "iq2_xxs") = (&mut record.body, record.origin.lane.as_str()) {
                item.correct &= item.task != "grammar" || item.item >= 10;
            }
        }
        let tasks = findings_of(&records).tasks;
        let grammar = tasks.iter().find(|s| s.starts_with("grammar")).unwrap();
        assert_eq!(grammar, "grammar (250 items), against the reference: iq2_xxs -4.0 points (p = 0.0020).");
        let tasks = findings_of(&sample::records()).tasks;
        assert!(tasks.contains(&"grammar (250 items): no lane can be told from the reference.".to_owned()), "{tasks:?}");
    }
}
