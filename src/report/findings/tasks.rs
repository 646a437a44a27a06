//! What the tasks say: which of them lose first, which lose no more than the margin, and which their items leave undecided.
//! Sentences follow the verdicts: what no item has shown is called undecided, and not fine.

use std::collections::BTreeMap;

use bitworth_eval::stats::{LEVEL, Verdict};

use super::Lanes;
use crate::number::significant;
use crate::summary::{Summary, task, task_names};
use crate::task_words::{difference_number, difference_words, not_worse, would_decide};
use crate::tasks::{TaskComparison, TaskScore};

/// A lane in a task, beside its reference.
struct Told<'a> {
    lane: usize,
    score: &'a TaskScore,
    comparison: TaskComparison,
}

impl<'a> Told<'a> {
    /// The lane of row `lane` in the task `name`; `None` where it was not asked or has no reference.
    fn of(rows: &'a [Summary], lane: usize, name: &str) -> Option<Self> {
        let score = task(&rows[lane], name)?;
        Some(Self { lane, score, comparison: score.against_reference? })
    }

    fn is_worse(&self) -> bool {
        self.comparison.verdict == Verdict::Worse
    }

    fn is_undecided(&self) -> bool {
        matches!(self.comparison.verdict, Verdict::Undecided { .. })
    }

    fn difference(&self) -> String {
        difference_words(self.score, &self.comparison)
    }
}

/// The names of lanes, or `every` where they are all of several.
fn named(told: &[&Told<'_>], labels: &[String], all: usize, every: &str) -> String {
    if told.len() == all && all > 1 {
        return every.to_owned();
    }
    told.iter().map(|told| labels[told.lane].as_str()).collect::<Vec<_>>().join(", ")
}

/// How many items would decide for these lanes.
fn enough(told: &[&Told<'_>]) -> String {
    would_decide(told.iter().map(|told| told.comparison.verdict))
}

impl Lanes<'_> {
    /// Of each run which tasks lose, in the order in which they do: each from the largest lane below which every lane is worse
    /// than the reference. Then where lanes are not worse, and what is undecided.
    pub(super) fn skills(&self) -> Vec<String> {
        let references: Vec<usize> = (0..self.rows.len()).filter(|i| self.rows[*i].is_reference).collect();
        let say = |&reference: &usize| {
            let parts = self.skills_of(reference);
            // Of several runs each says whose it is.
            let begin = match references.len() {
                1 => "Of the tasks".to_owned(),
                _ => format!("Against {}, of the tasks", self.labels[reference]),
            };
            (!parts.is_empty()).then(|| format!("{begin} {}.", parts.join("; ")))
        };
        references.iter().filter_map(say).collect()
    }

    /// The parts of the sentence about the lanes that are smaller than this reference.
    fn skills_of(&self, reference: usize) -> Vec<String> {
        let lanes: Vec<usize> = (0..self.rows.len())
            .filter(|i| *i != reference && self.keys[*i].same_run(self.keys[reference]))
            .filter(|i| self.rows[*i].bytes < self.rows[reference].bytes)
            .collect();
        let names_of = |told: &[&Told<'_>]| named(told, &self.labels, lanes.len(), "every smaller lane");
        let (mut losing, mut recovering, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
        let mut holding: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in task_names(self.rows) {
            let asked: Vec<Told<'_>> = lanes.iter().filter_map(|&lane| Told::of(self.rows, lane, &name)).collect();
            let tail = asked.iter().rev().take_while(|told| told.is_worse()).count();
            let (above, below) = asked.split_at(asked.len() - tail);
            recovering.extend(
                above
                    .iter()
                    .filter(|told| told.is_worse())
                    .map(|told| format!("{name} with {} ({})", self.labels[told.lane], told.difference())),
            );
            let open: Vec<&Told<'_>> = above.iter().filter(|told| told.is_undecided()).collect();
            if !open.is_empty() {
                undecided.push(format!("{name} with {} ({})", names_of(&open), enough(&open)));
            }
            if let [first, ..] = below {
                let last = &below[below.len() - 1];
                losing.push((first.lane, last.comparison.paired.difference.value, self.loss(&name, first, last)));
            } else if open.is_empty() && !asked.is_empty() && !asked.iter().any(Told::is_worse) {
                holding.entry(names_of(&asked.iter().collect::<Vec<_>>())).or_default().push(name);
            }
        }
        losing.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut parts: Vec<String> = Vec::new();
        for (_, _, (name, from)) in losing {
            let verb = if parts.is_empty() { " pays first," } else { "" };
            parts.push(format!("{name}{verb} {from}"));
        }
        if !recovering.is_empty() {
            parts.push(format!("worse, though not with every smaller lane: {}", recovering.join(", ")));
        }
        if !holding.is_empty() {
            let held = holding.iter().map(|(lanes, names)| format!("{} with {lanes}", names.join(", ")));
            parts.push(format!("{}: {}", not_worse(self.margin), held.collect::<Vec<_>>().join(", ")));
        }
        if !undecided.is_empty() {
            parts.push(format!("undecided: {}", undecided.join(", ")));
        }
        parts
    }

    /// A task, and from where on it loses what.
    fn loss(&self, name: &str, first: &Told<'_>, last: &Told<'_>) -> (String, String) {
        let further = match first.lane == last.lane {
            true => String::new(),
            false => format!(", {} with {}", difference_number(last.score, &last.comparison), self.labels[last.lane]),
        };
        (name.to_owned(), format!("from {} down ({}{further})", self.labels[first.lane], first.difference()))
    }
}

/// Whether two lanes can be told apart in a task, at the level of the report's intervals.
fn is_apart(comparison: &TaskComparison) -> bool {
    comparison.p_adjusted < LEVEL
}

/// A sentence a task.
pub fn tasks(rows: &[Summary], labels: &[String], margin: f64) -> Vec<String> {
    let say = |name: String| {
        let told: Vec<Told<'_>> = (0..rows.len()).filter_map(|lane| Told::of(rows, lane, &name)).collect();
        let items = told.iter().map(|told| told.comparison.paired.items).max()?;
        let names_of = |some: &[&Told<'_>]| named(some, labels, told.len(), "every lane");
        let differ = told.iter().filter(|told| is_apart(&told.comparison)).map(|told| {
            let p = significant(told.comparison.p_adjusted, 2);
            format!("{} {} (p = {p})", labels[told.lane], told.difference())
        });
        let differ: Vec<String> = differ.collect();
        let holding: Vec<&Told<'_>> = told.iter().filter(|told| told.comparison.verdict == Verdict::NotWorse).collect();
        let open: Vec<&Told<'_>> = told.iter().filter(|told| told.is_undecided()).collect();
        let parts = [
            (!differ.is_empty()).then(|| differ.join(", ")),
            (!holding.is_empty()).then(|| format!("{}: {}", not_worse(margin), names_of(&holding))),
            (!open.is_empty()).then(|| format!("undecided: {} ({})", names_of(&open), enough(&open))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        Some(format!("{name} ({items} items), against the reference: {}.", parts.join("; ")))
    };
    task_names(rows).into_iter().filter_map(say).collect()
}
