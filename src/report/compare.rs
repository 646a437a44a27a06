//! What the numbers allow to say, in sentences: which lanes another one beats in everything, which cannot be told apart, where
//! the tasks show a difference. Decided on paired differences, as every lane saw the same tokens and items.

use crate::eval::stats::{self, Cluster, Estimate};
use crate::report::export::{task, task_names};
use crate::report::gather::{Gathered, LaneRecords};
use crate::report::number::{bytes, significant};
use crate::report::pareto::beats;
use crate::report::sheet::labels;
use crate::report::summary::Summary;

/// The sentences, by subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Lanes that another lane beats in size, divergence and (where timed) speed.
    pub dominated: Vec<String>,
    /// Pairs of lanes whose divergences cannot be told apart.
    pub ties: Vec<String>,
    /// Where tasks show a difference from the reference, and where not.
    pub tasks: Vec<String>,
}

/// Draws the conclusions; `rows` are the summaries of the lanes in `gathered`.
pub fn findings(gathered: &Gathered, rows: &[Summary]) -> Findings {
    let labels = labels(rows);
    Findings { dominated: dominated(gathered, rows, &labels), ties: ties(gathered, &labels), tasks: tasks(rows, &labels) }
}

/// Mean difference of two lanes' KL divergences (first less second), on the sequences that both have. `None` where the lanes were not
/// measured against the same reference.
pub fn divergence_difference(first: &LaneRecords, second: &LaneRecords) -> Option<Estimate> {
    if !first.key.same_run(&second.key) {
        return None;
    }
    let mut clusters = Vec::new();
    for (number, own) in first.scored() {
        let Some(other) = second.scored().get(number).filter(|o| o.tokens == own.tokens) else {
            continue;
        };
        let (own_kld, other_kld) = (own.against.as_ref()?, other.against.as_ref()?);
        let sum = own_kld.kld.iter().zip(&other_kld.kld).map(|(a, b)| a - b).sum();
        clusters.push(Cluster { sum, count: u64::from(own.tokens) });
    }
    stats::mean(&clusters)
}

/// Whether the paired interval of the lanes' difference holds 0.
fn cannot_be_told_apart(first: &LaneRecords, second: &LaneRecords) -> bool {
    divergence_difference(first, second).and_then(|d| d.interval).is_some_and(|i| i.contains(0.0))
}

fn ties(gathered: &Gathered, labels: &[String]) -> Vec<String> {
    let lanes = &gathered.lanes;
    let pairs = (0..lanes.len()).flat_map(|i| (i + 1..lanes.len()).map(move |j| (i, j)));
    pairs
        .filter(|&(i, j)| cannot_be_told_apart(&lanes[i], &lanes[j]))
        .map(|(i, j)| format!("{} and {}", labels[i], labels[j]))
        .collect()
}

/// What a lane costs: size, divergence and, where `timed`, the time of a token.
fn costs(row: &Summary, timed: bool) -> Option<Vec<f64>> {
    let mut costs = vec![row.bytes as f64, row.kld?.mean.value];
    if timed {
        costs.push(1.0 / row.decode?.tps);
    }
    Some(costs)
}

fn dominated(gathered: &Gathered, rows: &[Summary], labels: &[String]) -> Vec<String> {
    let lanes = &gathered.lanes;
    let beaten_by = |a: usize| {
        let better = |b: &usize| {
            let timed = rows[a].decode.is_some() && rows[*b].decode.is_some();
            let costs = costs(&rows[*b], timed).zip(costs(&rows[a], timed));
            lanes[a].key.same_run(&lanes[*b].key) && costs.is_some_and(|(b, a)| beats(&b, &a))
        };
        // The best of those that beat it: the nearest to the reference, then the smallest.
        let rank = |b: &usize| (rows[*b].kld.map_or(f64::INFINITY, |k| k.mean.value), rows[*b].bytes);
        (0..rows.len()).filter(better).min_by(|x, y| rank(x).0.total_cmp(&rank(y).0).then(rank(x).1.cmp(&rank(y).1)))
    };
    let say = |a: usize| {
        let b = beaten_by(a)?;
        let apart = !cannot_be_told_apart(&lanes[b], &lanes[a]);
        Some(format!("{} is dominated by {}: {}.", labels[a], labels[b], better_in(&rows[b], &rows[a], apart)))
    };
    (0..rows.len()).filter(|i| !rows[*i].is_reference).filter_map(say).collect()
}

/// In what `better` beats `worse`.
fn better_in(better: &Summary, worse: &Summary, apart: bool) -> String {
    let size = if better.bytes < worse.bytes { "smaller" } else { "no larger" };
    let mut parts = vec![format!("it is {size} ({} against {})", bytes(better.bytes), bytes(worse.bytes))];
    if let (Some(b), Some(w)) = (better.kld, worse.kld) {
        let (b, w) = (significant(b.mean.value, 3), significant(w.mean.value, 3));
        let nearer = if apart { "nearer to the reference" } else { "as near to the reference as can be told" };
        parts.push(format!("{nearer} (KLD {b} against {w})"));
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

fn tasks(rows: &[Summary], labels: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    for name in task_names(rows) {
        let pairs = || rows.iter().zip(labels).filter_map(|(row, label)| Some((label, task(row, &name)?.against_reference?)));
        let differ: Vec<String> = pairs()
            .filter(|(_, pair)| pair.p_value < 0.05)
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
    use crate::eval::record::{Body, Record};
    use crate::report::gather::gather;
    use crate::report::{Report, sample};

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
    fn the_difference_is_signed_and_needs_the_same_run() {
        let mut gathered = gather(&with_copy("q4_0", |_| 0.5)).unwrap();
        let place = |g: &Gathered, name: &str| g.lanes.iter().position(|l| l.key.lane == name).unwrap();
        let (copy, own) = (place(&gathered, "copy"), place(&gathered, "q4_0"));
        let difference = divergence_difference(&gathered.lanes[copy], &gathered.lanes[own]).unwrap();
        assert!((difference.value - 0.5).abs() < 1e-12, "{difference:?}");
        gathered.lanes[copy].key.device = "another".into();
        assert_eq!(divergence_difference(&gathered.lanes[copy], &gathered.lanes[own]), None);
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
