//! What the tasks say: where lanes differ from their reference, and which tasks lose first.

use bitworth_eval::stats::LEVEL;

use super::Lanes;
use crate::number::significant;
use crate::summary::{Summary, task, task_names};
use crate::tasks::TaskComparison;

impl Lanes<'_> {
    /// The order in which tasks lose: each from the largest lane below which every lane does worse than the reference.
    pub(super) fn skills(&self) -> Vec<String> {
        let several = self.rows.iter().filter(|row| row.is_reference).count() > 1;
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
                let worse = |i: &&usize| pair(i).is_some_and(|c| is_apart(&c) && c.paired.difference.value < 0.0);
                match lanes.iter().rev().take_while(worse).last() {
                    None => holding.push(name),
                    Some(&first) => {
                        let points = |i: usize| pair(&i).map_or(0.0, |c| 100.0 * c.paired.difference.value);
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
                parts.push(format!("no loss can be seen in {}", holding.join(", ")));
            }
            // Of several runs each says whose it is.
            let begin = if several { format!("Against {}, of the tasks", self.labels[reference]) } else { "Of the tasks".into() };
            (!parts.is_empty()).then(|| format!("{begin} {}.", parts.join("; ")))
        };
        (0..self.rows.len()).filter(|i| self.rows[*i].is_reference).filter_map(say).collect()
    }
}

/// Whether two lanes can be told apart in a task, at the level of the report's intervals.
pub fn is_apart(comparison: &TaskComparison) -> bool {
    comparison.p_adjusted < LEVEL
}

/// A sentence a task.
pub fn tasks(rows: &[Summary], labels: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    for name in task_names(rows) {
        let pairs = || rows.iter().zip(labels).filter_map(|(row, label)| Some((label, task(row, &name)?.against_reference?)));
        let differ: Vec<String> = pairs()
            .filter(|(_, pair)| is_apart(pair))
            .map(|(label, pair)| {
                let points = 100.0 * pair.paired.difference.value;
                format!("{label} {points:+.1} points (p = {})", significant(pair.p_adjusted, 2))
            })
            .collect();
        let Some(items) = pairs().map(|(_, pair)| pair.paired.items).max() else {
            continue;
        };
        sentences.push(match differ.is_empty() {
            true => format!("{name} ({items} items): no lane can be told from the reference."),
            false => format!("{name} ({items} items), against the reference: {}.", differ.join(", ")),
        });
    }
    sentences
}
